"""The one kind of interval of the page: t intervals, from what the files keep of a measurement.

Files keep the mean of each seed, and where they were written so the standard error over seeds and
tasks; the returns themselves are too many to keep. Both are enough for an interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
MARKS = {"seeds and tasks": "", "seeds": " ˢ", "tasks": " ᵗ"}
"""What stands behind an interval, by what it is an interval over."""


class Estimate(NamedTuple):
    """A mean and its interval.

    Attributes:
        value: The mean.
        low: Lower end of its 95 % interval.
        high: Upper end.
        over: What would be drawn anew: a key of `MARKS`.
    """

    value: float
    low: float
    high: float
    over: str


def crossed(per_seed: Sequence[float], standard_error: float, num_tasks: int) -> Estimate:
    """Returns the interval over seeds and tasks, which are crossed.

    The squared standard error is a part that the seeds' means show, with S - 1 degrees of
    freedom, and what is left of it, which is due to the tasks, with B - 1. Each counts with the
    square of its own quantile of Student's t. With one seed the interval is over tasks alone.

    Args:
        per_seed: Mean of each seed over the tasks ``[S]``.
        standard_error: Of the mean over both; see `jaxmeta.ops.statistics.standard_error`.
        num_tasks: B, the same for all seeds.
    """
    seeds = len(per_seed)
    if seeds == 1:
        return _around(per_seed[0], standard_error, num_tasks - 1, "tasks")
    of_seeds = float(np.var(per_seed, ddof=1)) / seeds
    of_tasks = max(standard_error**2 - of_seeds, 0.0)
    of_both = _quantile(seeds - 1) ** 2 * of_seeds + _quantile(num_tasks - 1) ** 2 * of_tasks
    value, reach = float(np.mean(per_seed)), math.sqrt(of_both)
    return Estimate(value, value - reach, value + reach, "seeds and tasks")


def over_seeds(per_seed: Sequence[float]) -> Estimate:
    """Returns the interval over seeds alone, for these very tasks.

    It has no ends for one seed, or where a seed's mean is infinite.
    """
    value, seeds = float(np.mean(per_seed)), len(per_seed)
    if seeds == 1 or math.isinf(value):
        return Estimate(value, -math.inf, math.inf, "seeds")
    error = float(np.std(per_seed, ddof=1)) / math.sqrt(seeds)
    return _around(value, error, seeds - 1, "seeds")


def over_tasks(value: float, standard_error: float, num_tasks: int) -> Estimate:
    """Returns the interval of a policy that was not trained, over tasks."""
    return _around(value, standard_error, num_tasks - 1, "tasks")


def difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Returns by how much ``first`` exceeds ``second`` on average: two sets of seeds (Welch)."""
    parts = [float(np.var(x, ddof=1)) / len(x) for x in (first, second)]
    spread = sum(p**2 / (len(x) - 1) for p, x in zip(parts, (first, second), strict=True))
    value, total = float(np.mean(first) - np.mean(second)), sum(parts)
    freedom = total**2 / spread if spread > 0 else math.inf
    return _around(value, math.sqrt(total), freedom, "seeds")


def _around(value: float, error: float, freedom: float, over: str) -> Estimate:
    reach = _quantile(freedom) * error
    return Estimate(value, value - reach, value + reach, over)


def _quantile(freedom: float) -> float:
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))


def shown(estimate: Estimate, digits: int) -> str:
    """Returns ``6.62 [6.59, 6.65]`` with the mark of what the interval is over."""
    value, low, high = (f"{x:.{digits}f}" for x in estimate[:3])
    if math.isinf(estimate.value):
        return "∞"
    if math.isinf(estimate.low):
        return f"{value} (one seed)"
    return f"{value} [{low}, {high}]{MARKS[estimate.over]}"


def verdict(
    ours: Estimate,
    published: float,
    digits: int,
    higher_is_better: bool,
    best: float | None = None,
) -> str:
    """Says where our interval lies beside a published figure.

    Args:
        ours: Our estimate.
        published: The figure.
        digits: Decimals that it was published with: it is known to half of the last one.
        higher_is_better: Whether being above it is better.
        best: The exact optimum, where it is known: a published mean beyond it owes that to luck,
            and is no bar.
    """
    rounding = 0.5 * 10.0**-digits
    if best is not None and ours.low <= best <= ours.high:
        beyond = published - best if higher_is_better else best - published
        if beyond > rounding:
            return "match of the optimum, which the paper's is beyond"
    if ours.high < published - rounding:
        return "below (worse)" if higher_is_better else "below (better)"
    if ours.low > published + rounding:
        return "above (better)" if higher_is_better else "above (worse)"
    return "match"


def told_apart(first: Estimate, second: Estimate) -> str:
    """Says which of two is above the other, if their intervals do not meet."""
    if first.low > second.high:
        return "above"
    if first.high < second.low:
        return "below"
    return "not told apart from"
