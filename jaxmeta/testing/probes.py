"""Many short rollouts of one family under fixed keys, shared by the checks.

Axes: B tasks, N rollouts (rollout i plays task i modulo B), T steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta.ops.trees import select
from jaxmeta.testing.conformance import fast_jit, plain
from jaxmeta_envs.core.contracts import TaskFamily, Timestep
from jaxmeta_envs.core.spaces import ArraySpace, Box

ROLLOUTS_PER_TASK = 8


class Play(NamedTuple):
    """Rollouts as host arrays, leaves ``[N, ...]``.

    Attributes:
        start: State after reset.
        first_obs: Observation after reset.
        timesteps: Leaves ``[N, T, ...]``.
        mask: Whether the step was played, ``[N, T]``.
        back_at_start: For each leaf of the state, whether it equals its value after
            reset, ``[N, T]``.
        last: State after the last played step.
    """

    start: Any
    first_obs: Any
    timesteps: Timestep
    mask: Any
    back_at_start: list[Any]
    last: Any

    @property
    def done(self) -> Any:
        """Whether the step was played and ended its episode, ``[N, T]``."""
        return self.mask & (self.timesteps.terminated | self.timesteps.truncated)

    def differs(self, other: Play) -> Any:
        """Whether anything that an agent sees differs from ``other``, ``[N]``."""
        both = self.mask & other.mask
        found = _unlike(self.first_obs, other.first_obs, 1)
        for mine, theirs in zip(self.timesteps, other.timesteps, strict=True):
            found |= np.any(_unlike(mine, theirs, 2) & both, axis=1)
        return found


def _unlike(a: Any, b: Any, axes: int) -> Any:
    """Whether entries of trees differ, reduced to the first ``axes`` axes."""

    def one(a: Any, b: Any) -> np.ndarray:
        unlike = np.asarray(a != b)
        return np.asarray(unlike.any(axis=tuple(range(axes, unlike.ndim))))

    return functools.reduce(np.logical_or, jax.tree.leaves(jax.tree.map(one, a, b)))


@dataclass(frozen=True, eq=False)
class FamilyProbe:
    """A family under test, with what the checks share: tasks, actions, one program.

    Attributes:
        family: The family.
        num_tasks: B.
        seed: Seed of all randomness.
        reward_of_state: Whether an action may show in the reward of a later step only.
        inert_leaves: Names of task leaves that may have no effect, such as ``".radius"``.
    """

    family: TaskFamily
    num_tasks: int = 16
    seed: int = 0
    reward_of_state: bool = False
    inert_leaves: tuple[str, ...] = ()

    @property
    def num_rollouts(self) -> int:
        return self.num_tasks * ROLLOUTS_PER_TASK

    @cached_property
    def tasks(self) -> Any:
        """Tasks of the train split, leaves ``[B, ...]``."""
        keys = jax.random.split(self.key("tasks"), self.num_tasks)
        return fast_jit(jax.vmap(self.family.sample_task))(keys)

    @cached_property
    def actions(self) -> Array:
        """Random actions, each held for a while, ``[N, T, ...]``.

        Held actions get further than independent ones, and so see more of the task.
        """
        draw_key, hold_key = jax.random.split(self.key("actions"))
        shape = (self.num_rollouts, self.family.horizon)
        drawn = self.sample_actions(draw_key, shape)
        hold = jnp.asarray([0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 1.0])
        hold = jnp.repeat(hold, self.num_tasks)[:, None]
        change = jax.random.uniform(hold_key, shape) >= jnp.broadcast_to(hold, shape)
        steps = jnp.broadcast_to(jnp.arange(shape[1]), shape)
        since = jax.lax.cummax(jnp.where(change, steps, 0), axis=1)
        return jax.vmap(lambda row, index: row[index])(drawn, since)

    @cached_property
    def base(self) -> Play:
        """The rollouts that all others are compared with."""
        return self.play(self.tasks, self.actions)

    def sample_actions(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Draws actions with these axes in front."""
        space = self.family.action_space
        flat = jax.jit(jax.vmap(space.sample))(jax.random.split(key, math.prod(shape)))
        return flat.reshape(*shape, *space.shape)

    def key(self, name: str) -> Array:
        """Returns the key of a named stream."""
        return jax.random.fold_in(jax.random.key(self.seed), sum(name.encode()))

    def play(self, tasks: Any, actions: Array, reset_tasks: Any = None) -> Play:
        """Plays tasks ``[B, ...]`` with actions ``[N, T, ...]``, every key always the same.

        Args:
            tasks: The tasks that the steps are told.
            actions: The actions.
            reset_tasks: The tasks that reset is told; by default the same.
        """
        reset_tasks = tasks if reset_tasks is None else reset_tasks
        repeated, reset_repeated = jax.tree.map(self._repeat, (tasks, reset_tasks))
        out = self._program(repeated, reset_repeated, actions)
        return jax.tree.map(plain, out)

    def _repeat(self, leaf: Array) -> Array:
        return jnp.concatenate([leaf] * ROLLOUTS_PER_TASK)

    @cached_property
    def _program(self) -> Callable[[Any, Any, Array], Play]:
        def one(key: Array, task: Any, reset_task: Any, actions: Array) -> Play:
            return rollout(self.family, key, task, reset_task, actions)

        keys = jax.random.split(self.key("rollouts"), self.num_rollouts)
        return fast_jit(functools.partial(jax.vmap(one), keys))


def rollout(family: TaskFamily, key: Array, task: Any, reset_task: Any, actions: Array) -> Play:
    """Plays actions ``[T, ...]``; the steps are told ``task``, and reset ``reset_task``."""
    reset_key, steps_key = jax.random.split(key)
    start, first_obs = family.reset(reset_key, reset_task)

    def step(loop: tuple, row: tuple) -> tuple[tuple, tuple]:
        state, alive = loop
        new_state, timestep = family.step(row[0], state, row[1], task)
        state = select(alive, new_state, state)
        pairs = zip(jax.tree.leaves(state), jax.tree.leaves(start), strict=True)
        back = [jnp.all(a == b) for a, b in pairs]
        done = timestep.terminated | timestep.truncated
        return (state, alive & ~done), (timestep, alive, back)

    rows = (jax.random.split(steps_key, family.horizon), actions)
    (last, _), (timesteps, mask, back) = jax.lax.scan(step, (start, jnp.asarray(True)), rows)
    return Play(start, first_obs, timesteps, mask, back, last)


def other_actions(space: ArraySpace, actions: Array, key: Array) -> Array:
    """Returns actions that differ from the given ones, ``[N, ...]``."""
    keys = jax.random.split(key, len(actions))
    if not isinstance(space, Box):
        number = space.highest + 1
        # One value only: there is no other action.
        least = np.minimum(number - 1, 1)

        def shifted(key: Array, action: Array) -> Array:
            by = jax.random.randint(key, space.shape, least, number, space.dtype)
            return (action + by) % number

        return jax.vmap(shifted)(keys, actions)
    return jax.vmap(space.sample)(keys)
