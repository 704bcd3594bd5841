import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmeta.ops.tempering import tempered_particles

WIDTH = 1e-4
RUNS = 32


def in_cube(x):
    return jnp.where(jnp.all((x >= 0) & (x <= 1)), 0.0, -jnp.inf)


def correlated(x):
    """A normal 10⁴ times narrower than the cube, correlated by 0.999."""
    z = (x - jnp.asarray([0.3, 0.7])) / WIDTH
    return -0.5 * ((z[0] - 0.999 * z[1]) ** 2 / (1 - 0.999**2) + z[1] ** 2)


def run(key, log_likelihood=correlated, n=400, **settings):
    start, key = jax.random.split(key)
    x = jax.random.uniform(start, (n, 2))
    return tempered_particles(key, x, in_cube, log_likelihood, **settings)


def test_a_posterior_far_narrower_than_the_prior_is_found():
    tempered = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), RUNS))
    assert np.all(tempered.temperature == 1)
    weights = np.exp(tempered.log_weights)[..., None]
    np.testing.assert_allclose(weights.sum((1, 2)), 1, rtol=1e-5)
    z = (np.asarray(tempered.particles, np.float64) - [0.3, 0.7]) / WIDTH
    mean = np.sum(weights * z, axis=1)
    covariance = np.einsum("rni,rnj->ij", weights * z, z) / RUNS
    assert np.all(np.abs(mean.mean(0)) < 0.06)  # of about 1 / sqrt(32 * 400) with correlation
    np.testing.assert_allclose(covariance, [[1, 0.999], [0.999, 1]], rtol=0.1)
    exact = np.log(2 * np.pi * WIDTH**2 * np.sqrt(1 - 0.999**2))
    ratio = np.exp(np.asarray(tempered.log_evidence, np.float64) - exact)  # 1 in the mean
    assert abs(ratio.mean() - 1) < 4 * ratio.std(ddof=1) / np.sqrt(RUNS)
    assert ratio.std() < 0.6


def test_a_cap_that_is_reached_is_told():
    tempered = run(jax.random.key(0), max_stages=3)
    assert 0 < tempered.temperature < 1
    assert np.all(np.isfinite(tempered.particles))


def test_particles_that_are_impossible_leave():
    """A simulator may fail on part of the prior: NaN there is a likelihood of 0."""

    def half(x):
        return jnp.where(x[0] < 0.5, -50.0 * (x[1] - 0.2) ** 2, jnp.nan)

    tempered = jax.jit(jax.vmap(lambda key: run(key, half)))(
        jax.random.split(jax.random.key(1), RUNS)
    )
    assert np.all((tempered.temperature == 1) & np.isfinite(tempered.log_evidence))
    weighted = np.exp(tempered.log_weights) > 0
    assert np.all(np.asarray(tempered.particles)[weighted][:, 0] < 0.5)
    mass = stats.norm(0.2, 0.1).cdf(1) - stats.norm(0.2, 0.1).cdf(0)
    exact = 0.5 * 0.1 * np.sqrt(2 * np.pi) * mass
    ratio = np.exp(tempered.log_evidence) / exact
    assert abs(ratio.mean() - 1) < 4 * ratio.std(ddof=1) / np.sqrt(RUNS)


@pytest.mark.parametrize("value", [-jnp.inf, jnp.nan])
def test_where_nothing_is_possible_the_prior_stays(value):
    tempered = run(jax.random.key(0), lambda x: jnp.float32(value))
    assert tempered.temperature == 0
    assert tempered.log_evidence == -np.inf
    np.testing.assert_allclose(tempered.log_weights, -np.log(400), rtol=1e-5)
    assert np.all(np.isfinite(tempered.particles))


def test_two_modes_keep_their_weights():
    def two(x):
        far = jnp.sum((x - 0.2) ** 2) / 0.02**2, jnp.sum((x - 0.8) ** 2) / 0.02**2
        return jnp.logaddexp(jnp.log(0.25) - 0.5 * far[0], jnp.log(0.75) - 0.5 * far[1])

    tempered = jax.jit(jax.vmap(lambda key: run(key, two)))(
        jax.random.split(jax.random.key(2), RUNS)
    )
    high = np.asarray(tempered.particles)[..., 0] > 0.5
    share = np.sum(np.exp(tempered.log_weights) * high, axis=1)
    assert abs(share.mean() - 0.75) < 4 * share.std(ddof=1) / np.sqrt(RUNS)


def test_moves_weigh_the_prior_and_the_likelihood():
    """Normal times normal: without the prior's density, moves would end in the likelihood's."""
    prior, likelihood, spread = 0.4, 0.6, 0.05

    def log_normal(mean):
        return lambda x: -0.5 * jnp.sum(((x - mean) / spread) ** 2)

    def posterior(key):
        start, key = jax.random.split(key)
        x = prior + spread * jax.random.normal(start, (400, 2))
        return tempered_particles(key, x, log_normal(prior), log_normal(likelihood), moves=20)

    tempered = jax.jit(jax.vmap(posterior))(jax.random.split(jax.random.key(2), RUNS))
    weights = np.exp(tempered.log_weights)[..., None]
    x = np.asarray(tempered.particles, np.float64)
    mean = np.sum(weights * x, axis=1).mean(0)
    np.testing.assert_allclose(mean, 0.5 * (prior + likelihood), atol=0.003)
    variance = np.sum(weights * (x - mean) ** 2, axis=1).mean(0)
    np.testing.assert_allclose(np.sqrt(variance), spread / np.sqrt(2), rtol=0.05)
