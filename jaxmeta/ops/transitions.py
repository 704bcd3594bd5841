"""Likelihood of logged transitions under a deterministic model with Gaussian noise.

Axes: T steps, d coordinates of an observation. Noise is independent between coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.ops.trees import select

Predict = Callable[[Array, Array], Array]
"""``(obs [d], action) -> next obs [d]``."""

_LOG_2PI = math.log(2.0 * math.pi)


def transition_log_likelihood(
    predict: Predict, obs: Array, action: Array, next_obs: Array, mask: Array, std: Array
) -> Array:
    """Log-likelihood of transitions whose ends are known exactly.

    ::

        log p = Σ_t log N(next_obs_t; predict(obs_t, action_t), diag(std²))

    Args:
        predict: The model.
        obs: ``[T, d]``.
        action: ``[T, ...]``.
        next_obs: ``[T, d]``.
        mask: Which transitions count, ``[T]`` bool; the contents of others mean nothing.
        std: Standard deviation of the transition's noise, above 0, ``[d]``.

    Returns:
        Scalar.
    """
    chex.assert_rank([obs, next_obs, mask, std], [2, 2, 1, 1])

    def one(obs: Array, action: Array, next_obs: Array) -> Array:
        return jnp.sum(_log_normal(next_obs - predict(obs, action), std**2))

    return jnp.sum(jnp.where(mask, jax.vmap(one)(obs, action, next_obs), 0.0))


def filtered_log_likelihood(
    predict: Predict,
    obs: Array,
    action: Array,
    next_obs: Array,
    mask: Array,
    process_std: Array,
    observation_std: Array,
) -> Array:
    """Log-likelihood of an episode of which only noisy readings were logged.

    With ``z`` what was and ``y`` what was read::

        z_{t+1} = predict(z_t, action_t) + process_std ε      y_t = z_t + observation_std η

    it is ``log p(y_1, ..., y_T | y_0)`` with a flat prior on ``z_0``, by a Kalman filter:
    exact where ``predict`` is linear in the observation. (One transition by itself has
    residuals of variance ``F R Fᵀ + Q + R``, and those of consecutive transitions, which
    share a reading, are correlated: scored independently they mislead.)

    Where it is not linear, F is that of divided differences, over √3 standard deviations of
    what the filter believes: the mean slope under a normal, for cubic functions. Unlike
    that of the extended filter it asks for no derivatives, which a simulator may stop (as
    gymnax does) or jump in (contacts).

    The filter starts anew, from ``obs`` alone, after a row that is masked and wherever
    ``obs`` is not the very reading that ``next_obs`` of the row before was.

    Args:
        predict: The model.
        obs: Readings before the steps, ``[T, d]``.
        action: ``[T, ...]``.
        next_obs: Readings after the steps, ``[T, d]``.
        mask: Which steps were played, ``[T]`` bool; the contents of others mean nothing.
        process_std: Standard deviation of the transition's noise, ``[d]``.
        observation_std: Standard deviation of a reading, ``[d]``; in no coordinate both are 0.

    Returns:
        Scalar.

    Reference: Nørgaard, Poulsen & Ravn 2000, "New developments in state estimation for
    nonlinear systems", for divided differences.
    """
    chex.assert_rank([obs, next_obs, mask, process_std, observation_std], [2, 2, 1, 1, 1])
    same = mask[:-1] & jnp.all(obs[1:] == next_obs[:-1], axis=1)
    restart = jnp.concatenate([jnp.ones(1, bool), ~same])
    reading = jnp.diag(observation_std**2)

    def step(belief: tuple[Array, Array], row: tuple) -> tuple[tuple[Array, Array], Array]:
        obs, action, next_obs, played, restart = row
        mean, covariance = select(restart, (obs, reading), belief)
        forecast = _advance(predict, mean, covariance, action, process_std**2)
        new_belief, log_prob = _read(*forecast, next_obs, observation_std**2)
        return select(played, new_belief, belief), jnp.where(played, log_prob, 0.0)

    rows = (obs, action, next_obs, mask, restart)
    return jnp.sum(jax.lax.scan(step, (obs[0], reading), rows)[1])


def _advance(
    predict: Predict, mean: Array, covariance: Array, action: Array, variance: Array
) -> tuple[Array, Array]:
    """Returns mean ``[d]`` and covariance ``[d, d]`` of the next state."""
    size = mean.shape[0]
    # The second term keeps the step above the rounding of float32 where the belief is sure.
    step = jnp.sqrt(3.0 * (jnp.diag(covariance) + variance)) + 1e-4 * jnp.abs(mean)
    center = jnp.broadcast_to(mean, (size, size))
    ahead, behind = center + jnp.diag(step), center - jnp.diag(step)
    points = jnp.concatenate([mean[None], ahead, behind])
    values = jax.vmap(predict, (0, None))(points, action)
    width = jnp.diag(ahead - behind)  # as it was rounded
    slopes = (values[1 : size + 1] - values[size + 1 :]) / width[:, None]
    spread = _product(_product(slopes.T, covariance), slopes)
    return values[0], spread + jnp.diag(variance)


def _read(
    mean: Array, covariance: Array, reading: Array, variance: Array
) -> tuple[tuple[Array, Array], Array]:
    """Returns the belief after a reading, and the reading's log-density before it.

    Coordinate by coordinate, which needs no matrix inverse as the noise is independent, and
    in Joseph's form, which keeps the covariance positive in float32.
    """

    def coordinate(belief: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], Array]:
        mean, covariance = belief
        total = covariance[i, i] + variance[i]
        surprise = reading[i] - mean[i]
        gain = covariance[i] / total
        kept = covariance - gain[:, None] * covariance[i][None, :]
        kept = kept - kept[:, i][:, None] * gain[None, :]
        covariance = kept + variance[i] * gain[:, None] * gain[None, :]
        return (mean + gain * surprise, covariance), _log_normal(surprise, total)

    belief, log_probs = jax.lax.scan(coordinate, (mean, covariance), jnp.arange(mean.shape[0]))
    return belief, jnp.sum(log_probs)


def _product(a: Array, b: Array) -> Array:
    # Not `@`: accelerators round the inputs of matrix products, and these are tiny anyway.
    return jnp.sum(a[:, :, None] * b[None, :, :], axis=1)


def _log_normal(x: Array, variance: Array) -> Array:
    """Log-density of centred normals."""
    return -0.5 * (x**2 / variance + jnp.log(variance) + _LOG_2PI)
