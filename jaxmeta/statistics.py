"""Robust statistics of returns over seeds and tasks; pure NumPy, float64.

Axes: S training seeds, B held-out tasks, R repetitions of the bootstrap. Seeds and tasks
are *crossed*: every seed meets the same tasks, so two returns of one task, or of one seed,
are not independent, and neither the standard error nor the bootstrap may pretend that
they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
    x = _seeds_by_tasks(values)
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


def bootstrap_mean(
    values: ArrayLike, *, confidence: float = 0.95, repetitions: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a percentile bootstrap interval of the mean over seeds and tasks.

    What is resampled: every repetition draws S seeds and B tasks, each with replacement
    and independently of one another, and averages the table of the drawn seeds × the
    drawn tasks. With one seed, then, only tasks are resampled. (The bootstrap that is
    stratified by task holds the tasks fixed; ours are a sample from a distribution, so
    they vary too.) Repeated returns of a task stay together, trailing entries share the
    resampled seeds and tasks, and no normality is assumed.

    The interval is a little wide where the rest beyond seed and task effects dominates,
    and too narrow with very few seeds (five seeds that differ much: nearer 85 % than
    95 %), as every bootstrap is.

    Args:
        values: ``[S, B, ...]``; every trailing entry gets an interval.
        confidence: Coverage aimed at.
        repetitions: R. Fewer are made, but never below 300, where 2000 would take longer
            than about half a second; the ends then wobble by up to 4 % of the width.
        seed: Seed of the resampling; equal seeds, equal intervals.

    Returns:
        Lower and upper ends, float64 of the trailing shape; NaN if there is but one value.
    """
    x = _seeds_by_tasks(values)
    seeds, tasks = x.shape[:2]
    table = np.moveaxis(x, 1, 0).reshape(tasks, -1)
    repetitions = _affordable(repetitions, _MEAN_WORK / table.size)
    means = np.empty((repetitions, *x.shape[2:]))
    for rows, seed_draws, task_draws in _resamples(seeds, tasks, repetitions, seed, tasks):
        by_seed = _counts(task_draws, tasks) @ table / tasks
        by_seed = by_seed.reshape(len(by_seed), seeds, -1)
        seed_weights = _counts(seed_draws, seeds)[:, None] / seeds
        means[rows] = (seed_weights @ by_seed).reshape(means[rows].shape)
    return _interval(means, confidence, seeds * tasks)


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
    x = _seeds_by_tasks(values)
    if x.ndim != 2:
        raise ValueError(f"values have shape {x.shape}; it must be [seeds, tasks]")
    seeds, tasks = x.shape
    repetitions = _affordable(repetitions, _SORTED_WORK / x.size)
    results = []
    for _, seed_draws, task_draws in _resamples(seeds, tasks, repetitions, seed, x.size):
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


def _seeds_by_tasks(values: ArrayLike) -> np.ndarray:
    x = np.asarray(values, np.float64)
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"values have shape {x.shape}; it must be [seeds, tasks, ...], not empty")
    return x


def _affordable(repetitions: int, limit: float) -> int:
    return max(min(repetitions, int(limit)), min(repetitions, _FEWEST_REPETITIONS))


def _resamples(
    seeds: int, tasks: int, repetitions: int, seed: int, entries: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yields slices of the repetitions with seed indices [r, S] and task indices [r, B].

    They come in chunks whose temporaries, ``entries`` per repetition, fit the memory; the
    chunks do not change the draws. Not smaller than need be: on a busy machine every
    threaded matrix product waits for its slowest thread.
    """
    seed_rng, task_rng = np.random.default_rng(seed).spawn(2)
    chunk = max(1, _CHUNK_ENTRIES // entries)
    for start in range(0, repetitions, chunk):
        size = min(chunk, repetitions - start)
        seed_draws = seed_rng.integers(0, seeds, (size, seeds), dtype=np.int32)
        task_draws = task_rng.integers(0, tasks, (size, tasks), dtype=np.int32)
        yield slice(start, start + size), seed_draws, task_draws


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
