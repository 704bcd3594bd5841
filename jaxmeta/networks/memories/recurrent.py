"""Recurrent memories: a step for acting, and a differentiable run over stored sequences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks.initializers import Initializer, orthogonal
from jaxmeta.networks.memories.gru_core import CORES, Core, GRUWeights, gru_step, gru_unroll
from jaxmeta.ops.trees import num_bytes, select
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields

Params = Mapping[str, Any]


class Memory(ABC):
    """What an agent remembers with; a frozen dataclass of its sizes.

    A subclass gives parameters, an empty memory and one step; `unroll` follows from the
    step, and may be overridden by something faster that gives the same.
    """

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Length of the features that a step returns."""

    @abstractmethod
    def init(self, key: Array, input_size: int) -> Params:
        """Returns parameters for inputs ``[input_size]``."""

    @abstractmethod
    def initial_carry(self, input_size: int) -> Any:
        """Returns the memory of an agent that has seen nothing."""

    @abstractmethod
    def step(self, params: Params, carry: Any, x: Array) -> tuple[Any, Array]:
        """Takes in one input ``[input_size]``; returns carry and features ``[output_size]``."""

    def unroll(
        self, params: Params, carry: Any, xs: Array, played: Array, checkpoint: bool = False
    ) -> tuple[Any, Array]:
        """Runs a batch of stored sequences, as acting did.

        Args:
            params: Parameters.
            carry: Memories before the first step, leaves ``[B, ...]``.
            xs: Inputs, ``[L, B, input_size]``.
            played: ``[L, B]``; a row that was not played leaves the memory as it is.
            checkpoint: Whether differentiation computes a step again instead of storing
                what happened in it: less memory, more time.

        Returns:
            Memories after the last step and features ``[L, B, output_size]``.
        """

        def step(carry: Any, row: tuple[Array, Array]) -> tuple[Any, Array]:
            x, on = row
            new_carry, features = jax.vmap(self.step, (None, 0, 0))(params, carry, x)
            return jax.vmap(select)(on, new_carry, carry), features

        return jax.lax.scan(jax.checkpoint(step) if checkpoint else step, carry, (xs, played))

    def activation_bytes(self, steps: int, input_size: int, checkpoint: bool = False) -> int:
        """Returns about how many bytes differentiating `unroll` takes per sequence.

        What is stored on the way forward, the features, and their slopes. Only shapes are looked
        at. To be overridden where the way back needs more by itself.

        Args:
            steps: Length of the sequence.
            input_size: Length of an input.
            checkpoint: As for `unroll`.
        """
        params = jax.eval_shape(lambda: self.init(jax.random.key(0), input_size))

        def stored(batch: int) -> int:
            def differentiated(params: Params) -> Any:
                carry = jax.tree.map(
                    lambda x: jnp.broadcast_to(x, (batch, *jnp.shape(x))),
                    self.initial_carry(input_size),
                )
                xs = jnp.zeros((steps, batch, input_size), jnp.float32)
                played = jnp.ones((steps, batch), bool)

                def run(params: Params, xs: Array) -> tuple[Any, Array]:
                    return self.unroll(params, carry, xs, played, checkpoint)

                return jax.vjp(run, params, xs)[1]

            return num_bytes(jax.eval_shape(differentiated, params))

        # Parameters are among what is stored, once for all sequences.
        return stored(2) - stored(1) + 2 * 4 * self.output_size * steps


def unroll_truncated(
    memory: Memory,
    params: Params,
    carry: Any,
    xs: Array,
    played: Array,
    segment: int,
    checkpoint: bool = False,
) -> Array:
    """Runs sequences whose gradients do not cross the borders of segments.

    The memory itself does cross them: features are those of `Memory.unroll`.

    Args:
        memory: The memory.
        params: Its parameters.
        carry: Memories before the first step, leaves ``[B, ...]``.
        xs: Inputs, ``[L, B, input_size]``.
        played: ``[L, B]``.
        segment: Steps of a segment; the last one may be shorter.
        checkpoint: As for `Memory.unroll`.

    Returns:
        Features, ``[L, B, output_size]``.

    Reference: Williams and Peng 1990, "An efficient gradient-based algorithm for on-line
    training of recurrent network trajectories".
    """
    length = len(xs)
    missing = -length % segment
    rows = jax.tree.map(
        lambda x: jnp.pad(x, ((0, missing),) + ((0, 0),) * (x.ndim - 1)).reshape(
            -1, segment, *x.shape[1:]
        ),
        (xs, played),
    )

    def run(carry: Any, rows: tuple[Array, Array]) -> tuple[Any, Array]:
        return memory.unroll(params, jax.lax.stop_gradient(carry), *rows, checkpoint)

    features = jax.lax.scan(run, carry, rows)[1]
    return features.reshape(-1, *features.shape[2:])[:length]


class GRUCell(nn.Module):
    """One step of a gated recurrent unit; see `GRU`."""

    hidden_size: int
    update_bias: float

    @nn.compact
    def __call__(self, h: Array, x: Array) -> Array:
        size = self.hidden_size
        kernel = _per_gate(nn.initializers.lecun_normal(), 3)
        weights = GRUWeights(
            self.param("input_kernel", kernel, (len(x), 3 * size)),
            self.param("hidden_kernel", _per_gate(orthogonal(), 3), (size, 3 * size)),
            self.param("bias", _gate_bias, (3 * size,), 3, self.update_bias),
            self.param("hidden_bias", nn.initializers.zeros, (size,), jnp.float32),
        )
        return gru_step(weights, h, x)


@dataclass(frozen=True)
class GRU(Memory):
    """A gated recurrent unit as memory.

    With input ``x [d]`` and memory ``h [H]``::

        r  = σ(x W_r + h U_r + b_r)          reset gate
        z  = σ(x W_z + h U_z + b_z)          update gate: the share of h that is kept
        n  = tanh(x W_n + b_n + r (h U_n + c_n))
        h' = z h + (1 - z) n

    Attributes:
        hidden_size: Units.
        update_bias: Initial bias of the update gate. Above 0 the memory starts by keeping
            most of what it holds, so that gradients reach back through long trials: with 1
            a unit forgets with a time constant of about 3 steps at the start of training,
            with 0 of 1.4.
        core: How stored sequences are run and differentiated. ``auto`` suits the backend;
            ``in_loop`` and ``hoisted`` name the two ways, ``plain`` leaves all to JAX. They
            agree to rounding.

    Reference: Cho et al. 2014, arXiv 1406.1078.
    Differs from the paper: the reset gate acts after the recurrent product, which lets one
    product serve all three gates (as cuDNN does).
    """

    hidden_size: int = 128
    update_bias: float = 1.0
    core: Core = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.hidden_size >= 1, "hidden_size", self.hidden_size, "at least 1")
        require(self.core in CORES, "core", self.core, ", ".join(CORES))

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array, input_size: int) -> Params:
        return self._cell().init(key, self.initial_carry(input_size), jnp.zeros(input_size))

    def initial_carry(self, input_size: int) -> Array:
        del input_size
        return jnp.zeros(self.hidden_size, jnp.float32)

    def step(self, params: Params, carry: Array, x: Array) -> tuple[Array, Array]:
        new_carry = jnp.asarray(self._cell().apply(params, carry, x))
        return new_carry, new_carry

    def unroll(
        self, params: Params, carry: Array, xs: Array, played: Array, checkpoint: bool = False
    ) -> tuple[Array, Array]:
        if self.core == "plain":
            return super().unroll(params, carry, xs, played, checkpoint)
        weights = GRUWeights(**params["params"])
        states = gru_unroll(weights, carry, xs, played, self.core, checkpoint)
        return states[-1], states

    def activation_bytes(self, steps: int, input_size: int, checkpoint: bool = False) -> int:
        # Where products are hoisted out of the loop, their factors wait for all steps: those of
        # the input going forward, and their slopes and those of the state going back.
        more = {"hoisted": 10, "auto": 3}.get(self.core, 0)  # of auto, the mean of what it may be
        stored = super().activation_bytes(steps, input_size, checkpoint)
        return stored + more * 4 * self.hidden_size * steps

    def _cell(self) -> GRUCell:
        return GRUCell(self.hidden_size, self.update_bias)


class LSTMCell(nn.Module):
    """One step of a long short-term memory; see `LSTM`."""

    hidden_size: int
    forget_bias: float

    @nn.compact
    def __call__(self, carry: tuple[Array, Array], x: Array) -> tuple[Array, Array]:
        c, h = carry
        size = self.hidden_size
        kernel = _per_gate(nn.initializers.lecun_normal(), 4)
        w = self.param("input_kernel", kernel, (len(x), 4 * size))
        u = self.param("hidden_kernel", _per_gate(orthogonal(), 4), (size, 4 * size))
        b = self.param("bias", _gate_bias, (4 * size,), 4, self.forget_bias)
        i, f, o, g = jnp.split(x @ w + h @ u + b, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return c, jax.nn.sigmoid(o) * jnp.tanh(c)


@dataclass(frozen=True)
class LSTM(Memory):
    """A long short-term memory.

    With input ``x [d]``, memory ``(c, h) [H]`` and gates ``i, f, o = σ(x W + h U + b)``::

        c' = f c + i tanh(x W_g + h U_g + b_g)
        h' = o tanh(c')

    Attributes:
        hidden_size: Units.
        forget_bias: Initial bias of the forget gate; above 0 the memory starts by keeping
            most of what it holds.

    Reference: Hochreiter and Schmidhuber 1997; forget gate of Gers et al. 2000; its bias as
    in Jozefowicz et al. 2015.
    """

    hidden_size: int = 128
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.hidden_size >= 1, "hidden_size", self.hidden_size, "at least 1")

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array, input_size: int) -> Params:
        return self._cell().init(key, self.initial_carry(input_size), jnp.zeros(input_size))

    def initial_carry(self, input_size: int) -> tuple[Array, Array]:
        del input_size
        empty = jnp.zeros(self.hidden_size, jnp.float32)
        return empty, empty

    def step(
        self, params: Params, carry: tuple[Array, Array], x: Array
    ) -> tuple[tuple[Array, Array], Array]:
        new_carry: Any = self._cell().apply(params, carry, x)
        return new_carry, new_carry[1]

    def _cell(self) -> LSTMCell:
        return LSTMCell(self.hidden_size, self.forget_bias)


def _per_gate(init: Initializer, gates: int) -> Initializer:
    """Initialises the gates' matrices one by one, each as a matrix of its own."""

    def initialize(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        one = (shape[0], shape[1] // gates)
        return jnp.concatenate([init(k, one, dtype) for k in jax.random.split(key, gates)], axis=1)

    return initialize


def _gate_bias(key: Array, shape: tuple[int, ...], gates: int, second: float) -> Array:
    """Zeros, but ``second`` for the second gate."""
    del key
    size = shape[0] // gates
    return jnp.zeros(shape, jnp.float32).at[size : 2 * size].set(second)
