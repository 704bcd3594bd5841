"""Linear controllers of the cart-pole, to compare with."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.classic.cartpole_physics import TIME_STEP, CartPoleTask
from jaxmeta_envs.classic.controllers import linear_regulator

# Costs of position and angle squared, per squared push of the full force. An angle near its
# limit is then as costly as a position half-way to its own.
_POSITION_COST, _ANGLE_COST, _PUSH_COST = 1.0, 10.0, 1.0


def linearize(task: CartPoleTask) -> tuple[Array, Array]:
    """Returns how the upright cart-pole moves, to first order.

    Args:
        task: The physical parameters.

    Returns:
        ``(A, b)``, ``[4, 4]`` and ``[4]``, of ``x' = A x + b u`` with x the observation and
        u in [-1, 1] the push as a fraction of the task's force.
    """
    total = task.cart_mass + task.pole_mass
    inertia = task.half_length * (4.0 / 3.0 - task.pole_mass / total)
    # Accelerations of the angle and of the cart, per radian and per unit of push.
    angle_by_angle = task.gravity / inertia
    angle_by_push = -task.force / (total * inertia)
    coupling = task.pole_mass * task.half_length / total
    cart_by_angle = -coupling * angle_by_angle
    cart_by_push = task.force / total - coupling * angle_by_push
    rate = jnp.zeros((4, 4), jnp.float32).at[0, 1].set(1.0).at[2, 3].set(1.0)
    rate = rate.at[1, 2].set(cart_by_angle).at[3, 2].set(angle_by_angle)
    push = jnp.zeros(4, jnp.float32).at[1].set(cart_by_push).at[3].set(angle_by_push)
    return jnp.eye(4, dtype=jnp.float32) + TIME_STEP * rate, TIME_STEP * push


def regulator_gain(task: CartPoleTask) -> Array:
    """Returns the gain k, ``[4]``, of the linear-quadratic regulator ``u = -k x``."""
    costs = jnp.diag(jnp.asarray([_POSITION_COST, 0.0, _ANGLE_COST, 0.0], jnp.float32))
    return linear_regulator(*linearize(task), costs, _PUSH_COST).gain


def push_side(gain: Array, obs: Array) -> Array:
    """Returns the push, with full force, to the side that the regulator asks for."""
    return (gain @ obs < 0).astype(jnp.int32)
