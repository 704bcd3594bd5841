"""The figure of an evaluation: adaptation curves, the agent beside its references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.evaluation.curve_words import (
    experience_label,
    first_value_label,
    points_label,
    value_label,
)
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

    from jaxmeta.evaluation.result import Evaluation


def plot_adaptation(evaluation: Evaluation, path: str | Path, title: str | None = None) -> None:
    """Draws return against experience, the agent beside its references.

    The band is the 95 % interval of the agent's mean, over seeds and tasks or, as the legend
    then says, over the tasks of one seed; thin lines are its seeds, the black dashed line is
    the exact optimum. A dotted vertical line shows where the trials of training ended, if the
    curve goes further. A curve of a single row is drawn
    as points with their intervals.

    Args:
        evaluation: What to draw.
        path: The PNG to write, whole or not at all.
        title: Title; None names agent, family and split.
    """
    from matplotlib.figure import Figure

    summary = evaluation.summary()
    single = summary["rows"] == 1
    lines = len(summary["policies"]) + (summary["optimal"] is not None)
    size = (7.0, 1.6 + 0.32 * lines) if single else (8.0, max(4.2, 1.2 + 0.3 * lines))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    (_draw_points if single else _draw_curves)(axes, summary)
    heading = f"{evaluation.agent} on {evaluation.family}"
    heading += "" if evaluation.split == "test" else f', split "{evaluation.split}"'
    axes.set_title(heading if title is None else title, pad=18)  # room for `label_above`

    write_png(figure, path)


def _draw_curves(axes: Axes, summary: dict[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    k = np.arange(summary["rows"])
    for style, (name, policy) in zip(_styles(summary), _references(summary), strict=True):
        if lies_at_zero(summary, policy["rows"]["mean"]):
            continue
        label = two_lines(name)
        axes.plot(k, policy["rows"]["mean"], label=label, linewidth=1.6, markersize=4, **style)
    if summary["optimal"] is not None:
        line = {"color": "black", "linestyle": "--", "linewidth": 1.6, "zorder": 6}
        axes.plot(k, summary["optimal"], label="optimum (exact)", **line)
    _draw_agent(axes, summary, k)
    trained = summary["trained_rows"]
    if trained is not None and trained < summary["rows"]:
        axes.axvline(trained - 0.5, color="#777777", linestyle=":", linewidth=1)
        label_above(axes, trained - 0.5, "trained until here")
    axes.set_xlabel(experience_label(summary))
    axes.set_ylabel(value_label(summary))
    agents = [summary["policies"][summary["agent"]]["rows"]["mean"]]
    scale_values(axes, summary, agents, {n: p["rows"]["mean"] for n, p in _references(summary)})
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    zero = [n for n, p in _references(summary) if lies_at_zero(summary, p["rows"]["mean"])]
    band = f"band: {over([summary['num_seeds']])}"
    legend_beside(axes, [points_label(summary), band, zero_words(zero)])


def _draw_agent(axes: Axes, summary: dict[str, Any], k: np.ndarray) -> None:
    rows = summary["policies"][summary["agent"]]["rows"]
    if summary["num_seeds"] > 1:
        for curve in summary["curve_of_each_seed"]:
            axes.plot(k, curve, color=AGENT_COLOUR, linewidth=0.6, alpha=0.5, zorder=4)
    low, high = (np.asarray(rows[end], float) for end in ("low", "high"))  # None becomes NaN
    axes.fill_between(k, low, high, color=AGENT_COLOUR, alpha=0.22, linewidth=0)
    marker = "o" if len(k) <= FEW_ROWS else None
    axes.plot(
        k,
        rows["mean"],
        color=AGENT_COLOUR,
        linewidth=2.4,
        marker=marker,
        markersize=5,
        label=summary["agent"],
        zorder=5,
    )


def _draw_points(axes: Axes, summary: dict[str, Any]) -> None:
    """Draws one row per policy, best on top: the mean and its interval."""
    colours = {summary["agent"]: AGENT_COLOUR}
    for style, (name, _) in zip(_styles(summary), _references(summary), strict=True):
        colours[name] = style["color"]
    ordered = list(summary["policies"].items())
    ordered.sort(key=lambda item: -badness(item[1]["rows"]["mean"][0], summary))
    for height, (name, policy) in enumerate(ordered):
        total = {name: column[0] for name, column in policy["rows"].items()}
        marker = "o" if name == summary["agent"] else "s"
        ends = np.asarray([total["low"], total["high"]], float)  # None becomes NaN
        axes.plot(ends, [height] * 2, color=colours[name], linewidth=2.4)
        axes.plot(total["mean"], height, color=colours[name], marker=marker, markersize=7)
        if name == summary["agent"] and summary["num_seeds"] > 1:
            seeds = np.ravel(summary["curve_of_each_seed"])
            axes.plot(seeds, [height] * len(seeds), "|", color=AGENT_COLOUR, markersize=12)
    axes.set_yticks(range(len(ordered)), [two_lines(name) for name, _ in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    if summary["optimal"] is not None:
        axes.axvline(summary["optimal"][0], color="black", linestyle="--")
        label_above(axes, summary["optimal"][0], "optimum (exact)")
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_xlabel(f"{first_value_label(summary)}\nbar: {over([summary['num_seeds']])}")


def _references(summary: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [item for item in summary["policies"].items() if item[0] != summary["agent"]]


def _styles(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a line style for each reference, no two with the same colour and dashes."""
    colours = len(OTHER_COLOURS)
    marked = summary["rows"] <= FEW_ROWS
    return [
        {
            "color": OTHER_COLOURS[i % colours],
            "linestyle": DASHES[(i + i // colours) % len(DASHES)],
            "marker": MARKERS[i % len(MARKERS)] if marked else None,
        }
        for i in range(len(summary["policies"]) - 1)
    ]
