"""Small operations on pytrees."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

Tree = TypeVar("Tree")


def num_bytes(tree: Any) -> int:
    """Returns the bytes of all arrays of a pytree, which may be shapes only."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def select(condition: Array, yes: Tree, no: Tree) -> Tree:
    """Chooses between two pytrees of equal structure by a boolean scalar."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def add_scaled(tree: Tree, scale: Array | float, other: Tree) -> Tree:
    """Returns ``tree + scale · other``, leaf by leaf."""
    return jax.tree.map(lambda a, b: a + scale * b, tree, other)


def narrow(tree: Tree) -> Tree:
    """Returns the pytree with float64 as float32 and int64 as int32, all else as it is."""
    shorter = {jnp.dtype("float64"): jnp.float32, jnp.dtype("int64"): jnp.int32}
    return jax.tree.map(lambda x: x.astype(shorter.get(x.dtype, x.dtype)), tree)
