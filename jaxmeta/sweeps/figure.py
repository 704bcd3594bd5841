"""The figure of a sweep: score against hyperparameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.evaluation.curve_words import with_unit
from jaxmeta.evaluation.table import over
from jaxmeta.render.curve_axes import plain_log
from jaxmeta.render.figures import AGENT_COLOUR, OTHER_COLOURS, write_png
from jaxmeta.render.tables import count, decimals, show_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_ROWS = 30
_PAIRED: dict[str, Any] = {
    "color": OTHER_COLOURS[3],
    "linewidth": 3.0,
    "label": "difference to the best, paired, 95 %",
}
_BEST_LINE: dict[str, Any] = {
    "color": "black",
    "linestyle": (0, (1, 2)),
    "linewidth": 1.0,
    "zorder": 1,
    "label": "mean of the best",
}
_WIDE = 10.0  # values this many times apart are drawn on a logarithmic axis


def plot_sweep(summary: dict[str, Any], path: str | Path) -> None:
    """Writes the figure of `draw_sweep` to ``path``, a PNG, whole or not at all."""
    write_png(draw_sweep(summary), path)


def draw_sweep(summary: dict[str, Any]) -> Figure:
    """Draws what `jaxmeta.sweeps.result.Sweep.summary` says.

    One hyperparameter: the mean score with its 95 % interval, over seeds and tasks, of one
    seed over tasks only, as the title says, and the seeds as dots. Two: a map with the numbers
    in it. More: the points ranked, with their intervals. The best point has a ring or a frame;
    points with a seed that diverged are crossed out. Beside the mean of every other point stands
    the interval of its difference to the best, which is paired and therefore narrower: where it
    reaches the line of the best, the sweep does not tell the two apart. In a map such points have
    a dashed frame.

    Args:
        summary: Of a sweep with at least one ranked point.
    """
    from matplotlib.figure import Figure

    axes_of_grid = summary["axes"]
    if len(axes_of_grid) == 2:
        first, second = (len(values) for values in axes_of_grid.values())
        size = (max(4.6, 2.6 + 0.95 * second), 2.2 + 0.55 * first)
    else:
        rows = min(len(summary["points"]), _MOST_ROWS)
        size = (7.0, 4.6) if len(axes_of_grid) == 1 else (8.0, 2.2 + 0.3 * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    if len(axes_of_grid) == 1:
        _draw_line(axes, summary)
    elif len(axes_of_grid) == 2:
        _draw_map(figure, axes, summary)
    else:
        _draw_ranking(axes, summary)
    seeds = summary["num_seeds"]
    title = f"{summary['algorithm']} on {summary['family']}, {count(seeds, 'seed')}"
    if len(axes_of_grid) != 2:  # in whose key it is said
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
    axes.vlines(x, *_paired(points, summary), zorder=3.5, **_PAIRED)
    if summary["num_seeds"] > 1:
        seeds = np.array([point["of_each_seed"] for point in points], float)  # None becomes NaN
        look: dict[str, Any] = {"markersize": 4, "alpha": 0.6, "zorder": 3}
        axes.plot(x, seeds[:, 0], ".", color=AGENT_COLOUR, label="a seed", **look)
        axes.plot(x, seeds[:, 1:], ".", color=AGENT_COLOUR, **look)
    best = summary["best"][name]
    ring: dict[str, Any] = {"marker": "o", "markersize": 13, "fillstyle": "none", "label": "best"}
    reached = mean[list(x).index(best)]
    axes.plot(best, reached, color="black", linestyle="none", zorder=5, **ring)
    axes.axhline(reached, **_BEST_LINE)
    for point in points:
        if point["diverged"]:
            axes.axvline(point["values"][name], color=OTHER_COLOURS[0], linestyle=":", zorder=1)
    if any(point["diverged"] for point in points):
        axes.plot([], [], label="a seed diverged", color=OTHER_COLOURS[0], linestyle=":")
    _key_below(axes)
    if x.min() > 0 and x.max() / x.min() >= _WIDE:
        plain_log(axes.set_xscale, axes.xaxis)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(name)
    axes.set_ylabel(_score(summary))


def _draw_map(figure: Figure, axes: Axes, summary: dict[str, Any]) -> None:
    (rows, ys), (columns, xs) = summary["axes"].items()
    points = summary["points"]  # the last name varies fastest
    means = _column(points, "mean").reshape(len(ys), len(xs))
    digits = decimals([points[i] for i in summary["ranking"]])
    image = axes.imshow(means, cmap="viridis", aspect="auto", origin="lower")
    low, high = np.nanmin(means), np.nanmax(means)
    for index, point in enumerate(points):
        y, x = divmod(index, len(xs))
        known = point["mean"] is not None
        text = show_number(point["mean"], digits) if known else ("×" if point["diverged"] else "?")
        dark = known and point["mean"] < (low + high) / 2
        axes.text(x, y, text, ha="center", va="center", color="white" if dark else "black")
        if point["values"] == summary["best"]:
            _frame(axes, x, y, "best", linewidth=3.0)
        elif known and point["behind_best_low"] is not None and point["behind_best_low"] <= 0:
            said = "not clearly behind the best (paired, 95 %)"
            _frame(axes, x, y, said, linewidth=1.5, linestyle=(0, (2, 2)))
    _key_below(axes)
    axes.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
    axes.set_yticks(range(len(ys)), [f"{y:g}" for y in ys])
    axes.set_xlabel(columns)
    axes.set_ylabel(rows)
    figure.colorbar(image, ax=axes, label=_score(summary))


def _frame(axes: Axes, x: int, y: int, label: str, **line: Any) -> None:
    """Frames a point of a map; each label is in the key once."""
    from matplotlib.patches import Rectangle

    known = axes.get_legend_handles_labels()[1]
    look = {"fill": False, "edgecolor": OTHER_COLOURS[0], **line}
    inset = 0.0 if label == "best" else 0.06
    corner = (x - 0.5 + inset, y - 0.5 + inset)
    label = "" if label in known else label
    axes.add_patch(Rectangle(corner, 1 - 2 * inset, 1 - 2 * inset, label=label, **look))


def _draw_ranking(axes: Axes, summary: dict[str, Any]) -> None:
    shown = [summary["points"][i] for i in summary["ranking"][:_MOST_ROWS]]
    for height, point in enumerate(reversed(shown)):
        ends = np.array([point["low"], point["high"]], float)
        first: Any = (lambda text: {"label": text}) if height == 0 else lambda _: {}
        axes.plot(ends, [height] * 2, color=AGENT_COLOUR, linewidth=2.2)
        axes.plot(point["mean"], height, "o", color=AGENT_COLOUR, markersize=6, **first("mean"))
        if summary["num_seeds"] > 1:
            seeds, look = point["of_each_seed"], {"color": AGENT_COLOUR, "markersize": 9}
            axes.plot(seeds, [height] * len(seeds), "|", **look, **first("a seed"))
    heights = np.arange(len(shown)) - 0.25
    axes.hlines(heights, *_paired(shown[::-1], summary), **_PAIRED)
    axes.axvline(shown[0]["mean"], **_BEST_LINE)
    _key_below(axes)
    names = ["  ".join(f"{v:g}" for v in point["values"].values()) for point in shown]
    axes.set_yticks(range(len(shown)), names[::-1])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel("  ".join(summary["axes"]))
    axes.set_xlabel(_score(summary))


def _paired(points: list[dict[str, Any]], summary: dict[str, Any]) -> tuple[Any, Any]:
    """Returns where the score of each point ends that its difference to the best leaves open."""
    best = summary["points"][summary["ranking"][0]]["mean"]
    sign = 1 if summary["higher_is_better"] else -1
    low, high = (_column(points, f"behind_best_{end}") for end in ("high", "low"))
    return best - sign * low, best - sign * high


def _key_below(axes: Axes) -> None:
    figure: Any = axes.figure
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")


def _column(points: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([point[name] for point in points], float)  # None becomes NaN


def _score(summary: dict[str, Any]) -> str:
    return with_unit(f"mean {summary['score']} of held-out tasks", summary["unit"])
