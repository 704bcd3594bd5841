"""The two-step task, which tells model-based from model-free behaviour.

Axes: T steps, R rounds of two steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.contracts import Reference, TaskFamily, Timestep, random_reference
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields, check_least
from jaxmeta_envs.core.spaces import Discrete
from jaxmeta_envs.tabular.two_step_references import (
    bayes_filter,
    optimal_value,
    oracle,
    win_stay_lose_shift,
)


class TwoStepTask(NamedTuple):
    """What the agent is not told.

    Attributes:
        rich: Which second-stage state pays in each round, 0 or 1, int32 ``[R]``.
        common: Probability that a first-stage action leads to the second-stage state of
            its own number, float32 scalar.
    """

    rich: Array
    common: Array


class TwoStepState(NamedTuple):
    """Where an episode stands.

    Attributes:
        position: 0 at the first stage, 1 and 2 in the second-stage states, int32 scalar.
        time: Steps played, int32 scalar.
    """

    position: Array
    time: Array


@dataclass(frozen=True)
class TwoStep(TaskFamily[TwoStepTask, TwoStepState]):
    """Two choices, two places that they commonly lead to, and one place that pays.

    A round has two steps. At the first stage (observation 0), action a leads to
    second-stage state a (observation 1 + a) with probability 0.8, the *common* transition,
    and to the other one with 0.2, the *rare* one. There the action means nothing, and the
    reward is 1 with probability 0.9 in the rich state and 0.1 in the other. The rich state
    is drawn evenly for the first round, and before each later one the two are swapped with
    probability 0.025.

    A reward after a rare transition tells an agent that knows the transitions to choose the
    *other* action, and one that just repeats what was rewarded to stay:
    `jaxmeta_envs.tabular.two_step_analysis` measures which it is.

    A task is which state is rich in each round. An episode is all R rounds, ``2 R`` steps,
    and the published protocol has one episode per task. The swaps belong to the task, so
    that an oracle can be told them: a second episode of the same task swaps likewise.

    Told the rich state, an agent earns 0.8 · 0.9 + 0.2 · 0.1 = 0.74 per round. Not told it,
    70.59 in 100 rounds is the most, see `optimal_returns`.

    Splits:
        train, test: As above. In a twelfth of the tasks of both nothing is ever swapped: these
            are the same two tasks.
        reversed: What is common and what is rare are exchanged.
        stable: The rich state is never swapped.
        volatile: It is swapped four times as often, at most every other round.

    Differs from the paper: what it shows as pictures or one-hot vectors is a number here,
    and the second stage takes an action too, which means nothing.

    Attributes:
        num_rounds: R.
        common_prob: Probability of a common transition, above 1/2.
        reward_prob: Probability of reward in the rich state, above 1/2; in the other state
            it is ``1 - reward_prob``.
        switch_prob: Probability of a swap before a round, at most 1/2.

    Reference:
        Wang et al. (2016), "Learning to reinforcement learn", section 3.2.1; the task is a
        simpler form of that of Daw et al. (2011), "Model-based influences on humans'
        choices and striatal prediction errors".
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "reversed", "stable", "volatile")
    finite_horizon: ClassVar[bool] = True
    disjoint_splits: ClassVar[bool] = False
    # Rewards are paid for the second-stage state, which the action before it led to.
    reward_of_state: ClassVar[bool] = True

    num_rounds: int = 100
    common_prob: float = 0.8
    reward_prob: float = 0.9
    switch_prob: float = 0.025

    def __post_init__(self) -> None:
        check_fields(self)
        check_least(self, num_rounds=1)
        for name in ("common_prob", "reward_prob"):
            value = getattr(self, name)
            valid = math.isfinite(value) and 0.5 < value <= 1.0
            require(valid, f"TwoStep.{name}", value, "a number above 0.5 and at most 1")
        valid = math.isfinite(self.switch_prob) and 0.0 <= self.switch_prob <= 0.5
        require(valid, "TwoStep.switch_prob", self.switch_prob, "a number between 0 and 0.5")

    @property
    def observation_space(self) -> Discrete:
        return Discrete(3)

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    @property
    def horizon(self) -> int:
        return 2 * self.num_rounds

    @property
    def default_episodes(self) -> int:
        return 1

    def sample_task(self, key: Array, split: str = "train") -> TwoStepTask:
        self.check_split(split)
        switch = {"stable": 0.0, "volatile": min(4.0 * self.switch_prob, 0.5)}.get(
            split, self.switch_prob
        )
        common = 1.0 - self.common_prob if split == "reversed" else self.common_prob
        swap = jnp.full((self.num_rounds,), switch, jnp.float32).at[0].set(0.5)
        swaps = jax.random.bernoulli(key, swap).astype(jnp.int32)
        return TwoStepTask(jnp.cumsum(swaps, dtype=jnp.int32) % 2, jnp.asarray(common, jnp.float32))

    def reset(self, key: Array, task: TwoStepTask) -> tuple[TwoStepState, Array]:
        del key, task
        start = jnp.zeros((), jnp.int32)
        return TwoStepState(position=start, time=jnp.zeros((), jnp.int32)), start

    def step(
        self, key: Array, state: TwoStepState, action: Array, task: TwoStepTask
    ) -> tuple[TwoStepState, Timestep]:
        draw = jax.random.uniform(key, (), jnp.float32)
        at_first = state.position == 0
        own = self.action_space.clip(action)
        reached = jnp.where(draw < task.common, own, 1 - own).astype(jnp.int32)
        position = jnp.where(at_first, 1 + reached, 0)

        is_rich = state.position == 1 + task.rich[state.time // 2]
        pays = draw < jnp.where(is_rich, self.reward_prob, 1.0 - self.reward_prob)
        time = state.time + 1
        return TwoStepState(position, time), Timestep(
            obs=position,
            reward=(pays & ~at_first).astype(jnp.float32),
            terminated=time >= self.horizon,
            truncated=jnp.asarray(False),
        )

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns random, oracle, win-stay-lose-shift and bayes-filter.

        The last two forget at reset. bayes-filter is Bayes-optimal for one episode.
        """
        del num_episodes
        return {
            "random": random_reference(self.action_space),
            "oracle": oracle(),
            "win-stay-lose-shift": win_stay_lose_shift(),
            "bayes-filter": bayes_filter(self.reward_prob, self.switch_prob),
        }

    def optimal_returns(self, num_episodes: int) -> np.ndarray | None:
        """Expected return of one episode under the Bayes-optimal policy on ``train``.

        Returns:
            float64 ``[1]``, to within 1e-6; None for more than one episode, since the swaps
            of the first are then some use in the second.
        """
        require(num_episodes >= 1, "num_episodes", num_episodes, "an integer of at least 1")
        if num_episodes > 1:
            return None
        value = optimal_value(self.num_rounds, self.common_prob, self.reward_prob, self.switch_prob)
        return np.array([value])
