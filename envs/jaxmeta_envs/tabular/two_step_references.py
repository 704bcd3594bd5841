"""Policies for the two-step task: told, model-based and model-free.

All of them choose at the first stage only; at the second, where the action means nothing,
they play 0.

Reward probabilities of the two second-stage states are q and 1 - q, so that a reward in one
says what a failure in the other does: each round tells the same of which state is rich,
whichever action was chosen and wherever it led. There is nothing to explore, and to choose
the action that leads to the likelier state is Bayes-optimal.

Axes: R rounds.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, Reference

if TYPE_CHECKING:
    from jaxmeta_envs.tabular.two_step import TwoStepTask


def _begin_round(params: Any, key: Array) -> Array:
    """Returns the number of the round, int32."""
    del params, key
    return jnp.zeros((), jnp.int32)


def _act_told(
    params: tuple[Any, TwoStepTask], carry: Array, inputs: PolicyInput, key: Array
) -> tuple[Array, Array]:
    del key
    task = params[1]
    current = jnp.where(inputs.episode_start, 0, carry)
    rich = task.rich[current]
    action = jnp.where(task.common >= 0.5, rich, 1 - rich)
    at_first = inputs.obs == 0
    # The round is over with the step at the second stage.
    return jnp.where(at_first, action, 0), current + (~at_first).astype(jnp.int32)


_ORACLE = AdaptivePolicy(_begin_round, _act_told)


def oracle() -> Reference:
    """The action that commonly leads to the rich state, told the task."""
    return Reference(_ORACLE, told_task=True)


class _LastRound(NamedTuple):
    """What a policy keeps of a round until its reward is known.

    Attributes:
        belief: Probability that state 0 is rich, float32 scalar; before the last reward.
        choice: The first-stage action, int32 scalar.
        reached: The second-stage state, 0 or 1, int32 scalar.
    """

    belief: Array
    choice: Array
    reached: Array


def _begin_last_round(params: Any, key: Array) -> _LastRound:
    del params, key
    zero = jnp.zeros((), jnp.int32)
    return _LastRound(jnp.full((), 0.5, jnp.float32), zero, zero)


def _act_or_pass(
    inputs: PolicyInput, choice: Array, at_first: _LastRound, at_second: _LastRound
) -> tuple[Array, _LastRound]:
    """Chooses at the first stage; at the second notes the state, and plays 0."""
    first = inputs.obs == 0
    action = jnp.where(first, choice, 0).astype(jnp.int32)
    return action, jax.tree.map(lambda a, b: jnp.where(first, a, b), at_first, at_second)


def _act_by_filter(
    params: FilterNumbers, carry: _LastRound, inputs: PolicyInput, key: Array
) -> tuple[Array, _LastRound]:
    spoke_for_zero = (inputs.prev_reward > 0.5) == (carry.reached == 0)
    weight = jnp.where(spoke_for_zero, params.reward_prob, 1.0 - params.reward_prob)
    joint = carry.belief * weight
    seen = joint / (joint + (1.0 - carry.belief) * (1.0 - weight))
    moved = seen + params.switch_prob * (1.0 - 2.0 * seen)
    belief = jnp.where(inputs.episode_start, 0.5, moved)
    even = jnp.abs(belief - 0.5) < 1e-6
    choice = jnp.where(even, jax.random.bernoulli(key), belief < 0.5).astype(jnp.int32)
    at_first = carry._replace(belief=belief, choice=choice)
    return _act_or_pass(inputs, choice, at_first, carry._replace(reached=inputs.obs - 1))


class FilterNumbers(NamedTuple):
    """What the filter knows of the task; both float32 scalars.

    Attributes:
        reward_prob: Probability of reward in the rich state.
        switch_prob: Probability of a swap before a round.
    """

    reward_prob: Array
    switch_prob: Array


_FILTER = AdaptivePolicy(_begin_last_round, _act_by_filter)


def bayes_filter(reward_prob: float, switch_prob: float) -> Reference:
    r"""The action that commonly leads to the likelier state: model-based and Bayes-optimal.

    With b the probability that state 0 is rich, y the state that the round spoke for and h
    the probability of a swap,

    .. math:: b \leftarrow b\, P(y \mid 0) / (b\, P(y \mid 0) + (1 - b)\, P(y \mid 1)),
        \quad b \leftarrow (1 - h)\, b + h\, (1 - b).

    Args:
        reward_prob: Probability of reward in the rich state.
        switch_prob: h.
    """
    # Certainty, where one observation could be impossible, is kept off by a hair.
    reward_prob = min(reward_prob, 1.0 - 1e-6)
    numbers = (jnp.asarray(x, jnp.float32) for x in (reward_prob, switch_prob))
    return Reference(_FILTER, FilterNumbers(*numbers), knows_prior=True)


def _act_by_habit(
    params: Any, carry: _LastRound, inputs: PolicyInput, key: Array
) -> tuple[Array, _LastRound]:
    del params
    again = jnp.where(inputs.prev_reward > 0.5, carry.choice, 1 - carry.choice)
    any_action = jax.random.bernoulli(key).astype(jnp.int32)
    choice = jnp.where(inputs.episode_start, any_action, again)
    return _act_or_pass(inputs, choice, carry._replace(choice=choice), carry)


_HABIT = AdaptivePolicy(_begin_last_round, _act_by_habit)


def win_stay_lose_shift() -> Reference:
    """Repeats the first-stage action if it was rewarded, else takes the other one.

    Model-free at its simplest: it does not ask by which transition the reward came.
    """
    return Reference(_HABIT)


@functools.lru_cache(maxsize=32)
def optimal_value(
    num_rounds: int, common_prob: float, reward_prob: float, switch_prob: float
) -> float:
    r"""Expected return of the Bayes-optimal policy over one episode.

    The belief b is a Markov chain that no action moves, see the module; with
    :math:`b^y` the belief after a round that spoke for state y and a possible swap,

    .. math:: V_t(b) = r(\max(b, 1 - b)) + \sum_y P(y \mid b) V_{t+1}(b^y),
        \quad V_R = 0,

    where r(m) is the chance of a reward if the action leads commonly to a state that is
    rich with probability m. It is solved on a grid over b, between whose points V is
    interpolated; V is convex, so that this errs upwards, by less than 1e-6 per 100 rounds.

    Args:
        num_rounds: R.
        common_prob: Probability of a common transition.
        reward_prob: Probability of reward in the rich state.
        switch_prob: Probability of a swap before a round.
    """
    b = np.linspace(0.0, 1.0, 40_001)
    likelier = np.maximum(b, 1.0 - b)
    in_rich = common_prob * likelier + (1.0 - common_prob) * (1.0 - likelier)
    reward = reward_prob * in_rich + (1.0 - reward_prob) * (1.0 - in_rich)
    value = np.zeros_like(b)
    for _ in range(num_rounds):
        after = np.zeros_like(b)
        for weight in (reward_prob, 1.0 - reward_prob):
            chance = weight * b + (1.0 - weight) * (1.0 - b)
            seen = np.divide(weight * b, chance, out=b.copy(), where=chance > 0.0)
            after += chance * np.interp(seen + switch_prob * (1.0 - 2.0 * seen), b, value)
        value = reward + after
    return float(value[len(b) // 2])
