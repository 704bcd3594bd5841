"""The equations of the cart-pole: those of Gymnasium's CartPole-v1, with Euler's method."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.classic.family import System

TIME_STEP = 0.02
"""Seconds between two actions."""

MAX_POSITION = 2.4
"""Farther from the middle than this, in m, an episode ends."""

MAX_ANGLE = 12 * 2 * math.pi / 360
"""Farther from upright than this, in rad, an episode ends."""

_START = 0.05  # largest size of each part of the first state


class CartPoleTask(NamedTuple):
    """The physical parameters of a cart-pole, float32 scalars in SI units.

    Attributes:
        gravity: Acceleration of gravity, m/s².
        cart_mass: kg.
        pole_mass: kg.
        half_length: Half the length of the pole, m.
        force: Size of a push, N.
    """

    gravity: Any
    cart_mass: Any
    pole_mass: Any
    half_length: Any
    force: Any


STANDARD = CartPoleTask(gravity=9.8, cart_mass=1.0, pole_mass=0.1, half_length=0.5, force=10.0)
"""The parameters of CartPole-v1."""


class CartPoleBody(NamedTuple):
    """Where a cart-pole is and how it moves, float32 scalars.

    Attributes:
        position: Of the cart, m.
        velocity: Of the cart, m/s.
        angle: Of the pole from upright, rad.
        angular_velocity: rad/s.
    """

    position: Array
    velocity: Array
    angle: Array
    angular_velocity: Array


def start(key: Array) -> CartPoleBody:
    """Draws a cart-pole that stands nearly still in the middle, nearly upright."""
    return CartPoleBody(*jax.random.uniform(key, (4,), jnp.float32, -_START, _START))


def advance(body: CartPoleBody, action: Array, task: CartPoleTask) -> CartPoleBody:
    """Returns the cart-pole after a push to the left (0) or to the right (1)."""
    position, velocity, angle, angular_velocity = body
    total_mass = task.cart_mass + task.pole_mass
    moment = task.pole_mass * task.half_length
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    push = task.force * action - task.force * (1 - action)
    without_pole = (push + moment * angular_velocity**2 * sine) / total_mass
    angular_acceleration = (task.gravity * sine - cosine * without_pole) / (
        task.half_length * (4.0 / 3.0 - task.pole_mass * cosine**2 / total_mass)
    )
    acceleration = without_pole - moment * angular_acceleration * cosine / total_mass
    return CartPoleBody(
        position + TIME_STEP * velocity,
        velocity + TIME_STEP * acceleration,
        angle + TIME_STEP * angular_velocity,
        angular_velocity + TIME_STEP * angular_acceleration,
    )


def body_of(obs: Array) -> CartPoleBody:
    """Returns the cart-pole of which this is seen."""
    return CartPoleBody(*obs)


def has_failed(body: CartPoleBody) -> Array:
    """Whether the pole leans or the cart is away too far."""
    return (jnp.abs(body.position) > MAX_POSITION) | (jnp.abs(body.angle) > MAX_ANGLE)


def _outcome(before: CartPoleBody, action: Array, after: CartPoleBody) -> tuple[Array, Array]:
    del before, action
    return jnp.ones((), jnp.float32), has_failed(after)


SYSTEM = System(start, advance, jnp.stack, body_of, _outcome)
"""Every step pays 1, and what `has_failed` ends."""
