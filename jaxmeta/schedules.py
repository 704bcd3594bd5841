"""Hyperparameters that change during training, as hashable values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.errors import require


@dataclass(frozen=True)
class Schedule:
    """A value that moves from ``initial`` to ``final`` and stays there.

    With ``u`` updates done and ``x = min(u / num_updates, 1)`` the value is
    ``final + (initial - final) * f(x)`` where ``f(x) = 1 - x`` (linear) or
    ``(1 + cos(πx)) / 2`` (cosine).

    Attributes:
        initial: Value before the first update.
        final: Value from update ``num_updates`` on.
        num_updates: Updates that the way takes.
        shape: ``"linear"`` or ``"cosine"``.
    """

    initial: float
    final: float
    num_updates: int
    shape: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        require(self.num_updates >= 1, "num_updates", self.num_updates, "at least 1")
        require(self.shape in ("linear", "cosine"), "shape", self.shape, "linear or cosine")


def value_at(value: float | Schedule, updates: Array) -> Array:
    """Returns the value of a constant or schedule after ``updates`` updates, float32."""
    if not isinstance(value, Schedule):
        return jnp.float32(value)
    x = jnp.minimum(updates.astype(jnp.float32) / value.num_updates, 1.0)
    left = 1.0 - x if value.shape == "linear" else 0.5 * (1.0 + jnp.cos(math.pi * x))
    return value.final + (value.initial - value.final) * left


def check_positive(value: float | Schedule, field: str) -> None:
    """Raises `ConfigError` unless a constant is positive, or a schedule starts so."""
    if isinstance(value, Schedule):
        require(value.initial > 0 and value.final >= 0, field, value, "a schedule of values > 0")
    else:
        require(value > 0, field, value, "a number above 0")
