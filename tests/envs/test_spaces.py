"""Spaces: bounds of all entries and of each, units, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta_envs import Box, ConfigError, Dict, Discrete, MultiDiscrete, Tuple
from tests.toy_spaces import MIXED, SEEN

EACH = Box((-1.0, 100.0, -np.inf, 0.0), (1.0, 200.0, 5.0, 0.02), (2, 2))


def test_bounds_may_differ_by_entry():
    np.testing.assert_array_equal(EACH.lowest, [[-1.0, 100.0], [-np.inf, 0.0]])
    np.testing.assert_array_equal(EACH.bounded, [[True, True], [False, True]])
    np.testing.assert_allclose(EACH.centre, [[0.0, 150.0], [0.0, 0.01]], rtol=1e-6)
    np.testing.assert_allclose(EACH.half_range, [[1.0, 50.0], [1.0, 0.01]], rtol=1e-6)
    np.testing.assert_array_equal(EACH.zero(), EACH.centre)
    draws = np.asarray(jax.vmap(EACH.sample)(jax.random.split(jax.random.key(0), 500)))
    assert np.all((draws >= EACH.lowest) & (draws <= EACH.highest))
    assert np.all(np.ptp(draws, axis=0) > 0.9 * np.array([[2, 100], [2, 0.02]]))


def test_one_bound_for_all_is_the_same_space_as_equal_bounds_for_each():
    assert Box((-1.0, -1.0), (2.0, 2.0), (2,)) == Box(-1.0, 2.0, (2,))
    assert hash(Box([-1.0, -1.0], 2, (2,))) == hash(Box(-1.0, 2.0, (2,)))
    assert Box((-1.0, 0.0), 2.0, (2,)) != Box(-1.0, 2.0, (2,))


@pytest.mark.parametrize("axes", [(), (3,), (5, 3)])
def test_units_and_clipping_take_axes_in_front(axes):
    x = jnp.broadcast_to(jnp.array([[0.5, 250.0], [9.0, 0.005]]), (*axes, 2, 2))
    unit = EACH.to_unit(x)
    np.testing.assert_allclose(unit[..., 0, 1], 2.0, rtol=1e-6)
    np.testing.assert_allclose(EACH.from_unit(unit), x, rtol=1e-5)
    np.testing.assert_allclose(EACH.clip(x)[..., 1, 0], 5.0)
    np.testing.assert_allclose(EACH.clip(x)[..., 0, 1], 200.0)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (1.0, 1.0, "Box.low is 1.0.*below"),
        ((0.0, 3.0), 2.0, "Box.low is .*below"),
        ((0.0, 1.0, 2.0), 5.0, "Box.low is .*2 of them"),
        (np.nan, 1.0, "Box.low is nan"),
    ],
)
def test_impossible_bounds_are_refused(low, high, message):
    with pytest.raises(ConfigError, match=message):
        Box(low, high, (2,))


@pytest.mark.parametrize("space", SEEN.values(), ids=SEEN)
def test_draws_and_zero_are_values_and_keep_their_form(space):
    draws = jax.vmap(space.sample)(jax.random.split(jax.random.key(0), 50))
    assert jax.vmap(space.contains)(draws).all()
    assert space.contains(space.zero())
    for value in (space.zero(), space.sample(jax.random.key(1))):
        given = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), value)
        assert given == space.abstract
        jax.tree.map(np.testing.assert_array_equal, space.clip(value), value)
    flat = jax.vmap(space.flatten)(draws)
    assert flat.shape == (50, space.flat_size)
    assert flat.dtype == jnp.float32
    assert space.real.shape == (space.flat_size,)
    one_hot = np.asarray(flat)[:, ~space.real]
    assert np.isin(one_hot, [0.0, 1.0]).all()


def test_equal_spaces_are_one_key_of_a_table():
    again = Dict(tuple(reversed(MIXED.spaces)))
    assert again == MIXED
    assert hash(again) == hash(MIXED)
    assert Tuple((Discrete(2),)) != Tuple((Discrete(3),))
    assert len({MultiDiscrete((2, 3)), MultiDiscrete((2, 3)), MultiDiscrete((3, 2))}) == 2


def test_every_integer_of_several_is_drawn_clipped_and_one_hot_by_itself():
    space = MultiDiscrete((2, 3))
    draws = np.asarray(jax.vmap(space.sample)(jax.random.split(jax.random.key(0), 600)))
    assert {tuple(x) for x in draws.tolist()} == {(a, b) for a in range(2) for b in range(3)}
    np.testing.assert_array_equal(space.flatten(jnp.array([1, 2])), [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(space.clip(jnp.array([[5, -1], [0, 7]])), [[1, 0], [0, 2]])


def test_a_dict_is_flattened_in_the_order_of_its_names():
    space = Dict({"b": Discrete(2), "a": Box(0.0, 9.0, (1, 2))})
    value = {"a": jnp.array([[3.0, 4.0]]), "b": jnp.int32(1)}
    np.testing.assert_array_equal(space.flatten(value), [3, 4, 0, 1])
    np.testing.assert_array_equal(space.real, [True, True, False, False])


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (Discrete(3), jnp.int32(3)),
        (Discrete(3), jnp.float32(1.0)),
        (MultiDiscrete((2, 3)), jnp.array([0, 3])),
        (MultiDiscrete((2, 3)), jnp.array([0, 1, 1])),
        (Box(-1.0, 1.0, (2,)), jnp.array([0.0, jnp.nan])),
        (Box(-1.0, 1.0, (2,)), jnp.array([0.0, 1.5])),
        (Tuple((Discrete(2),)), [jnp.int32(0)]),
        (Tuple((Discrete(2),)), (jnp.int32(2),)),
        (Dict({"a": Discrete(2)}), {"b": jnp.int32(0)}),
        (Dict({"a": Discrete(2)}), {"a": jnp.int32(9)}),
    ],
)
def test_what_is_no_value_is_not_contained(space, value):
    assert not space.contains(value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiDiscrete(()), "MultiDiscrete.sizes is"),
        (lambda: MultiDiscrete((2, 0)), "MultiDiscrete.sizes is"),
        (lambda: Dict({}), "Dict.spaces is"),
        (lambda: Tuple((3,)), "Tuple.spaces is"),
        (lambda: Dict({"a": Discrete(2)}).flatten({"b": 1}), "value is"),
    ],
)
def test_impossible_spaces_and_values_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
