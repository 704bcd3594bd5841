"""What tasks are drawn from in training: a split of the family, or its standard parameters."""

from __future__ import annotations

from typing import Any

from jax import Array

from jaxmeta_envs.core.contracts import TaskFamily
from jaxmeta_envs.core.errors import closest, require
from jaxmeta_envs.core.physical import PhysicalFamily

NOMINAL = "nominal"
"""The source that is the standard simulator alone."""


def check_source(source: str, family: TaskFamily) -> None:
    """Raises `ConfigError` unless tasks can be drawn from this source.

    Args:
        source: A split of the family, or `NOMINAL`.
        family: The task family.
    """
    if source == NOMINAL:
        splits = ", ".join(family.splits)
        require(
            isinstance(family, PhysicalFamily),
            "source",
            source,
            f"a split of {type(family).__name__}, which has no standard parameters: {splits}",
        )
        return
    splits = (*family.splits, NOMINAL)
    known = f"one of {', '.join(splits)}{closest(source, splits)}"
    require(source in splits, "source", source, known)


def draw_task(family: TaskFamily, source: str, key: Array) -> Any:
    """Returns a task of a source; all of `NOMINAL` are alike."""
    if source == NOMINAL:
        assert isinstance(family, PhysicalFamily)
        return family.nominal_task()
    return family.sample_task(key, source)
