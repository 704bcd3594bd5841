"""What memories that are written and read by keys share."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks.initializers import orthogonal


class Reader(nn.Module):
    """From the embedded input and what was read to features, ``[hidden_size]``."""

    hidden_size: int

    @nn.compact
    def __call__(self, embedded: Array, read: Array) -> Array:
        hidden = layer(self.hidden_size)(jnp.concatenate([embedded, read]))
        return layer(self.hidden_size)(jnp.concatenate([hidden, read]))


def layer(size: int) -> Any:
    """Returns a dense layer with rectified units."""
    dense = nn.Dense(size, kernel_init=orthogonal(2**0.5))
    return lambda x: jax.nn.relu(dense(x))


def unit(x: Array) -> Array:
    """Scales vectors ``[..., d]`` to Euclidean length 1; 0 stays 0."""
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-6)


def last_played(before: Array, xs: Array, played: Array) -> Array:
    """Rows ``[L + 1, d]``: the input before step t that was played last.

    Args:
        before: Input before the first step, ``[d]``.
        xs: Inputs, ``[L, d]``.
        played: ``[L]``.
    """
    number = jnp.where(played, jnp.arange(1, len(xs) + 1), 0)
    last = jnp.concatenate([jnp.zeros(1, number.dtype), jax.lax.cummax(number)])
    return jnp.concatenate([before[None], xs])[last]
