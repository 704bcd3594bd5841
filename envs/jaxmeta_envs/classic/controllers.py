"""Classical controllers as reference policies, and the linear-quadratic regulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, Reference, random_reference
from jaxmeta_envs.core.spaces import Space

# Each doubles the horizon of the regulator: 2**12 steps are minutes in every system here.
_DOUBLINGS = 12


class Regulator(NamedTuple):
    """The linear-quadratic regulator of a system with one input.

    Attributes:
        gain: k, ``[N]``, of the input ``u = -k x``.
        cost_to_go: P, ``[N, N]``: from x on, costs of ``x P x`` remain.
    """

    gain: Array
    cost_to_go: Array


def linear_regulator(transition: Array, push: Array, costs: Array, push_cost: float) -> Regulator:
    r"""Returns the best way to bring ``x' = A x + b u`` to rest.

    The discrete algebraic Riccati equation is solved by structure-preserving doubling,

    .. math:: W = (I + G H)^{-1}, \quad A' = A W A, \quad G' = G + A W G A^T, \quad
        H' = H + A^T H W A,

    whose H is the cost-to-go of :math:`2^n` steps after n iterations.

    Args:
        transition: A, ``[N, N]``.
        push: b, ``[N]``.
        costs: Of the state, ``[N, N]``: every step costs ``x costs x``.
        push_cost: Of the input squared.

    Reference:
        Anderson (1978), "Second-order convergent algorithms for the steady-state Riccati
        equation".
    """
    identity = jnp.eye(push.size, dtype=push.dtype)

    def double(_: int, matrices: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        a, g, h = matrices
        w = jnp.linalg.inv(identity + g @ h)
        return a @ w @ a, g + a @ w @ g @ a.T, h + a.T @ h @ w @ a

    start = (transition, jnp.outer(push, push) / push_cost, costs)
    with jax.default_matmul_precision("highest"):  # an accelerator's usual products are too coarse
        cost_to_go = jax.lax.fori_loop(0, _DOUBLINGS, double, start)[2]
        gain = push @ cost_to_go @ transition / (push_cost + push @ cost_to_go @ push)
    return Regulator(gain, cost_to_go)


def control_references(
    action_space: Space,
    design: Callable[[Any], Any],
    control: Callable[[Any, Array], Array],
    standard: Any,
) -> Mapping[str, Reference]:
    """Returns "random", "oracle" and "fixed".

    Args:
        action_space: Where "random" draws from.
        design: Makes the settings of the controller for a task, once per trial.
        control: ``(settings, obs) -> action``.
        standard: The task for which "fixed" is designed, whatever the task: what it earns is
            earned without adapting. The oracle is designed for the task itself.
    """

    def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any]:
        del params, key
        return control(carry, inputs.obs), carry

    told = AdaptivePolicy(begin=lambda params, key: design(params[1]), act=act)
    untold = AdaptivePolicy(begin=lambda params, key: design(params), act=act)
    return {
        "random": random_reference(action_space),
        "oracle": Reference(told, told_task=True),
        "fixed": Reference(untold, params=standard),
    }
