"""What holds of every system of classical control with random physics."""

import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta_envs.classic.acrobot import Acrobot
from jaxmeta_envs.classic.cartpole import CartPole
from jaxmeta_envs.classic.family import ClassicState
from jaxmeta_envs.classic.mountain_car import MountainCar
from jaxmeta_envs.classic.pendulum import Pendulum
from jaxmeta_envs.core.errors import ConfigError

FAMILIES = [CartPole(), Pendulum(), Acrobot(), MountainCar()]
FIELDS = [(family, name) for family in FAMILIES for name in type(family.standard)._fields]
IDS = {
    CartPole: "CartPole-v1",
    Pendulum: "Pendulum-v1",
    Acrobot: "Acrobot-v1",
    MountainCar: "MountainCarContinuous-v0",
}
# Somewhere in the middle of things, as Gymnasium's environments keep it.
STATES = {
    CartPole: (0.1, -0.4, 0.05, 0.6),
    Pendulum: (2.0, -1.5),
    Acrobot: (0.5, -0.8, 1.0, 2.0),
    MountainCar: (-0.7, 0.02),
}
STEPS = 20


def name_of(value):
    return value if isinstance(value, str) else type(value).__name__


def in_gymnasium(family):
    """Gymnasium's environment in the state of `STATES`, and what one sees there."""
    env = gymnasium.make(IDS[type(family)]).unwrapped
    env.reset(seed=0)
    env.state = np.asarray(STATES[type(family)], np.float64)
    if isinstance(family, Pendulum):
        return env, env._get_obs()
    return env, env._get_ob() if isinstance(family, Acrobot) else env.state.astype(np.float32)


def at(family, obs):
    """Returns the state in which ``obs`` is seen."""
    return ClassicState(family.system.body_of(jnp.asarray(obs)), jnp.int32(0))


def random_actions(family, steps=STEPS):
    return np.asarray(
        jax.vmap(family.action_space.sample)(jax.random.split(jax.random.key(1), steps))
    )


def play(family, obs, actions, task):
    def step(state, action):
        return family.step(jax.random.key(0), state, action, task)

    return jax.jit(lambda start: jax.lax.scan(step, start, actions)[1])(at(family, obs))


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_the_nominal_task_is_gymnasiums_environment(family):
    env, obs = in_gymnasium(family)
    actions = random_actions(family)
    mine = play(family, obs, actions, family.nominal_task())
    for i, action in enumerate(actions):
        expected, reward, terminated, truncated, _ = env.step(action)
        # The rounding of float32 here and float64 there, grown over the steps.
        np.testing.assert_allclose(mine.obs[i], expected, atol=2e-5, err_msg=f"step {i}")
        np.testing.assert_allclose(mine.reward[i], reward, atol=2e-5)
        assert (mine.terminated[i], truncated) == (terminated, False)
        if terminated:
            break
    assert i > 5, "too short to show anything"


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_one_step_from_what_gymnasium_shows_is_predicted_to_float32(family):
    env, obs = in_gymnasium(family)
    predict = jax.jit(family.predict)
    for action in random_actions(family):
        predicted = predict(jnp.asarray(obs), action, family.nominal_task())
        obs, _, terminated, _, _ = env.step(action)
        np.testing.assert_allclose(predicted, obs, atol=4e-6)
        if terminated:
            break


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_a_predicted_observation_is_that_of_a_step(family):
    task = family.sample_task(jax.random.key(5), "wide")
    _, obs = in_gymnasium(family)
    actions = random_actions(family)
    steps = play(family, obs, actions, task)
    before = jnp.concatenate([jnp.asarray(obs)[None], steps.obs[:-1]])
    predicted = jax.jit(jax.vmap(family.predict, (0, 0, None)))(before, actions, task)
    np.testing.assert_allclose(predicted, steps.obs, atol=5e-5)


@pytest.mark.parametrize(("family", "field"), FIELDS, ids=name_of)
def test_every_parameter_changes_the_dynamics(family, field):
    _, obs = in_gymnasium(family)
    task = family.nominal_task()
    changed = task._replace(**{field: 1.5 * getattr(task, field)})
    action = jnp.full(family.action_space.shape, 0.5 if family.action_space.shape else 1)
    action = action.astype(family.action_space.dtype)
    before, after = (family.predict(jnp.asarray(obs), action, t) for t in (task, changed))
    assert np.abs(after - before).max() > 1e-4


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_tasks_come_from_the_distribution_of_their_split(family):
    keys = jax.random.split(jax.random.key(0), 200)
    for split in family.splits:
        distribution = family.distribution(split)
        tasks = jax.vmap(lambda key, split=split: family.sample_task(key, split))(keys)
        assert np.all(np.isfinite(jax.vmap(distribution.log_prob)(tasks)))
        for name, x, low, high in zip(tasks._fields, tasks, *distribution, strict=True):
            assert x.dtype == jnp.float32
            assert x.min() < low + 0.05 * (high - low), (split, name)
            assert x.max() > high - 0.05 * (high - low), (split, name)


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_the_limits_contain_all_splits_and_the_nominal_task(family):
    low, high = family.limits()
    for split in family.splits:
        inner = family.distribution(split)
        assert all(a <= b for a, b in zip(low, inner.low, strict=True))
        assert all(a >= b for a, b in zip(high, inner.high, strict=True))
    assert np.isfinite(family.distribution().log_prob(family.nominal_task()))
    assert family.parameter_names() == type(family.standard)._fields


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_heavier_and_lighter_systems_lie_beyond_the_training_range(family):
    train, heavy, light = (family.distribution(split) for split in ("train", "heavy", "light"))
    shifted = {*family.grows_with_mass, *family.falls_with_mass}
    assert shifted
    for name in train.low._fields:
        low, high = getattr(train.low, name), getattr(train.high, name)
        below, above = (low / 2, low), (high, 2 * high)
        more, less = (above, below) if name in family.grows_with_mass else (below, above)
        if name not in shifted:
            more = less = (low, high)
        assert (getattr(heavy.low, name), getattr(heavy.high, name)) == more
        assert (getattr(light.low, name), getattr(light.high, name)) == less


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_nothing_breaks_at_the_corners_of_the_limits(family):
    low, high = (np.asarray(end) for end in family.limits())
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True)), -1).reshape(-1, low.size)
    tasks = type(family.standard)(*jnp.asarray(corners.T))
    _, obs = in_gymnasium(family)
    steps = jax.vmap(lambda task: play(family, obs, random_actions(family, 200), task))(tasks)
    assert np.all(np.isfinite(steps.obs))
    assert np.all(np.isfinite(steps.reward))


@pytest.mark.parametrize(
    "value", [(2.0, 1.0), (1.0, 1.0), (0.0, 1.0), (1.0, np.inf), 1.0, ("a", 2)]
)
@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_a_bad_range_is_named(family, value):
    field = type(family.standard)._fields[-1]
    where = rf"{type(family).__name__}\.{field}(\[.\])? is .*; it must be "
    with pytest.raises(ConfigError, match=where):
        dataclasses.replace(family, **{field: value})


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_an_unknown_split_is_named(family):
    with pytest.raises(ConfigError, match="split is 'far'"):
        family.distribution("far")


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_predictions_can_be_differentiated(family):
    _, obs = in_gymnasium(family)
    obs, task = jnp.asarray(obs), family.nominal_task()
    action = family.action_space.clip(jnp.full(family.action_space.shape, 1))
    by_obs, by_task = jax.jacobian(family.predict, (0, 2))(obs, action, task)
    # Along a direction in which the observation can move: angles are seen on circles.
    body, see = family.system.body_of(obs), family.system.observe
    direction = jax.jvp(see, (body,), (jax.tree.map(lambda x: 0.1 * x, body),))[1]

    def moved(step):
        there = see(jax.tree.map(lambda x: (1 + 0.1 * step) * x, body))
        return family.predict(there, action, task)

    np.testing.assert_allclose(by_obs @ direction, (moved(0.1) - moved(-0.1)) / 0.2, atol=3e-3)
    for i, by_one in enumerate(by_task):
        ahead, behind = (task._replace(**{task._fields[i]: s * task[i]}) for s in (1.01, 0.99))
        slope = family.predict(obs, action, ahead) - family.predict(obs, action, behind)
        np.testing.assert_allclose(task[i] * by_one, slope / 0.02, atol=3e-3)
