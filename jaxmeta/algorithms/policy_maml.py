"""MAML for policies: gradient steps on a task's episodes, meta-learned to be worth it.

Axes: B tasks of this device, K inner steps, N episodes per step, T steps of an episode,
L = N T steps of the episodes after adaptation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta import parallel
from jaxmeta.contracts import Algorithm, check_acts
from jaxmeta.networks import (
    MLP,
    Actions,
    ActorCritic,
    check_actions,
    feedforward_actor_critic,
)
from jaxmeta.ops.distributions import Distribution
from jaxmeta.ops.moments import Moments
from jaxmeta.ops.surrogates import likelihood_ratio, masked_mean, sampling_credit, standardize
from jaxmeta.parts.baseline import Baseline, as_baseline
from jaxmeta.parts.estimators import LVC, MetaGradientEstimator
from jaxmeta.parts.inner_loop import SGD, InnerLoop, MetaParams
from jaxmeta.parts.linear_baseline import LinearBaseline
from jaxmeta.parts.objective import PolicyObjective
from jaxmeta.parts.on_policy import flat, make_batch, update_bytes
from jaxmeta.parts.optimizers.contract import Batch, PolicyOptimizer, check_num_tasks, each_step
from jaxmeta.parts.optimizers.trpo import TRPO
from jaxmeta.parts.policy_adaptation import (
    InnerData,
    PolicyAdaptation,
    PolicyMetaParams,
    blind_at_first,
    step_returns,
    with_seen,
)
from jaxmeta.parts.risk import Mean, Risk, return_statistics
from jaxmeta.parts.schedules import (
    Schedule,
    check_not_negative,
    check_positive,
    check_share,
    value_at,
)
from jaxmeta_envs.core.contracts import AdaptivePolicy, Family, PolicyInput, TaskFamily
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields

StandardizeOver = Literal["batch", "task"]
"""See `PolicyMAML.standardize_over`."""


class PolicyMAMLState(NamedTuple):
    """What the next update needs.

    Attributes:
        params: What the policy reads.
        opt_state: The outer optimiser's state.
    """

    params: PolicyMetaParams
    opt_state: Any


class MetaInputs(NamedTuple):
    """What the outer loop replays.

    Attributes:
        inputs: What the adapted policy saw, ``[B, L]``.
        inner: What it adapted to, leaves ``[B, K, N, T, ...]``.
        before: What the policies that played ``inner`` said, leaves ``[B, K, N, T, ...]``.
        credit: Of the episodes of each inner step: what the task is worth after it to the risk
            measure, less the mean of the other tasks, ``[B, K]``, per step and in the units of
            the advantages, such that its mean over the steps of all tasks is one over tasks.
        gain_scale: What brings a mean of gains over the episodes of a step to such units,
            ``[B, K]``.
    """

    inputs: PolicyInput
    inner: InnerData
    before: Distribution
    credit: Array
    gain_scale: Array


@dataclass(frozen=True)
class PolicyMAML(Algorithm[TaskFamily, PolicyMAMLState]):
    """Learns a policy from which a few policy-gradient steps solve a new task.

    An update plays ``shots`` episodes of every task, takes a policy-gradient step on them
    (K times), plays ``shots`` more with the adapted policy, and improves the initial
    parameters θ by what those were worth::

        θ'_i = θ + α ∇ E[R_i | π_θ]          (K times; the expectation sampled)
        maximise  Σ_i E[R_i | π_θ'_i]

    The gradient goes through the inner steps; how they are taken to depend on θ is the
    choice of ``estimator``. Parts give the known methods: ``optimizer=TRPO()`` is MAML as
    published (with ``estimator=LogLikelihood()``) and E-MAML (with ``EMAML()``);
    ``optimizer=PPO(...)``, ``estimator=LVC()`` and ``kl_coef`` above 0 are ProMP.

    Attributes:
        num_tasks: Tasks per update, over all devices.
        shots: Episodes of a task that a gradient step sees, N.
        network: Layers of the policy.
        initial_std: First standard deviation of continuous actions, in half ranges; it is
            learned.
        actions: How continuous actions are distributed, see `RL2.actions`.
        inner: How it adapts.
        estimator: Which terms the meta-gradient keeps.
        baseline: The value estimate: linear in features, fitted to the episodes of each task
            and step, or a network with these layers, which adapts with the policy.
        optimizer: How the outer loop improves the initial parameters.
        objective: What policies are to have besides reward, in the inner loop and the outer.
        standardize_over: Over which steps after adaptation advantages have mean 0 and
            deviation 1: ``"batch"``, those of all tasks, or ``"task"``, those of each by itself,
            as in the code of MAML and ProMP. With the first, the default, the outer gradient is
            that of one measure of all returns: a task counts by what there is to be won in it,
            and one that leaves nothing to be won has no say. With the second every task counts
            alike, also where the scales of their rewards differ; what is noise in a task that
            is solved then counts like signal in another.
        kl_coef: Weight of the mean ``KL(played ‖ now)``, by step, of the policies that play the
            inner episodes now from those that played them; it keeps several outer steps on one
            batch honest.
        learning_rate: Step size of Adam in the outer loop, constant or a schedule over
            updates; TRPO with the linear baseline has no use for it.
        entropy_coef: Weight of the adapted policy's entropy, constant or a schedule.
        value_coef: Weight of the value loss in the inner loop.
        discount: γ, per step.
        gae_lambda: λ of generalized advantage estimation.
        value_decay: Forgetting rate per update of the moments that normalise a value
            network's targets.
        risk: Which tasks count in the outer loop, by their mean return after adaptation (and in
            the episodes before, if the objective counts them), undiscounted. `EMAML` credits
            the episodes of a step with the influence of the task on this measure.
        normalize_observations: Whether observations that are not one-hot are seen, by policy,
            value network and linear baseline, with mean 0 and deviation 1, by running moments of
            the episodes before and after adaptation; nothing adapts or learns these.

    Reference: Finn et al. 2017, arXiv 1703.03400; Rothfuss et al. 2019, arXiv 1810.06784.
    Differs from the papers: products with the Hessian are exact; the default estimator is
    not the one of MAML's original code, which drops how θ decides what is sampled.
    """

    num_tasks: int = 20
    shots: int = 20
    network: MLP = field(default_factory=lambda: MLP((64, 64), "tanh"))
    initial_std: float = 1.0
    actions: Actions = "squashed"
    inner: InnerLoop = field(default_factory=lambda: InnerLoop(optimizer=SGD(0.1)))
    estimator: MetaGradientEstimator = field(default_factory=LVC)
    baseline: Baseline | MLP = field(default_factory=LinearBaseline)
    optimizer: PolicyOptimizer = field(default_factory=TRPO)
    objective: PolicyObjective = field(default_factory=PolicyObjective)
    standardize_over: StandardizeOver = "batch"
    kl_coef: float = 0.0
    learning_rate: float | Schedule = 1e-3
    entropy_coef: float | Schedule = 0.0
    value_coef: float = 0.5
    discount: float = 0.99
    gae_lambda: float = 1.0
    value_decay: float = 0.9
    risk: Risk = field(default_factory=Mean)
    normalize_observations: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.shots >= 1, "shots", self.shots, "at least 1")
        require(self.inner.steps >= 1, "inner.steps", self.inner.steps, "at least 1")
        parts = self.inner.minibatches
        text = "None: a policy plays new episodes for every step"
        require(parts is None, "inner.minibatches", parts, text)
        require(self.initial_std > 0, "initial_std", self.initial_std, "above 0")
        check_actions(self.actions)
        check_num_tasks(self.num_tasks, self.task_multiple)
        over = self.standardize_over
        require(over in get_args(StandardizeOver), "standardize_over", over, "batch or task")
        # What is earned before and after, or in one task and another, is added up in one unit.
        one_unit = self.estimator.credits_sampling or self._counts_all
        text = "batch, with EMAML or rewards of all episodes, which are compared across tasks"
        require(over == "batch" or not one_unit, "standardize_over", over, text)
        for name in ("kl_coef", "value_coef"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        check_positive(self.learning_rate, "learning_rate")
        check_not_negative(self.entropy_coef, "entropy_coef")
        for name in ("discount", "gae_lambda", "value_decay"):
            check_share(getattr(self, name), name)
        self.risk.check(self.num_tasks)

    @property
    def bootstraps(self) -> bool:
        """Whether a time limit is told from a termination: as its baseline does."""
        return self._baseline.bootstraps

    @property
    def task_multiple(self) -> int:
        return self._optimizer.task_multiple

    def check(self, family: Family) -> None:
        acts = check_acts(self, family)
        self.inner.check(self._network(acts).init)

    def trial_episodes(self, family: TaskFamily) -> int:
        del family
        return (self.inner.steps + 1) * self.shots

    def env_steps_per_update(self, family: TaskFamily) -> int:
        return self.num_tasks * self.trial_episodes(family) * family.horizon

    def init(self, family: TaskFamily, key: Array) -> PolicyMAMLState:
        network_key, rates_key = jax.random.split(key)
        meta = self.inner.init(rates_key, self._network(family).init(network_key))
        params = PolicyMetaParams(meta, Moments.empty())
        return PolicyMAMLState(params, self._optimizer.init(meta))

    def policy(self, family: TaskFamily) -> AdaptivePolicy:
        return self._adaptation(family).policy()

    def update(
        self, family: TaskFamily, state: PolicyMAMLState, key: Array, step: Array
    ) -> tuple[PolicyMAMLState, dict[str, Array]]:
        task_key, play_key, step_key = jax.random.split(key, 3)
        adaptation, params = self._adaptation(family), blind_at_first(state.params)
        moments = params.value_moments
        tasks = jax.vmap(family.sample_task)(parallel.task_keys(task_key, self.num_tasks))
        play_keys = parallel.task_keys(play_key, self.num_tasks)
        inner, inner_reward, adapted, steps, log_prob = jax.vmap(
            lambda task, key: adaptation.play(params, task, key)
        )(tasks, play_keys)
        value, advantage = jax.vmap(
            lambda params, steps: adaptation.advantages(moments, params, steps)
        )(adapted, steps)
        returns = jnp.mean(jnp.sum(steps.reward, axis=2), axis=1)
        of_all = parallel.gather_tasks(returns)
        earned = jnp.mean(jnp.sum(inner_reward, axis=3), axis=2) * self._counts_all
        counted = parallel.gather_tasks(returns + jnp.sum(earned, axis=1))
        weights = self.risk.weights(counted, step)
        batch, moments, metrics = make_batch(
            steps,
            log_prob,
            jax.vmap(flat)(advantage),
            jax.vmap(flat)(value),
            parallel.own_tasks(weights),
            moments,
            self.value_decay,
        )
        batch = self._baseline.targets(batch)
        if self.standardize_over == "task":
            alone = jax.vmap(standardize)(advantage, steps.mask)
            batch = batch._replace(advantage=jax.vmap(flat)(alone))
        worth = counted if len(counted) == 1 else self.risk.influence(counted, step)
        share = parallel.own_tasks(weights / jnp.mean(weights))
        credit = _credit(parallel.own_tasks(worth), share, earned)
        per_step, gain_scale = _lengths(inner.mask, steps.mask, share)
        unit = metrics["advantage_std"] + 1e-8
        before = jax.vmap(adaptation.inner_policies, (None, 0))(params.meta, inner)
        inputs = MetaInputs(
            batch.inputs,
            inner,
            jax.lax.stop_gradient(before),
            credit * per_step[:, None] / unit,
            gain_scale / unit,
        )
        rate = value_at(self.learning_rate, step)
        meta, opt_state, losses = self._optimizer.improve(
            lambda meta, inputs, mask: self._replay(adaptation, meta, inputs, mask),
            params.meta,
            state.opt_state,
            batch._replace(inputs=inputs),
            step_key,
            rate,
            value_at(self.entropy_coef, step),
            penalty=self._penalty(adaptation),
        )
        rows = [(inner.inputs, inner.mask), (steps.inputs, steps.mask)]
        meta, opt_state = with_seen(family, state, step, (meta, opt_state), rows)
        metrics |= step_returns(inner_reward, returns) | return_statistics(of_all) | losses
        metrics |= {"risk_share": jnp.mean(weights), "learning_rate": rate}
        params = PolicyMetaParams(meta, moments)
        return PolicyMAMLState(params, opt_state), metrics

    def memory_bytes(self, family: TaskFamily, num_tasks: int) -> int:
        """Bytes of one update: state, stored episodes, and activations of one minibatch."""
        units = sum(self.network.sizes) + self._baseline.units
        # Of each unit and step: input and output, and again for their tangents in inner steps.
        steps = self.shots * family.horizon
        activations = 4 * units * steps * (2 + 6 * self.inner.steps)

        def play(spanned: PolicyMAML, key: Array, state: PolicyMAMLState) -> Any:
            adaptation = spanned._adaptation(family)
            return adaptation.play(state.params, family.sample_task(key), key)

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
    def _counts_all(self) -> bool:
        return self.objective.episodes == "all"

    @property
    def _optimizer(self) -> PolicyOptimizer:
        return self._baseline.told(self.optimizer)

    def _network(self, family: TaskFamily) -> ActorCritic:
        return feedforward_actor_critic(
            family,
            self.network,
            self._baseline.layers,
            self.initial_std,
            self.actions,
            normalize_observations=self.normalize_observations,
        )

    def _adaptation(self, family: TaskFamily) -> PolicyAdaptation:
        return PolicyAdaptation(
            family=family,
            network=self._network(family),
            inner=self.inner,
            estimator=self.estimator,
            objective=self.objective,
            baseline=self._baseline,
            shots=self.shots,
            value_coef=self.value_coef,
            discount=self.discount,
            gae_lambda=self.gae_lambda,
            actions=self.actions,
        )

    def _replay(
        self, adaptation: PolicyAdaptation, params: MetaParams, inputs: MetaInputs, mask: Array
    ) -> tuple[Distribution, Array]:
        """Adapts to stored episodes and says what comes of it about the later ones, ``[B, L]``."""

        def one(inputs: MetaInputs, mask: Array) -> tuple[Distribution, Array]:
            adapted = adaptation.run(params, inputs.inner)
            rows = jax.tree.map(lambda x: x[None], (inputs.inputs, mask))
            return jax.tree.map(lambda x: x[0], tuple(adaptation.network.replay(adapted, *rows)))

        return jax.vmap(one)(inputs, mask)

    def _penalty(self, adaptation: PolicyAdaptation) -> Callable[[Any, Batch], Array] | None:
        """Returns what the outer loss has besides the adapted policy's surrogate, per task.

        Credit is that of the whole measure already; the rest is weighed like the surrogate.
        """
        inner = self.kl_coef > 0 or self.estimator.credits_sampling or self._counts_all
        outer = self.objective.outer_anchor_coef > 0
        if not inner and not outer:
            return None

        def penalty(params: MetaParams, batch: Batch) -> Array:
            inputs: MetaInputs = batch.inputs
            total = credit = jnp.zeros(batch.mask.shape[0], jnp.float32)
            if inner:
                of_task = functools.partial(self._inner_penalty, adaptation, params)
                total, credit = jax.vmap(of_task)(inputs)
            if outer:
                said, _ = self._replay(adaptation, params, inputs, batch.mask)
                rows = jax.tree.map(lambda x: x[:, None], (said, inputs.inputs, batch.mask))
                kl = jax.vmap(functools.partial(adaptation.anchor_kl, params))(*rows)
                total += self.objective.outer_anchor_coef * kl
            return batch.weight * total - credit

        return penalty

    def _inner_penalty(
        self, adaptation: PolicyAdaptation, params: MetaParams, inputs: MetaInputs
    ) -> tuple[Array, Array]:
        """Returns what is charged to the policies that play for the steps, and their credit."""
        data = inputs.inner
        said = adaptation.inner_policies(params, data)
        kl = jax.vmap(each_step(lambda old, new: old.kl(new)))(inputs.before, said)
        penalty = self.kl_coef * jnp.sum(jax.vmap(masked_mean)(kl, data.mask))
        log_prob = jax.vmap(each_step(lambda d, a: d.log_prob(a)))(said, data.action)
        credit = jnp.float32(0.0)
        if self.estimator.credits_sampling:
            args = log_prob, data.behaviour, data.mask
            credit = jnp.sum(jax.vmap(sampling_credit)(*args, inputs.credit))
        if self._counts_all:
            args = log_prob, data.behaviour, data.gain, data.mask
            penalty -= jnp.sum(inputs.gain_scale * jax.vmap(likelihood_ratio)(*args))
        return penalty, credit


def _credit(worth: Array, share: Array, earned: Array) -> Array:
    """Returns what each step's episodes are credited with, ``[B, K]``, in units of return.

    It is the worth of the task less what its episodes up to that step earned, which later ones
    do not change, and less a baseline that they have no influence on: the mean of the other
    tasks, or nothing if there is none.

    Args:
        worth: Of each task to the risk measure, ``[B]``.
        share: Weight of each task, over the mean weight, ``[B]``.
        earned: What the episodes of each step earned, if that counts; else 0, ``[B, K]``.
    """
    credit = worth[:, None] - share[:, None] * jnp.cumsum(earned, axis=1)
    of_all, others = parallel.sum_over_tasks((credit, jnp.ones(len(worth), jnp.float32)))
    return credit - (of_all[None] - credit) / jnp.maximum(others - 1.0, 1.0)


def _lengths(inner: Array, after: Array, share: Array) -> tuple[Array, Array]:
    """Returns what brings a number of each task, and sums of its steps, to the outer loss's units.

    The optimiser averages over all steps, where a task with long episodes has many, and divides
    by the weighted mean length of an episode.

    Args:
        inner: Whether a step was played, ``[B, K, N, T]``.
        after: The same after adaptation, ``[B, N, T]``.
        share: Weight of each task, over the mean weight, ``[B]``.

    Returns:
        ``[B]``, and for means over the steps of each inner step ``[B, K]``; the latter is yet
        to be multiplied by the weight of the task, as the outer loss has it.
    """
    length = jnp.mean(jnp.sum(after, axis=2, dtype=jnp.float32), axis=1)
    mean, kept = parallel.mean_over_tasks((length, share * length))
    inner_length = jnp.mean(jnp.sum(inner, axis=3, dtype=jnp.float32), axis=2)
    return mean / (kept * length), inner_length / length[:, None]
