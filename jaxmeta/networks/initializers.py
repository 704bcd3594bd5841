"""Initial weights."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

Initializer = Callable[..., Array]


def orthogonal(scale: float = 1.0) -> Initializer:
    """Returns an initialiser of matrices with orthonormal rows or columns, times ``scale``.

    Of ``[rows, columns]`` the shorter side is orthonormal, and the distribution is uniform
    (Haar). It is made by Gram–Schmidt in plain array operations rather than a QR
    factorisation: the library call behind that one, batched over seeds, can deadlock on
    several CPU host devices, and does not lower for every platform.

    Reference: Saxe et al. 2014, arXiv 1312.6120.
    """

    def initialize(key: Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> Array:
        vectors = jax.random.normal(key, (min(shape), max(shape)), dtype)

        def orthonormalize(i: Array, done: Array) -> Array:
            """Makes row i orthogonal to the finished rows; the others are still zero."""
            v = vectors[i]
            for _ in range(2):  # twice is enough for float32, once is not
                v = v - (done @ v) @ done
            return done.at[i].set(v / jnp.linalg.norm(v))

        done = jax.lax.fori_loop(0, min(shape), orthonormalize, jnp.zeros_like(vectors))
        return scale * (done if shape[0] <= shape[1] else done.T)

    return initialize
