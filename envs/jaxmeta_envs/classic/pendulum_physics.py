"""The equations of the pendulum: those of Gymnasium's Pendulum-v1."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.classic.family import System

TIME_STEP = 0.05
"""Seconds between two actions."""

MAX_TORQUE = 2.0
"""The strongest torque of the motor, N m."""

MAX_SPEED = 8.0
"""The highest angular velocity, rad/s."""


class PendulumTask(NamedTuple):
    """The physical parameters of a pendulum, float32 scalars in SI units.

    Attributes:
        gravity: Acceleration of gravity, m/s².
        mass: kg, spread evenly over the rod.
        length: m.
    """

    gravity: Any
    mass: Any
    length: Any


STANDARD = PendulumTask(gravity=10.0, mass=1.0, length=1.0)
"""The parameters of Pendulum-v1."""


class PendulumBody(NamedTuple):
    """Where a pendulum is and how it moves, float32 scalars.

    Attributes:
        angle: From upright, rad; full turns are counted.
        velocity: rad/s.
    """

    angle: Array
    velocity: Array


def start(key: Array) -> PendulumBody:
    """Draws a pendulum at any angle, at up to 1 rad/s."""
    high = jnp.asarray([math.pi, 1.0], jnp.float32)
    return PendulumBody(*jax.random.uniform(key, (2,), jnp.float32, -high, high))


def advance(body: PendulumBody, action: Array, task: PendulumTask) -> PendulumBody:
    """Returns the pendulum after a torque, ``[1]``; the angle moves with the new velocity."""
    by_gravity = 3 * task.gravity / (2 * task.length) * jnp.sin(body.angle)
    by_torque = 3.0 / (task.mass * task.length**2) * action[0]
    velocity = body.velocity + (by_gravity + by_torque) * TIME_STEP
    velocity = jnp.clip(velocity, -MAX_SPEED, MAX_SPEED)
    return PendulumBody(body.angle + velocity * TIME_STEP, velocity)


def observe(body: PendulumBody) -> Array:
    """Returns cosine and sine of the angle, and the velocity."""
    return jnp.stack([jnp.cos(body.angle), jnp.sin(body.angle), body.velocity])


def body_of(obs: Array) -> PendulumBody:
    """Returns the pendulum of which this is seen, without its full turns."""
    cosine, sine, velocity = obs
    return PendulumBody(jnp.arctan2(sine, cosine), velocity)


def cost(body: PendulumBody, action: Array) -> Array:
    """Returns what it costs to be there and to apply that torque, ``[1]``."""
    angle = ((body.angle + math.pi) % (2 * math.pi)) - math.pi
    return angle**2 + 0.1 * body.velocity**2 + 0.001 * action[0] ** 2


def _outcome(before: PendulumBody, action: Array, after: PendulumBody) -> tuple[Array, Array]:
    del after
    return -cost(before, action), jnp.asarray(False)


SYSTEM = System(start, advance, observe, body_of, _outcome)
"""Every step pays minus the `cost` of the state before it; nothing ends an episode."""
