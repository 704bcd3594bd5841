"""What bandits of one-pull episodes share: an empty state, one observation, one clock."""

from __future__ import annotations

import abc
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.contracts import Task, TaskFamily, Timestep
from jaxmeta_envs.core.spaces import Discrete


class BanditState(NamedTuple):
    """The state of a bandit: nothing, since pulls do not change the arms."""


class OnePullFamily(TaskFamily[Task, BanditState]):
    """A bandit whose arms stay as they are: every pull is an episode, and ends it.

    A trial of n episodes is then n pulls of the same arms.
    """

    finite_horizon: ClassVar[bool] = True

    @property
    def observation_space(self) -> Discrete:
        return Discrete(1)

    @property
    @abc.abstractmethod
    def action_space(self) -> Discrete: ...

    @property
    def horizon(self) -> int:
        return 1

    def reset(self, key: Array, task: Task) -> tuple[BanditState, Array]:
        """Returns the empty state and the only observation, 0."""
        del key, task
        return BanditState(), jnp.zeros((), jnp.int32)

    def step(
        self, key: Array, state: BanditState, action: Array, task: Task
    ) -> tuple[BanditState, Timestep]:
        """Pulls arm ``action``; every pull ends its episode."""
        arm = self.action_space.clip(action)
        return state, Timestep(
            obs=jnp.zeros((), jnp.int32),
            reward=self.pull(key, arm, task),
            terminated=jnp.asarray(True),
            truncated=jnp.asarray(False),
        )

    @abc.abstractmethod
    def pull(self, key: Array, arm: Array, task: Task) -> Array:
        """Draws the reward of an arm within bounds, float32 scalar."""
