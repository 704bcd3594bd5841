"""Ways of following a payout probability that drifts.

With two arms that pay with probabilities p and 1 - p, every pull says the same about p: a
reward of one arm is a failure of the other. So there is nothing to explore, and to pull
whichever arm is expected to pay more is optimal for an agent that predicts p by Bayes' rule.

Axes: V volatilities, G cells of a grid over p, T pulls.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, Reference

if TYPE_CHECKING:
    from jaxmeta_envs.bandits.restless import RestlessTask


def reflect(x: Array) -> Array:
    """Folds the real line into [0, 1], as reflections at 0 and 1 would, elementwise."""
    return jnp.abs(x - 2.0 * jnp.round(0.5 * x))


def spoke_for_first(inputs: PolicyInput) -> Array:
    """Whether the last pull was a reward of the first arm or a failure of the second."""
    return (inputs.prev_reward > 0.5) == (inputs.prev_action == 0)


def _pull_likelier(p: Array, key: Array) -> Array:
    """Pulls the first arm if ``p > 1/2``, the second if ``p < 1/2``, either if equal."""
    coin = jax.random.bernoulli(key)
    # Sums of probabilities that are equal in theory differ by rounding.
    even = jnp.abs(p - 0.5) < 1e-6
    return jnp.where(even, coin, p < 0.5).astype(jnp.int32)


class _Told(NamedTuple):
    """The walk ``[T]`` and the pulls made of it."""

    probs: Array
    time: Array


def _begin_told(params: tuple[Any, RestlessTask], key: Array) -> _Told:
    del key
    return _Told(params[1].probs, jnp.zeros((), jnp.int32))


def _act_told(params: Any, carry: _Told, inputs: PolicyInput, key: Array) -> tuple[Array, _Told]:
    del params
    time = jnp.where(inputs.episode_start, 0, carry.time)
    return _pull_likelier(carry.probs[time], key), carry._replace(time=time + 1)


_ORACLE = AdaptivePolicy(_begin_told, _act_told)


def oracle() -> Reference:
    """The better arm of every pull, told the walk: 3/4 per pull, since p stays uniform."""
    return Reference(_ORACLE, told_task=True)


def _begin_even(params: Any, key: Array) -> Array:
    del params, key
    return jnp.full((), 0.5, jnp.float32)


def _act_by_delta(params: Array, p: Array, inputs: PolicyInput, key: Array) -> tuple[Array, Array]:
    moved = p + params * (spoke_for_first(inputs) - p)
    p = jnp.where(inputs.episode_start, 0.5, moved)
    return _pull_likelier(p, key), p


_DELTA_RULE = AdaptivePolicy(_begin_even, _act_by_delta)


def delta_rule(rate: float | Array = 0.2) -> Reference:
    """Moves its estimate of p towards every outcome by one fixed learning rate.

    What is lost by not adapting the rate to the volatility.

    Args:
        rate: Learning rate in (0, 1]. The default does best of {0.1, 0.15, 0.2, 0.25, 0.3} on
            training tasks of the default family.

    Reference:
        Rescorla and Wagner (1972), "A theory of Pavlovian conditioning".
    """
    return Reference(_DELTA_RULE, jnp.asarray(rate, jnp.float32))


class FilterGrid(NamedTuple):
    """What the filter looks up.

    Attributes:
        p: Middle of every cell, float32 ``[G]``.
        transition: Probability of every cell after a step from another one, for every
            volatility, float32 ``[V, G, G]``.
    """

    p: Array
    transition: Array


@functools.lru_cache(maxsize=32)
def walk_transition(volatility: float, num_cells: int) -> np.ndarray:
    """Probabilities of one reflected step between the cells of a grid over [0, 1].

    The density of a step between the middles of two cells, summed over mirror images and
    normalised. For cells no wider than the volatility that is as good as exact, since the
    midpoint rule converges faster than any power for Gaussians.

    Args:
        volatility: Standard deviation of a step.
        num_cells: G.

    Returns:
        float64 ``[G, G]``, rows from, columns to, read-only.
    """
    p = (np.arange(num_cells) + 0.5) / num_cells
    copies = 2.0 * np.arange(-math.ceil(4.0 * volatility) - 1, math.ceil(4.0 * volatility) + 2)
    images = np.concatenate([copies + p[:, None], copies - p[:, None]], axis=1)
    distance = (images[None] - p[:, None, None]) / volatility  # from, to, image
    density = np.exp(-0.5 * distance**2).sum(axis=-1)
    density /= density.sum(axis=1, keepdims=True)
    density.setflags(write=False)
    return density


def _begin_filter(params: FilterGrid, key: Array) -> Array:
    """Returns the belief, probabilities ``[V, G]``: uniform."""
    del key
    return jnp.full(params.transition.shape[:2], 1.0 / params.transition[:, :, 0].size, jnp.float32)


def _act_by_filter(
    params: FilterGrid, belief: Array, inputs: PolicyInput, key: Array
) -> tuple[Array, Array]:
    likelihood = jnp.where(spoke_for_first(inputs), params.p, 1.0 - params.p)
    seen = belief * likelihood[None]
    moved = jnp.einsum("vg,vgh->vh", seen / seen.sum(), params.transition)
    start = jnp.full_like(belief, 1.0 / belief.size)
    belief = jnp.where(inputs.episode_start, start, moved)
    return _pull_likelier(jnp.sum(belief * params.p[None]), key), belief


_FILTER = AdaptivePolicy(_begin_filter, _act_by_filter)


def bayes_filter(*volatilities: float, num_cells: int | None = None) -> Reference:
    r"""The arm that pays more under the exact posterior of p and of the volatility.

    With :math:`b_t(\sigma, p)` the belief before pull t and :math:`y_t` the arm that the
    pull spoke for,

    .. math:: b_{t+1}(\sigma, p') \propto
        \sum_p b_t(\sigma, p)\, P(y_t \mid p)\, K_\sigma(p' \mid p).

    Since every pull says the same about p (see the module), this is Bayes-optimal for one
    episode, up to the grid.

    Args:
        *volatilities: The volatilities it believes in, equally likely.
        num_cells: G; by default at least 100, and at least two within the smallest
            volatility.
    """
    cells = num_cells or max(100, math.ceil(2.0 / min(volatilities)))
    p = (np.arange(cells) + 0.5) / cells
    table = np.stack([walk_transition(volatility, cells) for volatility in volatilities])
    grid = FilterGrid(jnp.asarray(p, jnp.float32), jnp.asarray(table, jnp.float32))
    return Reference(_FILTER, grid, knows_prior=True)
