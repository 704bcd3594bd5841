"""What stands between an observation and the memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks.initializers import Initializer, orthogonal
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields

_ORTHOGONAL = orthogonal(2**0.5)
_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


class _Layers(nn.Module):
    sizes: tuple[int, ...]
    activation: str
    weights: Initializer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for size in self.sizes:
            x = nn.Dense(size, kernel_init=self.weights)(x)
            x = _ACTIVATIONS[self.activation](x)
        return x


class Encoder(ABC):
    """Makes features of an observation; a frozen dataclass of its sizes."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Length of the features."""

    @abstractmethod
    def init(self, key: Array, input_size: int) -> Mapping[str, Any]:
        """Returns parameters for inputs ``[input_size]``."""

    @abstractmethod
    def apply(self, params: Mapping[str, Any], x: Array) -> Array:
        """Maps ``[input_size]`` to ``[output_size]``."""


@dataclass(frozen=True)
class MLP(Encoder):
    """Fully connected layers.

    Attributes:
        sizes: Units of each layer.
        activation: After every layer, ``relu`` or ``tanh``.
    """

    sizes: tuple[int, ...] = (64,)
    activation: Literal["relu", "tanh"] = "relu"

    def __post_init__(self) -> None:
        check_fields(self)
        sizes = self.sizes
        require(
            len(sizes) > 0 and all(s >= 1 for s in sizes), "sizes", sizes, "one or more sizes >= 1"
        )
        known = ", ".join(_ACTIVATIONS)
        require(self.activation in _ACTIVATIONS, "activation", self.activation, known)

    @property
    def output_size(self) -> int:
        return self.sizes[-1]

    def init(
        self, key: Array, input_size: int, weights: Initializer = _ORTHOGONAL
    ) -> Mapping[str, Any]:
        """Returns parameters for inputs ``[input_size]``, the weights drawn by ``weights``."""
        return self._layers(weights).init(key, jnp.zeros(input_size))

    def apply(self, params: Mapping[str, Any], x: Array) -> Array:
        return jnp.asarray(self._layers().apply(params, x))

    def _layers(self, weights: Initializer = _ORTHOGONAL) -> _Layers:
        return _Layers(self.sizes, self.activation, weights)
