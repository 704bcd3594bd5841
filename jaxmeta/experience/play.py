"""Rollouts of one task: an episode, and a trial of episodes.

Everything here is un-batched; callers ``vmap`` over tasks and seeds. Observations and actions
have 32 bits even where JAX may use 64 and a family or a policy does.

Axes: E episodes, T steps of an episode, K steps of adaptation, N episodes per step of adaptation,
X points of a curve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta import streams
from jaxmeta.ops.trees import narrow, select
from jaxmeta_envs.core.contracts import (
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

    Returns:
        What was played, leaves ``[E, T, ...]``; see `Trial`.
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
    met, keys = _begin(family, policy, params, key, num_steps)

    def step(met: _Met, key: Array) -> tuple[_Met, Trajectory]:
        return _meet(family, policy, params, task, met, key, policy.episodes_per_adapt)

    return jax.lax.scan(step, met, keys)[1]


def play_curve(
    family: TaskFamily,
    policy: AdaptivePolicy,
    params: Any,
    task: Any,
    key: Array,
    experience: tuple[int, ...],
    *,
    episodes: int = 1,
    deterministic: bool = False,
) -> Array:
    """Lets an adaptive policy meet a task; returns the points of its curve, ``[X]``.

    The last three arguments are those of a `jaxmeta.evaluation.protocol.Protocol`.
    Where every step of adaptation has a point, each is the mean return of the row that
    `play_adaptation` plays. Policies that adapt to fewer episodes at a time than lie between
    two points play those in between as well; at the points all policies meet the same luck.
    """
    steps = np.asarray(experience) // policy.episodes_per_adapt
    shown, which = np.unique(steps, return_inverse=True)
    met, keys = _begin(family, policy, params, key, len(shown))

    def measure(met: _Met, key: Array) -> tuple[_Met, Array]:
        met, played = _meet(family, policy, params, task, met, key, episodes, deterministic)
        return met, _mean_return(played)

    if len(shown) == shown[-1] + 1:
        return jax.lax.scan(measure, met, keys)[1][which]

    def pass_by(met: _Met, key: Array) -> tuple[_Met, Array]:
        met, played = _meet(family, policy, params, task, met, key, policy.episodes_per_adapt)
        return met, _mean_return(played)

    def step(met: _Met, row: tuple[Array, Array]) -> tuple[_Met, Array]:
        # The same for all tasks, hence a branch rather than both.
        return jax.lax.cond(row[0], measure, pass_by, met, row[1])

    is_point = np.isin(np.arange(shown[-1] + 1), shown)
    between = jax.random.split(jax.random.fold_in(key, streams.BETWEEN), len(is_point))
    order = np.where(is_point, np.cumsum(is_point) - 1, len(shown) + np.arange(len(is_point)))
    rows = (jnp.asarray(is_point), jnp.concatenate([keys, between])[order])
    return jax.lax.scan(step, met, rows)[1][shown[which]]


class _Met(NamedTuple):
    """What crosses from one step of adaptation to the next."""

    carry: Any
    previous: _Previous


def _begin(
    family: TaskFamily, policy: AdaptivePolicy, params: Any, key: Array, num_steps: int
) -> tuple[_Met, Array]:
    """Returns how a policy begins, and the keys of its steps of adaptation."""
    begin_key, key = jax.random.split(key)
    met = _Met(policy.begin(params, begin_key), _nothing_before(family))
    return met, jax.random.split(key, num_steps)


def _meet(
    family: TaskFamily,
    policy: AdaptivePolicy,
    params: Any,
    task: Any,
    met: _Met,
    key: Array,
    episodes: int,
    deterministic: bool = False,
) -> tuple[_Met, Trajectory]:
    """Plays a step of adaptation.

    Returns:
        What the policy goes on with, and ``episodes`` of them, leaves ``[N, T, ...]``, which
        start alike. It adapts to the first ones, or to others if these are by the mode.
    """
    play_key, adapt_key = jax.random.split(key)
    together = policy.episodes_per_adapt

    def play(chosen: Any, number: int) -> tuple[Any, PolicyInput, Trajectory]:
        def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple:
            return (*chosen(params, carry, inputs, key), ())

        def one(key: Array) -> tuple[Any, PolicyInput, Trajectory]:
            return _play_episode(family, act, params, met.carry, met.previous, task, key)[:3]

        if number == 1:
            return jax.tree.map(lambda x: x[None], one(play_key))
        return jax.vmap(one)(jax.random.split(play_key, number))

    played = learned = play(policy.act_mode if deterministic else policy.act, episodes)
    # The mode explores nothing, and the policy gradient of a normal is zero there.
    if deterministic and policy.adapt is not no_adaptation:
        learned = play(policy.act, together)
    if together == 1:
        carry, last = jax.tree.map(lambda x: x[0], learned[:2])
        previous = _Previous(last.prev_action, last.prev_reward, jnp.asarray(True))
        met = _Met(carry, previous)
    seen = jax.tree.map(lambda x: x[:together], learned[2])
    return met._replace(carry=policy.adapt(params, met.carry, seen, adapt_key)), played[2]


def _mean_return(played: Trajectory) -> Array:
    return played.reward.sum(axis=-1).mean()
