"""The contract of a meta-learning algorithm."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, Protocol

from jax import Array

from jaxmeta.transitions import Transitions
from jaxmeta_envs.base import Family, TaskFamily
from jaxmeta_envs.errors import ConfigError, require
from jaxmeta_envs.spaces import Space, as_array_space

Metrics = Mapping[str, Array]


class AlgorithmState(Protocol):
    """A pytree with what the next update needs; ``params`` is what the policy reads."""

    @property
    def params(self) -> Any: ...


class Algorithm(abc.ABC):
    """An algorithm is a frozen dataclass: fields are hyperparameters, methods are pure.

    `check` says of any family whether it can be trained on; the other methods are called with
    families that passed.

    `update` samples its own tasks through `jaxmeta.parallel.task_keys` and averages over
    tasks through `jaxmeta.parallel`; it needs to know nothing else of devices.

    Attributes:
        num_tasks: Tasks per update, over all devices.
    """

    num_tasks: int

    @abc.abstractmethod
    def init(self, family: Any, key: Array) -> Any:
        """Returns the first state (see `AlgorithmState`)."""

    @abc.abstractmethod
    def update(self, family: Any, state: Any, key: Array) -> tuple[Any, Metrics]:
        """Runs one meta-iteration.

        Returns:
            The next state, of the same structure, shapes and dtypes, and a flat dict of
            float32 scalars with fixed keys, the family's ``score`` among them: ``"return"``,
            the mean total reward of a trial (of an episode after adaptation, for a learner
            that adapts to several at a time), or ``"loss"``.
        """

    @abc.abstractmethod
    def policy(self, family: Any) -> Any:
        """Returns how the learner acts and adapts, given ``state.params``.

        An `AdaptivePolicy`, or for supervised families an `AdaptiveModel`.
        """

    @abc.abstractmethod
    def check(self, family: Family) -> None:
        """Raises `ConfigError` if this algorithm cannot train on ``family``."""

    @abc.abstractmethod
    def env_steps_per_update(self, family: Any) -> int:
        """Environment steps that one update plays, over all tasks."""

    @abc.abstractmethod
    def trial_episodes(self, family: Any) -> int:
        """Episodes that a task is met for during training."""

    @property
    def round_updates(self) -> int | None:
        """Updates between two meetings with a run's target; None if it has no use for one."""
        return None

    @property
    def target_episodes(self) -> int:
        """Episodes that are played on the target at each meeting."""
        return 0

    def check_target(self, family: Any) -> None:
        """Raises `ConfigError` if it cannot be trained on ``family`` to meet a target."""
        del family
        if self.round_updates is None:
            raise ConfigError(f"target must be None: {type(self).__name__} cannot adapt to one")

    def meet(
        self, family: Any, state: Any, transitions: Transitions, key: Array
    ) -> tuple[Any, Metrics]:
        """Learns from what a target did; called between chunks if the run has a target.

        Args:
            family: The task family.
            state: The state of one seed.
            transitions: Played by the policy as it is now, leaves ``[E, T, ...]``.
            key: Typed PRNG key.

        Returns:
            The next state, of the same structure, shapes and dtypes, and scalars to report.
        """
        raise NotImplementedError(f"{type(self).__name__} has no use for a target")

    @property
    def task_multiple(self) -> int:
        """The tasks on each device must be a multiple of this number."""
        return 1

    def memory_bytes(self, family: Any, num_tasks: int) -> int:
        """Estimates the bytes of one update on a device, per seed; 0 if unknown.

        Args:
            family: The task family.
            num_tasks: The device's share of the tasks. The state it holds whole.
        """
        del family, num_tasks
        return 0


def check_acts(algorithm: Algorithm, family: Family) -> TaskFamily:
    """Returns the family as one to act in, for at least a step.

    Raises:
        ConfigError: If there is nothing to do in it, or what there is is no array.
    """
    if not isinstance(family, TaskFamily):
        name = type(algorithm).__name__
        raise ConfigError(
            f"tasks is {family!r}, a SupervisedFamily; {name} is for a TaskFamily, to act in"
        )
    as_array_space(family.action_space, "tasks.action_space", type(algorithm).__name__)
    require(
        isinstance(family.observation_space, Space),
        "tasks.observation_space",
        family.observation_space,
        "a Space",
    )
    require(family.horizon >= 1, "horizon", family.horizon, "at least 1")
    return family
