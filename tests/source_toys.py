"""Families of physical parameters that compile in a moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.experience.transitions import Transitions
from jaxmeta_envs.core.contracts import Timestep
from jaxmeta_envs.core.physical import PhysicalFamily
from jaxmeta_envs.core.spaces import Box
from jaxmeta_envs.random.distributions import TruncatedNormal, Uniform


def numbers(task):
    return jax.tree.map(jnp.float32, task)


@dataclass(frozen=True)
class Physical(PhysicalFamily):
    """What the toys share: the state is the observation."""

    @property
    def action_space(self):
        return Box(-1.0, 1.0, (1,))

    @property
    def horizon(self):
        return 10

    @property
    def default_episodes(self):
        return 1

    def reset(self, key, task):
        obs = 0.5 * jax.random.normal(key, self.observation_space.shape)
        return obs, obs

    def step(self, key, state, action, task):
        obs = self.predict(state, action, task)
        return obs, Timestep(obs, jnp.float32(0), jnp.asarray(False), jnp.asarray(False))


class DriftTask(NamedTuple):
    speed: Any
    wind: Any


@dataclass(frozen=True)
class Drift(Physical):
    """Linear: ``x + speed * action + wind``, so that normals stay normals."""

    @property
    def observation_space(self):
        return Box(-jnp.inf, jnp.inf, (1,))

    def nominal_task(self):
        return numbers(DriftTask(0.0, 0.0))

    def limits(self):
        return Uniform(numbers(DriftTask(-20.0, -20.0)), numbers(DriftTask(20.0, 20.0)))

    def distribution(self, split="train"):
        return TruncatedNormal(
            numbers(DriftTask(1.0, -0.5)), numbers(DriftTask(1.0, 0.5)), *self.limits()
        )

    def predict(self, obs, action, task):
        return obs + task.speed * action + task.wind


class PendulumTask(NamedTuple):
    stiffness: Any
    damping: Any


@dataclass(frozen=True)
class Pendulum(Physical):
    """Angle and angular velocity of a damped pendulum, 10 times a second."""

    @property
    def observation_space(self):
        return Box(-jnp.inf, jnp.inf, (2,))

    def nominal_task(self):
        return numbers(PendulumTask(4.0, 0.5))

    def limits(self):
        return Uniform(numbers(PendulumTask(0.5, 0.0)), numbers(PendulumTask(10.0, 2.0)))

    def distribution(self, split="train"):
        return TruncatedNormal(self.nominal_task(), numbers(PendulumTask(1.0, 0.2)), *self.limits())

    def predict(self, obs, action, task):
        angle, speed = obs
        push = 2.0 * action[0] - task.stiffness * jnp.sin(angle) - task.damping * speed
        speed = speed + 0.1 * push
        return jnp.stack([angle + 0.1 * speed, speed])


def watch(family, task, key, *, steps=40, process_std=0.0, observation_std=0.0):
    """Plays random actions; returns what noisy sensors would log of it."""
    act_key, reset_key, process_key, read_key = jax.random.split(key, 4)
    (d,) = family.observation_space.shape
    actions = jax.random.uniform(act_key, (steps, 1), minval=-1.0, maxval=1.0)
    first, _ = family.reset(reset_key, task)

    def step(state, row):
        action, noise = row
        state = family.predict(state, action, task) + process_std * noise
        return state, state

    noise = jax.random.normal(process_key, (steps, d))
    states = jnp.concatenate([first[None], jax.lax.scan(step, first, (actions, noise))[1]])
    readings = states + observation_std * jax.random.normal(read_key, states.shape)
    return Transitions(readings[:-1], actions, readings[1:], jnp.ones(steps, bool))
