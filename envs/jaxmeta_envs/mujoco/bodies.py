"""Gymnasium's MuJoCo bodies, simulated by MJX; what all families of such bodies share.

The model files are those inside the installed gymnasium. Importing MuJoCo takes a second:
it happens when a body is first used.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.contracts import Task, TimedFamily, Timestep
from jaxmeta_envs.core.extras import import_extra
from jaxmeta_envs.core.fields import check_fields, check_least
from jaxmeta_envs.core.spaces import Box

# The model files allow 100 and 50, and a batch waits for its slowest: these are several times as
# fast. Over 384 states of tasks drawn from "wide", for each body, they leave the difference from
# MuJoCo's own engine as it was; with 4 and 4 the cheetah's worst difference grew 30 times. Over
# 160 states of the ant they change nothing, to the last bit, from 20 and 20.
SOLVER_STEPS, LINE_SEARCH_STEPS = 8, 4
_RUNGE_KUTTA = np.asarray([[0.0, 1 / 2, 1 / 2, 1.0], [1 / 6, 1 / 3, 1 / 3, 1 / 6]], np.float32).T


class BodyState(NamedTuple):
    """Where an episode stands.

    Attributes:
        positions: MuJoCo's ``qpos``, float32 ``[Q]``, m and rad.
        velocities: ``qvel``, float32 ``[V]``, m/s and rad/s.
        accelerations: ``qacc`` of the step before, float32 ``[V]``: where the solver of
            contact forces begins. It has no influence on what the solver finds, up to
            rounding.
        time: Steps played, int32 scalar.
    """

    positions: Array
    velocities: Array
    accelerations: Array
    time: Array


@dataclass(frozen=True)
class Body:
    """A model file of Gymnasium and how Gymnasium's environment of that body uses it.

    The sizes are written down so that spaces need no import.

    Attributes:
        file: Name of the model file.
        frame_skip: Steps of the simulator per action.
        num_positions: Q, length of ``qpos``.
        num_velocities: V, length of ``qvel``.
        num_actions: Number of motors; each takes actions in [-1, 1].
        noise: Size of the random deviation from the model's position, at rest, at the start
            of an episode.
        normal_velocities: Whether the deviation of velocities is normal; that of positions
            is uniform in any case.
        hidden: Number of leading positions that are not observed: where the body is along
            the ground.
        velocity_limit: Velocities are clipped to this size when observed.
    """

    file: str
    frame_skip: int
    num_positions: int
    num_velocities: int
    num_actions: int
    noise: float
    normal_velocities: bool = False
    hidden: int = 1
    velocity_limit: float = math.inf

    @property
    def step_seconds(self) -> float:
        """Duration of one action, s."""
        return self.frame_skip * float(load_model(self.file).opt.timestep)

    def start(self, key: Array) -> BodyState:
        """Draws the state in which an episode begins."""
        positions_key, velocities_key = jax.random.split(key)
        shape = (self.num_velocities,)
        draw = jax.random.normal if self.normal_velocities else _symmetric
        positions = jnp.asarray(load_model(self.file).qpos0, jnp.float32)
        return BodyState(
            positions + self.noise * _symmetric(positions_key, (self.num_positions,), jnp.float32),
            self.noise * draw(velocities_key, shape, jnp.float32),
            jnp.zeros(shape, jnp.float32),
            jnp.zeros((), jnp.int32),
        )

    def observe(self, state: BodyState) -> Array:
        """Returns positions and velocities as observed, float32 ``[Q + V - hidden]``."""
        limit = self.velocity_limit
        velocities = jnp.clip(state.velocities, -limit, limit)
        return jnp.concatenate([state.positions[self.hidden :], velocities])

    def guess_state(self, obs: Array) -> BodyState:
        """Returns the state at the origin, without history, that is observed as ``obs``."""
        visible = self.num_positions - self.hidden
        return BodyState(
            jnp.concatenate([jnp.zeros(self.hidden, jnp.float32), obs[:visible]]),
            obs[visible:],
            jnp.zeros(self.num_velocities, jnp.float32),
            jnp.zeros((), jnp.int32),
        )

    def advance(self, model: Any, state: BodyState, action: Array) -> BodyState:
        """Returns the state after one action.

        Args:
            model: The parameters, an ``mjx.Model`` made from `model`.
            state: The state.
            action: Signals of the motors, float32 ``[num_actions]``.
        """
        still = jax.tree.map(_single, _load_data(self.file)).replace(ctrl=action)
        # MJX's own integrator repeats the whole engine in the compiled program, once per stage.
        runge_kutta = int(model.opt.integrator) == int(import_mjx().IntegratorType.RK4)
        move = _runge_kutta if runge_kutta and self._moves_simply else _mjx_step

        def step(carry: tuple[Array, Array, Array], _: None) -> tuple[Any, None]:
            return jax.tree.map(_single, move(model, still, *carry)), None

        # MJX's own state is large, and three vectors say all of it. Its code promotes ranks.
        with jax.numpy_rank_promotion("allow"):
            start = state.positions, state.velocities, state.accelerations
            moved, _ = jax.lax.scan(step, start, None, length=self.frame_skip)
        positions, velocities, accelerations = moved
        return BodyState(positions, velocities, accelerations, state.time + 1)

    def model(self) -> Any:
        """Returns the body as Gymnasium has it, an ``mjx.Model``."""
        return jax.tree.map(_single, _load_mjx_model(self.file))

    @property
    def _moves_simply(self) -> bool:
        """Whether `moved` knows all joints: there is no quaternion but that of a free root."""
        free = (
            load_model(self.file).jnt_type[0] == import_extra("mujoco", "mjx").mjtJoint.mjJNT_FREE
        )
        return self.num_positions - self.num_velocities == int(free)


@dataclass(frozen=True)
class BodyFamily(TimedFamily[Task, BodyState]):
    """Tasks for one body; subclasses say what is rewarded and what ends an episode.

    Attributes:
        episode_length: Longest episode, in steps.
        num_episodes: Episodes per trial.
    """

    body: ClassVar[Body]

    episode_length: int = 1000
    num_episodes: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        check_least(self, episode_length=1, num_episodes=1)

    @abc.abstractmethod
    def outcome(
        self, before: BodyState, after: BodyState, action: Array, task: Task
    ) -> tuple[Array, Array]:
        """Returns the reward of one step and whether the episode terminates."""

    def model(self, task: Task) -> Any:
        """Returns the ``mjx.Model`` of this task: by default that of Gymnasium."""
        del task
        return self.body.model()

    @property
    def observation_space(self) -> Box:
        body = self.body
        size = body.num_positions + body.num_velocities - body.hidden
        return Box(-math.inf, math.inf, (size,))

    @property
    def action_space(self) -> Box:
        return Box(-1.0, 1.0, (self.body.num_actions,))

    def check_installed(self) -> None:
        import_mjx()
        _model_path(self.body.file)

    def reset(self, key: Array, task: Task) -> tuple[BodyState, Array]:
        del task
        state = self.body.start(key)
        return state, self.body.observe(state)

    def step(
        self, key: Array, state: BodyState, action: Array, task: Task
    ) -> tuple[BodyState, Timestep]:
        del key
        action = self.action_space.clip(action)
        after = self.body.advance(self.model(task), state, action)
        reward, terminated = self.outcome(state, after, action, task)
        truncated = (after.time >= self.horizon) & ~terminated
        return after, Timestep(self.body.observe(after), reward, terminated, truncated)


def import_mjx() -> Any:
    """Imports MJX; `ConfigError` says how to install it."""
    # It prints what else it could use.
    with contextlib.redirect_stdout(io.StringIO()):
        return import_extra("mujoco.mjx", "mjx")


@functools.cache
def load_model(file: str) -> Any:
    """Returns the model of MuJoCo's own engine, ``mujoco.MjModel``; not to be changed."""
    spec = import_extra("mujoco", "mjx").MjSpec.from_file(str(_model_path(file)))
    with warnings.catch_warnings():
        # The cheetah's file sets the total mass in a way that MuJoCo wants to give up.
        warnings.simplefilter("ignore")
        return spec.compile()


def _model_path(file: str) -> Path:
    gymnasium = import_extra("gymnasium", "mjx")
    return Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / file


@functools.cache
def _load_mjx_model(file: str) -> Any:
    """Returns the ``mjx.Model`` with arrays on the host, so that it belongs to no device."""
    with jax.ensure_compile_time_eval():
        model = import_mjx().put_model(load_model(file), impl="jax")
        options = model.opt.replace(iterations=SOLVER_STEPS, ls_iterations=LINE_SEARCH_STEPS)
        return jax.tree.map(np.asarray, model.replace(opt=options))


@functools.cache
def _load_data(file: str) -> Any:
    """Returns a blank ``mjx.Data`` with arrays on the host."""
    with jax.ensure_compile_time_eval():
        return jax.tree.map(np.asarray, import_mjx().make_data(load_model(file), impl="jax"))


def _symmetric(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    return jax.random.uniform(key, shape, dtype, -1.0, 1.0)


def _single(x: Any) -> Array:
    """Returns ``x`` as an array; MJX would turn to float64 where JAX is told to allow it."""
    x = jnp.asarray(x)
    return x.astype(jnp.float32) if x.dtype == jnp.float64 else x


def _mjx_step(model: Any, still: Any, positions: Array, velocities: Array, warm: Array) -> Any:
    """One step of the simulator; returns positions, velocities and accelerations."""
    data = still.replace(qpos=positions, qvel=velocities, qacc_warmstart=warm)
    data = import_mjx().step(model, data)
    return data.qpos, data.qvel, data.qacc_warmstart


def _runge_kutta(model: Any, still: Any, positions: Array, velocities: Array, warm: Array) -> Any:
    """`_mjx_step` by the classical Runge-Kutta method, as a loop over its four stages."""
    mjx, seconds = import_mjx(), model.opt.timestep
    zero = jnp.zeros_like(velocities)

    def stage(carry: tuple[Array, ...], weights: Array) -> tuple[tuple[Array, ...], None]:
        (velocity, acceleration), (sum_velocity, sum_acceleration) = carry[:2], carry[2:]
        ahead, weight = weights[0] * seconds, weights[1]
        there, moving = moved(positions, velocity, ahead), velocities + ahead * acceleration
        # The solver begins where the stage before ended; the first one where the last step did.
        begin = jnp.where(weights[0] == 0, warm, acceleration)
        data = still.replace(qpos=there, qvel=moving, qacc_warmstart=begin)
        found = mjx.forward(model, data).qacc
        sums = sum_velocity + weight * moving, sum_acceleration + weight * found
        return jax.tree.map(_single, (moving, found, *sums)), None

    carry, _ = jax.lax.scan(stage, (zero,) * 4, jnp.asarray(_RUNGE_KUTTA, jnp.float32))
    _, last, mean_velocity, mean_acceleration = carry
    velocities += seconds * mean_acceleration
    return moved(positions, mean_velocity, seconds), velocities, last


def moved(positions: Array, velocities: Array, seconds: Array | float) -> Array:
    """Returns positions ``[Q]`` after a time at constant velocities ``[V]``.

    If Q is V + 1, the first joint is free: its place, the quaternion of its orientation, and
    the velocities of both, the latter in the body's own axes.
    """
    if len(positions) == len(velocities):
        return positions + seconds * velocities
    half = 0.5 * seconds * velocities[3:6]
    angle = jnp.linalg.norm(half)
    w, axis = jnp.cos(angle), jnp.sinc(angle / jnp.pi) * half
    first, rest = positions[3], positions[4:7]
    turned = [(first * w - rest @ axis)[None], first * axis + w * rest + jnp.cross(rest, axis)]
    quaternion = jnp.concatenate(turned)
    place = positions[:3] + seconds * velocities[:3]
    joints = positions[7:] + seconds * velocities[6:]
    return jnp.concatenate([place, quaternion / jnp.linalg.norm(quaternion), joints])
