"""Spaces: bounds of all entries and of each, units, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta_envs import Box, ConfigError

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
