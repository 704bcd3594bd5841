"""The one error for bad input, and the one way to raise it."""

from __future__ import annotations

from typing import Any


class ConfigError(ValueError):
    """Bad input: the message names the field, the value and what is allowed."""


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
