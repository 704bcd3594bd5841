import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.cli import main
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.interop import xland
from jaxmeta_envs.interop.xland import XLandMiniGrid, XLandTask

FAMILY = XLandMiniGrid(episode_length=10)


@pytest.fixture
def xminigrid():
    return pytest.importorskip("xminigrid", exc_type=ImportError)


def test_the_codes_are_those_of_the_package(xminigrid):
    from xminigrid.core import constants, goals, rules

    assert (constants.NUM_ACTIONS, constants.NUM_TILES, constants.NUM_COLORS) == (6, 13, 12)
    assert tuple(int(x) for x in constants.PICKABLE) == xland.SHAPES
    assert (goals.MAX_GOAL_ENCODING_LEN, rules.MAX_RULE_ENCODING_LEN) == (
        xland.GOAL_LENGTH,
        xland.RULE_LENGTH,
    )
    a, b = jnp.asarray([3, 1], jnp.uint8), jnp.asarray([4, 2], jnp.uint8)
    for kind, goal in (
        (xland.HOLD, goals.AgentHoldGoal(a)),
        (xland.NEAR, goals.AgentNearGoal(a)),
        (xland.TOGETHER, goals.TileNearGoal(a, b)),
    ):
        assert goal.encode()[0] == kind
    assert FAMILY.observation_space.shape == (25 * 25,)


def test_objects_differ_and_the_goal_is_about_them():
    tasks = jax.vmap(FAMILY.sample_task)(jax.random.split(jax.random.key(0), 60))
    for goal, objects in zip(np.asarray(tasks.goal), np.asarray(tasks.objects), strict=True):
        assert len({tuple(x) for x in objects}) == 4
        assert tuple(goal[1:3]) == tuple(objects[0])
        assert tuple(goal[3:]) == (tuple(objects[1]) if goal[0] == xland.TOGETHER else (0, 0))
    assert set(np.asarray(tasks.goal)[:, 0]) == {xland.HOLD, xland.NEAR, xland.TOGETHER}


def test_a_rollout_is_that_of_xminigrid(xminigrid):
    from xminigrid.types import RuleSet

    env, params = xminigrid.make(FAMILY.env_id)
    task = FAMILY.sample_task(jax.random.key(4))
    ruleset = RuleSet(goal=task.goal, rules=task.rules, init_tiles=task.objects)
    params = params.replace(ruleset=ruleset, max_steps=10)
    key = jax.random.key(1)
    state, obs = FAMILY.reset(key, task)
    theirs = env.reset(params, key)
    ours_step, their_step = jax.jit(FAMILY.step), jax.jit(env.step)
    for t, action in enumerate(jax.random.randint(key, (10,), 0, 6)):
        view = np.asarray(theirs.observation).reshape(25, 2)
        cells = np.asarray(obs).reshape(25, 25)
        np.testing.assert_array_equal(cells[:, :13].argmax(1), view[:, 0])
        np.testing.assert_array_equal(cells[:, 13:].argmax(1), view[:, 1])
        state, timestep = ours_step(key, state, action, task)
        theirs, obs = their_step(params, theirs, action), timestep.obs
        assert timestep.reward == theirs.reward
        assert timestep.terminated == (theirs.discount == 0)
        assert timestep.truncated == (t == 9 and theirs.discount == 1)
        if timestep.terminated:
            break


def test_reaching_the_goal_pays_by_the_step_it_was_reached(xminigrid):
    """An object straight ahead is picked up, which was the goal."""
    goal = jnp.asarray([xland.HOLD, 3, 1, 0, 0], jnp.uint8)
    task = XLandTask(goal, jnp.zeros((1, 7), jnp.uint8), jnp.asarray([[3, 1]], jnp.uint8))
    state, _ = FAMILY.reset(jax.random.key(0), task)
    grid = state.grid.at[1:-1, 1:-1].set(jnp.asarray([1, 7], jnp.uint8))
    grid = grid.at[3, 4].set(jnp.asarray([3, 1], jnp.uint8))
    agent = state.agent.replace(position=jnp.asarray([4, 4]), direction=jnp.asarray(0))
    state = state._replace(grid=grid, agent=agent)
    _, timestep = FAMILY.step(jax.random.key(0), state, jnp.int32(3), task)
    assert timestep.terminated
    assert not timestep.truncated
    assert timestep.reward == pytest.approx(1 - 0.9 / 10)
    # Told another goal, the same step is worth nothing: the state holds no task.
    other = task._replace(goal=goal.at[2].set(5))
    assert FAMILY.step(jax.random.key(0), state, jnp.int32(3), other)[1].reward == 0


def test_rulesets_come_from_a_file_and_some_are_held_out(xminigrid, tmp_path):
    from xminigrid.benchmarks import save_bz2_pickle

    number, path = 10, str(tmp_path / "rulesets")
    goals = np.zeros((number, 5), np.uint8)
    goals[:, 0], goals[:, 2] = xland.HOLD, np.arange(number)
    rules, objects = np.zeros((number, 2, 7), np.uint8), np.zeros((number, 3, 2), np.uint8)
    content = {"goals": goals, "rules": rules, "init_tiles": objects, "num_rules": goals[:, 0]}
    save_bz2_pickle(content, path)
    family = XLandMiniGrid(benchmark=path)
    keys = jax.random.split(jax.random.key(0), 100)
    for split, expected in (("train", range(8)), ("test", range(8, 10))):
        tasks = jax.vmap(lambda key, s=split: family.sample_task(key, s))(keys)
        assert set(np.asarray(tasks.goal)[:, 2].tolist()) == set(expected)
    with pytest.raises(ConfigError, match=r"no-such-file.*a file of xminigrid rulesets"):
        XLandMiniGrid(benchmark="no-such-file").sample_task(keys[0])


def test_it_trains_with_the_common_command(xminigrid, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = ["--tasks.episode-length", "6", "--algorithm.num-tasks", "8"]
    run = ["--total-env-steps", "96", "--updates-per-chunk", "1", "--no-evaluate"]
    assert main(["train", "rl2", "xland", *sizes, *run]) == 0


@pytest.mark.parametrize(
    ("field", "value"), [("env_id", "MiniGrid-Empty"), ("num_objects", 1), ("num_objects", 67)]
)
def test_bad_input_is_named(field, value):
    with pytest.raises(ConfigError, match=rf"XLandMiniGrid\.{field} is {value!r}"):
        XLandMiniGrid(**{field: value})


def test_without_the_package_one_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "xminigrid", None)
    with pytest.raises(ConfigError, match=r'pip install "jaxmeta\[xland\]"'):
        FAMILY.check_installed()
