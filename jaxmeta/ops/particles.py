"""Weighted particles: how even the weights are, resampling, moments and quantiles.

Weights are kept as logarithms. Axes: N particles, k coordinates.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

_HALVINGS = 50  # the first increment of a likelihood of many steps may be 1e-8 and less


def normalize(log_weights: Array) -> Array:
    """Returns ``log_weights [N]`` shifted so that the weights sum to 1."""
    chex.assert_rank(log_weights, 1)
    return jax.nn.log_softmax(log_weights)


def effective_share(log_weights: Array) -> Array:
    """Returns the effective sample size as a share of N, ``(Σ w)² / (N Σ w²)``.

    1 where all weights are equal, 1 / N where one particle has all the weight.
    """
    return jnp.exp(-logsumexp(2.0 * normalize(log_weights))) / log_weights.shape[0]


def temper(log_likelihood: Array, power: Array) -> Array:
    """Returns ``power * log_likelihood``, where the impossible stays so at power 0."""
    return jnp.where(log_likelihood > -jnp.inf, power * log_likelihood, -jnp.inf)


def next_increment(log_likelihood: Array, most: Array, share: float) -> Array:
    """Returns how much further evenly weighted particles can be tempered.

    It is the largest ``δ ≤ most`` at which the weights ``L^δ`` have an effective sample
    size of ``share`` of the particles, by bisection: it falls as δ grows. Of the particles
    only those count that are possible (``L > 0``); with none, δ is 0.

    Args:
        log_likelihood: ``[N]``; may be ``-inf``.
        most: What is left to go, scalar.
        share: Above 0 and below 1.
    """
    least = share * jnp.mean(log_likelihood > -jnp.inf)

    def even(increment: Array) -> Array:  # False for NaN, of no possible particle
        return effective_share(temper(log_likelihood, increment)) >= least

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        good = even(middle)
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    low, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(most), most))
    return jnp.where(even(most), most, low)


def systematic_indices(offset: Array, log_weights: Array) -> Array:
    """Returns which particles survive systematic resampling, int32 ``[N]``.

    A comb of N teeth, ``(i + offset) / N``, is laid over the cumulated weights: particle i
    survives ``N w_i`` times, rounded up or down.

    Args:
        offset: Uniform on [0, 1), scalar.
        log_weights: ``[N]``, not necessarily normalised.
    """
    n = log_weights.shape[0]
    cumulated = jnp.cumsum(jnp.exp(normalize(log_weights)))
    teeth = (jnp.arange(n) + offset) / n * cumulated[-1]
    # Rounding may put the last tooth on the end, past the last particle with a weight.
    last = jnp.searchsorted(cumulated, cumulated[-1], side="left")
    return jnp.minimum(jnp.searchsorted(cumulated, teeth, side="right"), last).astype(jnp.int32)


def weighted_moments(x: Array, log_weights: Array) -> tuple[Array, Array]:
    """Returns mean and standard deviation, ``[k]`` each, of particles ``x [N, k]``."""
    chex.assert_rank([x, log_weights], [2, 1])
    weights = jnp.exp(normalize(log_weights))[:, None]
    mean = jnp.sum(weights * x, axis=0)
    return mean, jnp.sqrt(jnp.sum(weights * (x - mean[None]) ** 2, axis=0))


def weighted_quantile(x: Array, log_weights: Array, level: float) -> Array:
    """Returns a quantile of particles ``x [N]``, linear between neighbours, scalar.

    Every particle stands in the middle of its step of the distribution function.
    """
    chex.assert_rank([x, log_weights], 1)
    order = jnp.argsort(x)
    weights = jnp.exp(normalize(log_weights))[order]
    return jnp.interp(level, jnp.cumsum(weights) - 0.5 * weights, x[order])
