"""Advantages of independent episodes of one task. Axes: E episodes, T steps of an episode."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks import ActorCritic, input_moments, seen_observation
from jaxmeta.ops.returns import generalized_advantages
from jaxmeta_envs.core.contracts import PolicyInput, TaskFamily, Trajectory


def last_played(mask: Array) -> Array:
    """Whether a step is the last of its episode, ``[E, T]``."""
    after = jnp.concatenate([mask[:, 1:], jnp.zeros_like(mask[:, :1])], axis=1)
    return mask & ~after


def seen_by_baseline(family: TaskFamily, params: Any, inputs: PolicyInput) -> tuple[Array, Array]:
    """Returns observations ``[E, T, o]``, as the policy sees them, and times ``[E, T]``.

    Args:
        family: Says what an observation is.
        params: Of the policy; may have moments, see `InputMoments`.
        inputs: ``[E, T]``.
    """
    moments = input_moments(params).obs

    def see(obs: Array) -> Array:
        return seen_observation(family.observation_space, obs, moments)

    obs = jax.vmap(jax.vmap(see))(inputs.obs)
    time = jnp.arange(obs.shape[1], dtype=jnp.float32)
    return obs, jnp.broadcast_to(time[None], obs.shape[:2])


def returns_to_go(reward: Array, mask: Array, discount: Array | float) -> Array:
    """Returns the discounted return from each step to the end of its episode, ``[E, T]``."""

    def one(reward: Array, mask: Array, end: Array) -> Array:
        zero = jnp.zeros_like(reward)
        constant = discount * jnp.ones_like(reward)
        return generalized_advantages(reward, zero, constant, end, zero, mask, 1.0)

    return jax.vmap(one)(reward, mask, last_played(mask))


def values_beyond(network: ActorCritic, params: Any, steps: Trajectory) -> Array:
    """Returns the value of the observation after each episode's last step, ``[E]``.

    Args:
        network: A network without memory.
        params: Its parameters.
        steps: Leaves ``[E, T, ...]``.
    """
    rows = jnp.arange(steps.mask.shape[0])
    last = jnp.argmax(last_played(steps.mask), axis=1)
    inputs = jax.tree.map(lambda x: x[rows, last], steps.inputs)
    final = inputs._replace(obs=jax.tree.map(lambda x: x[rows, last], steps.next_obs))
    return jax.vmap(lambda x: network.step(params, (), x)[1].value)(final)


def episode_advantages(
    steps: Trajectory, value: Array, beyond: Array, discount: Array | float, lambda_: float
) -> Array:
    """Generalized advantages of every episode by itself, ``[E, T]``.

    Args:
        steps: Leaves ``[E, T, ...]``.
        value: Value estimates of the steps, ``[E, T]``.
        beyond: Value after each episode's last step, ``[E]``; read where the clock ended it.
        discount: γ.
        lambda_: λ.
    """

    def one(steps: Trajectory, value: Array, beyond: Array, end: Array) -> Array:
        return generalized_advantages(
            reward=steps.reward,
            value=value,
            discount=discount * (1.0 - steps.terminated),
            end=end,
            bootstrap=jnp.broadcast_to(beyond, value.shape),
            mask=steps.mask,
            lambda_=lambda_,
        )

    return jax.vmap(one)(steps, value, beyond, last_played(steps.mask))
