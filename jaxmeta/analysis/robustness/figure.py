"""Figures of robustness maps: return against one physical parameter, or over two."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.analysis.robustness.table import parameter_label, row_label
from jaxmeta.evaluation.table import over
from jaxmeta.render.figures import AGENT_COLOUR, DASHES, OTHER_COLOURS, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxmeta.analysis.robustness.result import Robustness, RobustnessMap

_COLUMNS = 3  # panels side by side
_GREY = "#777777"


def plot_robustness(robustness: Robustness, path: str | Path, title: str | None = None) -> None:
    """Draws the map of one run, or of several beside each other.

    One parameter: a curve per run with the 95 % interval of its mean, over seeds and trials or,
    as the legend then says, over the trials of one seed; the shade is the range of training, or
    where the runs differ in it a bar of each above the axes. Of a single run the thin lines are
    its seeds. Two parameters: one heat map per run on a common colour scale; the frame is the
    range of training. The worst point is marked.

    Args:
        robustness: What to draw.
        path: The PNG to write, whole or not at all.
        title: Title; None names family and agent.
    """
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    (_draw_curves if len(robustness.parameters) == 1 else _draw_maps)(figure, robustness)
    figure.suptitle(_heading(robustness) if title is None else title, fontsize="medium")
    write_png(figure, path)


def _heading(robustness: Robustness) -> str:
    """Returns what is drawn and, below, where the other parameters stand."""
    runs = robustness.maps
    what = f"{runs[0].agent} on {robustness.family}" if len(runs) == 1 else robustness.family
    values = [
        f"{name.replace('_', ' ')} {value:.4g} {robustness.units.get(name, '')}".rstrip()
        for name, value in robustness.fixed.items()
    ]
    lines = [f"{what}: return across simulators", ", ".join(values)]
    if runs[0].deterministic:
        lines.append("actions are the mode")
    return "\n".join(filter(None, lines))


def _return_label(robustness: Robustness) -> str:
    labels = {row_label(run) for run in robustness.summary()["runs"].values()}
    return labels.pop() if len(labels) == 1 else "return of the last episode"


# One parameter


def _draw_curves(figure: Figure, robustness: Robustness) -> None:
    runs, (name,) = robustness.maps, robustness.parameters
    figure.set_size_inches(8.0, max(4.6, 1.4 + 0.3 * len(runs)))
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    x = robustness.grid[0]
    axes.set_xlim(x[0], x[-1])
    _draw_training_ranges(axes, runs, name)
    for index, run in enumerate(runs):
        _draw_curve(axes, robustness, run, index)
    axes.set_xlabel(parameter_label(name, robustness.units))
    axes.set_ylabel(_return_label(robustness))
    _margin_below_and_above(axes)
    _legend(axes, len(runs), f"band: {over([len(run.returns) for run in runs], 'trials')}")


def _draw_curve(axes: Axes, robustness: Robustness, run: RobustnessMap, index: int) -> None:
    x, colour = robustness.grid[0], _colour(index)
    described = robustness.summary()["runs"][run.label]
    if len(robustness.maps) == 1 and len(run.returns) > 1:
        for curve in run.returns.mean(axis=1, dtype=np.float64):
            axes.plot(x, curve, color=colour, linewidth=0.6, alpha=0.5)
    low, high = (np.asarray(described[end], float) for end in ("low", "high"))  # None: NaN
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    dashes = "-" if index == 0 else DASHES[(index - 1) % len(DASHES)]
    axes.plot(x, run.mean, color=colour, linewidth=2, linestyle=dashes, label=run.label)
    worst = robustness.worst_point(run)
    if worst is not None:
        mark = {"marker": "v", "markersize": 9, "markeredgecolor": "black", "linestyle": "none"}
        at = worst[robustness.parameters[0]]
        lowest = described["everywhere"]["worst"]
        axes.plot([at], [lowest], color=colour, zorder=6, clip_on=False, **mark)
        if index == 0:
            # In the legend it stands for all runs.
            legend_colour = colour if len(robustness.maps) == 1 else _GREY
            axes.plot([], [], color=legend_colour, label="worst point", **mark)


def _draw_training_ranges(axes: Axes, runs: Sequence[RobustnessMap], name: str) -> None:
    ranges = [np.clip(run.training[name], *axes.get_xlim()) for run in runs]
    if all(np.array_equal(ends, ranges[0]) for ends in ranges):
        # The edge shows a range of one value, too.
        shade = {"facecolor": _GREY, "edgecolor": "#555555", "alpha": 0.15, "zorder": 0}
        axes.axvspan(*ranges[0], linewidth=1, label="training range", **shade)
        return
    for index, ends in enumerate(ranges):
        height = 1.0 + 0.02 * (len(ranges) - index)
        place = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        bar = {"linewidth": 4, "solid_capstyle": "butt", "marker": "|", "markersize": 6}
        axes.plot(ends, [height] * 2, color=_colour(index), **bar, **place)
        if index == 0:
            axes.plot([], [], color=_GREY, label="training ranges", **bar)


def _margin_below_and_above(axes: Axes) -> None:
    """Leaves room for the mark of a worst point at the lower edge."""
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.03 * (high - low), high)


def _legend(axes: Axes, runs: int, title: str) -> None:
    """Puts the legend beside the curves: the runs as they end, then what the marks mean."""
    handles, labels = axes.get_legend_handles_labels()
    marks = ("worst point", "training range", "training ranges")

    def rank(i: int) -> tuple[int, float]:
        if labels[i] in marks:
            return 1 + marks.index(labels[i]), 0.0
        line: Any = handles[i]
        end = float(np.asarray(line.get_ydata(), float)[-1])
        return 0, -end if math.isfinite(end) else math.inf

    order = sorted(range(len(labels)), key=rank)
    axes.legend(
        handles=[handles[i] for i in order],
        labels=[labels[i] for i in order],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        handlelength=3.2 if runs > 1 else 2.2,
        title="\n".join(textwrap.wrap(title, 30)),
        title_fontsize="small",
        alignment="left",
    )


def _colour(index: int) -> str:
    return ([AGENT_COLOUR, *OTHER_COLOURS])[index % (1 + len(OTHER_COLOURS))]


# Two parameters


def _draw_maps(figure: Figure, robustness: Robustness) -> None:
    runs = robustness.maps
    columns = min(len(runs), _COLUMNS)
    rows = math.ceil(len(runs) / columns)
    figure.set_size_inches(1.8 + 3.6 * columns + (1.2 if columns == 1 else 0), 1.3 + 3.3 * rows)
    panels = [figure.add_subplot(rows, columns, 1 + index) for index in range(len(runs))]
    finite = np.concatenate([run.mean[np.isfinite(run.mean)] for run in runs])
    scale = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    mesh = None
    for index, (axes, run) in enumerate(zip(panels, runs, strict=True)):
        mesh = _draw_map(axes, robustness, run, scale)
        if index % columns == 0:
            axes.set_ylabel(parameter_label(robustness.parameters[1], robustness.units))
        if index + columns >= len(runs):
            axes.set_xlabel(parameter_label(robustness.parameters[0], robustness.units))
    if mesh is not None:
        figure.colorbar(mesh, ax=panels, label=_return_label(robustness))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)


def _draw_map(
    axes: Axes, robustness: Robustness, run: RobustnessMap, scale: tuple[float, float]
) -> Any:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.ticker import MaxNLocator

    x, y = robustness.grid
    lowest, highest = scale
    mesh = axes.pcolormesh(x, y, run.mean.T, shading="nearest", vmin=lowest, vmax=highest)
    limits = (axes.get_xlim(), axes.get_ylim())
    (left, right), (bottom, top) = (
        np.clip(run.training[name], *ends)
        for name, ends in zip(robustness.parameters, limits, strict=True)
    )
    # White on black can be seen on every colour.
    outline = [Stroke(linewidth=3.2, foreground="black"), Normal()]
    style = {"fill": False, "edgecolor": "white", "linewidth": 1.6, "path_effects": outline}
    frame = Rectangle((left, bottom), right - left, top - bottom, label="training range", **style)
    axes.add_patch(frame)
    worst = robustness.worst_point(run)
    if worst is not None:
        mark = {"color": "white", "marker": "X", "markersize": 10, "markeredgecolor": "black"}
        at = ([worst[name]] for name in robustness.parameters)
        axes.plot(*at, linestyle="none", label="worst point", clip_on=False, zorder=6, **mark)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if len(robustness.maps) > 1:
        axes.set_title(run.label, fontsize="medium")
    return mesh
