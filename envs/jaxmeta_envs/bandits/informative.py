"""A bandit with one poor arm that names the best one.

Axes: N candidates, n pulls.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.bandits.pulls import OnePullFamily
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


class InformativeTask(NamedTuple):
    """One target.

    Attributes:
        target: The candidate that pays most, int32 scalar in ``0 .. N - 1``.
    """

    target: Array


@dataclass(frozen=True)
class InformativeBandit(OnePullFamily[InformativeTask]):
    """Candidates of which one pays most, and one more arm that pays little and names it.

    Rewards are deterministic: the target pays 5, every other candidate 1.1, and the last
    arm 0.1 times the target's number, counted from 1. One pull is one episode. An agent
    that wants the most of a trial gives up reward at the first pull to know the target.

    The Bayes-optimal policy tries the first j candidates in order of their numbers and
    then, unless it met the target, pulls the informative arm; from there on it knows. (How
    the tried are ordered does not matter, and that they have the lowest numbers leaves the
    best hints.) With the defaults j = 0: it earns 0.55 + 4 · 5 = 20.55 in five pulls, an
    agent that never pulls the informative arm 11.35 at best, and one told the target 25.

    Splits: ``train`` and ``test`` draw the target uniformly, from the same few. There is no
    shifted split, since the targets are all that the tasks differ in.

    Attributes:
        num_candidates: Arms that may be the target, N; the informative arm comes on top.
        num_pulls: Pulls in a trial.
        target_reward: What the target pays.
        other_reward: What every other candidate pays.
        hint_scale: What the informative arm pays per number of the target; at most
            ``target_reward / num_candidates``, so that it is never the best arm.

    Reference:
        Wang et al. (2016), "Learning to reinforcement learn", section 3.1.2.
    """

    disjoint_splits: ClassVar[bool] = False

    num_candidates: int = 10
    num_pulls: int = 5
    target_reward: float = 5.0
    other_reward: float = 1.1
    hint_scale: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self)
        check_least(self, num_candidates=2, num_pulls=1)
        require(
            math.isfinite(self.target_reward) and self.target_reward > 0.0,
            "InformativeBandit.target_reward",
            self.target_reward,
            "a finite number above 0",
        )
        require(
            math.isfinite(self.other_reward) and self.other_reward < self.target_reward,
            "InformativeBandit.other_reward",
            self.other_reward,
            f"a finite number below target_reward={self.target_reward}",
        )
        most = self.target_reward / self.num_candidates
        require(
            0.0 < self.hint_scale <= most,
            "InformativeBandit.hint_scale",
            self.hint_scale,
            f"a number above 0 and at most {most}, target_reward / num_candidates",
        )

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.num_candidates + 1)

    @property
    def default_episodes(self) -> int:
        return self.num_pulls

    def sample_task(self, key: Array, split: str = "train") -> InformativeTask:
        self.check_split(split)
        return InformativeTask(jax.random.randint(key, (), 0, self.num_candidates, jnp.int32))

    def pull(self, key: Array, arm: Array, task: InformativeTask) -> Array:
        del key
        candidate = jnp.where(arm == task.target, self.target_reward, self.other_reward)
        hint = self.hint_scale * (task.target + 1)
        return jnp.where(arm == self.num_candidates, hint, candidate).astype(jnp.float32)

    def draw(self, axes: Any, task: InformativeTask, played: Trajectory, until: int) -> None:
        targets = np.arange(self.num_candidates)
        pays = np.full((len(targets), len(targets) + 1), self.other_reward)
        pays[targets, targets] = self.target_reward
        pays[:, -1] = self.hint_scale * (targets + 1)
        arms, rewards = played.action[:, 0], played.reward[:, 0]
        agrees = np.isclose(pays[:, arms], rewards)  # [targets, E]
        possible = np.cumprod(np.pad(agrees, ((0, 0), (1, 0)), constant_values=True), axis=1)
        belief = possible[:, :-1].T @ pays / possible[:, :-1].sum(axis=0)[:, None]
        drawings.pulls(axes, played, until, pays[int(task.target)], belief)

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns random, oracle, search and bayes-optimal.

        search tries the candidates one by one, stays with the target once it is met, and
        never pulls the informative arm.
        """
        tries = _best_tries(self, num_episodes)
        return {
            "random": random_reference(self.action_space),
            "oracle": Reference(_ORACLE, told_task=True),
            "search": Reference(_search(self), jnp.asarray(self.num_candidates, jnp.int32)),
            "bayes-optimal": Reference(
                _search(self), jnp.asarray(tries, jnp.int32), knows_prior=True
            ),
        }

    def optimal_returns(self, num_episodes: int) -> np.ndarray:
        """Expected reward of each pull under the Bayes-optimal policy.

        Args:
            num_episodes: Pulls in the trial.

        Returns:
            float64 ``[num_episodes]``.
        """
        return _search_rewards(self, _best_tries(self, num_episodes), num_episodes)


def _search_rewards(family: InformativeBandit, tries: int, num_pulls: int) -> np.ndarray:
    """Expected reward of each pull if up to ``tries`` candidates are tried before the hint.

    Returns:
        float64 ``[n]``.
    """
    target = np.arange(family.num_candidates)[:, None]
    pull = np.arange(num_pulls)
    known_after = np.minimum(target, tries)  # the pull that meets or names the target
    last = np.where(target < tries, family.target_reward, family.hint_scale * (target + 1.0))
    later = np.where(pull == known_after, last, family.target_reward)
    return np.where(pull < known_after, family.other_reward, later).mean(axis=0)


def _best_tries(family: InformativeBandit, num_pulls: int) -> int:
    """How many candidates it is best to try before the hint, the least if there are ties."""
    require(num_pulls >= 1, "num_episodes", num_pulls, "an integer of at least 1")
    most = min(num_pulls, family.num_candidates)
    totals = [_search_rewards(family, j, num_pulls).sum() for j in range(most + 1)]
    return int(np.argmax(np.asarray(totals) > max(totals) - 1e-9))


class Search(NamedTuple):
    """What a search knows.

    Attributes:
        target: The target, int32 scalar; -1 while unknown.
        tried: Candidates tried in vain, int32 scalar.
    """

    target: Array
    tried: Array


@functools.lru_cache(maxsize=32)
def _search(family: InformativeBandit) -> AdaptivePolicy:
    """Builds the policy that tries ``params`` candidates and then pulls the informative arm.

    Cached, so that equal families give equal policies.
    """
    hint = family.num_candidates

    def begin(params: Array, key: Array) -> Search:
        del params, key
        return Search(jnp.full((), -1, jnp.int32), jnp.zeros((), jnp.int32))

    def act(params: Array, carry: Search, inputs: PolicyInput, key: Array) -> tuple[Array, Search]:
        del inputs, key
        untried = jnp.where(carry.tried < params, carry.tried, hint)
        return jnp.where(carry.target >= 0, carry.target, untried).astype(jnp.int32), carry

    def adapt(params: Array, carry: Search, episodes: Trajectory, key: Array) -> Search:
        del params, key
        arm, reward = episodes.action[0, 0], episodes.reward[0, 0]
        named = jnp.round(reward / family.hint_scale).astype(jnp.int32) - 1
        middle = 0.5 * (family.target_reward + family.other_reward)
        met = jnp.where(reward > middle, arm, -1)
        target = jnp.where(arm == hint, named, met)
        missed = (target < 0).astype(jnp.int32)
        return Search(jnp.where(carry.target >= 0, carry.target, target), carry.tried + missed)

    return AdaptivePolicy(begin, act, adapt)


def _begin_told(params: Any, key: Array) -> tuple[()]:
    del params, key
    return ()


def _act_told(
    params: tuple[Any, InformativeTask], carry: tuple[()], inputs: PolicyInput, key: Array
) -> tuple[Array, tuple[()]]:
    del inputs, key
    return params[1].target, carry


_ORACLE = AdaptivePolicy(_begin_told, _act_told)
"""The target, told the task."""
