"""The contracts of families of supervised tasks, and of a learner that adapts to them.

Axes: n examples, N classes (ways), K examples of a class (shots).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core import drawings
from jaxmeta_envs.core.contracts import Family, Task
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.score import ACCURACY, LOSS, Score
from jaxmeta_envs.core.spaces import ArraySpace, Discrete


class Examples(NamedTuple):
    """Labelled examples of one task.

    Attributes:
        x: Inputs, ``[n, ...]``, each an element of the input space.
        y: Labels, ``[n, ...]``, each an element of the label space.
    """

    x: Array
    y: Array


class AdaptiveModel(NamedTuple):
    """How something predicts and adapts to a task; all are pure functions.

    A prediction is a vector as long as the label space is flat (`Space.flat_size`): the label
    itself, or the logits of the classes.

    Attributes:
        begin: ``params -> carry``, called once for a new task.
        predict: ``(params, carry, x [n, ...]) -> predictions [n, flat_size]``.
        adapt: ``(params, carry, support: Examples) -> carry``, one step of adaptation; every
            step sees the same examples.
        shots: Shots in ``support``, see `SupervisedFamily.sample_split`.
    """

    begin: Callable[[Any], Any]
    predict: Callable[[Any, Any, Array], Array]
    adapt: Callable[[Any, Any, Examples], Any]
    shots: int


Predictor = Callable[[Any, Array], Array]
"""A reference: ``(task, x [n, ...]) -> predictions [n, flat_size]``; one that is not told the
task ignores it."""


class SupervisedFamily(Family[Task], Generic[Task]):
    """A distribution over tasks to predict in, each known by a few examples.

    `FunctionFamily` and `ClassificationFamily` are the two kinds.


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
    def input_space(self) -> ArraySpace: ...

    @property
    @abc.abstractmethod
    def label_space(self) -> ArraySpace: ...

    @property
    def examples_per_shot(self) -> int:
        """Examples that one shot of a task is."""
        return 1

    @abc.abstractmethod
    def sample_split(
        self, keys: Array, task: Task, shots: int, queries: int
    ) -> tuple[Examples, Examples]:
        """Draws examples to learn a task from, and others to be judged on.

        Args:
            keys: Two typed PRNG keys, ``[2]``: of the support and of the queries. The queries
                follow from the second alone: they are the same however many shots there are.
            task: The task.
            shots: How many times `examples_per_shot` examples the support has. Its first k
                ``examples_per_shot`` examples are k shots, too.
            queries: Likewise, of the queries.

        Returns:
            Support and queries.
        """

    @abc.abstractmethod
    def loss(self, prediction: Array, label: Array) -> Array:
        """Returns the mean loss of predictions ``[n, flat_size]``, a scalar."""

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

    @abc.abstractmethod
    def references(self) -> Mapping[str, Predictor]:
        """Returns predictors to compare with; "oracle" is told the task."""

    def reference_names(self) -> tuple[str, ...]:
        return tuple(self.references())


class FunctionFamily(SupervisedFamily[Task], Generic[Task]):
    """A distribution over functions, known by independent examples and their squared error."""

    @abc.abstractmethod
    def sample_examples(self, key: Array, task: Task, num: int) -> Examples:
        """Draws ``num`` labelled examples of a task."""

    @abc.abstractmethod
    def function(self, task: Task, x: Array) -> Array:
        """Returns the labels ``[n, flat_size]`` of inputs ``[n, ...]``, without noise."""

    def sample_split(
        self, keys: Array, task: Task, shots: int, queries: int
    ) -> tuple[Examples, Examples]:
        """Draws both independently, see `SupervisedFamily.sample_split`."""
        support_key, query_key = keys
        support = self.sample_examples(support_key, task, shots)
        return support, self.sample_examples(query_key, task, queries)

    def loss(self, prediction: Array, label: Array) -> Array:
        """Returns the mean squared error over examples and entries of labels, a scalar."""
        return jnp.mean((prediction - label.reshape(prediction.shape)) ** 2)

    def references(self) -> Mapping[str, Predictor]:
        return {"oracle": self.function}

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


class ClassificationFamily(SupervisedFamily[Task], Generic[Task]):
    """N classes to tell apart by K examples of each (N ways, K shots).

    A task is its classes in the order of their labels, leaves ``[N, ...]``. That order is drawn
    anew for every task, so that nothing is learned by knowing which class has which label.
    Predictions are logits ``[n, N]``. Learners are trained on the
    cross-entropy and judged by ``accuracy``, the share of queries that are told apart.

    Attributes:
        ways: N.
    """

    score: ClassVar[Score] = ACCURACY

    ways: int

    @abc.abstractmethod
    def sample_classes(self, key: Array, split: str) -> Task:
        """Draws N different classes of a split in any order, leaves ``[N, ...]``."""

    @abc.abstractmethod
    def sample_class_split(
        self, support_key: Array, query_key: Array, of: Any, shots: int, queries: int
    ) -> tuple[Array, Array]:
        """Draws examples of one class, none of them twice.

        Args:
            support_key: Decides the support, see `SupervisedFamily.sample_split`.
            query_key: Decides the queries, alone.
            of: The class, leaves ``[...]``.
            shots: K.
            queries: Q.

        Returns:
            Inputs of the support ``[K, ...]`` and of the queries ``[Q, ...]``.
        """

    @property
    def label_space(self) -> Discrete:
        return Discrete(self.ways)

    @property
    def examples_per_shot(self) -> int:
        """One of each class."""
        return self.ways

    def sample_task(self, key: Array, split: str = "train") -> Task:
        self.check_split(split)
        classes_key, order_key = jax.random.split(key)
        order = jax.random.permutation(order_key, self.ways)
        return jax.tree.map(lambda x: x[order], self.sample_classes(classes_key, split))

    def sample_split(
        self, keys: Array, task: Task, shots: int, queries: int
    ) -> tuple[Examples, Examples]:
        """Draws ``shots`` and ``queries`` of each class, see `SupervisedFamily.sample_split`."""
        support_keys, query_keys = (jax.random.split(key, self.ways) for key in keys)

        def draw(support_key: Array, query_key: Array, of: Any) -> tuple[Array, Array]:
            return self.sample_class_split(support_key, query_key, of, shots, queries)

        def labelled(x: Array) -> Examples:  # [N, K, ...], one shot after the other
            label = jnp.tile(jnp.arange(self.ways, dtype=jnp.int32), x.shape[1])
            return Examples(jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), label)

        support, query = jax.vmap(draw)(support_keys, query_keys, task)
        return labelled(support), labelled(query)

    def loss(self, prediction: Array, label: Array) -> Array:
        """Returns the mean cross-entropy of logits ``[n, N]`` in nats, a scalar."""
        log_probs = jax.nn.log_softmax(prediction)
        return -jnp.mean(jnp.take_along_axis(log_probs, label[:, None], axis=1))

    def metrics(self, prediction: Array, label: Array) -> Mapping[str, Array]:
        """Returns ``accuracy``, the share of labels that have the largest logit."""
        hit = jnp.argmax(prediction, axis=1) == label
        return {"accuracy": jnp.mean(hit, dtype=jnp.float32)}

    def references(self) -> Mapping[str, Predictor]:
        """Returns "chance", to which all classes are alike."""
        return {"chance": lambda task, x: jnp.zeros((x.shape[0], self.ways), jnp.float32)}
