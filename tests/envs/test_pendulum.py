import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from jaxmeta.experience.play import play_adaptation
from jaxmeta_envs.classic.pendulum import Pendulum, PendulumTask
from jaxmeta_envs.classic.pendulum_references import design, linearize, swing_up

FAMILY = Pendulum()
OTHER = jax.tree.map(jnp.float32, PendulumTask(gravity=8.0, mass=1.2, length=0.8))


def observation(angle, velocity):
    return jnp.asarray([jnp.cos(angle), jnp.sin(angle), velocity])


def test_the_linear_model_is_the_tangent_of_the_dynamics():
    transition, push = linearize(OTHER)
    for angle, velocity, torque in ((0.01, 0.0, 0.0), (0.0, 0.02, 0.0), (0.01, 0.02, 0.05)):
        cosine, sine, moved = FAMILY.predict(
            observation(angle, velocity), jnp.asarray([torque]), OTHER
        )
        expected = transition @ jnp.asarray([angle, velocity]) + push * torque
        np.testing.assert_allclose([jnp.arctan2(sine, cosine), moved], expected, atol=1e-5)


def test_the_gain_solves_the_riccati_equation():
    a, b = (np.asarray(x, np.float64) for x in linearize(OTHER))
    p = linalg.solve_discrete_are(a, b[:, None], np.diag([1.0, 0.1]), 0.001 * np.eye(1))
    expected = b @ p @ a / (0.001 + b @ p @ b)
    np.testing.assert_allclose(jax.jit(design)(OTHER).gain, expected, rtol=5e-3)


@pytest.mark.parametrize("velocity", [3.0, -3.0])
def test_the_swing_up_drives_with_the_motion_until_the_energy_suffices(velocity):
    settings = design(OTHER)
    torque = swing_up(settings, observation(jnp.pi, velocity))
    np.testing.assert_allclose(torque, [2.0 * np.sign(velocity)])
    # At the bottom a rod needs sqrt(6 g / l) to get to the top.
    enough = np.sign(velocity) * float(jnp.sqrt(6.0 * OTHER.gravity / OTHER.length))
    np.testing.assert_allclose(swing_up(settings, observation(jnp.pi, enough)), [0.0], atol=1e-3)
    braked = swing_up(settings, observation(jnp.pi, 1.2 * enough))
    np.testing.assert_allclose(braked, [-2.0 * np.sign(velocity)])


def test_two_parameters_of_three_show_in_what_moves():
    """The docstring says so; a longer rod under more gravity with less mass looks the same."""
    twin = OTHER._replace(
        gravity=1.25 * OTHER.gravity, length=1.25 * OTHER.length, mass=OTHER.mass / 1.25**2
    )
    obs, torque = observation(2.0, 1.0), jnp.asarray([1.5])
    same = FAMILY.predict(obs, torque, twin)
    np.testing.assert_allclose(same, FAMILY.predict(obs, torque, OTHER), atol=1e-6)


def test_knowing_the_pendulum_pays_and_chance_does_not_swing_it_up():
    returns = {}
    for name, reference in FAMILY.references(1).items():

        def one(key, reference=reference):
            task_key, play_key = jax.random.split(key)
            task = FAMILY.sample_task(task_key, "heavy")
            params = (reference.params, task) if reference.told_task else reference.params
            played = play_adaptation(FAMILY, reference.policy, params, task, play_key, 1)
            return played.reward.sum(), played.terminated.any(), played.truncated.sum()

        keys = jax.random.split(jax.random.key(3), 64)
        returns[name], terminated, truncated = jax.jit(jax.vmap(one))(keys)
        assert not terminated.any()
        assert np.all(truncated == 1)
    assert returns["random"].mean() < -1000
    # Measured on 1,000 tasks: -257 ± 12 and -412 ± 22.
    assert returns["oracle"].mean() > -310
    assert returns["fixed"].mean() < returns["oracle"].mean() - 50
