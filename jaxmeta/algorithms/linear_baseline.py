"""A value estimate that is linear in hand-made features, fitted anew on every batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import chex
import jax.numpy as jnp
from jax import Array

from jaxmeta.ops.linear import solve_positive
from jaxmeta_envs.errors import require

_LARGEST = 10.0  # an outlier among the observations would decide on the whole fit
_TIME_UNIT = 100.0  # steps


@dataclass(frozen=True)
class LinearBaseline:
    """Least squares on features of the observation o and the step t of the episode.

    ``V(o, t) = w · [o, o², t, t², t³, 1]`` with o clipped to ±10 and t in units of 100
    steps. The weights minimise, over the played steps of all trajectories, the mean of
    ``(V - R)²`` plus ``ridge Σ (wᵢ sᵢ)²`` with sᵢ the root mean square of feature i, R
    being the discounted return to the end of the episode. A return that is cut by the clock
    ends there: V falls to 0 with the time that is left.

    Attributes:
        ridge: Regularisation.

    Reference: Duan et al. 2016, arXiv 1604.06778.
    Differs from the paper: regularisation relative to the size of each feature.
    """

    ridge: float = 1e-5

    def __post_init__(self) -> None:
        require(self.ridge > 0, "ridge", self.ridge, "above 0")

    def init(self, obs_size: int) -> Array:
        """Returns the first weights, ``[2 obs_size + 4]``, of a value that is 0."""
        return jnp.zeros(2 * obs_size + 4, jnp.float32)

    def value(self, weights: Array, obs: Array, time: Array) -> Array:
        """Returns values ``[...]`` of observations ``[..., obs_size]`` at steps ``[...]``."""
        return _product(_features(obs, time), weights)

    def fit(
        self,
        obs: Array,
        time: Array,
        returns: Array,
        mask: Array,
        total: Callable[[Any], Any] = lambda sums: sums,
    ) -> Array:
        """Returns weights fitted to these steps.

        Args:
            obs: ``[n, obs_size]``.
            time: ``[n]``.
            returns: Discounted return from each step on, ``[n]``.
            mask: Whether it was played, ``[n]``.
            total: Adds up sums over all steps: `parallel.sum_over_devices` if other devices
                have steps of the same baseline.
        """
        chex.assert_rank([obs, time, returns, mask], [2, 1, 1, 1])
        features = jnp.where(mask[:, None], _features(obs, time), 0.0)
        returns = jnp.where(mask, returns, 0.0)
        # First the sizes: sums of products of features that differ by orders of magnitude
        # would lose the small ones in float32.
        count, squares = total((jnp.sum(mask, dtype=jnp.float32), jnp.sum(features**2, axis=0)))
        size = jnp.sqrt(jnp.maximum(squares / count, 1e-12))
        features = features / size[None]
        gram, moment = total((_product(features.T, features), _product(features.T, returns)))
        ridge = self.ridge * jnp.eye(len(size), dtype=size.dtype)
        return solve_positive(gram / count + ridge, moment / count) / size


# Normal equations square what rounding does, and an accelerator's usual products round to 8 or 11
# bits of mantissa.
_product = functools.partial(jnp.matmul, precision="highest")


def _features(obs: Array, time: Array) -> Array:
    """``[..., obs_size], [...] -> [..., 2 obs_size + 4]``."""
    obs = jnp.clip(obs.astype(jnp.float32), -_LARGEST, _LARGEST)
    time = (time / _TIME_UNIT)[..., None]
    ones = jnp.ones_like(time)
    return jnp.concatenate([obs, obs**2, time, time**2, time**3, ones], axis=-1)
