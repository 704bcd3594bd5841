"""The tables of robustness maps, for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jaxmeta.evaluation.table import over, protocol_words
from jaxmeta.render.tables import count, decimals, plain_table, show_mean, show_number, stacked

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from jaxmeta.analysis.robustness.result import Robustness


def robustness_tables(robustness: Robustness) -> Group:
    """Returns a table of returns over the grid, and one of the worst cases if searched.

    What follows ± is half the width of the 95 % interval, over seeds and trials.
    """
    summary = robustness.summary()
    tables = [_grid_table(summary)]
    if any(run["worst_case"] is not None for run in summary["runs"].values()):
        tables += ["", _worst_table(summary)]
    return stacked(*tables)


def parameter_label(name: str, units: dict[str, str]) -> str:
    """Returns a parameter as a person reads it, with its unit if there is one."""
    words = name.replace("_", " ")
    return f"{words} ({units[name]})" if name in units else words


def row_label(run: dict[str, Any]) -> str:
    """Returns which return is reported: ``"return of episode 3"``, or plainly ``"return"``."""
    if run["row"] == 1:
        return "return"
    unit = "episode" if run["episodes_per_adapt"] == 1 else "step"
    return f"return of {unit} {run['row']}"


def _grid_table(summary: dict[str, Any]) -> Table:
    runs = summary["runs"]
    regions = ("everywhere", "inside_training")
    digits = decimals([run[r] for run in runs.values() for r in regions if run[r] is not None])
    swept = " × ".join(name.replace("_", " ") for name in summary["parameters"])
    table = plain_table(f"Return on {summary['family']} over {swept}", _caption(summary))
    table.add_column("run", no_wrap=True)
    for heading in ("mean\n±95 %", "10th\npct.", "worst\npoint"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("in training\nmean ±95 %", "10th\npct.", "worst\npoint"):
        table.add_column(heading, justify="right", no_wrap=True)
    by_mean = sorted(runs.items(), key=lambda item: -_mean(item[1]))
    for label, run in by_mean:
        cells = [cell for region in regions for cell in _region_cells(run[region], digits)]
        table.add_row(label, *cells)
    return table


def _mean(run: dict[str, Any]) -> float:
    return -float("inf") if run["everywhere"] is None else run["everywhere"]["mean"]


def _region_cells(region: dict[str, Any] | None, digits: int) -> list[str]:
    if region is None:
        return ["–", "–", "–"]
    others = [show_number(region[key], digits) for key in ("p10", "worst")]
    return [_with_interval(region, digits), *others]


def _with_interval(numbers: dict[str, Any], digits: int) -> str:
    return show_mean(numbers["mean"], numbers["low"], numbers["high"], digits)


def _worst_table(summary: dict[str, Any]) -> Table:
    """Returns one line per run: the return in the worst case found, and where it is.

    Beside it stands the return at the map's own worst point, on the same trials.
    """
    found = {label: run["worst_case"] for label, run in summary["runs"].items()}
    found = {label: worst for label, worst in found.items() if worst is not None}
    digits = decimals(list(found.values()))
    covers = over([run["num_seeds"] for run in summary["runs"].values()], "trials")
    first = next(iter(found.values()))
    names = first["searched"]
    lines = [_searched_words(first, summary), f"measured on fresh trials; ± is {covers}"]
    table = plain_table("Worst case found", "\n".join([*lines, *_not_worse_words(found)]))
    table.add_column("run", no_wrap=True)
    table.add_column("return\n±95 %", justify="right", no_wrap=True)
    for name in names:
        heading = parameter_label(name, summary["units"]).replace(" (", "\n(")
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("map's own\nworst ±", justify="right", no_wrap=True)
    for label, worst in found.items():
        values = [
            show_number(worst["parameters"][name], _digits(*worst["box"][name])) for name in names
        ]
        returns = [_with_interval(numbers, digits) for numbers in (worst, worst["map"])]
        table.add_row(label, returns[0], *values, returns[1])
    return table


def _digits(low: float, high: float) -> int:
    """Returns the decimals of a hundredth of a range, for all values in a column alike."""
    return min(max(2 - math.floor(math.log10(high - low)), 0), 6) if high > low else 2


def _searched_words(worst: dict[str, Any], summary: dict[str, Any]) -> str:
    """Returns over what was searched and in which box."""
    names = [name.replace("_", " ") for name in worst["searched"]]
    box = {
        "map": "within the map",
        "limits": "up to the family's limits or the ranges given",
        "train": "within what is trained on",
    }[worst["within"]]
    if worst["within"] == "map" and not set(worst["searched"]) <= set(summary["parameters"]):
        box = "within their ranges"
    return f"searched over {', '.join(names)}, {box}"


def _not_worse_words(found: dict[str, dict[str, Any]]) -> list[str]:
    """Returns what to say of the runs of which nothing was found that is worse than the map."""
    names = [label for label, worst in found.items() if not worst["worse"]]
    if not names:
        return []
    rounds = count(len(found[names[0]]["history"]), "generation")
    of = f" (of {', '.join(names)})" if len(found) > 1 else ""
    return [f"{rounds} found nothing clearly worse than the map's worst point{of}"]


def _caption(summary: dict[str, Any]) -> str:
    sizes = " × ".join(str(len(values)) for values in summary["grid"].values())
    runs = list(summary["runs"].values())
    reported = " / ".join(dict.fromkeys(row_label(run) for run in runs))
    seeds = "/".join(dict.fromkeys(str(run["num_seeds"]) for run in runs))
    trials = runs[0]["trials"]
    covers = over([run["num_seeds"] for run in runs], "trials")
    seeds += " seed" if seeds == "1" else " seeds"
    played = f"{reported}; {sizes} simulators × {count(trials, 'trial')} × {seeds}"
    return "\n".join([*protocol_words({"acts": True, **runs[0]}), played, f"± is {covers}"])
