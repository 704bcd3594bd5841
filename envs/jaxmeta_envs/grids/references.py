"""Policies to compare with on grids with a hidden goal: told, sampling, optimal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, Reference, Trajectory
from jaxmeta_envs.grids.solver import goal_cells

if TYPE_CHECKING:
    from jaxmeta_envs.grids.gridworld import GridNavigation

_NOOP, _UP, _RIGHT, _DOWN, _LEFT = range(5)


def _towards(size: int, cell: Array, target: Array) -> Array:
    """Returns the action of a shortest path from ``cell`` to ``target``: x first, then y."""
    dx = target % size - cell % size
    dy = target // size - cell // size
    vertical = jnp.where(dy > 0, _UP, jnp.where(dy < 0, _DOWN, _NOOP))
    return jnp.where(dx > 0, _RIGHT, jnp.where(dx < 0, _LEFT, vertical)).astype(jnp.int32)


def oracle(family: GridNavigation) -> Reference:
    """Returns the policy that is told the goal, walks there and stays."""

    def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any]:
        del key
        _, task = params
        return _towards(family.size, inputs.obs, task.goal), carry

    policy = AdaptivePolicy(begin=lambda params, key: (), act=act)
    return Reference(policy, told_task=True)


def _goal_seen(family: GridNavigation, episodes: Trajectory) -> tuple[Array, Array]:
    """Returns whether the goal was reached in these episodes, and its cell if so."""
    if family.goal_ends_episode:
        hit = episodes.terminated
    else:
        hit = _is_goal_reward(family, episodes.reward)
    hit = (hit & episodes.mask).reshape(-1)
    return hit.any(), episodes.next_obs.reshape(-1)[jnp.argmax(hit)]


def _is_goal_reward(family: GridNavigation, reward: Array) -> Array:
    return reward > (family.goal_reward + family.step_reward) / 2


class _Belief(NamedTuple):
    """Carry of posterior sampling: the cells still possible, and where it is going."""

    possible: Array  # bool [size**2]
    target: Array  # int32


def posterior_sampling(family: GridNavigation) -> Reference:
    """Returns the policy that acts, for one episode at a time, on a goal that it sampled.

    The posterior is uniform over the goals that were not visited yet, or is certain of the
    one that was found. A goal is drawn from it at the start of each episode; the episode
    is spent on the way there and then on that cell, whatever turns up. So it looks at
    nothing more once the sampled goal proves to be empty, and it even walks over the true
    goal on its way, to come back in the next episode.

    Reference:
        Osband et al. (2013), "(More) efficient reinforcement learning via posterior
        sampling".
    """
    possible = np.zeros(family.size**2, bool)
    possible[goal_cells(family.size)] = True

    def draw(possible: Array, key: Array) -> Array:
        logits = jnp.where(possible, 0.0, -jnp.inf)
        return jax.random.categorical(key, logits).astype(jnp.int32)

    def begin(params: Any, key: Array) -> _Belief:
        possible = jnp.asarray(params)
        return _Belief(possible, draw(possible, key))

    def act(params: Any, carry: _Belief, inputs: PolicyInput, key: Array) -> tuple[Array, _Belief]:
        del params, key
        return _towards(family.size, inputs.obs, carry.target), carry

    def adapt(params: Any, carry: _Belief, episodes: Trajectory, key: Array) -> _Belief:
        del params
        found, goal = _goal_seen(family, episodes)
        visited = jnp.zeros_like(carry.possible)
        visited = visited.at[episodes.next_obs.reshape(-1)].max(episodes.mask.reshape(-1))
        certain = jnp.arange(family.size**2) == goal
        possible = jnp.where(found, certain, carry.possible & ~visited)
        # Certainty outlives the visits that confirm it.
        possible = jnp.where(possible.any(), possible, carry.possible)
        return _Belief(possible, draw(possible, key))

    return Reference(AdaptivePolicy(begin, act, adapt), params=possible, knows_prior=True)


class _Progress(NamedTuple):
    """Carry of the Bayes-optimal policy: its place in the plan, the goal or -1."""

    episode: Array
    step: Array
    goal: Array


def bayes_optimal(family: GridNavigation, plan: np.ndarray) -> Reference:
    """Returns the policy that follows a plan until it meets the goal, then goes straight.

    Args:
        family: The task family.
        plan: Actions while the goal is unknown, int32 ``[E, T]``, as by `optimal_plan`. A
            longer trial repeats the last episode.
    """

    def begin(params: Any, key: Array) -> _Progress:
        del params, key
        zero = jnp.zeros((), jnp.int32)
        return _Progress(zero, zero, zero - 1)

    def act(
        params: Any, carry: _Progress, inputs: PolicyInput, key: Array
    ) -> tuple[Array, _Progress]:
        del key
        plan = jnp.asarray(params)
        goal = carry.goal
        if not family.goal_ends_episode:
            # At an episode's start the reward belongs to a cell that is out of sight; what
            # it says was noted by ``adapt``.
            met = _is_goal_reward(family, inputs.prev_reward) & ~inputs.episode_start
            goal = jnp.where(met, inputs.obs, goal)
        step = jnp.where(inputs.episode_start, 0, carry.step)
        explore = plan[jnp.minimum(carry.episode, plan.shape[0] - 1), step]
        action = jnp.where(goal < 0, explore, _towards(family.size, inputs.obs, goal))
        return action, _Progress(carry.episode, step + 1, goal)

    def adapt(params: Any, carry: _Progress, episodes: Trajectory, key: Array) -> _Progress:
        del params, key
        found, goal = _goal_seen(family, episodes)
        return carry._replace(episode=carry.episode + 1, goal=jnp.where(found, goal, carry.goal))

    return Reference(AdaptivePolicy(begin, act, adapt), params=plan, knows_prior=True)
