"""Robust statistics of returns over seeds and tasks; pure NumPy, float64.

Axes: S training seeds, Z those of another run, B held-out tasks. `jaxmeta.evaluation.intervals`
has the intervals.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

PERCENTILES = (5, 10, 25, 50, 75, 90)
"""Percentiles of the return over tasks that are reported, while training and after."""

Statistic = Callable[..., np.ndarray]
"""``(values, axis=...) -> values without that axis``."""


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


def win_table(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Returns where ``x`` is above ``y`` on the same task: 1, below 0, and a tie counts half.

    Its mean is the probability of improvement of Agarwal et al. (2021), P(X > Y): that a
    seed of one run, drawn at random, beats one of the other on a task drawn at random. For
    every task it is the statistic U of Mann and Whitney, divided by the number of pairs.
    Only returns of the same task are compared; with NaN nothing can be, and the entry is NaN.

    Args:
        x: ``[S, B]``.
        y: ``[Z, B]``; the tasks are those of ``x``.

    Returns:
        float64 ``[S, Z, B]``.
    """
    first, second = (np.asarray(values, np.float64) for values in (x, y))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        shapes = f"{first.shape} and {second.shape}"
        raise ValueError(f"values have shapes {shapes}; they must be [seeds, tasks] of equal tasks")
    first, second = first[:, None], second[None]
    wins = (first > second) + 0.5 * (first == second)
    return np.where(np.isnan(first) | np.isnan(second), np.nan, wins)


def _rows(values: ArrayLike, axis: int | None) -> tuple[np.ndarray, int]:
    """Returns the values with the axis to reduce last and contiguous, and its length."""
    x = np.asarray(values, np.float64)
    x = x.reshape(-1) if axis is None else np.ascontiguousarray(np.moveaxis(x, axis, -1))
    if x.shape[-1] == 0:
        raise ValueError("values are empty; there must be at least one")
    return x, x.shape[-1]
