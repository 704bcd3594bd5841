"""Observation and action spaces: small, hashable descriptions of arrays and trees of them.

They exist so that a task family stays hashable by value (equal families share
one compilation) and so that importing the environments needs nothing but JAX.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields


class Space(abc.ABC):
    """What a value is. Subclasses are frozen dataclasses; methods are pure and un-batched."""

    @property
    @abc.abstractmethod
    def abstract(self) -> Any:
        """Shapes and dtypes of a value: what `jax.eval_shape` would return of it."""

    @property
    @abc.abstractmethod
    def flat_size(self) -> int:
        """Length of the vector that a network sees."""

    @property
    @abc.abstractmethod
    def real(self) -> np.ndarray:
        """Which entries of that vector are real numbers, not one-hot, bool ``[flat_size]``."""

    @abc.abstractmethod
    def sample(self, key: Array) -> Any:
        """Draws a value uniformly."""

    @abc.abstractmethod
    def clip(self, x: Any) -> Any:
        """Returns the value nearest to ``x``."""

    @abc.abstractmethod
    def contains(self, x: Any) -> Array:
        """Whether ``x`` is a value, a bool scalar: what has another form is not."""

    @abc.abstractmethod
    def flatten(self, x: Any) -> Array:
        """Returns what a network sees of ``x``, float32 ``[flat_size]``; integers one-hot."""

    @abc.abstractmethod
    def zero(self) -> Any:
        """Returns the value that stands for "none yet" at the start of a trial."""


class ArraySpace(Space):
    """A space whose values are arrays of one shape and dtype within bounds.

    Attributes:
        shape: Shape of one value.
    """

    shape: tuple[int, ...]

    @property
    @abc.abstractmethod
    def dtype(self) -> jnp.dtype: ...

    @property
    @abc.abstractmethod
    def lowest(self) -> np.ndarray:
        """The lower bound of each entry, of the space's shape."""

    @property
    @abc.abstractmethod
    def highest(self) -> np.ndarray:
        """The upper bound of each entry, of the space's shape."""

    @property
    def abstract(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def clip(self, x: Array) -> Array:
        return jnp.clip(x, _beneath(self.lowest, x), _beneath(self.highest, x))

    def contains(self, x: Any) -> Array:
        if jnp.shape(x) != self.shape or jnp.result_type(x) != self.dtype:
            return jnp.asarray(False)
        return jnp.all((x >= self.lowest) & (x <= self.highest))


def as_array_space(space: Space, role: str, user: str) -> ArraySpace:
    """Returns a space whose values are arrays.

    Raises:
        ConfigError: If it is another one, which ``user`` cannot deal with.
    """
    known = f"a Discrete, MultiDiscrete or Box for {user}"
    require(isinstance(space, ArraySpace), role, space, known)
    assert isinstance(space, ArraySpace)
    return space


@dataclass(frozen=True)
class Discrete(ArraySpace):
    """The integers ``0 .. n - 1``, as an int32 scalar.

    Attributes:
        n: Number of values, at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.n >= 1, "Discrete.n", self.n, "an integer of at least 1")

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ()

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.dtype(jnp.int32)

    @property
    def lowest(self) -> np.ndarray:
        return np.asarray(0, np.int32)

    @property
    def highest(self) -> np.ndarray:
        return np.asarray(self.n - 1, np.int32)

    @property
    def flat_size(self) -> int:
        return self.n

    @property
    def real(self) -> np.ndarray:
        return np.zeros(self.n, bool)

    def sample(self, key: Array) -> Array:
        return jax.random.randint(key, (), 0, self.n, dtype=jnp.int32)

    def clip(self, x: Array) -> Array:
        return jnp.clip(x, 0, self.n - 1)

    def flatten(self, x: Array) -> Array:
        return jax.nn.one_hot(x, self.n, dtype=jnp.float32)

    def zero(self) -> Array:
        return jnp.zeros((), jnp.int32)


@dataclass(frozen=True)
class MultiDiscrete(ArraySpace):
    """Several integers, each from 0 to a bound of its own, int32 ``[m]``.

    Attributes:
        sizes: Number of values of each, at least 1.
    """

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        fine = len(self.sizes) > 0 and all(n >= 1 for n in self.sizes)
        require(fine, "MultiDiscrete.sizes", self.sizes, "one or more integers >= 1")

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (len(self.sizes),)

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.dtype(jnp.int32)

    @property
    def lowest(self) -> np.ndarray:
        return np.zeros(self.shape, np.int32)

    @property
    def highest(self) -> np.ndarray:
        return np.asarray(self.sizes, np.int32) - 1

    @property
    def flat_size(self) -> int:
        return sum(self.sizes)

    @property
    def real(self) -> np.ndarray:
        return np.zeros(self.flat_size, bool)

    def sample(self, key: Array) -> Array:
        ends = np.asarray(self.sizes, np.int32)
        return jax.random.randint(key, self.shape, 0, ends, dtype=jnp.int32)

    def flatten(self, x: Array) -> Array:
        """Returns the integers one-hot one after the other, float32 ``[flat_size]``."""
        each = (jax.nn.one_hot(x[i], n, dtype=jnp.float32) for i, n in enumerate(self.sizes))
        return jnp.concatenate(list(each))

    def zero(self) -> Array:
        return jnp.zeros(self.shape, jnp.int32)


Bound = float | tuple[float, ...]
"""One bound for all entries, or one for each, in row-major order."""


@dataclass(frozen=True)
class Box(ArraySpace):
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
        return math.prod(self.shape)

    @property
    def real(self) -> np.ndarray:
        return np.ones(self.flat_size, bool)

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

    def flatten(self, x: Array) -> Array:
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
