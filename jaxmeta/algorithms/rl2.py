"""RL²: a recurrent policy whose memory, kept across episodes, is the learner."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta import parallel
from jaxmeta.contracts import Algorithm, check_acts
from jaxmeta.experience.play import Trial, play_trial
from jaxmeta.networks import (
    GRU,
    Actions,
    ActorCritic,
    Encoder,
    Memory,
    check_actions,
    input_size,
    recurrent_actor_critic,
)
from jaxmeta.ops.moments import Moments
from jaxmeta.ops.returns import generalized_advantages
from jaxmeta.parts.on_policy import (
    act_and_store,
    flat,
    learn,
    risk_worth,
    sampling_policy,
    update_bytes,
)
from jaxmeta.parts.optimizers.contract import PolicyOptimizer, check_num_tasks
from jaxmeta.parts.optimizers.ppo import PPO
from jaxmeta.parts.risk import Mean, Risk
from jaxmeta.parts.schedules import (
    Schedule,
    check_not_negative,
    check_positive,
    check_share,
    value_at,
)
from jaxmeta_envs.core.contracts import AdaptivePolicy, Family, TaskFamily
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields


class RL2State(NamedTuple):
    """What the next update needs.

    Attributes:
        params: Parameters of the actor and critic.
        opt_state: The policy optimiser's state.
        value_moments: Running moments of the value targets of each step of a trial,
            ``[E T]``.
    """

    params: Any
    opt_state: Any
    value_moments: Moments


@dataclass(frozen=True)
class RL2(Algorithm[TaskFamily, RL2State]):
    """Fast reinforcement learning as the dynamics of a recurrent policy.

    A trial is ``episodes_per_trial`` episodes of one task. The policy sees the observation,
    its previous action and reward and where episodes begin; its memory survives episode
    ends and is emptied only at trial start. Training maximises the discounted reward of
    the whole trial, so exploring in one episode is paid for by the next::

        maximise  E_task E_π [ Σ_{t < trial length} γ^t r_t ]

    An episode's end inside a trial does not end the return. At the trial's end a
    terminated episode has value 0 beyond it; a truncated one is bootstrapped.

    Attributes:
        episodes_per_trial: Episodes of one trial; None takes the family's own.
        num_tasks: Trials per update, each of a task of its own, over all devices.
        memory: The recurrent memory.
        encoder: Layers in front of the memory, for larger observations; None hands the
            observation to the memory as it is.
        value_network: ``shared`` reads the value from the policy's memory, ``separate``
            trains a second encoder and memory for it (as in the paper; TRPO needs it).
        optimizer: How the policy is improved on a batch of trials.
        risk: What is maximised of the returns of trials, over tasks and luck: the mean, or with
            ``CVaR(ε)`` the mean of the lowest ε of them. Other than the mean it is of undiscounted
            returns: a trial is then paid its `jaxmeta.parts.risk.Risk.influence` at its end, and
            ``discount`` has no say.
        learning_rate: Step size of Adam, constant or a schedule over updates.
        entropy_coef: Weight of the entropy bonus, constant or a schedule over updates.
        discount: γ, per step of the trial, constant or a schedule over updates. Rising from
            0, it first teaches what pays at once, then what pays later.
        gae_lambda: λ of generalized advantage estimation. Near 1 an action is told what it led to
            many steps later, before the value has learned to foresee it; where most rewards are
            others' doing (bandits), a lower one has less noise.
        value_lambda: λ of the returns that the value is fitted to; None takes ``gae_lambda``.
            Near 1 the value learns of what pays much later, while a small ``gae_lambda``
            keeps the noise of all that is paid in between out of the advantages.
        value_decay: Forgetting rate per update of the moments that normalise the value
            targets. Every step of the trial has its own, so that the value network need not
            count how much of the trial is left.
        observe_reward: Whether the policy sees its previous reward. False is an ablation:
            such an agent cannot learn which arm pays.
        bptt_steps: Truncated back-propagation: a trial is cut into segments of this many
            steps, across which memory passes but no gradient; None differentiates whole
            trials.
        checkpoint: Whether back-propagation computes the inside of the memory again
            instead of storing it: a fraction of the memory for long trials, in more time.
        actions: How continuous actions are distributed, in half ranges from the centre of their
            bounds: ``squashed`` normals never leave them, ``clipped`` ones are cut there by the
            environment, as in the papers.
        normalize_observations: Whether observations that are not one-hot are seen with mean 0
            and deviation 1, by running moments of all that was played in training.
        normalize_rewards: Likewise the previous reward. What is maximised is not normalised.
        memory_reset: ``trial`` keeps the memory across episodes. ``episode`` is an
            ablation: such an agent cannot adapt from one episode to the next.

    Reference: Duan et al. 2016, arXiv 1611.02779; Wang et al. 2016, arXiv 1611.05763.
    Differs from the paper: PPO without its line search on the KL divergence; tanh GRU
    without weight normalisation; smaller memories and batches by default.
    """

    episodes_per_trial: int | None = None
    num_tasks: int = 128
    memory: Memory = field(default_factory=lambda: GRU(64))
    encoder: Encoder | None = None
    value_network: Literal["shared", "separate"] = "shared"
    optimizer: PolicyOptimizer = field(default_factory=lambda: PPO(minibatches=8))
    risk: Risk = field(default_factory=Mean)
    learning_rate: float | Schedule = 1e-3
    entropy_coef: float | Schedule = 0.01
    discount: float | Schedule = 0.99
    gae_lambda: float = 0.95
    value_lambda: float | None = None
    value_decay: float = 0.9
    observe_reward: bool = True
    bptt_steps: int | None = None
    checkpoint: bool = False
    actions: Actions = "squashed"
    normalize_observations: bool = True
    normalize_rewards: bool = True
    memory_reset: Literal["trial", "episode"] = "trial"

    def __post_init__(self) -> None:
        check_fields(self)
        episodes = self.episodes_per_trial
        require(
            episodes is None or episodes >= 1, "episodes_per_trial", episodes, "at least 1 or None"
        )
        check_num_tasks(self.num_tasks, self.task_multiple)
        steps = self.bptt_steps
        require(steps is None or steps >= 1, "bptt_steps", steps, "at least 1 or None")
        kinds = ("separate",) if self.optimizer.needs_separate_value else ("shared", "separate")
        optimizer = type(self.optimizer).__name__
        require(
            self.value_network in kinds,
            "value_network",
            self.value_network,
            f"{' or '.join(kinds)} with {optimizer}",
        )
        require(
            self.memory_reset == "trial" or steps is None,
            "bptt_steps",
            steps,
            "None where memory_reset is episode",
        )
        resets = ("trial", "episode")
        require(self.memory_reset in resets, "memory_reset", self.memory_reset, "trial or episode")
        self.risk.check(self.num_tasks)
        check_actions(self.actions)
        check_positive(self.learning_rate, "learning_rate")
        check_not_negative(self.entropy_coef, "entropy_coef")
        for name in ("discount", "gae_lambda", "value_decay"):
            check_share(getattr(self, name), name)
        if self.value_lambda is not None:
            check_share(self.value_lambda, "value_lambda")

    @property
    def task_multiple(self) -> int:
        return self.optimizer.task_multiple

    def check(self, family: Family) -> None:
        check_acts(self, family)

    def trial_episodes(self, family: TaskFamily) -> int:
        return self.episodes_per_trial or family.default_episodes

    def env_steps_per_update(self, family: TaskFamily) -> int:
        return self.num_tasks * self._trial_steps(family)

    def init(self, family: TaskFamily, key: Array) -> RL2State:
        params = self._network(family).init(key)
        return RL2State(
            params,
            self.optimizer.init(params),
            Moments.empty((self._trial_steps(family),)),
        )

    def policy(self, family: TaskFamily) -> AdaptivePolicy:
        return sampling_policy(self._network(family))

    def update(
        self, family: TaskFamily, state: RL2State, key: Array, step: Array
    ) -> tuple[RL2State, dict[str, Array]]:
        task_key, play_key, step_key = jax.random.split(key, 3)
        network = self._network(family)
        tasks = jax.vmap(family.sample_task)(parallel.task_keys(task_key, self.num_tasks))
        play_keys = parallel.task_keys(play_key, self.num_tasks)
        trials, beyond = jax.vmap(lambda task, key: self._play(family, network, state, task, key))(
            tasks, play_keys
        )
        worth = None
        if not isinstance(self.risk, Mean):
            worth = risk_worth(self.risk, trials.trajectory, step)
        advantage, value, target = jax.vmap(
            lambda trial, beyond, worth: self._advantages(state, trial, beyond, worth, step)
        )(trials, beyond, worth)

        params, opt_state, moments, metrics = learn(
            self,
            family,
            self.optimizer,
            network,
            state,
            step,
            trials,
            advantage,
            value,
            step_key,
            weighted=False,
            target=target,
        )
        return RL2State(params, opt_state, moments), metrics

    def memory_bytes(self, family: TaskFamily, num_tasks: int) -> int:
        """Bytes of one update: state, stored trials, and activations of one minibatch."""
        memories = 1 if self.value_network == "shared" else 2
        size = self.encoder.output_size if self.encoder else input_size(family)
        of_one = self.memory.activation_bytes(self._trial_steps(family), size, self.checkpoint)
        activations = memories * of_one
        network = self._network(family)

        def play(spanned: RL2, key: Array, state: RL2State) -> Any:
            return spanned._play(family, network, state, family.sample_task(key), key)

        return update_bytes(
            self,
            family,
            play,
            activations * self.optimizer.activation_share,
            num_tasks,
        )

    def _trial_steps(self, family: TaskFamily) -> int:
        return self.trial_episodes(family) * family.horizon

    def _network(self, family: TaskFamily) -> ActorCritic:
        return recurrent_actor_critic(
            family,
            self.memory,
            self.encoder,
            self.value_network,
            self.observe_reward,
            self.memory_reset,
            self.bptt_steps,
            self.checkpoint,
            self.actions,
            self.normalize_observations,
            self.normalize_rewards and self.observe_reward,
        )

    def _play(
        self, family: TaskFamily, network: ActorCritic, state: RL2State, task: Any, key: Array
    ) -> tuple[Trial, Array]:
        """Plays a trial; adds what the value output says of what would come after it."""
        act, begun = act_and_store(network), network.begin(state.params)
        episodes = self.trial_episodes(family)
        trial = play_trial(family, act, state.params, begun, task, key, episodes)
        return trial, network.step(state.params, trial.carry, trial.final)[1].value

    def _advantages(
        self, state: RL2State, trial: Trial, beyond: Array, worth: Array | None, step: Array
    ) -> tuple[Array, Array, Array]:
        """Returns advantages, values and the values' targets, ``[E T]``.

        Args:
            state: The state that played.
            trial: The trial.
            beyond: What the value output says of what would come after it, a scalar.
            worth: What it is paid at its end in place of its rewards; None for these.
            step: Updates done.
        """
        moments = state.value_moments.nearest_seen()
        steps = jax.tree.map(flat, trial.trajectory)
        values = moments.denormalize(flat(trial.extras.value))
        last = _at_last(steps.mask)
        if worth is None:
            reward, discount = steps.reward, value_at(self.discount, step)
            # Only the end of the trial ends the return, see the class docstring; beyond the last
            # step it is as in the last step.
            discount = discount * (1.0 - steps.terminated * last)
            bootstrap = moments.denormalize(jnp.full_like(values, beyond))
        else:
            reward, discount, bootstrap = worth * last, 1.0 - last, jnp.zeros_like(values)
        advantages = functools.partial(
            generalized_advantages, reward, values, discount, last, bootstrap, steps.mask
        )
        advantage = residual = advantages(lambda_=self.gae_lambda)
        if self.value_lambda is not None:
            residual = advantages(lambda_=self.value_lambda)
        return advantage, values, residual + values


def _at_last(played: Array) -> Array:
    """Returns which step of a trial is the last that was played, ``[L]`` bool."""
    steps = jnp.arange(len(played))
    return steps == jnp.max(jnp.where(played, steps, -1))
