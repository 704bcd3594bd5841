"""Two arms of which one tells about the other.

Axes: i points of the prior, s evidence.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.bandits import references as rules
from jaxmeta_envs.bandits.independent import BernoulliBandit, BernoulliBanditTask
from jaxmeta_envs.bandits.pulls import OnePullFamily
from jaxmeta_envs.bandits.solvers import is_solvable, solve_bernoulli_bandit
from jaxmeta_envs.core import drawings
from jaxmeta_envs.core.contracts import (
    AdaptivePolicy,
    PolicyInput,
    Reference,
    Trajectory,
    random_reference,
)
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields, check_least
from jaxmeta_envs.core.spaces import Discrete

VARIANTS = ("uniform", "easy", "medium", "hard", "independent")
"""Distributions of the two arms' probabilities; all but the last have p₂ = 1 - p₁."""

_WORSE_ARM = {"easy": 0.1, "medium": 0.25, "hard": 0.4}


@dataclass(frozen=True)
class CorrelatedBandit(OnePullFamily[BernoulliBanditTask]):
    r"""Two arms that pay 1 with probabilities p and 1 - p, so that each tells of the other.

    One pull is one episode. The distribution of p is the variant:

    ===========  =====================================
    uniform      p from U[0, 1]
    easy         p from {0.1, 0.9}, equally likely
    medium       p from {0.25, 0.75}, equally likely
    hard         p from {0.4, 0.6}, equally likely
    independent  both arms from U[0, 1], independently
    ===========  =====================================

    With dependent arms a reward of one is as good as a failure of the other, so that every
    pull teaches the same and nothing is to be explored: with :math:`s_t` the pulls so far
    that spoke for the first arm, the Bayes-optimal policy pulls it if :math:`s_t > t / 2`,
    whichever the variant, and its expected reward is

    .. math:: E[r_t] = \sum_s \max\Big(\sum_i w_i\, p_i\, P(s_t = s \mid p_i),\;
        \sum_i w_i\, (1 - p_i)\, P(s_t = s \mid p_i)\Big).

    Over 100 pulls that is 73.78 on "uniform" (told p: 75), 89.37 (90) on "easy", 74.00 (75)
    on "medium" and 57.69 (60) on "hard"; the difference is the least cumulative regret. For
    two points q and 1 - q it tends to ``1 / (2 |2q - 1|)`` as the trial gets longer.

    Splits: ``train`` and ``test`` draw from the family's own variant, which has two tasks and
    no more if it is "easy", "medium" or "hard"; every variant's name draws from that variant,
    so that an agent trained on one is tested on all.

    Attributes:
        num_pulls: Pulls in a trial.
        variant: One of `VARIANTS`.

    Reference:
        Wang et al. (2016), "Learning to reinforcement learn", section 3.1.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", *VARIANTS)

    num_pulls: int = 100
    variant: str = "uniform"

    def __post_init__(self) -> None:
        check_fields(self)
        check_least(self, num_pulls=1)
        require(
            self.variant in VARIANTS,
            "CorrelatedBandit.variant",
            self.variant,
            f"one of {', '.join(VARIANTS)}",
        )

    @property
    def disjoint_splits(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True for the variants with a continuum of tasks, not for those with two."""
        return self.variant not in _WORSE_ARM

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    @property
    def default_episodes(self) -> int:
        return self.num_pulls

    def sample_task(self, key: Array, split: str = "train") -> BernoulliBanditTask:
        self.check_split(split)
        variant = split if split in VARIANTS else self.variant
        if variant == "independent":
            return BernoulliBanditTask(jax.random.uniform(key, (2,), jnp.float32))
        p = jax.random.uniform(key, (), jnp.float32)
        if variant != "uniform":
            worse = _WORSE_ARM[variant]
            p = jnp.where(p < 0.5, worse, 1.0 - worse)
        return BernoulliBanditTask(jnp.stack([p, 1.0 - p]).astype(jnp.float32))

    def pull(self, key: Array, arm: Array, task: BernoulliBanditTask) -> Array:
        return jax.random.bernoulli(key, task.probs[arm]).astype(jnp.float32)

    def draw(self, axes: Any, task: BernoulliBanditTask, played: Trajectory, until: int) -> None:
        if self.variant == "independent":
            return BernoulliBandit(2, self.num_pulls).draw(axes, task, played, until)
        p, weights = _prior(self.variant, len(played.action))
        for_first = (played.reward[:, 0] > 0.5) == (played.action[:, 0] == 0)
        spoke_for = (np.cumsum(for_first) - for_first)[:, None]
        against = np.arange(len(for_first))[:, None] - spoke_for
        joint = weights * p**spoke_for * (1.0 - p) ** against
        first = joint @ p / joint.sum(axis=1)
        belief = np.stack([first, 1.0 - first], axis=1)
        return drawings.pulls(axes, played, until, np.asarray(task.probs), belief)

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns random, oracle, ucb1, thompson, gittins and bayes-optimal.

        ucb1, thompson and gittins are those of `BernoulliBandit`: they believe that the
        arms are independent, and show what knowing better is worth. bayes-optimal believes
        in the family's variant; for "independent" it is there where it can be solved.
        """
        require(num_episodes >= 1, "num_episodes", num_episodes, "an integer of at least 1")
        independent = BernoulliBandit(2, self.num_pulls)
        references = {
            "random": random_reference(self.action_space),
            "oracle": rules.oracle(independent),
            "ucb1": rules.ucb1(independent),
            "thompson": rules.thompson(independent),
            "gittins": rules.gittins(independent, num_episodes),
        }
        if self.variant != "independent":
            # What they believe in is not the prior of these tasks, on any split.
            references = {n: r._replace(knows_prior=False) for n, r in references.items()}
            references["bayes-optimal"] = Reference(_MAJORITY, knows_prior=True)
        elif is_solvable(2, num_episodes):
            references["bayes-optimal"] = rules.bayes_optimal(independent, num_episodes)
        return references

    def optimal_returns(self, num_episodes: int) -> np.ndarray | None:
        """Expected reward of each pull under the Bayes-optimal policy on ``train``.

        Args:
            num_episodes: Pulls in the trial.

        Returns:
            float64 ``[num_episodes]``, read-only; None for the variant "independent" where
            it is too large to solve, beyond 50 pulls.
        """
        require(num_episodes >= 1, "num_episodes", num_episodes, "an integer of at least 1")
        if self.variant != "independent":
            return _dependent_rewards(self.variant, num_episodes)
        if not is_solvable(2, num_episodes):
            return None
        return solve_bernoulli_bandit(2, num_episodes).rewards


@functools.lru_cache(maxsize=32)
def _dependent_rewards(variant: str, num_pulls: int) -> np.ndarray:
    """Expected reward of each optimal pull of dependent arms, float64 ``[num_pulls]``."""
    return _majority_rewards(*_prior(variant, num_pulls), num_pulls)


@functools.lru_cache(maxsize=32)
def majority_rewards(points: tuple[float, ...], num_pulls: int) -> np.ndarray:
    """Expected reward of each optimal choice between two that pay with chances p and 1 - p.

    Args:
        points: Values of p, equally likely.
        num_pulls: Number of choices.

    Returns:
        float64 ``[num_pulls]``, read-only.
    """
    p = np.asarray(points)
    return _majority_rewards(p, np.full(len(p), 1.0 / len(p)), num_pulls)


def _majority_rewards(p: np.ndarray, weights: np.ndarray, num_pulls: int) -> np.ndarray:
    joint = weights[:, None]  # P(p_i, s_t = s), [i, s]
    rewards = np.empty(num_pulls)
    for t in range(num_pulls):
        rewards[t] = np.maximum(p @ joint, (1.0 - p) @ joint).sum()
        against = np.pad((1.0 - p)[:, None] * joint, ((0, 0), (0, 1)))
        joint = against + np.pad(p[:, None] * joint, ((0, 0), (1, 0)))
    rewards.setflags(write=False)
    return rewards


def _prior(variant: str, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns points p and weights that give expectations of polynomials up to a degree."""
    if variant == "uniform":
        nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
        return 0.5 + 0.5 * nodes, 0.5 * weights
    worse = _WORSE_ARM[variant]
    return np.array([worse, 1.0 - worse]), np.array([0.5, 0.5])


def _begin(params: Any, key: Array) -> Array:
    """Returns the lead of the first arm, int32: pulls that spoke for it less the others."""
    del params, key
    return jnp.zeros((), jnp.int32)


def _act_by_majority(
    params: Any, lead: Array, inputs: PolicyInput, key: Array
) -> tuple[Array, Array]:
    del params, inputs
    coin = jax.random.bernoulli(key)
    return jnp.where(lead == 0, coin, lead < 0).astype(jnp.int32), lead


def _count(params: Any, lead: Array, episodes: Trajectory, key: Array) -> Array:
    del params, key
    paid = episodes.reward > 0.5
    for_first = paid == (episodes.action == 0)
    spoke = jnp.where(episodes.mask, jnp.where(for_first, 1, -1), 0)
    return lead + jnp.sum(spoke, dtype=jnp.int32)


_MAJORITY = AdaptivePolicy(_begin, _act_by_majority, _count)
"""The arm that most pulls spoke for, either where they are even."""
