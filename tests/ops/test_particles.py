import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from jaxmeta.ops import particles

N, K = 57, 3


def exact_weights(log_weights):
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum()


def exact_share(log_weights):
    return 1.0 / (len(log_weights) * np.sum(exact_weights(log_weights) ** 2))


def log_likelihoods(seed):
    """From nearly flat to far narrower than the particles; some have no likelihood at all."""
    rng = np.random.default_rng(seed)
    values = -(10.0 ** rng.uniform(-1, 7)) * rng.uniform(size=N) ** 2 + rng.normal() * 100
    values[rng.uniform(size=N) < 0.1 * (seed % 3)] = -np.inf
    return values.astype(np.float32).astype(np.float64)


def exact_tempered(values, increment):
    return np.where(np.isfinite(values), increment * values, -np.inf)


@pytest.mark.parametrize("seed", range(12))
def test_one_update_agrees_with_a_float64_rewrite(seed):
    """Increment, weights, effective sample size, evidence, survivors, moments, quantiles."""
    rng = np.random.default_rng(100 + seed)
    values, x = log_likelihoods(seed), rng.normal(size=(N, K)) * [1, 1e-3, 1] + [0, 0.5, 3]
    offset, share = rng.uniform(), rng.uniform(0.2, 0.8)
    possible = np.isfinite(values).mean()

    # How far to go.
    def excess(log_increment):
        return exact_share(exact_tempered(values, np.exp(log_increment))) - share * possible

    want = 1.0 if excess(0.0) >= 0 else np.exp(brentq(excess, -40.0, 0.0, xtol=1e-12))
    got = particles.next_increment(jnp.float32(values), jnp.float32(1.0), share)
    np.testing.assert_allclose(got, want, rtol=2e-3)

    # What the particles weigh then.
    log_weights = exact_tempered(values, float(got))
    weights = exact_weights(log_weights)
    ours = particles.temper(jnp.float32(values), got)
    np.testing.assert_allclose(np.exp(particles.normalize(ours)), weights, atol=2e-6)
    np.testing.assert_allclose(particles.effective_share(ours), exact_share(log_weights), rtol=1e-4)
    evidence = np.log(np.mean(np.exp(log_weights - log_weights.max()))) + log_weights.max()
    gain = jax.nn.logsumexp(ours) - np.log(N)
    np.testing.assert_allclose(gain, evidence, rtol=1e-5, atol=1e-5)

    # Who survives.
    edges = np.cumsum(weights)
    survivors = [int(np.argmax(edges > (i + offset) / N)) for i in range(N)]
    indices = particles.systematic_indices(jnp.float32(offset), ours)
    assert np.mean(np.asarray(indices) != survivors) < 0.04  # but for ties in float32
    counts = np.bincount(np.asarray(indices), minlength=N)
    assert np.all(np.abs(counts - N * weights) < 1 + 1e-3)

    # What is reported.
    mean = weights @ x
    got_mean, got_std = particles.weighted_moments(jnp.float32(x), ours)
    np.testing.assert_allclose(got_mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got_std, np.sqrt(weights @ (x - mean) ** 2), rtol=2e-3)
    order = np.argsort(x[:, 0])
    middles = np.cumsum(weights[order]) - weights[order] / 2
    quantile = np.interp(0.3, middles, x[order, 0])
    got = particles.weighted_quantile(jnp.float32(x[:, 0]), ours, 0.3)
    np.testing.assert_allclose(got, quantile, atol=1e-3)


def test_what_cannot_be_never_survives():
    log_weights = jnp.asarray([-jnp.inf, 0.0, -jnp.inf, 0.0, -jnp.inf])
    for offset in (0.0, 0.5, np.nextafter(np.float32(1), np.float32(0))):
        indices = particles.systematic_indices(jnp.float32(offset), log_weights)
        assert set(np.asarray(indices).tolist()) == {1, 3}


def test_a_share_counts_only_what_is_possible():
    """With a third possible, the weights could never be even over half."""
    values = jnp.where(jnp.arange(30) < 10, -1.0 * jnp.arange(30), -jnp.inf)
    increment = particles.next_increment(values, jnp.float32(1.0), 0.5)
    share = particles.effective_share(particles.temper(values, increment))
    assert 0 < increment < 1
    np.testing.assert_allclose(share, 0.5 / 3, rtol=1e-3)


def test_where_nothing_is_possible_nothing_moves():
    assert particles.next_increment(jnp.full(5, -jnp.inf), jnp.float32(1.0), 0.5) == 0


def test_a_flat_likelihood_is_passed_at_once():
    assert particles.next_increment(jnp.full(5, -7.0), jnp.float32(0.3), 0.5) == jnp.float32(0.3)
