"""Guided meta-policy search: adapt by reinforcement, learn where to begin from experts.

Axes: B tasks of this device, K inner steps, N episodes per step, T steps of an episode, L steps
of a task that an expert labelled.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta import parallel
from jaxmeta.contracts import Algorithm, check_acts
from jaxmeta.networks import MLP, Actions, ActorCritic, check_actions, feedforward_actor_critic
from jaxmeta.ops.distributions import Categorical, Distribution, MultiCategorical, Normal
from jaxmeta.ops.moments import Moments
from jaxmeta.ops.surrogates import masked_mean
from jaxmeta.parts.baseline import Baseline
from jaxmeta.parts.estimators import LVC, MetaGradientEstimator
from jaxmeta.parts.experts import (
    Expert,
    OracleExpert,
    Shown,
    demonstrate,
    relabel,
)
from jaxmeta.parts.inner_loop import SGD, InnerLoop, MetaParams
from jaxmeta.parts.linear_baseline import LinearBaseline
from jaxmeta.parts.objective import PolicyObjective
from jaxmeta.parts.on_policy import flat, update_bytes
from jaxmeta.parts.optimizers.contract import MinibatchAdam, Terms, check_num_tasks, each_step
from jaxmeta.parts.policy_adaptation import (
    InnerData,
    PolicyAdaptation,
    PolicyMetaParams,
    blind_at_first,
    step_returns,
    with_seen,
)
from jaxmeta.parts.risk import Mean, Risk, return_statistics
from jaxmeta.parts.schedules import Schedule, check_positive, check_share, value_at
from jaxmeta_envs.core.contracts import AdaptivePolicy, Family, PolicyInput, TaskFamily, Trajectory
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields
from jaxmeta_envs.core.spaces import ArraySpace, Box


class GuidedState(NamedTuple):
    """What the next update needs.

    Attributes:
        params: What the policy reads.
        opt_state: State of Adam.
        experts: What the experts learned before; empty for oracles.
    """

    params: PolicyMetaParams
    opt_state: Any
    experts: Any


class Guided(NamedTuple):
    """What the outer loop imitates, leaves ``[B, L, ...]``.

    Attributes:
        inner: What the policy adapts to, leaves ``[B, K, N, T, ...]``.
        inputs: What is to be acted on.
        action: What the expert does there.
        mask: Whether the step was played.
        weight: Of the task, ``[B]``, such that the mean over all played steps is 1.
    """

    inner: InnerData
    inputs: PolicyInput
    action: Array
    mask: Array
    weight: Array


@dataclass(frozen=True)
class GuidedMetaPolicySearch(Algorithm[TaskFamily, GuidedState]):
    """Learns from experts a policy from which reinforcement alone solves a new task.

    An update plays ``shots`` episodes of every task, takes a policy-gradient step on them (K
    times), as at meta-test; then Adam takes several steps on the initial parameters θ, so that
    the adapted policy does what an expert of the task does::

        θ'_i = θ + α ∇ E[w A_i log π_θ]      (K times, w = π_θ / π_played)
        minimise  -Σ_i E[log π_θ'_i(a* | s)]  over an expert's a*

    Supervision makes the outer loop stable and needs no episodes after adaptation; the rewards
    of the task are what adapts, so no expert is needed at meta-test. Episodes are played once
    and adapted to in every step of Adam, while θ moves: the importance weights w keep that
    honest.

    Attributes:
        num_tasks: Tasks per update, over all devices.
        shots: Episodes of a task that a gradient step sees, N.
        network: Layers of the policy.
        actions: How continuous actions are distributed, see `RL2.actions`. Experts like to act at
            the bounds, where ``squashed`` actions have no density to imitate.
        inner: How it adapts.
        estimator: How the episodes of an inner step are weighted: `LVC` by the ratio of each
            action, `DiCE` by that of all actions so far, `LogLikelihood` not at all;
            `FirstOrder` does not differentiate the step.
        objective: What policies are to have besides reward in the inner loop.
        baseline: The value estimate, fitted to the episodes of each task and step.
        expert: Who is imitated.
        demonstrations: Episodes of a task that its expert plays.
        dagger: Whether the expert also says what it would have done in the episodes of the
            adapted policy, where its own episodes may never come.
        expert_std: Standard deviation of the noise that the expert's continuous actions count
            as having, in units of half the range of the action space: the imitator is to keep
            at least that much of its own, to explore with.
        optimizer: Steps of Adam on a batch.
        learning_rate: Step size of Adam, constant or a schedule over updates.
        discount: γ, per step, in the inner loop.
        gae_lambda: λ of generalized advantage estimation.
        risk: Which tasks count in the outer loop, by their return after adaptation.
        normalize_observations: Whether observations that are not one-hot are seen, by policy and
            linear baseline, with mean 0 and deviation 1, by running moments of the episodes before
            and after adaptation and of the experts'; nothing adapts or learns these.

    Reference: Mendonca et al. 2019, arXiv 1904.00956.
    Differs from the paper: no bias transformation; experts are oracles or PPO; relabelling is
    of this update's episodes and keeps no dataset.
    """

    num_tasks: int = 20
    shots: int = 20
    network: MLP = field(default_factory=lambda: MLP((64, 64), "tanh"))
    actions: Actions = "clipped"
    inner: InnerLoop = field(default_factory=lambda: InnerLoop(optimizer=SGD(0.1)))
    estimator: MetaGradientEstimator = field(default_factory=LVC)
    objective: PolicyObjective = field(default_factory=PolicyObjective)
    baseline: Baseline = field(default_factory=LinearBaseline)
    expert: Expert = field(default_factory=OracleExpert)
    demonstrations: int = 5
    dagger: bool = False
    expert_std: float = 0.1
    optimizer: MinibatchAdam = field(default_factory=lambda: MinibatchAdam(5, 1, 1.0))
    learning_rate: float | Schedule = 1e-3
    discount: float = 0.99
    gae_lambda: float = 1.0
    risk: Risk = field(default_factory=Mean)
    normalize_observations: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("shots", "demonstrations"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.inner.steps >= 1, "inner.steps", self.inner.steps, "at least 1")
        parts = self.inner.minibatches
        text = "None: a policy plays new episodes for every step"
        require(parts is None, "inner.minibatches", parts, text)
        check_num_tasks(self.num_tasks, self.task_multiple)
        text = "one without credit for sampling: an expert's actions are no return"
        require(not self.estimator.credits_sampling, "estimator", self.estimator, text)
        rewarded = self.objective.outer_anchor_coef > 0 or self.objective.episodes != "adapted"
        text = 'one of the inner loop alone: outer_anchor_coef=0, episodes="adapted"'
        require(not rewarded, "objective", self.objective, text)
        text = "one that is fitted by itself: nothing here trains a value network"
        require(self.baseline.layers is None, "baseline", self.baseline, text)
        check_actions(self.actions)
        require(self.expert_std >= 0, "expert_std", self.expert_std, "at least 0")
        check_positive(self.learning_rate, "learning_rate")
        for name in ("discount", "gae_lambda"):
            check_share(getattr(self, name), name)
        self.risk.check(self.num_tasks)

    @property
    def bootstraps(self) -> bool:
        """Whether a time limit is told from a termination: as its baseline does."""
        return self.baseline.bootstraps

    @property
    def task_multiple(self) -> int:
        return self.optimizer.minibatches

    def check(self, family: Family) -> None:
        acts = check_acts(self, family)
        self.expert.check(acts)
        self.inner.check(self._network(acts).init)

    def trial_episodes(self, family: TaskFamily) -> int:
        del family
        return (self.inner.steps + 1) * self.shots

    def env_steps_per_update(self, family: TaskFamily) -> int:
        """Those of the policy, and those of the experts that it watches."""
        episodes = self.trial_episodes(family) + self.demonstrations
        return self.num_tasks * episodes * family.horizon

    def init(self, family: TaskFamily, key: Array) -> GuidedState:
        network_key, rates_key, expert_key = jax.random.split(key, 3)
        meta = self.inner.init(rates_key, self._network(family).init(network_key))
        params = PolicyMetaParams(meta, Moments.empty())
        experts = self.expert.init(family, expert_key)
        return GuidedState(params, self.optimizer.init(meta), experts)

    def policy(self, family: TaskFamily) -> AdaptivePolicy:
        return self._adaptation(family).policy()

    def update(
        self, family: TaskFamily, state: GuidedState, key: Array, step: Array
    ) -> tuple[GuidedState, dict[str, Array]]:
        task_key, play_key, show_key, step_key = jax.random.split(key, 4)
        keys = [parallel.task_keys(k, self.num_tasks) for k in (task_key, play_key, show_key)]
        adaptation, params = self._adaptation(family), blind_at_first(state.params)
        tasks, knowledge = jax.vmap(lambda k: self.expert.draw(family, state.experts, k))(keys[0])
        played = jax.vmap(lambda task, key: adaptation.play(params, task, key))(tasks, keys[1])
        shown, expert_returns = jax.vmap(lambda *args: self._show(family, *args))(
            tasks, knowledge, played.steps, keys[2]
        )
        returns = jnp.mean(jnp.sum(played.steps.reward, axis=2), axis=1)
        of_all = parallel.gather_tasks(returns)
        weights = self.risk.weights(of_all, step)
        batch = self._batch(played.inner, shown, parallel.own_tasks(weights))
        rate = value_at(self.learning_rate, step)
        meta, opt_state, metrics = self.optimizer.minimize(
            lambda meta, part: self._terms(adaptation, meta, part),
            lambda means: means["clone_loss"],
            params.meta,
            state.opt_state,
            batch,
            step_key,
            rate,
        )
        moved = jax.vmap(lambda data: _moved(adaptation, meta, data))(played.inner)
        own = [(rows.inputs, rows.mask) for rows in (played.inner, played.steps)]
        # What comes after is labelled, and was played above.
        demonstrated = self.demonstrations * family.horizon
        others = jax.tree.map(lambda x: x[:, :demonstrated], (shown.inputs, shown.mask))
        meta, opt_state = with_seen(family, state, step, (meta, opt_state), [*own, others])
        metrics |= step_returns(played.inner_reward, returns) | return_statistics(of_all)
        metrics |= parallel.mean_over_tasks({"return_expert": expert_returns, "approx_kl": moved})
        metrics |= {"risk_share": jnp.mean(weights), "learning_rate": rate}
        params = state.params._replace(meta=meta)
        return GuidedState(params, opt_state, state.experts), metrics

    def memory_bytes(self, family: TaskFamily, num_tasks: int) -> int:
        """Bytes of one update: state, stored episodes, and activations of one minibatch."""
        episodes = self.demonstrations + self.shots * (1 + self.dagger)
        # Of each unit and step: input and output, and again for their tangents in inner steps.
        units = sum(self.network.sizes) * (2 * episodes + 6 * self.inner.steps * self.shots)

        def play(spanned: GuidedMetaPolicySearch, key: Array, state: GuidedState) -> Any:
            task, knowledge = spanned.expert.draw(family, state.experts, key)
            played = spanned._adaptation(family).play(state.params, task, key)
            return played, spanned._show(family, task, knowledge, played.steps, key)

        return update_bytes(
            self,
            family,
            play,
            4 * units * family.horizon / self.optimizer.minibatches,
            num_tasks,
        )

    def _adaptation(self, family: TaskFamily) -> PolicyAdaptation:
        return PolicyAdaptation(
            family=family,
            network=self._network(family),
            inner=self.inner,
            estimator=self.estimator,
            objective=self.objective,
            baseline=self.baseline,
            shots=self.shots,
            value_coef=0.0,
            discount=self.discount,
            gae_lambda=self.gae_lambda,
            actions=self.actions,
        )

    def _network(self, family: TaskFamily) -> ActorCritic:
        return feedforward_actor_critic(
            family,
            self.network,
            None,
            actions=self.actions,
            normalize_observations=self.normalize_observations,
        )

    def _show(
        self, family: TaskFamily, task: Any, knowledge: Any, steps: Trajectory, key: Array
    ) -> tuple[Shown, Array]:
        """Returns what the expert of a task shows, leaves ``[L, ...]``, and its mean return."""
        play_key, label_key = jax.random.split(key)
        expert = self.expert.policy(family)
        shown, returns = demonstrate(family, expert, knowledge, task, play_key, self.demonstrations)
        if self.dagger:
            labelled = relabel(family, expert, knowledge, steps, label_key)
            shown = jax.tree.map(lambda *x: jnp.concatenate(x), shown, labelled)
        return jax.tree.map(flat, shown), returns

    def _batch(self, inner: InnerData, shown: Shown, weight: Array) -> Guided:
        played = jnp.sum(shown.mask, axis=1, dtype=jnp.float32)
        count, kept = parallel.sum_over_devices((jnp.sum(played), jnp.sum(weight * played)))
        return Guided(inner, *shown, weight * count / kept)

    def _terms(self, adaptation: PolicyAdaptation, meta: MetaParams, part: Guided) -> Terms:
        """Adapts anew; returns ``clone_loss`` and ``entropy`` of the labelled steps, ``[B, L]``."""

        def said(inner: InnerData, inputs: PolicyInput, mask: Array) -> Distribution:
            adapted = adaptation.run(meta, inner)
            rows = jax.tree.map(lambda x: x[None], (inputs, mask))
            return jax.tree.map(lambda x: x[0], adaptation.network.replay(adapted, *rows)[0])

        distributions = jax.vmap(said)(part.inner, part.inputs, part.mask)
        imitated = functools.partial(self._cross_entropy, adaptation.family.action_space)
        loss = each_step(imitated)(distributions, part.action)
        entropy = each_step(lambda d: d.entropy())(distributions)
        return {"clone_loss": part.weight[:, None] * loss, "entropy": entropy}

    def _cross_entropy(self, space: ArraySpace, distribution: Distribution, action: Array) -> Array:
        """Returns ``E[-log π(a)]`` over a choice, or over a normal around an action.

        Of squashed actions that normal is before the squashing, which is then taken as linear.
        """
        loss = -distribution.log_prob(action)
        if isinstance(distribution, Categorical | MultiCategorical) or not isinstance(space, Box):
            return loss
        # Half ranges are the unit of `expert_std`, and of a normal that is yet to be squashed.
        scale = jnp.exp(distribution.log_std)
        if isinstance(distribution, Normal):
            scale = scale / space.half_range
        return loss + 0.5 * jnp.sum((self.expert_std / scale) ** 2)


def _moved(adaptation: PolicyAdaptation, meta: MetaParams, data: InnerData) -> Array:
    """Returns how far the first policy went from the one that played, a KL divergence."""
    rows = jax.tree.map(lambda x: x[0], data)
    said, _ = adaptation.network.replay(meta.initial, rows.inputs, rows.mask)
    log_prob = each_step(lambda d, a: d.log_prob(a))(said, rows.action)
    log_ratio = jnp.where(rows.mask, log_prob - rows.behaviour, 0.0)
    return masked_mean(jnp.expm1(log_ratio) - log_ratio, rows.mask)
