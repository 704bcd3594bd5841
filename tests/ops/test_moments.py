"""Running moments against a float64 rewrite."""

import jax.numpy as jnp
import numpy as np

from jaxmeta.ops.moments import Moments


def test_moments_are_those_of_the_weighted_history():
    rng = np.random.default_rng(0)
    rate, moments, history = 0.8, Moments.empty(), []
    for i in range(6):
        batch = 1000.0 + 3.0 * i + rng.normal(size=50)
        history = [(w * rate, b) for w, b in history] + [(1 - rate, batch)]
        moments = moments.update(jnp.float32(batch.mean()), jnp.float32(batch.var()), rate)
        total = sum(w for w, _ in history)
        mean = sum(w * b.mean() for w, b in history) / total
        variance = sum(w * ((b - mean) ** 2).mean() for w, b in history) / total
        np.testing.assert_allclose(moments.mean, mean, rtol=1e-6)
        np.testing.assert_allclose(moments.std, np.sqrt(variance), rtol=1e-4)


def test_the_first_batch_is_taken_as_it_is():
    moments = Moments.empty().update(jnp.float32(5.0), jnp.float32(4.0), 0.9)
    np.testing.assert_allclose(moments.normalize(jnp.float32(9.0)), 2.0, rtol=1e-6)
    np.testing.assert_allclose(moments.denormalize(jnp.float32(2.0)), 9.0, rtol=1e-6)


def test_constant_targets_stay_finite():
    moments = Moments.empty().update(jnp.float32(5.0), jnp.float32(0.0), 0.9)
    assert np.isfinite(moments.normalize(jnp.float32(5.0)))
