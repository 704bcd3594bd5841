"""The classical algorithms of tabular processes with the settings of the RL² paper.

Reference: Duan et al., "RL²: Fast Reinforcement Learning via Slow Reinforcement Learning",
2016, table 2.
Differs from the paper: it takes and reports the best setting of each cell on the tasks that it was
chosen on, as far as is known.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

import numpy as np

from jaxmeta_envs.core.contracts import Candidates, random_reference
from jaxmeta_envs.tabular import references as tabular

if TYPE_CHECKING:
    from jaxmeta_envs.tabular.mdp import TabularMDP

SAMPLES = tuple(range(1, 21))
"""Samples of OPSRL."""

TENTHS = tuple(i / 10 for i in range(1, 11))
"""ε."""

SCALINGS = tuple(float(x) for x in np.logspace(-4, 0, 21))
"""Scalings of BEB and UCRL2."""


def tabular_candidates(family: TabularMDP) -> dict[str, Candidates]:
    """Returns the columns of table 2, and the same algorithms with the family's prior.

    The paper's columns are those of a prior mean of 0, "(mu0=0)", and for ε-greedy, greedy
    and UCRL2 of next to no prior at all, "(no prior)"; its BEB is "beb (value, mu0=0)". The
    others know the prior of the tasks, as a learner does that has met it in training.
    """

    def opsrl(mean: float | None) -> Candidates:
        return Candidates.tuned(lambda x: tabular.opsrl(family, int(x), mean), SAMPLES)

    def beb(mean: float | None, bonus: Literal["reward", "value"]) -> Candidates:
        return Candidates.tuned(lambda x: tabular.beb(family, x, mean, bonus=bonus), SCALINGS)

    def epsilon(mean: float | None, weight: float) -> Candidates:
        build = functools.partial(tabular.epsilon_greedy, family)
        return Candidates.tuned(lambda x: build(x, mean, prior_weight=weight), TENTHS)

    no_prior = tabular.NO_PRIOR
    return {
        "random": Candidates.alone(random_reference(family.action_space)),
        "psrl (mu0=0)": Candidates.alone(tabular.psrl(family, 0.0)),
        "opsrl (mu0=0)": opsrl(0.0),
        "ucrl2 (no prior)": Candidates.tuned(lambda x: tabular.ucrl2(family, x, 0.0), SCALINGS),
        "beb (value, mu0=0)": beb(0.0, "value"),
        "epsilon-greedy (no prior)": epsilon(0.0, no_prior),
        "greedy (no prior)": Candidates.alone(tabular.greedy(family, 0.0, prior_weight=no_prior)),
        "greedy (mu0=0)": Candidates.alone(tabular.greedy(family, 0.0)),
        "beb (mu0=0)": beb(0.0, "reward"),
        "psrl": Candidates.alone(tabular.psrl(family)),
        "opsrl": opsrl(None),
        "beb (value)": beb(None, "value"),
        "beb": beb(None, "reward"),
        "epsilon-greedy": epsilon(None, 1.0),
        "greedy": Candidates.alone(tabular.greedy(family)),
    }
