"""Multi-armed bandits: the smallest meta-RL tasks, with exactly known optima.

The reward probabilities (or means) of the arms are the task. One pull is one episode of
one step, as in the RL² paper: a trial of n episodes is n pulls of the same arms, and all
there is to learn is when to explore and when to exploit.

Reference: Duan et al., "RL²: Fast Reinforcement Learning via Slow Reinforcement
Learning", 2016, section 3.1.

Axes: k arms.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import xlog1py, xlogy

from jaxmeta_envs.bandits import references as rules
from jaxmeta_envs.bandits.candidates import bandit_candidates
from jaxmeta_envs.bandits.pulls import OnePullFamily
from jaxmeta_envs.bandits.references import ArmStatistics
from jaxmeta_envs.bandits.solvers import (
    bernoulli_gittins_table,
    gaussian_gittins_table,
    is_solvable,
    solve_bernoulli_bandit,
)
from jaxmeta_envs.core import drawings
from jaxmeta_envs.core.contracts import Candidates, Reference, Task, Trajectory, random_reference
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields, check_least
from jaxmeta_envs.core.spaces import Discrete
from jaxmeta_envs.random.sampling import sample_beta


@dataclass(frozen=True)
class Bandit(OnePullFamily[Task]):
    """What bandits with independent arms share; use `BernoulliBandit` or `GaussianBandit`.

    The methods named after the posterior are the conjugate Bayesian update under the
    *training* distribution; on shifted splits the reference policies keep believing in it,
    as an agent trained there would.

    Attributes:
        num_arms: Arms, k.
        num_pulls: Pulls in a trial of the published protocol.
    """

    num_arms: int = 5
    num_pulls: int = 10

    def __post_init__(self) -> None:
        check_fields(self)
        check_least(self, num_arms=1, num_pulls=1)

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.num_arms)

    @property
    def default_episodes(self) -> int:
        return self.num_pulls

    def pull(self, key: Array, arm: Array, task: Task) -> Array:
        return self.sample_reward(key, self.arm_means(task)[arm])

    def candidates(self, num_episodes: int) -> Mapping[str, Candidates]:
        """Returns the classical algorithms; see `jaxmeta_envs.bandits.candidates`."""
        require(num_episodes >= 1, "num_episodes", num_episodes, "an integer of at least 1")
        return bandit_candidates(self, num_episodes)

    def draw(self, axes: Any, task: Task, played: Trajectory, until: int) -> None:
        pulled = jax.nn.one_hot(jnp.asarray(played.action[:, 0]), self.num_arms)
        paid = pulled * played.reward
        before = ArmStatistics(*(jnp.cumsum(x, axis=0) - x for x in (pulled, paid)))
        belief = np.asarray(jax.vmap(self.posterior_mean)(before))
        drawings.pulls(axes, played, until, np.asarray(self.arm_means(task)), belief)

    @abc.abstractmethod
    def arm_means(self, task: Task) -> Array:
        """Returns the expected reward of every arm, ``[k]``."""

    @abc.abstractmethod
    def sample_reward(self, key: Array, mean: Array) -> Array:
        """Draws the reward of an arm with this mean, float32, shaped like ``mean``."""

    @abc.abstractmethod
    def posterior_mean(self, statistics: ArmStatistics) -> Array:
        """Returns what each arm is expected to pay, ``[k]``."""

    @abc.abstractmethod
    def sample_posterior(self, key: Array, statistics: ArmStatistics) -> Array:
        """Draws plausible arm means, ``[k]``."""

    @abc.abstractmethod
    def posterior_log_density(self, statistics: ArmStatistics, means: Array) -> Array:
        """Returns the log-density of arm means ``[k]``, up to a constant; a scalar."""

    @abc.abstractmethod
    def confidence_width(self, statistics: ArmStatistics) -> Array:
        """Returns the width of each arm's confidence bound at c = 1, ``[k]``."""

    @abc.abstractmethod
    def gittins_table(self, num_pulls: int, discount: float) -> np.ndarray:
        """Tabulates what `gittins_index` looks up, for up to ``num_pulls`` pulls."""

    @abc.abstractmethod
    def gittins_index(self, table: Array, statistics: ArmStatistics) -> Array:
        """Returns the Gittins index of every arm, ``[k]``."""


class BernoulliBanditTask(NamedTuple):
    """A Bernoulli bandit.

    Attributes:
        probs: Probability that each arm pays 1 rather than 0, float32 ``[k]``.
    """

    probs: Array


@dataclass(frozen=True)
class BernoulliBandit(Bandit[BernoulliBanditTask]):
    """Arms that pay 1 with probability p and 0 otherwise; p is uniform, independently.

    Splits: ``train`` and ``test`` draw p from U[0, 1]; ``high`` from U[0.5, 1] (many good
    arms: exploring is wasted); ``low`` from U[0, 0.5]; ``close`` from U[0.4, 0.6] (arms
    that are hard to tell apart).

    Attributes:
        num_arms: Arms, k. The paper uses 5, 10 and 50.
        num_pulls: Pulls in a trial, n. The paper uses 10, 100 and 500.

    Reference: Duan et al., 2016, section 3.1 and Table 1.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "high", "low", "close")

    def sample_task(self, key: Array, split: str = "train") -> BernoulliBanditTask:
        self.check_split(split)
        low, high = {"high": (0.5, 1.0), "low": (0.0, 0.5), "close": (0.4, 0.6)}.get(
            split, (0.0, 1.0)
        )
        return BernoulliBanditTask(
            jax.random.uniform(key, (self.num_arms,), jnp.float32, low, high)
        )

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns random, oracle, greedy, epsilon-greedy, ucb1, thompson and gittins.

        Where `optimal_returns` is known there is bayes-optimal as well.
        """
        require(num_episodes >= 1, "num_episodes", num_episodes, "an integer of at least 1")
        references = {
            "random": random_reference(self.action_space),
            "oracle": rules.oracle(self),
            "greedy": rules.greedy(self),
            "epsilon-greedy": rules.epsilon_greedy(self),
            "ucb1": rules.ucb1(self),
            "thompson": rules.thompson(self),
            "gittins": rules.gittins(self, num_episodes),
        }
        if is_solvable(self.num_arms, num_episodes):
            references["bayes-optimal"] = rules.bayes_optimal(self, num_episodes)
        return references

    def optimal_returns(self, num_episodes: int) -> np.ndarray | None:
        """Expected reward of each pull under the policy that is optimal for the whole trial.

        It holds on ``train`` and ``test``; on a shifted split another policy may earn more.

        Args:
            num_episodes: Pulls in the trial.

        Returns:
            float64 ``[num_episodes]``, or None where the state space is too large to solve
            (see `jaxmeta_envs.bandits.solvers.MAX_STATES`).
        """
        require(num_episodes >= 1, "num_episodes", num_episodes, "an integer of at least 1")
        if not is_solvable(self.num_arms, num_episodes):
            return None
        return solve_bernoulli_bandit(self.num_arms, num_episodes).rewards

    def arm_means(self, task: BernoulliBanditTask) -> Array:
        return task.probs

    def sample_reward(self, key: Array, mean: Array) -> Array:
        return jax.random.bernoulli(key, mean).astype(jnp.float32)

    def posterior_mean(self, statistics: ArmStatistics) -> Array:
        """Mean of Beta(1 + successes, 1 + failures), ``[k]``."""
        return (1.0 + statistics.totals) / (2.0 + statistics.pulls)

    def sample_posterior(self, key: Array, statistics: ArmStatistics) -> Array:
        """Sample of Beta(1 + successes, 1 + failures), ``[k]``."""
        failures = statistics.pulls - statistics.totals
        return sample_beta(key, 1.0 + statistics.totals, 1.0 + failures)

    def posterior_log_density(self, statistics: ArmStatistics, means: Array) -> Array:
        failures = statistics.pulls - statistics.totals
        return jnp.sum(xlogy(statistics.totals, means) + xlog1py(failures, -means))

    def confidence_width(self, statistics: ArmStatistics) -> Array:
        """``sqrt(2 ln t / T_i)``, the bonus of UCB1, ``[k]``.

        As in the paper, every arm starts with one success and one failure: T_i is the
        pulls of the arm plus 2, and t the sum of all T_i.
        """
        counts = 2.0 + statistics.pulls
        return jnp.sqrt(2.0 * jnp.log(jnp.sum(counts)) / counts)

    def gittins_table(self, num_pulls: int, discount: float) -> np.ndarray:
        return bernoulli_gittins_table(num_pulls, discount)

    def gittins_index(self, table: Array, statistics: ArmStatistics) -> Array:
        successes = statistics.totals.astype(jnp.int32)
        return table[successes, statistics.pulls - successes]


class GaussianBanditTask(NamedTuple):
    """A Gaussian bandit.

    Attributes:
        means: Expected reward of each arm, float32 ``[k]``.
    """

    means: Array


@dataclass(frozen=True)
class GaussianBandit(Bandit[GaussianBanditTask]):
    """Arms with normal rewards of known variance and normally distributed means.

    Splits: ``train`` and ``test`` draw the means from N(prior_mean, prior_std²); ``wide``
    doubles the standard deviation; ``shifted`` adds 2 prior_std to every mean.

    Differs from the paper: it has Bernoulli arms only. No exact optimum is known here
    (`optimal_returns` is None); the Gittins index is close to it.

    Attributes:
        num_arms: Arms, k.
        num_pulls: Pulls in a trial, n.
        prior_mean: Mean of the arms' means.
        prior_std: Standard deviation of the arms' means.
        noise_std: Standard deviation of a reward around its arm's mean.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "wide", "shifted")

    prior_mean: float = 0.0
    prior_std: float = 1.0
    noise_std: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        valid = math.isfinite(self.prior_mean)
        require(valid, "GaussianBandit.prior_mean", self.prior_mean, "a finite number")
        for name in ("prior_std", "noise_std"):
            value = getattr(self, name)
            valid = math.isfinite(value) and value > 0.0
            require(valid, f"GaussianBandit.{name}", value, "a finite number above 0")

    def sample_task(self, key: Array, split: str = "train") -> GaussianBanditTask:
        self.check_split(split)
        std = self.prior_std * (2.0 if split == "wide" else 1.0)
        mean = self.prior_mean + (2.0 * self.prior_std if split == "shifted" else 0.0)
        return GaussianBanditTask(
            mean + std * jax.random.normal(key, (self.num_arms,), jnp.float32)
        )

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns random, oracle, greedy, epsilon-greedy, ucb, thompson and gittins."""
        require(num_episodes >= 1, "num_episodes", num_episodes, "an integer of at least 1")
        return {
            "random": random_reference(self.action_space),
            "oracle": rules.oracle(self),
            "greedy": rules.greedy(self),
            "epsilon-greedy": rules.epsilon_greedy(self),
            "ucb": rules.ucb1(self, c=0.5),
            "thompson": rules.thompson(self),
            "gittins": rules.gittins(self, num_episodes),
        }

    def arm_means(self, task: GaussianBanditTask) -> Array:
        return task.means

    def sample_reward(self, key: Array, mean: Array) -> Array:
        return mean + self.noise_std * jax.random.normal(key, jnp.shape(mean), jnp.float32)

    @property
    def prior_observations(self) -> float:
        """What the prior is worth in pulls: ``(noise_std / prior_std)²``."""
        return (self.noise_std / self.prior_std) ** 2

    def posterior_mean(self, statistics: ArmStatistics) -> Array:
        """``(n₀ prior_mean + sum of rewards) / (n₀ + pulls)``, ``[k]``; n₀ as above."""
        prior = self.prior_observations
        return (prior * self.prior_mean + statistics.totals) / (prior + statistics.pulls)

    def posterior_std(self, statistics: ArmStatistics) -> Array:
        """``noise_std / sqrt(n₀ + pulls)``, ``[k]``."""
        return self.noise_std / jnp.sqrt(self.prior_observations + statistics.pulls)

    def sample_posterior(self, key: Array, statistics: ArmStatistics) -> Array:
        noise = jax.random.normal(key, (self.num_arms,), jnp.float32)
        return self.posterior_mean(statistics) + self.posterior_std(statistics) * noise

    def posterior_log_density(self, statistics: ArmStatistics, means: Array) -> Array:
        z = (means - self.posterior_mean(statistics)) / self.posterior_std(statistics)
        return -0.5 * jnp.sum(z**2)

    def confidence_width(self, statistics: ArmStatistics) -> Array:
        """``posterior std · sqrt(2 ln t)`` with t the pulls so far plus k, ``[k]``.

        The counterpart of UCB1's bonus: its ``1 / sqrt(T_i)`` is the standard error of a
        mean, up to a constant.
        """
        t = self.num_arms + jnp.sum(statistics.pulls)
        return self.posterior_std(statistics) * jnp.sqrt(2.0 * jnp.log(t))

    def gittins_table(self, num_pulls: int, discount: float) -> np.ndarray:
        return gaussian_gittins_table(num_pulls, discount, self.prior_observations)

    def gittins_index(self, table: Array, statistics: ArmStatistics) -> Array:
        return self.posterior_mean(statistics) + self.noise_std * table[statistics.pulls]
