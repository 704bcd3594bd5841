"""Linear systems, solved inside compiled programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxmeta.ops.trees import add_scaled

_BLOCK = 32


def solve_positive(matrix: Array, vector: Array) -> Array:
    """Solves ``A x = b`` for a symmetric positive definite A by elimination.

    A call of LAPACK, vmapped over seeds on several host devices of one CPU, can wait for
    itself for ever; elimination of blocks of rows by products of matrices cannot, and runs on
    every backend.

    Args:
        matrix: A, ``[d, d]``.
        vector: b, ``[d]``.

    Returns:
        x, ``[d]``.
    """
    chex.assert_rank([matrix, vector], [2, 1])
    size = len(vector)
    rows = jnp.concatenate([matrix, vector[:, None]], axis=1)
    if size <= _BLOCK:
        return _eliminate(rows)[:, -1]
    # Rows of an identity fill up the last block.
    padded = -(-size // _BLOCK) * _BLOCK
    whole = jnp.eye(padded, padded + 1, dtype=rows.dtype)
    whole = whole.at[:size, :size].set(matrix).at[:size, -1].set(vector)

    def eliminate(k: Array, rows: Array) -> Array:
        first = k * _BLOCK
        own = jax.lax.dynamic_slice_in_dim(rows, first, _BLOCK, 0)
        columns = jax.lax.dynamic_slice_in_dim(rows, first, _BLOCK, 1)
        block = jax.lax.dynamic_slice_in_dim(columns, first, _BLOCK, 0)
        pivots = _eliminate(jnp.concatenate([block, own], axis=1))[:, _BLOCK:]
        rows = rows - jnp.matmul(columns, pivots, precision="highest")
        return jax.lax.dynamic_update_slice_in_dim(rows, pivots, first, 0)

    return jax.lax.fori_loop(0, padded // _BLOCK, eliminate, whole)[:size, -1]


def _eliminate(rows: Array) -> Array:
    """Makes the first n columns of ``[n, m]`` an identity by operations on rows."""

    def eliminate(i: Array, rows: Array) -> Array:
        pivot = rows[i] / rows[i, i]
        column = rows[:, i].at[i].set(0.0)
        return (rows - column[:, None] * pivot[None, :]).at[i].set(pivot)

    return jax.lax.fori_loop(0, rows.shape[0], eliminate, rows)


def conjugate_gradients(
    product: Callable[[Any], Any], target: Any, iterations: int, tolerance: float = 1e-6
) -> tuple[Any, Any]:
    """Solves ``A x = b`` for a symmetric positive definite A known by its products.

    Begins at 0 and, unlike `jax.scipy.sparse.linalg.cg`, spends no product on that; from the
    residual the caller has ``A x`` without another one.

    Args:
        product: ``x -> A x``, pytrees of float arrays.
        target: b.
        iterations: Products at most.
        tolerance: Ends when the residual is below this share of b, in Euclidean norm.

    Returns:
        x, and the residual ``b - A x``.
    """
    least = tolerance**2 * optax.tree.vdot(target, target)

    def unsolved(carry: tuple) -> Array:
        k, *_, square = carry
        return (k < iterations) & (square > least)

    def iterate(carry: tuple) -> tuple:
        k, x, residual, direction, square = carry
        image = product(direction)
        length = square / optax.tree.vdot(direction, image)
        x = add_scaled(x, length, direction)
        residual = add_scaled(residual, -length, image)
        smaller = optax.tree.vdot(residual, residual)
        direction = add_scaled(residual, smaller / square, direction)
        return k + 1, x, residual, direction, smaller

    square = optax.tree.vdot(target, target)
    first = jnp.int32(0), jax.tree.map(jnp.zeros_like, target), target, target, square
    _, x, residual, _, _ = jax.lax.while_loop(unsolved, iterate, first)
    return x, residual
