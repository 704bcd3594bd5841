"""A family and policies whose adaptation curves are known by heart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.contracts import Algorithm
from jaxmeta_envs.core.contracts import AdaptivePolicy, Reference, TaskFamily, Timestep
from jaxmeta_envs.core.spaces import Box

TRACES = Counter()  # how often a policy was traced, by name


class EchoTask(NamedTuple):
    secret: jax.Array


@dataclass(frozen=True)
class Echo(TaskFamily[EchoTask, jax.Array]):
    """The return of an episode is the mean action + scale · secret + noise · luck."""

    splits = ("train", "test", "far")
    horizon: int = 2
    scale: float = 0.0
    noise: float = 0.0

    @property
    def observation_space(self):
        return Box(-1.0, 1.0, (1,))

    @property
    def action_space(self):
        return Box(-1.0, 1.0, ())

    @property
    def default_episodes(self):
        return 3

    def sample_task(self, key, split="train"):
        self.check_split(split)
        return EchoTask(jax.random.normal(key) + (100.0 if split == "far" else 0.0))

    def reset(self, key, task):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action, task):
        luck = self.noise * jax.random.normal(key)
        reward = (action + self.scale * task.secret + luck) / self.horizon
        over = state + 1 >= self.horizon
        return state + 1, Timestep(jnp.zeros(1), reward, jnp.asarray(False), over)

    def references(self, num_episodes):
        told = AdaptivePolicy(lambda params, key: (), _act_secret)
        return {
            "count": Reference(counting("count reference"), jnp.float32(0.0)),
            "told": Reference(told, jnp.float32(2.0), told_task=True),
            "planner": Reference(constant("planner"), jnp.float32(num_episodes)),
        }

    def optimal_returns(self, num_episodes):
        return np.arange(num_episodes) + 10.0


def _act_secret(given, carry, inputs, key):
    params, task = given
    return params * task.secret, carry


def counting(name="counting", together=1):
    """Plays ``params + k`` after k steps of adaptation; needs `adapt` to do so."""

    def act(params, carry, inputs, key):
        TRACES[name] += 1
        return params + carry, carry

    def adapt(params, carry, episodes, key):
        assert episodes.reward.shape == (together, 2)
        return carry + 1

    return AdaptivePolicy(lambda params, key: jnp.float32(0.0), act, adapt, together)


def constant(name="constant"):
    def act(params, carry, inputs, key):
        TRACES[name] += 1
        return params, carry

    return AdaptivePolicy(lambda params, key: (), act)


def noisy(together=1):
    """Plays standard normal noise."""

    def act(params, carry, inputs, key):
        return jax.random.normal(key), carry

    return AdaptivePolicy(lambda params, key: (), act, episodes_per_adapt=together)


def learner(together=4):
    """Moves by what ``adapt`` saw: the mean return of all its episodes, plus 1."""

    def adapt(params, carry, episodes, key):
        assert episodes.reward.shape == (together, 2)
        return episodes.reward.sum(axis=1).mean() + 1.0

    def act(params, carry, inputs, key):
        return carry, carry

    return AdaptivePolicy(lambda params, key: jnp.float32(0.0), act, adapt, together)


@dataclass(frozen=True)
class ToyAlgorithm(Algorithm):
    """Counts; its parameter is the level to start from."""

    num_tasks: int = 2
    episodes: int = 3
    together: int = 1

    def init(self, family, key):
        return jnp.float32(0.0)

    def update(self, family, state, key, step):
        return state, {"return": jnp.float32(0.0)}

    def policy(self, family):
        return counting("agent", self.together)

    def check(self, family):
        pass

    def env_steps_per_update(self, family):
        return self.num_tasks * self.episodes * family.horizon

    def trial_episodes(self, family):
        return self.episodes


def trained(levels=(0.0, 1.0), run_dir=None, family=None, env_steps=12, **fields):
    """What training would return: one seed per level."""
    config = SimpleNamespace(algorithm=ToyAlgorithm(**fields), tasks=family or Echo())
    params = jnp.asarray(levels, jnp.float32)
    return SimpleNamespace(config=config, params=params, run_dir=run_dir, env_steps=env_steps)
