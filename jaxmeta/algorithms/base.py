"""The contract of a meta-learning algorithm."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, Protocol

from jax import Array

from jaxmeta_envs.base import AdaptivePolicy, TaskFamily

Metrics = Mapping[str, Array]


class AlgorithmState(Protocol):
    """A pytree with what the next update needs; ``params`` is what the policy reads."""

    @property
    def params(self) -> Any: ...


class Algorithm(abc.ABC):
    """An algorithm is a frozen dataclass: fields are hyperparameters, methods are pure.

    `update` samples its own tasks through `jaxmeta.parallel.task_keys` and averages over
    tasks through `jaxmeta.parallel`; it needs to know nothing else of devices.

    Attributes:
        num_tasks: Tasks per update, over all devices.
    """

    num_tasks: int

    @abc.abstractmethod
    def init(self, family: TaskFamily, key: Array) -> Any:
        """Returns the first state (see `AlgorithmState`)."""

    @abc.abstractmethod
    def update(self, family: TaskFamily, state: Any, key: Array) -> tuple[Any, Metrics]:
        """Runs one meta-iteration.

        Returns:
            The next state, of the same structure, shapes and dtypes, and a flat dict of
            float32 scalars with fixed keys, ``"return"`` (mean total reward of a trial)
            among them.
        """

    @abc.abstractmethod
    def policy(self, family: TaskFamily) -> AdaptivePolicy:
        """Returns how the learned policy acts and adapts, given ``state.params``."""

    @abc.abstractmethod
    def check(self, family: TaskFamily) -> None:
        """Raises `ConfigError` if this algorithm cannot train on ``family``."""

    @abc.abstractmethod
    def env_steps_per_update(self, family: TaskFamily) -> int:
        """Environment steps that one update plays, over all tasks."""

    @abc.abstractmethod
    def trial_episodes(self, family: TaskFamily) -> int:
        """Episodes that a task is met for during training."""

    @property
    def task_multiple(self) -> int:
        """The tasks on each device must be a multiple of this number."""
        return 1

    def memory_bytes(self, family: TaskFamily, num_tasks: int) -> int:
        """Estimates the bytes of one update on a device, per seed; 0 if unknown.

        Args:
            family: The task family.
            num_tasks: The device's share of the tasks. The state it holds whole.
        """
        del family, num_tasks
        return 0
