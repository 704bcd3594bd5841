"""Small families whose every step can be predicted by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs import (
    ACCURACY,
    AdaptivePolicy,
    Box,
    Discrete,
    Examples,
    FunctionFamily,
    Reference,
    TaskFamily,
    Timestep,
)


class CounterTask(NamedTuple):
    length: Array  # the episode ends after so many steps
    bonus: Array


class CounterState(NamedTuple):
    time: Array


@dataclass(frozen=True)
class Counter(TaskFamily[CounterTask, CounterState]):
    """Observation: steps so far. Reward: bonus + time + action / 100. May end early."""

    horizon: int = 4
    ends: str = "truncated"
    max_length: int = 10

    @property
    def observation_space(self):
        return Box(-1e6, 1e6, (1,))

    @property
    def action_space(self):
        return Discrete(3)

    @property
    def default_episodes(self):
        return 3

    def sample_task(self, key, split="train"):
        self.check_split(split)
        length_key, bonus_key = jax.random.split(key)
        length = jax.random.randint(length_key, (), 1, self.max_length + 1)
        return CounterTask(length, jax.random.uniform(bonus_key))

    def reset(self, key, task):
        return CounterState(jnp.int32(0)), jnp.zeros(1)

    def step(self, key, state, action, task):
        time = state.time + 1
        reward = task.bonus + time + action / 100
        early = time >= task.length
        clock = (time >= self.horizon) & ~early
        terminated = early | (clock if self.ends == "terminated" else False)
        truncated = clock & (self.ends == "truncated")
        obs = time[None].astype(jnp.float32)
        return CounterState(time), Timestep(obs, jnp.float32(reward), terminated, truncated)


class TargetTask(NamedTuple):
    target: Array


@dataclass(frozen=True)
class Target(TaskFamily[TargetTask, tuple]):
    """Continuous action: reward is minus the squared distance to a hidden number."""

    horizon: int = 1
    finite_horizon = True

    @property
    def observation_space(self):
        return Discrete(1)

    @property
    def action_space(self):
        return Box(-2.0, 2.0, (1,))

    @property
    def default_episodes(self):
        return 4

    def sample_task(self, key, split="train"):
        self.check_split(split)
        return TargetTask(jax.random.uniform(key, minval=-1.0, maxval=1.0))

    def reset(self, key, task):
        return (), jnp.int32(0)

    def step(self, key, state, action, task):
        clipped = jnp.clip(action[0], -2.0, 2.0)
        reward = -((clipped - task.target) ** 2)
        return state, Timestep(jnp.int32(0), reward, jnp.asarray(True), jnp.asarray(False))


@dataclass(frozen=True)
class SafeOrRisky(TaskFamily[jax.Array, jax.Array]):
    """One pull of a safe arm, N(0, 0.1), or of one that is better and riskier, N(0.3, 1)."""

    finite_horizon = True
    horizon: int = 1
    default_episodes: int = 1

    @property
    def observation_space(self):
        return Discrete(1)

    @property
    def action_space(self):
        return Discrete(2)

    def sample_task(self, key, split="train"):
        self.check_split(split)
        return jnp.float32(0.0)

    def reset(self, key, task):
        return jnp.int32(0), jnp.int32(0)

    def step(self, key, state, action, task):
        mean, std = jnp.asarray([[0.0, 0.1], [0.3, 1.0]])[action]
        reward = mean + std * jax.random.normal(key)
        return state, Timestep(jnp.int32(0), reward, jnp.asarray(True), jnp.asarray(False))


@dataclass(frozen=True)
class RareRuin(TaskFamily[jax.Array, jax.Array]):
    """One pull: a safe arm pays 0.3, the other 1, but -2 in a fifth of the tasks."""

    finite_horizon = True
    horizon: int = 1
    default_episodes: int = 1

    @property
    def observation_space(self):
        return Discrete(1)

    @property
    def action_space(self):
        return Discrete(2)

    def sample_task(self, key, split="train"):
        self.check_split(split)
        return jax.random.bernoulli(key, 0.2)

    def reset(self, key, task):
        return jnp.int32(0), jnp.int32(0)

    def step(self, key, state, action, task):
        reward = jnp.where(action == 1, jnp.where(task, -2.0, 1.0), 0.3)
        return state, Timestep(jnp.int32(0), reward, jnp.asarray(True), jnp.asarray(False))


@dataclass(frozen=True)
class Aim(TaskFamily[jax.Array, jax.Array]):
    """Hit a hidden point: a step pays 1 less the distance, in half ranges of the action.

    The observation is where the last action went, in the same units, times ``stretch`` plus
    ``offset``; rewards are times ``scale``.
    """

    low: float | tuple[float, ...] = -1.0
    high: float | tuple[float, ...] = 1.0
    size: int = 1
    stretch: float = 1.0
    offset: float = 0.0
    scale: float = 1.0
    horizon: int = 5
    default_episodes: int = 2

    @property
    def observation_space(self):
        return Box(-1e9, 1e9, (self.size,))

    @property
    def action_space(self):
        return Box(self.low, self.high, (self.size,))

    def sample_task(self, key, split="train"):
        self.check_split(split)
        return jax.random.uniform(key, (self.size,), minval=-1.0, maxval=1.0)

    def reset(self, key, task):
        return jnp.int32(0), jnp.full(self.size, self.offset)

    def step(self, key, state, action, task):
        space = self.action_space
        at = space.to_unit(space.clip(action))
        reward = self.scale * (1.0 - jnp.mean(jnp.abs(at - task)))
        ended = state + 1 >= self.horizon
        obs = self.stretch * at + self.offset
        return state + 1, Timestep(obs, reward, ended, jnp.asarray(False))

    def references(self, num_episodes):
        del num_episodes

        def act(params, carry, inputs, key):
            return self.action_space.from_unit(params[1]), carry

        return {"oracle": Reference(AdaptivePolicy(lambda params, key: (), act), told_task=True)}


@dataclass(frozen=True)
class Sides(FunctionFamily[jax.Array]):
    """On which side of a hidden line through the origin a point lies, -1 or 1.

    Learners are trained on the logistic loss, and judged by the share of sides that they know.
    """

    score = ACCURACY

    @property
    def input_space(self):
        return Box(-np.inf, np.inf, (2,))

    @property
    def label_space(self):
        return Box(-1.0, 1.0, (1,))

    def sample_task(self, key, split="train"):
        self.check_split(split)
        return jax.random.normal(key, (2,))

    def sample_examples(self, key, task, num):
        x = jax.random.normal(key, (num, 2))
        return Examples(x, self.function(task, x))

    def function(self, task, x):
        return jnp.where(x @ task[:, None] > 0, 1.0, -1.0)

    def loss(self, prediction, label):
        return jnp.mean(jax.nn.softplus(-label * prediction))

    def metrics(self, prediction, label):
        return {"accuracy": jnp.mean(jnp.float32(label * prediction > 0))}
