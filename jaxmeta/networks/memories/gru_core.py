"""The gated recurrent unit: one step, and whole sequences with a gradient written by hand.

Both ways of running a sequence keep what one step already knows (its gates) instead of
letting automatic differentiation store and transpose every intermediate value. They differ
in where the products with the input and the sums of the weight gradients happen: inside
the time loop, where a CPU has them in its caches, or outside it as a few large products,
which is what a GPU or TPU wants.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array

Core = Literal["auto", "in_loop", "hoisted", "plain"]
CORES: tuple[str, ...] = get_args(Core)


class GRUWeights(NamedTuple):
    """Weights of a GRU with inputs of size D and H units; gates in the order r, z, n.

    Attributes:
        input_kernel: ``[D, 3H]``.
        hidden_kernel: ``[H, 3H]``.
        bias: ``[3H]``.
        hidden_bias: Bias of the new gate inside the reset, ``[H]``.
    """

    input_kernel: Array
    hidden_kernel: Array
    bias: Array
    hidden_bias: Array


class _Gates(NamedTuple):
    """What the backward pass needs of a step; ``inner`` is the recurrent part of n."""

    reset: Array
    update: Array
    new: Array
    inner: Array


def gru_step(weights: GRUWeights, h: Array, x: Array) -> Array:
    """Returns the next state ``[H]`` from state ``[H]`` and input ``[D]``."""
    gates = _gates(weights, h, _project(weights, x))
    return gates.update * h + (1.0 - gates.update) * gates.new


def gru_unroll(
    weights: GRUWeights,
    h: Array,
    xs: Array,
    played: Array,
    core: Core = "auto",
    recompute: bool = False,
) -> Array:
    """Runs a batch of sequences.

    Args:
        weights: The weights.
        h: States before the first step, ``[B, H]``.
        xs: Inputs, ``[L, B, D]``.
        played: ``[L, B]``; a row that was not played leaves the state as it is.
        core: ``in_loop`` or ``hoisted``, see the module; ``auto`` takes the first on a CPU
            and the second elsewhere, when the program is lowered for it.
        recompute: Whether the backward pass computes the gates again instead of having
            them stored: a fifth of the memory.

    Returns:
        States after each step, ``[L, B, H]``. Reverse-mode derivatives of any order exist,
        and forward-mode ones of those; forward mode alone does not.
    """
    return _unroll(core, recompute, weights, h, xs, played[..., None].astype(xs.dtype))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _unroll(
    core: str, recompute: bool, weights: GRUWeights, h: Array, xs: Array, played: Array
) -> Array:
    return _forward(core, recompute, weights, h, xs, played)[0]


def _forward(core: str, recompute: bool, *args: Any) -> tuple[Array, tuple]:
    states, gates = _by_backend(core, _forward_pass, *args)
    return states, (*args, states, None if recompute else gates)


def _backward(core: str, recompute: bool, residuals: tuple, d_states: Array) -> tuple:
    del recompute
    weights, h, xs, played, states, gates = residuals
    before = jnp.concatenate([h[None], states[:-1]])
    return (*_by_backend(core, _backward_pass, weights, xs, played, before, gates, d_states), None)


_unroll.defvjp(_forward, _backward)


def _by_backend(core: str, function: Callable[..., Any], *args: Any) -> Any:
    """Calls ``function(hoist, *args)``."""
    if core == "auto":
        return jax.lax.platform_dependent(
            *args, cpu=partial(function, False), default=partial(function, True)
        )
    return function(core == "hoisted", *args)


def _forward_pass(
    hoist: bool, weights: GRUWeights, h: Array, xs: Array, played: Array
) -> tuple[Array, _Gates]:
    project = jax.vmap(_project, (None, 0))

    def step(h: Array, row: tuple[Array, Array]) -> tuple[Array, tuple[Array, _Gates]]:
        x, on = row
        projected = x if hoist else project(weights, x)
        gates = jax.vmap(_gates, (None, 0, 0))(weights, h, projected)
        h = h + on * (1.0 - gates.update) * (gates.new - h)
        return h, (h, gates)

    rows = jax.vmap(project, (None, 0))(weights, xs) if hoist else xs
    return jax.lax.scan(step, h, (rows, played))[1]


def _backward_pass(
    hoist: bool,
    weights: GRUWeights,
    xs: Array,
    played: Array,
    before: Array,
    gates: _Gates | None,
    d_states: Array,
) -> tuple[GRUWeights, Array, Array]:
    """Returns the gradients of weights, first state and inputs."""
    w, u, _, _ = weights
    project, gates_at = jax.vmap(_project, (None, 0)), jax.vmap(_gates, (None, 0, 0))

    def step(carry: tuple, row: tuple) -> tuple[tuple, tuple]:
        d_h, sums = carry
        x, on, h, gates, d_state = row
        if gates is None:
            gates = gates_at(weights, h, project(weights, x))
        r, z, n, inner = gates
        d_h = d_h + d_state
        d_out = on * d_h
        d_new = d_out * (1.0 - z) * (1.0 - n**2)
        d_update = d_out * (h - n) * z * (1.0 - z)
        d_inner = d_new * r
        d_reset = d_new * inner * r * (1.0 - r)
        d_input = jnp.concatenate([d_reset, d_update, d_new], axis=-1)
        d_hidden = jnp.concatenate([d_reset, d_update, d_inner], axis=-1)
        d_h = d_h - d_out * (1.0 - z) + d_hidden @ u.T
        if hoist:
            return (d_h, sums), (d_input, d_hidden)
        sums = jax.tree.map(jnp.add, sums, _weight_gradients(x, h, d_input, d_hidden))
        return (d_h, sums), (d_input @ w.T,)

    nothing: Any = () if hoist else jax.tree.map(jnp.zeros_like, weights)
    start = jnp.zeros_like(before[0]), nothing
    inputs = xs, played, before, gates, d_states
    (d_h, sums), rows = jax.lax.scan(step, start, inputs, reverse=True)
    if hoist:
        d_input, d_hidden = rows
        return _weight_gradients(xs, before, d_input, d_hidden), d_h, d_input @ w.T
    return sums, d_h, rows[0]


def _weight_gradients(x: Array, h: Array, d_input: Array, d_hidden: Array) -> GRUWeights:
    """Gradients of the weights from ``[..., B, .]`` rows, summed over all leading axes."""

    def outer(a: Array, b: Array) -> Array:
        axes = tuple(range(a.ndim - 1))
        return jax.lax.dot_general(a, b, ((axes, axes), ((), ())))

    def total(a: Array) -> Array:
        return jnp.sum(a, axis=tuple(range(a.ndim - 1)))

    size = h.shape[-1]
    return GRUWeights(
        outer(x, d_input), outer(h, d_hidden), total(d_input), total(d_hidden[..., 2 * size :])
    )


def _project(weights: GRUWeights, x: Array) -> Array:
    return x @ weights.input_kernel + weights.bias


def _gates(weights: GRUWeights, h: Array, projected: Array) -> _Gates:
    xr, xz, xn = jnp.split(projected, 3)
    hr, hz, hn = jnp.split(h @ weights.hidden_kernel, 3)
    reset, inner = _sigmoid(xr + hr), hn + weights.hidden_bias
    return _Gates(reset, _sigmoid(xz + hz), jnp.tanh(xn + reset * inner), inner)


def _sigmoid(x: Array) -> Array:
    return 0.5 * jnp.tanh(0.5 * x) + 0.5  # one fast instruction sequence instead of exp and divide
