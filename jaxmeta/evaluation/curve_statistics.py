"""Statistics of adaptation curves, with their intervals.

Axes: P policies, S training seeds, B held-out tasks, K rows of the adaptation curve.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxmeta.evaluation import intervals
from jaxmeta.ops import statistics


def describe_curves(
    returns: np.ndarray, optimal: np.ndarray | None, sign: int, headline: str
) -> list[dict[str, Any]]:
    """Describes P policies that met the same tasks, scores ``[P, S, B, K]``."""
    summed = returns.sum(axis=-1, keepdims=True, dtype=np.float64)
    last = summed if headline == "total" else returns[..., -1:]
    values = np.concatenate([returns, last], axis=-1, dtype=np.float64)  # [P, S, B, K + 1]
    values = np.moveaxis(values, 0, 2)  # [S, B, P, K + 1]
    pooled = values.reshape(-1, *values.shape[2:])
    low, high = intervals.mean_interval(values)
    columns = {
        "mean": statistics.mean(pooled, axis=0),
        "stderr": intervals.standard_error(values),
        "low": low,
        "high": high,
        "iqm": statistics.iqm(pooled, axis=0),
        "cvar10": sign * statistics.cvar(sign * pooled, axis=0),
        "worst": sign * statistics.worst(sign * pooled, axis=0),
        "median": np.median(pooled, axis=0),
    }
    levels = [level for level in statistics.PERCENTILES if level != 50]
    percentiles = np.percentile(pooled, levels, axis=0)
    columns |= {f"p{level}": row for level, row in zip(levels, percentiles, strict=True)}
    if optimal is not None:
        best = np.append(optimal, optimal.sum())
        columns["regret"] = best - columns["mean"]
        columns["regret_low"], columns["regret_high"] = best - high, best - low
    described = []
    for policy in range(values.shape[2]):
        rows = {name: column[policy, :-1] for name, column in columns.items()}
        numbers = {name: column[policy, -1] for name, column in columns.items()}
        numbers |= robust_intervals(values[:, :, policy, -1], sign)
        described.append({headline: numbers, "rows": rows})
    return described


def robust_intervals(values: np.ndarray, sign: int = 1) -> dict[str, float]:
    """Returns the intervals over tasks of IQM and CVaR(10 %) of values ``[S, B]``.

    With ``sign`` -1, where lower is better, CVaR is of the highest tenth.
    """

    def both(values: np.ndarray, axis: int) -> np.ndarray:
        worst = sign * statistics.cvar(sign * values, axis=axis)
        return np.stack((statistics.iqm(values, axis=axis), worst), axis=-1)

    low, high = intervals.bootstrap(values, both)
    return {
        "iqm_low": low[0],
        "iqm_high": high[0],
        "cvar10_low": low[1],
        "cvar10_high": high[1],
    }


def plain(value: Any) -> Any:
    """Turns arrays into lists and what JSON cannot say (NaN, infinities) into None."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
