"""XLand-MiniGrid: grid worlds whose goals and rules are the task.

Differs from the original package: nothing is downloaded. The rulesets are drawn here, or
read from a file that the user has.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.contracts import TimedFamily, Timestep
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.extras import import_extra
from jaxmeta_envs.core.fields import check_fields, check_least
from jaxmeta_envs.core.spaces import Box, Discrete

# Sizes and codes of xminigrid 0.9, written down so that spaces need no import; a test
# compares them with the package.
NUM_ACTIONS, NUM_TILES, NUM_COLORS, VIEW_SIZE = 6, 13, 12, 5
SHAPES = (3, 4, 5, 7, 11, 12)  # ball, square, pyramid, key, hex, star: what can be picked up
COLORS = tuple(range(1, 11 + 1))
HOLD, NEAR, TOGETHER = 1, 3, 4
RULE_LENGTH, GOAL_LENGTH = 7, 5


class XLandTask(NamedTuple):
    """A ruleset, in the codes of xminigrid.

    Attributes:
        goal: What ends the episode, uint8 ``[5]``.
        rules: What becomes of objects that meet, uint8 ``[R, 7]``; zeros are no rule.
        objects: Tile and color of what lies around at first, uint8 ``[O, 2]``.
    """

    goal: Array
    rules: Array
    objects: Array


class XLandState(NamedTuple):
    """Where an episode stands.

    Attributes:
        grid: Tile and color of every cell, uint8 ``[H, W, 2]``.
        agent: Position, direction and pocket, as xminigrid keeps them.
        time: Steps played, int32 scalar.
    """

    grid: Array
    agent: Any
    time: Array


@dataclass(frozen=True)
class XLandMiniGrid(TimedFamily[XLandTask, XLandState]):
    """Rooms with objects, and an unknown goal about them: XLand-MiniGrid.

    The agent sees the 5×5 cells before it and not what it carries. Its actions are forward,
    turn right, turn left, pick up, put down, toggle (0 to 5). Where the objects lie, and
    where the agent starts, is new in every episode. Reaching the goal terminates the
    episode with reward ``1 - 0.9 t / episode_length`` at step t; no other step is rewarded.

    Without a benchmark the goals are, with equal probability, to hold one of the objects,
    to stand beside one (and go forward), or to put two of them side by side; there are no
    rules, and train and test draw from the same finitely many tasks.

    Attributes:
        env_id: Registered name in xminigrid: layout and size.
        episode_length: Longest episode. xminigrid's own is three steps per cell.
        num_episodes: Episodes per trial.
        num_objects: Objects in the room, all different, the goal's ones included.
        benchmark: Path of a file of rulesets in xminigrid's format, or None. Its first four
            fifths are for training and the rest held out. It is unpickled: read only what
            you trust.

    Reference:
        Nikulin et al. (2024), "XLand-MiniGrid: scalable meta-reinforcement learning
        environments in JAX".
    """

    env_id: str = "XLand-MiniGrid-R1-9x9"
    episode_length: int = 100
    num_episodes: int = 2
    num_objects: int = 4
    benchmark: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        named = re.fullmatch(r"XLand-MiniGrid-R\d+-\d+x\d+", self.env_id)
        require(bool(named), "XLandMiniGrid.env_id", self.env_id, "like XLand-MiniGrid-R1-9x9")
        check_least(self, episode_length=1, num_episodes=1, num_objects=2)
        most = len(SHAPES) * len(COLORS)
        require(
            self.num_objects <= most, "XLandMiniGrid.num_objects", self.num_objects, f"<= {most}"
        )

    @property
    def disjoint_splits(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True with a benchmark, whose rulesets are divided; they are taken to be distinct."""
        return self.benchmark is not None

    @property
    def observation_space(self) -> Box:
        return Box(0.0, 1.0, (VIEW_SIZE**2 * (NUM_TILES + NUM_COLORS),))

    @property
    def action_space(self) -> Discrete:
        return Discrete(NUM_ACTIONS)

    def check_installed(self) -> None:
        import_extra("xminigrid", "xland")

    def sample_task(self, key: Array, split: str = "train") -> XLandTask:
        self.check_split(split)
        if self.benchmark is None:
            return _draw_ruleset(key, self.num_objects)
        rulesets = _load_rulesets(self.benchmark)
        count = len(rulesets.goal)
        first_held_out = count * 4 // 5
        low, high = (first_held_out, count) if split == "test" else (0, first_held_out)
        index = jax.random.randint(key, (), low, high)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], rulesets)

    def reset(self, key: Array, task: XLandTask) -> tuple[XLandState, Array]:
        env, params = self._environment(task)
        # xminigrid mixes types of 32 bits with what JAX has for a default.
        with jax.enable_x64(False):
            start = env.reset(params, key)
        state = start.state
        time = jnp.zeros((), jnp.int32)
        return XLandState(state.grid, state.agent, time), _one_hot(start.observation)

    def step(
        self, key: Array, state: XLandState, action: Array, task: XLandTask
    ) -> tuple[XLandState, Timestep]:
        del key
        env, params = self._environment(task)
        types = import_extra("xminigrid.types", "xland")
        before = types.TimeStep(
            # xminigrid keeps the task here; it is handed in anew at every step.
            state=types.State(
                key=None,
                step_num=state.time,
                grid=state.grid,
                agent=state.agent,
                goal_encoding=task.goal,
                rule_encoding=task.rules,
                carry=types.EnvCarry(),
            ),
            step_type=None,
            reward=None,
            discount=None,
            observation=None,
        )
        with jax.enable_x64(False):
            after = env.step(params, before, self.action_space.clip(action))
        terminated = after.discount == 0.0
        time = state.time + 1
        timestep = Timestep(
            obs=_one_hot(after.observation),
            reward=jnp.asarray(after.reward, jnp.float32),
            terminated=terminated,
            truncated=(time >= self.horizon) & ~terminated,
        )
        return XLandState(after.state.grid, after.state.agent, time), timestep

    def _environment(self, task: XLandTask) -> tuple[Any, Any]:
        env, params = _make(self.env_id)
        ruleset = import_extra("xminigrid.types", "xland").RuleSet(
            goal=task.goal, rules=task.rules, init_tiles=task.objects
        )
        return env, params.replace(ruleset=ruleset, max_steps=self.horizon)


def _draw_ruleset(key: Array, num_objects: int) -> XLandTask:
    """Draws a goal about some of ``num_objects`` different objects, and no rules."""
    objects_key, goal_key = jax.random.split(key)
    number = len(SHAPES) * len(COLORS)
    drawn = jax.random.choice(objects_key, number, (num_objects,), replace=False)
    shapes, colors = (jnp.asarray(x, jnp.uint8) for x in (SHAPES, COLORS))
    objects = jnp.stack([shapes[drawn // len(COLORS)], colors[drawn % len(COLORS)]], axis=1)
    kind = jnp.asarray([HOLD, NEAR, TOGETHER], jnp.uint8)[jax.random.randint(goal_key, (), 0, 3)]
    other = jnp.where(kind == TOGETHER, objects[1], jnp.zeros_like(objects[1]))
    goal = jnp.concatenate([kind[None], objects[0], other])
    return XLandTask(goal, jnp.zeros((1, RULE_LENGTH), jnp.uint8), objects)


def _one_hot(view: Array) -> Array:
    """Returns tile and color of every cell in sight one-hot, float32 ``[625]``."""
    tiles = jax.nn.one_hot(view[..., 0], NUM_TILES, dtype=jnp.float32)
    colors = jax.nn.one_hot(view[..., 1], NUM_COLORS, dtype=jnp.float32)
    return jnp.concatenate([tiles, colors], axis=-1).reshape(-1)


@functools.cache
def _make(env_id: str) -> tuple[Any, Any]:
    xminigrid = import_extra("xminigrid", "xland")
    known = xminigrid.registered_environments()
    names = ", ".join(name for name in known if name.startswith("XLand"))
    require(env_id in known, "XLandMiniGrid.env_id", env_id, f"one of {names}")
    with jax.ensure_compile_time_eval():
        return xminigrid.make(env_id)


@functools.cache
def _load_rulesets(path: str) -> XLandTask:
    """Reads rulesets as uint8 arrays on the host, leaves ``[number, ...]``."""
    benchmarks = import_extra("xminigrid.benchmarks", "xland")
    with jax.ensure_compile_time_eval():
        try:
            found = benchmarks.load_benchmark_from_path(path)
        except (OSError, KeyError, EOFError) as error:
            problem = f"{path} ({error})"
            require(False, "XLandMiniGrid.benchmark", problem, "a file of xminigrid rulesets")
            raise
    leaves = (found.goals, found.rules, found.init_tiles)
    rulesets = jax.device_get(jax.tree.map(lambda x: jnp.asarray(x, jnp.uint8), XLandTask(*leaves)))
    require(len(rulesets.goal) >= 2, "XLandMiniGrid.benchmark", path, "at least two rulesets")
    return rulesets
