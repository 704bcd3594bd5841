"""The contract of a meta-learning algorithm."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

from jax import Array

from jaxmeta.experience.transitions import Transitions
from jaxmeta.placement import WHOLE
from jaxmeta_envs.core.contracts import Family, TaskFamily
from jaxmeta_envs.core.errors import ConfigError, require
from jaxmeta_envs.core.spaces import Space, as_array_space

Metrics = Mapping[str, Array]
FamilyT = TypeVar("FamilyT", bound=Family)
StateT = TypeVar("StateT")


class AlgorithmState(Protocol):
    """A pytree with what the next update needs; ``params`` is what the policy reads."""

    @property
    def params(self) -> Any: ...


class Algorithm(abc.ABC, Generic[FamilyT, StateT]):
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
    def init(self, family: FamilyT, key: Array) -> StateT:
        """Returns the first state (see `AlgorithmState`), with the rows of all tasks."""

    @abc.abstractmethod
    def update(
        self, family: FamilyT, state: StateT, key: Array, step: Array
    ) -> tuple[StateT, Metrics]:
        """Runs one meta-iteration.

        Args:
            family: The task family.
            state: The state of one seed. Of what `placement` spreads over tasks, a device that
                shares the tasks with others is given the rows of its own.
            key: Typed PRNG key of this update.
            step: Updates done, int32: 0 in the first update of a run. It is the same for all
                seeds and never batched, so that a ``lax.cond`` on it runs one of its branches.

        Returns:
            The next state, of the same structure, shapes and dtypes, and a flat dict of
            float32 scalars with fixed keys, the name of the family's ``score`` among them:
            ``"return"``, the mean total reward of a trial (of an episode after adaptation, for
            a learner that adapts to several at a time), ``"loss"``, or what else a supervised
            family is judged by.
        """

    @abc.abstractmethod
    def policy(self, family: FamilyT) -> Any:
        """Returns how the learner acts and adapts, given ``state.params``.

        An `AdaptivePolicy`, or for supervised families an `AdaptiveModel`.
        """

    @abc.abstractmethod
    def check(self, family: Family) -> None:
        """Raises `ConfigError` if this algorithm cannot train on ``family``."""

    @abc.abstractmethod
    def env_steps_per_update(self, family: FamilyT) -> int:
        """Environment steps that one update plays, over all tasks."""

    @abc.abstractmethod
    def trial_episodes(self, family: FamilyT) -> int:
        """Episodes that a task is met for during training."""

    def placement(self, family: FamilyT) -> Any:
        """Returns where the state lies: a pytree prefix of it, of `jaxmeta.placement.Placement`.

        By default every device holds all of it, and every checkpoint keeps it.
        """
        del family
        return WHOLE

    @property
    def bootstraps(self) -> bool:
        """Whether it learns otherwise from time limits, whose future counts, than from ends.

        That takes a value function. What checks an algorithm asks: `check_algorithm` and
        `check_learning` of `jaxmeta.testing`.
        """
        return True

    @property
    def keeps_tasks(self) -> bool:
        """Whether `init` draws the tasks, and `update` goes on in them where it stood.

        Otherwise every update draws tasks of its own and begins in them anew.
        """
        return False

    @property
    def task_multiple(self) -> int:
        """The tasks on each device must be a multiple of this number."""
        return 1

    def memory_bytes(self, family: FamilyT, num_tasks: int) -> int:
        """Estimates the bytes of one update on a device, per seed; 0 if unknown.

        Args:
            family: The task family.
            num_tasks: The device's share of the tasks. The state it holds whole.
        """
        del family, num_tasks
        return 0


class AdaptsToTarget(abc.ABC):
    """What an algorithm can do, too, that learns from meetings with one target system.

    A run with a ``target`` is for such algorithms only.

    Attributes:
        round_updates: Updates between two meetings.
        target_episodes: Episodes that are played on the target at each meeting.
    """

    round_updates: int
    target_episodes: int

    @abc.abstractmethod
    def check_target(self, family: Any) -> None:
        """Raises `ConfigError` if it cannot be trained on ``family`` to meet a target."""

    @abc.abstractmethod
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
