"""The equations of the acrobot: those of Gymnasium's Acrobot-v1, of Sutton and Barto's book."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.classic.family import System

TIME_STEP = 0.2
"""Seconds between two actions: one step of the Runge-Kutta method."""

GRAVITY = 9.8
"""Acceleration of gravity, m/s²."""

MAX_SPEEDS = (4 * math.pi, 9 * math.pi)
"""The highest angular velocities of the upper and the lower link, rad/s."""

_START = 0.1  # largest size of each part of the first state


class AcrobotTask(NamedTuple):
    """The physical parameters of an acrobot, float32 scalars in SI units.

    Attributes:
        length_1: Length of the upper link, m. Its centre of mass is half-way.
        length_2: Length of the lower link, m. Its centre of mass is half-way.
        mass_1: Mass of the upper link, kg.
        mass_2: Mass of the lower link, kg.
        inertia: Moment of inertia of each link about its centre of mass, kg m².
    """

    length_1: Any
    length_2: Any
    mass_1: Any
    mass_2: Any
    inertia: Any


STANDARD = AcrobotTask(length_1=1.0, length_2=1.0, mass_1=1.0, mass_2=1.0, inertia=1.0)
"""The parameters of Acrobot-v1."""


class AcrobotBody(NamedTuple):
    """Where an acrobot is and how it moves, float32 scalars.

    Attributes:
        angle_1: Of the upper link from hanging down, rad, in [-π, π).
        angle_2: Of the lower link from the upper one, rad, in [-π, π).
        velocity_1: rad/s.
        velocity_2: rad/s.
    """

    angle_1: Array
    angle_2: Array
    velocity_1: Array
    velocity_2: Array


def start(key: Array) -> AcrobotBody:
    """Draws an acrobot that hangs down nearly still."""
    return AcrobotBody(*jax.random.uniform(key, (4,), jnp.float32, -_START, _START))


def advance(body: AcrobotBody, action: Array, task: AcrobotTask) -> AcrobotBody:
    """Returns the acrobot after a torque of -1 (0), 0 (1) or 1 N m (2)."""
    torque = (action - 1).astype(jnp.float32)
    now, half = jnp.stack(body), TIME_STEP / 2.0
    k1 = _rates(now, torque, task)
    k2 = _rates(now + half * k1, torque, task)
    k3 = _rates(now + half * k2, torque, task)
    k4 = _rates(now + TIME_STEP * k3, torque, task)
    moved = AcrobotBody(*(now + TIME_STEP / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)))
    fastest_1, fastest_2 = MAX_SPEEDS
    return AcrobotBody(
        _wrap(moved.angle_1),
        _wrap(moved.angle_2),
        jnp.clip(moved.velocity_1, -fastest_1, fastest_1),
        jnp.clip(moved.velocity_2, -fastest_2, fastest_2),
    )


def _rates(x: Array, torque: Array, task: AcrobotTask) -> Array:
    """Returns how fast ``x``, the angles and velocities of a body, changes, ``[4]``."""
    angle_1, angle_2, velocity_1, velocity_2 = x
    m1, m2, l1, i1, i2 = task.mass_1, task.mass_2, task.length_1, task.inertia, task.inertia
    lc1, lc2 = task.length_1 / 2, task.length_2 / 2
    d1 = m1 * lc1**2 + m2 * (l1**2 + lc2**2 + 2 * l1 * lc2 * jnp.cos(angle_2)) + i1 + i2
    d2 = m2 * (lc2**2 + l1 * lc2 * jnp.cos(angle_2)) + i2
    phi2 = m2 * lc2 * GRAVITY * jnp.cos(angle_1 + angle_2 - math.pi / 2.0)
    phi1 = (
        -m2 * l1 * lc2 * velocity_2**2 * jnp.sin(angle_2)
        - 2 * m2 * l1 * lc2 * velocity_2 * velocity_1 * jnp.sin(angle_2)
        + (m1 * lc1 + m2 * l1) * GRAVITY * jnp.cos(angle_1 - math.pi / 2)
        + phi2
    )
    acceleration_2 = (
        torque + d2 / d1 * phi1 - m2 * l1 * lc2 * velocity_1**2 * jnp.sin(angle_2) - phi2
    ) / (m2 * lc2**2 + i2 - d2**2 / d1)
    acceleration_1 = -(d2 * acceleration_2 + phi1) / d1
    return jnp.stack([velocity_1, velocity_2, acceleration_1, acceleration_2])


def _wrap(angle: Array) -> Array:
    """Returns the angle in [-π, π), unchanged where it lies there already."""
    turn = 2 * math.pi
    up = jnp.where(angle < -math.pi, jnp.ceil((-math.pi - angle) / turn), 0.0)
    down = jnp.where(angle >= math.pi, jnp.floor((angle - math.pi) / turn + 1), 0.0)
    return angle - down * turn + up * turn


def observe(body: AcrobotBody) -> Array:
    """Returns cosine and sine of either angle, and both velocities."""
    angles = [f(x) for x in body[:2] for f in (jnp.cos, jnp.sin)]
    return jnp.stack([*angles, *body[2:]])


def body_of(obs: Array) -> AcrobotBody:
    """Returns the acrobot of which this is seen."""
    cosine_1, sine_1, cosine_2, sine_2, velocity_1, velocity_2 = obs
    angle_1, angle_2 = jnp.arctan2(sine_1, cosine_1), jnp.arctan2(sine_2, cosine_2)
    return AcrobotBody(angle_1, angle_2, velocity_1, velocity_2)


def is_up(body: AcrobotBody) -> Array:
    """Whether the sum of the two links' heights, each in lengths of its own, is above 1."""
    return -jnp.cos(body.angle_1) - jnp.cos(body.angle_2 + body.angle_1) > 1.0


def _outcome(before: AcrobotBody, action: Array, after: AcrobotBody) -> tuple[Array, Array]:
    del before, action
    up = is_up(after)
    return up.astype(jnp.float32) - 1.0, up


SYSTEM = System(start, advance, observe, body_of, _outcome)
"""Every step costs 1 but the last: an episode ends where `is_up`."""
