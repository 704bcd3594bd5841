"""Figures of the posterior of physical parameters, round after round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.render.figures import AGENT_COLOUR, OTHER_COLOURS, write_png
from jaxmeta.render.tables import decimals, show_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxmeta.sim_to_real.adaptation import SourcePosterior
    from jaxmeta_envs.random.distributions import Distribution


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
