"""Does a task family keep its contract? Call `check_task_family` from your own tests."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

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
from jaxmeta.testing.dynamics import DYNAMICS_CHECKS
from jaxmeta.testing.probes import FamilyProbe
from jaxmeta.testing.references import REFERENCE_CHECKS
from jaxmeta_envs.core.contracts import TaskFamily
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.core.spaces import ArraySpace, Space


def check_task_family(
    family: TaskFamily,
    *,
    num_tasks: int = 16,
    seed: int = 0,
    reward_of_state: bool | None = None,
    inert_leaves: Collection[str] = (),
    skip: Collection[str] = (),
) -> None:
    """Runs every check of `FAMILY_CHECKS` on a small instance of a task family.

    Args:
        family: The family; short horizons make it quick.
        num_tasks: Tasks to draw. More of them, and a longer horizon, find effects that
            random actions rarely meet.
        seed: Seed of the tasks and actions.
        reward_of_state: Whether the reward is paid for the state that the action found, so
            that an action shows in later rewards only. By default, what the family says itself
            (`TaskFamily.reward_of_state`).
        inert_leaves: Names of task leaves that are allowed to have no effect.
        skip: Names of checks to leave out.

    Raises:
        ConformanceError: With the name of the first check that fails, what it saw and what
            the contract demands.
    """
    if reward_of_state is None:
        reward_of_state = family.reward_of_state
    probe = FamilyProbe(family, num_tasks, seed, reward_of_state, tuple(inert_leaves))
    run_checks(FAMILY_CHECKS, probe, skip)


@check(
    "family value",
    "a family is a frozen dataclass, hashable and equal by value, without arrays as fields",
)
def family_value(probe: FamilyProbe) -> None:
    """Equal families must share one compilation."""
    expect_value_semantics(probe.family)


@check(
    "family properties",
    "actions are Discrete, MultiDiscrete or Box, observations these or a Dict or Tuple of spaces; "
    "horizon and default_episodes are integers of at least 1; "
    "splits name train and test",
)
def family_properties(probe: FamilyProbe) -> None:
    """The static description is well formed."""
    family = probe.family
    expect(isinstance(family, TaskFamily), f"{type(family).__name__} is no TaskFamily")
    for name in ("observation_space", "action_space"):
        space = getattr(family, name)
        wanted = ArraySpace if name == "action_space" else Space
        expect(isinstance(space, wanted), f"{name} is {space!r}")
    for name in ("horizon", "default_episodes"):
        value = getattr(family, name)
        expect(isinstance(value, int) and value >= 1, f"{name} is {value!r}")
    expect({"train", "test"} <= set(family.splits), f"splits are {family.splits}")
    expect(isinstance(family.finite_horizon, bool), f"finite_horizon is {family.finite_horizon!r}")


@check(
    "shapes",
    "state and observation keep structure, shape and dtype over reset and steps; observations "
    "are of their space, reward is a float32 scalar, terminated and truncated bool scalars",
)
def family_shapes(probe: FamilyProbe) -> None:
    """Everything has one shape, found without running anything."""
    family, key = probe.family, jax.random.key(probe.seed)
    action = family.action_space.abstract
    task = jax.eval_shape(family.sample_task, key)
    for leaf in jax.tree.leaves(task):
        expect(hasattr(leaf, "shape"), f"the task has the leaf {leaf!r}, which is no array")
    state, obs = jax.eval_shape(family.reset, key, task)
    new_state, timestep = jax.eval_shape(family.step, key, state, action, task)
    expect_same_shapes("state", state, new_state)
    space = family.observation_space
    _expect_shape("the observation after reset", obs, space.abstract)
    _expect_shape("the observation after step", timestep.obs, space.abstract)
    flag = jax.ShapeDtypeStruct((), jnp.bool_)
    _expect_shape("reward", timestep.reward, jax.ShapeDtypeStruct((), jnp.float32))
    _expect_shape("terminated", timestep.terminated, flag)
    _expect_shape("truncated", timestep.truncated, flag)


def _expect_shape(what: str, value: Any, wanted: Any) -> None:
    same = jax.tree.structure(value) == jax.tree.structure(wanted)
    arrays = all(hasattr(leaf, "shape") for leaf in jax.tree.leaves(value))
    shown = "an array" if hasattr(wanted, "shape") else f"a tree like {wanted!r}"
    expect(same and arrays, f"{what} is {value!r}, not {shown}")
    for leaf, like in zip(jax.tree.leaves(value), jax.tree.leaves(wanted), strict=True):
        expect(shapes(leaf) == shapes(like), f"{what} is {shapes(leaf)}, not {shapes(like)}")


@check(
    "splits",
    "every split gives finite tasks of one structure, also under jit and vmap; an unknown one "
    "raises ConfigError",
)
def family_splits(probe: FamilyProbe) -> None:
    """Every named split works."""
    family = probe.family
    keys = jax.random.split(probe.key("splits"), probe.num_tasks)
    for split in family.splits:
        tasks = fast_jit(jax.vmap(lambda key, name=split: family.sample_task(key, name)))(keys)
        expect_same_shapes(f"task of split {split!r}", probe.tasks, tasks)
        for path, leaf in jax.tree.leaves_with_path(tasks):
            name = f"leaf {jax.tree_util.keystr(path)} of split {split!r}"
            expect(np.all(_finite(plain(leaf))), f"{name} is not finite")
    try:
        family.sample_task(keys[0], "no such split")
    except ConfigError:
        return
    expect(False, "an unknown split is accepted")


def _finite(x: np.ndarray) -> np.ndarray:
    return np.isfinite(x) if np.issubdtype(x.dtype, np.floating) else np.asarray(True)


@check(
    "task randomness",
    "different keys give different tasks, and every draw has a key of its own",
)
def task_randomness(probe: FamilyProbe) -> None:
    """Tasks differ, and no part of a task is a copy of another."""
    leaves = {
        jax.tree_util.keystr(path): plain(leaf).reshape(probe.num_tasks, -1)
        for path, leaf in jax.tree.leaves_with_path(probe.tasks)
    }
    expect(leaves, "the task has no leaves")
    varies = any(np.any(x != x[:1]) for x in leaves.values())
    expect(varies, f"{probe.num_tasks} different keys gave the same task")
    seen: dict[bytes, str] = {}
    for name, x in leaves.items():
        # A value seen in several tasks may repeat by chance: finite sets are left alone.
        if len(np.unique(x[:, 0])) <= probe.num_tasks // 2 or x.dtype.kind != "f":
            continue
        copies = x.shape[1] > 1 and np.all(x == x[:, :1])
        expect(not copies, f"all entries of task leaf {name} are equal, in every task")
        twin = seen.setdefault(x.tobytes(), name)
        expect(twin == name, f"task leaves {twin} and {name} are equal in every task")


def _life(family: TaskFamily, keys: tuple[Array, ...], actions: tuple[Array, ...]) -> Any:
    """A task, a reset and two steps, each with a key of its own."""
    task = family.sample_task(keys[0])
    start, obs = family.reset(keys[1], task)
    middle, first = family.step(keys[2], start, actions[0], task)
    return task, start, obs, middle, first, family.step(keys[3], middle, actions[1], task)


def _life_arguments(probe: FamilyProbe, name: str) -> tuple[tuple[Array, ...], tuple]:
    keys = tuple(jax.random.split(probe.key(name), 4))
    return keys, (probe.actions[0, 0], probe.actions[-1, -1])


@check("key reuse", "a key is used once: split it for every further draw")
def key_reuse(probe: FamilyProbe) -> None:
    """JAX's own key-reuse checker over sample_task, reset and two steps."""
    arguments = _life_arguments(probe, "key reuse")
    with jax.debug_key_reuse(True):
        fast_jit(lambda *args: _life(probe.family, *args))(*arguments)


@check("purity", "sample_task, reset and step are pure functions of their arguments")
def purity(probe: FamilyProbe) -> None:
    """Same arguments, same results, whatever else was traced in between."""
    arguments = _life_arguments(probe, "purity")
    # Fresh lambdas are traced afresh, so Python-side state would show.
    first = fast_jit(lambda *args: _life(probe.family, *args))(*arguments)
    jax.eval_shape(lambda *args: _life(probe.family, *args), *_life_arguments(probe, "between"))
    second = fast_jit(lambda *args: _life(probe.family, *args))(*arguments)
    expect(same(first, second), "the same arguments gave two different results")
    again = probe.play(probe.tasks, probe.actions)
    expect(same(probe.base, again), "the same rollouts gave different results")


FAMILY_CHECKS = (
    family_value,
    family_properties,
    family_shapes,
    family_splits,
    task_randomness,
    key_reuse,
    purity,
    *DYNAMICS_CHECKS,
    *REFERENCE_CHECKS,
)
"""Every check of `check_task_family`, in order; each can be called with a `FamilyProbe`."""
