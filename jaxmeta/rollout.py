"""Rollouts of one task: an episode, and a trial of episodes.

Everything here is un-batched; callers ``vmap`` over tasks and seeds. Observations and actions
have 32 bits even where JAX may use 64 and a family or a policy does.

Axes: E episodes, T steps of an episode, K steps of adaptation, N episodes per step of adaptation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.ops.trees import narrow, select
from jaxmeta_envs.base import (
    AdaptivePolicy,
    PolicyInput,
    TaskFamily,
    Trajectory,
    no_adaptation,
)

Act = Callable[[Any, Any, PolicyInput, Array], tuple[Array, Any, Any]]
"""``(params, carry, input, key) -> (action, carry, extras)``; extras are stored per step."""

Adapt = Callable[[Any, Any, Trajectory, Array], Any]


class Trial(NamedTuple):
    """What playing a trial returns.

    Attributes:
        trajectory: Leaves ``[E, T, ...]``.
        extras: What ``act`` returned besides action and carry, leaves ``[E, T, ...]``.
        carry: The policy's carry after the last episode.
        final: What the policy would see if the last episode went on: the final
            observation with the last action and reward, both flags False.
    """

    trajectory: Trajectory
    extras: Any
    carry: Any
    final: PolicyInput


class _Previous(NamedTuple):
    """What crosses an episode boundary besides the policy's carry."""

    action: Array
    reward: Array
    done: Array


def _nothing_before(family: TaskFamily) -> _Previous:
    return _Previous(family.action_space.zero(), jnp.float32(0.0), jnp.asarray(False))


def _play_episode(
    family: TaskFamily,
    act: Act,
    params: Any,
    carry: Any,
    previous: _Previous,
    task: Any,
    key: Array,
) -> tuple[Any, PolicyInput, Trajectory, Any]:
    """Plays one episode of ``family.horizon`` rows, the tail masked if it ends early.

    Returns:
        The carry, the input after the last played step, the trajectory ``[T, ...]`` and the
        extras ``[T, ...]``.
    """
    reset_key, steps_key = jax.random.split(key)
    state, obs = family.reset(reset_key, task)
    inputs = PolicyInput(
        obs=narrow(obs),
        prev_action=previous.action,
        prev_reward=previous.reward,
        prev_done=previous.done,
        episode_start=jnp.asarray(True),
    )

    def step(loop: tuple, key: Array) -> tuple[tuple, tuple[Trajectory, Any]]:
        state, carry, inputs, alive = loop
        act_key, env_key = jax.random.split(key)
        action, new_carry, extras = act(params, carry, inputs, act_key)
        action = narrow(action)
        new_state, timestep = family.step(env_key, state, action, task)
        next_obs = narrow(timestep.obs)
        reward = jnp.where(alive, timestep.reward, 0).astype(jnp.float32)
        done = timestep.terminated | timestep.truncated
        row = Trajectory(
            inputs=inputs,
            action=action,
            reward=reward,
            terminated=timestep.terminated & alive,
            truncated=timestep.truncated & alive,
            next_obs=next_obs,
            mask=alive,
        )
        new_inputs = PolicyInput(next_obs, action, reward, done, jnp.asarray(False))
        new = select(alive, (new_state, new_carry, new_inputs), (state, carry, inputs))
        return (*new, alive & ~done), (row, extras)

    start = (state, carry, inputs, jnp.asarray(True))
    keys = jax.random.split(steps_key, family.horizon)
    (_, carry, inputs, _), (trajectory, extras) = jax.lax.scan(step, start, keys)
    return carry, inputs, trajectory, extras


def play_trial(
    family: TaskFamily,
    act: Act,
    params: Any,
    carry: Any,
    task: Any,
    key: Array,
    num_episodes: int,
    adapt: Adapt = no_adaptation,
) -> Trial:
    """Plays ``num_episodes`` episodes of one task, the policy's carry kept across them.

    Args:
        family: The task family.
        act: How to act, see `Act`.
        params: Handed to ``act`` and ``adapt``.
        carry: The policy's carry at trial start.
        task: The task.
        key: Typed PRNG key.
        num_episodes: E.
        adapt: Called after every episode with its trajectory, leaves ``[1, T, ...]``.
    """

    def episode(loop: tuple, key: Array) -> tuple[tuple, tuple[Trajectory, Any, Array]]:
        carry, previous = loop
        play_key, adapt_key = jax.random.split(key)
        carry, last, trajectory, extras = _play_episode(
            family, act, params, carry, previous, task, play_key
        )
        carry = adapt(params, carry, jax.tree.map(lambda x: x[None], trajectory), adapt_key)
        previous = _Previous(last.prev_action, last.prev_reward, jnp.asarray(True))
        return (carry, previous), (trajectory, extras, last.obs)

    keys = jax.random.split(key, num_episodes)
    (carry, previous), (trajectory, extras, last_obs) = jax.lax.scan(
        episode, (carry, _nothing_before(family)), keys
    )
    final = PolicyInput(
        obs=jax.tree.map(lambda x: x[-1], last_obs),
        prev_action=previous.action,
        prev_reward=previous.reward,
        prev_done=jnp.asarray(False),
        episode_start=jnp.asarray(False),
    )
    return Trial(trajectory, extras, carry, final)


def play_adaptation(
    family: TaskFamily,
    policy: AdaptivePolicy,
    params: Any,
    task: Any,
    key: Array,
    num_steps: int,
) -> Trajectory:
    """Lets an adaptive policy meet a task for ``num_steps`` steps of adaptation.

    Returns:
        Leaves ``[K, N, T, ...]`` with N the policy's ``episodes_per_adapt``; row k was
        played after k steps of adaptation.
    """

    def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any, tuple]:
        return (*policy.act(params, carry, inputs, key), ())

    begin_key, key = jax.random.split(key)
    carry = policy.begin(params, begin_key)
    if policy.episodes_per_adapt == 1:
        trial = play_trial(family, act, params, carry, task, key, num_steps, policy.adapt)
        return jax.tree.map(lambda x: x[:, None], trial.trajectory)

    def one_step(carry: Any, key: Array) -> tuple[Any, Trajectory]:
        play_key, adapt_key = jax.random.split(key)

        def play(key: Array) -> Trajectory:
            previous = _nothing_before(family)
            return _play_episode(family, act, params, carry, previous, task, key)[2]

        episodes = jax.vmap(play)(jax.random.split(play_key, policy.episodes_per_adapt))
        return policy.adapt(params, carry, episodes, adapt_key), episodes

    return jax.lax.scan(one_step, carry, jax.random.split(key, num_steps))[1]
