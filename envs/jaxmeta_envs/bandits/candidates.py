"""The classical algorithms of bandits with the settings of the RL² paper.

Reference: Duan et al., "RL²: Fast Reinforcement Learning via Slow Reinforcement Learning",
2016, table 1.
Differs from the paper: it takes and reports the best setting of each cell on the tasks that it was
chosen on, as far as is known.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from jaxmeta_envs.bandits import references as bandit
from jaxmeta_envs.core.contracts import Candidates, random_reference

if TYPE_CHECKING:
    from jaxmeta_envs.bandits.independent import Bandit

SAMPLES = tuple(range(1, 21))
"""Samples of optimistic Thompson sampling."""

TENTHS = tuple(i / 10 for i in range(11))
"""ε, and c of UCB1."""

DISCOUNTS = (0.9, 0.99, 0.999, 0.9999)
"""Discounts of the Gittins index."""


def bandit_candidates(family: Bandit, num_episodes: int) -> dict[str, Candidates]:
    """Returns the columns of table 1, and two that are not in it.

    The paper's greedy and ε-greedy pull the first of the tied arms and are named
    "(first of ties)"; without it they draw one of them. "optimistic-bayesian" is what is
    elsewhere called optimistic Thompson sampling.

    Args:
        family: The bandit.
        num_episodes: Pulls in the trial, the size of the tables of Gittins indices.
    """
    epsilon = functools.partial(bandit.epsilon_greedy, family)
    return {
        "random": Candidates.alone(random_reference(family.action_space)),
        "gittins": Candidates.tuned(lambda x: bandit.gittins(family, num_episodes, x), DISCOUNTS),
        "thompson": Candidates.alone(bandit.thompson(family)),
        "optimistic-thompson": Candidates.tuned(
            lambda x: bandit.optimistic_thompson(family, int(x)), SAMPLES
        ),
        "optimistic-bayesian": Candidates.alone(bandit.optimistic_bayesian(family)),
        "ucb1": Candidates.tuned(lambda x: bandit.ucb1(family, x), TENTHS),
        "epsilon-greedy (first of ties)": Candidates.tuned(
            lambda x: epsilon(x, random_ties=False), TENTHS
        ),
        "epsilon-greedy": Candidates.tuned(epsilon, TENTHS),
        "greedy (first of ties)": Candidates.alone(bandit.greedy(family, random_ties=False)),
        "greedy": Candidates.alone(bandit.greedy(family)),
    }
