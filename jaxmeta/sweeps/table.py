"""The table of a sweep, for the terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from jaxmeta.evaluation.table import over
from jaxmeta.render.tables import arrow, count, decimals, plain_table, show_mean, show_number

if TYPE_CHECKING:
    from rich.table import Table

_MOST_ROWS = 30


def sweep_table(summary: dict[str, Any]) -> Table:
    """Returns a line per point, best first; those without a mean come last.

    What follows ± is half the width of the 95 % interval over seeds and tasks, of one seed
    over tasks only.
    "behind best" is by how much the best point is better; in brackets the ends of its interval,
    and where they enclose 0, this sweep does not tell the two apart.
    """
    points, ranking = summary["points"], summary["ranking"]
    order = ranking + [i for i in range(len(points)) if i not in ranking]
    digits = decimals([points[i] for i in ranking])
    title = (
        f"{summary['algorithm']} on {summary['family']}: mean {summary['score']} of held-out tasks"
    )
    table = plain_table(title, _caption(summary, len(order) - _MOST_ROWS))
    for name in summary["axes"]:
        table.add_column(name.replace(".", ".\n"), justify="right", overflow="fold")
    better = arrow(summary["higher_is_better"])
    table.add_column(f"{summary['score']} {better}\n±95 %", justify="right", no_wrap=True)
    table.add_column("behind best\n[95 %]", justify="right", no_wrap=True)
    table.add_column("seeds,\nlowest to highest", justify="right", no_wrap=True)
    for row, index in enumerate(order[:_MOST_ROWS]):
        point = points[index]
        values = [f"{value:g}" for value in point["values"].values()]
        style = "bold" if row == 0 and ranking else None
        table.add_row(*values, *_cells(point, summary["num_seeds"], digits), style=style)
    return table


def _cells(point: dict[str, Any], seeds: int, digits: int) -> list[str]:
    if point["mean"] is None:
        why = f"{point['diverged']} of {seeds} diverged" if point["diverged"] else "not finished"
        return [why, "", ""]
    each = sorted(point["of_each_seed"])
    behind, span = "", f"{show_number(each[0], digits)} to {show_number(each[-1], digits)}"
    if point["behind_best"] is not None:
        names = ("behind_best", "behind_best_low", "behind_best_high")
        mean, low, high = (show_number(point[name], digits) for name in names)
        behind = f"{mean} [{low}, {high}]"
    mean = show_mean(point["mean"], point["low"], point["high"], digits)
    return [mean, behind, span if seeds > 1 else ""]


def _caption(summary: dict[str, Any], left_out: int) -> str:
    sizes = f"{count(summary['num_seeds'], 'seed')} × {count(summary['num_tasks'], 'task')}"
    if left_out > 0:
        sizes += f"; {count(left_out, 'more point')} in sweep.json"
    played = ["actions are sampled"] if summary["acts"] else []
    covers = f"± is {over([summary['num_seeds']])}"
    return "\n".join([sizes, *played, covers, *textwrap.wrap(summary["note"], 60)])
