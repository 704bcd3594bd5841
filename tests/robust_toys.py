"""A family of physical parameters whose return has a closed form, and a trivial learner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta_envs import Box, PhysicalFamily, Timestep
from jaxmeta_envs.random.distributions import TruncatedNormal, Uniform
from tests.eval_toys import ToyAlgorithm


class TerrainTask(NamedTuple):
    mass: jax.Array
    friction: jax.Array
    tilt: jax.Array


LOW = TerrainTask(0.5, 0.0, -2.0)
HIGH = TerrainTask(4.0, 1.0, 2.0)
WORST = TerrainTask(3.0, 0.2, -1.0)
NOMINAL = TerrainTask(1.0, 0.5, 0.0)


def depth(mass, friction, tilt):
    """The return of an episode in which nothing is done: 0 at the worst, else more."""
    return (mass - 3.0) ** 2 + 4 * (friction - 0.2) ** 2 + (tilt + 1.0) ** 2


@dataclass(frozen=True)
class Terrain(PhysicalFamily[TerrainTask, jax.Array]):
    """The return of an episode is the mean action + `depth` + noise · luck."""

    horizon: int = 2
    noise: float = 0.0
    heaviest: float = 2.0  # that is trained on
    units = {"mass": "kg"}  # noqa: RUF012

    @property
    def observation_space(self):
        return Box(-1.0, 1.0, (1,))

    @property
    def action_space(self):
        return Box(-1.0, 1.0, ())

    @property
    def default_episodes(self):
        return 3

    def nominal_task(self):
        return jax.tree.map(jnp.float32, NOMINAL)

    def distribution(self, split="train"):
        self.check_split(split)
        low, high = TerrainTask(0.5, 0.25, -0.5), TerrainTask(self.heaviest, 0.75, 0.5)
        std = TerrainTask(0.5, 0.5, 0.5)
        return jax.tree.map(jnp.float32, TruncatedNormal(NOMINAL, std, low, high))

    def limits(self):
        return jax.tree.map(jnp.float32, Uniform(LOW, HIGH))

    def predict(self, obs, action, task):
        return jnp.zeros(1)

    def reset(self, key, task):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action, task):
        luck = self.noise * jax.random.normal(key)
        reward = (action + depth(*task) + luck) / self.horizon
        over = state + 1 >= self.horizon
        return state + 1, Timestep(jnp.zeros(1), reward, jnp.asarray(False), over)


class LevelState(NamedTuple):
    params: jax.Array


@dataclass(frozen=True)
class LevelLearner(ToyAlgorithm):
    """Earns `depth`, plus the number of episodes played before."""

    def init(self, family, key):
        return LevelState(jnp.float32(0.0))
