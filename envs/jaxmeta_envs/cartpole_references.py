"""Linear controllers of the cart-pole, to compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.base import AdaptivePolicy, PolicyInput, Reference

if TYPE_CHECKING:
    from jaxmeta_envs.cartpole import CartPoleTask

TIME_STEP = 0.02
"""Seconds between two actions, as in gymnax."""

# Costs of position and angle squared, per squared push of the full force. An angle near its
# limit is then as costly as a position half-way to its own.
_POSITION_COST, _ANGLE_COST, _PUSH_COST = 1.0, 10.0, 1.0

# Each doubles the horizon of the regulator: 2**12 steps are 82 seconds.
_DOUBLINGS = 12


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
    rate = jnp.zeros((4, 4)).at[0, 1].set(1.0).at[2, 3].set(1.0)
    rate = rate.at[1, 2].set(cart_by_angle).at[3, 2].set(angle_by_angle)
    push = jnp.zeros(4).at[1].set(cart_by_push).at[3].set(angle_by_push)
    return jnp.eye(4) + TIME_STEP * rate, TIME_STEP * push


def regulator_gain(task: CartPoleTask) -> Array:
    r"""Returns the gain k, ``[4]``, of the linear-quadratic regulator ``u = -k x``.

    The discrete algebraic Riccati equation is solved by structure-preserving doubling,

    .. math:: W = (I + G H)^{-1}, \quad A' = A W A, \quad G' = G + A W G A^T, \quad
        H' = H + A^T H W A,

    whose H is the cost-to-go of :math:`2^n` steps after n iterations.

    Reference:
        Anderson (1978), "Second-order convergent algorithms for the steady-state Riccati
        equation".
    """
    transition, push = linearize(task)
    costs = jnp.diag(jnp.asarray([_POSITION_COST, 0.0, _ANGLE_COST, 0.0]))

    def double(_: int, matrices: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        a, g, h = matrices
        w = jnp.linalg.inv(jnp.eye(4) + g @ h)
        return a @ w @ a, g + a @ w @ g @ a.T, h + a.T @ h @ w @ a

    start = (transition, jnp.outer(push, push) / _PUSH_COST, costs)
    cost_to_go = jax.lax.fori_loop(0, _DOUBLINGS, double, start)[2]
    return push @ cost_to_go @ transition / (_PUSH_COST + push @ cost_to_go @ push)


def _controller(gain: Callable[[Any], Array]) -> AdaptivePolicy:
    """Pushes with full force to the side that the regulator asks for."""

    def act(params: Any, carry: Array, inputs: PolicyInput, key: Array) -> tuple[Array, Array]:
        del params, key
        return (carry @ inputs.obs < 0).astype(jnp.int32), carry

    return AdaptivePolicy(begin=lambda params, key: gain(params), act=act)


def oracle() -> Reference:
    """Returns the regulator of the task's own parameters, which it is told."""
    return Reference(_controller(lambda params: regulator_gain(params[1])), told_task=True)


def fixed_controller(task: CartPoleTask) -> Reference:
    """Returns the regulator of one task, played on all: what is earned without adapting."""
    return Reference(_controller(regulator_gain), params=task)
