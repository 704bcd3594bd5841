"""Figures: adaptation curves and posteriors. Matplotlib without pyplot, so without global state."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.curve_axes import lies_at_zero, scale_values, zero_words
from jaxmeta.curve_words import experience_label, first_value_label, points_label, value_label
from jaxmeta.files import write_atomically
from jaxmeta.table import badness, decimals, over, show_number, two_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxmeta.report import Evaluation
    from jaxmeta.source_adaptation import SourcePosterior
    from jaxmeta_envs.physics import Distribution

# Okabe and Ito's palette, which the colour-blind can tell apart; black is for the optimum
# and yellow, which fades on white, gives way to grey.
AGENT_COLOUR = "#0072B2"
OTHER_COLOURS = (
    *("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#A6A000", "#6E4B2A"),
    "#777777",
)
DASHES = (
    (0, (5, 1.5)),
    (0, (1, 1.2)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (9, 2)),
    (0, (2, 2)),
)
MARKERS = "sD^vPXph<>*d"
FEW_ROWS = 20  # up to here every row has a marker


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


def plot_posterior(
    posteriors: Sequence[SourcePosterior],
    path: str | Path,
    *,
    source: Distribution[Any] | None = None,
    truth: Any = None,
    units: Mapping[str, str] = MappingProxyType({}),
    title: str | None = None,
) -> None:
    """Draws how the posterior of every parameter moves from round to round.

    A panel per parameter that was inferred: the posterior's mean with its central 95 %
    interval, and the truth, where it is known, as a dashed line.

    Args:
        posteriors: What `jaxmeta.adapt_source` returned, round after round.
        path: The PNG to write, whole or not at all.
        source: The distribution before the first round, drawn at round 0.
        truth: A task with the true parameters.
        units: Unit of each parameter that has one, as families have them.
        title: Title; None has none.
    """
    from matplotlib.figure import Figure

    names = [
        name
        for name in posteriors[0].mean._fields
        if any(float(getattr(posterior.std, name)) > 0 for posterior in posteriors)
    ]
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(1.0 + 3.2 * columns, 0.8 + 2.6 * rows), layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, i + 1)
        summaries = [[getattr(task, name) for task in (p.mean, p.low, p.high)] for p in posteriors]
        before = None if source is None else _central(source, name)
        known = None if truth is None else float(getattr(truth, name))
        _draw_rounds(axes, name, np.asarray(summaries, float), before, known, units.get(name))
    if title is not None:
        figure.suptitle(title)
    _finish_rounds(figure, path)


def plot_rounds(
    adaptations: Mapping[str, np.ndarray],
    metrics: Mapping[str, np.ndarray],
    path: str | Path,
    title: str | None = None,
    units: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Draws how a run's source distribution followed its target, round by round.

    A column per parameter that was inferred, a row per seed. Before the first round stands
    the source, with 1.73 standard deviations to either side: the ends of a uniform one.

    Args:
        adaptations: As in `jaxmeta.TrainResult`.
        metrics: Likewise.
        path: The PNG to write, whole or not at all.
        title: Title; None has none.
        units: Unit of each parameter that has one, as families have them.
    """
    from matplotlib.figure import Figure

    prefix = "posterior_std/"
    names = [n.removeprefix(prefix) for n, std in adaptations.items() if n.startswith(prefix)]
    names = [n for n in names if np.any(adaptations[prefix + n] > 0)]
    seeds = adaptations["target_return"].shape[1]
    size = (1.0 + 3.2 * len(names), 0.8 + 2.6 * seeds)
    figure = Figure(figsize=size, layout="constrained")
    for seed in range(seeds):
        for column, name in enumerate(names):
            axes = figure.add_subplot(seeds, len(names), seed * len(names) + column + 1)
            parts = [adaptations[f"posterior_{part}/{name}"] for part in ("mean", "low", "high")]
            mean, std = (metrics[f"source_{part}/{name}"][0, seed] for part in ("mean", "std"))
            before = (float(mean), float(mean - 3**0.5 * std), float(mean + 3**0.5 * std))
            truth = adaptations.get(f"truth/{name}")
            known = None if truth is None else float(truth[0, seed])
            table = np.stack(parts, axis=-1)[:, seed]
            _draw_rounds(axes, name, table, before, known, units.get(name))
    if title is not None:
        figure.suptitle(title)
    _finish_rounds(figure, path)


def _finish_rounds(figure: Figure, path: str | Path) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()  # one legend serves all
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    write_png(figure, path)


def _draw_rounds(
    axes: Axes,
    name: str,
    table: np.ndarray,
    before: tuple[float, float, float] | None,
    truth: float | None,
    unit: str | None,
) -> None:
    """Draws means and ends ``[rounds, 3]``, and those before the first round.

    The last one is written above, as it may be too narrow beside the source to be seen.
    """
    from matplotlib.ticker import MaxNLocator

    first = int(before is not None)
    rounds = np.arange(1 - first, len(table) + 1)
    if before is not None:
        table = np.concatenate([[before], table])
    mean, low, high = table.T
    # The mean of a skewed posterior may lie beyond an end.
    ends = np.maximum([mean - low, high - mean], 0.0)
    styles = {"posterior, 95 %": (AGENT_COLOUR, slice(first, None))}
    if before is not None:
        styles["source before"] = (OTHER_COLOURS[-1], slice(0, 1))
    axes.plot(rounds, mean, color=AGENT_COLOUR, linewidth=0.8, alpha=0.5)
    for label, (colour, part) in styles.items():
        style = {"color": colour, "fmt": "o", "markersize": 3, "elinewidth": 1.6, "zorder": 4}
        style |= {"capsize": 5, "capthick": 1.4}
        axes.errorbar(rounds[part], mean[part], ends[:, part], label=label, **style)
    if truth is not None:
        line = {"color": "black", "linestyle": "--", "linewidth": 1.2, "zorder": 2}
        axes.axhline(truth, label="truth", **line)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.08)
    axes.set_xlabel("round")
    words = name.replace("_", " ") + ("" if unit is None else f" ({unit})")
    digits = decimals([{"low": low[-1], "high": high[-1]}])
    last, *between = (show_number(float(x), digits) for x in (mean[-1], low[-1], high[-1]))
    axes.set_title(f"{words}\n{last} [{', '.join(between)}]", fontsize="medium")


def _central(source: Distribution[Any], name: str) -> tuple[float, float, float]:
    """Returns mean and ends of the central 95 % of one parameter's distribution."""
    from scipy import stats

    fields = {key: float(getattr(task, name)) for key, task in source._asdict().items()}
    low, high = fields["low"], fields["high"]
    if "std" in fields:
        mean, std = fields["mean"], fields["std"]
        exact = stats.truncnorm((low - mean) / std, (high - mean) / std, mean, std)
    else:
        exact = stats.uniform(low, high - low)
    return float(exact.mean()), float(exact.ppf(0.025)), float(exact.ppf(0.975))


def write_png(figure: Figure, path: str | Path) -> None:
    """Writes a PNG, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_atomically(Path(path), buffer.getvalue())


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


def legend_beside(axes: Axes, said: Sequence[str | None]) -> None:
    """Puts the legend beside the curves, in the order in which they end, under what is said."""
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    order = np.argsort([-np.asarray(line.get_ydata())[-1] for line in lines], kind="stable")
    axes.legend(
        handles=[lines[i] for i in order],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        handlelength=3.6,
        title="\n".join("\n".join(textwrap.wrap(text, 30)) for text in said if text),
        title_fontsize="small",
        alignment="left",
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


def label_above(axes: Axes, x: float, text: str) -> None:
    """Labels a vertical line above the axes, where no curve can be."""
    axes.annotate(
        text,
        (x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize="small",
    )


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
