"""Our task families as Gymnasium environments; importing this file imports Gymnasium."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxmeta_envs.core.composite_spaces import Dict, Tuple
from jaxmeta_envs.core.contracts import TaskFamily, as_task_family
from jaxmeta_envs.core.errors import ConfigError, require
from jaxmeta_envs.core.extras import import_extra
from jaxmeta_envs.core.spaces import ArraySpace, Discrete, Space, as_array_space
from jaxmeta_envs.interop.gymnasium_spaces import to_gymnasium

gymnasium = import_extra("gymnasium", "gymnasium", user="GymnasiumEnv")

_NEW = "new"


class GymnasiumEnv(gymnasium.Env):
    """A task family as a Gymnasium environment, for agents that know nothing of tasks.

    One task is played, episode after episode, until another is asked for:

    - ``reset()`` starts the next episode of the same task;
    - ``reset(options={"task": "new"})`` draws a task from the split;
    - ``reset(options={"task": task})`` takes the one given, a task of the family;
    - ``reset(seed=...)`` seeds the environment; a task that was drawn is drawn again, so that
      all that follows depends on the seed alone. One that was given stays.

    The last step of an episode says ``terminated`` where the decision process ended and
    ``truncated`` where the clock did, as the family tells them apart. The task is not in the
    observation and not in ``info``; `task` holds it.

    Args:
        family: What tasks are from.
        task: The task to play; None draws one from ``split``.
        split: One of the family's splits.
        seed: Used by the first reset that is given none; None takes one of the system's.

    Raises:
        ConfigError: If the family is not one to act in, or the split is unknown.
    """

    def __init__(
        self,
        family: TaskFamily,
        task: Any = None,
        *,
        split: str = "train",
        seed: int | None = None,
    ) -> None:
        family = as_task_family(family)
        family.check_split(split)
        family.check_installed()
        as_array_space(family.action_space, "family.action_space", "GymnasiumEnv")
        self.family, self.split = family, split
        self.observation_space = to_gymnasium(family.observation_space)
        self.action_space = to_gymnasium(family.action_space)
        # Vector environments write into it, so it must not be shared.
        self.metadata = {"render_modes": []}
        self.render_mode = None
        self._programs = _compile(family)
        self._seed, self._given = seed, task is not None
        self._task = _check_task(family, task) if self._given else None
        self._state: Any = None
        self._keys: Any = None

    @property
    def task(self) -> Any:
        """The task that is played; None before the first reset, if it is yet to be drawn."""
        return self._task

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; see the class for ``seed`` and ``options``.

        Raises:
            ConfigError: If ``options["task"]`` is neither "new" nor a task of the family.
        """
        if seed is None:
            seed, self._seed = self._seed, None
        super().reset(seed=seed)
        wanted = (options or {}).get("task")
        named = isinstance(wanted, str)
        require(not named or wanted == _NEW, "task", wanted, f'"{_NEW}" or a task')
        if wanted is not None and not named:
            self._task, self._given = _check_task(self.family, wanted), True
        elif named or self._task is None or (seed is not None and not self._given):
            self._task, self._given = self._programs.sample(self._key(), self.split), False
        start, self._keys = jax.random.split(self._key())
        self._state, obs = self._programs.reset(start, self._task)
        return self._show(obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Plays one action; those out of bounds are clipped by the family.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset, and after an episode's end.
        """
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset to start an episode")
        space = self.family.action_space
        played = np.asarray(action, space.dtype).reshape(space.shape)
        self._state, self._keys, timestep = self._programs.step(
            self._keys, self._state, played, self._task
        )
        obs, reward, terminated, truncated = jax.device_get(timestep)
        if terminated or truncated:
            self._state = None
        return self._show(obs), float(reward), bool(terminated), bool(truncated), {}

    def _key(self) -> Array:
        return jax.random.key(int(self.np_random.integers(2**31)))

    def _show(self, obs: Any) -> Any:
        return _shown(self.family.observation_space, obs)


def _shown(space: Space, obs: Any) -> Any:
    """Returns an observation as Gymnasium's space has it."""
    if isinstance(space, Discrete):
        return int(obs)
    if isinstance(space, Dict):
        return {name: _shown(part, obs[name]) for name, part in space.named.items()}
    if isinstance(space, Tuple):
        return tuple(map(_shown, space.spaces, obs))
    assert isinstance(space, ArraySpace)
    return np.array(obs, space.dtype)


class _Programs(NamedTuple):
    sample: Any
    reset: Any
    step: Any


@functools.lru_cache(maxsize=32)
def _compile(family: TaskFamily) -> _Programs:
    """Compiles a family's functions, once for all its environments."""

    def step(key: Array, state: Any, action: Array, task: Any) -> tuple:
        now, later = jax.random.split(key)
        state, timestep = family.step(now, state, action, task)
        return state, later, timestep

    sample = jax.jit(family.sample_task, static_argnums=1)
    return _Programs(sample, jax.jit(family.reset), jax.jit(step))


def _check_task(family: TaskFamily, task: Any) -> Any:
    """Returns a task with leaves of the right types; refuses what is none of the family."""
    like = jax.eval_shape(family.sample_task, jax.random.key(0))
    if jax.tree.structure(task) != jax.tree.structure(like):
        raise ConfigError(f"task is {task!r}; it must be like one of {family!r}'s sample_task")
    cast = jax.tree.map(lambda x, y: np.asarray(x, y.dtype), task, like)
    for given, wanted in zip(jax.tree.leaves(cast), jax.tree.leaves(like), strict=True):
        shapes = f"of shape {given.shape}"
        require(given.shape == wanted.shape, "task", shapes, f"of shape {wanted.shape}")
    return cast
