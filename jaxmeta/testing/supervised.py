"""Checks of supervised task families, and of learners that adapt to them."""

from __future__ import annotations

from collections.abc import Collection
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
from jaxmeta_envs.errors import ConfigError
from jaxmeta_envs.supervised import Examples, SupervisedFamily

_TASKS, _EXAMPLES = 16, 8


class LineTask(NamedTuple):
    """A line through the origin; its slope is a float32 scalar."""

    slope: Array


@dataclass(frozen=True)
class ToyRegression(SupervisedFamily[LineTask]):
    """Noisy lines through the origin."""

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return 1

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

    def examples(self, tasks: Any, name: str = "examples") -> Examples:
        """Returns examples of each task, ``[B, n, ...]``."""
        keys = jax.random.split(self.key(name), _TASKS)
        draw = jax.vmap(lambda key, task: self.family.sample_examples(key, task, _EXAMPLES))
        return fast_jit(draw)(keys, tasks)


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
    "examples are finite float32 of shapes [n, input_size] and [n, output_size], their labels "
    "vary with the inputs and the tasks, and predictions have the shape of labels",
)
def examples(probe: SupervisedProbe) -> None:
    """Shapes, and that there is something to learn."""
    family, tasks = probe.family, probe.tasks()
    x, y = probe.examples(tasks)
    wanted = f"float32{[_TASKS, _EXAMPLES, family.input_size]}"
    expect(shapes(x) == wanted, f"inputs are {shapes(x)}, not {wanted}")
    wanted = f"float32{[_TASKS, _EXAMPLES, family.output_size]}"
    expect(shapes(y) == wanted, f"labels are {shapes(y)}, not {wanted}")
    expect(np.all(np.isfinite(x)) and np.all(np.isfinite(y)), "an example is not finite")
    same_inputs = jnp.broadcast_to(x[:1], x.shape)
    labels = plain(fast_jit(jax.vmap(family.function))(tasks, same_inputs))
    expect(np.any(labels != labels[:1]), "all tasks give the same labels")
    expect(np.any(labels != labels[:, :1]), "labels do not vary with the inputs")
    for name, predict in family.references().items():
        prediction = fast_jit(jax.vmap(predict))(tasks, x)
        expect_same_shapes(f"the prediction of {name!r}", y, prediction)


@check("every part of a task", "a leaf that differs from task to task changes the labels of some")
def every_leaf(probe: SupervisedProbe) -> None:
    """Permutes one leaf at a time between the tasks."""
    family, tasks = probe.family, probe.tasks()
    x = probe.examples(tasks).x
    label = fast_jit(jax.vmap(family.function))
    leaves, structure = jax.tree.flatten(tasks)
    for i, (path, leaf) in enumerate(jax.tree.leaves_with_path(tasks)):
        others = [*leaves[:i], jnp.roll(leaf, 1, axis=0), *leaves[i + 1 :]]
        if same(others[i], leaf):
            continue
        changed = plain(label(jax.tree.unflatten(structure, others), x))
        text = f"leaf {jax.tree_util.keystr(path)} of the task changes nothing"
        expect(np.any(changed != plain(label(tasks, x))), text)


@check("own draws", "a key is used once, and decides what is drawn")
def own_draws(probe: SupervisedProbe) -> None:
    """JAX's own key-reuse checker, then same keys and other keys."""
    family, tasks = probe.family, probe.tasks()

    def draw(task_key: Array, key: Array) -> Examples:
        return family.sample_examples(key, family.sample_task(task_key), _EXAMPLES)

    with jax.debug_key_reuse(True):
        fast_jit(draw)(probe.key("one"), probe.key("two"))
    first, again = probe.examples(tasks), probe.examples(tasks)
    expect(same(first, again), "the same keys gave other examples")
    expect(not same(first, probe.examples(tasks, "others")), "other keys gave the same examples")
    inputs = plain(first.x)
    expect(np.any(inputs != inputs[:, :1]), "all inputs of a task are equal")


@check("loss", "the loss is a float32 scalar, 0 where labels are hit and above elsewhere")
def loss(probe: SupervisedProbe) -> None:
    """The loss is one."""
    family = probe.family
    y = probe.examples(probe.tasks()).y[0]
    hit, missed = family.loss(y, y), family.loss(y + 1.0, y)
    expect(shapes(hit) == "float32[]", f"it is {shapes(hit)}")
    expect(hit == 0.0 and missed > 0.0, f"it is {hit} where labels are hit and {missed} elsewhere")


SUPERVISED_CHECKS = (family_value, splits, examples, every_leaf, own_draws, loss)
"""Every check of `check_supervised_family`, in order."""
