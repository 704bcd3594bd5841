"""The vertical axis of a figure of curves: plain numbers, and what has no place on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.render.tables import two_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SQUEEZED = 0.2  # of the axis for all curves but one is too little


def lies_at_zero(summary: dict[str, Any], curve: Sequence[float]) -> bool:
    """Returns whether a curve has no place on the logarithmic axis of losses."""
    return not summary["higher_is_better"] and not np.all(curve)


def scale_values(
    axes: Axes,
    summary: dict[str, Any],
    agents: Sequence[Sequence[float]],
    references: Mapping[str, Sequence[float]],
) -> None:
    """Scales the vertical axis of mean curves that are drawn.

    It is logarithmic where less is better, as a loss falls by decades from the mean over tasks
    to a fitted one, unless a mean is below 0. Where more is better, it ends below a reference
    far above all else.
    """
    if summary["higher_is_better"]:
        cut_off_above(axes, references)
    elif not any(np.any(np.asarray(c, float) < 0) for c in (*agents, *references.values())):
        plain_log(axes.set_yscale, axes.yaxis)


def zero_words(names: Sequence[str]) -> str | None:
    """Returns what the legend says of references without a loss; None if there are none."""
    return f"not drawn, as of loss 0: {', '.join(names)}" if names else None


def plain_log(set_scale: Callable[[str], None], axis: Any) -> None:
    """Makes an axis logarithmic with plain numbers, 0.5 rather than a power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    set_scale("log")
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def cut_off_above(axes: Axes, references: Mapping[str, Sequence[float]]) -> None:
    """Ends the vertical axis below a reference far above all else, and says where that is.

    That is one beside which the rest would be squeezed into a fifth of the axis, as a loophole
    of a reward does.
    """
    lines = {line.get_label(): line for line in axes.get_lines()}
    above = {two_lines(name): np.asarray(curve, float) for name, curve in references.items()}
    rest = [np.asarray(line.get_ydata(), float) for n, line in lines.items() if n not in above]
    rest += list(above.values())
    for label, curve in above.items():
        others = np.concatenate([other for other in rest if other is not curve])
        others = others[np.isfinite(others)]
        low, high = others.min(), others.max()
        if curve.min() <= high or high - low > _SQUEEZED * (curve.max() - low):
            continue
        margin = 0.05 * (high - low)
        axes.set_ylim(low - margin, high + margin)
        ends = (
            f"{curve.min():.4g}"
            if np.ptp(curve) < 0.01 * abs(curve.max())
            else (f"{curve.min():.4g} to {curve.max():.4g}")
        )
        place: dict[str, Any] = {"xycoords": "axes fraction", "ha": "right", "va": "bottom"}
        place |= {"xytext": (0, 2), "textcoords": "offset points"}
        text = f"↑ {' '.join(label.split())}: {ends}"
        axes.annotate(text, (1.0, 1.0), color=lines[label].get_color(), **place)
        return
