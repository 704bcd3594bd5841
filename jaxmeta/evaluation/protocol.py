"""How a learner that adapts is measured on a family, whether it acts in tasks or predicts.

Axes: B tasks, X points of a curve.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from jax import Array

from jaxmeta.runtime.arguments import check_integer
from jaxmeta_envs.core.errors import require

if TYPE_CHECKING:
    from jaxmeta.evaluation.programs import Exported
    from jaxmeta.evaluation.scenes import Scene


class PlayedReference(NamedTuple):
    """A reference, ready to be measured beside a learner.

    Attributes:
        protocol: How it is measured.
        params: What it reads.
        told_task: Whether it receives ``(params, task)`` in place of ``params``.
    """

    protocol: Protocol
    params: Any
    told_task: bool


@dataclass(frozen=True)
class Protocol(abc.ABC):
    """A learner, the tasks it meets, and what is measured while it adapts to one.

    There are two: of policies that act, and of models that predict.
    `jaxmeta.evaluation.protocols.protocol_of` chooses; nothing else asks of which kind a family is.

    Attributes:
        family: The family of tasks.
        policy: How the learner adapts: an `AdaptivePolicy` or an `AdaptiveModel`.
        experience: Episodes in the task before each point of the curve, increasing, ``[X]``; of
            a model, steps of adaptation.
        episodes: N, episodes that a point is the mean of: they all begin with what was learned
            until then. At least `together`.
        deterministic: Whether they are played with the mode of the action's distribution
            instead of samples of it. A policy whose ``adapt`` learns from whole episodes
            goes on sampling those that it learns from, and they are not measured.
        acts: Whether episodes are played; else labels of examples are predicted.
    """

    family: Any
    policy: Any
    experience: tuple[int, ...] = (0,)
    episodes: int = 1
    deterministic: bool = False

    acts: ClassVar[bool]

    @property
    @abc.abstractmethod
    def together(self) -> int:
        """Experience between two rows of the learner's own curve."""

    @property
    @abc.abstractmethod
    def row_steps(self) -> int:
        """Steps of the family, at most, or predictions, that a row of the own curve takes."""

    @property
    @abc.abstractmethod
    def seen(self) -> int:
        """What a step of adaptation sees: episodes, or examples."""

    @property
    @abc.abstractmethod
    def shots(self) -> int | None:
        """Examples that a step of adaptation sees; None of one that sees episodes."""

    @property
    @abc.abstractmethod
    def adapts_by_steps(self) -> bool:
        """Whether what a step of adaptation sees can be chosen at test time."""

    @property
    @abc.abstractmethod
    def headline(self) -> str:
        """What sums up a curve: ``"total"``, the sum of its rows, or ``"final"``, the last one.

        An agent that adapts after every episode earns all of them; for one that adapts by
        steps to several episodes or to examples, only what it ends with counts.
        """

    @abc.abstractmethod
    def rows_of(self, trial_episodes: int) -> int:
        """Returns the rows of a curve as long as a trial in training (`trial_episodes`)."""

    @abc.abstractmethod
    def seeing(self, shots: int) -> Self:
        """Returns the same learner with steps of adaptation that see so much."""

    @abc.abstractmethod
    def check(self, deterministic: bool, episodes: int | None, name: str) -> None:
        """Raises `ConfigError` if the learner, of this name, cannot be measured in this way."""

    @abc.abstractmethod
    def play(self, given: Any, task: Any, key: Array) -> Array:
        """Lets the learner adapt to a task; returns its score at every point, ``[X]``.

        Args:
            given: What the policy reads.
            task: The task.
            key: Typed PRNG key.
        """

    @abc.abstractmethod
    def optimum(self, split: str) -> np.ndarray | None:
        """Returns the best expected score at every point, float64 ``[X]``; None if unknown."""

    @abc.abstractmethod
    def references(self, split: str) -> Mapping[str, PlayedReference]:
        """Returns what the family is compared with, by the names that are shown.

        They have as many points as the learner, or one if they do not adapt.
        """

    @abc.abstractmethod
    def scene(self, params: Any, key: Array, split: str, num_tasks: int) -> Scene:
        """Returns pictures of the first tasks of an evaluation, a row per point."""

    @abc.abstractmethod
    def programs(self, params: Any) -> Exported:
        """Returns the learner's functions as programs of flat arrays, to be exported."""

    def with_rows(self, rows: int) -> Self:
        """Returns the protocol with a point after 0 to K - 1 of the learner's steps."""
        return replace(self, experience=tuple(self.together * k for k in range(rows)))

    def asked(
        self,
        name: str,
        *,
        rows: int | None = None,
        shots: int | None = None,
        episodes: int | None = None,
        deterministic: bool = False,
    ) -> Self:
        """Returns the protocol with what is asked for; None is as it was.

        Args:
            name: What messages call the learner.
            rows: K, points: after 0 to K - 1 steps of adaptation.
            shots: What a step of adaptation sees.
            episodes: N, of which a point is the mean; None: as many as a step sees.
            deterministic: Whether actions are the mode of their distribution.

        Raises:
            ConfigError: If the learner cannot be measured so.
        """
        protocol = self
        if shots is not None:
            check_integer("shots", shots, least=1)
            text = f"None, as {name} takes no gradient steps at test time"
            require(self.adapts_by_steps, "shots", shots, text)
            protocol = self.seeing(shots)
        protocol.check(deterministic, episodes, name)
        number = protocol.together if episodes is None else episodes
        protocol = replace(protocol, episodes=number, deterministic=deterministic)
        return protocol.with_rows(len(self.experience) if rows is None else rows)

    def headline_of(self, curves: np.ndarray) -> np.ndarray:
        """Returns the one number that stands for a curve ``[..., X]``, see `headline`."""
        return curves.sum(axis=-1) if self.headline == "total" else curves[..., -1]


def is_shift(split: str) -> bool:
    """Returns whether a split has another distribution than training."""
    return split not in ("train", "test")
