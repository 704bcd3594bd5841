"""Systems of classical control whose physical parameters differ from task to task.

The equations of each system are plain functions in a file of its own, such as
``cartpole_physics.py``, put together to a `System`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.contracts import Task, TimedFamily, Timestep
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields, check_least
from jaxmeta_envs.core.physical import PhysicalFamily
from jaxmeta_envs.random.distributions import Uniform


class System(NamedTuple):
    """The equations of one system, pure functions; a body is its state without a clock.

    Attributes:
        start: ``key -> body``: draws where an episode begins.
        advance: ``(body, action, task) -> body``, after one action within its bounds.
        observe: ``body -> obs``.
        body_of: ``obs -> body``: the one that is observed so.
        outcome: ``(before, action, after) -> (reward, terminated)``: what a step pays, a
            float32 scalar, and whether it ends the episode.
    """

    start: Callable[[Array], Any]
    advance: Callable[[Any, Array, Any], Any]
    observe: Callable[[Any], Array]
    body_of: Callable[[Array], Any]
    outcome: Callable[[Any, Array, Any], tuple[Array, Array]]


class ClassicState(NamedTuple):
    """Where an episode stands.

    Attributes:
        body: Where the system is and how it moves, a named tuple of float32 scalars.
        time: Steps played, int32 scalar.
    """

    body: Any
    time: Array


@dataclass(frozen=True)
class ClassicControl(PhysicalFamily[Task, ClassicState], TimedFamily[Task, ClassicState]):
    """What families of systems of classical control share.

    A subclass has a field ``(low, high)`` for every field of its task, of the same name. The
    parameters are positive, independent of each other and uniform.

    Splits:
        train, test: The given ranges.
        wide: Ranges that begin at half their lower end and go to twice their upper end.
        heavy: The masses lie between once and twice the upper end of their ranges.
        light: The masses lie between half and once the lower end of their ranges.

    Attributes:
        system: The equations.
        standard: The parameters of the original environment, as a task of Python numbers.
        grows_with_mass: Names of the parameters that a heavier system has more of.
        falls_with_mass: Names of those that it has less of, such as the acceleration that a
            given engine can produce; "heavy" takes them from below their range, "light"
            from above.
        episode_length: Longest episode, in steps.
        num_episodes: Episodes per trial.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "wide", "heavy", "light")
    system: ClassVar[System]
    standard: ClassVar[Any]
    grows_with_mass: ClassVar[tuple[str, ...]] = ()
    falls_with_mass: ClassVar[tuple[str, ...]] = ()

    episode_length: int = 200
    num_episodes: int = 2

    def __post_init__(self) -> None:
        check_fields(self)
        check_least(self, episode_length=1, num_episodes=1)
        for name, value in self._ranges().items():
            pair = isinstance(value, tuple) and len(value) == 2
            numbers = pair and all(isinstance(end, int | float) for end in value)
            require(
                numbers and 0 < value[0] < value[1] < math.inf,
                f"{type(self).__name__}.{name}",
                value,
                "two finite numbers above 0, the lower one first",
            )

    def distribution(self, split: str = "train") -> Uniform[Task]:
        """Returns the distribution of the tasks of ``split``, a pytree of float32 scalars."""
        self.check_split(split)
        ranges = self._ranges()
        above = {name: (high, 2 * high) for name, (_, high) in ranges.items()}
        below = {name: (low / 2, low) for name, (low, _) in ranges.items()}
        if split == "wide":
            ranges = {name: (below[name][0], above[name][1]) for name in ranges}
        elif split in ("heavy", "light"):
            more, less = (above, below) if split == "heavy" else (below, above)
            ranges |= {name: more[name] for name in self.grows_with_mass}
            ranges |= {name: less[name] for name in self.falls_with_mass}
        task = type(self.standard)
        low, high = (task(*(ends[end] for ends in ranges.values())) for end in (0, 1))
        return jax.tree.map(jnp.float32, Uniform(low, high))

    def nominal_task(self) -> Task:
        return jax.tree.map(jnp.float32, self.standard)

    def limits(self) -> Uniform[Task]:
        """Returns the ranges of "wide"."""
        return self.distribution("wide")

    def reset(self, key: Array, task: Task) -> tuple[ClassicState, Array]:
        del task
        body = self.system.start(key)
        return ClassicState(body, jnp.zeros((), jnp.int32)), self.system.observe(body)

    def step(
        self, key: Array, state: ClassicState, action: Array, task: Task
    ) -> tuple[ClassicState, Timestep]:
        del key
        action = self.action_space.clip(action)
        body, time = self.system.advance(state.body, action, task), state.time + 1
        reward, terminated = self.system.outcome(state.body, action, body)
        truncated = (time >= self.horizon) & ~terminated
        timestep = Timestep(self.system.observe(body), reward, terminated, truncated)
        return ClassicState(body, time), timestep

    def predict(self, obs: Array, action: Array, task: Task) -> Array:
        """Returns the observation that follows ``obs`` after ``action``, without noise.

        What ends an episode plays no part. It can be differentiated.
        """
        action = self.action_space.clip(action)
        return self.system.observe(self.system.advance(self.system.body_of(obs), action, task))

    def _ranges(self) -> dict[str, tuple[float, float]]:
        """Returns lowest and highest value by the name of the parameter."""
        return {name: getattr(self, name) for name in type(self.standard)._fields}
