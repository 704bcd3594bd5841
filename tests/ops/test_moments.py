"""Running moments against a float64 rewrite."""

import jax.numpy as jnp
import numpy as np

from jaxmeta.ops.moments import Moments

SEEN = jnp.asarray(True)


def test_moments_are_those_of_the_weighted_history():
    rng = np.random.default_rng(0)
    rate, moments, history = 0.8, Moments.empty(), []
    for i in range(6):
        batch = 1000.0 + 3.0 * i + rng.normal(size=50)
        history = [(w * rate, b) for w, b in history] + [(1 - rate, batch)]
        moments = moments.update(jnp.float32(batch.mean()), jnp.float32(batch.var()), rate, SEEN)
        total = sum(w for w, _ in history)
        mean = sum(w * b.mean() for w, b in history) / total
        variance = sum(w * ((b - mean) ** 2).mean() for w, b in history) / total
        np.testing.assert_allclose(moments.mean, mean, rtol=1e-6)
        np.testing.assert_allclose(moments.std, np.sqrt(variance), rtol=1e-4)


def test_the_first_batch_is_taken_as_it_is():
    moments = Moments.empty().update(jnp.float32(5.0), jnp.float32(4.0), 0.9, SEEN)
    np.testing.assert_allclose(moments.normalize(jnp.float32(9.0)), 2.0, rtol=1e-6)
    np.testing.assert_allclose(moments.denormalize(jnp.float32(2.0)), 9.0, rtol=1e-6)


def test_constant_targets_stay_finite():
    moments = Moments.empty().update(jnp.float32(5.0), jnp.float32(0.0), 0.9, SEEN)
    assert np.isfinite(moments.normalize(jnp.float32(5.0)))


def test_what_was_not_seen_stays_as_it_is():
    moments = Moments.empty((2,))
    for value, second in ((3.0, False), (5.0, True), (7.0, False)):
        new = jnp.full(2, value)
        moments = moments.update(new, jnp.ones(2), 0.5, jnp.array([True, second]))
    np.testing.assert_allclose(moments.mean[0], (3 / 8 + 5 / 4 + 7 / 2) / (7 / 8), rtol=1e-6)
    np.testing.assert_allclose(moments.mean[1], 5.0, rtol=1e-6)
    np.testing.assert_allclose(moments.weight, [7 / 8, 1 / 2], rtol=1e-6)
    empty = Moments.empty((1,)).update(jnp.ones(1), jnp.ones(1), 0.5, jnp.array([False]))
    assert np.all(np.isfinite(empty.normalize(jnp.ones(1))))


def test_what_was_never_seen_is_like_the_nearest_that_was():
    empty = Moments.empty((6,))
    seen = jnp.asarray([False, True, False, False, True, False])
    moments = empty.update(jnp.arange(6.0), 4.0 * jnp.arange(6.0), 0.9, seen).nearest_seen()
    np.testing.assert_allclose(moments.mean, [1.0, 1.0, 1.0, 4.0, 4.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose(moments.std**2, [4.0, 4.0, 4.0, 16.0, 16.0, 16.0], rtol=1e-6)
    for entry, same in zip(moments, moments.nearest_seen(), strict=True):
        np.testing.assert_array_equal(entry, same)
    for entry, same in zip(empty, empty.nearest_seen(), strict=True):
        np.testing.assert_array_equal(entry, same)
