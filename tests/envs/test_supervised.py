"""Families of supervised tasks: what both kinds promise, and that broken ones are found out."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from jaxmeta.testing import ConformanceError, ToyClusters, ToyRegression, check_supervised_family
from jaxmeta_envs.core.spaces import Box
from jaxmeta_envs.core.supervised import ClassificationFamily, Examples


class Kinds(NamedTuple):
    """Indices of classes, ``[N]``."""

    index: Array


@dataclass(frozen=True)
class Pictures(ClassificationFamily[Kinds]):
    """Twenty classes of nine pictures each: a picture tells its class and its number."""

    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    ways: int = 4

    @property
    def input_space(self):
        return Box(0.0, 20.0, (2, 3))

    def sample_classes(self, key, split):
        first = 10 if split == "test" else 0
        # In increasing order: that labels are dealt anew is for the base class to see to.
        return Kinds(first + jnp.sort(jax.random.permutation(key, 10)[: self.ways]))

    def sample_class_split(self, support_key, query_key, of, shots, queries):
        order = jax.random.permutation(query_key, 9)
        rest = jax.random.permutation(support_key, order[queries:])
        picture = jnp.broadcast_to(jnp.arange(9.0)[:, None, None], (9, 2, 3))
        picture = picture.at[:, 0, 0].set(of.index.astype(jnp.float32))
        return picture[rest[:shots]], picture[order[:queries]]


def split_of(family, shots=3, queries=5, seed=0, tasks=1):
    def one(key):
        task_key, key = jax.random.split(key)
        task = family.sample_task(task_key)
        return task, *family.sample_split(jax.random.split(key), task, shots, queries)

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(seed), tasks))


@pytest.mark.parametrize("family", [ToyClusters(), ToyClusters(ways=5, size=1), ToyRegression()])
def test_toys_conform(family):
    check_supervised_family(family)


def test_pictures_that_are_few_are_split_without_overlap():
    task, support, query = split_of(Pictures(), shots=4, queries=5, tasks=50)
    assert support.x.shape == (50, 16, 2, 3)
    assert query.x.shape == (50, 20, 2, 3)
    for row in range(50):
        seen = {(x[0, 0], x[1, 1]) for x in np.asarray(support.x[row])}
        asked = {(x[0, 0], x[1, 1]) for x in np.asarray(query.x[row])}
        assert len(seen) == 16
        assert len(asked) == 20
        assert not seen & asked
    for examples in (support, query):
        told = jnp.take_along_axis(task.index, examples.y, axis=1)
        np.testing.assert_array_equal(told, examples.x[:, :, 0, 0])


def test_every_shot_has_one_example_of_each_class():
    """So any number of shots in front is balanced, as inner loops that part them need."""
    _, support, query = split_of(ToyClusters(ways=4))
    np.testing.assert_array_equal(support.y[0].reshape(3, 4), [[0, 1, 2, 3]] * 3)
    np.testing.assert_array_equal(query.y[0].reshape(5, 4), [[0, 1, 2, 3]] * 5)


def test_a_class_has_every_label_as_often():
    """A chi-square test: the family gives its classes in increasing order."""
    tasks = 3000
    index = np.asarray(split_of(Pictures(), tasks=tasks)[0].index)
    counts = np.array([np.bincount(label, minlength=10) for label in index.T]).T
    expected = counts.sum(axis=1, keepdims=True) / 4
    statistic = np.sum((counts - expected) ** 2 / expected)
    assert statistic < 30 + 4 * np.sqrt(2 * 30)  # 30 degrees of freedom


def test_the_splits_of_pictures_share_no_class():
    draw = jax.vmap(lambda key, split: Pictures().sample_task(key, split), (0, None))
    keys = jax.random.split(jax.random.key(0), 50)
    assert draw(keys, "train").index.max() < 10 <= draw(keys, "test").index.min()


def test_cross_entropy_and_accuracy_are_those_of_numpy():
    family, rng = ToyClusters(ways=5), np.random.default_rng(0)
    logits, label = rng.normal(size=(40, 5)), rng.integers(5, size=40)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    given = jnp.asarray(logits, jnp.float32), jnp.asarray(label, jnp.int32)
    cross_entropy = -log_probs[np.arange(40), label].mean()
    assert family.loss(*given) == pytest.approx(cross_entropy, rel=1e-6)
    accuracy = family.metrics(*given)["accuracy"]
    assert accuracy == pytest.approx(np.mean(logits.argmax(axis=1) == label))


def test_an_oracle_of_clusters_is_right_as_often_as_bayes_rule():
    """Two clusters at distance D are told apart with probability Φ(D / 2)."""
    family = ToyClusters(ways=2, size=3, spread=1.0)
    task, _, query = split_of(family, shots=1, queries=200, tasks=400)
    said = np.asarray(jax.vmap(family.references()["oracle"])(task, query.x))
    hits = np.mean(said.argmax(axis=2) == np.asarray(query.y), axis=1)
    apart = np.linalg.norm(np.asarray(task.centre[:, 0] - task.centre[:, 1], np.float64), axis=1)
    rate = np.array([NormalDist().cdf(d / 2) for d in apart])
    assert hits.mean() == pytest.approx(rate.mean(), abs=4 * np.std(hits - rate) / 20)


@dataclass(frozen=True)
class Repeats(ToyClusters):
    """Queries that the support has, too."""

    def sample_class_split(self, support_key, query_key, of, shots, queries):
        keys = support_key, query_key
        support, query = super().sample_class_split(*keys, of, shots, queries)
        return jnp.concatenate([query[:1], support[1:]]), query


@dataclass(frozen=True)
class Unbalanced(ToyClusters):
    """One class has all the examples."""

    def sample_split(self, keys, task, shots, queries):
        support, query = super().sample_split(keys, task, shots, queries)
        return Examples(support.x, jnp.zeros_like(support.y)), query


@dataclass(frozen=True)
class Together(ToyClusters):
    """Queries that change with the number of shots."""

    def sample_class_split(self, support_key, query_key, of, shots, queries):
        x = super().sample_class_split(support_key, query_key, of, 1, shots + queries)[1]
        return x[:shots], x[shots:]


@pytest.mark.parametrize(
    ("family", "saying"),
    [
        (Repeats(), r"\[support and queries\] an example is drawn twice"),
        (Unbalanced(), r"\[labels\] the support have"),
        (Together(), r"\[support and queries\] with fewer shots the queries are others"),
    ],
)
def test_a_broken_split_is_found_out(family, saying):
    with pytest.raises(ConformanceError, match=saying):
        check_supervised_family(family)
