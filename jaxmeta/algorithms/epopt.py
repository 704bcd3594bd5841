"""EPOpt: one policy, made robust over an ensemble of simulators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta import parallel
from jaxmeta.contracts import AdaptsToTarget, Algorithm, check_acts
from jaxmeta.experience.play import Trial, play_trial
from jaxmeta.experience.transitions import Transitions
from jaxmeta.networks import (
    MLP,
    Actions,
    ActorCritic,
    check_actions,
    feedforward_actor_critic,
)
from jaxmeta.ops.moments import Moments
from jaxmeta.parts.baseline import Actor, Baseline, as_baseline
from jaxmeta.parts.episodes import episode_advantages, last_played
from jaxmeta.parts.linear_baseline import LinearBaseline
from jaxmeta.parts.on_policy import (
    act_and_store,
    flat,
    learn,
    risk_worth,
    sampling_policy,
    update_bytes,
)
from jaxmeta.parts.optimizers.contract import PolicyOptimizer, check_num_tasks
from jaxmeta.parts.optimizers.trpo import TRPO
from jaxmeta.parts.risk import CVaR, Risk
from jaxmeta.parts.schedules import (
    Schedule,
    check_not_negative,
    check_positive,
    check_share,
    value_at,
)
from jaxmeta.parts.sources import NOMINAL, check_source
from jaxmeta.sim_to_real.adaptation import adapt_source
from jaxmeta.sim_to_real.settings import SourceAdaptation
from jaxmeta_envs.core.contracts import AdaptivePolicy, Family, TaskFamily
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields
from jaxmeta_envs.core.physical import PhysicalFamily
from jaxmeta_envs.random.distributions import TruncatedNormal, Uniform, as_truncated_normal


class EPOptState(NamedTuple):
    """What the next update needs.

    Attributes:
        params: Parameters of the policy and, if there is one, the value network.
        opt_state: The policy optimiser's state.
        value_moments: Running moments of the value network's targets, scalars.
        baseline: What the baseline learned apart from ``params``: weights of the linear one;
            empty with a value network.
        source: Distribution of the simulators trained on; empty if the family does not
            show one.
    """

    params: Any
    opt_state: Any
    value_moments: Moments
    baseline: Any
    source: Any


@dataclass(frozen=True)
class EPOpt(Algorithm[TaskFamily, EPOptState], AdaptsToTarget):
    """Robust policy optimisation over an ensemble of simulators.

    An update draws ``num_tasks`` simulators from the source distribution, plays each for
    ``episodes_per_task`` episodes, ranks simulators by their undiscounted return, and
    improves the policy on those at or below the ε-percentile::

        maximise  E_p [ R(p) | R(p) ≤ Q_ε(R) ],    R(p) = E_π [ Σ_t r_t | simulator p ]

    that is, CVaR at level ε over simulators. The ranks are of what was played, as in the paper:
    as far as luck decides them, and not the simulator, the measure tends to the mean.
    ``risk_over="trajectories"`` has no such premise: it raises the CVaR of what was played, luck
    included, at the price of noisier gradients. With ``risk=Mean()`` it is domain
    randomisation, and with ``source="nominal"`` training on a single simulator. The policy
    sees the observation only and does not adapt.

    Attributes:
        num_tasks: Simulators per update, N, over all devices.
        episodes_per_task: Trajectories of each. With more than one, simulators are ranked
            by the sum: by how bad they are rather than by bad luck.
        source: What simulators are drawn from: a split of the family, or ``nominal``, its
            standard parameters alone.
        risk: ε of the percentile: by default 1 for the first 100 updates, then 0.1.
        risk_over: ``simulators`` averages policy gradients of those at or below the percentile.
            ``trajectories`` learns from all: every episode is paid, at its end and in place of
            its rewards, the `jaxmeta.parts.risk.Risk.influence` of its simulator's return;
            ``discount`` then has no say. See `jaxmeta.parts.risk`.
        network: Layers of the policy.
        baseline: The value estimate, learned from all trajectories: linear in features, or
            a network with these layers.
        optimizer: How the policy is improved on the trajectories that are kept.
        learning_rate: Step size of Adam, constant or a schedule over updates; TRPO with the
            linear baseline has no use for it.
        entropy_coef: Weight of the entropy bonus, constant or a schedule over updates.
        discount: γ, per step, constant or a schedule over updates.
        gae_lambda: λ of generalized advantage estimation; 1 is the return minus the
            baseline.
        value_decay: Forgetting rate per update of the moments that normalise a value
            network's targets.
        actions: How continuous actions are distributed, see `RL2.actions`.
        normalize_observations: Whether observations that are not one-hot are seen, by policy,
            value network and linear baseline, with mean 0 and deviation 1, by running moments.
        round_updates: Updates between two meetings with the run's target, if it has one.
        target_episodes: Episodes played there each time.
        adaptation: How they update the source distribution.

    Reference: Rajeswaran et al. 2017, arXiv 1610.01283.
    Differs from the paper: ties at the percentile share what is left of ε N instead of all
    being kept; advantages are normalised over the kept trajectories together.
    """

    num_tasks: int = 240
    episodes_per_task: int = 1
    source: str = "train"
    risk: Risk = field(default_factory=lambda: CVaR(Schedule(1.0, 0.1, 100, "step")))
    risk_over: Literal["simulators", "trajectories"] = "simulators"
    network: MLP = field(default_factory=lambda: MLP((64, 64), "tanh"))
    baseline: Baseline | MLP = field(default_factory=LinearBaseline)
    optimizer: PolicyOptimizer = field(default_factory=TRPO)
    learning_rate: float | Schedule = 1e-3
    entropy_coef: float | Schedule = 0.0
    discount: float | Schedule = 0.995
    gae_lambda: float = 1.0
    value_decay: float = 0.9
    actions: Actions = "squashed"
    normalize_observations: bool = True
    round_updates: int = 50
    target_episodes: int = 3
    adaptation: SourceAdaptation = field(default_factory=SourceAdaptation)

    def __post_init__(self) -> None:
        check_fields(self)
        episodes = self.episodes_per_task
        require(episodes >= 1, "episodes_per_task", episodes, "at least 1")
        check_num_tasks(self.num_tasks, self.task_multiple)
        for name in ("round_updates", "target_episodes"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        self.risk.check(self.num_tasks)
        check_actions(self.actions)
        over = ("simulators", "trajectories")
        require(self.risk_over in over, "risk_over", self.risk_over, " or ".join(over))
        check_positive(self.learning_rate, "learning_rate")
        check_not_negative(self.entropy_coef, "entropy_coef")
        for name in ("discount", "gae_lambda", "value_decay"):
            check_share(getattr(self, name), name)

    @property
    def bootstraps(self) -> bool:
        """Whether a time limit is told from a termination: as its baseline does."""
        return self._baseline.bootstraps

    @property
    def task_multiple(self) -> int:
        return self._optimizer.task_multiple

    def check(self, family: Family) -> None:
        check_source(self.source, check_acts(self, family))

    def check_target(self, family: TaskFamily) -> None:
        text = "a split where a target is given: one simulator leaves nothing to infer"
        require(self.source != NOMINAL, "source", self.source, text)
        if isinstance(family, PhysicalFamily):
            self.adaptation.check(family)

    def trial_episodes(self, family: TaskFamily) -> int:
        del family
        return 1

    def env_steps_per_update(self, family: TaskFamily) -> int:
        return self.num_tasks * self.episodes_per_task * family.horizon

    def init(self, family: TaskFamily, key: Array) -> EPOptState:
        params = self._network(family).init(key)
        return EPOptState(
            params,
            self._optimizer.init(params),
            Moments.empty(),
            self._baseline.init(family.observation_space.flat_size),
            self.first_source(family),
        )

    def first_source(self, family: TaskFamily) -> TruncatedNormal[Any] | tuple[()]:
        """Returns what simulators are first drawn from, if the family shows it.

        Always a truncated normal, as that is what adaptation puts in its place.
        """
        if not isinstance(family, PhysicalFamily):
            return ()
        if self.source == NOMINAL:
            task = family.nominal_task()
            return as_truncated_normal(Uniform(task, task))
        return as_truncated_normal(family.distribution(self.source))

    def meet(
        self, family: Any, state: EPOptState, transitions: Transitions, key: Array
    ) -> tuple[EPOptState, dict[str, Array]]:
        """Adapts the source distribution, see `jaxmeta.adapt_source`."""
        posterior = adapt_source(family, state.source, transitions, key, adaptation=self.adaptation)
        told = {"ess": posterior.ess, "log_evidence": posterior.log_evidence}
        told |= {"temperature": posterior.temperature, "acceptance": posterior.acceptance}
        for name in ("mean", "std", "low", "high"):
            values = getattr(posterior, name)._asdict()
            told |= {f"posterior_{name}/{parameter}": x for parameter, x in values.items()}
        return state._replace(source=posterior.source), told

    def policy(self, family: TaskFamily) -> AdaptivePolicy:
        return sampling_policy(self._network(family))

    def update(
        self, family: TaskFamily, state: EPOptState, key: Array, step: Array
    ) -> tuple[EPOptState, dict[str, Array]]:
        task_key, play_key, step_key = jax.random.split(key, 3)
        network = self._network(family)
        task_keys = parallel.task_keys(task_key, self.num_tasks)
        tasks = jax.vmap(lambda key: self._sample_task(family, state, key))(task_keys)
        trials = jax.vmap(lambda task, key: self._play(family, network, state, task, key))(
            tasks, parallel.task_keys(play_key, self.num_tasks)
        )
        steps, discount = trials.trajectory, value_at(self.discount, step)
        over_simulators = self.risk_over == "simulators"
        if not over_simulators:
            worth = risk_worth(self.risk, steps, step)
            paid = worth[:, None, None] * jax.vmap(last_played)(steps.mask)
            steps, discount = steps._replace(reward=paid), jnp.float32(1.0)
        paid_trials = trials._replace(trajectory=steps)
        advantage, value = jax.vmap(
            lambda trial: self._advantages(family, network, state, trial, discount)
        )(paid_trials)

        params, opt_state, moments, metrics = learn(
            self,
            family,
            self._optimizer,
            network,
            state,
            step,
            trials,
            advantage,
            value,
            step_key,
            weighted=over_simulators,
            baseline=self._baseline,
        )
        metrics |= _describe(state.source)
        simulators = parallel.own_tasks(jnp.arange(self.num_tasks, dtype=jnp.int32))
        learned = self._baseline.refit(family, params, state.baseline, steps, simulators, discount)
        return EPOptState(params, opt_state, moments, learned, state.source), metrics

    def memory_bytes(self, family: TaskFamily, num_tasks: int) -> int:
        """Bytes of one update: state, stored trajectories, and activations of one minibatch."""
        # Back-propagation keeps the input and the output of every activation.
        units = 2 * (sum(self.network.sizes) + self._baseline.units)
        activations = 4 * units * self.episodes_per_task * family.horizon
        network = self._network(family)

        def play(spanned: EPOpt, key: Array, state: EPOptState) -> Any:
            task = spanned._sample_task(family, state, key)
            return spanned._play(family, network, state, task, key)

        return update_bytes(
            self,
            family,
            play,
            activations * self._optimizer.activation_share,
            num_tasks,
        )

    @property
    def _baseline(self) -> Baseline:
        return as_baseline(self.baseline)

    @property
    def _optimizer(self) -> PolicyOptimizer:
        return self._baseline.told(self.optimizer)

    def _network(self, family: TaskFamily) -> ActorCritic:
        return feedforward_actor_critic(
            family,
            self.network,
            self._baseline.layers,
            actions=self.actions,
            normalize_observations=self.normalize_observations,
        )

    def _sample_task(self, family: TaskFamily, state: EPOptState, key: Array) -> Any:
        if isinstance(family, PhysicalFamily):
            return state.source.sample(key)
        return family.sample_task(key, self.source)

    def _play(
        self, family: TaskFamily, network: ActorCritic, state: EPOptState, task: Any, key: Array
    ) -> Trial:
        act, begun = act_and_store(network), network.begin(state.params)
        return play_trial(family, act, state.params, begun, task, key, self.episodes_per_task)

    def _advantages(
        self,
        family: TaskFamily,
        network: ActorCritic,
        state: EPOptState,
        trial: Trial,
        discount: Array,
    ) -> tuple[Array, Array]:
        """Returns advantages and values of what a simulator was paid, ``[E T]``."""
        steps = trial.trajectory
        actor = Actor(family, network, state.params, state.value_moments)
        values, beyond = self._baseline.estimate(actor, state.baseline, steps, trial.extras.value)
        if self.risk_over == "trajectories":
            beyond = jnp.zeros_like(beyond)  # nothing is paid after the end
        advantage = episode_advantages(steps, values, beyond, discount, self.gae_lambda)
        return flat(advantage), flat(values)


def _describe(source: Any) -> dict[str, Array]:
    """Returns the centre and the spread of each physical parameter of a source."""
    if not source:
        return {}
    mean, std = (place._asdict() for place in source.location())
    return {f"source_mean/{name}": value for name, value in mean.items()} | {
        f"source_std/{name}": value for name, value in std.items()
    }
