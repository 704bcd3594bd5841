"""The table of an evaluation, for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

    from jaxmeta.report import Evaluation

_WIDTH = 80  # of the usual terminal


def evaluation_table(evaluation: Evaluation) -> Table:
    """Returns the rich table of an evaluation: one line per policy, best first.

    Of a trial of more than three episodes the first, the second and the last have a column;
    the second gives way where 80 characters are too few. Of steps of adaptation the first
    two and the last, which sums them up. What follows ± is half the width
    of the bootstrap 95 % interval.
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
    headings += [f"{last}\n±95 %", "IQM", "CVaR\n10 %", "worst"]
    headings += [] if summary["optimal"] is None else ["regret"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    sign = 1 if summary["score"] == "loss" else -1
    for _, name, cells in sorted(_lines(summary, shown, digits), key=lambda line: sign * line[0]):
        style = "bold" if name == summary["agent"] else None
        table.add_row(two_lines(name), *cells, style=style)
    return table


def two_lines(name: str) -> str:
    """Returns a policy's name with what is said of it in a line of its own."""
    return name.replace(" (for ", "\n(for ")


def _lines(
    summary: dict[str, Any], shown: list[int], digits: int
) -> list[tuple[float, str, list[str]]]:
    """Returns total, name and cells of every line."""
    lines = []
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


def decimals(intervals: list[dict[str, Any]]) -> int:
    """Returns decimals such that the typical ± has two significant digits.

    Args:
        intervals: With ``"low"`` and ``"high"``, which may be None.
    """
    known = [ends["high"] - ends["low"] for ends in intervals if ends["low"] is not None]
    widths = sorted(width / 2 for width in known if width > 0)
    if not widths:
        return 2
    return min(max(1 - math.floor(math.log10(widths[len(widths) // 2])), 1), 6)


def stacked(*parts: RenderableType) -> Group:
    """Returns parts one below the other, which a notebook shows as it shows a table."""
    from rich.console import Group
    from rich.jupyter import JupyterMixin

    class Stack(JupyterMixin, Group):
        pass

    return Stack(*parts)


def plain_table(title: str, caption: str) -> Table:
    """Returns an empty table in the one look of all tables."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, caption=caption, box=SIMPLE_HEAD)
    table.padding, table.pad_edge, table.show_edge = (0, 1, 0, 0), False, False
    return table


def show_mean(mean: float, low: float | None, high: float | None, digits: int) -> str:
    """Returns a number and, behind ±, half the width of its interval, if there is one."""
    shown = show_number(mean, digits)
    if low is None or high is None:
        return shown
    return f"{shown} ±{show_number((high - low) / 2, digits)}"


def show_number(value: float, digits: int) -> str:
    """Returns a number with so many decimals, and never a zero with a minus."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _title(summary: dict[str, Any]) -> str:
    return f"{summary['agent']} on {summary['family']}, split {summary['split']!r}"


def _caption(summary: dict[str, Any]) -> str:
    seeds, tasks, rows = (summary[key] for key in ("num_seeds", "num_tasks", "rows"))
    together = summary["episodes_per_adapt"]
    sizes = f"{count(seeds, 'seed')} × {count(tasks, 'task')}"
    if summary["headline"] == "total":
        sizes += f" × {count(rows, 'episode')}"
    elif summary["score"] == "loss":
        sizes += f"; loss after steps on {count(summary['shots'], 'example')}"
    else:
        sizes += f"; steps of {count(together, 'episode')}"
    sizes = sizes if rows == 1 else f"{sizes}; from IQM on, of the {summary['headline']} column"
    return "\n".join([*protocol_words(summary), sizes])


def protocol_words(summary: dict[str, Any]) -> list[str]:
    """Returns lines that say under a table how its numbers were played.

    Args:
        summary: With ``score`` and, of returns, ``deterministic`` and ``episodes_per_point``;
            with ``new_tasks`` and ``split`` also whether the tasks are held out.
    """
    lines = []
    if summary["score"] == "return":
        number = summary["episodes_per_point"]
        point = "one episode" if number == 1 else f"the mean of {number} episodes"
        how = "the mode" if summary["deterministic"] else "sampled"
        lines.append(f"actions are {how}; a point is {point}")
    if not summary.get("new_tasks", True):
        lines.append(f"the tasks of {summary['split']!r} also occur in training")
    return lines


def count(number: int, noun: str) -> str:
    """Returns ``"1 task"`` or ``"1,000 tasks"``; of several words the first is counted."""
    if number == 1:
        return f"1 {noun}"
    first, space, rest = noun.partition(" ")
    return f"{number:,} {first}s{space}{rest}"
