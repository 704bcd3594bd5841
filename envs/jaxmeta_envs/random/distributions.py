"""Distributions over physical parameters, as pytrees of numbers.

The leaves are independent of each other. A distribution is a value like any other: it is
batched, differentiated and updated by the functions of ``jax.tree``, and what it draws has
the structure of its own fields, such as the task of a family.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import log_ndtr, ndtr, ndtri
from jax.scipy.stats import norm

Parameters = TypeVar("Parameters")


class Uniform(NamedTuple, Generic[Parameters]):
    """Every parameter uniform on an interval of its own.

    Attributes:
        low: Lower ends, a pytree of float arrays.
        high: Upper ends, of the same structure and shapes.
    """

    low: Parameters
    high: Parameters

    def sample(self, key: Array) -> Parameters:
        """Draws parameters with the structure of ``low``."""
        return _sample_leaves(_sample_uniform, key, *self)

    def log_prob(self, parameters: Parameters) -> Array:
        """Returns the log-density, float32 scalar; ``-inf`` outside the intervals."""
        return _sum_leaves(_uniform_log_prob, parameters, *self)

    def location(self) -> tuple[Parameters, Parameters]:
        """Returns mean and standard deviation of every parameter."""
        mean = jax.tree.map(lambda low, high: (low + high) / 2, *self)
        return mean, jax.tree.map(lambda low, high: (high - low) / 12**0.5, *self)


class TruncatedNormal(NamedTuple, Generic[Parameters]):
    """Every parameter normal, on condition that it falls in an interval of its own.

    Attributes:
        mean: Mean before truncation, a pytree of float arrays.
        std: Standard deviation before truncation, above 0.
        low: Lower ends; may be ``-inf``.
        high: Upper ends; may be ``inf``.

    All four have the same structure and shapes. In float32 the interval may begin up to 12
    standard deviations away from the mean.

    Reference:
        Rajeswaran et al. (2017), "EPOpt: learning robust neural network policies using
        model ensembles", Table 1: the source distributions.
    """

    mean: Parameters
    std: Parameters
    low: Parameters
    high: Parameters

    def sample(self, key: Array) -> Parameters:
        """Draws parameters with the structure of ``mean``."""
        return _sample_leaves(_sample_truncated_normal, key, *self)

    def log_prob(self, parameters: Parameters) -> Array:
        """Returns the log-density, float32 scalar; ``-inf`` outside the intervals."""
        return _sum_leaves(_truncated_normal_log_prob, parameters, *self)

    def location(self) -> tuple[Parameters, Parameters]:
        """Returns mean and standard deviation of every parameter, truncation included.

        Averages over `_QUANTILES` quantiles, which is safe wherever the interval lies; the
        standard deviation is right to about 1 %.
        """
        spread = jax.tree.map(_quantiles, *self)
        return (
            jax.tree.map(lambda x: jnp.mean(x, axis=0), spread),
            jax.tree.map(lambda x: jnp.std(x, axis=0), spread),
        )


_QUANTILES = 200

Distribution = Uniform[Parameters] | TruncatedNormal[Parameters]


def as_truncated_normal(distribution: Distribution[Parameters]) -> TruncatedNormal[Parameters]:
    """Returns the distribution in the form that adaptation updates.

    A uniform one becomes so wide a normal that its density varies by less than 1 % over the
    interval.
    """
    if isinstance(distribution, TruncatedNormal):
        return distribution
    low, high = (jax.tree.map(jnp.float32, tree) for tree in distribution)
    middle = jax.tree.map(lambda a, b: (a + b) / 2, low, high)
    # An interval of one point needs a width too.
    std = jax.tree.map(lambda a, b: jnp.where(b > a, 4.0 * (b - a), 1.0), low, high)
    return TruncatedNormal(middle, std, low, high)


def _sample_leaves(draw: Callable[..., Array], key: Array, first: Any, *others: Any) -> Any:
    keys = jax.tree.unflatten(
        jax.tree.structure(first), list(jax.random.split(key, len(jax.tree.leaves(first))))
    )
    return jax.tree.map(draw, keys, first, *others)


def _sum_leaves(log_prob: Callable[..., Array], *trees: Any) -> Array:
    terms = jax.tree.leaves(jax.tree.map(lambda *leaves: jnp.sum(log_prob(*leaves)), *trees))
    return jnp.sum(jnp.stack(terms))


def _sample_uniform(key: Array, low: Array, high: Array) -> Array:
    low, high = jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)
    return low + (high - low) * jax.random.uniform(key, low.shape, jnp.float32)


def _uniform_log_prob(x: Array, low: Array, high: Array) -> Array:
    inside = (x >= low) & (x <= high)
    return jnp.where(inside, -jnp.log(jnp.asarray(high - low, jnp.float32)), -jnp.inf)


def _standardize(mean: Array, std: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Returns ``(sign, a, b)``: the interval in standard deviations, mirrored if sign is -1.

    Of the two ways to look at it the one is taken in which less of the interval lies in the
    upper tail, where the distribution function is 1 up to rounding.
    """
    a, b = (low - mean) / std, (high - mean) / std
    mirror = a + b > 0
    return jnp.where(mirror, -1.0, 1.0), jnp.where(mirror, -b, a), jnp.where(mirror, -a, b)


def _sample_truncated_normal(key: Array, mean: Array, std: Array, low: Array, high: Array) -> Array:
    uniform = jax.random.uniform(
        key, jnp.shape(mean), jnp.float32, float(jnp.finfo(jnp.float32).tiny), 1.0
    )
    return _quantile(uniform, mean, std, low, high)


def _quantile(uniform: Array, mean: Array, std: Array, low: Array, high: Array) -> Array:
    """Returns where a truncated normal has the share ``uniform``, or 1 minus it, below it."""
    mean, std, low, high = (jnp.asarray(x, jnp.float32) for x in (mean, std, low, high))
    sign, a, b = _standardize(mean, std, low, high)
    below = ndtr(a)
    # Never 0 or 1, of which the quantile would be infinite.
    tiny = float(jnp.finfo(jnp.float32).tiny)
    share = jnp.clip(below + uniform * (ndtr(b) - below), tiny, 1 - 2**-24)
    # Rounding may lead out of the interval.
    return jnp.clip(mean + std * sign * ndtri(share), low, high)


def _quantiles(mean: Array, std: Array, low: Array, high: Array) -> Array:
    """Returns evenly spaced quantiles, ``[_QUANTILES, ...]``."""
    shares = (jnp.arange(_QUANTILES, dtype=jnp.float32) + 0.5) / _QUANTILES
    return jax.vmap(lambda u: _quantile(jnp.full(jnp.shape(mean), u), mean, std, low, high))(shares)


def _truncated_normal_log_prob(x: Array, mean: Array, std: Array, low: Array, high: Array) -> Array:
    x, mean, std, low, high = (jnp.asarray(v, jnp.float32) for v in (x, mean, std, low, high))
    _, a, b = _standardize(mean, std, low, high)
    # log(Phi(b) - Phi(a)), without cancellation far out in the tail.
    log_a, log_b = log_ndtr(a), log_ndtr(b)
    log_mass = log_b + jnp.log1p(-jnp.exp(log_a - log_b))
    density = norm.logpdf((x - mean) / std) - jnp.log(std) - log_mass
    return jnp.where((x >= low) & (x <= high), density, -jnp.inf)
