"""A controller of the mountain car, to compare with: rock with as little throttle as will do."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.classic.mountain_car_physics import FLAG, MAX_SPEED, MountainCarTask

# Height of the flag above the bottom of the valley, over gravity: the slope is cos(3 x).
_RISE = (math.sin(3 * FLAG) + 1.0) / 3.0

# Acceleration by the engine per speed. The swing grows by half of it per step: from the
# start to the flag in about 550 steps of 999.
_GROWTH = 0.008

# Throttle at next to no speed. Without it a car that starts at rest at the bottom stays there.
_LEAST_THROTTLE = 0.05

# What must be left of the highest speed for the swing to do without the engine's full help.
_SPEED_RESERVE = 0.98


class Rocking(NamedTuple):
    """The settings of the controller for one car.

    Attributes:
        gain: Throttle per speed.
        steep: Whether not even the highest speed takes the car from the bottom to the flag,
            so that the engine must help all it can.
    """

    gain: Array
    steep: Array


def design(task: MountainCarTask) -> Rocking:
    """Returns the controller for a task.

    Of all ways to raise the energy by a given amount, throttle in proportion to the speed
    costs least; and the slower the swing grows, the less.
    """
    speed_needed = jnp.sqrt(2.0 * _RISE * task.gravity)
    return Rocking(_GROWTH / task.power, speed_needed > _SPEED_RESERVE * MAX_SPEED)


def rock(settings: Rocking, obs: Array) -> Array:
    """Returns the throttle, ``[1]``, always in the direction of motion."""
    speed = jnp.abs(obs[1])
    throttle = jnp.minimum(_LEAST_THROTTLE + settings.gain * speed, 1.0)
    throttle = jnp.where(settings.steep, 1.0, throttle)
    return jnp.where(obs[1] >= 0, throttle, -throttle)[None]
