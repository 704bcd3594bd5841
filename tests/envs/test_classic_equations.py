"""The equations of classical control, held to gymnax's and to Gymnasium's."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmeta_envs.classic.acrobot import Acrobot
from jaxmeta_envs.classic.cartpole import CartPole
from jaxmeta_envs.classic.family import ClassicState
from jaxmeta_envs.classic.mountain_car import MountainCar
from jaxmeta_envs.classic.pendulum import Pendulum

FAMILIES = [CartPole(), Pendulum(), Acrobot(), MountainCar()]
IDS = {
    CartPole: "CartPole-v1",
    Pendulum: "Pendulum-v1",
    Acrobot: "Acrobot-v1",
    MountainCar: "MountainCarContinuous-v0",
}
# How large the parts of a body are from which steps are compared, and around what.
SPREAD = {
    CartPole: ((0, 0, 0, 0), (2.5, 3.0, 0.22, 4.0)),
    Pendulum: ((0, 0), (10.0, 8.0)),  # full turns are counted
    Acrobot: ((0, 0, 0, 0), (3.14, 3.14, 6.0, 10.0)),
    MountainCar: ((-0.375, 0), (0.83, 0.07)),
}
BODIES = 1000


def name_of(family):
    return type(family).__name__


each_family = pytest.mark.parametrize("family", FAMILIES, ids=name_of)


def first_states(family, key, number=BODIES):
    """Returns tasks, bodies anywhere and actions, leaves ``[number, ...]``."""
    task_key, body_key, action_key = jax.random.split(key, 3)
    tasks = family.distribution("wide")
    tasks = jax.vmap(tasks.sample)(jax.random.split(task_key, number))
    middle, spread = (jnp.asarray(x, jnp.float32) for x in SPREAD[type(family)])
    drawn = jax.random.uniform(body_key, (number, len(middle)), minval=-1.0)
    body = type(family.system.start(key))(*(middle[None] + spread[None] * drawn).T)
    actions = jax.vmap(family.action_space.sample)(jax.random.split(action_key, number))
    return tasks, body, actions


def step(family, task, body, action):
    """Returns the next body and what a step shows."""
    start = ClassicState(body, jnp.int32(0))
    state, timestep = family.step(jax.random.key(0), start, action, task)
    return state.body, timestep


def in_gymnax(family):
    """gymnax's environment, its parameters and its state for those of the family."""
    gymnax = pytest.importorskip("gymnax")
    env, default = gymnax.make(IDS[type(family)])

    def params(task):
        if isinstance(family, CartPole):
            gravity, cart, pole, length, force = task
            return default.replace(
                gravity=gravity, masscart=cart, masspole=pole, length=length, force_mag=force,
                total_mass=cart + pole, polemass_length=pole * length,
            )  # fmt: skip
        if isinstance(family, Pendulum):
            return default.replace(g=task.gravity, m=task.mass, l=task.length)
        if isinstance(family, MountainCar):
            return default.replace(power=task.power, gravity=task.gravity)
        return default.replace(
            link_length_1=task.length_1, link_com_pos_1=task.length_1 / 2,
            link_length_2=task.length_2, link_com_pos_2=task.length_2 / 2,
            link_mass_1=task.mass_1, link_mass_2=task.mass_2, link_moi=task.inertia,
        )  # fmt: skip

    names = {
        CartPole: ("x", "x_dot", "theta", "theta_dot"),
        Pendulum: ("theta", "theta_dot"),
        Acrobot: ("joint_angle1", "joint_angle2", "velocity_1", "velocity_2"),
        MountainCar: ("position", "velocity"),
    }[type(family)]

    def their_step(task, body, action):
        """As `step`, with the one deviation of gymnax from Gymnasium mended."""
        _, state = env.reset_env(jax.random.key(0), default)
        state = state.replace(**dict(zip(names, body, strict=True)))
        out = env.step_env(jax.random.key(0), state, action, params(task))
        _, state, reward, terminated, _ = out
        if isinstance(family, MountainCar):
            # It lets the car keep the speed with which it leans against the left wall.
            stopped = (state.position <= default.min_position) & (state.velocity < 0)
            state = state.replace(velocity=jnp.where(stopped, 0.0, state.velocity))
        after = type(body)(*(getattr(state, name) for name in names))
        return after, env.get_obs(state), jnp.float32(reward), terminated

    return env, default, their_step


def in_gymnasium(family, task):
    """Gymnasium's environment with the parameters of a task."""
    env = gymnasium.make(IDS[type(family)]).unwrapped
    env.reset(seed=0)
    task = jax.tree.map(float, task)
    if isinstance(family, CartPole):
        env.gravity, env.masscart, env.masspole, env.length, env.force_mag = task
        env.total_mass = task.cart_mass + task.pole_mass
        env.polemass_length = task.pole_mass * task.half_length
    elif isinstance(family, Pendulum):
        env.g, env.m, env.l = task
    elif isinstance(family, Acrobot):
        env.LINK_LENGTH_1, env.LINK_LENGTH_2, env.LINK_MASS_1, env.LINK_MASS_2 = task[:4]
        env.LINK_COM_POS_1, env.LINK_COM_POS_2 = task.length_1 / 2, task.length_2 / 2
        env.LINK_MOI = task.inertia
    else:
        env.power = task.power  # its gravity is no parameter
    return env


def ended(family, body):
    return family.system.outcome(body, jnp.zeros(1), body)[1]


@each_family
def test_single_steps_are_those_of_gymnax_to_the_bit(family):
    """Operation by operation: a compiler may round otherwise in another program."""
    _, _, their_step = in_gymnax(family)
    tasks, bodies, actions = first_states(family, jax.random.key(0))
    mine, timestep = jax.vmap(lambda *x: step(family, *x))(tasks, bodies, actions)
    theirs, obs, reward, terminated = jax.vmap(their_step)(tasks, bodies, actions)
    # What gymnax does after the end of an episode is its own affair.
    going = ~np.asarray(jax.vmap(lambda body: ended(family, body))(bodies))
    assert going.mean() > 0.4
    for ours, other in zip((*mine, timestep.obs), (*theirs, obs), strict=True):
        np.testing.assert_array_equal(ours[going], other[going])
    np.testing.assert_array_equal(timestep.reward[going], reward[going])
    np.testing.assert_array_equal(timestep.terminated[going], terminated[going])
    share = np.mean(timestep.terminated[going])
    assert (share == 0) if isinstance(family, Pendulum) else (0.01 < share < 0.5)


@each_family
def test_trajectories_from_reset_are_those_of_gymnax(family):
    env, default, their_step = in_gymnax(family)
    key, actions_key = jax.random.split(jax.random.key(1))
    rows = 64
    tasks, _, _ = first_states(family, key, rows)
    actions = jax.vmap(family.action_space.sample)(jax.random.split(actions_key, rows * 100))
    actions = actions.reshape(100, rows, *family.action_space.shape)
    state, _ = jax.vmap(family.reset)(jax.random.split(key, rows), tasks)
    first, _ = jax.vmap(env.reset_env, (0, None))(jax.random.split(key, rows), default)
    np.testing.assert_array_equal(jax.vmap(family.system.observe)(state.body), first)

    def both(carry, action):
        mine, other = carry
        mine, timestep = jax.vmap(lambda *x: step(family, *x))(tasks, mine, action)
        other, obs, reward, terminated = jax.vmap(their_step)(tasks, other, action)
        shown = (timestep.obs, timestep.reward, timestep.terminated)
        return (mine, other), (shown, (obs, reward, terminated))

    scan = jax.jit(lambda start: jax.lax.scan(both, (start, start), actions)[1])
    mine, theirs = jax.device_get(scan(state.body))
    # Until the first end, which is the same; the rounding grows over a hundred steps.
    np.testing.assert_array_equal(*(np.cumsum(x[2], 0)[x[2].cumsum(0) < 2] for x in (mine, theirs)))
    played = np.cumsum(mine[2], 0) - mine[2] == 0
    assert played.sum() > 10 * rows
    for ours, other in zip(mine[:2], theirs[:2], strict=True):
        np.testing.assert_allclose(ours[played], other[played], rtol=2e-4, atol=2e-4)


@each_family
def test_steps_of_other_systems_are_those_of_gymnasium(family):
    tasks, bodies, actions = first_states(family, jax.random.key(2), 100)
    if isinstance(family, MountainCar):
        tasks = tasks._replace(gravity=jnp.full_like(tasks.gravity, 0.0025))
    mine, timestep = jax.device_get(
        jax.jit(jax.vmap(lambda *x: step(family, *x)))(tasks, bodies, actions)
    )
    going = np.flatnonzero(~np.asarray(jax.vmap(lambda body: ended(family, body))(bodies)))
    assert len(going) > 40
    for i in going:
        task, body = jax.tree.map(lambda x, i=i: np.float64(x[i]), (tasks, bodies))
        env = in_gymnasium(family, task)
        env.state = np.asarray(body)
        _, reward, terminated, _, _ = env.step(np.asarray(actions[i]))
        after = np.asarray([part[i] for part in mine])
        np.testing.assert_allclose(after, env.state, rtol=1e-5, atol=3e-5)
        np.testing.assert_allclose(timestep.reward[i], reward, rtol=1e-5, atol=1e-5)
        assert timestep.terminated[i] == terminated


@each_family
def test_a_reset_is_that_of_gymnax_to_the_bit_and_distributed_as_gymnasiums(family):
    env, default, _ = in_gymnax(family)
    keys = jax.random.split(jax.random.key(3), 2000)
    obs = jax.vmap(lambda key: family.reset(key, family.nominal_task())[1])(keys)
    np.testing.assert_array_equal(obs, jax.vmap(env.reset_env, (0, None))(keys, default)[0])
    theirs = gymnasium.make(IDS[type(family)]).unwrapped
    theirs.reset(seed=0)
    seen = np.stack([theirs.reset()[0] for _ in range(2000)])
    for ours, other in zip(np.asarray(obs).T, seen.T, strict=True):
        assert stats.ks_2samp(ours, other).statistic < 0.06  # 1.95 / sqrt(1000): one of 1,000


def test_an_angle_beyond_half_a_turn_comes_back_the_other_way():
    """Of an acrobot that turns over; `SPREAD` reaches there, and this shows that it does."""
    family = Acrobot()
    tasks, bodies, actions = first_states(family, jax.random.key(0))
    after = jax.vmap(lambda *x: step(family, *x))(tasks, bodies, actions)[0]
    turned = np.abs(after.angle_2 - bodies.angle_2) > np.pi
    assert 0.05 < turned.mean() < 0.95
    assert np.all((np.asarray(after.angle_2) >= -np.pi) & (np.asarray(after.angle_2) < np.pi))
