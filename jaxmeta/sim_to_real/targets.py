"""The system that a source distribution is adapted to: simulated, or real and on the host.

A target is named by text, so that it can be written to files and given on the command line:

- ``heavy`` (any split of the family): a task drawn from there, hidden from the learner;
- ``task:pole_mass=0.3,force=8``: this task, unnamed parameters at their standard values;
- ``gymnasium:CartPole-v1``: a Gymnasium environment, stepped on the host, of whose
  parameters nothing is read.
"""

from __future__ import annotations

import abc
import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta.experience.play import play_trial
from jaxmeta.experience.transitions import Transitions
from jaxmeta.streams import Stream, stream_key
from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, TaskFamily
from jaxmeta_envs.core.errors import ConfigError, closest, require
from jaxmeta_envs.core.extras import import_extra
from jaxmeta_envs.core.physical import PhysicalFamily
from jaxmeta_envs.core.spaces import Discrete, as_array_space
from jaxmeta_envs.interop.gymnasium_spaces import is_like

_TASK, _GYMNASIUM = "task:", "gymnasium:"


class Watched(NamedTuple):
    """What was seen of a target.

    Attributes:
        transitions: Leaves ``[E, T, ...]``.
        returns: Undiscounted return of each episode, ``[E]``.
    """

    transitions: Transitions
    returns: np.ndarray


class Target(abc.ABC):
    """A system to collect episodes from.

    Attributes:
        truth: Its parameters, where it is one of our simulators; the learner never reads
            them, reports do.
        own_steps: After how many steps an episode of its own ends; None as the family's.
    """

    truth: Any = None
    own_steps: int | None = None

    @abc.abstractmethod
    def watch(self, policy: AdaptivePolicy, params: Any, key: Array, episodes: int) -> Watched:
        """Plays a policy there."""


def check_target(target: str, family: TaskFamily) -> None:
    """Raises `ConfigError` unless ``target`` names something that ``family`` can be adapted to.

    Whether a Gymnasium environment exists and fits is seen when it is made, see `make_target`.
    """
    name = type(family).__name__
    physical = isinstance(family, PhysicalFamily)
    require(physical, "tasks", name, "a family of physical parameters where target is given")
    if target.startswith(_GYMNASIUM):
        require(len(target) > len(_GYMNASIUM), "target", target, "gymnasium:ENVIRONMENT")
    elif target.startswith(_TASK):
        _read_task(target, family)  # pyright: ignore[reportArgumentType]
    else:
        kinds = f"a split ({', '.join(family.splits)}), task:NAME=VALUE,… or gymnasium:ENVIRONMENT"
        require(target in family.splits, "target", target, kinds + closest(target, family.splits))


def make_target(target: str, family: PhysicalFamily, seed: int) -> Target:
    """Returns the target of one training seed; each has a hidden draw of its own.

    Raises:
        ConfigError: If a Gymnasium environment does not exist or has other spaces.
    """
    if target.startswith(_GYMNASIUM):
        return GymnasiumTarget(target.removeprefix(_GYMNASIUM), family)
    if target.startswith(_TASK):
        return SimulatedTarget(family, _read_task(target, family))
    hidden = family.sample_task(stream_key(seed, Stream.TARGET), target)
    return SimulatedTarget(family, hidden)


class SimulatedTarget(Target):
    """One task of the family itself."""

    def __init__(self, family: PhysicalFamily, task: Any) -> None:
        self.truth, self._family = task, family

    def watch(self, policy: AdaptivePolicy, params: Any, key: Array, episodes: int) -> Watched:
        play = _simulation(self._family, policy.act, policy.begin, episodes)
        transitions, returns = play(params, self.truth, key)
        return Watched(transitions, np.asarray(returns))


class GymnasiumTarget(Target):
    """A Gymnasium environment on the host.

    Args:
        name: Its registered id.
        family: The simulators of it: spaces must agree, and no episode is watched for
            longer than the family's horizon.
    """

    def __init__(self, name: str, family: PhysicalFamily) -> None:
        gymnasium = import_extra("gymnasium", "gymnasium", user="this target")
        module, colon, _ = name.partition(":")  # which Gymnasium would import for a file's sake
        known = not colon or module in sys.modules
        text = f"one whose module is imported: add --import {module}, in Python import {module}"
        require(known, "target", f"gymnasium:{name}", text)
        try:
            self._env = gymnasium.make(name)
        except gymnasium.error.Error as error:
            text = f"target is 'gymnasium:{name}', which cannot be made: {error}"
            raise ConfigError(text) from None
        self._family = family
        self._check_spaces(name)
        spec = self._env.spec
        self.own_steps = None if spec is None else spec.max_episode_steps

    def watch(self, policy: AdaptivePolicy, params: Any, key: Array, episodes: int) -> Watched:
        act = _stepper(policy.act)
        played, returns = [], []
        for episode in range(episodes):
            begin_key, key = jax.random.split(jax.random.fold_in(key, episode))
            rows, total = self._play(act, params, policy.begin(params, begin_key), key)
            played.append(rows)
            returns.append(total)
        return Watched(jax.tree.map(lambda *x: np.stack(x), *played), np.asarray(returns))

    def _play(
        self, act: Callable[..., Any], params: Any, carry: Any, key: Array
    ) -> tuple[Transitions, float]:
        """Plays one episode; rows beyond its end are masked."""
        space, rows = self._family.action_space, self._no_rows()
        reset_key, key = jax.random.split(key)
        obs, _ = self._env.reset(seed=int(jax.random.randint(reset_key, (), 0, 2**31 - 1)))
        # NumPy's values, as putting each on a device takes longer than playing the step.
        previous: Any = np.asarray(space.zero())
        reward, total = np.float32(0.0), 0.0
        for t in range(self._family.horizon):
            seen: list[Any] = [np.asarray(obs, np.float32), previous, reward, False, t == 0]
            action, carry = act(params, carry, PolicyInput(*seen), jax.random.fold_in(key, t))
            previous = np.asarray(space.clip(action))
            played = int(previous) if isinstance(space, Discrete) else previous
            next_obs, paid, terminated, truncated, _ = self._env.step(played)
            for column, value in zip(rows, (obs, previous, next_obs, True), strict=True):
                column[t] = value
            obs, reward, total = next_obs, np.float32(paid), total + float(paid)
            if terminated or truncated:
                break
        return rows, total

    def _no_rows(self) -> Any:
        length, family = self._family.horizon, self._family
        space = as_array_space(family.observation_space, "observation_space", "a target")
        obs = np.zeros((length, *space.shape), np.float32)
        action: Any = np.zeros((length, *family.action_space.shape), family.action_space.dtype)
        return Transitions(obs, action, obs.copy(), np.zeros(length, bool))  # pyright: ignore[reportArgumentType]

    def _check_spaces(self, name: str) -> None:
        for role in ("observation_space", "action_space"):
            theirs, ours = getattr(self._env, role), getattr(self._family, role)
            require(
                is_like(theirs, ours),
                "target",
                f"gymnasium:{name}",
                f"an environment whose {role} is like {type(self._family).__name__}'s, {ours}; "
                f"this one's is {theirs}",
            )


@functools.lru_cache(maxsize=8)
def _simulation(family: PhysicalFamily, act: Any, begin: Any, episodes: int) -> Any:
    """Compiles the collection of episodes, once per policy."""

    def play(params: Any, task: Any, key: Array) -> tuple[Transitions, Array]:
        def store_nothing(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple:
            return (*act(params, carry, inputs, key), ())

        def episode(key: Array) -> Any:
            begin_key, key = jax.random.split(key)
            carry = begin(params, begin_key)
            trial = play_trial(family, store_nothing, params, carry, task, key, 1)
            return jax.tree.map(lambda x: x[0], trial.trajectory)

        trajectory = jax.vmap(episode)(jax.random.split(key, episodes))
        return Transitions.from_trajectory(trajectory), jnp.sum(trajectory.reward, axis=1)

    return jax.jit(play)


@functools.lru_cache(maxsize=8)
def _stepper(act: Any) -> Any:
    return jax.jit(act)


def _read_task(target: str, family: PhysicalFamily) -> Any:
    """Reads ``task:NAME=VALUE,…``."""
    task, names = family.nominal_task(), family.parameter_names()
    changes = {}
    for part in target.removeprefix(_TASK).split(","):
        name, _, text = part.partition("=")
        name = name.strip()
        known = f"task: with {', '.join(names)}{closest(name, names)}"
        require(name in names, "target", target, known)
        try:
            changes[name] = float(text)
        except ValueError:
            raise ConfigError(f"target is {target!r}; {name} must be a number") from None
    low, high = (tree._asdict() for tree in family.limits())
    for name, value in changes.items():
        a, b = float(low[name]), float(high[name])
        require(a <= value <= b, f"target {name}", value, f"within the limits, {a:g} to {b:g}")
    return task._replace(**{name: jnp.float32(value) for name, value in changes.items()})
