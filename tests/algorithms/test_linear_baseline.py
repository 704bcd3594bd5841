"""The linear baseline against NumPy's least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta.algorithms.linear_baseline import LinearBaseline
from jaxmeta.ops.linear import solve_positive


def test_elimination_solves_what_numpy_solves():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(3, 6, 8))
    matrix, vector = factor @ factor.transpose(0, 2, 1), rng.normal(size=(3, 6))
    ours = jax.jit(jax.vmap(solve_positive))(jnp.float32(matrix), jnp.float32(vector))
    exact = np.linalg.solve(matrix, vector[..., None])[..., 0]
    np.testing.assert_allclose(ours, exact, rtol=2e-3, atol=1e-4)


def numpy_features(obs, time):
    o, t = np.clip(np.float64(obs), -10, 10), np.float64(time)[:, None] / 100
    return np.concatenate([o, o**2, t, t**2, t**3, np.ones_like(t)], axis=1)


@pytest.fixture(scope="module")
def data():
    """Returns of very different sizes of features, an outlier, and unplayed steps."""
    rng = np.random.default_rng(1)
    time = np.tile(np.arange(50), 8)
    obs = rng.normal(size=(400, 3)) * np.array([1.0, 0.1, 5.0])
    obs[7, 0] = 1e6
    clipped = np.clip(obs, -10, 10)
    returns = 30 - 0.5 * time + 2 * clipped[:, 0] + 20 * clipped[:, 1] + rng.normal(size=400)
    mask = rng.random(400) < 0.7
    return obs.astype(np.float32), time, returns.astype(np.float32), mask


def test_it_fits_what_least_squares_fits(data):
    obs, time, returns, mask = data
    baseline = LinearBaseline(ridge=1e-6)
    steps = jnp.float32(time)
    weights = jax.jit(baseline.fit)(obs, steps, returns, mask)
    ours = np.asarray(baseline.value(weights, obs, steps))[mask]
    features = numpy_features(obs, time)[mask]
    exact = features @ np.linalg.lstsq(features, np.float64(returns)[mask])[0]
    np.testing.assert_allclose(ours, exact, atol=0.02 * returns[mask].std())
    assert np.var(returns[mask] - ours) < 1.1 * np.var(returns[mask] - exact)


def test_a_feature_that_never_changes_does_no_harm():
    obs, time = jnp.zeros((20, 2)), jnp.arange(20.0)
    weights = LinearBaseline().fit(obs, time, 5.0 - 0.1 * time, jnp.ones(20, bool))
    fitted = LinearBaseline().value(weights, obs, time)
    np.testing.assert_allclose(fitted, 5.0 - 0.1 * time, atol=0.05)


def test_the_first_value_is_zero():
    baseline = LinearBaseline()
    value = baseline.value(baseline.init(3), jnp.ones((2, 5, 3)), jnp.ones((2, 5)))
    np.testing.assert_array_equal(value, np.zeros((2, 5)))


def test_no_regularisation_is_refused():
    with pytest.raises(jaxmeta.ConfigError, match=r"ridge is 0\.0"):
        LinearBaseline(0.0)


def test_an_accelerator_does_not_round_the_products_of_the_fit():
    """The usual products of a GPU or TPU keep 11 or 8 bits, and the fit squares the error."""
    fit = jax.jit(LinearBaseline().fit)
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((9, 2), (9,), (9,))]
    played = jax.ShapeDtypeStruct((9,), bool)
    program = fit.trace(*shapes, played).lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
