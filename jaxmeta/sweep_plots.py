"""The figure of a sweep: score against hyperparameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.plots import AGENT_COLOUR, OTHER_COLOURS, write_png
from jaxmeta.table import over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_ROWS = 30
_WIDE = 10.0  # values this many times apart are drawn on a logarithmic axis


def plot_sweep(summary: dict[str, Any], path: str | Path) -> None:
    """Writes the figure of `draw_sweep` to ``path``, a PNG, whole or not at all."""
    write_png(draw_sweep(summary), path)


def draw_sweep(summary: dict[str, Any]) -> Figure:
    """Draws what `jaxmeta.sweep_report.Sweep.summary` says.

    One hyperparameter: the mean score with its 95 % interval, over seeds and tasks, of one
    seed over tasks only, as the title says, and the seeds as dots. Two: a map with the numbers
    in it. More: the points ranked, with their intervals. The best point has a ring or a frame;
    points with a seed that diverged are crossed out.

    Args:
        summary: Of a sweep with at least one ranked point.
    """
    from matplotlib.figure import Figure

    axes_of_grid = summary["axes"]
    if len(axes_of_grid) == 2:
        first, second = (len(values) for values in axes_of_grid.values())
        size = (2.6 + 0.95 * second, 1.8 + 0.55 * first)
    else:
        rows = min(len(summary["points"]), _MOST_ROWS)
        size = (7.0, 4.2) if len(axes_of_grid) == 1 else (8.0, 1.6 + 0.3 * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    if len(axes_of_grid) == 1:
        _draw_line(axes, summary)
    elif len(axes_of_grid) == 2:
        _draw_map(figure, axes, summary)
    else:
        _draw_ranking(axes, summary)
    seeds = summary["num_seeds"]
    plural = "s" if seeds > 1 else ""
    title = f"{summary['algorithm']} on {summary['family']}, {seeds} seed{plural}"
    if len(axes_of_grid) != 2:  # a map shows no intervals
        title += f"\ninterval: {over([seeds])}"
    axes.set_title(title, fontsize="medium")
    return figure


def _draw_line(axes: Axes, summary: dict[str, Any]) -> None:
    ((name, _),) = summary["axes"].items()
    points = sorted(summary["points"], key=lambda point: point["values"][name])
    x = np.array([point["values"][name] for point in points])
    mean, low, high = (_column(points, part) for part in ("mean", "low", "high"))
    axes.fill_between(x, low, high, color=AGENT_COLOUR, alpha=0.22, linewidth=0)
    axes.plot(x, mean, color=AGENT_COLOUR, marker="o", linewidth=2.0, zorder=4, label="mean")
    if summary["num_seeds"] > 1:
        seeds = np.array([point["of_each_seed"] for point in points], float)  # None becomes NaN
        axes.plot(x, seeds, ".", color=AGENT_COLOUR, markersize=4, alpha=0.6, zorder=3)
    best = summary["best"][name]
    ring: dict[str, Any] = {"marker": "o", "markersize": 13, "fillstyle": "none"}
    axes.plot(best, mean[list(x).index(best)], color="black", linestyle="none", zorder=5, **ring)
    for point in points:
        if point["diverged"]:
            axes.axvline(point["values"][name], color=OTHER_COLOURS[0], linestyle=":", zorder=1)
    if any(point["diverged"] for point in points):
        axes.plot([], [], label="a seed diverged", color=OTHER_COLOURS[0], linestyle=":")
        axes.legend(frameon=False)
    if x.min() > 0 and x.max() / x.min() >= _WIDE:
        axes.set_xscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(name)
    axes.set_ylabel(_score(summary))


def _draw_map(figure: Figure, axes: Axes, summary: dict[str, Any]) -> None:
    (rows, ys), (columns, xs) = summary["axes"].items()
    points = summary["points"]  # the last name varies fastest
    means = _column(points, "mean").reshape(len(ys), len(xs))
    image = axes.imshow(means, cmap="viridis", aspect="auto", origin="lower")
    low, high = np.nanmin(means), np.nanmax(means)
    for index, point in enumerate(points):
        y, x = divmod(index, len(xs))
        known = point["mean"] is not None
        text = f"{point['mean']:.4g}" if known else ("×" if point["diverged"] else "?")
        dark = known and point["mean"] < (low + high) / 2
        axes.text(x, y, text, ha="center", va="center", color="white" if dark else "black")
        if point["values"] == summary["best"]:
            frame: dict[str, Any] = {"fill": False, "edgecolor": OTHER_COLOURS[0], "linewidth": 3}
            from matplotlib.patches import Rectangle

            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **frame))
    axes.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
    axes.set_yticks(range(len(ys)), [f"{y:g}" for y in ys])
    axes.set_xlabel(columns)
    axes.set_ylabel(rows)
    figure.colorbar(image, ax=axes, label=_score(summary))


def _draw_ranking(axes: Axes, summary: dict[str, Any]) -> None:
    shown = [summary["points"][i] for i in summary["ranking"][:_MOST_ROWS]]
    for height, point in enumerate(reversed(shown)):
        ends = np.array([point["low"], point["high"]], float)
        axes.plot(ends, [height] * 2, color=AGENT_COLOUR, linewidth=2.2)
        axes.plot(point["mean"], height, "o", color=AGENT_COLOUR, markersize=6)
        if summary["num_seeds"] > 1:
            seeds = point["of_each_seed"]
            axes.plot(seeds, [height] * len(seeds), "|", color=AGENT_COLOUR, markersize=9)
    names = ["  ".join(f"{v:g}" for v in point["values"].values()) for point in shown]
    axes.set_yticks(range(len(shown)), names[::-1])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel("  ".join(summary["axes"]))
    axes.set_xlabel(_score(summary))


def _column(points: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([point[name] for point in points], float)  # None becomes NaN


def _score(summary: dict[str, Any]) -> str:
    return f"mean {summary['score']} of held-out tasks"
