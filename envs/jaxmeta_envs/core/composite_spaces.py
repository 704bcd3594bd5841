"""Spaces whose values are dicts or tuples of values of other spaces."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.spaces import Space


class _Composite(Space):
    """What spaces of several parts share; they say how a value is taken apart and put together."""

    @property
    @abc.abstractmethod
    def parts(self) -> tuple[Space, ...]:
        """The spaces of the parts."""

    @abc.abstractmethod
    def _values(self, x: Any) -> tuple | None:
        """Returns the parts of a value, or None if it is no such tree."""

    @abc.abstractmethod
    def _build(self, values: tuple) -> Any:
        """Returns the value of these parts."""

    @property
    def abstract(self) -> Any:
        return self._build(tuple(part.abstract for part in self.parts))

    @property
    def flat_size(self) -> int:
        return sum(part.flat_size for part in self.parts)

    @property
    def real(self) -> np.ndarray:
        return np.concatenate([part.real for part in self.parts])

    def sample(self, key: Array) -> Any:
        keys = jax.random.split(key, len(self.parts))
        return self._build(tuple(part.sample(k) for part, k in zip(self.parts, keys, strict=True)))

    def clip(self, x: Any) -> Any:
        return self._build(tuple(part.clip(value) for part, value in self._pairs(x)))

    def contains(self, x: Any) -> Array:
        if self._values(x) is None:
            return jnp.asarray(False)
        return jnp.stack([part.contains(value) for part, value in self._pairs(x)]).all()

    def flatten(self, x: Any) -> Array:
        return jnp.concatenate([part.flatten(value) for part, value in self._pairs(x)])

    def zero(self) -> Any:
        return self._build(tuple(part.zero() for part in self.parts))

    def _pairs(self, x: Any) -> list[tuple[Space, Any]]:
        values = self._values(x)
        require(values is not None, "value", x, f"one of {self}")
        return list(zip(self.parts, values or (), strict=True))


@dataclass(frozen=True)
class Dict(_Composite):
    """A dict of values by name.

    Attributes:
        spaces: Space by name: a mapping, kept as pairs in the order of the names.
    """

    spaces: Mapping[str, Space] | tuple[tuple[str, Space], ...]

    def __post_init__(self) -> None:
        pairs = tuple(sorted(dict(self.spaces).items(), key=lambda pair: pair[0]))
        object.__setattr__(self, "spaces", pairs)
        _check_parts("Dict.spaces", self.parts)

    @property
    def named(self) -> dict[str, Space]:
        """Space by name, in the order of the names."""
        return dict(self.spaces)

    @property
    def parts(self) -> tuple[Space, ...]:
        return tuple(self.named.values())

    def _values(self, x: Any) -> tuple | None:
        fits = isinstance(x, Mapping) and set(x) == set(self.named)
        return tuple(x[name] for name in self.named) if fits else None

    def _build(self, values: tuple) -> dict[str, Any]:
        return dict(zip(self.named, values, strict=True))


@dataclass(frozen=True)
class Tuple(_Composite):
    """A tuple of values.

    Attributes:
        spaces: Their spaces.
    """

    spaces: tuple[Space, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "spaces", tuple(self.spaces))
        _check_parts("Tuple.spaces", self.spaces)

    @property
    def parts(self) -> tuple[Space, ...]:
        return self.spaces

    def _values(self, x: Any) -> tuple | None:
        return tuple(x) if isinstance(x, tuple) and len(x) == len(self.spaces) else None

    def _build(self, values: tuple) -> tuple:
        return values


def _check_parts(name: str, parts: tuple[Space, ...]) -> None:
    fine = len(parts) > 0 and all(isinstance(part, Space) for part in parts)
    require(fine, name, parts, "one or more spaces")
