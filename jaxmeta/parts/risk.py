"""What an algorithm makes large of many returns: their mean, or their lower tail.

A risk measure is a part like any other. Of a batch of returns R_i it gives weights w_i, and
``ρ = Σ w R / Σ w``. How ρ is raised depends on what decides which returns are in the tail:

==================================  =========================================================
who                                 the returns, and how their measure is raised
==================================  =========================================================
`RL2`                               of trials with their luck: the actions of a trial decide
                                    whether it is in the tail. Every trial is paid its
                                    `Risk.influence` on ρ, once, at its end, without discount.
`EPOpt`, over ``trajectories``      of trajectories with their luck, likewise.
`EPOpt`, over ``simulators``        of simulators, which no action decides on: the policy
                                    gradients of the kept ones are averaged, by w.
`PolicyMAML`                        of tasks, each the mean return of its episodes after
                                    adaptation: as for simulators.
E-MAML's credit                     of tasks: what is sampled before adaptation is credited
                                    with the task's `Risk.influence`.
`MAML`                              of tasks, each its loss after adaptation, negated: the
                                    gradients of the kept losses are averaged, by w.
==================================  =========================================================

Averaging policy gradients by w is wrong where actions decide on w: that a trial is in the tail
is then itself a reason to do otherwise, and advantages that are centred among the kept trials
have lost it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import chex
import jax.numpy as jnp
from jax import Array

from jaxmeta.ops.statistics import PERCENTILES
from jaxmeta.parts.schedules import Schedule, check_share, value_at
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields


class Risk(ABC):
    """A measure of many returns; a frozen dataclass of its settings."""

    @abstractmethod
    def weights(self, returns: Array, updates: Array) -> Array:
        """Returns the weight of each return in the measure ``Σ w R / Σ w``, from 0 to 1.

        Weights depend on ranks only, and equal returns have equal ones.

        Args:
            returns: Undiscounted returns of all tasks, ``[n]``.
            updates: Updates done so far, for schedules; int32.
        """

    def influence(self, returns: Array, updates: Array) -> Array:
        """Returns what each return adds to the measure of all: paying it out raises the measure.

        With returns in ascending order and w̄ the mean weight::

            U_(1) = 0,    U_(k+1) = U_(k) + w_(k+1) (R_(k+1) - R_(k)) / w̄

        This is, but for a constant and a term of the order of 1 / n, the influence function
        of a measure whose weights depend on ranks, so that the policy gradient with U in
        place of the return is the gradient of the measure. Of the mean it is the return.

        Args:
            returns: Undiscounted returns of all tasks, ``[n]``.
            updates: Updates done so far, for schedules; int32.
        """
        chex.assert_rank(returns, 1)
        weights, order = self.weights(returns, updates), jnp.argsort(returns)
        steps = weights[order][1:] * jnp.diff(returns[order])
        sums = jnp.concatenate([jnp.zeros_like(returns[:1]), jnp.cumsum(steps)])
        return jnp.zeros_like(returns).at[order].set(sums / jnp.mean(weights))

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
    Differs from the paper: EPOpt keeps every return at or below the percentile, so with ties
    more than ε n, and never one in part.
    """

    fraction: float | Schedule = 0.1

    def __post_init__(self) -> None:
        check_fields(self)
        check_share(self.fraction, "fraction")
        least = _least(self.fraction)
        require(least > 0, "fraction", self.fraction, "above 0 and at most 1")

    def weights(self, returns: Array, updates: Array) -> Array:
        count, quantile = self._tail(returns, updates)
        below, equal = returns < quantile, returns == quantile
        shared = (count - jnp.sum(below)) / jnp.maximum(jnp.sum(equal), 1)
        return jnp.where(below, 1.0, jnp.where(equal, shared, 0.0))

    def influence(self, returns: Array, updates: Array) -> Array:
        """Returns ``min(R - VaR, 0) / ε``, ``[n]``: exact, whatever the ties."""
        count, quantile = self._tail(returns, updates)
        return jnp.minimum(returns - quantile, 0.0) * (returns.shape[0] / count)

    def _tail(self, returns: Array, updates: Array) -> tuple[Array, Array]:
        """Returns how many returns are in the tail, and the largest of them."""
        chex.assert_rank(returns, 1)
        count = returns.shape[0] * value_at(self.fraction, updates)
        # 0.1 * 240 may be a hair off 24 in float32, and is not meant to be.
        whole = jnp.round(count)
        count = jnp.where(jnp.abs(count - whole) < 1e-3, whole, count)
        ordered = jnp.sort(returns)
        last = jnp.clip(jnp.ceil(count).astype(jnp.int32) - 1, 0, returns.shape[0] - 1)
        return count, ordered[last]

    def check(self, num_tasks: int) -> None:
        least = _least(self.fraction)
        require(
            round(least * num_tasks, 6) >= 1.0,
            "risk.fraction",
            self.fraction,
            f"at least 1 / {num_tasks}, one task of a batch",
        )


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
