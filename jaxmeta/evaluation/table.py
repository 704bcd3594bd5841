"""The table of an evaluation, for the terminal."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from jaxmeta.evaluation.intervals import reach
from jaxmeta.render.tables import (
    arrow,
    badness,
    count,
    decimals,
    plain_table,
    show_mean,
    show_number,
    two_lines,
)

if TYPE_CHECKING:
    from rich.table import Table

    from jaxmeta.evaluation.result import Evaluation

_WIDTH = 80  # of the usual terminal


def evaluation_table(evaluation: Evaluation) -> Table:
    """Returns the rich table of an evaluation: one line per policy, best first.

    Of a trial of more than three episodes the first, the second and the last have a column;
    the second gives way where 80 characters are too few. Of steps of adaptation the first
    two and the last, which sums them up. What follows ± is half the width
    of the 95 % interval; below stands what it is over. Arrows point to the better side.
    """
    from rich.console import Console

    summary = evaluation.summary()
    shown = _shown_rows(summary)
    table = _build(summary, shown)
    if len(shown) == 3 and Console(width=1000).measure(table).maximum > _WIDTH:
        return _build(summary, [shown[0], shown[-1]])
    return table


def _build(summary: dict[str, Any], shown: list[int]) -> Table:
    digits = _digits(summary)
    by_episode, rows = summary["headline"] == "total", summary["rows"]
    table = plain_table(_title(summary), _caption(summary))
    table.add_column("policy", no_wrap=True)
    headings = [f"ep.\n{k + 1}" if by_episode else f"step\n{k}" for k in shown]
    last = ("total" if shown else "ep. 1") if by_episode else f"step {rows - 1}"
    better = arrow(summary["higher_is_better"])
    headings += [f"{last}\n±95 % {better}", f"IQM\n{better}", f"CVaR\n10 % {better}"]
    headings += [f"worst\n{better}"]
    headings += [] if summary["optimal"] is None else [f"regret\n{arrow(False)}"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    lines = _lines(summary, shown, digits)
    for _, name, cells in sorted(lines, key=lambda line: badness(line[0], summary)):
        style = "bold" if name == summary["agent"] else None
        table.add_row(two_lines(name), *cells, style=style)
    return table


def _lines(
    summary: dict[str, Any], shown: list[int], digits: int
) -> list[tuple[float | None, str, list[str]]]:
    """Returns total, name and cells of every line."""
    lines: list[tuple[float | None, str, list[str]]] = []
    for name, policy in summary["policies"].items():
        total = policy[summary["headline"]]
        mean = show_mean(total["mean"], total["low"], total["high"], digits)
        cells = [show_number(policy["rows"]["mean"][k], digits) for k in shown]
        cells.append(mean)
        keys = ("iqm", "cvar10", "worst", "regret")
        cells += [show_number(total[key], digits) for key in keys if key in total]
        lines.append((total["mean"], name, cells))
    if summary["optimal"] is not None:
        best = summary["optimal_total"]
        cells = [show_number(summary["optimal"][k], digits) for k in shown]
        cells += [show_number(best, digits), "", "", "", ""]
        lines.append((best, "optimum (exact)", cells))
    return lines


def _shown_rows(summary: dict[str, Any]) -> list[int]:
    """Returns the rows of the curve that have a column besides the headline."""
    rows = summary["rows"]
    if summary["headline"] == "final":
        return [0, 1][: rows - 1]
    if rows <= 3:
        return list(range(rows)) if rows > 1 else []
    return [0, 1, rows - 1]


def _digits(summary: dict[str, Any]) -> int:
    return decimals([policy[summary["headline"]] for policy in summary["policies"].values()])


def _title(summary: dict[str, Any]) -> str:
    return f"{summary['agent']} on {summary['family']}, split {summary['split']!r}"


def _caption(summary: dict[str, Any]) -> str:
    seeds, tasks, rows = (summary[key] for key in ("num_seeds", "num_tasks", "rows"))
    together = summary["episodes_per_adapt"]
    sizes = f"{count(seeds, 'seed')} × {count(tasks, 'task')}"
    if summary["headline"] == "total":
        sizes += f" × {count(rows, 'episode')}"
    elif not summary["acts"]:
        sizes += f"; {summary['score']} after steps on {count(summary['shots'], 'example')}"
    else:
        sizes += f"; steps of {count(together, 'episode')}"
    if rows > 1:
        sizes += f"; from IQM on, of the {summary['headline']} column"
    return "\n".join([*protocol_words(summary), sizes, f"± is {over([seeds])}"])


def protocol_words(summary: dict[str, Any]) -> list[str]:
    """Returns lines that say under a table how its numbers were played.

    Args:
        summary: With ``acts`` and, if so, ``deterministic`` and ``episodes_per_point``;
            with ``new_tasks`` and ``split`` also whether the tasks are held out.
    """
    lines = []
    if summary["acts"]:
        number = summary["episodes_per_point"]
        point = "one episode" if number == 1 else f"the mean of {number} episodes"
        how = "the mode" if summary["deterministic"] else "sampled"
        lines.append(f"actions are {how}; a point is {point}")
    if not summary.get("new_tasks", True):
        lines.append(f"the tasks of {summary['split']!r} also occur in training")
    return lines


def over(seeds: Collection[int], tasks: str = "tasks") -> str:
    """Returns what intervals of means are over, for captions and legends.

    Args:
        seeds: Seeds of every run that is shown.
        tasks: What the second axis holds.
    """
    if min(seeds) == max(seeds) == 1:
        return f"95 %, over {reach(1, tasks=tasks)} (one seed)"
    several = f"95 %, over {reach(2, tasks=tasks)}"
    return several if min(seeds) > 1 else f"{several}; of one seed over {tasks} only"
