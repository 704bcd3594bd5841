"""Advantages and value targets along one trial."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import Array


def generalized_advantages(
    reward: Array,
    value: Array,
    discount: Array,
    end: Array,
    bootstrap: Array,
    mask: Array,
    lambda_: float | Array,
) -> Array:
    """Generalized advantage estimation over one sequence with gaps.

    With ``t'`` the next played step after ``t``::

        v'_t = bootstrap_t                    where the return ends at t
             = value_{t'}                     elsewhere
        δ_t  = reward_t + discount_t v'_t - value_t
        A_t  = δ_t + discount_t λ A_{t'}      (no second term where the return ends)

    Time limit and termination differ only in ``discount`` and ``bootstrap``: a step that
    terminates has discount 0; a step that was truncated keeps its discount and has the
    value of the final observation as bootstrap.

    Args:
        reward: ``[L]``.
        value: Value estimates of the steps' inputs, ``[L]``.
        discount: Discount from each step to the next, 0 where the process terminated, ``[L]``.
        end: Whether the return ends with the step, ``[L]`` bool.
        bootstrap: Value beyond the step, read only where ``end``, ``[L]``.
        mask: Whether the step was played, ``[L]`` bool; the others are skipped over.
        lambda_: Trace decay in [0, 1].

    Returns:
        Advantages ``[L]``, 0 where not played. ``advantage + value`` is the λ-return.

    Reference: Schulman et al. 2016, arXiv 1506.02438.
    """
    chex.assert_rank([reward, value, discount, end, bootstrap, mask], 1)
    chex.assert_equal_shape([reward, value, discount, end, bootstrap, mask])

    def step(after: tuple[Array, Array], row: tuple) -> tuple[tuple[Array, Array], Array]:
        next_advantage, next_value = after
        reward, value, discount, end, bootstrap, played = row
        beyond = jnp.where(end, bootstrap, next_value)
        trace = jnp.where(end, 0.0, discount * lambda_ * next_advantage)
        advantage = reward + discount * beyond - value + trace
        after = (
            jnp.where(played, advantage, next_advantage),
            jnp.where(played, value, next_value),
        )
        return after, jnp.where(played, advantage, 0.0)

    rows = (reward, value, discount, end, bootstrap, mask)
    zero = jnp.zeros((), value.dtype)
    return jax.lax.scan(step, (zero, zero), rows, reverse=True)[1]
