"""Goals of the half-cheetah and the ant, on states of MuJoCo's own engine, written in C."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.catalog.registry import FAMILIES
from jaxmeta.testing import check_task_family
from jaxmeta.testing.conformance import fast_jit
from jaxmeta_envs.core.contracts import PolicyInput
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.mujoco import bodies
from jaxmeta_envs.mujoco.bodies import BodyState
from jaxmeta_envs.mujoco.goals import (
    ANT,
    AntDirection,
    AntGoal,
    AntVelocity,
    DirectionTask,
    HalfCheetahDirection,
    HalfCheetahVelocity,
    PlaceTask,
    VelocityTask,
)
from jaxmeta_envs.mujoco.locomotion import HALF_CHEETAH

CHEETAH_FAMILIES = [HalfCheetahDirection(), HalfCheetahVelocity()]
ANT_FAMILIES = [AntDirection(), AntVelocity(), AntGoal()]
NAMES = {HALF_CHEETAH.file: "HalfCheetah-v5", ANT.file: "Ant-v5"}
by_name = pytest.mark.parametrize(
    "family", [*CHEETAH_FAMILIES, *ANT_FAMILIES], ids=lambda family: type(family).__name__
)


def never(s):
    return np.zeros(len(s.z), bool)


def fallen(lowest):
    return lambda s: ~((lowest <= s.z) & (s.z <= 1) & s.finite)


def manhattan(s, x, y):
    return np.abs(s.x - x) + np.abs(s.y - y)


# Family, task, reward and end of an episode, written anew from the papers' code.
CASES = {
    "cheetah backward": (
        HalfCheetahDirection(),
        DirectionTask(-1.0),
        lambda s: -s.vx - 0.05 * s.a2,
        never,
    ),
    "cheetah velocity": (
        HalfCheetahVelocity(),
        VelocityTask(1.3),
        lambda s: -np.abs(s.vx - 1.3) - 0.05 * s.a2,
        never,
    ),
    "ant backward, MAML": (
        AntDirection(),
        DirectionTask([-1.0, 0.0]),
        lambda s: -s.vx - 0.005 * s.a2 + 0.05,
        fallen(0.2),
    ),
    "ant any, ProMP": (
        AntDirection(directions="any", reward="promp"),
        DirectionTask([0.6, -0.8]),
        lambda s: 0.6 * s.vx - 0.8 * s.vy - 0.5 * s.a2 + 1,
        fallen(0.0),
    ),
    "ant one radian, VariBAD": (
        AntDirection(directions="one-radian", reward="pearl"),
        DirectionTask([np.cos(1), np.sin(1)]),
        lambda s: np.cos(1) * s.vx + np.sin(1) * s.vy - 0.5 * s.a2 + 1,
        fallen(0.2),
    ),
    "ant velocity": (
        AntVelocity(),
        VelocityTask(2.5),
        lambda s: 1 - np.abs(s.vx - 2.5) - 0.005 * s.a2 + 0.05,
        fallen(0.2),
    ),
    "ant goal, ProMP": (
        AntGoal(),
        PlaceTask([1.0, -2.0]),
        lambda s: -manhattan(s, 1, -2) - 0.1 * s.a2,
        never,
    ),
    "ant goal, MAML": (
        AntGoal(goals="square", reward="maml"),
        PlaceTask([-1.0, 0.5]),
        lambda s: 4 - manhattan(s, -1, 0.5) - 0.005 * s.a2 + 0.05,
        fallen(0.2),
    ),
}
by_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def plays():
    """Half a second of random actions from four starts, and what Gymnasium says of it."""
    known = {}

    def play(gymnasium, body, steps=10):
        if body.file in known:
            return known[body.file]
        env, rng = gymnasium.make(NAMES[body.file]).unwrapped, np.random.default_rng(0)
        rows = []
        for seed in range(4):
            env.reset(seed=seed)
            for _ in range(steps):
                before = env.data.qpos.copy(), env.data.qvel.copy()
                action = rng.uniform(-1, 1, body.num_actions)
                *_, info = env.step(action)
                after = env.data.qpos.copy(), env.data.qvel.copy()
                speed = info["x_velocity"], info.get("y_velocity", 0.0)
                rows.append((*before, *after, action, speed))
        env.close()
        known[body.file] = [np.stack(column) for column in zip(*rows, strict=True)]
        return known[body.file]

    return play


def states(positions, velocities):
    positions, velocities = jnp.float32(positions), jnp.float32(velocities)
    time = jnp.zeros(len(positions), jnp.int32)
    return BodyState(positions, velocities, jnp.zeros_like(velocities), time)


def as_task(task):
    return jax.tree.map(jnp.float32, type(task)(*(jnp.asarray(x) for x in task)))


def outcomes(family, task, play):
    before, after = states(*play[:2]), states(*play[2:4])
    judge = jax.vmap(lambda a, b, c: family.outcome(a, b, c, task))
    return fast_jit(judge)(before, after, jnp.float32(play[4]))


@by_case
def test_rewards_are_those_of_the_papers_code(case, plays, gymnasium):
    family, task, reward, ends = CASES[case]
    play = [x.copy() for x in plays(gymnasium, family.body)]
    after = play[2]
    ant = family.body.num_positions == ANT.num_positions
    if ant:
        after[:5, 2] = 0.19, 0.21, -0.01, 0.99, 1.01  # below, above and between the bounds
        play[3][5, 3] = np.inf
    mine, ended = outcomes(family, as_task(task), play)
    velocity = (after[:, :2] - play[0][:, :2]) / 0.05
    # Gymnasium's cheetah has the same; its ant looks where MuJoCo last did, within the step.
    axes, atol = (2, 0.06) if ant else (1, 1e-6)
    np.testing.assert_allclose(velocity[:, :axes], play[5][:, :axes], atol=atol)
    seen = SimpleNamespace(
        x=after[:, 0],
        y=after[:, 1],
        z=after[:, 2],
        vx=velocity[:, 0],
        vy=velocity[:, 1],
        a2=np.sum(play[4] ** 2, axis=1),
        finite=np.isfinite(play[3]).all(axis=1),
    )
    np.testing.assert_allclose(mine, reward(seen), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(ended, ends(seen))


@by_case
def test_every_number_of_a_task_changes_the_reward(case, plays, gymnasium):
    family, task = CASES[case][:2]
    task, play = as_task(task), plays(gymnasium, family.body)
    here = outcomes(family, task, play)[0]
    for name, value in task._asdict().items():
        for step in np.eye(value.size).reshape(-1, *value.shape):
            there = outcomes(family, task._replace(**{name: value + jnp.float32(step)}), play)[0]
            assert np.abs(there - here).max() > 1e-2, name


def test_what_is_written_down_of_the_ant_is_what_the_model_says(mujoco):
    model = bodies.load_model(ANT.file)
    assert (model.nq, model.nv) == (ANT.num_positions, ANT.num_velocities)
    np.testing.assert_array_equal(model.actuator_ctrlrange, [[-1, 1]] * ANT.num_actions)
    assert ANT.step_seconds == pytest.approx(0.05)


@pytest.mark.parametrize("body", [HALF_CHEETAH, ANT], ids=lambda body: body.file)
def test_positions_move_as_in_mujoco(body, mujoco):
    model, rng = bodies.load_model(body.file), np.random.default_rng(0)
    move = fast_jit(bodies.moved)
    for scale in (0.0, 1e-4, 1.0, 10.0):
        positions = model.qpos0 + rng.uniform(-1, 1, model.nq)
        mujoco.mj_normalizeQuat(model, positions)
        velocities = scale * rng.normal(size=model.nv)
        mine = move(jnp.float32(positions), jnp.float32(velocities), 0.1)
        mujoco.mj_integratePos(model, positions, velocities, 0.1)
        np.testing.assert_allclose(mine, positions, rtol=1e-5, atol=1e-6)


@by_name
def test_an_episode_starts_as_in_gymnasium(family, gymnasium):
    """Of what Gymnasium's ant observes, the first 27 numbers are positions and velocities."""
    env = gymnasium.make(NAMES[family.body.file]).unwrapped
    theirs = np.stack([env.reset(seed=seed)[0] for seed in range(200)])
    env.close()
    keys = jax.random.split(jax.random.key(0), 200)
    task = family.sample_task(keys[0])
    mine = np.asarray(fast_jit(jax.vmap(lambda key: family.reset(key, task)[1]))(keys))
    assert mine.shape[1:] == family.observation_space.shape
    if isinstance(family, AntGoal):
        np.testing.assert_allclose(np.abs(mine[:, :2]).max(), 0.1, rtol=0.1)
        mine = mine[:, 2:]
    theirs = theirs[:, : mine.shape[1]]
    np.testing.assert_allclose(mine.mean(0), theirs.mean(0), atol=0.03)
    np.testing.assert_allclose(mine.std(0), theirs.std(0), rtol=0.2)


def drawn(family, split):
    keys = jax.random.split(jax.random.key(0), 1000)
    tasks = fast_jit(jax.vmap(lambda key: family.sample_task(key, split)))(keys)
    return np.asarray(tasks[0])


@pytest.mark.parametrize("split", ["train", "test"])
def test_there_are_two_directions_both_for_training_and_for_testing(split):
    values, counts = np.unique(drawn(HalfCheetahDirection(), split), return_counts=True)
    assert values.tolist() == [-1, 1]
    assert counts.min() > 400
    values, counts = np.unique(drawn(AntDirection(), split), axis=0, return_counts=True)
    assert values.tolist() == [[-1, 0], [1, 0]]
    assert counts.min() > 400
    values = np.unique(drawn(AntDirection(directions="one-radian"), split), axis=0)
    np.testing.assert_allclose(values, [[0.540302, -0.841471], [0.540302, 0.841471]], atol=1e-6)


def test_any_direction_is_all_around_and_sideways_is_across():
    directions = drawn(AntDirection(directions="any"), "train")
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    quarters = np.floor(np.arctan2(*directions.T) / (np.pi / 2))
    assert np.unique(quarters, return_counts=True)[1].min() > 200
    across = np.unique(drawn(AntDirection(), "sideways"), axis=0)
    assert across.tolist() == [[0, -1], [0, 1]]


@pytest.mark.parametrize(
    ("family", "highest"),
    [(HalfCheetahVelocity(), 2), (HalfCheetahVelocity(velocities="promp"), 3), (AntVelocity(), 3)],
)
def test_speeds_are_uniform_up_to_the_highest(family, highest):
    near, far = drawn(family, "test"), drawn(family, "far")
    for speeds, low, high in ((near, 0, highest), (far, highest, 1.5 * highest)):
        assert low <= speeds.min() < speeds.max() <= high
        shares = np.histogram(speeds, bins=5, range=(low, high))[0] / len(speeds)
        np.testing.assert_allclose(shares, 0.2, atol=0.05)


@pytest.mark.parametrize("goals", ["disc", "square"])
def test_places_are_uniform_in_area(goals):
    """A half of all places is in the inner half of the area; "far" has three times as much."""
    size = {"disc": lambda x: np.linalg.norm(x, axis=1), "square": lambda x: np.abs(x).max(1)}
    near = size[goals](drawn(AntGoal(goals=goals), "train"))
    far = size[goals](drawn(AntGoal(goals=goals), "far"))
    assert near.max() <= 3 < 6.001 > far.max() > far.min() >= 2.999
    assert np.mean(near < 3 / np.sqrt(2)) == pytest.approx(0.5, abs=0.05)
    assert np.mean(far < np.sqrt(9 + 13.5)) == pytest.approx(0.5, abs=0.05)
    quarters = np.unique(drawn(AntGoal(goals=goals), "train") > 0, axis=0, return_counts=True)[1]
    assert quarters.min() > 200


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HalfCheetahVelocity(velocities="fast"), r"velocities is 'fast'.*maml, promp"),
        (lambda: AntDirection(directions="up"), r"AntDirection\.directions is 'up'"),
        (lambda: AntDirection(reward="varibad"), r"reward is 'varibad'.*maml, promp, pearl"),
        (lambda: AntGoal(goals="ring"), r"AntGoal\.goals is 'ring'"),
        (lambda: AntGoal(reward="pearl"), r"AntGoal\.reward is 'pearl'"),
        (lambda: AntGoal(radius=0.0), r"AntGoal\.radius is 0\.0"),
        (lambda: AntVelocity(episode_length=0), r"AntVelocity\.episode_length is 0"),
        (lambda: HalfCheetahDirection().sample_task(jax.random.key(0), "far"), "split is 'far'"),
    ],
)
def test_a_bad_setting_is_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@by_name
def test_families_are_registered_with_their_references(family):
    assert type(family) in FAMILIES.values()
    assert (family.horizon, family.default_episodes) == (200, 2)
    references = family.references(1)
    assert list(references) == ["random", "still"]
    size = family.observation_space.shape
    no = jnp.zeros((), bool)
    inputs = PolicyInput(jnp.ones(size), family.action_space.zero(), jnp.zeros(()), no, no)
    still = references["still"].policy
    action, _ = still.act((), still.begin((), jax.random.key(0)), inputs, jax.random.key(0))
    assert not np.any(action)


def stands_steeply(data):
    """Whether a leg on the ground is within 33° of the vertical."""
    legs = data.geom_xmat[data.contact.geom.max(axis=1)].reshape(-1, 3, 3)[:, :, 2]
    return bool(np.any(np.linalg.norm(legs[:, :2], axis=1) < 0.55))


@pytest.mark.slow
def test_the_ant_is_that_of_gymnasium(gymnasium, mujoco):
    """Step by step from Gymnasium's states, exactly where both turn friction the same way."""
    env, rng = gymnasium.make("Ant-v5").unwrapped, np.random.default_rng(0)
    model, data, before, after, actions, kinds = env.model, env.data, [], [], [], []
    for seed in range(8):
        env.reset(seed=seed)
        for _ in range(20):
            before.append((data.qpos.copy(), data.qvel.copy()))
            actions.append(rng.uniform(-1, 1, 8))
            data.ctrl[:] = actions[-1]
            touching, steep = 0, False
            for _ in range(5):
                mujoco.mj_step(model, data)
                touching, steep = touching + data.ncon, steep | stands_steeply(data)
            after.append((data.qpos.copy(), data.qvel.copy()))
            kinds.append(steep * 2 + (touching > 0 and not steep))
    env.close()
    family, task = AntDirection(), as_task(DirectionTask([1.0, 0.0]))
    step = fast_jit(jax.vmap(lambda s, a: family.step(jax.random.key(0), s, a, task)))
    (p, v), (q, w) = ([np.stack(x) for x in zip(*y, strict=True)] for y in (before, after))
    state, timestep = step(states(p, v), jnp.float32(actions))
    in_air, leaning, steep = (np.asarray(kinds) == kind for kind in range(3))
    assert min(in_air.sum(), leaning.sum(), steep.sum()) >= 20
    apart = np.abs(state.velocities - w).max(axis=1)
    assert apart[leaning].max() < 1e-4
    assert np.quantile(apart[in_air], 0.8) < 1e-4  # some touch the ground between two looks
    assert 0.01 < np.median(apart[steep]) < 0.2
    np.testing.assert_allclose(state.positions, q, atol=0.02)
    obs = np.concatenate([state.positions[:, 2:], state.velocities], axis=1)
    np.testing.assert_array_equal(timestep.obs, obs)
    speed = (np.asarray(state.positions) - p)[:, 0] / 0.05
    expected = speed + 0.05 - 0.005 * np.sum(np.square(actions), axis=1)
    np.testing.assert_allclose(timestep.reward, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_the_cheetah_plays_to_the_clock(mujoco):
    family = HalfCheetahVelocity(episode_length=3)
    task, state = VelocityTask(jnp.float32(1.0)), family.body.start(jax.random.key(0))
    step = fast_jit(family.step)
    ends = []
    for _ in range(3):
        before = float(state.positions[0])
        # Beyond the bounds, where actions are clipped before they are paid for.
        state, timestep = step(jax.random.key(0), state, 2 * jnp.ones(6), task)
        speed = (float(state.positions[0]) - before) / 0.05
        assert float(timestep.reward) == pytest.approx(-abs(speed - 1) - 0.05 * 6, abs=1e-4)
        ends.append((bool(timestep.terminated), bool(timestep.truncated)))
    assert ends == [(False, False), (False, False), (False, True)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [*CHEETAH_FAMILIES, AntDirection(), AntGoal()],
    ids=lambda family: type(family).__name__,
)
def test_families_conform(family, mujoco):
    check_task_family(type(family)(episode_length=5), num_tasks=4)
