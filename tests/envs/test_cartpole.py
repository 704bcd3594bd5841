import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from jaxmeta.experience.play import play_adaptation
from jaxmeta_envs.classic.cartpole import CartPole
from jaxmeta_envs.classic.cartpole_physics import STANDARD, CartPoleTask
from jaxmeta_envs.classic.cartpole_references import linearize, regulator_gain

FAMILY = CartPole()
OTHER = CartPoleTask(gravity=15.0, cart_mass=0.6, pole_mass=0.2, half_length=0.3, force=7.0)


def moved(task, observation, action):
    """The observation one step after ``observation``."""
    return np.asarray(FAMILY.predict(observation, jnp.int32(action), task))


def test_the_linear_model_is_the_tangent_of_the_dynamics():
    matrix, push = linearize(jax.tree.map(jnp.float32, OTHER))
    small = jnp.asarray([0.01, 0.02, 0.001, 0.003])
    for action in (0, 1):
        expected = matrix @ small + (2 * action - 1) * push
        np.testing.assert_allclose(moved(OTHER, small, action), expected, atol=1e-5)


@pytest.mark.parametrize("task", [STANDARD, OTHER])
def test_the_gain_solves_the_riccati_equation(task):
    task = jax.tree.map(jnp.float32, task)
    a, b = (np.asarray(x, np.float64) for x in linearize(task))
    p = linalg.solve_discrete_are(a, b[:, None], np.diag([1.0, 0.0, 10.0, 0.0]), np.eye(1))
    expected = b @ p @ a / (1 + b @ p @ b)
    np.testing.assert_allclose(jax.jit(regulator_gain)(task), expected, rtol=5e-3)


def test_the_oracle_holds_the_pole_and_chance_does_not():
    returns = {}
    for name in ("random", "oracle"):
        reference = FAMILY.references(1)[name]

        def one(key, reference=reference):
            task_key, play_key = jax.random.split(key)
            task = FAMILY.sample_task(task_key, "test")
            params = (reference.params, task) if reference.told_task else reference.params
            played = play_adaptation(FAMILY, reference.policy, params, task, play_key, 1)
            return played.reward.sum(), played.terminated.sum(), played.truncated.sum()

        keys = jax.random.split(jax.random.key(3), 64)
        returns[name], terminated, truncated = jax.jit(jax.vmap(one))(keys)
        ends = (0, 64) if name == "oracle" else (64, 0)
        assert (terminated.sum(), truncated.sum()) == ends
    assert np.all(returns["oracle"] == 500)
    assert 15 < returns["random"].mean() < 40


def test_masses_and_force_show_only_up_to_a_common_factor():
    """The docstring says so, for whoever infers parameters from what a cart-pole did."""
    twin = OTHER._replace(**{f: 2 * getattr(OTHER, f) for f in ("cart_mass", "pole_mass", "force")})
    observation = jnp.asarray([0.3, -0.4, 0.05, 0.6])
    np.testing.assert_allclose(moved(twin, observation, 1), moved(OTHER, observation, 1), rtol=1e-5)
