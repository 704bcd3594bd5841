"""The table of an evaluation, for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table

    from jaxmeta.report import Evaluation


def evaluation_table(evaluation: Evaluation) -> Table:
    """Returns the rich table of an evaluation: one row per policy, best total first.

    Of a long curve only the first two rows and the last have a column.
    """
    from rich.table import Table

    summary = evaluation.summary()
    rows = _shown_rows(summary["rows"])
    regret = summary["optimal"] is not None
    digits = _digits(summary)
    table = Table(title=_title(summary), caption=_caption(summary))
    table.add_column("policy")
    unit = "episode" if summary["episodes_per_adapt"] == 1 else "step"
    total = "total [95 %]" if rows else f"{unit} 1 [95 %]"
    for heading in [f"{unit} {k + 1}" for k in rows] + [total, "IQM", "CVaR 10 %", "worst"]:
        table.add_column(heading, justify="right")
    if regret:
        table.add_column("regret", justify="right")
    for name, cells in sorted(_lines(summary, rows, digits), key=lambda line: -line[1]):
        table.add_row(name, *cells[: None if regret else -1], style=_style(evaluation, name)) \
            if False else None
    return table
