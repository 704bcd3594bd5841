"""What was experienced of a task, kept on the device to be learned from again and again.

A `Replay` is one task's ring of items, and everything here is un-batched: a learner ``vmap``s over
its tasks, so that rings have leaves ``[B, capacity, ...]`` and devices hold those of their own
tasks. An item is any pytree of arrays: a step, or a whole episode.

flashbax is not used because its buffers have one axis for all that is added and draw across it:
rings of tasks with their own sizes would be a ``vmap`` around it, of as many lines as these.

Axes: C capacity, N items, B tasks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.ops.trees import num_bytes


class Replay(NamedTuple):
    """The ring of one task.

    Attributes:
        items: Leaves ``[C, ...]``; what lies where nothing was written yet means nothing.
        position: Where the next item goes, int32.
        size: Items that are there, int32, at most C.
    """

    items: Any
    position: Array
    size: Array

    @property
    def filled(self) -> Array:
        """Which places hold an item, bool ``[C]``."""
        return jnp.arange(_capacity(self)) < self.size


def empty_replay(item: Any, capacity: int) -> Replay:
    """Returns a ring without items.

    Args:
        item: One item, or the shapes of one (``jax.ShapeDtypeStruct``).
        capacity: C.
    """
    items = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), item)
    return Replay(items, jnp.int32(0), jnp.int32(0))


def add(replay: Replay, items: Any) -> Replay:
    """Writes items in order; when the ring is full each takes the place of the oldest.

    Args:
        replay: The ring.
        items: Leaves ``[N, ...]`` with N at most C.
    """
    capacity, number = _capacity(replay), jax.tree.leaves(items)[0].shape[0]
    assert number <= capacity, f"{number} items at once, into a ring of {capacity}"
    places = (replay.position + jnp.arange(number, dtype=jnp.int32)) % capacity
    # Told that they differ, XLA need not write them one after the other.
    written = jax.tree.map(
        lambda old, new: old.at[places].set(new, unique_indices=True), replay.items, items
    )
    position = (replay.position + number) % capacity
    return Replay(written, position, jnp.minimum(replay.size + number, capacity))


def draw_places(replay: Replay, key: Array, shape: tuple[int, ...]) -> Array:
    """Draws places of items, uniformly and with replacement, int32; see `items_at`.

    At least one item must be there.
    """
    return jax.random.randint(key, shape, 0, replay.size, jnp.int32)


def items_at(replay: Replay, places: Array) -> Any:
    """Returns the items of these places, leaves ``[*places.shape, ...]``."""
    return jax.tree.map(lambda x: x[places], replay.items)


def replay_bytes(item: Any, capacity: int) -> int:
    """Returns the bytes of the ring of one task; see `empty_replay`."""
    return num_bytes(jax.eval_shape(lambda: empty_replay(item, capacity)))


def _capacity(replay: Replay) -> int:
    return jax.tree.leaves(replay.items)[0].shape[0]
