"""The equations of the mountain car: those of Gymnasium's MountainCarContinuous-v0."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.classic.family import System

LEFT_END, RIGHT_END = -1.2, 0.6
"""Where the track ends."""

FLAG = 0.45
"""Where the flag stands."""

MAX_SPEED = 0.07
"""The highest speed."""


class MountainCarTask(NamedTuple):
    """The physical parameters of a mountain car, float32 scalars.

    The track has no units but its own: one step is the unit of time.

    Attributes:
        power: Acceleration by the engine at full throttle: its force over the car's mass.
        gravity: Acceleration where the slope is steepest.
    """

    power: Any
    gravity: Any


STANDARD = MountainCarTask(power=0.0015, gravity=0.0025)
"""The parameters of MountainCarContinuous-v0."""


class MountainCarBody(NamedTuple):
    """Where a mountain car is and how it moves, float32 scalars.

    Attributes:
        position: Along the track; the bottom of the valley is at -π/6.
        velocity: Per step.
    """

    position: Array
    velocity: Array


def start(key: Array) -> MountainCarBody:
    """Draws a car at rest near the bottom of the valley."""
    position = jax.random.uniform(key, (), jnp.float32, -0.6, -0.4)
    return MountainCarBody(position, jnp.zeros((), jnp.float32))


def advance(body: MountainCarBody, action: Array, task: MountainCarTask) -> MountainCarBody:
    """Returns the car after a step at this throttle, ``[1]``; the left wall stops it."""
    slope = jnp.cos(3 * body.position)
    velocity = body.velocity + action[0] * task.power - slope * task.gravity
    velocity = jnp.clip(velocity, -MAX_SPEED, MAX_SPEED)
    position = jnp.clip(body.position + velocity, LEFT_END, RIGHT_END)
    stopped = (position <= LEFT_END) & (velocity < 0)
    return MountainCarBody(position, jnp.where(stopped, 0.0, velocity))


def body_of(obs: Array) -> MountainCarBody:
    """Returns the car of which this is seen."""
    return MountainCarBody(*obs)


def has_arrived(body: MountainCarBody) -> Array:
    """Whether the car is at the flag or beyond it, and does not roll back."""
    return (body.position >= FLAG) & (body.velocity >= 0)


def _outcome(before: MountainCarBody, action: Array, after: MountainCarBody) -> tuple[Array, Array]:
    del before
    arrived = has_arrived(after)
    return -0.1 * action[0] ** 2 + 100 * arrived, arrived


SYSTEM = System(start, advance, jnp.stack, body_of, _outcome)
"""A step costs 0.1 throttle², and the flag, which ends an episode, pays 100."""
