"""The classical algorithms with the settings among which the RL² paper takes the best.

Each grid is one policy whose params have a leading axis, so that it compiles once.

Reference: Duan et al., "RL²: Fast Reinforcement Learning via Slow Reinforcement Learning",
2016, tables 1 and 2.
Differs from the paper: it reports the best setting of each cell on the tasks that it was
chosen on, as far as is known.

Axes: G settings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta_envs import bandit_references as bandit
from jaxmeta_envs import tabular_references as tabular
from jaxmeta_envs.base import Candidates, Reference, random_reference

if TYPE_CHECKING:
    from jaxmeta_envs.bandits import Bandit
    from jaxmeta_envs.tabular import TabularMDP

SAMPLES = tuple(range(1, 21))
"""Samples of optimistic Thompson sampling and of OPSRL."""

TENTHS = tuple(i / 10 for i in range(11))
"""ε of the bandits and c of UCB1; without 0, ε of the decision processes."""

DISCOUNTS = (0.9, 0.99, 0.999, 0.9999)
"""Discounts of the Gittins index."""

SCALINGS = tuple(float(x) for x in np.logspace(-4, 0, 21))
"""Scalings of BEB and UCRL2."""


def _tuned(build: Callable[[float], Reference], settings: Iterable[float]) -> Candidates:
    settings = tuple(settings)
    references = [build(setting) for setting in settings]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(r.params for r in references))
    return Candidates(references[0].policy, params, settings)


def _alone(reference: Reference) -> Candidates:
    return Candidates(reference.policy, jax.tree.map(lambda x: x[None], reference.params))


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
        "random": _alone(random_reference(family.action_space)),
        "gittins": _tuned(lambda x: bandit.gittins(family, num_episodes, x), DISCOUNTS),
        "thompson": _alone(bandit.thompson(family)),
        "optimistic-thompson": _tuned(
            lambda x: bandit.optimistic_thompson(family, int(x)), SAMPLES
        ),
        "optimistic-bayesian": _alone(bandit.optimistic_bayesian(family)),
        "ucb1": _tuned(lambda x: bandit.ucb1(family, x), TENTHS),
        "epsilon-greedy (first of ties)": _tuned(lambda x: epsilon(x, random_ties=False), TENTHS),
        "epsilon-greedy": _tuned(epsilon, TENTHS),
        "greedy (first of ties)": _alone(bandit.greedy(family, random_ties=False)),
        "greedy": _alone(bandit.greedy(family)),
    }


def tabular_candidates(family: TabularMDP) -> dict[str, Candidates]:
    """Returns the columns of table 2, and the same algorithms with the family's prior.

    The paper's columns are those of a prior mean of 0, "(mu0=0)", and for ε-greedy, greedy
    and UCRL2 of next to no prior at all, "(no prior)"; its BEB is "beb (value, mu0=0)". The
    others know the prior of the tasks, as a learner does that has met it in training.
    """

    def opsrl(mean: float | None) -> Candidates:
        return _tuned(lambda x: tabular.opsrl(family, int(x), mean), SAMPLES)

    def beb(mean: float | None, bonus: Literal["reward", "value"]) -> Candidates:
        return _tuned(lambda x: tabular.beb(family, x, mean, bonus=bonus), SCALINGS)

    def epsilon(mean: float | None, weight: float) -> Candidates:
        build = functools.partial(tabular.epsilon_greedy, family)
        return _tuned(lambda x: build(x, mean, prior_weight=weight), TENTHS[1:])

    no_prior = tabular.NO_PRIOR
    return {
        "random": _alone(random_reference(family.action_space)),
        "psrl (mu0=0)": _alone(tabular.psrl(family, 0.0)),
        "opsrl (mu0=0)": opsrl(0.0),
        "ucrl2 (no prior)": _tuned(lambda x: tabular.ucrl2(family, x, 0.0), SCALINGS),
        "beb (value, mu0=0)": beb(0.0, "value"),
        "epsilon-greedy (no prior)": epsilon(0.0, no_prior),
        "greedy (no prior)": _alone(tabular.greedy(family, 0.0, prior_weight=no_prior)),
        "greedy (mu0=0)": _alone(tabular.greedy(family, 0.0)),
        "beb (mu0=0)": beb(0.0, "reward"),
        "psrl": _alone(tabular.psrl(family)),
        "opsrl": opsrl(None),
        "beb (value)": beb(None, "value"),
        "beb": beb(None, "reward"),
        "epsilon-greedy": epsilon(None, 1.0),
        "greedy": _alone(tabular.greedy(family)),
    }
