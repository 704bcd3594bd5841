"""Checks of supervised task families, and of learners that adapt to them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta.testing.conformance import (
    check,
    expect,
    expect_same_shapes,
    expect_value_semantics,
    fast_jit,
    plain,
    run_checks,
    same,
    shapes,
)
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.core.spaces import Box, Discrete
from jaxmeta_envs.core.supervised import (
    ClassificationFamily,
    Examples,
    FunctionFamily,
    SupervisedFamily,
)

SHOTS, QUERIES = 8, 5
_TASKS = 16


class LineTask(NamedTuple):
    """A line through the origin; its slope is a float32 scalar."""

    slope: Array


@dataclass(frozen=True)
class ToyRegression(FunctionFamily[LineTask]):
    """Noisy lines through the origin."""

    @property
    def input_space(self) -> Box:
        return Box(-math.inf, math.inf, (1,))

    @property
    def label_space(self) -> Box:
        return Box(-math.inf, math.inf, (1,))

    def sample_task(self, key: Array, split: str = "train") -> LineTask:
        self.check_split(split)
        return LineTask(jax.random.normal(key))

    def sample_examples(self, key: Array, task: LineTask, num: int) -> Examples:
        input_key, noise_key = jax.random.split(key)
        x = jax.random.normal(input_key, (num, 1))
        return Examples(x, self.function(task, x) + 0.1 * jax.random.normal(noise_key, (num, 1)))

    def function(self, task: LineTask, x: Array) -> Array:
        return task.slope * x


class SupervisedProbe(NamedTuple):
    """A family under test.

    Attributes:
        family: The family.
        seed: Seed of all randomness.
    """

    family: SupervisedFamily
    seed: int = 0

    def key(self, name: str) -> Array:
        """Returns the key of a named stream."""
        return jax.random.fold_in(jax.random.key(self.seed), sum(name.encode()))

    def tasks(self, split: str = "train") -> Any:
        """Returns some tasks, stacked."""
        keys = jax.random.split(self.key("tasks"), _TASKS)
        return fast_jit(jax.vmap(lambda key: self.family.sample_task(key, split)))(keys)

    def keys(self, name: str) -> Array:
        """Returns keys of support and queries for each task, ``[B, 2]``."""
        return jax.random.split(self.key(name), (_TASKS, 2))

    def split(self, tasks: Any, keys: Array, shots: int = SHOTS) -> tuple[Examples, Examples]:
        """Returns support and queries of each task, leaves ``[B, n, ...]``."""
        return _drawing(self.family, shots)(keys, tasks)


@functools.lru_cache(maxsize=8)
def _drawing(family: SupervisedFamily, shots: int) -> Callable[..., tuple[Examples, Examples]]:
    """Compiles ``(keys [B, 2], tasks [B]) -> support and queries``, once for all checks."""
    draw = jax.vmap(lambda keys, task: family.sample_split(keys, task, shots, QUERIES))
    return fast_jit(draw)


def check_supervised_family(
    family: SupervisedFamily, *, seed: int = 0, skip: Collection[str] = ()
) -> None:
    """Runs every check of `SUPERVISED_CHECKS` on a family of supervised tasks.

    Args:
        family: The family.
        seed: Seed of the tasks and examples.
        skip: Names of checks to leave out.

    Raises:
        ConformanceError: With the name of the first check that fails, what it saw and what
            the contract demands.
    """
    run_checks(SUPERVISED_CHECKS, SupervisedProbe(family, seed), skip)


@check("family value", "a family is a frozen dataclass, hashable and equal by value")
def family_value(probe: SupervisedProbe) -> None:
    """Equal families must share one compilation."""
    expect(isinstance(probe.family, SupervisedFamily), "it is no SupervisedFamily")
    expect_value_semantics(probe.family)


@check(
    "splits",
    "train and test are splits; every split gives finite tasks of one structure, and an unknown "
    "one raises ConfigError",
)
def splits(probe: SupervisedProbe) -> None:
    """Every named split works."""
    family, first = probe.family, probe.tasks()
    expect({"train", "test"} <= set(family.splits), f"splits are {family.splits}")
    for split in family.splits:
        tasks = probe.tasks(split)
        expect_same_shapes(f"task of split {split!r}", first, tasks)
        finite = all(np.all(np.isfinite(plain(x))) for x in jax.tree.leaves(tasks))
        expect(finite, f"a task of split {split!r} is not finite")
    try:
        family.sample_task(probe.key("unknown"), "no such split")
    except ConfigError:
        return
    expect(False, "an unknown split is accepted")


@check(
    "examples",
    "the support has shots and the queries have queries times examples_per_shot elements of the "
    "input and the label space, finite; inputs vary, and references predict [n, flat_size]",
)
def examples(probe: SupervisedProbe) -> None:
    """Shapes, and that there is something to learn."""
    family, tasks = probe.family, probe.tasks()
    support, query = probe.split(tasks, probe.keys("examples"))
    expect_split(family, (support, query), (_TASKS,))
    finite = all(np.all(np.isfinite(plain(x))) for x in (*support, *query))
    expect(finite, "an example is not finite")
    inputs = plain(support.x)
    expect(np.any(inputs != inputs[:, :1]), "all inputs of a task are equal")
    for name, predict in family.references().items():
        found = shapes(fast_jit(jax.vmap(predict))(tasks, support.x))
        wanted = f"float32{[_TASKS, support.x.shape[1], family.label_space.flat_size]}"
        expect(found == wanted, f"the prediction of {name!r} is {found}, not {wanted}")


def expect_split(
    family: SupervisedFamily, split: tuple[Examples, Examples], lead: tuple[int, ...] = ()
) -> None:
    """Raises unless ``SHOTS`` of a support and ``QUERIES`` have their shapes and dtypes."""
    spaces = family.input_space, family.label_space
    for side, found, count in zip(("support", "queries"), split, (SHOTS, QUERIES), strict=True):
        number = count * family.examples_per_shot
        for role, array, space in zip(("inputs", "labels"), found, spaces, strict=True):
            wanted = f"{space.dtype}{[*lead, number, *space.shape]}"
            given = shapes(array)
            expect(given == wanted, f"{role} of the {side} are {given}, not {wanted}")


@check(
    "labels",
    "labels of a function vary with inputs and tasks; of classes, support and queries have as many "
    "examples of each",
)
def labels(probe: SupervisedProbe) -> None:
    """What there is to learn is in the labels."""
    family, tasks = probe.family, probe.tasks()
    support, query = probe.split(tasks, probe.keys("examples"))
    if isinstance(family, FunctionFamily):
        same_inputs = jnp.broadcast_to(support.x[:1], support.x.shape)
        found = plain(fast_jit(jax.vmap(family.function))(tasks, same_inputs))
        expect(np.any(found != found[:1]), "all tasks give the same labels")
        expect(np.any(found != found[:, :1]), "labels do not vary with the inputs")
    if isinstance(family, ClassificationFamily):
        for side, label in (("support", plain(support.y)), ("queries", plain(query.y))):
            counts = np.stack([np.sum(label == n, axis=1) for n in range(family.ways)])
            balanced = np.all(counts == label.shape[1] // family.ways)
            expect(balanced, f"the {side} have {counts[:, 0].tolist()} examples of the classes")


@check(
    "support and queries",
    "the queries follow from their own key: the support's key and its shots leave them as they "
    "are; no example of classes is drawn twice",
)
def support_and_queries(probe: SupervisedProbe) -> None:
    """Learners of few and of many examples are judged on the same."""
    tasks, keys = probe.tasks(), probe.keys("examples")
    support, query = probe.split(tasks, keys)
    fewer = probe.split(tasks, keys, shots=1)[1]
    expect(same(query, fewer), "with fewer shots the queries are others")
    swapped = keys.at[:, 0].set(probe.keys("others")[:, 0])
    others, again = probe.split(tasks, swapped)
    expect(same(query, again), "with another key of the support the queries are others")
    expect(not same(support, others), "with another key the support is the same")
    if isinstance(probe.family, ClassificationFamily):
        drawn = np.concatenate([plain(support.x), plain(query.x)], axis=1)
        for rows in drawn.reshape(*drawn.shape[:2], -1):
            expect(len(np.unique(rows, axis=0)) == len(rows), "an example is drawn twice")


@check("every part of a task", "a leaf that differs from task to task changes the examples of some")
def every_leaf(probe: SupervisedProbe) -> None:
    """Permutes one leaf at a time between the tasks."""
    tasks, keys = probe.tasks(), probe.keys("examples")
    leaves, structure = jax.tree.flatten(tasks)
    for i, (path, leaf) in enumerate(jax.tree.leaves_with_path(tasks)):
        others = [*leaves[:i], jnp.roll(leaf, 1, axis=0), *leaves[i + 1 :]]
        if same(others[i], leaf):
            continue
        changed = probe.split(jax.tree.unflatten(structure, others), keys)
        text = f"leaf {jax.tree_util.keystr(path)} of the task changes nothing"
        expect(not same(changed, probe.split(tasks, keys)), text)


@check("own draws", "a key is used once, and decides what is drawn")
def own_draws(probe: SupervisedProbe) -> None:
    """JAX's own key-reuse checker, then same keys and other keys."""
    family, tasks = probe.family, probe.tasks()

    def draw(task_key: Array, keys: Array) -> tuple[Examples, Examples]:
        return family.sample_split(keys, family.sample_task(task_key), SHOTS, QUERIES)

    with jax.debug_key_reuse(True):
        fast_jit(draw)(probe.key("one"), probe.keys("two")[0])
    first = probe.split(tasks, probe.keys("examples"))
    again = probe.split(tasks, probe.keys("examples"))
    expect(same(first, again), "the same keys gave other examples")
    others = probe.split(tasks, probe.keys("others"))
    expect(not same(first, others), "other keys gave the same examples")


@check(
    "loss",
    "the loss is a float32 scalar, 0 where labels are hit and above elsewhere; so are the metrics",
)
def loss(probe: SupervisedProbe) -> None:
    """The loss is one."""
    family = probe.family
    y = probe.split(probe.tasks(), probe.keys("examples"))[0].y[0]
    right = jax.vmap(family.label_space.flatten)(y)
    if isinstance(family.label_space, Discrete):
        right = 100.0 * right  # logits of one who is sure
        wrong = jnp.roll(right, 1, axis=1)
    else:
        wrong = right + 1.0
    hit, missed = family.loss(right, y), family.loss(wrong, y)
    expect(shapes(hit) == "float32[]", f"it is {shapes(hit)}")
    expect(hit == 0.0 and missed > 0.0, f"it is {hit} where labels are hit and {missed} elsewhere")
    for name, value in family.metrics(right, y).items():
        expect(shapes(value) == "float32[]", f"{name} is {shapes(value)}")


SUPERVISED_CHECKS = (
    family_value,
    splits,
    examples,
    labels,
    support_and_queries,
    every_leaf,
    own_draws,
    loss,
)
"""Every check of `check_supervised_family`, in order."""
