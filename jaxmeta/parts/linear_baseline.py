"""A value estimate that is linear in hand-made features, fitted anew on every batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta import parallel
from jaxmeta.ops.linear import solve_positive
from jaxmeta.parts.baseline import Actor, Baseline, Estimate
from jaxmeta.parts.episodes import returns_to_go, seen_by_baseline
from jaxmeta_envs.core.contracts import TaskFamily, Trajectory
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields

_LARGEST = 10.0  # an outlier among the observations would decide on the whole fit
_TIME_UNIT = 100.0  # steps
_FOLDS = 4
_RIDGES = 5
_TOLERANCE = 1.5  # what a third as many features as steps would cost by itself


@dataclass(frozen=True)
class LinearBaseline(Baseline):
    """Least squares on features of the observation o and the step t of the episode.

    ``V(o, t) = w · [o, o², t, t², t³, 1]`` with o clipped to ±10 and t in units of 100
    steps. The weights minimise, over the played steps of all trajectories, the mean of
    ``(V - R)²`` plus ``λ Σ (wᵢ sᵢ)²`` with sᵢ the root mean square of feature i, R
    being the discounted return to the end of the episode. A return that is cut by the clock
    ends there: V falls to 0 with the time that is left.

    A learner subtracts V from the very returns that it was fitted to. With many features and
    few steps V would be these returns, and nothing would be left to learn from. So λ of the
    features of o is chosen by what is left out: it is ``ridge`` if the squared error on
    held-out trajectories then is at most half above the least, and else the best of five values
    up to ``highest_ridge``, at which V is a curve over time. With few features it is ``ridge``.
    Where it is not ``ridge``, `fitted_values` says of each step what the fit to the others says.
    Whole trajectories are left out, a quarter at a time: the steps of one are alike, and those
    that stay would tell about those that go.

    Attributes:
        ridge: λ, unless more is needed; that of the features of t in any case.
        highest_ridge: The largest λ there is; with that of ``ridge`` nothing is chosen.

    Reference: Duan et al. 2016, arXiv 1604.06778.
    Differs from the paper: regularisation relative to the size of each feature, and chosen.
    """

    ridge: float = 1e-5
    highest_ridge: float = 10.0

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.ridge > 0, "ridge", self.ridge, "above 0")
        highest, text = self.highest_ridge, f"at least {self.ridge}, the ridge"
        require(highest >= self.ridge, "highest_ridge", highest, text)

    @property
    def bootstraps(self) -> bool:
        """False: it ends at a time limit, too."""
        return False

    def init(self, obs_size: int) -> Array:
        """Returns the first weights, ``[2 obs_size + 4]``, of a value that is 0."""
        return jnp.zeros(2 * obs_size + _OF_TIME, jnp.float32)

    def estimate(self, actor: Actor, learned: Array, steps: Trajectory, output: Array) -> Estimate:
        del output
        value = self.value(learned, *seen_by_baseline(actor.family, actor.params, steps.inputs))
        return Estimate(value, jnp.zeros(len(value), jnp.float32))

    def fitted(self, actor: Actor, steps: Trajectory, discount: Array | float) -> Estimate:
        to_go = returns_to_go(steps.reward, steps.mask, discount)
        obs, time = seen_by_baseline(actor.family, actor.params, steps.inputs)
        rows, length = time.shape
        value = self.fitted_values(
            obs.reshape(-1, obs.shape[-1]),
            time.ravel(),
            to_go.ravel(),
            steps.mask.ravel(),
            groups=jnp.repeat(jnp.arange(rows), length) if rows > 1 else None,
        )
        return Estimate(value.reshape(time.shape), jnp.zeros(rows, jnp.float32))

    def refit(
        self,
        family: TaskFamily,
        params: Any,
        learned: Any,
        steps: Trajectory,
        tasks: Array,
        discount: Array | float,
    ) -> Array:
        del learned
        to_go = jax.vmap(lambda s: returns_to_go(s.reward, s.mask, discount))(steps)
        obs, time = jax.vmap(lambda seen: seen_by_baseline(family, params, seen))(steps.inputs)
        return self.fit(
            obs.reshape(-1, obs.shape[-1]),
            time.reshape(-1),
            to_go.reshape(-1),
            steps.mask.reshape(-1),
            total=parallel.sum_over_devices,
            groups=jnp.repeat(tasks, steps.mask[0].size),
        )

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
        groups: Array | None = None,
    ) -> Array:
        """Returns weights fitted to these steps.

        Args:
            obs: ``[n, obs_size]``.
            time: ``[n]``.
            returns: Discounted return from each step on, ``[n]``.
            mask: Whether it was played, ``[n]``.
            total: Adds up sums over all steps: `parallel.sum_over_devices` if other devices
                have steps of the same baseline.
            groups: Numbers from 0 on; steps of one are left out together, ``[n]`` int32. None:
                each step is by itself.
        """
        return self._fit(obs, time, returns, mask, total, groups)[0]

    def fitted_values(
        self,
        obs: Array,
        time: Array,
        returns: Array,
        mask: Array,
        total: Callable[[Any], Any] = lambda sums: sums,
        groups: Array | None = None,
    ) -> Array:
        """Returns values ``[n]`` of the steps that it is fitted to; arguments as of `fit`."""
        weights, of_others, within, many = self._fit(obs, time, returns, mask, total, groups)
        apart = jnp.sum(jnp.where(within, self.value(of_others.T, obs, time), 0.0), axis=1)
        return jnp.where(many, apart, self.value(weights, obs, time))

    def _fit(
        self,
        obs: Array,
        time: Array,
        returns: Array,
        mask: Array,
        total: Callable[[Any], Any],
        groups: Array | None,
    ) -> tuple[Array, Array, Array, Array]:
        """Fits; F folds, d features.

        Returns:
            Weights ``[d]``; weights fitted to all but a fold ``[F, d]``; which fold a step is
            in ``[n, F]``; whether there were too many features for ``ridge``.
        """
        chex.assert_rank([obs, time, returns, mask], [2, 1, 1, 1])
        features = jnp.where(mask[:, None], _features(obs, time), 0.0)
        returns = jnp.where(mask, returns, 0.0)
        fold = (jnp.arange(len(mask)) if groups is None else groups) % _FOLDS
        within = (fold[:, None] == jnp.arange(_FOLDS)[None]) & mask[:, None]
        # First the sizes: sums of products of features that differ by orders of magnitude
        # would lose the small ones in float32.
        counts, squares = total(
            (jnp.sum(within, axis=0, dtype=jnp.float32), jnp.sum(features**2, axis=0))
        )
        size = jnp.sqrt(jnp.maximum(squares / jnp.sum(counts), 1e-12))
        features = features / size[None]

        def products(within: Array) -> tuple[Array, Array]:
            own = jnp.where(within[:, None], features, 0.0)
            return _product(own.T, features), _product(own.T, returns)

        of_folds = _Sums(counts, *total(jax.vmap(products, 1)(within)))
        of_all = jax.tree.map(lambda x: jnp.sum(x, axis=0), of_folds)
        others = jax.tree.map(lambda x, fold: x[None] - fold, of_all, of_folds)

        def leave_out(ridge: Array) -> tuple[Array, Array]:
            weights = jax.vmap(lambda sums: self._solve(sums, ridge))(others)
            off = returns[:, None] - _product(features, weights.T)
            return jnp.sum(jnp.where(within, off**2, 0.0)), weights

        chooses = self.highest_ridge > self.ridge
        ridges = np.geomspace(self.ridge, self.highest_ridge, _RIDGES if chooses else 1)
        ridges = jnp.asarray(ridges, jnp.float32)
        errors, of_others = jax.lax.map(leave_out, ridges)
        errors = total(errors)
        enough = errors[0] <= _TOLERANCE * jnp.min(errors)
        chosen = jnp.where(enough, 0, jnp.argmin(errors))
        weights = self._solve(of_all, ridges[chosen])
        return weights / size, of_others[chosen] / size[None], within, chosen > 0

    def _solve(self, sums: _Sums, ridge: Array) -> Array:
        """Returns the weights of scaled features, ``[d]``."""
        count, size = jnp.maximum(sums.count, 1.0), len(sums.moment)
        seen = jnp.arange(size) < size - _OF_TIME
        penalty = jnp.diag(jnp.where(seen, ridge, self.ridge))
        return solve_positive(sums.gram / count + penalty, sums.moment / count)


class _Sums(NamedTuple):
    """Over steps: their number, and products of their features with each other and returns."""

    count: Array
    gram: Array
    moment: Array


# Normal equations square what rounding does, and an accelerator's usual products round to 8 or 11
# bits of mantissa.
_product = functools.partial(jnp.matmul, precision="highest")


_OF_TIME = 4  # features, the last


def _features(obs: Array, time: Array) -> Array:
    """``[..., obs_size], [...] -> [..., 2 obs_size + 4]``."""
    obs = jnp.clip(obs.astype(jnp.float32), -_LARGEST, _LARGEST)
    time = (time / _TIME_UNIT)[..., None]
    ones = jnp.ones_like(time)
    return jnp.concatenate([obs, obs**2, time, time**2, time**3, ones], axis=-1)
