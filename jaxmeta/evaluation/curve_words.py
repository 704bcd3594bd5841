"""What stands at the axes of adaptation curves: what was measured, and after how much of what.

All read a summary: of an evaluation or a comparison.
"""

from __future__ import annotations

from typing import Any


def value_label(summary: dict[str, Any]) -> str:
    """Returns what a point of a curve is."""
    after = "of the next episode" if summary["acts"] else "on other examples"
    return with_unit(f"{summary['score']} {after}", summary["unit"])


def first_value_label(summary: dict[str, Any]) -> str:
    """Returns what the one point of a curve of a single row is."""
    if not summary["acts"]:
        return with_unit(f"{summary['score']} before adaptation", summary["unit"])
    words = with_unit(f"{summary['score']} of the first episode", summary["unit"])
    said = points_label(summary)
    return words if said is None else f"{words}\n{said}"


def experience_label(summary: dict[str, Any]) -> str:
    """Returns what the rows of an evaluation are after."""
    if not summary["acts"]:
        return f"gradient steps on {summary['shots']} examples"
    together = summary["episodes_per_adapt"]
    return (
        "episodes of experience"
        if together == 1
        else f"steps of adaptation, {together} episodes each"
    )


def points_label(summary: dict[str, Any]) -> str | None:
    """Returns what the legend says of all points; None if they are sampled single episodes."""
    if not summary["acts"]:
        return None
    number, lines = summary["episodes_per_point"], []
    if number > 1:
        lines.append(f"a point: mean of {number} episodes")
    if summary["deterministic"]:
        lines.append("actions are the mode")
    return "\n".join(lines) or None


def with_unit(words: str, unit: str) -> str:
    """Returns words with a unit behind, if there is one."""
    return f"{words} ({unit})" if unit else words
