"""Losses and targets of learners that replay what they have stored; un-batched over steps.

With critics ``Q_1 … Q_C``, their slowly moving copies ``Q'``, a policy π, its temperature α and
the entropy 𝓗 it is to keep, of a stored step ``(s, a, r, s')`` and actions drawn anew::

    y         = k r + γ (1 - terminated) (min_i Q'_i(s', a') - α log π(a' | s'))
    critics   : Σ_i ½ (Q_i(s, a) - y)²
    policy    : α log π(a" | s) - min_i Q_i(s, a")
    log α     : -log α · (log π(a" | s) + 𝓗)

A clock that ends an episode is not the end of what can be earned: only ``terminated`` stops the
sum. Axes: C critics.

Reference: Haarnoja et al. 2018, arXiv 1812.05905.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.ops.trees import add_scaled
from jaxmeta_envs.core.contracts import TaskFamily, Trajectory

Tree = TypeVar("Tree")


class Experience(NamedTuple):
    """What is stored of a step.

    Attributes:
        obs: Observation before it.
        action: What was done, in the units of the action space.
        reward: What it paid, float32.
        terminated: Whether it ended the decision process; False where the clock did.
        next_obs: Observation after it.
    """

    obs: Any
    action: Array
    reward: Array
    terminated: Array
    next_obs: Any

    @classmethod
    def of(cls, steps: Trajectory) -> Experience:
        """Returns what is stored of played steps."""
        obs, action = steps.inputs.obs, steps.action
        return cls(obs, action, steps.reward, steps.terminated, steps.next_obs)

    @classmethod
    def example(cls, family: TaskFamily) -> Experience:
        """Returns one of the right shapes, which nobody experienced."""
        obs = family.observation_space.zero()
        return cls(obs, family.action_space.zero(), jnp.float32(0), jnp.asarray(False), obs)


def soft_target(
    reward: Array,
    terminated: Array,
    next_q: Array,
    next_log_prob: Array,
    alpha: Array | float,
    discount: Array | float,
) -> Array:
    """Returns y, what a critic is to say of a step.

    Args:
        reward: k r.
        terminated: Whether the decision process ended here.
        next_q: Q' of the next observation and an action drawn there, ``[C]``.
        next_log_prob: Log-probability of that action.
        alpha: α; 0 for a learner without entropy in its returns.
        discount: γ.
    """
    beyond = jnp.min(next_q) - alpha * next_log_prob
    return jax.lax.stop_gradient(reward + discount * (1.0 - terminated) * beyond)


def critic_loss(q: Array, target: Array) -> Array:
    """Returns half the squared errors of all critics ``[C]``, added up."""
    return 0.5 * jnp.sum((q - target) ** 2)


def policy_loss(q: Array, log_prob: Array, alpha: Array | float) -> Array:
    """Returns how far the policy is from ``exp(Q / α)``, up to a constant.

    Args:
        q: Of an action that depends on the policy's parameters, ``[C]``.
        log_prob: Its log-probability, which depends on them too.
        alpha: α.
    """
    return jax.lax.stop_gradient(alpha) * log_prob - jnp.min(q)


def temperature_loss(log_alpha: Array, log_prob: Array, target_entropy: float) -> Array:
    """Returns what raises α where the entropy is below its target, and else lowers it."""
    return -log_alpha * jax.lax.stop_gradient(log_prob + target_entropy)


def follow(target: Tree, online: Tree, tau: float) -> Tree:
    """Returns the moving copy ``(1 - tau) target + tau online`` (Polyak averaging)."""
    difference = jax.tree.map(lambda a, b: a - b, online, target)
    return add_scaled(target, tau, difference)
