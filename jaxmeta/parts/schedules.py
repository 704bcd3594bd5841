"""Hyperparameters that change during training, as hashable values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.errors import ConfigError, require
from jaxmeta_envs.core.fields import check_fields

Part = TypeVar("Part", bound=Any)


@dataclass(frozen=True)
class Schedule:
    """A value that moves from ``initial`` to ``final`` and stays there.

    With ``u`` updates done and ``x = min(u / num_updates, 1)`` the value is
    ``final + (initial - final) * f(x)`` where ``f(x) = 1 - x`` (linear),
    ``(1 + cos(πx)) / 2`` (cosine), or 1 while ``x < 1`` and then 0 (step).

    Attributes:
        initial: Value before the first update.
        final: Value from update ``num_updates`` on.
        num_updates: Updates that the way takes; None takes the whole run.
        shape: ``linear``, ``cosine`` or ``step``.
    """

    initial: float
    final: float
    num_updates: int | None = None
    shape: Literal["linear", "cosine", "step"] = "linear"

    def __post_init__(self) -> None:
        check_fields(self)
        updates = self.num_updates
        require(updates is None or updates >= 1, "num_updates", updates, "at least 1 or None")
        shapes = ("linear", "cosine", "step")
        require(self.shape in shapes, "shape", self.shape, ", ".join(shapes))


def value_at(value: float | Schedule, updates: Array) -> Array:
    """Returns the value of a constant or schedule after ``updates`` updates, float32.

    Raises:
        ConfigError: If the schedule spans a run whose length it was not told, see
            `span_run`.
    """
    if not isinstance(value, Schedule):
        return jnp.float32(value)
    if value.num_updates is None:
        raise ConfigError("num_updates is None; outside a run it must be a number of updates")
    x = jnp.minimum(updates.astype(jnp.float32) / value.num_updates, 1.0)
    if value.shape == "step":
        return jnp.where(x < 1.0, jnp.float32(value.initial), jnp.float32(value.final))
    left = 1.0 - x if value.shape == "linear" else 0.5 * (1.0 + jnp.cos(math.pi * x))
    return value.final + (value.initial - value.final) * left


def span_run(part: Part, updates: int) -> Part:
    """Returns a dataclass whose schedules without a length take ``updates`` updates.

    Looks into nested dataclasses; everything else stays as it is.
    """
    changes = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Schedule):
            if value.num_updates is None:
                changes[field.name] = dataclasses.replace(value, num_updates=updates)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = span_run(value, updates)
    return dataclasses.replace(part, **changes)


def check_positive(value: float | Schedule, field: str) -> None:
    """Raises `ConfigError` unless a constant is positive, or a schedule starts so."""
    if isinstance(value, Schedule):
        require(value.initial > 0 and value.final >= 0, field, value, "a schedule of values > 0")
    else:
        require(value > 0, field, value, "a number above 0")


def check_not_negative(value: float | Schedule, field: str) -> None:
    """Raises `ConfigError` if a constant, or an end of a schedule, is below 0."""
    if isinstance(value, Schedule):
        within = value.initial >= 0 and value.final >= 0
        require(within, field, value, "a schedule of values of at least 0")
    else:
        require(value >= 0, field, value, "a number of at least 0")


def check_share(value: float | Schedule, field: str) -> None:
    """Raises `ConfigError` unless a constant, or both ends of a schedule, are in [0, 1]."""
    if isinstance(value, Schedule):
        within = 0.0 <= value.initial <= 1.0 and 0.0 <= value.final <= 1.0
        require(within, field, value, "a schedule of values from 0 to 1")
    else:
        require(0.0 <= value <= 1.0, field, value, "a number from 0 to 1")
