"""How a policy adapts to a task by gradient steps on its episodes; shared by what meta-learns it.

Axes: K inner steps, N episodes per step, T steps of an episode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta import parallel
from jaxmeta.experience.play import play_trial
from jaxmeta.networks import Actions, ActorCritic, input_moments
from jaxmeta.ops.distributions import Distribution
from jaxmeta.ops.moments import Moments
from jaxmeta.ops.surrogates import masked_mean, standardize
from jaxmeta.ops.trees import select
from jaxmeta.parts.baseline import Actor, Baseline
from jaxmeta.parts.episodes import episode_advantages
from jaxmeta.parts.estimators import MetaGradientEstimator
from jaxmeta.parts.inner_loop import Fast, InnerLoop, Loss, MetaParams
from jaxmeta.parts.objective import PolicyObjective, prior_policy
from jaxmeta.parts.on_policy import act_and_store, seen
from jaxmeta.parts.optimizers.contract import each_step
from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, TaskFamily, Trajectory


class PolicyMetaParams(NamedTuple):
    """What the policy reads at meta-test.

    Attributes:
        meta: The meta-parameters.
        value_moments: Running moments of the value network's targets, scalars.
    """

    meta: MetaParams
    value_moments: Moments


class InnerData(NamedTuple):
    """Episodes that an inner step learns from, leaves ``[N, T, ...]``, with more axes in front.

    Attributes:
        inputs: What the policy saw.
        action: What it did.
        behaviour: Log-probability it gave to that.
        advantage: Of that, as the step reads it: standardised over its episodes, unless the
            objective says otherwise.
        gain: The same in reward units.
        target: Target of the value estimate, in the units of the value output.
        mask: Whether the step was played.
    """

    inputs: PolicyInput
    action: Array
    behaviour: Array
    advantage: Array
    gain: Array
    target: Array
    mask: Array


class Played(NamedTuple):
    """What meeting a task gives.

    Attributes:
        inner: Episodes before each step, leaves ``[K, N, T, ...]``.
        inner_reward: Rewards there, ``[K, N, T]``.
        adapted: Parameters after K steps.
        steps: Episodes after K steps, leaves ``[N, T, ...]``.
        log_prob: Of the actions there, ``[N, T]``.
    """

    inner: InnerData
    inner_reward: Array
    adapted: Any
    steps: Trajectory
    log_prob: Array


@dataclass(frozen=True)
class PolicyAdaptation:
    """Policy-gradient steps of one task: playing for them, taking them, and taking them again.

    `play` meets a task and `policy` does the same at meta-test; `run` and `inner_policies`
    repeat on stored episodes what `play` did, differentiable in the meta-parameters.

    Attributes:
        family: The task family.
        network: Policy, and value if ``baseline`` has layers.
        inner: The steps.
        estimator: How they depend on the meta-parameters.
        objective: What the steps climb besides the advantage.
        baseline: The value estimate.
        shots: Episodes per step, N.
        value_coef: Weight of the value network's loss.
        discount: γ, per step.
        gae_lambda: λ of generalized advantage estimation.
        actions: How the network's continuous actions are distributed.
    """

    family: TaskFamily
    network: ActorCritic
    inner: InnerLoop
    estimator: MetaGradientEstimator
    objective: PolicyObjective
    baseline: Baseline
    shots: int
    value_coef: float
    discount: float
    gae_lambda: float
    actions: Actions

    def policy(self) -> AdaptivePolicy:
        """Returns how to act and adapt at meta-test, given `PolicyMetaParams`."""

        def begin(params: PolicyMetaParams, key: Array) -> Fast:
            del key
            return self.inner.begin(params.meta)

        def act(
            params: PolicyMetaParams, fast: Fast, inputs: PolicyInput, key: Array
        ) -> tuple[Array, Fast]:
            del params
            return self.network.step(fast.params, (), inputs)[1].distribution.sample(key), fast

        def act_mode(
            params: PolicyMetaParams, fast: Fast, inputs: PolicyInput, key: Array
        ) -> tuple[Array, Fast]:
            del params, key
            return self.network.step(fast.params, (), inputs)[1].distribution.mode(), fast

        def adapt(params: PolicyMetaParams, fast: Fast, episodes: Trajectory, key: Array) -> Fast:
            del key
            return self._step(params.meta, fast, self._data(params, fast, episodes))

        return AdaptivePolicy(begin, act, adapt, self.shots, act_mode)

    def play(self, params: PolicyMetaParams, task: Any, key: Array) -> Played:
        """Meets a task: K times episodes and a step, and then the episodes that count."""

        def step(fast: Fast, key: Array) -> tuple[Fast, tuple[InnerData, Array]]:
            played, _ = self._episodes(fast.params, task, key)
            data = self._data(params, fast, played)
            fast = self._step(params.meta, fast, data)
            return fast, (data, played.reward)

        *keys, last_key = jax.random.split(key, self.inner.steps + 1)
        fast, (data, reward) = jax.lax.scan(step, self.inner.begin(params.meta), jnp.stack(keys))
        return Played(data, reward, fast.params, *self._episodes(fast.params, task, last_key))

    def advantages(self, moments: Moments, policy: Any, steps: Trajectory) -> tuple[Array, Array]:
        """Returns values and advantages ``[N, T]``, in reward units, of one task's episodes."""
        actor = Actor(self.family, self.network, policy, moments)
        value, beyond = self.baseline.fitted(actor, steps, self.discount)
        return value, episode_advantages(steps, value, beyond, self.discount, self.gae_lambda)

    def run(self, meta: MetaParams, data: InnerData) -> Any:
        """Returns the parameters that stored episodes ``[K, N, T]`` lead to."""
        return self._differentiated.run(meta, self._loss(meta), data)[0]

    def inner_policies(self, meta: MetaParams, data: InnerData) -> Distribution:
        """Returns what the policies that play for the steps say, ``[K, N, T]``."""

        def look(params: Any, rows: InnerData) -> Distribution:
            return self.network.replay(params, rows.inputs, rows.mask)[0]

        return self._differentiated.follow(meta, self._loss(meta), data, look)[1][1]

    @property
    def _differentiated(self) -> InnerLoop:
        """The inner loop, differentiated through as far as the estimator is to be."""
        first_order = self.estimator.first_order
        return replace(self.inner, second_order_steps=0) if first_order else self.inner

    def anchor_kl(
        self, meta: MetaParams, said: Distribution, inputs: PolicyInput, mask: Array
    ) -> Array:
        """Returns the mean divergence from the anchor of what a policy says, a scalar.

        Args:
            meta: Where the policy came from by adaptation.
            said: Its distributions, ``[N, T]``.
            inputs: Of what, ``[N, T]``.
            mask: Whether a step was played, ``[N, T]``.
        """
        if self.objective.anchor == "prior":
            prior = prior_policy(self.family.action_space, self.actions)
            kl = each_step(lambda d: d.kl(prior))(said)
        else:
            anchor = self.network.replay(meta.initial, inputs, mask)[0]
            kl = each_step(lambda d, anchor: d.kl(anchor))(said, anchor)
        return masked_mean(kl, mask)

    def _episodes(self, policy: Any, task: Any, key: Array) -> tuple[Trajectory, Array]:
        """Plays N episodes; returns them and the actions' log-probabilities, ``[N, T]``."""

        def one(key: Array) -> tuple[Trajectory, Array]:
            act = act_and_store(self.network)
            trial = play_trial(self.family, act, policy, (), task, key, 1)
            return jax.tree.map(lambda x: x[0], (trial.trajectory, trial.extras.log_prob))

        return jax.vmap(one)(jax.random.split(key, self.shots))

    def _data(self, params: PolicyMetaParams, fast: Fast, steps: Trajectory) -> InnerData:
        """Returns what a step learns from episodes ``[N, T]`` that were played before it."""
        value, advantage = self.advantages(params.value_moments, fast.params, steps)
        distributions, _ = self.network.replay(fast.params, steps.inputs, steps.mask)
        standardized, moments = self.objective.standardize, params.value_moments
        # Before any return was seen their scale is unknown, and there is nothing to fit.
        target = jnp.where(moments.weight > 0, moments.normalize(advantage + value), 0.0)
        data = InnerData(
            inputs=steps.inputs,
            action=steps.action,
            behaviour=each_step(lambda d, a: d.log_prob(a))(distributions, steps.action),
            advantage=standardize(advantage, steps.mask) if standardized else advantage,
            gain=advantage,
            target=target,
            mask=steps.mask,
        )
        return jax.lax.stop_gradient(data)

    def _loss(self, meta: MetaParams) -> Loss:
        """Returns what a step descends, of the policy and of the value network if there is one."""
        wanted = self.objective

        def loss(params: Any, data: InnerData) -> Array:
            said, values = self.network.replay(params, data.inputs, data.mask)
            log_prob = each_step(lambda d, a: d.log_prob(a))(said, data.action)
            surrogate = type(self.estimator).surrogate
            loss = -surrogate(log_prob, data.behaviour, data.advantage, data.mask)
            if self.baseline.layers:
                loss += self.value_coef * masked_mean(0.5 * (values - data.target) ** 2, data.mask)
            if wanted.entropy_coef > 0:
                entropy = each_step(lambda d: d.entropy())(said)
                loss -= wanted.entropy_coef * masked_mean(entropy, data.mask)
            if wanted.anchor_coef > 0:
                loss += wanted.anchor_coef * self.anchor_kl(meta, said, data.inputs, data.mask)
            return loss

        return loss

    def _step(self, meta: MetaParams, fast: Fast, data: InnerData) -> Fast:
        return self.inner.step(meta, fast, self._loss(meta), data, second_order=False)[0]


def blind_at_first(params: PolicyMetaParams) -> PolicyMetaParams:
    """Returns parameters that see 0 in place of observations as long as none were measured.

    A gradient step on inputs of unknown size could lead anywhere.
    """
    initial = params.meta.initial
    inputs = input_moments(initial)
    if inputs.obs is None:
        return params
    known = inputs.obs.weight > 0
    blind = inputs.obs._replace(
        mean=jnp.where(known, inputs.obs.mean, 0.0),
        variance=jnp.where(known, inputs.obs.variance, 1e30),
        weight=jnp.where(known, inputs.obs.weight, 1.0),
    )
    initial = initial | {"inputs": inputs._replace(obs=blind)}
    return params._replace(meta=params.meta._replace(initial=initial))


def with_seen(
    family: TaskFamily,
    state: Any,
    step: Array,
    learned: tuple[MetaParams, Any],
    played: list[tuple[PolicyInput, Array]],
) -> tuple[MetaParams, Any]:
    """Returns what was learned, with moments of inputs that have seen what was played, too.

    Where inputs are normalised, the first update of a run only measures them.

    Args:
        family: The task family.
        state: Before the update, with ``params`` and ``opt_state``.
        step: Updates done.
        learned: Meta-parameters and the optimiser's state after it.
        played: Inputs and whether they were played, leaves ``[B, ...]``, B tasks of this device.
    """
    before = state.params.meta, state.opt_state
    moments = input_moments(before[0].initial)
    if moments.obs is None:
        return learned

    def in_a_row(x: Array, mask: Array) -> Array:
        return x.reshape(x.shape[0], 1, -1, *x.shape[mask.ndim :])

    rows = [
        jax.tree.map(lambda x, mask=mask: in_a_row(x, mask), (inputs.obs, mask))
        for inputs, mask in played
    ]
    obs, mask = jax.tree.map(lambda *x: jnp.concatenate(x, axis=2), *rows)
    inputs = seen(family, moments, obs, mask)
    meta, opt_state = select(step > 0, learned, before)
    return meta._replace(initial=meta.initial | {"inputs": inputs}), opt_state


def step_returns(inner_reward: Array, after: Array) -> dict[str, Array]:
    """Returns the metrics of adaptation: mean returns of an episode after 0 to K steps.

    Args:
        inner_reward: Of the episodes of each step, ``[B, K, N, T]``, B tasks of this device.
        after: Mean return of an episode after the last, ``[B]``.
    """
    before = jnp.mean(jnp.sum(inner_reward, axis=3), axis=2)
    metrics = {"return": after, "return_before": before[:, 0]}
    metrics |= {f"return_after_{k}": before[:, k] for k in range(1, before.shape[1])}
    return parallel.mean_over_tasks(metrics)
