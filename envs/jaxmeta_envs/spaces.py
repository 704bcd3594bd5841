"""Observation and action spaces: two small, hashable descriptions.

They exist so that a task family stays hashable by value (equal families share
one compilation) and so that importing the environments needs nothing but JAX.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.errors import require
from jaxmeta_envs.fields import check_fields


@dataclass(frozen=True)
class Discrete:
    """The integers ``0 .. n - 1``, as an int32 scalar.

    Attributes:
        n: Number of values, at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.n >= 1, "Discrete.n", self.n, "an integer of at least 1")

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.dtype(jnp.int32)

    @property
    def flat_size(self) -> int:
        """Length of the vector that a network sees: one-hot."""
        return self.n

    def sample(self, key: Array) -> Array:
        return jax.random.randint(key, (), 0, self.n, dtype=jnp.int32)

    def clip(self, x: Array) -> Array:
        """Returns the value nearest to ``x``."""
        return jnp.clip(x, 0, self.n - 1)

    def flatten(self, x: Array) -> Array:
        """Returns ``x`` one-hot, float32 ``[n]``."""
        return jax.nn.one_hot(x, self.n, dtype=jnp.float32)

    def zero(self) -> Array:
        """Returns the value that stands for "none yet" at the start of a trial."""
        return jnp.zeros((), jnp.int32)


Bound = float | tuple[float, ...]
"""One bound for all entries, or one for each, in row-major order."""


@dataclass(frozen=True)
class Box:
    """Real arrays of a fixed shape within bounds, float32.

    Attributes:
        low: Smallest value, of every entry or of each; may be ``-inf``.
        high: Largest value, likewise; may be ``inf``.
        shape: Shape of one value.
    """

    low: Bound
    high: Bound
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        require(
            isinstance(self.shape, tuple) and all(d >= 1 for d in self.shape),
            "Box.shape",
            self.shape,
            "a tuple of positive integers",
        )
        for name in ("low", "high"):
            object.__setattr__(self, name, _bound(getattr(self, name), self.shape, name))
        below = np.all(np.asarray(self.low) < np.asarray(self.high))
        require(bool(below), "Box.low", self.low, f"below high={self.high}")

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.dtype(jnp.float32)

    @property
    def flat_size(self) -> int:
        """Length of the vector that a network sees."""
        return math.prod(self.shape)

    @property
    def lowest(self) -> np.ndarray:
        """The lower bound of each entry, float32 of the space's shape."""
        return self._each(self.low)

    @property
    def highest(self) -> np.ndarray:
        """The upper bound of each entry, float32 of the space's shape."""
        return self._each(self.high)

    @property
    def bounded(self) -> np.ndarray:
        """Which entries have two finite bounds, bool of the space's shape."""
        return np.isfinite(self.lowest) & np.isfinite(self.highest)

    @property
    def centre(self) -> np.ndarray:
        """The middle between the bounds; where one is infinite, the value nearest to 0."""
        low, high = self.lowest.astype(np.float64), self.highest.astype(np.float64)
        with np.errstate(invalid="ignore"):
            middle = np.where(self.bounded, 0.5 * (low + high), np.clip(0.0, low, high))
        return middle.astype(np.float32)

    @property
    def half_range(self) -> np.ndarray:
        """Half the distance of the bounds; 1 where one is infinite."""
        low, high = self.lowest.astype(np.float64), self.highest.astype(np.float64)
        return np.where(self.bounded, 0.5 * (high - low), 1.0).astype(np.float32)

    def to_unit(self, x: Array) -> Array:
        """Returns ``x`` in half ranges from the centre: bounds are at -1 and 1."""
        return (x - _beneath(self.centre, x)) / _beneath(self.half_range, x)

    def from_unit(self, x: Array) -> Array:
        """Returns what `to_unit` brings to ``x``."""
        return jnp.asarray(_beneath(self.centre, x) + _beneath(self.half_range, x) * x)

    def sample(self, key: Array) -> Array:
        """Draws uniformly; an infinite bound is replaced by ±1 around the other one."""
        low, high = self.lowest, self.highest
        low = np.where(np.isfinite(low), low, np.minimum(-1.0, high - 1.0))
        high = np.where(np.isfinite(high), high, np.maximum(1.0, low + 1.0))
        low, high = low.astype(np.float32), high.astype(np.float32)
        return jax.random.uniform(key, self.shape, jnp.float32, low, high)

    def clip(self, x: Array) -> Array:
        """Returns the value nearest to ``x``."""
        return jnp.clip(x, _beneath(self.lowest, x), _beneath(self.highest, x))

    def flatten(self, x: Array) -> Array:
        """Returns ``x`` as a float32 vector ``[flat_size]``."""
        return jnp.asarray(x, jnp.float32).reshape(self.flat_size)

    def zero(self) -> Array:
        """Returns the value that stands for "none yet" at the start of a trial: the centre."""
        return jnp.asarray(self.centre)

    def _each(self, bound: Bound) -> np.ndarray:
        return np.broadcast_to(np.asarray(bound, np.float32).reshape(-1), self.flat_size).reshape(
            self.shape
        )


def _beneath(each: np.ndarray, x: Array) -> np.ndarray:
    """Returns what is of each entry with as many axes as ``x``, which may have some in front."""
    return each.reshape((1,) * (jnp.ndim(x) - each.ndim) + each.shape)


def _bound(value: Any, shape: tuple[int, ...], name: str) -> Bound:
    """Returns a bound as a number, or as a tuple of one for each entry that are not all equal."""
    given = np.asarray(value, np.float64)
    fits = given.size in (1, math.prod(shape))
    require(fits, f"Box.{name}", value, f"a number, or {math.prod(shape)} of them")
    flat = tuple(given.ravel().tolist())
    return flat[0] if len(set(flat)) == 1 else flat


Space = Discrete | Box
