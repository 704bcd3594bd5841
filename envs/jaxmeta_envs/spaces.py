"""Observation and action spaces: two small, hashable descriptions.

They exist so that a task family stays hashable by value (equal families share
one compilation) and so that importing the environments needs nothing but JAX.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.errors import require


@dataclass(frozen=True)
class Discrete:
    """The integers ``0 .. n - 1``, as an int32 scalar.

    Attributes:
        n: Number of values, at least 1.
    """

    n: int

    def __post_init__(self) -> None:
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


@dataclass(frozen=True)
class Box:
    """Real vectors of a fixed shape within scalar bounds, float32.

    Attributes:
        low: Smallest value of every entry; may be ``-inf``.
        high: Largest value of every entry; may be ``inf``.
        shape: Shape of one value.
    """

    low: float
    high: float
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        require(self.low < self.high, "Box.low", self.low, f"a number below high={self.high}")
        require(
            isinstance(self.shape, tuple) and all(d >= 1 for d in self.shape),
            "Box.shape",
            self.shape,
            "a tuple of positive integers",
        )

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.dtype(jnp.float32)

    @property
    def flat_size(self) -> int:
        """Length of the vector that a network sees."""
        return math.prod(self.shape)

    @property
    def half_range(self) -> float:
        """Half the distance of the bounds; 1 if there is an infinite one."""
        half = 0.5 * (self.high - self.low)
        return half if math.isfinite(half) else 1.0

    def sample(self, key: Array) -> Array:
        """Draws uniformly; an infinite bound is replaced by ±1 around the other one."""
        low = self.low if math.isfinite(self.low) else min(-1.0, self.high - 1.0)
        high = self.high if math.isfinite(self.high) else max(1.0, low + 1.0)
        return jax.random.uniform(key, self.shape, jnp.float32, low, high)

    def clip(self, x: Array) -> Array:
        """Returns the value nearest to ``x``."""
        return jnp.clip(x, self.low, self.high)

    def flatten(self, x: Array) -> Array:
        """Returns ``x`` as a float32 vector ``[flat_size]``."""
        return jnp.asarray(x, jnp.float32).reshape(self.flat_size)

    def zero(self) -> Array:
        """Returns the value that stands for "none yet" at the start of a trial."""
        return jnp.zeros(self.shape, jnp.float32)


Space = Discrete | Box
