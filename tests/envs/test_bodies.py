"""The bodies against Gymnasium on MuJoCo's own engine, which is written in C."""

import copy
import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.cli import main
from jaxmeta.testing import check_task_family
from jaxmeta.testing.conformance import fast_jit
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.mujoco import bodies
from jaxmeta_envs.mujoco.bodies import BodyState
from jaxmeta_envs.mujoco.locomotion import HalfCheetah, Hopper
from jaxmeta_envs.mujoco.physics import BodyTask

FAMILIES = [Hopper(), HalfCheetah()]
BATCH = 8
NAMES = {Hopper: "Hopper-v5", HalfCheetah: "HalfCheetah-v5"}
over_bodies = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: NAMES[type(family)])
# A body takes long to compile: with every run of the tests only one.
compiling = pytest.mark.parametrize(
    "family",
    [FAMILIES[0], pytest.param(FAMILIES[1], marks=pytest.mark.slow)],
    ids=lambda family: NAMES[type(family)],
)
FREE_STEPS = {Hopper: 20, HalfCheetah: 8}  # the cheetah's contacts amplify every rounding


@pytest.fixture(scope="module")
def compiled():
    """One program per body, of `BATCH` steps side by side, for all tests."""
    return {family: fast_jit(jax.vmap(family.step)) for family in FAMILIES}


def stacked(tasks):
    return jax.tree.map(lambda *x: jnp.stack([jnp.float32(v) for v in x]), *tasks)


def states(positions, velocities):
    positions, velocities = jnp.float32(positions), jnp.float32(velocities)
    return BodyState(positions, velocities, jnp.zeros_like(velocities), jnp.zeros(BATCH, jnp.int32))


def play(step, state, actions, tasks):
    """Plays actions ``[T, BATCH, A]``; returns the timesteps, leaves ``[T, BATCH, ...]``."""
    keys, timesteps = jax.random.split(jax.random.key(0), BATCH), []
    for action in actions:
        state, timestep = step(keys, state, jnp.float32(action), tasks)
        timesteps.append(timestep)
    return jax.tree.map(lambda *x: np.stack(x), *timesteps)


def drawn_actions(family, steps):
    size = (steps, BATCH, family.body.num_actions)
    return np.random.default_rng(3).uniform(-1, 1, size)


def changed(model, family, task, mujoco):
    """Gymnasium's model with other parameters, its constants derived by MuJoCo itself."""
    model = copy.deepcopy(model)
    ratio = BodyTask(*(x / y for x, y in zip(task, family.nominal, strict=True)))
    torso = model.body("torso").id
    model.body_mass[torso] *= ratio.torso_mass
    model.body_inertia[torso] *= ratio.torso_mass
    model.geom_friction[:, 0] *= ratio.ground_friction
    model.dof_damping[:] *= ratio.joint_damping
    model.dof_armature[:] *= ratio.armature
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


@over_bodies
def test_what_is_written_down_is_what_the_model_says(family, mujoco):
    body, nominal = family.body, family.nominal
    model = bodies.load_model(body.file)
    assert (model.nq, model.nv) == (body.num_positions, body.num_velocities)
    assert model.nu == body.num_actions
    np.testing.assert_array_equal(model.actuator_ctrlrange, [[-1, 1]] * model.nu)
    motors = model.jnt_dofadr[model.actuator_trnid[:, 0]]
    others = np.setdiff1d(np.arange(model.nv), motors)
    assert model.body("torso").mass == pytest.approx(nominal.torso_mass, rel=1e-6)
    assert model.dof_damping[motors].min() == pytest.approx(nominal.joint_damping)
    np.testing.assert_allclose(model.dof_armature[motors], nominal.armature)
    assert not np.any(model.dof_damping[others])
    assert not np.any(model.dof_armature[others])


@over_bodies
def test_the_friction_of_the_task_is_that_of_the_feet_on_the_ground(family, mujoco):
    model = bodies.load_model(family.body.file)
    task = family.nominal._replace(ground_friction=0.6 * family.nominal.ground_friction)
    model, data = changed(model, family, task, mujoco), mujoco.MjData(model)
    data.qpos[1] -= 0.1  # into the ground
    mujoco.mj_forward(model, data)
    feet = [
        contact.friction[0]
        for contact in data.contact
        if any("foot" in model.geom(index).name for index in contact.geom)
    ]
    assert feet
    np.testing.assert_allclose(feet, task.ground_friction)


@over_bodies
def test_the_model_of_a_task_is_that_which_mujoco_derives(family, mujoco):
    task = family.sample_task(jax.random.key(0), "wide")
    mine = jax.jit(family.model)(task)
    theirs = changed(bodies.load_model(family.body.file), family, task, mujoco)
    names = ["body_mass", "body_inertia", "geom_friction", "dof_damping", "dof_armature"]
    for name in (*names, "dof_invweight0", "body_invweight0"):
        expected = getattr(theirs, name)
        np.testing.assert_allclose(
            getattr(mine, name), expected, rtol=1e-5, atol=1e-7, err_msg=name
        )


@compiling
def test_the_nominal_body_is_that_of_gymnasium(family, gymnasium, compiled):
    """Step by step from Gymnasium's states, and on from the first one without correction."""
    env, steps = gymnasium.make(NAMES[type(family)]).unwrapped, 20
    size = (BATCH, family.body.num_velocities)
    rng, shape = np.random.default_rng(0), (steps + 1, *size)
    positions, velocities = np.zeros(shape), np.zeros(shape)
    # Some move fast, some are close to the ground. Both engines are given the same numbers.
    positions[0] = env.init_qpos + rng.uniform(-0.02, 0.02, size)
    positions[0, :, 1] -= np.linspace(0, 0.06, BATCH)
    velocities[0] = np.linspace(0, 2, BATCH)[:, None] * rng.normal(size=size)
    positions, velocities = (x.astype(np.float32).astype(float) for x in (positions, velocities))
    actions = drawn_actions(family, steps).astype(np.float32)
    theirs = [[] for _ in range(steps)]
    for row in range(BATCH):
        env.reset()
        env.set_state(positions[0, row], velocities[0, row])
        for t in range(steps):
            theirs[t].append(env.step(actions[t, row])[:3])
            positions[t + 1, row], velocities[t + 1, row] = env.data.qpos, env.data.qvel
    env.close()

    tasks = stacked([family.nominal_task()] * BATCH)
    free = play(compiled[family], states(positions[0], velocities[0]), actions, tasks)
    for t in range(steps):
        start = states(positions[t], velocities[t])
        forced = play(compiled[family], start, actions[t : t + 1], tasks)
        obs, reward, terminated = (np.asarray(x) for x in zip(*theirs[t], strict=True))
        for mine, row in ((forced, 0), (free, t)):
            if mine is free and t >= FREE_STEPS[type(family)]:
                continue
            np.testing.assert_allclose(mine.obs[row], obs, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(mine.reward[row], reward, rtol=1e-3, atol=1e-4)
            np.testing.assert_array_equal(mine.terminated[row], terminated)


@compiling
def test_every_parameter_changes_the_dynamics(family, mujoco, compiled):
    nominal = family.nominal
    others = [nominal._replace(**{n: 1.3 * getattr(nominal, n)}) for n in BodyTask._fields]
    tasks = stacked([*others, *[nominal] * (BATCH - len(others))])
    start = jax.tree.map(lambda x: jnp.stack([x] * BATCH), family.body.start(jax.random.key(0)))
    actions = np.repeat(drawn_actions(family, 20)[:, :1], BATCH, axis=1)
    last = play(compiled[family], start, actions, tasks).obs[-1]
    np.testing.assert_array_equal(last[-1], last[-2])
    for name, obs in zip(BodyTask._fields, last, strict=False):
        assert np.abs(obs - last[-1]).max() > 1e-3, name


def test_the_hopper_terminates_where_it_is_not_healthy(mujoco, compiled):
    family = FAMILIES[0]
    positions = np.tile(bodies.load_model("hopper.xml").qpos0, (BATCH, 1))
    velocities = np.zeros_like(positions)
    positions[1, 1] = 0.6  # low
    positions[2, 2], positions[3, 2] = 0.3, -0.3  # leaning
    velocities[4, 5] = 500.0  # beyond all bounds
    velocities[5, 0] = 50.0  # observed as 10, and no reason to end
    state = states(positions, velocities)
    state = state._replace(time=state.time.at[6:].set(family.horizon - 1))
    state = state._replace(positions=state.positions.at[7, 1].set(0.6))
    tasks = stacked([family.nominal_task()] * BATCH)
    played = play(compiled[family], state, np.zeros((1, BATCH, 3)), tasks)
    expected = [False, True, True, True, True, False, False, True]
    assert played.terminated[0].tolist() == expected
    assert played.truncated[0].tolist() == [False] * 6 + [True, False]
    assert played.obs[0, 5, 5] == 10
    # 1 for being healthy is paid only then; the fifth moves at 50 m/s.
    np.testing.assert_allclose(played.reward[0, [0, 1]], [1, 0], atol=0.1)
    assert played.reward[0, 5] > 45


@pytest.mark.slow
@over_bodies
def test_a_predicted_observation_is_that_of_a_step(family, mujoco, compiled):
    keys = jax.random.split(jax.random.key(2), BATCH)
    tasks = jax.vmap(lambda key: family.sample_task(key, "wide"))(keys)
    state = jax.vmap(family.body.start)(keys)
    actions = drawn_actions(family, 12)
    for action in actions[:-1]:
        state, timestep = compiled[family](keys, state, jnp.float32(action), tasks)
    # The hopper's observation hides by how much a velocity exceeds 10.
    limit = family.body.velocity_limit
    state = state._replace(velocities=jnp.clip(state.velocities, -limit, limit))
    _, after = compiled[family](keys, state, jnp.float32(actions[-1]), tasks)
    predicted = fast_jit(jax.vmap(family.predict))(timestep.obs, jnp.float32(actions[-1]), tasks)
    np.testing.assert_allclose(predicted, after.obs, rtol=1e-4, atol=1e-4)


@over_bodies
def test_an_episode_starts_as_in_gymnasium(family, gymnasium):
    env = gymnasium.make(NAMES[type(family)]).unwrapped
    theirs = np.stack([env.reset(seed=seed)[0] for seed in range(200)])
    keys = jax.random.split(jax.random.key(0), 200)
    mine = fast_jit(jax.vmap(lambda key: family.reset(key, family.nominal_task())[1]))(keys)
    assert mine.shape[1:] == family.observation_space.shape == env.observation_space.shape
    assert env.action_space.shape == family.action_space.shape
    noise = family.body.noise
    np.testing.assert_allclose(mine.mean(0), theirs.mean(0), atol=0.3 * noise)
    np.testing.assert_allclose(mine.std(0), theirs.std(0), rtol=0.2)
    limits = theirs.shape[1] - family.body.num_velocities
    np.testing.assert_allclose(np.ptp(mine[:, :limits], 0), 2 * noise, rtol=0.1)
    env.close()


@pytest.mark.parametrize(
    ("family", "split"),
    [*((FAMILIES[0], split) for split in Hopper.splits), (FAMILIES[1], "train")],
)
def test_tasks_come_from_the_distribution_of_their_split(family, split):
    distribution, limits = family.distribution(split), family.limits()
    keys = jax.random.split(jax.random.key(0), 500)
    tasks = fast_jit(jax.vmap(lambda key: family.sample_task(key, split)))(keys)
    assert np.all(np.isfinite(jax.vmap(distribution.log_prob)(tasks)))
    assert np.all(np.isfinite(jax.vmap(limits.log_prob)(tasks)))
    assert np.isfinite(limits.log_prob(family.nominal_task()))
    for name, x, low, high in zip(
        BodyTask._fields, tasks, distribution.low, distribution.high, strict=True
    ):
        assert x.min() < low + 0.2 * (high - low), name
        assert x.max() > high - 0.2 * (high - low), name


def test_shifts_lie_where_they_say():
    train, heavy, light = (Hopper().distribution(s) for s in ("train", "heavy", "light"))
    assert heavy.low.torso_mass == train.high.torso_mass == 9
    assert light.high.torso_mass == train.low.torso_mass == 3
    assert (heavy.mean.torso_mass, heavy.std.torso_mass) == (13.5, 2.25)
    assert heavy.mean._replace(torso_mass=0) == train.mean._replace(torso_mass=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("armature", (1.0, 0.0, 0.5, 1.5)), ("torso_mass", (6.0, 1.0, 0.0, 9.0)), ("torso_mass", 6.0)],
)
def test_a_bad_distribution_is_named(field, value):
    named = rf"Hopper\.{field} is .*(truncated normal|tuple of numbers)"
    with pytest.raises(ConfigError, match=named):
        Hopper(**{field: value})


def test_a_bad_length_is_named():
    with pytest.raises(ConfigError, match=r"HalfCheetah\.episode_length is 0"):
        HalfCheetah(episode_length=0)


@pytest.mark.parametrize("module", ["mujoco.mjx", "gymnasium"])
def test_without_the_packages_the_command_line_lists_and_explains(
    module, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["list"]) == 0
    assert "half-cheetah" in capsys.readouterr().out
    assert main(["train", "rl2", "hopper"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert 'pip install "jaxmeta[mjx]"' in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@over_bodies
def test_bodies_conform(family, mujoco):
    short = type(family)(episode_length=15)
    check_task_family(short, num_tasks=4)


@pytest.mark.slow
@over_bodies
def test_no_task_within_the_limits_leaves_the_numbers(family, mujoco):
    """Random actions for 200 steps, at the corners of the limits too; the fallen go on."""
    ends = list(zip(*family.limits(), strict=True))
    corners = [BodyTask(*corner) for corner in itertools.product(*ends)]
    drawn = [family.sample_task(key, "wide") for key in jax.random.split(jax.random.key(0), 16)]
    tasks, keys = stacked([*corners, *drawn]), jax.random.split(jax.random.key(1), 32)

    def one(key, task):
        def step(state, key):
            action = jnp.sign(family.action_space.sample(key))
            state, timestep = family.step(key, state, action, task)
            return state, (timestep.obs, timestep.reward)

        return jax.lax.scan(step, family.reset(key, task)[0], jax.random.split(key, 200))[1]

    obs, reward = fast_jit(jax.vmap(one))(keys, tasks)
    assert np.all(np.isfinite(obs))
    assert np.all(np.abs(reward) < 100)
