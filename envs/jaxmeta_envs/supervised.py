"""The contract of a family of supervised tasks, and of a learner that adapts to them.

Axes: n examples, I inputs, O outputs.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmeta_envs import drawings
from jaxmeta_envs.base import Family, Task
from jaxmeta_envs.errors import require
from jaxmeta_envs.score import LOSS, Score


class Examples(NamedTuple):
    """Labelled examples of one task.

    Attributes:
        x: Inputs, ``[n, I]``.
        y: Labels, ``[n, O]``.
    """

    x: Array
    y: Array


class AdaptiveModel(NamedTuple):
    """How something predicts and adapts to a task; all are pure functions.

    Attributes:
        begin: ``params -> carry``, called once for a new task.
        predict: ``(params, carry, x [n, I]) -> y [n, O]``.
        adapt: ``(params, carry, support: Examples) -> carry``, one step of adaptation; every
            step sees the same examples.
        shots: Examples in ``support``.
    """

    begin: Callable[[Any], Any]
    predict: Callable[[Any, Any, Array], Array]
    adapt: Callable[[Any, Any, Examples], Any]
    shots: int


Predictor = Callable[[Any, Array], Array]
"""A reference: ``(task, x [n, I]) -> y [n, O]``; one that is not told the task ignores it."""


class SupervisedFamily(Family[Task], Generic[Task]):
    """A distribution over functions, each known by a few examples.

    Learners are trained on `loss`. They are judged by it, too, unless ``score`` names one of
    the `metrics`, such as the share of labels that are predicted.
    """

    score: ClassVar[Score] = LOSS
    experience_unit: ClassVar[str] = "examples"

    def check_score(self) -> None:
        super().check_score()
        by_loss = self.score.name == LOSS.name and not self.score.higher_is_better
        others = type(self).metrics is not SupervisedFamily.metrics
        text = 'the "loss", of which less is better, or one of the metrics, which the family lacks'
        require(by_loss or others, "score", self.score, text)

    @property
    @abc.abstractmethod
    def input_size(self) -> int:
        """I."""

    @property
    @abc.abstractmethod
    def output_size(self) -> int:
        """O."""

    @abc.abstractmethod
    def sample_examples(self, key: Array, task: Task, num: int) -> Examples:
        """Draws ``num`` labelled examples of a task."""

    @abc.abstractmethod
    def function(self, task: Task, x: Array) -> Array:
        """Returns the labels ``[n, O]`` of inputs ``[n, I]``, without noise."""

    def loss(self, prediction: Array, label: Array) -> Array:
        """Returns the mean squared error over examples and outputs, a scalar."""
        return jnp.mean((prediction - label) ** 2)

    def metrics(self, prediction: Array, label: Array) -> Mapping[str, Array]:
        """Returns what is reported beside the loss, float32 scalars by name."""
        del prediction, label
        return {}

    def measure(self, prediction: Array, label: Array) -> Array:
        """Returns what ``score`` names: the loss, or one of the metrics.

        Raises:
            ConfigError: If it is none of them.
        """
        found = {LOSS.name: self.loss(prediction, label), **self.metrics(prediction, label)}
        require(self.score.name in found, "score", self.score, f"one of {', '.join(found)}")
        return found[self.score.name]

    def draw(self, axes: Any, x: Any, truth: Any, predicted: Any, examples: Examples) -> None:
        """Draws a task and what is predicted of it, along the first input and output.

        Args:
            axes: Of a matplotlib figure.
            x: Inputs in increasing order, ``[n, I]``; this and all else NumPy arrays.
            truth: Labels, ``[n, O]``.
            predicted: Likewise.
            examples: What was seen.
        """
        seen = examples.x[:, 0], examples.y[:, 0]
        drawings.fit(axes, x[:, 0], truth[:, 0], predicted[:, 0], seen)

    def references(self) -> Mapping[str, Predictor]:
        """Returns predictors to compare with; "oracle" is told the task."""
        return {"oracle": self.function}

    def reference_names(self) -> tuple[str, ...]:
        return tuple(self.references())
