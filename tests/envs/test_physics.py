import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmeta_envs.random.distributions import TruncatedNormal, Uniform, as_truncated_normal

# mean, std, low, high: in the middle, one-sided, far out in either tail, unbounded.
NORMALS = [
    (6.0, 1.5, 3.0, 9.0),
    (0.0, 1.0, 0.5, np.inf),
    (1.0, 0.25, 3.0, 3.5),
    (-2.0, 2.0, -20.0, -15.0),
    (5.0, 2.0, -np.inf, np.inf),
]


def scipy_truncnorm(mean, std, low, high):
    return stats.truncnorm((low - mean) / std, (high - mean) / std, mean, std)


def truncated_normal(parameters):
    return TruncatedNormal(*(jnp.float32(x) for x in parameters))


@pytest.mark.parametrize("parameters", NORMALS)
def test_truncated_normal_has_the_density_of_scipy(parameters):
    exact = scipy_truncnorm(*parameters)
    x = exact.ppf(np.linspace(0.01, 0.99, 23)).astype(np.float32)
    ours = jax.vmap(truncated_normal(parameters).log_prob)(jnp.asarray(x))
    np.testing.assert_allclose(ours, exact.logpdf(x), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("parameters", NORMALS)
def test_location_is_that_of_scipy(parameters):
    mean, std = truncated_normal(parameters).location()
    exact = scipy_truncnorm(*parameters)
    assert mean == pytest.approx(exact.mean(), rel=1e-3, abs=0.01 * exact.std())
    assert std == pytest.approx(exact.std(), rel=0.02)


def test_a_uniform_distribution_as_a_normal_stays_one():
    low, high = {"a": jnp.float32(-1.0)}, {"a": jnp.float32(3.0)}
    normal = as_truncated_normal(Uniform(low, high))
    densities = [float(normal.log_prob({"a": jnp.float32(x)})) for x in (-1.0, 1.0, 3.0)]
    np.testing.assert_allclose(densities, -np.log(4.0), atol=0.01)
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.vmap(normal.sample)(keys)["a"])
    assert stats.kstest(drawn, stats.uniform(-1.0, 4.0).cdf).pvalue > 1e-3
    mean, std = normal.location()
    assert mean["a"] == pytest.approx(1.0, abs=1e-3)
    assert std["a"] == pytest.approx(4 / 12**0.5, rel=0.01)


def test_one_point_is_drawn_again_and_again():
    point = {"a": jnp.float32(2.5)}
    normal = as_truncated_normal(Uniform(point, point))
    assert float(normal.sample(jax.random.key(0))["a"]) == 2.5
    assert [float(x["a"]) for x in normal.location()] == [2.5, 0.0]


@pytest.mark.parametrize("parameters", NORMALS)
def test_truncated_normal_draws_what_scipy_would(parameters):
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.jit(jax.vmap(truncated_normal(parameters).sample))(keys))
    assert np.all((drawn >= parameters[2]) & (drawn <= parameters[3]))
    assert stats.kstest(drawn, scipy_truncnorm(*parameters).cdf).pvalue > 1e-3


def test_uniform_has_the_density_and_the_draws_of_a_uniform():
    box = Uniform(jnp.float32(2.0), jnp.float32(6.0))
    drawn = jax.vmap(box.sample)(jax.random.split(jax.random.key(1), 4000))
    assert stats.kstest(np.asarray(drawn), stats.uniform(2.0, 4.0).cdf).pvalue > 1e-3
    np.testing.assert_allclose(box.log_prob(jnp.float32(3.0)), np.log(0.25), rtol=1e-6)


@pytest.mark.parametrize("outside", [1.9, 6.1])
def test_the_density_is_zero_outside(outside):
    for distribution in (Uniform(2.0, 6.0), TruncatedNormal(3.0, 1.0, 2.0, 6.0)):
        assert distribution.log_prob(outside) == -np.inf


def test_leaves_are_independent_and_their_densities_multiply():
    low = {"mass": jnp.zeros(2), "length": jnp.float32(1.0)}
    box = Uniform(low, jax.tree.map(lambda x: x + 2.0, low))
    drawn = box.sample(jax.random.key(0))
    assert jax.tree.structure(drawn) == jax.tree.structure(low)
    assert len({float(x) for x in (*drawn["mass"], drawn["length"] - 1.0)}) == 3
    np.testing.assert_allclose(box.log_prob(drawn), -3 * np.log(2.0), rtol=1e-6)


def test_distributions_can_be_batched_and_differentiated():
    means = jnp.asarray([4.0, 6.0])
    batch = TruncatedNormal(means, jnp.ones(2), jnp.zeros(2), jnp.full(2, 9.0))
    keys = jax.random.split(jax.random.key(0), 2)
    assert jax.vmap(lambda d, key: d.sample(key))(batch, keys).shape == (2,)
    gradient = jax.grad(lambda d: d.log_prob(5.0))(TruncatedNormal(4.0, 1.0, 0.0, 9.0))
    assert all(np.isfinite(x) for x in gradient)
    assert gradient.mean == pytest.approx(1.0, abs=0.01)
