"""What all tables share: numbers, words and the one look."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table


def two_lines(name: str) -> str:
    """Returns a policy's name with what is said of it in a line of its own."""
    return name.replace(" (for ", "\n(for ")


def badness(mean: float | None, summary: dict[str, Any]) -> float:
    """Returns what puts the best first when sorted by it; what diverged comes last."""
    if mean is None:
        return math.inf
    return -mean if summary["higher_is_better"] else mean


def arrow(higher_is_better: bool) -> str:
    """Returns which way is better."""
    return "↑" if higher_is_better else "↓"


def decimals(intervals: list[dict[str, Any]]) -> int:
    """Returns decimals such that the typical ± has two significant digits.

    Args:
        intervals: With ``"low"`` and ``"high"``, which may be None.
    """
    known = [(ends["low"], ends["high"]) for ends in intervals if ends["low"] is not None]
    # Equal values have an interval as wide as their rounding.
    widths = sorted((high - low) / 2 for low, high in known if high - low > 1e-9 * abs(high))
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

    from jaxmeta.render.columns import FittingTable

    table = FittingTable(title=title, caption=caption, box=SIMPLE_HEAD)
    table.padding, table.pad_edge, table.show_edge = (0, 1, 0, 0), False, False
    return table


def show_mean(mean: float | None, low: float | None, high: float | None, digits: int) -> str:
    """Returns a number and, behind ±, half the width of its interval, if there is one."""
    shown = show_number(mean, digits)
    if low is None or high is None:
        return shown
    return f"{shown} ±{show_number((high - low) / 2, digits)}"


def show_number(value: float | None, digits: int) -> str:
    """Returns a number with so many decimals, never a zero with a minus; a dash for None."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def count(number: int, noun: str) -> str:
    """Returns ``"1 task"`` or ``"1,000 tasks"``; of several words the first is counted."""
    if number == 1:
        return f"1 {noun}"
    first, space, rest = noun.partition(" ")
    return f"{number:,} {first}s{space}{rest}"
