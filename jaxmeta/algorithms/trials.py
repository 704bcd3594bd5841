"""From played trials to what a policy optimiser learns from; shared by on-policy algorithms.

Axes: B tasks of this device, E episodes, T steps of an episode, L = E T steps of a trial.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta import parallel
from jaxmeta.algorithms.policy_optimizer import Batch
from jaxmeta.networks import ActorCritic
from jaxmeta.ops.moments import Moments
from jaxmeta.risk import Risk, return_statistics
from jaxmeta.rollout import Act
from jaxmeta_envs.base import PolicyInput, Trajectory


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


def flat(x: Array) -> Array:
    """``[E, T, ...] -> [L, ...]``."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def risk_weights(risk: Risk, trajectory: Trajectory, updates: Array) -> tuple[Array, Array]:
    """Weighs this device's tasks by what a risk measure makes of all of them.

    Args:
        risk: The measure.
        trajectory: Leaves ``[B, E, T]``.
        updates: Updates done so far.

    Returns:
        Weights ``[B]``, and the mean of all weights: the share of tasks that counts.
    """
    returns = parallel.gather_tasks(jnp.sum(trajectory.reward, axis=(1, 2)))
    weights = risk.weights(returns, updates)
    return parallel.own_tasks(weights), jnp.mean(weights)


def make_batch(
    trajectory: Trajectory,
    log_prob: Array,
    advantage: Array,
    value: Array,
    weight: Array,
    moments: Moments,
    value_decay: float,
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

    Returns:
        The batch, new moments, and the metric ``value_explained``: the share of the
        targets' variance that the value estimate explains.
    """
    steps = jax.tree.map(jax.vmap(flat), trajectory)
    mask, target = steps.mask, advantage + value
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
            sums(advantage, mask),
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
    return batch, moments, {"value_explained": 1.0 - unexplained / jnp.maximum(to_explain, 1e-8)}


def measure(trajectory: Trajectory) -> dict[str, Array]:
    """Returns per trial and episode, over all tasks; leaves ``[B, E, T]``.

    The return of a trial is described by its mean and by `return_statistics`.
    """
    returns = jnp.sum(trajectory.reward, axis=2)
    length = jnp.sum(trajectory.mask, axis=2, dtype=jnp.float32)
    totals = jnp.sum(returns, axis=1)
    means = parallel.mean_over_tasks(
        {
            "return": totals,
            "return_first_episode": returns[:, 0],
            "return_last_episode": returns[:, -1],
            "episode_length": jnp.mean(length, axis=1),
        }
    )
    return means | return_statistics(parallel.gather_tasks(totals))


def _mean_and_variance(sums: tuple[Array, Array], count: Array) -> tuple[Array, Array]:
    mean = sums[0] / count
    return mean, jnp.maximum(sums[1] / count - mean**2, 0.0)
