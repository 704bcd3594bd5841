"""What is believed of an unknown tabular process, and how to plan for it.

Planning is backward induction over the steps of an episode: for one process
(`optimal_q`), or for the best one within confidence bounds (`optimistic_q`).

Axes: H steps, S states, A actions.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.contracts import Trajectory
from jaxmeta_envs.random.sampling import sample_dirichlet

# Of the value of the next state; an accelerator's usual products are too coarse to compare actions.
_expected = functools.partial(jnp.einsum, "sat,t->sa", precision="highest")


def optimal_q(
    reward_mean: Array, transition: Array, horizon: int, value_bonus: Array | float = 0.0
) -> Array:
    r"""Solves a known process by backward induction.

    .. math:: Q_h(s, a) = \mu_{sa} + (H - 1 - h) b_{sa}
        + \sum_{s'} P(s' \mid s, a) \max_{a'} Q_{h+1}(s', a'), \quad Q_{H} = 0.

    Args:
        reward_mean: μ, ``[S, A]``.
        transition: P, ``[S, A, S]``.
        horizon: H, number of steps.
        value_bonus: b, ``[S, A]``: paid for every step that is left after this one.

    Returns:
        ``[H, S, A]``; row h holds the values with H − h steps to go.
    """

    def backup(value: Array, steps_left: Array) -> tuple[Array, Array]:
        q = reward_mean + steps_left * value_bonus + _expected(transition, value)
        return q.max(axis=-1), q

    start = jnp.zeros(reward_mean.shape[0], reward_mean.dtype)
    steps_left = jnp.arange(horizon, dtype=reward_mean.dtype)[::-1]
    return jax.lax.scan(backup, start, steps_left, reverse=True)[1]


def optimistic_q(reward_mean: Array, transition: Array, width: Array, horizon: int) -> Array:
    r"""Solves the most rewarding of the processes near a known one.

    Extended value iteration: like `optimal_q` with b = 0, but every expectation is over

    .. math:: \arg\max \{ \sum_{s'} p(s') V_{h+1}(s') :
        \lVert p - P(\cdot \mid s, a) \rVert_1 \le w_{sa} \},

    which moves up to w/2 of probability to the best next state, from the worst ones.

    Args:
        reward_mean: μ, ``[S, A]``, bonuses included.
        transition: P, ``[S, A, S]``.
        width: w, ``[S, A]``.
        horizon: H, number of steps.

    Returns:
        ``[H, S, A]``.

    Reference:
        Jaksch, Ortner and Auer (2010), "Near-optimal regret bounds for reinforcement
        learning", figure 2; here for a finite horizon.
    """

    def backup(value: Array, _: None) -> tuple[Array, Array]:
        best_first = jnp.argsort(-value)
        sorted_p = transition[..., best_first]
        raised = sorted_p.at[..., 0].add(width / 2)
        # What exceeds 1 in total is cut off at the end, where the worst states are.
        total = jnp.minimum(jnp.cumsum(raised, axis=-1), 1.0)
        p = jnp.diff(total, axis=-1, prepend=0.0)
        q = reward_mean + _expected(p, value[best_first])
        return q.max(axis=-1), q

    start = jnp.zeros(reward_mean.shape[0], reward_mean.dtype)
    return jax.lax.scan(backup, start, None, length=horizon, reverse=True)[1]


class Posterior(NamedTuple):
    """Sufficient statistics of what was seen of a process.

    Attributes:
        visits: How often each action was rewarded in each state, ``[S, A]``.
        reward_sum: Sum of those rewards, ``[S, A]``.
        transitions: Counts of next states, ``[S, A, S]``.
    """

    visits: Array
    reward_sum: Array
    transitions: Array


def nothing_seen(num_states: int, num_actions: int) -> Posterior:
    """Returns the statistics before the first episode."""
    shape = (num_states, num_actions)
    zero = jnp.zeros(shape, jnp.float32)
    return Posterior(zero, zero, jnp.zeros((*shape, num_states), jnp.float32))


def observe(posterior: Posterior, episodes: Trajectory, count_last: bool = False) -> Posterior:
    """Adds episodes to the statistics.

    Args:
        posterior: What was known.
        episodes: Leaves ``[N, T, ...]``.
        count_last: Whether the transition of an episode's last step is counted.
    """
    state = episodes.inputs.obs.reshape(-1)
    action = episodes.action.reshape(-1)
    played = episodes.mask.reshape(-1).astype(jnp.float32)
    reward = episodes.reward.reshape(-1)
    ended = (episodes.terminated | episodes.truncated).reshape(-1)
    moved = played if count_last else jnp.where(ended, 0.0, played)
    return Posterior(
        visits=posterior.visits.at[state, action].add(played),
        reward_sum=posterior.reward_sum.at[state, action].add(played * reward),
        transitions=posterior.transitions.at[state, action, episodes.next_obs.reshape(-1)].add(
            moved
        ),
    )


class Prior(NamedTuple):
    """A conjugate prior over processes; all leaves are scalars.

    Attributes:
        reward_mean: Mean of the expected rewards.
        reward_precision: Inverse variance of the expected rewards.
        noise_precision: Inverse variance of a reward around its expectation, known.
        dirichlet: Concentration of the transition probabilities.
    """

    reward_mean: Array
    reward_precision: Array
    noise_precision: Array
    dirichlet: Array


def reward_moments(prior: Prior, posterior: Posterior) -> tuple[Array, Array]:
    """Returns mean and standard deviation of the expected rewards, both ``[S, A]``."""
    precision = prior.reward_precision + posterior.visits * prior.noise_precision
    weighted = prior.reward_precision * prior.reward_mean
    weighted += posterior.reward_sum * prior.noise_precision
    return weighted / precision, precision**-0.5


def transition_mean(prior: Prior, posterior: Posterior) -> Array:
    """Returns the expected transition probabilities, ``[S, A, S]``."""
    counts = prior.dirichlet + posterior.transitions
    return counts / counts.sum(-1, keepdims=True)


def sample_process(key: Array, prior: Prior, posterior: Posterior) -> tuple[Array, Array]:
    """Draws expected rewards ``[S, A]`` and transition probabilities ``[S, A, S]``."""
    reward_key, transition_key = jax.random.split(key)
    loc, scale = reward_moments(prior, posterior)
    reward = loc + scale * jax.random.normal(reward_key, loc.shape, loc.dtype)
    return reward, sample_dirichlet(transition_key, prior.dirichlet + posterior.transitions)
