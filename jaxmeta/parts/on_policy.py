"""From played trials to what a policy optimiser learns from; shared by on-policy algorithms.

Axes: B tasks of this device, E episodes, T steps of an episode, L = E T steps of a trial.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta import parallel
from jaxmeta.contracts import Algorithm
from jaxmeta.experience.play import Act, Trial
from jaxmeta.networks import ActorCritic, InputMoments, input_moments
from jaxmeta.ops.moments import Moments
from jaxmeta.ops.trees import num_bytes, select
from jaxmeta.parts.baseline import Baseline
from jaxmeta.parts.optimizers.contract import Batch, PolicyOptimizer, each_step
from jaxmeta.parts.risk import Risk, return_statistics
from jaxmeta.parts.schedules import Schedule, span_run, value_at
from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, TaskFamily, Trajectory
from jaxmeta_envs.core.spaces import Box

Learner = TypeVar("Learner", bound=Algorithm)

_INPUT_DECAY = 0.99  # what an update leaves of the moments that normalise inputs


class Settings(Protocol):
    """The hyperparameters that `learn` reads of an algorithm."""

    @property
    def risk(self) -> Risk: ...
    @property
    def value_decay(self) -> float: ...
    @property
    def learning_rate(self) -> float | Schedule: ...
    @property
    def entropy_coef(self) -> float | Schedule: ...


class Learned(NamedTuple):
    """What `learn` returns: the parts of the next state, and metrics with fixed keys."""

    params: Any
    opt_state: Any
    value_moments: Moments
    metrics: dict[str, Array]


class Acted(NamedTuple):
    """Stored per step while acting.

    Attributes:
        log_prob: Of the action, by the policy that took it.
        value: Value estimate, in the units of the value normaliser.
    """

    log_prob: Array
    value: Array


def act_and_store(network: ActorCritic) -> Act:
    """Returns how to play with a network such that it can learn from the trial (`Acted`)."""

    def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple:
        carry, output = network.step(params, carry, inputs)
        action = output.distribution.sample(key)
        return action, carry, Acted(output.distribution.log_prob(action), output.value)

    return act


def sampling_policy(network: ActorCritic) -> AdaptivePolicy:
    """Returns how a network acts at meta-test: as in training by drawing, or by the mode."""

    def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any]:
        carry, output = network.step(params, carry, inputs)
        return output.distribution.sample(key), carry

    def act_mode(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any]:
        del key
        carry, output = network.step(params, carry, inputs)
        return output.distribution.mode(), carry

    return AdaptivePolicy(lambda params, key: network.begin(params), act, act_mode=act_mode)


def flat(x: Array) -> Array:
    """``[E, T, ...] -> [L, ...]``."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def learn(
    settings: Settings,
    family: TaskFamily,
    optimizer: PolicyOptimizer,
    network: ActorCritic,
    state: Any,
    step: Array,
    trials: Trial,
    advantage: Array,
    value: Array,
    key: Array,
    *,
    weighted: bool = True,
    baseline: Baseline | None = None,
    target: Array | None = None,
) -> Learned:
    """Improves a policy on played trials, and measures what it will see.

    The first trials of a run are only measured: nothing is learned from inputs of unknown scale.

    Args:
        settings: Hyperparameters.
        family: The task family.
        optimizer: How the policy is improved.
        network: Played the trials.
        state: Has ``params``, ``opt_state`` and ``value_moments``.
        step: Updates done.
        trials: Leaves ``[B, E, T, ...]``, stored by `act_and_store`.
        advantage: ``[B, L]``, in reward units.
        value: Value estimates, ``[B, L]``, in reward units.
        key: Of what is random in the improvement.
        weighted: Whether the policy is improved on the trials that the risk measure keeps, by
            their weights; else on all alike, as where they are paid what `risk_worth` says.
        baseline: Says what the network's value output is to learn; None: what it is given.
        target: What the value is fitted to, ``[B, L]``, in reward units; None for
            ``advantage + value``.
    """
    returns = jnp.sum(trials.trajectory.reward, axis=(1, 2))
    of_all = parallel.gather_tasks(returns)
    weights = settings.risk.weights(of_all, step)
    batch, moments, metrics = make_batch(
        trials.trajectory,
        trials.extras.log_prob,
        advantage,
        value,
        parallel.own_tasks(weights if weighted else jnp.ones_like(weights)),
        state.value_moments,
        settings.value_decay,
        target,
    )
    batch = baseline.targets(batch) if baseline else batch
    learning_rate = value_at(settings.learning_rate, step)
    params, opt_state, losses = optimizer.improve(
        network.replay,
        state.params,
        state.opt_state,
        batch,
        key,
        learning_rate,
        value_at(settings.entropy_coef, step),
    )
    if "inputs" in state.params:
        steps, before = trials.trajectory, (state.params, state.opt_state)
        params, opt_state = select(step > 0, (params, opt_state), before)
        moments_of_inputs = input_moments(state.params)
        inputs = seen(family, moments_of_inputs, steps.inputs.obs, steps.mask, steps.reward)
        params = params | {"inputs": inputs}
    metrics |= measure(family, trials.trajectory) | return_statistics(of_all) | losses
    metrics |= {"risk_share": jnp.mean(weights), "learning_rate": learning_rate}
    return Learned(params, opt_state, moments, metrics)


def risk_worth(risk: Risk, trajectory: Trajectory, updates: Array) -> Array:
    """Returns what each trial adds to the risk measure of all, see `Risk.influence`; ``[B]``.

    Args:
        risk: The measure.
        trajectory: Leaves ``[B, E, T, ...]``.
        updates: Updates done.
    """
    returns = parallel.gather_tasks(jnp.sum(trajectory.reward, axis=(1, 2)))
    return parallel.own_tasks(risk.influence(returns, updates))


def update_bytes(
    algorithm: Learner,
    family: TaskFamily,
    play: Callable[[Learner, Array, Any], Any],
    activations: float,
    num_tasks: int,
) -> int:
    """Estimates the bytes of one update: state, tasks, stored trials, back-propagation.

    Args:
        algorithm: The learner, whose schedules may be without a length.
        family: Its tasks.
        play: ``(algorithm, key, state) -> what is stored of a task``; only shapes are looked at.
            It is given an algorithm whose schedules have a length: bytes do not depend on it.
        activations: Bytes per task that back-propagation keeps at a time.
        num_tasks: Tasks of the device.
    """
    spanned = span_run(algorithm, 1)
    state = jax.eval_shape(lambda: spanned.init(family, jax.random.key(0)))
    task = jax.eval_shape(lambda: family.sample_task(jax.random.key(0)))
    trial = jax.eval_shape(lambda state: play(spanned, jax.random.key(0), state), state)
    per_task = num_bytes(task) + 2 * num_bytes(trial) + activations
    return int(3 * num_bytes(state) + num_tasks * per_task)


def make_batch(
    trajectory: Trajectory,
    log_prob: Array,
    advantage: Array,
    value: Array,
    weight: Array,
    moments: Moments,
    value_decay: float,
    target: Array | None = None,
) -> tuple[Batch, Moments, dict[str, Array]]:
    """Normalises advantages and value targets, over all devices.

    Args:
        trajectory: Leaves ``[B, E, T, ...]``.
        log_prob: Of the actions, ``[B, E, T]``.
        advantage: ``[B, L]``, in reward units.
        value: Value estimates, ``[B, L]``, in reward units.
        weight: Of each task in the policy's objective, ``[B]``.
        moments: Running moments of the value targets, of shape ``[L]`` (each step of a
            trial has its own) or ``[]`` (all steps share them).
        value_decay: What an update leaves of the moments.
        target: Value targets, ``[B, L]``, in reward units; None for ``advantage + value``.

    Returns:
        The batch, new moments, and the metrics ``value_explained``, the share of the
        targets' variance that the value estimate explains, and ``advantage_std``, what the
        advantages were divided by.
    """
    steps = jax.tree.map(jax.vmap(flat), trajectory)
    mask = steps.mask
    residual = advantage if target is None else target - value
    target = residual + value
    weighted = weight[:, None] * mask

    def sums(x: Array, weight: Array) -> tuple[Array, Array]:
        x = jnp.where(mask, x, 0.0)
        return jnp.sum(weight * x, axis=0), jnp.sum(weight * x**2, axis=0)

    # Shifted by the running mean: float32 squares of large returns lose digits.
    shifted = target - jnp.broadcast_to(moments.mean, target.shape[1:])[None]
    counts, kept, advantages, residuals, targets = parallel.sum_over_devices(
        (
            jnp.sum(mask, axis=0, dtype=jnp.float32),
            jnp.sum(weighted),
            sums(advantage, weighted),
            sums(residual, mask),
            sums(shifted, mask),
        )
    )
    count = jnp.sum(counts)
    # The advantages of all steps are of one kind, the targets of each perhaps of its own.
    mean, variance = _mean_and_variance(jax.tree.map(jnp.sum, advantages), kept)
    unexplained = _mean_and_variance(jax.tree.map(jnp.sum, residuals), count)[1]
    if moments.mean.ndim == 0:
        counts, targets = jax.tree.map(jnp.sum, (counts, targets))
    shift, target_variance = _mean_and_variance(targets, jnp.maximum(counts, 1.0))
    moments = moments.update(moments.mean + shift, target_variance, value_decay, counts > 0)
    to_explain = jnp.sum(counts * target_variance) / count
    normalize = moments.normalize if moments.mean.ndim == 0 else jax.vmap(moments.normalize)
    batch = Batch(
        inputs=steps.inputs,
        action=steps.action,
        log_prob=jax.vmap(flat)(log_prob),
        advantage=(advantage - mean) / (jnp.sqrt(variance) + 1e-8),
        target=normalize(target),
        mask=mask,
        weight=weight * count / kept,
    )
    explained = 1.0 - unexplained / jnp.maximum(to_explain, 1e-8)
    return batch, moments, {"value_explained": explained, "advantage_std": jnp.sqrt(variance)}


def measure(family: TaskFamily, trajectory: Trajectory) -> dict[str, Array]:
    """Returns per trial and episode, averaged over all tasks; leaves ``[B, E, T]``."""
    returns = jnp.sum(trajectory.reward, axis=2)
    length = jnp.sum(trajectory.mask, axis=2, dtype=jnp.float32)
    return bound_share(family, trajectory) | parallel.mean_over_tasks(
        {
            "return": jnp.sum(returns, axis=1),
            "return_first_episode": returns[:, 0],
            "return_last_episode": returns[:, -1],
            "episode_length": jnp.mean(length, axis=1),
        }
    )


def bound_share(family: TaskFamily, trajectory: Trajectory) -> dict[str, Array]:
    """Returns the metric ``action_at_bound`` of steps ``[B, E, T]``; none without bounds.

    It is the share of the entries of actions that are at a bound, to a thousandth of half the
    range, or beyond it.
    """
    space = family.action_space
    if not isinstance(space, Box) or not space.bounded.any():
        return {}

    def count(action: Array) -> Array:
        out = (jnp.abs(space.to_unit(action)) >= 1.0 - 1e-3) & space.bounded
        return jnp.sum(out, dtype=jnp.float32)

    at_bound = each_step(jax.vmap(count))(trajectory.action) * trajectory.mask
    entries = trajectory.mask * float(space.bounded.sum())
    total, of = parallel.sum_over_devices((jnp.sum(at_bound), jnp.sum(entries)))
    return {"action_at_bound": total / of}


def seen(
    family: TaskFamily, moments: InputMoments, obs: Any, mask: Array, reward: Array | None = None
) -> InputMoments:
    """Returns moments of inputs that have seen the steps of all devices, too.

    Args:
        family: Says what an observation is.
        moments: What was seen before.
        obs: Observations, leaves ``[B, E, T, ...]``.
        mask: Whether a step was played, ``[B, E, T]``.
        reward: ``[B, E, T]``; may be None where its moments are not kept.
    """
    flattened = each_step(jax.vmap(family.observation_space.flatten))(obs)

    def updated(moments: Moments | None, x: Any) -> Moments | None:
        if moments is None:
            return None
        played = jnp.broadcast_to(jnp.expand_dims(mask, tuple(range(3, x.ndim))), x.shape)
        steps = (0, 1, 2)
        total, count = parallel.sum_over_devices(
            (jnp.sum(x, steps, where=played), jnp.sum(played, steps, dtype=jnp.float32))
        )
        mean = total / count
        # About the mean, not about 0: squares of what is far from it lose their digits.
        apart = jnp.where(played, x - jnp.expand_dims(mean, steps), 0.0)
        squares = parallel.sum_over_devices(jnp.sum(apart**2, steps))
        return moments.update(mean, squares / count, _INPUT_DECAY, jnp.asarray(True))

    return InputMoments(updated(moments.obs, flattened), updated(moments.reward, reward))


def _mean_and_variance(sums: tuple[Array, Array], count: Array) -> tuple[Array, Array]:
    mean = sums[0] / count
    return mean, jnp.maximum(sums[1] / count - mean**2, 0.0)
