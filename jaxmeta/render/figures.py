"""What all figures share. Matplotlib without pyplot, so without global state."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxmeta.runtime.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


def write_png(figure: Figure, path: str | Path) -> None:
    """Writes a PNG, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_atomically(Path(path), buffer.getvalue())


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
