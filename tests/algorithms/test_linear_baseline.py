"""The linear baseline against NumPy's least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import parallel
from jaxmeta.ops.linear import solve_positive
from jaxmeta.parts.linear_baseline import LinearBaseline


@pytest.mark.parametrize("size", [6, 32, 33, 100])
def test_elimination_solves_what_numpy_solves(size):
    """In one block, just one, a bit more than one, and several."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(3, size, 2 * size))
    matrix, vector = factor @ factor.transpose(0, 2, 1), rng.normal(size=(3, size))
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


def noisy_returns(features, rows=20, length=10, seed=0):
    """Returns ``[n]`` of some observations' sum, time, luck of an episode and of a step."""
    rng = np.random.default_rng(seed)
    size = (features - 4) // 2
    obs = rng.normal(size=(rows, length, size)).astype(np.float32)
    time = np.tile(np.arange(length, dtype=np.float32), (rows, 1))
    luck = rng.normal(size=(rows, 1)) + rng.normal(size=(rows, length))
    returns = obs[..., :3].sum(2) + 10 - 0.5 * time + luck
    groups = np.repeat(np.arange(rows), length)
    return obs.reshape(-1, size), time.ravel(), np.float32(returns.ravel()), groups


@pytest.mark.parametrize("features", [26, 100, 400])
def test_with_many_features_what_is_left_is_what_held_out_fits_leave(features):
    """Not nothing, as of an interpolation; 200 steps of 20 episodes."""
    obs, time, returns, groups = noisy_returns(features)
    played = np.ones(len(returns), bool)

    def residual(baseline):
        values = jax.jit(baseline.fitted_values)(obs, time, returns, played, groups=groups)
        return np.std(returns - values)

    held_out = []
    x = numpy_features(obs, time)
    for k in range(20):  # the best there is: the three observations and time, another left out
        useful = np.hstack([x[:, :3], x[:, -4:]])
        kept = groups != k
        weights = np.linalg.lstsq(useful[kept], np.float64(returns)[kept])[0]
        held_out.append(returns[~kept] - useful[~kept] @ weights)
    left = np.std(np.concatenate(held_out))
    over_time = np.linalg.lstsq(x[:, -4:], np.float64(returns))[0]
    assert residual(LinearBaseline()) > 0.8 * left
    assert residual(LinearBaseline()) < np.std(returns - x[:, -4:] @ over_time)
    if features > 200:
        assert residual(LinearBaseline(1e-5, 1e-5)) < 0.05 * left


def test_with_few_features_it_is_the_fit_of_the_least_ridge(data):
    for given in (data, (*noisy_returns(10)[:3], np.ones(200, bool))):
        weights = [
            jax.jit(LinearBaseline(1e-5, highest).fit)(
                given[0], jnp.float32(given[1]), *given[2:], groups=jnp.arange(len(given[0])) // 10
            )
            for highest in (1e-5, 10.0)
        ]
        np.testing.assert_array_equal(*weights)


def test_values_with_many_features_are_of_the_fit_to_other_episodes():
    obs, time, returns, groups = noisy_returns(100)
    played = np.random.default_rng(0).random(200) < 0.9
    args = obs, time, returns, played
    baseline = LinearBaseline()
    values = np.asarray(jax.jit(baseline.fitted_values)(*args, groups=groups))
    x = numpy_features(obs, time)
    size = np.sqrt((x[played] ** 2).mean(0))
    x, penalties = x / size, []
    for ridge in np.geomspace(1e-5, 10.0, 5)[1:]:
        penalties.append(np.diag([*[ridge] * (x.shape[1] - 4), *[1e-5] * 4]))
    found = []
    for penalty in penalties:  # that of one of them
        apart = np.zeros(200)
        for k in range(4):
            kept = (groups % 4 != k) & played
            gram = x[kept].T @ x[kept] / kept.sum() + penalty
            weights = np.linalg.solve(gram, x[kept].T @ np.float64(returns)[kept] / kept.sum())
            apart[groups % 4 == k] = x[groups % 4 == k] @ weights
        found.append(np.max(np.abs(apart - values)[played]))
    assert min(found) < 1e-2
    assert np.median(found) > 0.1


def test_the_ridge_is_that_with_the_least_error_on_other_episodes_unless_the_least_will_do():
    """By the ridges and folds of a plain rewrite; whole groups are left out, not steps."""
    baseline = LinearBaseline(1e-4, 100.0)
    ridges, chosen = np.geomspace(1e-4, 100.0, 5), set()
    for features in (16, 40, 60, 100, 150):
        obs, time, returns, groups = noisy_returns(features, seed=features)
        played = np.random.default_rng(features).random(200) < 0.9
        x = numpy_features(obs, time) * played[:, None]
        y = np.float64(returns) * played
        size = np.sqrt((x**2).sum(0) / played.sum())
        x = x / size

        def fit(rows, ridge, x=x, y=y, played=played):
            count = played[rows].sum()
            penalty = np.diag([*[ridge] * (x.shape[1] - 4), *[1e-4] * 4])
            gram = x[rows].T @ x[rows] / count + penalty
            return np.linalg.solve(gram, x[rows].T @ y[rows] / count)

        folds = [(groups % 4 != k, (groups % 4 == k) & played) for k in range(4)]
        errors = [
            sum(np.sum((y[out] - x[out] @ fit(rows, r)) ** 2) for rows, out in folds)
            for r in ridges
        ]
        best = 0 if errors[0] <= 1.5 * min(errors) else int(np.argmin(errors))
        chosen.add(best)
        exact = x @ fit(np.ones(200, bool), ridges[best])
        weights = jax.jit(baseline.fit)(obs, time, returns, played, groups=groups)
        ours = np.asarray(baseline.value(weights, obs, time))
        np.testing.assert_allclose(ours[played], exact[played], atol=0.02)
    assert 0 in chosen
    assert chosen & {1, 2, 3}


def test_steps_of_other_devices_have_part_in_the_choice():
    obs, time, returns, groups = noisy_returns(60)
    played = np.ones(200, bool)
    baseline = LinearBaseline()
    alone = jax.jit(baseline.fit)(obs, time, returns, played, groups=groups)

    def spread(*rows):
        own = (x.reshape(2, 100, *x.shape[1:])[jax.lax.axis_index("tasks")] for x in rows)
        *own, groups = own
        return baseline.fit(*own, total=parallel.sum_over_devices, groups=groups)

    update = parallel.shard_update(spread, jax.devices()[:2])
    both = jax.jit(update)(*map(jnp.asarray, (obs, time, returns, played, groups)))
    np.testing.assert_allclose(both, alone, rtol=1e-3, atol=1e-4)


def test_one_episode_is_left_out_step_by_step():
    """As a learner with one episode per step calls it."""
    obs, time, returns, _ = noisy_returns(60, rows=1, length=50)
    values = LinearBaseline().fitted_values(obs, time, returns, jnp.ones(50, bool))
    assert np.std(returns - values) > 0.5


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
    with pytest.raises(jaxmeta.ConfigError, match=r"highest_ridge is 0\.1; .* at least 1\.0"):
        LinearBaseline(1.0, 0.1)


def test_an_accelerator_does_not_round_the_products_of_the_fit():
    """The usual products of a GPU or TPU keep 11 or 8 bits, and the fit squares the error."""
    fit = jax.jit(LinearBaseline().fit)
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((9, 2), (9,), (9,))]
    played = jax.ShapeDtypeStruct((9,), bool)
    program = fit.trace(*shapes, played).lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
