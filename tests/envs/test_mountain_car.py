import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.experience.play import play_adaptation
from jaxmeta_envs.classic.family import ClassicState
from jaxmeta_envs.classic.mountain_car import MountainCar
from jaxmeta_envs.classic.mountain_car_physics import MountainCarBody, MountainCarTask, has_arrived
from jaxmeta_envs.classic.mountain_car_references import design, rock

FAMILY = MountainCar()
NOMINAL = FAMILY.nominal_task()


def at(position, velocity):
    body = MountainCarBody(jnp.float32(position), jnp.float32(velocity))
    return ClassicState(body, jnp.int32(0))


def test_the_left_wall_stops_the_car_as_in_gymnasium():
    env = gymnasium.make("MountainCarContinuous-v0").unwrapped
    env.reset(seed=0)
    env.state = np.asarray([-1.18, -0.06])
    state, action = at(-1.18, -0.06), jnp.asarray([-1.0])
    for _ in range(3):
        state, timestep = FAMILY.step(jax.random.key(0), state, action, NOMINAL)
        expected = env.step(np.asarray(action))[0]
        np.testing.assert_allclose(timestep.obs, expected, atol=1e-6)
        action = -action


def test_the_flag_is_rewarded_and_ends_the_episode():
    _, timestep = FAMILY.step(jax.random.key(0), at(0.44, 0.05), jnp.asarray([0.5]), NOMINAL)
    assert timestep.reward == pytest.approx(100 - 0.1 * 0.25)
    assert bool(timestep.terminated)


def test_a_car_that_rolls_back_from_beyond_the_flag_has_not_arrived():
    for position, velocity, arrived in ((0.5, 0.0, True), (0.5, -0.01, False), (0.44, 0.05, False)):
        assert bool(has_arrived(at(position, velocity).body)) == arrived


def test_a_throttle_out_of_bounds_costs_no_more_than_a_full_one():
    _, timestep = FAMILY.step(jax.random.key(0), at(-0.5, 0.0), jnp.asarray([3.0]), NOMINAL)
    assert timestep.reward == pytest.approx(-0.1)


def test_the_throttle_follows_the_motion_and_makes_up_for_a_weak_engine():
    weak = MountainCarTask(power=jnp.float32(0.001), gravity=jnp.float32(0.002))
    strong = weak._replace(power=jnp.float32(0.002))
    for velocity in (0.02, -0.02):
        obs = jnp.asarray([-0.5, velocity])
        harder, softer = rock(design(weak), obs), rock(design(strong), obs)
        assert np.sign(harder) == np.sign(velocity)
        assert abs(harder[0]) > abs(softer[0]) > 0
    steep = weak._replace(gravity=jnp.float32(0.004))
    np.testing.assert_allclose(rock(design(steep), obs), [-1.0])


def test_knowing_the_car_takes_it_up_and_chance_does_not():
    returns, arrived = {}, {}
    for name, reference in FAMILY.references(1).items():

        def one(key, reference=reference):
            task_key, play_key = jax.random.split(key)
            task = FAMILY.sample_task(task_key, "test")
            params = (reference.params, task) if reference.told_task else reference.params
            played = play_adaptation(FAMILY, reference.policy, params, task, play_key, 1)
            return played.reward.sum(), played.terminated.any()

        keys = jax.random.split(jax.random.key(3), 64)
        returns[name], arrived[name] = jax.jit(jax.vmap(one))(keys)
    assert arrived["oracle"].all()
    assert returns["oracle"].min() > 95
    assert 0.75 < arrived["fixed"].mean() < 0.97  # measured on 1,000 tasks: 0.885
    assert returns["random"].mean() < -20
