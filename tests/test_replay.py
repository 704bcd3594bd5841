"""The ring of a task against a list, and what is drawn from it."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmeta.experience.buffer import add, draw_places, empty_replay, items_at, replay_bytes
from jaxmeta.ops.trees import num_bytes

ITEM = {"x": jax.ShapeDtypeStruct((2,), jnp.float32), "n": jax.ShapeDtypeStruct((), jnp.int32)}


def items(first, number):
    n = jnp.arange(first, first + number, dtype=jnp.int32)
    return {"x": jnp.stack([n, -n], axis=1).astype(jnp.float32), "n": n}


def kept(replay):
    return sorted(np.asarray(replay.items["n"])[np.asarray(replay.filled)].tolist())


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (1, 4, 2, 7, 7, 5), (7,), (2, 2)])
def test_a_ring_keeps_the_newest_in_the_places_that_a_list_would(sizes):
    ring, double, first = empty_replay(ITEM, 7), [None] * 7, 0
    newest = deque(maxlen=7)
    for size in sizes:
        ring = jax.jit(add)(ring, items(first, size))
        for n in range(first, first + size):
            double[n % 7] = n
            newest.append(n)
        first += size
    expected = [-1 if n is None else n for n in double]
    found = np.where(ring.filled, ring.items["n"], -1)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(ring.items["x"][:, 1], -ring.items["n"])
    assert kept(ring) == sorted(newest)
    assert (int(ring.position), int(ring.size)) == (first % 7, min(first, 7))


def test_nothing_is_drawn_from_where_nothing_was_written():
    ring = add(empty_replay(ITEM, 50), items(10, 3))
    assert np.asarray(ring.filled).tolist() == [True] * 3 + [False] * 47
    places = draw_places(ring, jax.random.key(0), (4, 100))
    drawn = items_at(ring, places)
    assert drawn["x"].shape == (4, 100, 2)
    assert set(np.unique(drawn["n"])) == {10, 11, 12}
    np.testing.assert_array_equal(drawn["x"][..., 0], drawn["n"])


def test_every_item_is_drawn_alike_after_the_ring_has_closed():
    ring = empty_replay(ITEM, 20)
    for first in range(0, 35, 7):
        ring = add(ring, items(first, 7))
    drawn = items_at(ring, draw_places(ring, jax.random.key(3), (20_000,)))["n"]
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(15, 35))
    assert stats.chisquare(counts).pvalue > 1e-4


def test_tasks_have_rings_of_their_own():
    """What is written to one is not drawn from another, and they may be filled unequally."""
    rings = jax.vmap(lambda _: empty_replay(ITEM, 6))(jnp.arange(2))
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), items(0, 4), items(100, 4))
    rings = jax.vmap(add)(jax.vmap(add)(rings, both), both)
    rings = rings._replace(size=jnp.array([6, 2]))
    keys = jax.random.split(jax.random.key(0), 2)
    drawn = jax.vmap(lambda ring, key: items_at(ring, draw_places(ring, key, (200,))))(rings, keys)
    assert set(np.unique(drawn["n"][0])) == {0, 1, 2, 3}
    assert set(np.unique(drawn["n"][1])) <= {102, 103}


def test_more_at_once_than_there_is_room_for_is_refused():
    with pytest.raises(AssertionError, match="8 items at once, into a ring of 7"):
        add(empty_replay(ITEM, 7), items(0, 8))


def test_a_ring_has_the_bytes_that_it_says():
    assert replay_bytes(ITEM, 1000) == num_bytes(empty_replay(ITEM, 1000)) == 1000 * 12 + 8


def test_an_item_may_be_an_episode():
    ring = add(
        empty_replay(jax.ShapeDtypeStruct((5, 3), jnp.float32), 4),
        jnp.arange(30.0).reshape(2, 5, 3),
    )
    episode = items_at(ring, jnp.array([1, 0]))
    np.testing.assert_array_equal(episode[0], np.arange(15.0, 30.0).reshape(5, 3))
