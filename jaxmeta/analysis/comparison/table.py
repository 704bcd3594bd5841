"""The tables of a comparison, for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jaxmeta.evaluation.table import over, protocol_words
from jaxmeta.render.tables import (
    arrow,
    badness,
    count,
    decimals,
    plain_table,
    show_mean,
    show_number,
    stacked,
    two_lines,
)

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from jaxmeta.analysis.comparison.result import Comparison

_STATISTICS = ("", "iqm_", "cvar10_")  # prefixes of the ends of their intervals
_WORDS = {"training": "trained", "common": "common"}


def comparison_tables(comparison: Comparison) -> Group:
    """Returns a table of every run and reference, and one of every pair of runs, the better first.

    What follows ± is half the width of the 95 % interval, of IQM and CVaR over tasks only.
    Arrows point to the better side.
    """
    summary = comparison.summary()
    return stacked(_runs_table(summary), "", _pairs_table(summary))


def _runs_table(summary: dict[str, Any]) -> Table:
    """Returns the runs, best first, in their rows of interest, and then the references."""
    from rich.markup import escape

    runs, references, common = (summary[k] for k in ("runs", "references", "common_experience"))
    shown = [numbers for run in runs.values() for numbers in (*run["at"].values(), run["total"])]
    digits = decimals([numbers for numbers in shown if numbers is not None])
    table = plain_table(_title(summary), _caption(summary))
    table.add_column("run", overflow="fold")
    unit = "episodes" if summary["acts"] else "steps"
    table.add_column(f"after\n{unit}", justify="right", no_wrap=True)
    table.add_column("")
    better = arrow(summary["higher_is_better"])
    for heading in (
        f"mean {better}\n±95 %",
        f"IQM {better}\n±tasks",
        f"CVaR 10 % {better}\n±tasks",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for label in _best_first(summary, runs):
        rows = _rows_of_interest(runs[label]["at"])
        rows = [(str(numbers["experience"]), words, numbers) for words, numbers in rows]
        if runs[label]["total"] is not None:
            rows.append(("", "total", runs[label]["total"]))
        for i, (experience, words, numbers) in enumerate(rows):
            name, last = ("" if i else escape(label)), i == len(rows) - 1
            table.add_row(name, experience, words, *_cells(numbers, digits), end_section=last)
    for name in _best_first(summary, references):
        at, total = references[name]["common"], references[name]["total"]
        table.add_row(escape(two_lines(name)), str(common), "", *_cells(at, digits))
        if total is not None:
            table.add_row("", "", "total", *_cells(total, digits))
    optimal = summary["optimal"]
    if optimal is not None and common < len(optimal):
        table.add_row("optimum (exact)", str(common), "", show_number(optimal[common], digits))
        if summary["total_episodes"] is not None:
            best = sum(optimal[: summary["total_episodes"]])
            table.add_row("", "", "total", show_number(best, digits))
    return table


def _rows_of_interest(at: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Returns the statistics of each row, and what it is if it lies inside the curve."""
    rows = {numbers["experience"]: numbers for numbers in at.values() if numbers is not None}
    words: dict[int, list[str]] = {experience: [] for experience in sorted(rows)}
    inside = set(rows) - {at["first"]["experience"], at["last"]["experience"]}
    for name, word in _WORDS.items():
        if at[name] is not None and at[name]["experience"] in inside:
            words[at[name]["experience"]].append(word)
    return [(", ".join(words[experience]), rows[experience]) for experience in words]


def _cells(numbers: dict[str, Any], digits: int) -> list[str]:
    cells = []
    for prefix in _STATISTICS:
        value = numbers[prefix.rstrip("_") or "mean"]
        ends = (numbers.get(f"{prefix}low"), numbers.get(f"{prefix}high"))
        cells.append(show_mean(value, *ends, digits))
    return cells


def _best_first(summary: dict[str, Any], entries: dict[str, Any]) -> list[str]:
    """Returns names by the mean after the common experience."""

    def rank(name: str) -> float:
        entry = entries[name]
        numbers = entry["at"]["common"] if "at" in entry else entry["common"]
        return badness(numbers["mean"], summary)

    return sorted(entries, key=rank)


def _pairs_table(summary: dict[str, Any]) -> Table:
    from rich.markup import escape

    pairs = summary["pairs"]
    digits = decimals(
        [
            {"low": pair["difference_low"], "high": pair["difference_high"]}
            for others in pairs.values()
            for pair in others.values()
        ]
    )
    common = summary["common_experience"]
    beats = ">" if summary["higher_is_better"] else "<"
    if summary["acts"]:
        title = f"X beside Y after {count(common, 'episode')} of experience"
    else:
        title = f"X beside Y after {count(common, 'step')} of adaptation"
    seeds = [run["num_seeds"] for run in summary["runs"].values()]
    table = plain_table(title, f"paired over tasks; ties count half\n{over(seeds)}")
    for heading in ("X", "Y"):
        table.add_column(heading, overflow="fold")
    for heading in ("X − Y\n±95 %", f"P(X {beats} Y)", "95 %\ninterval"):
        table.add_column(heading, justify="right", no_wrap=True)
    order = _best_first(summary, summary["runs"])
    for place, one in enumerate(order):
        others = order[place + 1 :]  # the other way round it says the same
        for i, other in enumerate(others):
            pair, last = pairs[one][other], i == len(others) - 1
            ends = (pair["difference_low"], pair["difference_high"])
            difference = show_mean(pair["difference"], *ends, digits)
            cells = [difference, show_number(pair["probability"], 3), _interval(pair)]
            first = "" if i else escape(one)
            table.add_row(first, escape(other), *cells, end_section=last)
    return table


def _interval(pair: dict[str, Any]) -> str:
    low, high = pair["probability_low"], pair["probability_high"]
    return "–" if low is None else f"{low:.3f} to {high:.3f}"


def _title(summary: dict[str, Any]) -> str:
    return f"{summary['score'].capitalize()} on {summary['family']}, split {summary['split']!r}"


def _caption(summary: dict[str, Any]) -> str:
    runs = summary["runs"].values()
    of_each = [run["num_seeds"] for run in runs]
    seeds = "/".join(dict.fromkeys(str(n) for n in of_each))
    lines = protocol_words(summary)
    lines += [f"{count(summary['num_tasks'], 'task')} × {seeds} seed{'s' * (seeds != '1')}"]
    lines.append(f"± is {over(of_each)}")
    lines.append("± of IQM and CVaR is over tasks only")
    if summary["total_episodes"] is not None:
        lines.append(f"total: the sum of {count(summary['total_episodes'], 'episode')}")
    several = {run["episodes_per_adapt"] for run in runs}
    if summary["common_experience"] == 0 and any(len(run["experience"]) > 1 for run in runs):
        needed = math.lcm(*several) + 1
        lines.append(f"no row but the first is common to all; at {needed} episodes one would be")
    return "\n".join(lines)
