"""Small linear systems, solved inside compiled programs."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import Array


def solve_positive(matrix: Array, vector: Array) -> Array:
    """Solves ``A x = b`` for a symmetric positive definite A by elimination.

    A call of LAPACK, vmapped over seeds on several host devices of one CPU, can wait for
    itself for ever; these d rank-one updates cannot, and run on every backend.

    Args:
        matrix: A, ``[d, d]``.
        vector: b, ``[d]``.

    Returns:
        x, ``[d]``.
    """
    chex.assert_rank([matrix, vector], [2, 1])
    rows = jnp.concatenate([matrix, vector[:, None]], axis=1)

    def eliminate(i: Array, rows: Array) -> Array:
        pivot = rows[i] / rows[i, i]
        column = rows[:, i].at[i].set(0.0)
        return (rows - column[:, None] * pivot[None, :]).at[i].set(pivot)

    return jax.lax.fori_loop(0, matrix.shape[0], eliminate, rows)[:, -1]
