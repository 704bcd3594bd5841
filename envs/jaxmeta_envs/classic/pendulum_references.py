"""A controller of the pendulum, to compare with: swing up by energy, then balance."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.classic.controllers import linear_regulator
from jaxmeta_envs.classic.pendulum_physics import MAX_TORQUE, TIME_STEP, PendulumTask

# The regulator takes over near the top, where the torque that it asks for, which gets
# smaller as it goes on, is not far above what there is. Of 24 settings these were best.
_CATCH_ANGLE, _CATCH_TORQUE = 1.0, 3.0 * MAX_TORQUE

# Full torque until 1/50 of the energy (in units of m g l) is missing: a soft end of the
# swing-up creeps towards the top for longer than it takes to swing.
_ENERGY_GAIN = 50.0


class SwingUp(NamedTuple):
    """The settings of the controller for one pendulum.

    Attributes:
        task: Its physical parameters.
        gain: ``[2]``, torque per rad and per rad/s near the top.
    """

    task: Any
    gain: Array


def linearize(task: PendulumTask) -> tuple[Array, Array]:
    """Returns how the upright pendulum moves, to first order.

    Args:
        task: The physical parameters.

    Returns:
        ``(A, b)``, ``[2, 2]`` and ``[2]``, of ``x' = A x + b u`` with x angle and angular
        velocity and u the torque.
    """
    by_angle = TIME_STEP * 1.5 * task.gravity / task.length
    by_torque = TIME_STEP * 3.0 / (task.mass * task.length**2)
    # The angle moves with the new velocity.
    velocity = jnp.asarray([by_angle, 1.0], jnp.float32)
    transition = jnp.stack([jnp.asarray([1.0, 0.0], jnp.float32) + TIME_STEP * velocity, velocity])
    return transition, by_torque * jnp.asarray([TIME_STEP, 1.0], jnp.float32)


def design(task: PendulumTask) -> SwingUp:
    """Returns the controller for a task; the regulator's costs are those of the reward."""
    regulator = linear_regulator(
        *linearize(task), jnp.diag(jnp.asarray([1.0, 0.1], jnp.float32)), 0.001
    )
    return SwingUp(task, regulator.gain)


def swing_up(settings: SwingUp, obs: Array) -> Array:
    """Returns the torque, ``[1]``."""
    task, (cosine, sine, velocity) = settings.task, obs
    angle = jnp.arctan2(sine, cosine)
    balance = -settings.gain @ jnp.stack([angle, velocity])
    # 0 for the pendulum at rest at the top, in units of m g l.
    energy = velocity**2 * task.length / (6.0 * task.gravity) + (cosine - 1.0) / 2.0
    # Torque in the direction of motion adds energy. At rest either direction will do.
    forward = jnp.where(velocity >= 0, MAX_TORQUE, -MAX_TORQUE)
    pump = forward * jnp.clip(-_ENERGY_GAIN * energy, -1.0, 1.0)
    near = (jnp.abs(angle) < _CATCH_ANGLE) & (jnp.abs(balance) < _CATCH_TORQUE)
    return jnp.clip(jnp.where(near, balance, pump), -MAX_TORQUE, MAX_TORQUE)[None]
