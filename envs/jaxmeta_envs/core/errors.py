"""The one error for bad input, and the one way to raise it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any


class ConfigError(ValueError):
    """Bad input: the message names the field, the value and what is allowed."""


def closest(word: Any, words: Iterable[str]) -> str:
    """Returns " (did you mean x?)" if one of ``words`` is near ``word``, else nothing.

    Capitals do not count: MAML is near maml. To what is no text nothing is near.
    """
    if not isinstance(word, str):
        return ""
    by_lower = {known.lower(): known for known in words}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f" (did you mean {by_lower[near[0]]}?)" if near else ""


def require(condition: bool, field: str, value: Any, allowed: str) -> None:
    """Raises `ConfigError` unless ``condition`` holds.

    Args:
        condition: What must be true.
        field: Name of the offending field, as the user writes it.
        value: The value that was given.
        allowed: What would have been accepted, as a noun phrase.
    """
    if not condition:
        raise ConfigError(f"{field} is {value!r}; it must be {allowed}")


def require_number(field: str, value: Any, least: float, most: float = math.inf) -> None:
    """Raises `ConfigError` for a plain number that is out of range or not a number.

    Arrays pass: their values may not be known yet.

    Args:
        field: Name of the offending field, as the user writes it.
        value: The value that was given.
        least: The smallest allowed.
        most: The largest allowed.
    """
    if isinstance(value, int | float):
        within = f"of at least {least:g}" if math.isinf(most) else f"in [{least:g}, {most:g}]"
        require(least <= value <= most and math.isfinite(value), field, value, f"a number {within}")
