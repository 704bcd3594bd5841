"""The figure of a comparison: return against experience, one curve per run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.evaluation.curve_words import first_value_label, points_label, value_label
from jaxmeta.evaluation.table import over
from jaxmeta.render.curve_axes import lies_at_zero, scale_values, zero_words
from jaxmeta.render.figures import (
    AGENT_COLOUR,
    DASHES,
    FEW_ROWS,
    MARKERS,
    OTHER_COLOURS,
    label_above,
    legend_beside,
    write_png,
)
from jaxmeta.render.tables import badness, two_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxmeta.analysis.comparison.result import Comparison

# Runs have the colours, references grey and dashes.
_COLOURS = (AGENT_COLOUR, *OTHER_COLOURS[:-1])
_GREY = OTHER_COLOURS[-1]
_RUN_MARKERS = "osD^vP"
_TRAINING_ENDS = "end of training"


def plot_comparison(comparison: Comparison, path: str | Path, title: str | None = None) -> None:
    """Draws return against episodes of experience, the runs over their references.

    Bands are 95 % intervals of the means over seeds and tasks, with one seed over tasks only;
    the legend says so. References are
    grey, the exact optimum is the black dashed line. Where a curve goes beyond the trials of
    its training, a ring marks the last row of training. Curves of a single row each are
    drawn as points with their intervals.

    Args:
        comparison: What to draw.
        path: The PNG to write, whole or not at all.
        title: Title; None names family and split.
    """
    from matplotlib.figure import Figure

    summary = comparison.summary()
    single = all(len(run["experience"]) == 1 for run in summary["runs"].values())
    lines = len(summary["runs"]) + len(summary["references"]) + (summary["optimal"] is not None)
    size = (7.0, 1.6 + 0.32 * lines) if single else (8.0, max(4.6, 1.4 + 0.3 * lines))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    (_draw_points if single else _draw_curves)(axes, summary)
    split = summary["split"]
    which = "held-out tasks" if split == "test" else f'split "{split}"'
    heading = f"{summary['family']}, {which}"
    axes.set_title(heading if title is None else title, pad=18)  # room for `label_above`
    write_png(figure, path)


def _draw_curves(axes: Axes, summary: dict[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    for index, (name, reference) in enumerate(summary["references"].items()):
        if lies_at_zero(summary, reference["mean"]):
            continue
        x = reference["experience"]
        style: dict[str, Any] = {"linestyle": DASHES[index % len(DASHES)], "linewidth": 1.1}
        style |= {"marker": _marker(MARKERS, index, x), "markersize": 3.5, "color": _GREY}
        axes.plot(x, reference["mean"], label=two_lines(name), **style)
    if summary["optimal"] is not None:
        line = {"color": "black", "linestyle": "--", "linewidth": 1.6, "zorder": 3}
        x = np.arange(len(summary["optimal"]))
        axes.plot(x, summary["optimal"], label="optimum (exact)", **line)
    for index, (label, run) in enumerate(summary["runs"].items()):
        _draw_run(axes, label, run, index)
    axes.set_xlabel("episodes of experience" if summary["acts"] else "gradient steps")
    axes.set_ylabel(value_label(summary))
    runs = [run["mean"] for run in summary["runs"].values()]
    scale_values(axes, summary, runs, {n: r["mean"] for n, r in summary["references"].items()})
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    zero = [n for n, r in summary["references"].items() if lies_at_zero(summary, r["mean"])]
    band = f"band: {over(_seeds(summary))}"
    legend_beside(axes, [points_label(summary), band, zero_words(zero)])


def _seeds(summary: dict[str, Any]) -> list[int]:
    return [run["num_seeds"] for run in summary["runs"].values()]


def _draw_run(axes: Axes, label: str, run: dict[str, Any], index: int) -> None:
    x, colour = run["experience"], _COLOURS[index % len(_COLOURS)]
    mean, low, high = (np.asarray(run[part], float) for part in ("mean", "low", "high"))
    if len(x) == 1:  # a band of no width
        axes.plot(x * 2, [low[0], high[0]], color=colour, linewidth=2.4, zorder=4)
    axes.fill_between(x, low, high, color=colour, alpha=0.22, linewidth=0)
    style: dict[str, Any] = {"marker": _marker(_RUN_MARKERS, index, x), "color": colour}
    axes.plot(x, mean, label=label, linewidth=2.2, markersize=5, zorder=5, **style)
    training = run["at"]["training"]
    if training is not None and training["experience"] < x[-1]:
        ring: dict[str, Any] = {"marker": "o", "markersize": 12, "fillstyle": "none"}
        ring |= {"linestyle": "none"}
        axes.plot([training["experience"]], [training["mean"]], color=colour, zorder=6, **ring)
        labels = [line.get_label() for line in axes.get_lines()]
        if _TRAINING_ENDS not in labels:  # in the legend one stands for all
            axes.plot([np.nan], [np.nan], color="black", label=_TRAINING_ENDS, **ring)


def _marker(markers: str, index: int, x: list[int]) -> str | None:
    return markers[index % len(markers)] if len(x) <= FEW_ROWS else None


def _draw_points(axes: Axes, summary: dict[str, Any]) -> None:
    """Draws one line per run or reference, best on top: the mean and its interval."""
    points = [
        (label, run["at"]["common"], _COLOURS[index % len(_COLOURS)], "o")
        for index, (label, run) in enumerate(summary["runs"].items())
    ]
    references = summary["references"].items()
    points += [(name, reference["common"], _GREY, "s") for name, reference in references]
    points.sort(key=lambda point: -badness(point[1]["mean"], summary))
    for height, (_, numbers, colour, marker) in enumerate(points):
        ends = np.asarray([numbers["low"], numbers["high"]], float)  # None becomes NaN
        axes.plot(ends, [height] * 2, color=colour, linewidth=2.4)
        axes.plot(numbers["mean"], height, color=colour, marker=marker, markersize=7)
    axes.set_yticks(range(len(points)), [two_lines(name) for name, *_ in points])
    axes.set_ylim(-0.6, len(points) - 0.4)
    if summary["optimal"] is not None:
        axes.axvline(summary["optimal"][0], color="black", linestyle="--")
        label_above(axes, summary["optimal"][0], "optimum (exact)")
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_xlabel(f"{first_value_label(summary)}\nbar: {over(_seeds(summary))}")
