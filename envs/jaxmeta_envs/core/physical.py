"""The contract of a family whose tasks are vectors of physical parameters."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import jax
from jax import Array

from jaxmeta_envs.core.contracts import State, Task, TaskFamily
from jaxmeta_envs.random.distributions import Distribution, Uniform


class PhysicalFamily(TaskFamily[Task, State]):
    """Simulators of one system that differ in physical parameters.

    A task is a named tuple of float32 scalars. Beside sampling it, such a family shows the
    distribution itself, as a pytree, so that a learner can update it from data and a map
    can be drawn over it; and it predicts single transitions, so that parameters can be
    inferred from what a real system did.

    Attributes:
        units: Unit of each parameter that has one, for the axes of figures.
    """

    units: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @abc.abstractmethod
    def nominal_task(self) -> Task:
        """Returns the standard parameters: the one simulator that most people train on."""

    @abc.abstractmethod
    def distribution(self, split: str = "train") -> Distribution[Task]:
        """Returns the distribution of the tasks of ``split``.

        Raises:
            ConfigError: If ``split`` is unknown.
        """

    @abc.abstractmethod
    def limits(self) -> Uniform[Task]:
        """Returns the box in which simulation makes sense; it contains all splits."""

    @abc.abstractmethod
    def predict(self, obs: Array, action: Array, task: Task) -> Array:
        """Returns the observation that follows ``obs`` after ``action``, without noise.

        What ends an episode plays no part. Not necessarily differentiable.
        """

    def sample_task(self, key: Array, split: str = "train") -> Task:
        return self.distribution(split).sample(key)

    def parameter_names(self) -> tuple[str, ...]:
        """Returns the names of the physical parameters, in the order of the task's leaves."""
        task: Any = jax.eval_shape(self.nominal_task)
        return task._fields
