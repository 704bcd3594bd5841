"""95 % intervals of what seeds reach on tasks; pure NumPy, float64.

Axes: S training seeds, Z those of another run, B held-out tasks, R repetitions of the
bootstrap. Seeds and tasks are *crossed*: every seed meets the same tasks, so two returns of
one task, or of one seed, are not independent, and no interval may pretend that they are.

Means, differences of means and probabilities have intervals over seeds and tasks, from the
model of crossed random effects ``x[s, b] = μ + seed[s] + task[b] + rest[s, b]``. The variance
of what is estimated is a sum of two parts: of tasks, known well, and of seeds, known badly,
since seeds are few. Each is multiplied by the square of its own quantile of Student's t, and
the root of the sum is half the width (Cochran's weighting of quantiles; "MOVER" of Zou and
Donner). One quantile at the degrees of freedom of Satterthwaite covers less: where few seeds
happen to lie close together, they lower the variance and raise the degrees at once.
With one seed nothing is known of others; the interval then is over tasks only, which
`reach` says. ``docs/statistics.md`` has the coverage that `scripts/reproduce/interval_coverage.py`
measures.

Other statistics (`bootstrap`) have intervals over tasks only, the seeds held.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from jaxmeta.ops.statistics import Statistic, win_table

_UPPER = 0.975
_NORMAL = float(special.ndtri(_UPPER))
_CHUNK_ENTRIES = 2_000_000  # 16 MB of float64 per temporary
_FEWEST_REPETITIONS = 300  # the ends then have a standard error of 4 % of the width
_SORTED_WORK = 1e7  # resampled entries, about half a second of one core with `iqm`

Ends = tuple[np.ndarray, np.ndarray]
"""Lower and upper ends."""


class _Variance(NamedTuple):
    """The variance of an estimate, in parts.

    Attributes:
        seeds: What comes of the seeds, at least 0.
        seed_degrees: Degrees of freedom of it.
        tasks: What comes of the tasks and of the rest.
        task_degrees: Degrees of freedom of it.
    """

    seeds: np.ndarray
    seed_degrees: np.ndarray
    tasks: np.ndarray
    task_degrees: int

    def half(self) -> np.ndarray:
        """Returns half the width of the interval."""
        of_seeds = _quantile(self.seed_degrees) ** 2 * self.seeds
        return np.sqrt(of_seeds + _quantile(self.task_degrees) ** 2 * self.tasks)


def reach(*seeds: int, tasks: str = "tasks") -> str:
    """Returns what an interval of a mean is over, in words.

    Args:
        seeds: Seeds of the run, or of either run of a difference.
        tasks: What the second axis holds.
    """
    if max(seeds) == 1:
        return f"{tasks} only"
    if min(seeds) == 1:
        return f"{tasks} and the seeds of {'XY'[seeds.index(max(seeds))]} only"
    return f"seeds and {tasks}"


def methods(*seeds: int) -> dict[str, str]:
    """Returns of which kind the interval of each statistic is, for reports to say."""
    held = "percentile bootstrap over tasks only"
    return {"mean": f"t over {reach(*seeds)}", "iqm": held, "cvar10": held}


@np.errstate(invalid="ignore")  # of infinities
def standard_error(values: ArrayLike) -> np.ndarray:
    """Returns the standard error of the mean over seeds and tasks.

    With one seed (or one task) this is the usual ``std / sqrt(n)``. With several it is the
    root of ``σ²_seed / S + σ²_task / B + σ²_rest / (S B)``, whose estimate from the two-way
    table is unbiased, but for ``σ²_seed``, of which a negative estimate counts as zero.

    Args:
        values: ``[S, B, ...]``; every trailing entry is treated by itself.

    Returns:
        float64, of the trailing shape; NaN if there is but one value, or one that is not
        finite.
    """
    x = _crossed(values)
    variance = _variance(x.mean(axis=0), (x,))
    return _unless_single(np.sqrt(variance.seeds + variance.tasks), x.shape[:2])


@np.errstate(invalid="ignore")
def mean_interval(values: ArrayLike) -> Ends:
    """Returns a 95 % interval of the mean over seeds and tasks.

    With one seed it is the usual t interval, over tasks.

    Args:
        values: ``[S, B, ...]``; every trailing entry is treated by itself.

    Returns:
        Ends of the trailing shape; NaN if there is but one value, or one that is not finite.
    """
    x = _crossed(values)
    by_task = x.mean(axis=0)
    half = _unless_single(_variance(by_task, (x,)).half(), x.shape[:2])
    return _around(by_task, half)


@np.errstate(invalid="ignore")  # of two that diverged the difference is NaN
def difference_interval(x: ArrayLike, y: ArrayLike) -> Ends:
    """Returns a 95 % interval of ``mean(x) - mean(y)``, two runs on the same tasks.

    They are paired over tasks, so what makes a task hard for both cancels, but not over
    seeds: seed 3 of one run has nothing in common with seed 3 of the other. A run with
    one seed adds nothing for its seeds.

    Args:
        x: ``[S, B, ...]``; every trailing entry is treated by itself.
        y: ``[Z, B, ...]``; the tasks are those of ``x``.

    Returns:
        Ends of the trailing shape; NaN as in `mean_interval`.
    """
    x, y = _crossed(x), _crossed(y)
    if x.shape[1:] != y.shape[1:]:
        shapes = f"{x.shape} and {y.shape}"
        raise ValueError(f"values have shapes {shapes}; they must be [seeds, tasks] of equal tasks")
    gap = x.mean(axis=0) - y.mean(axis=0)
    half = _variance(gap, (x, y)).half()
    return _around(gap, _unless_single(half, (len(x), len(y), x.shape[1])))


def probability_interval(x: ArrayLike, y: ArrayLike) -> tuple[float, float]:
    """Returns a 95 % interval of the probability of improvement, the mean of `win_table`.

    It is made on the probit scale and so stays inside 0 to 1. The part of the tasks is
    read off the wins themselves, to which one more task with a tie is added, so that a
    run that won everywhere does not claim certainty. Wins say little of the seeds, though:
    few seeds that happen to lie apart win all or nothing. Their part is read off the
    returns instead, as normal scores of their ranks (so any increasing transformation of
    the returns gives the same interval): the variance that seeds give the mean difference,
    over the variance of a single difference, is what they give the probit of the
    probability; to this comes the error of that divisor. Ties make differences rarer than
    their variance says, for which π/2 times the share without ties is the factor, at most 1:
    exact for returns of 0 or 1.

    Args:
        x: ``[S, B]``.
        y: ``[Z, B]``; the tasks are those of ``x``.

    Returns:
        Lower and upper end; NaN if there is but one pair, or a NaN among the values. Where
        all is tied both are 0.5.
    """
    wins = win_table(x, y)
    seeds, others, tasks = wins.shape
    if wins.size == 1 or np.isnan(wins).any():
        return math.nan, math.nan
    scores = _normal_scores(np.asarray(x, np.float64), np.asarray(y, np.float64))
    by_task, won = wins.mean(axis=(0, 1)), float(wins.mean())
    known = max(tasks, seeds * others)
    probit = special.ndtri((known * won + 0.5) / (known + 1))
    density = math.exp(-(probit**2) / 2) / math.sqrt(2 * math.pi)
    squares = np.sum((by_task - won) ** 2) + (won - 0.5) ** 2 * tasks / (tasks + 1)
    of_tasks = squares / (tasks * (tasks + 1)) if tasks > 1 else 0.0
    decided = min(1.0, math.pi / 2 * float(np.mean(wins != 0.5)))
    of_seeds = _seed_half_squared(*scores, float(probit))
    half = _quantile(max(tasks - 1, 1)) ** 2 * of_tasks / density**2 + decided * of_seeds
    low, high = special.ndtr(probit + np.array([-1, 1]) * math.sqrt(half))
    return min(float(low), won), max(float(high), won)


def bootstrap(
    values: ArrayLike, statistic: Statistic, *, repetitions: int = 2000, seed: int = 0
) -> Ends:
    """Returns a 95 % percentile bootstrap interval of any statistic over tasks only.

    Every repetition draws B tasks with replacement; the seeds are held, and a task's
    returns stay together. So it says how much these very seeds owe to the tasks, and nothing of
    other seeds: of few seeds the tails and the middle of their distribution cannot be told.

    Args:
        values: ``[S, B]``.
        statistic: Such as `jaxmeta.ops.statistics.iqm`: called with values ``[r, S * B]`` and
            ``axis=-1``. It may return several numbers per repetition, ``[r, ...]``.
        repetitions: R. Fewer are made, but never below 300, where 2000 would take longer
            than about half a second; the ends then wobble by up to 4 % of the width.
        seed: Seed of the resampling; equal seeds, equal intervals.

    Returns:
        Ends of the statistic's trailing shape; NaN if there is but one task.
    """
    x = _crossed(values)
    if x.ndim != 2:
        raise ValueError(f"values have shape {x.shape}; it must be [seeds, tasks]")
    seeds, tasks = x.shape
    fewest = min(repetitions, _FEWEST_REPETITIONS)
    repetitions = max(min(repetitions, int(_SORTED_WORK / x.size)), fewest)
    rng, by_task = np.random.default_rng(seed), np.ascontiguousarray(x.T)
    chunk = max(1, _CHUNK_ENTRIES // x.size)
    results = []
    for start in range(0, repetitions, chunk):  # chunks do not change the draws
        drawn = rng.integers(0, tasks, (min(chunk, repetitions - start), tasks), dtype=np.int32)
        results.append(statistic(by_task[drawn].reshape(len(drawn), seeds * tasks), axis=-1))
    samples = np.concatenate(results)
    if tasks == 1:  # resampling one task would claim certainty
        return np.full(samples.shape[1:], np.nan), np.full(samples.shape[1:], np.nan)
    low, high = np.quantile(samples, (1 - _UPPER, _UPPER), axis=0)
    return low, high


def _quantile(degrees: ArrayLike) -> np.ndarray:
    return special.stdtrit(degrees, _UPPER)


def _crossed(values: ArrayLike) -> np.ndarray:
    x = np.asarray(values, np.float64)
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"values have shape {x.shape}; it must be [seeds, tasks, ...], not empty")
    return x


def _unless_single(half: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    return np.full_like(half, np.nan) if max(sizes) == 1 else half


def _around(by_task: np.ndarray, half: np.ndarray) -> Ends:
    middle = by_task.mean(axis=0)
    return middle - half, middle + half


def _variance(by_task: np.ndarray, runs: tuple[np.ndarray, ...]) -> _Variance:
    """Returns the variance of a mean, or of a difference of means.

    Args:
        by_task: What it is the mean of, ``[B, ...]``.
        runs: ``[S, B, ...]`` each, one of them or two.
    """
    parts = [_seed_variance(x) / len(x) for x in runs]
    degrees = [max(len(x) - 1, 1) for x in runs]
    # Two runs: each part may be lowered by the other's negative estimate, the sum stays >= 0.
    seeds = np.maximum(np.sum(parts, axis=0), 0)
    return _Variance(
        seeds,
        _satterthwaite([np.maximum(part, 0) for part in parts], degrees),
        by_task.var(axis=0, ddof=1) / len(by_task) if len(by_task) > 1 else np.zeros_like(seeds),
        max(len(by_task) - 1, 1),
    )


def _seed_variance(x: np.ndarray) -> np.ndarray:
    """Returns the variance of seeds beyond what tasks and rest explain; it may be negative."""
    seeds, tasks = x.shape[:2]
    if seeds == 1:
        return np.zeros(x.shape[2:])
    by_seed = x.mean(axis=1)
    if tasks == 1:
        return by_seed.var(axis=0, ddof=1)
    rest = x - by_seed[:, None] - x.mean(axis=0)[None] + x.mean(axis=(0, 1))
    rest_square = np.sum(rest**2, axis=(0, 1)) / ((seeds - 1) * (tasks - 1))
    return by_seed.var(axis=0, ddof=1) - rest_square / tasks


def _satterthwaite(parts: list[np.ndarray], degrees: list[int]) -> np.ndarray:
    """Returns the degrees of freedom of a sum of variances; of none, the fewest.

    A variance of few degrees is often far too low, and would then not count: 3 seeds
    against 10 would get the degrees of the 10, and 93 % coverage. So it weighs more here, by
    ``1 + 4 / degrees``, which changes nothing between equals.
    """
    weighed = [part * (1 + 4 / d) for part, d in zip(parts, degrees, strict=True)]
    squares = np.sum([part**2 / d for part, d in zip(weighed, degrees, strict=True)], axis=0)
    total = np.sum(weighed, axis=0) ** 2
    return np.where(squares > 0, total / np.where(squares > 0, squares, 1), min(degrees))


def _normal_scores(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both with their values replaced by normal scores of their ranks among both."""
    pooled = np.concatenate([x, y])
    _, place, number = np.unique(pooled, return_inverse=True, return_counts=True)
    ranks = np.cumsum(number) - number / 2
    scores = special.ndtri(ranks / pooled.size)[place].reshape(pooled.shape)
    return scores[: len(x)], scores[len(x) :]


def _seed_half_squared(x: np.ndarray, y: np.ndarray, probit: float) -> float:
    """Returns what seeds add to the square of half the width, on the probit scale."""
    variance = _variance(x.mean(axis=0) - y.mean(axis=0), (x, y))
    parts = [max(float(_seed_variance(run)), 0.0) for run in (x, y)]
    over_tasks = (x[:, None] - y[None]).var(axis=-1, ddof=1).mean() if x.shape[1] > 1 else 0.0
    single = sum(parts) + float(over_tasks)
    if single == 0:
        return 0.0
    # The variance of a variance with n - 1 degrees of freedom is 2 / (n - 1) of its square.
    of_variance = sum(2 * p**2 / max(len(r) - 1, 1) for p, r in zip(parts, (x, y), strict=True))
    of_scale = probit**2 * of_variance / (4 * single**2)
    of_mean = _quantile(variance.seed_degrees) ** 2 * variance.seeds / single
    return float(of_mean + _NORMAL**2 * of_scale)
