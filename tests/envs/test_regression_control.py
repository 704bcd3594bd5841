import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.experience.play import play_adaptation
from jaxmeta.testing import check_task_family
from jaxmeta_envs import ConfigError, RegressionControl
from jaxmeta_envs.regression.functions import Sinusoid, mean_predictor_loss

CUBICS = RegressionControl(num_inputs=5)
WAVES = RegressionControl(Sinusoid(noise=0.5))


def mean_returns(family, num=1000):
    """Mean return of an episode, and its standard error, of each reference."""
    references = family.references(1)

    def meet(key):
        task_key, play_key = jax.random.split(key)
        task, returns = family.sample_task(task_key, "test"), {}
        for name, reference in references.items():
            params = (reference.params, task) if reference.told_task else reference.params
            played = play_adaptation(family, reference.policy, params, task, play_key, 1)
            returns[name] = played.reward.sum()
        return returns

    returns = jax.jit(jax.vmap(meet))(jax.random.split(jax.random.key(0), num))
    return {name: (float(x.mean()), float(x.std()) / num**0.5) for name, x in returns.items()}


def test_it_keeps_the_contract_of_a_family():
    """With waves; the registered one has polynomials."""
    check_task_family(RegressionControl(Sinusoid(noise=0.1), num_inputs=3))


def test_a_prediction_pays_minus_its_squared_error():
    task = CUBICS.sample_task(jax.random.key(0))
    state, obs = CUBICS.reset(jax.random.key(1), task)
    coefficients = np.float64(task.coefficients[0])
    for step in range(5):
        label = np.polynomial.legendre.legval(float(obs[0]) / 5.0, coefficients)
        action = jnp.asarray([0.7 * step - 20.0 * (step == 3)])
        key = jax.random.key(2 + step)
        state, timestep = CUBICS.step(key, state, action, task)
        np.testing.assert_allclose(timestep.reward, -((action[0] - label) ** 2), rtol=1e-3)
        assert bool(timestep.terminated) == (step == 4)
        assert not timestep.truncated
        assert not np.array_equal(obs, timestep.obs)
        obs = timestep.obs


def test_nobody_is_told_the_label_but_by_the_reward():
    """The same inputs come whatever is predicted."""
    task = CUBICS.sample_task(jax.random.key(0))
    state, _ = CUBICS.reset(jax.random.key(1), task)
    one, other = (CUBICS.step(jax.random.key(2), state, jnp.asarray([a]), task) for a in (0.0, 9.0))
    np.testing.assert_array_equal(one[1].obs, other[1].obs)
    assert one[1].reward != other[1].reward


def test_polynomials_cost_their_variance_until_they_are_known():
    found = mean_returns(CUBICS)
    assert found["oracle"][0] == pytest.approx(0.0, abs=1e-9)  # rounding, squared
    for name, expected in (("zero", -5 * 4.0), ("random", -5 * (4.0 + 1 / 3))):
        mean, error = found[name]
        assert mean == pytest.approx(expected, abs=4 * error)


def test_waves_cost_what_the_best_predictor_without_examples_leaves():
    found = mean_returns(WAVES)
    mean, error = found["mean"]
    assert mean == pytest.approx(-10 * mean_predictor_loss(Sinusoid(noise=0.5)), abs=4 * error)
    mean, error = found["oracle"]
    assert mean == pytest.approx(-10 * 0.25, abs=4 * error)
    assert found["zero"][0] < found["mean"][0] - 4 * error
    assert not WAVES.references(1)["mean"].told_task


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"regression": 3}, "regression is 3"),
        ({"num_inputs": 0}, "num_inputs is 0"),
        ({"num_episodes": 0}, "num_episodes is 0"),
    ],
)
def test_impossible_settings_are_refused(bad, message):
    with pytest.raises(ConfigError, match=message):
        RegressionControl(**bad)
