"""Classical policies for bandits with independent arms.

Each builder returns a `Reference` whose numbers (ε, c, a table of indices) are arrays in
``params``, so that a grid of them is one ``vmap`` and one compilation. All policies score
the arms and pull the one with the highest score; they keep their belief in an
`ArmStatistics` carry that ``adapt`` updates after every pull.

Ties are broken at random. Table 1 of the RL² paper is reproduced only if greedy and
ε-greedy pull the *first* of the tied arms (``random_ties=False``): with 50 arms and 100
pulls greedy then earns 78.1 (paper: 78.0), but 80.3 with random ties, because a tie with
an untouched arm then makes it explore. The stronger rule is the default.

Axes: k arms, M states.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.bandits.solvers import arm_code, solve_bernoulli_bandit
from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, Reference, Trajectory
from jaxmeta_envs.core.errors import require, require_number

if TYPE_CHECKING:
    from jaxmeta_envs.bandits.independent import Bandit, BernoulliBandit


class ArmStatistics(NamedTuple):
    """What the pulls so far say about the arms; sufficient for both families.

    Attributes:
        pulls: Pulls of each arm, int32 ``[k]``.
        totals: Sum of each arm's rewards, float32 ``[k]``; for Bernoulli arms the number
            of successes, exact below 2²⁴.
    """

    pulls: Array
    totals: Array


Score = Callable[["Bandit", Any, ArmStatistics, Array], Array]
"""``(family, params, statistics, key) -> scores [k]``."""

_TIE = 1e-6
"""Scores this close are a tie: equal posterior means may differ by float32 rounding.

Different posterior means of Bernoulli arms differ by more than this up to 1000 pulls.
"""


def _argmax(key: Array, scores: Array, random_ties: bool) -> Array:
    """Index of the largest score, uniform or first among ties; scores ``[k]``."""
    tied = scores >= jnp.max(scores) - _TIE
    order = jax.random.uniform(key, scores.shape) if random_ties else jnp.zeros_like(scores)
    return jnp.argmax(jnp.where(tied, order, -1.0))


@functools.lru_cache(maxsize=256)
def _policy(family: Bandit, score: Score, random_ties: bool = True) -> AdaptivePolicy:
    """Builds the policy that pulls the arm with the highest score.

    Cached, so that equal families and rules give equal policies: one compilation serves
    all their parameters.
    """

    def begin(params: Any, key: Array) -> ArmStatistics:
        del params, key
        arms = (family.num_arms,)
        return ArmStatistics(jnp.zeros(arms, jnp.int32), jnp.zeros(arms, jnp.float32))

    def act(
        params: Any, carry: ArmStatistics, inputs: PolicyInput, key: Array
    ) -> tuple[Array, ArmStatistics]:
        del inputs
        score_key, tie_key = jax.random.split(key)
        arm = _argmax(tie_key, score(family, params, carry, score_key), random_ties)
        return arm.astype(family.action_space.dtype), carry

    def adapt(params: Any, carry: ArmStatistics, episodes: Trajectory, key: Array) -> ArmStatistics:
        del params, key
        arms = episodes.action.reshape(-1)
        played = episodes.mask.reshape(-1)
        rewards = jnp.where(played, episodes.reward.reshape(-1), 0.0)
        return ArmStatistics(
            carry.pulls.at[arms].add(played.astype(jnp.int32)),
            carry.totals.at[arms].add(rewards),
        )

    return AdaptivePolicy(begin, act, adapt)


def _score_told(family: Bandit, params: Any, statistics: ArmStatistics, key: Array) -> Array:
    del statistics, key
    return family.arm_means(params[1])


def oracle(family: Bandit) -> Reference:
    """The best arm, told the task: the ceiling that no learner reaches.

    For Bernoulli arms it earns ``k / (k + 1)`` per pull.
    """
    return Reference(_policy(family, _score_told), told_task=True)


def _score_mean(family: Bandit, params: Any, statistics: ArmStatistics, key: Array) -> Array:
    del params, key
    return family.posterior_mean(statistics)


def greedy(family: Bandit, random_ties: bool = True) -> Reference:
    """The arm with the highest posterior mean.

    Args:
        family: The bandit.
        random_ties: Whether ties are broken at random rather than for the first arm.

    Reference: Duan et al., 2016: statistics start at one success and one failure, which
    for Bernoulli arms is the posterior mean under the uniform prior.
    Differs from the paper: random ties, see the module.
    """
    return Reference(_policy(family, _score_mean, random_ties), knows_prior=True)


def _score_mean_or_any(
    family: Bandit, params: Array, statistics: ArmStatistics, key: Array
) -> Array:
    explore_key, arm_key = jax.random.split(key)
    explore = jax.random.uniform(explore_key) < params
    any_arm = jax.random.uniform(arm_key, (family.num_arms,))
    return jnp.where(explore, any_arm, family.posterior_mean(statistics))


def epsilon_greedy(
    family: Bandit, epsilon: float | Array = 0.05, random_ties: bool = True
) -> Reference:
    """Greedy, but a uniformly drawn arm with probability ``epsilon``.

    Args:
        family: The bandit.
        epsilon: In [0, 1]. The default does best of {0, 0.01, 0.02, 0.05, 0.1, 0.2} on
            training tasks with 5 arms and 500 pulls; for 10 pulls 0 does. The paper takes
            the best of {0, 0.1, …, 1} for each column.
        random_ties: Whether ties are broken at random rather than for the first arm.

    Differs from the paper: random ties, see the module.
    """
    require_number("epsilon", epsilon, least=0, most=1)
    policy = _policy(family, _score_mean_or_any, random_ties)
    return Reference(policy, jnp.asarray(epsilon, jnp.float32), knows_prior=True)


def _score_upper(family: Bandit, params: Array, statistics: ArmStatistics, key: Array) -> Array:
    del key
    return family.posterior_mean(statistics) + params * family.confidence_width(statistics)


def ucb1(family: Bandit, c: float | Array = 0.2) -> Reference:
    """Posterior mean plus ``c`` times the family's ``confidence_width``.

    For Bernoulli arms this is the paper's UCB1; for Gaussian arms its counterpart with the
    posterior standard deviation.

    Args:
        family: The bandit.
        c: Scale of the bonus. The default does best of {0, 0.1, …, 0.5, 0.7, 1} on training
            tasks with 5 Bernoulli arms and 100 or 500 pulls (for 10 pulls 0.1 does, by
            0.03). For 5 Gaussian arms 0.5 is the best for 100 pulls and within 0.1 of it
            for 10. The paper takes the best of {0, 0.1, …, 1} for each column.

    Reference: Auer et al., "Finite-time Analysis of the Multiarmed Bandit Problem", 2002.
    """
    require_number("c", c, least=0)
    return Reference(_policy(family, _score_upper), jnp.asarray(c, jnp.float32), knows_prior=True)


def _score_sample(family: Bandit, params: Any, statistics: ArmStatistics, key: Array) -> Array:
    del params
    return family.sample_posterior(key, statistics)


def thompson(family: Bandit) -> Reference:
    """The arm that is best in a sample of the posterior.

    Reference: Thompson, "On the Likelihood that One Unknown Probability Exceeds Another in
    View of the Evidence of Two Samples", 1933.
    """
    return Reference(_policy(family, _score_sample), knows_prior=True)


def _score_densest(family: Bandit, params: Array, statistics: ArmStatistics, key: Array) -> Array:
    def draw(i: Array | int) -> tuple[Array, Array]:
        means = family.sample_posterior(jax.random.fold_in(key, i), statistics)
        return family.posterior_log_density(statistics, means), means

    def keep_denser(i: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        new = draw(i)
        return jax.tree.map(functools.partial(jnp.where, new[0] > best[0]), new, best)

    # A loop rather than a batch: one program serves every number of samples.
    return jax.lax.fori_loop(1, params.astype(jnp.int32), keep_denser, draw(0))[1]


def optimistic_thompson(family: Bandit, num_samples: int | Array = 20) -> Reference:
    """The arm that is best in the likeliest of several samples of the posterior.

    Args:
        family: The bandit.
        num_samples: Samples of all arms' means, at least 1; with 1 it is `thompson`. Of
            them, the one with the highest posterior density, over all arms together, is
            kept. The paper takes the best of 1 to 20 for each column.

    Reference: Duan et al., 2016, "OTS". Its figures rule out that the density is compared
    arm by arm: that would earn 76 with 50 arms and 100 pulls, not 68.
    Differs from what usually goes by this name: see `optimistic_bayesian`.
    """
    require_number("num_samples", num_samples, least=1)
    return Reference(
        _policy(family, _score_densest), jnp.asarray(num_samples, jnp.float32), knows_prior=True
    )


def _score_raised_sample(
    family: Bandit, params: Any, statistics: ArmStatistics, key: Array
) -> Array:
    del params
    sample = family.sample_posterior(key, statistics)
    return jnp.maximum(sample, family.posterior_mean(statistics))


def optimistic_bayesian(family: Bandit) -> Reference:
    """Thompson sampling in which no sample falls below its posterior mean.

    Reference: May et al., "Optimistic Bayesian Sampling in Contextual-Bandit Problems",
    2012; also called optimistic Thompson sampling.
    """
    return Reference(_policy(family, _score_raised_sample), knows_prior=True)


def _score_gittins(family: Bandit, params: Array, statistics: ArmStatistics, key: Array) -> Array:
    del key
    return family.gittins_index(params, statistics)


def gittins(family: Bandit, num_episodes: int, discount: float | None = None) -> Reference:
    """The arm with the highest Gittins index.

    Args:
        family: The bandit.
        num_episodes: Pulls in the trial: the size of the table. Beyond it, the index of
            an arm keeps its last tabulated value.
        discount: Discount of the index; by default ``1 - 1 / num_episodes``, for which the
            discounted trial is as long as the real one. The paper takes the best of
            {0.9, 0.99, 0.999, 0.9999} for each column.

    Reference: Gittins, "Bandit Processes and Dynamic Allocation Indices", 1979.
    """
    require(num_episodes >= 1, "num_episodes", num_episodes, "an integer of at least 1")
    if discount is None:
        discount = 1.0 - 1.0 / num_episodes
    table = family.gittins_table(num_episodes, discount)
    return Reference(
        _policy(family, _score_gittins), jnp.asarray(table, jnp.float32), knows_prior=True
    )


class OptimalTable(NamedTuple):
    """What the Bayes-optimal policy looks up; see `BernoulliSolution`.

    Attributes:
        salts: uint32 ``[num_codes]``.
        keys: uint32 ``[M]``, ascending.
        arms: int32 ``[M]``.
    """

    salts: Array
    keys: Array
    arms: Array


def _score_optimal(
    family: Bandit, params: OptimalTable, statistics: ArmStatistics, key: Array
) -> Array:
    del key
    successes = statistics.totals.astype(jnp.int32)
    codes = arm_code(successes, statistics.pulls - successes)
    state = jnp.sum(params.salts[codes], dtype=jnp.uint32)
    row = jnp.searchsorted(params.keys, state)
    # A trial that outlasts the table leaves its states: greedy from there on.
    known = (params.keys[row] == state) & (jnp.max(codes) < params.salts.shape[0])
    best = (codes == params.arms[row]).astype(jnp.float32)
    return jnp.where(known, best, family.posterior_mean(statistics))


def bayes_optimal(family: BernoulliBandit, num_episodes: int) -> Reference:
    """The exact Bayes-optimal policy for a trial of ``num_episodes`` pulls.

    Args:
        family: The bandit; its arms are i.i.d. uniform.
        num_episodes: Pulls in the trial.

    Raises:
        ConfigError: If the state space is too large (see `solve_bernoulli_bandit`).
    """
    solution = solve_bernoulli_bandit(family.num_arms, num_episodes)
    table = OptimalTable(*map(jnp.asarray, (solution.salts, solution.keys, solution.arms)))
    return Reference(_policy(family, _score_optimal), table, knows_prior=True)
