"""Families of one gymnax system whose physical parameters differ from task to task."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.base import Task
from jaxmeta_envs.errors import require
from jaxmeta_envs.gymnax_adapter import GymnaxState, GymnaxTasks
from jaxmeta_envs.physical import PhysicalFamily
from jaxmeta_envs.physics import Uniform


@dataclass(frozen=True)
class GymnaxPhysics(GymnaxTasks[Task], PhysicalFamily[Task, GymnaxState]):
    """What families of gymnax systems with random physics share.

    A subclass has a field ``(low, high)`` for every field of its task, of the same name. The
    parameters are positive, independent of each other and uniform.

    Splits:
        train, test: The given ranges.
        wide: Ranges that begin at half their lower end and go to twice their upper end.
        heavy: The masses lie between once and twice the upper end of their ranges.
        light: The masses lie between half and once the lower end of their ranges.

    Attributes:
        standard: The parameters of the original environment, as a task of Python numbers.
        grows_with_mass: Names of the parameters that a heavier system has more of.
        falls_with_mass: Names of those that it has less of, such as the acceleration that a
            given engine can produce; "heavy" takes them from below their range, "light"
            from above.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "wide", "heavy", "light")
    standard: ClassVar[Any]
    grows_with_mass: ClassVar[tuple[str, ...]] = ()
    falls_with_mass: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in self._ranges().items():
            pair = isinstance(value, tuple) and len(value) == 2
            numbers = pair and all(isinstance(end, int | float) for end in value)
            require(
                numbers and 0 < value[0] < value[1] < math.inf,
                f"{type(self).__name__}.{name}",
                value,
                "two finite numbers above 0, the lower one first",
            )

    @abc.abstractmethod
    def env_state(self, obs: Array) -> Mapping[str, Array]:
        """Returns the fields of gymnax's state that an observation shows, all but the time."""

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

    def predict(self, obs: Array, action: Array, task: Task) -> Array:
        """Returns the observation that follows ``obs`` after ``action``, without noise.

        What ends an episode plays no part. Of gymnax's systems the pendulum and the mountain
        car can be differentiated; for the others the derivative is 0, not that of the
        dynamics, because gymnax stops it.
        """
        env, key = self.environment(), jax.random.key(0)  # the dynamics draw nothing
        if env.supports_transition_gradients:
            env = env.with_transition_gradients()
        start = self.reset(key, task)[0].env.replace(**self.env_state(obs))
        action = self.action_space.clip(action)
        return self._observation(env.step_env(key, start, action, self.env_params(task))[0])

    def _ranges(self) -> dict[str, tuple[float, float]]:
        """Returns lowest and highest value by the name of the parameter."""
        return {name: getattr(self, name) for name in type(self.standard)._fields}
