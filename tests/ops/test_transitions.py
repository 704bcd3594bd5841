import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmeta.ops.transitions import filtered_log_likelihood, transition_log_likelihood

T, D = 7, 3


def linear(seed):
    """Returns a linear system, its ``predict``, and data of no particular origin."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(D, D)) * 0.6, rng.normal(size=(D, 2))

    def predict(obs, action):
        # As simulators do; the filter may not depend on derivatives.
        return jax.lax.stop_gradient(jnp.float32(a) @ obs + jnp.float32(b) @ action)

    readings, actions = rng.normal(size=(T + 1, D)), rng.normal(size=(T, 2))
    process, reading = rng.uniform(0.1, 1.0, D), rng.uniform(0.1, 1.0, D)
    return a, b, predict, readings, actions, process, reading


def arrays(*values):
    return [jnp.asarray(v, jnp.float32) for v in values]


def dense_log_likelihood(a, b, readings, actions, process, reading):
    """log p(y_1 ... y_T | y_0) as one normal of T D dimensions, float64."""
    steps = len(actions)
    power = [np.linalg.matrix_power(a, t) for t in range(steps + 1)]
    mean, covariance = [readings[0]], np.zeros((steps, D, steps, D))
    for t in range(steps):
        mean.append(a @ mean[-1] + b @ actions[t])
    for s in range(1, steps + 1):
        for t in range(1, steps + 1):
            block = power[s] @ np.diag(reading**2) @ power[t].T
            for k in range(1, min(s, t) + 1):
                block = block + power[s - k] @ np.diag(process**2) @ power[t - k].T
            covariance[s - 1, :, t - 1, :] = block + (s == t) * np.diag(reading**2)
    size = steps * D
    normal = stats.multivariate_normal(np.ravel(mean[1:]), covariance.reshape(size, size))
    return normal.logpdf(readings[1:].ravel())


@pytest.mark.parametrize("seed", range(4))
def test_known_ends_score_independently(seed):
    a, b, predict, readings, actions, process, _ = linear(seed)
    mask = np.arange(T) % 3 != 1
    predicted = readings[:-1] @ a.T + actions @ b.T
    want = stats.norm(predicted, process).logpdf(readings[1:])[mask].sum()
    obs, action, next_obs, std = arrays(readings[:-1], actions, readings[1:], process)
    got = transition_log_likelihood(predict, obs, action, next_obs, jnp.asarray(mask), std)
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_the_filter_is_exact_where_all_is_linear(seed):
    a, b, predict, readings, actions, process, reading = linear(seed)
    want = dense_log_likelihood(a, b, readings, actions, process, reading)
    obs, action, next_obs, q, r = arrays(readings[:-1], actions, readings[1:], process, reading)
    filtered = jax.jit(lambda *data: filtered_log_likelihood(predict, *data))
    got = filtered(obs, action, next_obs, jnp.ones(T, bool), q, r)
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-3)


def test_a_noise_of_one_kind_is_allowed_to_be_zero_in_a_coordinate():
    a, b, predict, readings, actions, process, reading = linear(0)
    process[0], reading[1] = 0.0, 0.0
    want = dense_log_likelihood(a, b, readings, actions, process, reading)
    obs, action, next_obs, q, r = arrays(readings[:-1], actions, readings[1:], process, reading)
    got = filtered_log_likelihood(predict, obs, action, next_obs, jnp.ones(T, bool), q, r)
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-3)


def test_with_hardly_any_noise_of_readings_both_agree():
    _, _, predict, readings, actions, process, _ = linear(1)
    obs, action, next_obs, q = arrays(readings[:-1], actions, readings[1:], process)
    mask = jnp.ones(T, bool)
    independent = transition_log_likelihood(predict, obs, action, next_obs, mask, q)
    filtered = filtered_log_likelihood(predict, obs, action, next_obs, mask, q, jnp.full(D, 1e-4))
    np.testing.assert_allclose(filtered, independent, rtol=1e-4)


@pytest.mark.parametrize("how", ["masked", "another reading"])
def test_the_filter_starts_anew_after_a_gap(how):
    """What is masked may be anything, and one row may hold two episodes."""
    a, b, predict, readings, actions, process, reading = linear(2)
    rest = readings[4:].copy() + (how == "another reading")
    want = dense_log_likelihood(a, b, readings[:4], actions[:3], process, reading)
    want += dense_log_likelihood(a, b, rest, actions[4:], process, reading)
    gap = np.full((1, D), np.nan)
    before, after = [readings[:3], gap, rest[:-1]], [readings[1:4], gap, rest[1:]]
    pushes, mask = actions.copy(), np.arange(T) != 3
    pushes[3] = np.nan
    if how == "another reading":
        before, after = ([rows[0], rows[2]] for rows in (before, after))
        pushes, mask = np.delete(pushes, 3, axis=0), np.ones(T - 1, bool)
    obs, action, next_obs, q, r = arrays(
        np.concatenate(before), pushes, np.concatenate(after), process, reading
    )
    got = filtered_log_likelihood(predict, obs, action, next_obs, jnp.asarray(mask), q, r)
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-3)


def test_one_step_of_the_filter_is_linearised_at_the_reading():
    """Divided differences of a quadratic are its derivative, whatever the step."""

    def predict(obs, action):
        return obs * obs[::-1] - 0.5 * obs**2 + action

    y0, action, y1 = np.asarray([0.3, -0.8]), np.asarray([0.1, 0.2]), np.asarray([0.5, -0.4])
    q, r = np.asarray([0.1, 0.2]), np.asarray([0.3, 0.05])
    slope = np.asarray([[y0[1] - y0[0], y0[0]], [y0[1], y0[0] - y0[1]]])
    covariance = slope @ np.diag(r**2) @ slope.T + np.diag(q**2 + r**2)
    want = stats.multivariate_normal(predict(y0, action), covariance).logpdf(y1)
    obs, action, next_obs, q, r = arrays(y0[None], action[None], y1[None], q, r)
    got = filtered_log_likelihood(predict, obs, action, next_obs, jnp.ones(1, bool), q, r)
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_the_filter_stays_sane_over_a_long_episode_of_sharp_readings():
    """In float32 a covariance computed carelessly becomes negative here."""

    def predict(obs, action):
        return jnp.stack([obs[0] + 0.02 * obs[1], obs[1] + 0.02 * obs[0]]) + action

    steps = 500
    states = [np.asarray([1e-3, 0.0])]
    for _ in range(steps):
        states.append(np.asarray(predict(states[-1], 0.0), np.float64))
    obs, next_obs = arrays(states[:-1], states[1:])
    std = (jnp.full(2, 1e-6), jnp.full(2, 1e-3))
    data = (obs, jnp.zeros((steps, 2)), next_obs, jnp.ones(steps, bool))
    got = filtered_log_likelihood(predict, *data, *std)
    assert np.isfinite(got)
    # Without a surprise, each of 1000 readings has about the density of its own noise.
    np.testing.assert_allclose(got / (2 * steps), -np.log(1e-3 * np.sqrt(2 * np.pi)), rtol=0.02)
