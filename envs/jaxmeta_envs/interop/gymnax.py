"""Any gymnax environment as a task family.

Importing gymnax costs seconds and starts JAX's backend, after which the number of CPU
devices and ``jax.distributed`` can no longer be set: it happens when an environment is
first used, never before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.contracts import TimedFamily, Timestep
from jaxmeta_envs.core.errors import ConfigError, closest, require
from jaxmeta_envs.core.extras import import_extra
from jaxmeta_envs.core.fields import check_fields, check_least
from jaxmeta_envs.core.spaces import ArraySpace, Box, Discrete

SampleParams = Callable[[Array, str], Any]
"""``(key, split) -> EnvParams``: draws the parameters of one task."""


class GymnaxState(NamedTuple):
    """Where an episode stands.

    Attributes:
        env: gymnax's own state.
        time: Steps played, int32 scalar.
    """

    env: Any
    time: Array


@dataclass(frozen=True, kw_only=True)
class GymnaxFamily(TimedFamily[Any, GymnaxState]):
    """Tasks that differ in the parameters of one gymnax environment; see `from_gymnax`.

    The family's clock is the only one: gymnax's time limit, and its reset inside ``step``,
    are left out. What ends otherwise than by the clock is terminated.

    Two families are equal if they name the same environment (or hold the same object) and
    ``sample_params`` is equal. A run can be written to files if ``env`` is a name and
    ``sample_params`` a frozen dataclass, defined at the top of a module, with a method
    ``__call__(key, split)``; a plain function is enough for runs that stay in memory.

    Attributes:
        episode_length: Longest episode, in steps.
        num_episodes: Episodes per trial.
        env: Registered name, or the environment itself.
        sample_params: Draws the parameters of a task.
        splits: The names that ``sample_params`` understands.
        disjoint_splits: Whether what it draws for "test" never occurs in "train".
    """

    episode_length: int = 200
    num_episodes: int = 2
    env: Any
    sample_params: SampleParams
    splits: tuple[str, ...] = ("train", "test")  # pyright: ignore[reportIncompatibleVariableOverride]
    disjoint_splits: bool = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        check_fields(self)
        check_least(self, episode_length=1, num_episodes=1)
        require(callable(self.sample_params), "sample_params", self.sample_params, "a function")
        require(
            isinstance(self.sample_params, Hashable),
            "sample_params",
            self.sample_params,
            "hashable, such as a function or a frozen dataclass with a method __call__",
        )
        known = isinstance(self.splits, tuple) and {"train", "test"} <= set(self.splits)
        require(known, "splits", self.splits, 'a tuple that contains "train" and "test"')
        _spaces(self.env)  # What is no environment, or has other spaces, is refused here.

    def __deepcopy__(self, memo: dict) -> GymnaxFamily:
        # Nothing in it can change; a copied environment would be another one.
        return self

    @property
    def observation_space(self) -> ArraySpace:
        return _spaces(self.env)[0]

    @property
    def action_space(self) -> ArraySpace:
        return _spaces(self.env)[1]

    def check_installed(self) -> None:
        import_gymnax()

    def reset(self, key: Array, task: Any) -> tuple[GymnaxState, Array]:
        obs, state = find_environment(self.env).reset_env(key, task)
        return GymnaxState(_arrays(state), jnp.zeros((), jnp.int32)), self._observation(obs)

    def step(
        self, key: Array, state: GymnaxState, action: Array, task: Any
    ) -> tuple[GymnaxState, Timestep]:
        action = self.action_space.clip(action)
        obs, new_env, reward, terminated, _ = find_environment(self.env).step_env(
            key, state.env, action, task
        )
        new_env = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), new_env, state.env)
        time = state.time + 1
        terminated = jnp.reshape(jnp.asarray(terminated, bool), ())
        timestep = Timestep(
            obs=self._observation(obs),
            # Some environments pay integers.
            reward=jnp.reshape(jnp.asarray(reward, jnp.float32), ()),
            terminated=terminated,
            truncated=(time >= self.horizon) & ~terminated,
        )
        return GymnaxState(new_env, time), timestep

    def _observation(self, obs: Any) -> Array:
        return jnp.asarray(obs, self.observation_space.dtype)

    def sample_task(self, key: Array, split: str = "train") -> Any:
        self.check_split(split)
        params = self.sample_params(key, split)
        kind = type(find_environment(self.env).default_params)
        require(isinstance(params, kind), "sample_params(key, split)", params, f"a {kind}")
        # Some environments look at their time limit in other ways: it is the family's.
        limit = jnp.full_like(jnp.asarray(params.max_steps_in_episode), self.horizon)
        return _arrays(params.replace(max_steps_in_episode=limit))


def from_gymnax(
    env: Any,
    sample_params: SampleParams,
    *,
    horizon: int | None = None,
    num_episodes: int = 2,
    splits: tuple[str, ...] = ("train", "test"),
    disjoint_splits: bool = True,
) -> GymnaxFamily:
    """Returns a task family made of a gymnax environment.

    The task is gymnax's own parameters, told to every step. Spaces are those of the
    environment's default parameters, with the widest bounds of an observation's entries as
    the bounds of all: parameters that allow more, such as a higher ``max_speed``, lead out
    of them.

    Some gymnax environments draw in ``reset`` what a meta-learner would call the task:
    BernoulliBandit-misc, GaussianBandit-misc and SimpleBandit-bsuite their arms,
    PointRobot-misc, Reacher-misc and MetaMaze-misc the goal, DeepSea-bsuite and
    MNISTBandit-bsuite what the actions mean. There it changes from episode to episode, so
    that nothing is learned by remembering it: use this library's bandits and navigation.

    Args:
        env: A gymnax environment, or the name of a registered one, such as
            ``"Pendulum-v1"``.
        sample_params: ``(key, split) -> EnvParams``, a pure function that draws the task.
            Fields that depend on others, such as CartPole's ``total_mass``, are its
            responsibility. It does not decide on ``max_steps_in_episode``.
        horizon: Longest episode; None takes the default parameters' time limit.
        num_episodes: Episodes per trial.
        splits: Names that ``sample_params`` understands, with "train" and "test".
        disjoint_splits: Whether what it draws for "test" never occurs in "train", which is so
            for a continuum of tasks and not for a few.

    Raises:
        ConfigError: If gymnax is not installed, the environment is unknown, or its spaces
            are others than Discrete and Box.
    """
    if horizon is None:
        horizon = int(find_environment(env).default_params.max_steps_in_episode)
    return GymnaxFamily(
        env=env,
        sample_params=sample_params,
        episode_length=horizon,
        num_episodes=num_episodes,
        splits=splits,
        disjoint_splits=disjoint_splits,
    )


def import_gymnax() -> Any:
    """Imports gymnax.

    Raises:
        ConfigError: If it is not installed, or too old to tell termination from truncation.
    """
    gymnax = import_extra("gymnax", "gymnax")
    if not hasattr(gymnax.environments.environment.Environment, "is_truncated"):
        raise ConfigError(
            f"gymnax is {getattr(gymnax, '__version__', 'of an old version')}; it must be at "
            'least 1.0.1: pip install "jaxmeta[gymnax]"'
        )
    return gymnax


@functools.cache
def find_environment(env: Any) -> Any:
    """Returns the gymnax environment of this name, or ``env`` itself if it is one."""
    gymnax = import_gymnax()
    if not isinstance(env, str):
        usable = all(hasattr(env, name) for name in ("step_env", "reset_env", "default_params"))
        require(usable, "env", env, "a gymnax environment or the name of one")
        return env
    known = gymnax.registered_envs
    require(env in known, "env", env, f"one of {', '.join(sorted(known))}{closest(env, known)}")
    with jax.ensure_compile_time_eval():
        return gymnax.make(env)[0]


@functools.cache
def _spaces(env: Any) -> tuple[ArraySpace, ArraySpace]:
    """Returns observation and action space under the environment's default parameters."""
    environment = find_environment(env)
    with jax.ensure_compile_time_eval():
        params = environment.default_params
        obs, action = environment.observation_space(params), environment.action_space(params)
        return _convert(obs, "observation"), _convert(action, "action")


def _convert(space: Any, role: str) -> ArraySpace:
    """Returns gymnax's space as one of ours."""
    kind = type(space).__name__
    if kind == "Discrete":
        return Discrete(int(space.n))
    require(kind == "Box", f"{role} space", space, "Discrete or Box")
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    shape = tuple(int(size) for size in space.shape)
    if role == "observation":
        low, high = low.min(), high.max()
        high = low + 1.0 if low == high else high  # an observation that never changes
    # gymnax writes "unbounded" as the largest float.
    largest = np.finfo(np.float32).max
    low, high = np.where(low > -largest, low, -np.inf), np.where(high < largest, high, np.inf)
    return Box(tuple(np.ravel(low).tolist()), tuple(np.ravel(high).tolist()), shape)


def _arrays(tree: Any) -> Any:
    """Returns the tree with arrays for Python numbers, none of them weakly typed."""
    return jax.tree.map(lambda leaf: (x := jnp.asarray(leaf)).astype(x.dtype), tree)
