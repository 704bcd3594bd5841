"""Recurrent memories: one-step cells that the rollout's own scan applies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks.initializers import Initializer, orthogonal
from jaxmeta_envs.errors import require

Params = Mapping[str, Any]


class GRUCell(nn.Module):
    """One step of a gated recurrent unit.

    With input ``x [d]`` and memory ``h [H]``::

        r  = σ(x W_r + h U_r + b_r)          reset gate
        z  = σ(x W_z + h U_z + b_z)          update gate: the share of h that is kept
        n  = tanh(x W_n + b_n + r (h U_n + c_n))
        h' = z h + (1 - z) n

    Reference: Cho et al. 2014, arXiv 1406.1078.
    Differs from the paper: the reset gate acts after the recurrent product, which lets one
    product serve all three gates (as cuDNN does).
    """

    hidden_size: int
    update_bias: float

    @nn.compact
    def __call__(self, h: Array, x: Array) -> Array:
        size = self.hidden_size
        w = self.param(
            "input_kernel", _per_gate(nn.initializers.lecun_normal()), (len(x), 3 * size)
        )
        u = self.param("hidden_kernel", _per_gate(orthogonal()), (size, 3 * size))
        b = self.param("bias", self._init_bias, (3 * size,))
        c = self.param("hidden_bias", nn.initializers.zeros, (size,))
        # jnp.split: slicing gates inside differentiated code transposes to pad and add.
        xr, xz, xn = jnp.split(x @ w + b, 3)
        hr, hz, hn = jnp.split(h @ u, 3)
        r = jax.nn.sigmoid(xr + hr)
        z = jax.nn.sigmoid(xz + hz)
        n = jnp.tanh(xn + r * (hn + c))
        return z * h + (1.0 - z) * n

    def _init_bias(self, key: Array, shape: tuple[int, ...]) -> Array:
        del key
        reset, update, new = jnp.split(jnp.zeros(shape), 3)
        return jnp.concatenate([reset, update + self.update_bias, new])


def _per_gate(init: Initializer) -> Initializer:
    """Initialises the three gates' matrices one by one, each as a matrix of its own."""

    def initialize(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        one = (shape[0], shape[1] // 3)
        return jnp.concatenate([init(k, one, dtype) for k in jax.random.split(key, 3)], axis=1)

    return initialize


@dataclass(frozen=True)
class GRU:
    """A gated recurrent unit as memory.

    Attributes:
        hidden_size: Units.
        update_bias: Initial bias of the update gate. Above 0 the memory starts by keeping
            most of what it holds, so that gradients reach back through long trials: with 1
            a unit forgets with a time constant of about 3 steps at the start of training,
            with 0 of 1.4.
    """

    hidden_size: int = 128
    update_bias: float = 1.0

    def __post_init__(self) -> None:
        require(self.hidden_size >= 1, "hidden_size", self.hidden_size, "at least 1")

    def init(self, key: Array, input_size: int) -> Params:
        """Returns parameters for inputs ``[input_size]``."""
        return self._cell().init(key, self.initial_carry(), jnp.zeros(input_size))

    def initial_carry(self) -> Array:
        """Returns the memory of an agent that has seen nothing, ``[hidden_size]``."""
        return jnp.zeros(self.hidden_size)

    def step(self, params: Params, carry: Array, x: Array) -> tuple[Array, Array]:
        """Takes in one input; returns the new carry and the features, ``[hidden_size]``."""
        new_carry = jnp.asarray(self._cell().apply(params, carry, x))
        return new_carry, new_carry

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def _cell(self) -> GRUCell:
        return GRUCell(self.hidden_size, self.update_bias)
