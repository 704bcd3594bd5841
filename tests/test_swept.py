"""A swept number is used as the number itself, for every point of a sweep at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.sweeps.swept import Swept, at_point
from jaxmeta_envs.core.errors import ConfigError

VALUES = (0.1, 0.2, 0.7)
SWEPT = Swept("clip", VALUES)
POINTS = jnp.arange(3)


def at_every_point(function):
    """Evaluates a function for all points in one program, ``[points, ...]``."""

    def one(point):
        with at_point(point):
            return function(SWEPT)

    return jax.jit(jax.vmap(one))(POINTS)


X = jnp.linspace(-1.0, 2.0, 7)
FUNCTIONS = {
    "added": lambda v: X + v,
    "added to": lambda v: v + X,
    "taken from": lambda v: 1.0 - v + X,
    "a divisor": lambda v: X / v,
    "a dividend": lambda v: v / (X + 5.0),
    "a base": lambda v: v ** jnp.arange(3),
    "an exponent": lambda v: jnp.abs(X) ** v,
    "negative": lambda v: -v * X,
    "a bound of a jitted function": lambda v: jnp.clip(X, 1.0 - v, 1.0 + v),
    "chosen": lambda v: jnp.where(X > 0, v, X),
    "compared with an array": lambda v: v >= X,
    "cast": lambda v: jnp.float32(v),
    "cast by a function": lambda v: jnp.asarray(v, jnp.float32),
    "carried by a scan": lambda v: jax.lax.scan(lambda c, x: (c + x, c), v, X)[1],
    "closed over by a scan": lambda v: jax.lax.scan(lambda c, x: (v * c + x, c), 0.0, X)[1],
    "in a gradient": lambda v: jax.grad(lambda x: jnp.sum(v * x**2))(X),
    "in a gradient of a loop that is computed again": lambda v: jax.grad(
        jax.checkpoint(lambda x: jnp.sum(jnp.tanh(v * x)))
    )(X),
    "mapped beside": lambda v: jax.vmap(lambda x: v * x)(X),
    "the end of a draw": lambda v: jax.random.uniform(jax.random.key(0), (3,), jnp.float32, 0.0, v),
    "a limit of a clip": lambda v: jnp.minimum(jnp.maximum(X, -v), v),
}


@pytest.mark.parametrize("use", FUNCTIONS)
def test_a_swept_number_is_used_as_the_number_itself(use):
    function = FUNCTIONS[use]
    expected = jnp.stack([jax.jit(lambda value=value: function(value))() for value in VALUES])
    found = at_every_point(function)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_arithmetic_of_numbers_has_their_precision():
    """As for one run, the difference is rounded to float32 once: 1 - 0.9 is not 1 - f32(0.9)."""
    swept = Swept("discount", [0.9, 0.99, 0.999])

    def one(point):
        with at_point(point):
            return jnp.float32(1.0 - swept)

    found = jax.vmap(one)(POINTS)
    np.testing.assert_array_equal(found, np.float32([1.0 - 0.9, 1.0 - 0.99, 1.0 - 0.999]))


def test_it_does_not_raise_the_precision_of_others():
    assert at_every_point(lambda v: jnp.bfloat16(1.0) * v).dtype == jnp.bfloat16


def test_what_decides_the_program_must_be_alike_for_all_values():
    assert 0 < SWEPT < 1
    assert not SWEPT > 1
    assert SWEPT != 0
    assert round(SWEPT * 10, 6) >= 1.0
    assert min(SWEPT, 2.0) is SWEPT
    with pytest.raises(ConfigError, match=r"clip is one of 0\.1, 0\.2, 0\.7; all values must"):
        _ = SWEPT > 0.15
    for needed in (float, np.asarray, lambda v: bool(v - 0.1)):
        with pytest.raises(ConfigError, match="clip is one of"):
            needed(SWEPT)
    assert float(Swept("clip", [0.5, 0.5])) == 0.5


def test_outside_a_sweep_it_has_no_value():
    with pytest.raises(RuntimeError, match="clip is swept"):
        _ = X * SWEPT


def test_equal_ones_are_equal():
    assert Swept("clip", VALUES) == SWEPT
    assert hash(Swept("clip", list(VALUES))) == hash(SWEPT)
