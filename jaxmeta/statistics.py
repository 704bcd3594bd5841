"""Robust statistics of returns over seeds and tasks; pure NumPy, float64.

Axes: S training seeds, B held-out tasks, R repetitions of the bootstrap. Seeds and tasks
are *crossed*: every seed meets the same tasks, so two returns of one task, or of one seed,
are not independent, and neither the standard error nor the bootstrap may pretend that
they are. Two runs that are compared have seeds of their own, S and Z, and tasks in common.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

PERCENTILES = (5, 10, 25, 50, 75, 90)
"""Percentiles of the return over tasks that are reported, while training and after."""

Statistic = Callable[..., np.ndarray]
"""``(values, axis=...) -> values without that axis``."""

_CHUNK_ENTRIES = 2_000_000  # 16 MB of float64 per temporary
_FEWEST_REPETITIONS = 300  # the ends then have a standard error of 4 % of the width
_MEAN_WORK = 5e9  # multiply-adds, about half a second of one core
_SORTED_WORK = 1e7  # resampled entries, about half a second of one core with `iqm`


def mean(values: ArrayLike, axis: int | None = None) -> np.ndarray:
    """Returns the arithmetic mean along ``axis``, or of everything."""
    return np.mean(np.asarray(values, np.float64), axis=axis)


def iqm(values: ArrayLike, axis: int | None = None) -> np.ndarray:
    """Returns the interquartile mean: the mean without the lowest and highest quarter.

    It equals ``scipy.stats.trim_mean(values, 0.25)``: of n values, ``floor(n / 4)`` are
    dropped on either side.
    """
    rows, n = _rows(values, axis)
    cut = n // 4
    if cut == 0:
        return rows.mean(axis=-1)
    return np.partition(rows, (cut, n - cut - 1), axis=-1)[..., cut : n - cut].mean(axis=-1)


def cvar(values: ArrayLike, fraction: float = 0.1, axis: int | None = None) -> np.ndarray:
    """Returns the conditional value at risk: the mean of the lowest ``fraction``.

    Of n values it averages the lowest ``fraction * n``; where that is no integer, the last
    of them counts in part, so the statistic is continuous in ``fraction``. Below one
    value it is the minimum.

    Args:
        values: Returns (higher is better).
        fraction: Share of the values, above 0 and at most 1.
        axis: Axis to reduce; None reduces everything.

    Raises:
        ValueError: If ``fraction`` is out of range.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction!r}; it must be above 0 and at most 1")
    rows, n = _rows(values, axis)
    # The rounding keeps 0.1 * 30, a hair above 3 in floating point, from reading as 3 + ε.
    count = max(round(fraction * n, 9), 1.0)
    whole = int(count)
    lowest = np.partition(rows, (whole - 1, min(whole, n - 1)), axis=-1)
    total = lowest[..., :whole].sum(axis=-1)
    if count > whole:
        total = total + (count - whole) * lowest[..., whole]
    return total / count


def worst(values: ArrayLike, axis: int | None = None) -> np.ndarray:
    """Returns the lowest value along ``axis``, or of everything."""
    return np.min(np.asarray(values, np.float64), axis=axis)


def standard_error(values: ArrayLike) -> np.ndarray:
    """Returns the standard error of the mean over seeds and tasks.

    With one seed (or one task) this is the usual ``std / sqrt(n)``. With several it
    follows the model of two crossed random effects, ``x[s, b] = μ + seed[s] + task[b] +
    rest[s, b]``, whose mean has the variance ``σ²_seed / S + σ²_task / B + σ²_rest / (S B)``.
    The components are estimated from the mean squares of the two-way table, a negative
    estimate counting as zero (which errs upwards where there is hardly any such effect).

    Args:
        values: ``[S, B, ...]``; every trailing entry is treated by itself.

    Returns:
        float64, of the trailing shape; NaN if there is but one value.
    """
    x = _crossed(values)
    seeds, tasks = x.shape[:2]
    if seeds == 1 or tasks == 1:
        n = seeds * tasks
        flat = x.reshape((n, *x.shape[2:]))
        return np.full(x.shape[2:], np.nan) if n == 1 else flat.std(axis=0, ddof=1) / np.sqrt(n)
    by_seed, by_task = x.mean(axis=1), x.mean(axis=0)
    rest = x - by_seed[:, None] - by_task[None] + x.mean(axis=(0, 1))
    rest_square = np.sum(rest**2, axis=(0, 1)) / ((seeds - 1) * (tasks - 1))
    seed_variance = np.maximum(by_seed.var(axis=0, ddof=1) - rest_square / tasks, 0)
    task_variance = np.maximum(by_task.var(axis=0, ddof=1) - rest_square / seeds, 0)
    return np.sqrt(seed_variance / seeds + task_variance / tasks + rest_square / (seeds * tasks))


def win_table(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Returns where ``x`` is above ``y`` on the same task: 1, below 0, and a tie counts half.

    Its mean is the probability of improvement of Agarwal et al. (2021), P(X > Y): that a
    seed of one run, drawn at random, beats one of the other on a task drawn at random. For
    every task it is the statistic U of Mann and Whitney, divided by the number of pairs.
    Only returns of the same task are compared.

    Args:
        x: ``[S, B]``.
        y: ``[Z, B]``; the tasks are those of ``x``.

    Returns:
        float64 ``[S, Z, B]``.
    """
    first, second = _pair(x, y)
    return (first > second) + 0.5 * (first == second)


@np.errstate(invalid="ignore")  # of two that diverged the difference is NaN
def difference_table(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Returns by how much ``x`` exceeds ``y`` on the same task, for all pairs of seeds.

    Args:
        x: ``[S, B]``.
        y: ``[Z, B]``; the tasks are those of ``x``.

    Returns:
        float64 ``[S, Z, B]``.
    """
    first, second = _pair(x, y)
    return first - second


@np.errstate(invalid="ignore")
def bootstrap_mean(
    values: ArrayLike,
    *,
    factors: int = 2,
    confidence: float = 0.95,
    repetitions: int = 2000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a percentile bootstrap interval of the mean over seeds and tasks.

    What is resampled: every repetition draws S seeds and B tasks, each with replacement
    and independently of one another, and averages the table of the drawn seeds × the
    drawn tasks. With one seed, then, only tasks are resampled. (The bootstrap that is
    stratified by task holds the tasks fixed; ours are a sample from a distribution, so
    they vary too.) Repeated returns of a task stay together, trailing entries share the
    resampled seeds and tasks, and no normality is assumed.

    Of a table ``[S, Z, B]`` that compares two runs (`difference_table`, `win_table`), with
    ``factors=3``, every repetition draws seeds of the one, seeds of the other and tasks,
    the tasks for both at once: they are paired over tasks, but not over seeds, as seed 3 of
    one run has nothing in common with seed 3 of the other. What makes a task hard for both
    then cancels.

    The interval is a little wide where the rest beyond seed and task effects dominates,
    and too narrow with very few seeds (five seeds that differ much: nearer 85 % than
    95 %), as every bootstrap is.

    Args:
        values: ``[S, B, ...]``, or with more factors ``[S, Z, B, ...]``; every trailing entry
            gets an interval.
        factors: How many leading axes are resampled, each by itself.
        confidence: Coverage aimed at.
        repetitions: R. Fewer are made, but never below 300, where 2000 would take longer
            than about half a second; the ends then wobble by up to 4 % of the width.
        seed: Seed of the resampling; equal seeds, equal intervals.

    Returns:
        Lower and upper ends, float64 of the trailing shape; NaN if there is but one value,
        or one that is not finite.
    """
    x = _crossed(values, factors)
    *seeds, tasks = x.shape[:factors]
    table = np.moveaxis(x, factors - 1, 0).reshape(tasks, -1)
    repetitions = _affordable(repetitions, _MEAN_WORK / table.size)
    means = np.empty((repetitions, *x.shape[factors:]))
    entries = max(table.shape)
    for rows, *seed_draws, task_draws in _resamples((*seeds, tasks), repetitions, seed, entries):
        drawn = _counts(task_draws, tasks) @ table / tasks  # [r, S * Z * ...]
        for draws, number in zip(seed_draws, seeds, strict=True):
            weights = _counts(draws, number)[:, None] / number
            drawn = (weights @ drawn.reshape(len(drawn), number, -1))[:, 0]
        means[rows] = drawn.reshape(means[rows].shape)
    return _interval(means, confidence, tasks * math.prod(seeds))


def bootstrap(
    values: ArrayLike,
    statistic: Statistic,
    *,
    confidence: float = 0.95,
    repetitions: int = 2000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a percentile bootstrap interval of any statistic over seeds and tasks.

    Seeds and tasks are resampled as in `bootstrap_mean`, with the same draws for the same
    ``seed``.

    Args:
        values: ``[S, B]``.
        statistic: Such as `iqm`: called with values ``[r, S * B]`` and ``axis=-1``. It may
            return several numbers per repetition, ``[r, ...]``.
        confidence: Coverage aimed at.
        repetitions: R; lowered as in `bootstrap_mean`.
        seed: Seed of the resampling.

    Returns:
        Lower and upper ends, float64 of the statistic's trailing shape; NaN if there is
        but one value.
    """
    x = _crossed(values)
    if x.ndim != 2:
        raise ValueError(f"values have shape {x.shape}; it must be [seeds, tasks]")
    repetitions = _affordable(repetitions, _SORTED_WORK / x.size)
    results = []
    for _, seed_draws, task_draws in _resamples(x.shape, repetitions, seed, x.size):
        drawn = x[seed_draws[:, :, None], task_draws[:, None, :]]
        results.append(statistic(drawn.reshape(len(drawn), -1), axis=-1))
    return _interval(np.concatenate(results), confidence, x.size)


def _rows(values: ArrayLike, axis: int | None) -> tuple[np.ndarray, int]:
    """Returns the values with the axis to reduce last and contiguous, and its length."""
    x = np.asarray(values, np.float64)
    x = x.reshape(-1) if axis is None else np.ascontiguousarray(np.moveaxis(x, axis, -1))
    if x.shape[-1] == 0:
        raise ValueError("values are empty; there must be at least one")
    return x, x.shape[-1]


def _crossed(values: ArrayLike, factors: int = 2) -> np.ndarray:
    x = np.asarray(values, np.float64)
    if x.ndim < factors or x.size == 0:
        axes = "seeds, tasks" if factors == 2 else f"{factors} factors"
        raise ValueError(f"values have shape {x.shape}; it must be [{axes}, ...], not empty")
    return x


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns both with an axis for the seeds of the other, ``[S, 1, B]`` and ``[1, Z, B]``."""
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        shapes = f"{first.shape} and {second.shape}"
        raise ValueError(f"values have shapes {shapes}; they must be [seeds, tasks] of equal tasks")
    return first[:, None], second[None]


def _affordable(repetitions: int, limit: float) -> int:
    return max(min(repetitions, int(limit)), min(repetitions, _FEWEST_REPETITIONS))


def _resamples(
    sizes: Sequence[int], repetitions: int, seed: int, entries: int
) -> Iterator[tuple[Any, ...]]:
    """Yields slices of the repetitions and, per factor of size n, indices ``[r, n]``.

    They come in chunks whose temporaries, ``entries`` per repetition, fit the memory; the
    chunks do not change the draws. Not smaller than need be: on a busy machine every
    threaded matrix product waits for its slowest thread.
    """
    generators = np.random.default_rng(seed).spawn(len(sizes))
    chunk = max(1, _CHUNK_ENTRIES // entries)
    for start in range(0, repetitions, chunk):
        size = min(chunk, repetitions - start)
        draws = (
            rng.integers(0, n, (size, n), dtype=np.int32)
            for rng, n in zip(generators, sizes, strict=True)
        )
        yield slice(start, start + size), *draws


def _counts(draws: np.ndarray, n: int) -> np.ndarray:
    """Returns how often each of n indices was drawn, float64 ``[r, n]``."""
    size = len(draws)
    offsets = np.arange(size, dtype=np.int64)[:, None] * n
    return np.bincount((draws + offsets).ravel(), minlength=size * n).reshape(size, n).astype(float)


def _interval(
    samples: np.ndarray, confidence: float, num_values: int
) -> tuple[np.ndarray, np.ndarray]:
    if num_values == 1:  # resampling one value would claim certainty
        return np.full(samples.shape[1:], np.nan), np.full(samples.shape[1:], np.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, (tail, 1 - tail), axis=0)
    return low, high
