"""A toy family of any spaces, and some of each kind."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs import Box, Dict, Discrete, MultiDiscrete, TaskFamily, Timestep, Tuple
from jaxmeta_envs.core.contracts import random_reference
from jaxmeta_envs.core.spaces import Space

MIXED = Dict(
    {
        "image": Box(0.0, 255.0, (4, 3, 1)),
        "joints": Box(-np.inf, np.inf, (2,)),
        "cell": Discrete(3),
        "inventory": Tuple((MultiDiscrete((2, 3)), Discrete(2))),
    }
)
SEEN = {
    "discrete": Discrete(3),
    "multi-discrete": MultiDiscrete((2, 3)),
    "vector": Box(-1.0, 1.0, (2,)),
    "image": Box(0.0, 255.0, (4, 3, 1)),
    "tuple": Tuple((Discrete(2), Box(-1.0, 1.0, (1,)))),
    "mixed": MIXED,
}
DONE = {
    "discrete": Discrete(3),
    "multi-discrete": MultiDiscrete((2, 3)),
    "vector": Box(-1.0, 3.0, (2,)),
    "matrix": Box(-1.0, 1.0, (2, 2)),
}


class Weights(NamedTuple):
    """What each entry of an action pays, ``[flat_size]``."""

    weight: Array


class Played(NamedTuple):
    time: Array


@dataclass(frozen=True)
class AnySpaces(TaskFamily[Weights, Played]):
    """Observations are noise; an action pays the sum of what its entries are worth."""

    seen: Space
    done: Space

    @property
    def observation_space(self):
        return self.seen

    @property
    def action_space(self):
        return self.done

    @property
    def horizon(self):
        return 3

    @property
    def default_episodes(self):
        return 2

    def sample_task(self, key, split="train"):
        self.check_split(split)
        return Weights(jax.random.normal(key, (self.done.flat_size,)))

    def reset(self, key, task):
        del task
        return Played(jnp.int32(0)), self.seen.sample(key)

    def step(self, key, state, action, task):
        time = state.time + 1
        pay = task.weight @ self.done.flatten(self.done.clip(action))
        end = time >= self.horizon
        obs = self.seen.sample(key)
        return Played(time), Timestep(obs, pay, jnp.zeros_like(end), end)

    def references(self, num_episodes):
        del num_episodes
        random = random_reference(self.done)
        return {"random": random, "oracle": random._replace(told_task=True)}
