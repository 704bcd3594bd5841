"""What an algorithm makes large of the returns over tasks: their mean, or their lower tail.

A risk measure is a part like any other: it gives every task of a batch a weight, and the
policy is improved on the weighted batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import chex
import jax.numpy as jnp
from jax import Array
from typing_extensions import TypeAliasType

from jaxmeta.schedules import Schedule, check_share, value_at
from jaxmeta.statistics import PERCENTILES
from jaxmeta_envs.errors import require


class Risk(ABC):
    """A measure of many returns; a frozen dataclass of its settings."""

    @abstractmethod
    def weights(self, returns: Array, updates: Array) -> Array:
        """Returns the weight of each task in the objective, from 0 to 1.

        The weighted mean of the returns, ``Σ w R / Σ w``, is the measure, and that of the
        policy gradients is its gradient.

        Args:
            returns: Undiscounted returns of all tasks, ``[n]``.
            updates: Updates done so far, for schedules; int32.
        """

    @abstractmethod
    def check(self, num_tasks: int) -> None:
        """Raises `ConfigError` if a batch of ``num_tasks`` is too small for it."""


@dataclass(frozen=True)
class Mean(Risk):
    """The mean: every task counts alike (EPOpt with ε = 1, domain randomisation)."""

    def weights(self, returns: Array, updates: Array) -> Array:
        del updates
        return jnp.ones_like(returns)

    def check(self, num_tasks: int) -> None:
        pass


@dataclass(frozen=True)
class CVaR(Risk):
    """Conditional value at risk: the mean of the worst ``fraction`` of the returns.

    Of n returns the lowest ``fraction * n`` are kept. Those below the quantile have weight
    1; those equal to it share what is left of ``fraction * n`` evenly, so that weights sum
    to it whatever the ties, and a fractional count keeps its last return in part. Of the
    returns 1, 2, …, 240, ``CVaR(0.1)`` keeps exactly the lowest 24.

    Attributes:
        fraction: ε, above 0 and at most 1, constant or a schedule over updates. With 1 it
            is the mean.

    Reference: Rajeswaran et al. 2017, arXiv 1610.01283; Tamar et al. 2015, arXiv 1404.3862.
    Differs from the paper: it keeps every return at or below the percentile, so with ties
    more than ε n, and never one in part.
    """

    fraction: float | Schedule = 0.1

    def __post_init__(self) -> None:
        check_share(self.fraction, "fraction")
        least = _least(self.fraction)
        require(least > 0, "fraction", self.fraction, "above 0 and at most 1")

    def weights(self, returns: Array, updates: Array) -> Array:
        chex.assert_rank(returns, 1)
        count = returns.shape[0] * value_at(self.fraction, updates)
        # 0.1 * 240 may be a hair off 24 in float32, and is not meant to be.
        whole = jnp.round(count)
        count = jnp.where(jnp.abs(count - whole) < 1e-3, whole, count)
        ordered = jnp.sort(returns)
        last = jnp.clip(jnp.ceil(count).astype(jnp.int32) - 1, 0, returns.shape[0] - 1)
        quantile = ordered[last]
        below, equal = returns < quantile, returns == quantile
        shared = (count - jnp.sum(below)) / jnp.maximum(jnp.sum(equal), 1)
        return jnp.where(below, 1.0, jnp.where(equal, shared, 0.0))

    def check(self, num_tasks: int) -> None:
        least = _least(self.fraction)
        require(
            round(least * num_tasks, 6) >= 1.0,
            "risk.fraction",
            self.fraction,
            f"at least 1 / {num_tasks}, one task of a batch",
        )


# The command line would make "c-va-r" of the capitals; it takes the name of an alias instead.
Cvar = TypeAliasType("Cvar", CVaR)
RiskMeasure = Mean | Cvar
"""A choice of risk measure, as the field of an algorithm."""


def return_statistics(returns: Array) -> dict[str, Array]:
    """Describes how returns are spread over tasks.

    Args:
        returns: Returns of all tasks, ``[n]``.

    Returns:
        ``return_pX`` for the percentiles X (linear interpolation), the 50th as
        ``return_median``, and ``return_cvar10``, the mean of the lowest tenth; below ten
        tasks that is the lowest.
    """
    values = jnp.percentile(returns, jnp.asarray(PERCENTILES, jnp.float32))
    named = dict(zip(PERCENTILES, values, strict=True))
    weights = CVaR(max(0.1, 1.0 / returns.shape[0])).weights(returns, jnp.int32(0))
    return {
        "return_cvar10": jnp.sum(weights * returns) / jnp.sum(weights),
        "return_median": named.pop(50),
        **{f"return_p{level}": value for level, value in named.items()},
    }


def _least(fraction: float | Schedule) -> float:
    if isinstance(fraction, Schedule):
        return min(fraction.initial, fraction.final)
    return fraction
