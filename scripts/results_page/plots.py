"""One picture per method. Each PNG carries what it was drawn from, so that a test can tell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.maml_navigation import PAPER

from jaxmeta.render.figures import AGENT_COLOUR, DASHES, MARKERS, OTHER_COLOURS
from results_page import epopt, guided, maml, policies, rl2
from results_page.experiment import Experiment, curve_reader
from results_page.intervals import Estimate, over_seeds
from results_page.sections import best_known, measured, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IMAGES = Path(__file__).parents[2] / "docs" / "images"
COLOURS = (AGENT_COLOUR, *OTHER_COLOURS)
Data = dict[str, Any]


def rl2_data() -> Data:
    """Returns how far of the way from chance to the best known each cell comes."""
    return {_named(experiment): share(experiment) for experiment in measured(rl2)}


def _named(experiment: Experiment) -> str:
    return experiment.name + (" †" if best_known(experiment)[0] == "oracle" else "")


def draw_rl2(figure: Figure, data: Data) -> None:
    """Draws a point with its interval for every cell."""
    axes = figure.add_subplot()
    for row, (value, low, high) in enumerate(reversed(data.values())):
        axes.errorbar(value, row, xerr=[[value - low], [high - value]], fmt="o", color=AGENT_COLOUR)
    axes.axvline(100, color="black", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(data)), list(reversed(data)))
    text = "% of the way from acting at random to the best that is known"
    axes.set_xlabel(f"{text} →\n† an oracle that is told the task")


def epopt_data() -> Data:
    """Returns the tenth percentile of every policy on every family."""
    return {
        e.name: {n: _of(over_seeds(e.cell["policies"][n][epopt.P10])) for n in epopt.NAMES}
        for e in measured(epopt)
        if e.cell is not None
    }


def draw_epopt(figure: Figure, data: Data) -> None:
    """Draws a panel for every family."""
    panels = _panels(figure, len(data), rows=2 if len(data) > 3 else 1)
    for axes, (name, found) in zip(panels, data.items(), strict=True):
        axes.locator_params(axis="x", nbins=4)
        axes.margins(y=0.2)
        for row, (value, low, high) in enumerate(reversed(found.values())):
            colour = COLOURS[len(found) - 1 - row]
            axes.errorbar(value, row, xerr=[[value - low], [high - value]], fmt="o", color=colour)
        axes.set_yticks(range(len(found)), list(reversed(found)))
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("10th percentile →", fontsize=9)


def maml_data() -> Data:
    """Returns losses after gradient steps, method by method, as long as they stay finite."""
    found: Data = {}
    for experiment in measured(maml):
        cell = experiment.cell
        assert cell is not None
        losses = [(k, maml.read(cell, 10, k).ours.value) for k in cell["steps"]]
        found[experiment.name.rsplit(",", 1)[0]] = [x for x in losses if x[1] < 1e9]
    return found


def draw_maml(figure: Figure, data: Data) -> None:
    """Draws loss against gradient steps."""
    axes = figure.add_subplot()
    _lines(axes, data)
    axes.set_yscale("log")
    axes.set_xlabel("gradient steps on 10 examples")
    axes.set_ylabel("squared error ↓")
    axes.legend(fontsize=8, frameon=False)


def policies_data() -> Data:
    """Returns returns after updates on points in the plane and on their corners."""
    found: Data = {"points": {}, "corners": {}}
    for experiment in measured(policies):
        if experiment.cell is None or not experiment.file.startswith("maml_navigation/"):
            continue
        kind = "corners" if "corners" in experiment.file else "points"
        rows = range(experiment.cell["evaluation"]["rows"])
        curve = [_of(curve_reader(k, ())(experiment.cell).ours) for k in rows]
        found[kind][experiment.name.split(", 1")[0]] = list(enumerate(curve))
    found["points"]["MAML's paper"] = list(enumerate(PAPER))
    return found


def draw_policies(figure: Figure, data: Data) -> None:
    """Draws return against updates, with intervals."""
    for axes, (kind, curves) in zip(_panels(figure, len(data)), data.items(), strict=True):
        _lines(axes, curves)
        axes.set_title(kind, fontsize=9)
        axes.set_xlabel("updates")
        axes.set_ylabel("return ↑")
        axes.legend(fontsize=7, frameon=False)


def gmps_data() -> Data:
    """Returns returns after gradient steps."""
    found: Data = {}
    for experiment in measured(guided):
        cell = experiment.cell
        assert cell is not None
        steps = range(len(cell["return_mean"]))
        found[experiment.name] = [(k, _of(guided.read(cell, k).ours)) for k in steps]
    return found


def draw_gmps(figure: Figure, data: Data) -> None:
    """Draws return against gradient steps, with intervals."""
    axes = figure.add_subplot()
    _lines(axes, data)
    axes.set_xlabel("gradient steps, of which 2 were trained")
    axes.set_ylabel("return ↑")
    axes.legend(fontsize=8, frameon=False)


def _of(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _panels(figure: Figure, number: int, rows: int = 1) -> Sequence[Axes]:
    columns = -(-number // rows)
    return [figure.add_subplot(rows, columns, 1 + index) for index in range(number)]


def _lines(axes: Axes, curves: Data) -> None:
    """Draws curves of ``(x, value)`` or ``(x, (value, low, high))``."""
    for index, (name, points) in enumerate(curves.items()):
        style = {"marker": MARKERS[index], "linestyle": DASHES[index % len(DASHES)]}
        style["color"] = COLOURS[index % len(COLOURS)]
        xs = [x for x, _ in points]
        if isinstance(points[0][1], float):
            axes.plot(xs, [y for _, y in points], label=name, **style)
            continue
        ys, lows, highs = zip(*(y for _, y in points), strict=True)
        ends = [[y - low for y, low in zip(ys, lows, strict=True)]]
        ends.append([high - y for y, high in zip(ys, highs, strict=True)])
        axes.errorbar(xs, ys, yerr=ends, label=name, capsize=2, **style)
        axes.set_xticks(xs)


PLOTS: dict[str, tuple[Callable[[], Data], Callable[[Figure, Data], None], tuple[float, float]]] = {
    "rl2": (rl2_data, draw_rl2, (8.0, 4.6)),
    "epopt": (epopt_data, draw_epopt, (10.0, 4.2)),
    "maml": (maml_data, draw_maml, (8.0, 4.6)),
    "policies": (policies_data, draw_policies, (10.0, 4.2)),
    "gmps": (gmps_data, draw_gmps, (8.0, 4.2)),
}
"""By method: what is drawn, how, and how large."""


def image(name: str) -> Path:
    """Returns where a method's picture lies."""
    return IMAGES / f"results-{name}.png"


def digest(name: str) -> str:
    """Returns a digest of what a picture is to show; figures that round alike are the same."""
    data = json.loads(json.dumps(PLOTS[name][0]()), parse_float=lambda x: f"{float(x):.6g}")
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()


def drawn(name: str) -> str | None:
    """Returns the digest that a picture carries; None if there is no picture."""
    from PIL import Image

    if not image(name).exists():
        return None
    with Image.open(image(name)) as picture:
        return picture.info.get("Description")


def draw(name: str) -> None:
    """Draws a method's picture, unless it is there and shows the same."""
    from matplotlib.figure import Figure

    if drawn(name) == digest(name):
        return
    data, paint, size = PLOTS[name]
    IMAGES.mkdir(exist_ok=True)
    figure = Figure(figsize=size, layout="constrained")
    paint(figure, data())
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(image(name), dpi=110, metadata={"Description": digest(name)})
