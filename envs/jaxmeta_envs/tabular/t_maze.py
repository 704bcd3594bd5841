"""A T-maze whose cue is noisy, and may mean the opposite for a whole trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.bandits.correlated import majority_rewards
from jaxmeta_envs.core.contracts import Reference, TaskFamily, Timestep, random_reference
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields
from jaxmeta_envs.core.spaces import Discrete
from jaxmeta_envs.tabular.t_maze_references import count_agreements, ignore_cue, oracle, repeat_last

CORRIDOR, JUNCTION = 2, 3  # observations; 0 and 1 are the cue
_LONGEST = 1_000_000


class TMazeTask(NamedTuple):
    """What the agent is not told.

    Attributes:
        inverted: 1 if the cue commonly shows the arm that does not pay, else 0, int32 scalar.
        reliability: Probability that the cue shows what it commonly shows, float32 scalar.
    """

    inverted: Array
    reliability: Array


class TMazeState(NamedTuple):
    """Where an episode stands.

    Attributes:
        arm: The arm that pays in this episode, 0 or 1, int32 scalar.
        time: Steps played, int32 scalar.
    """

    arm: Array
    time: Array


@dataclass(frozen=True)
class TMaze(TaskFamily[TMazeTask, TMazeState]):
    """A cue, a corridor, and two arms of which one pays; what the cue means is hidden.

    An episode begins with a cue, 0 or 1 (the first observation); then come L observations
    of the corridor (2) and one of the junction (3). Every step leads onward, whatever the
    action; the action at the junction, 0 or 1, chooses an arm and ends the episode, with
    reward 1 if it is the arm that pays. That arm is drawn evenly in every episode. On half
    of the tasks the cue shows it with probability 0.8, on the other, inverted half with
    probability 0.2, in all episodes of the trial.

    No cue, choice or reward says anything by itself: an agent must put together cue, choice
    and outcome of an episode, to know whether cue and paying arm agreed, count agreements
    over episodes, and remember the next cue through the corridor. Ignoring the cue earns
    half of the episodes; so does trusting it, for what it gains on half of the tasks it loses
    on the others. Told the task, an agent earns 0.8 per episode; not told it, 2.5976 in four
    episodes is the most, see `optimal_returns`.

    Splits:
        train, test: As above. There are two tasks and no more: "test" draws the same ones as
            "train", and what is measured on it is how fast an agent finds out in which of
            them it is.
        certain: The cue is always right, or always wrong.
        noisier: The reliability is half as far above 1/2.

    Attributes:
        corridor_length: L, at least 0; an episode has ``L + 2`` steps.
        reliability: Probability that the cue shows the paying arm if it is not inverted, or
            the other one if it is; above 1/2.
        num_episodes: Episodes per trial.

    Reference:
        Bakker (2001), "Reinforcement learning with long short-term memory", for a T-maze
        with a cue to remember. The noise and the inversion are ours.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "certain", "noisier")
    finite_horizon: ClassVar[bool] = True
    disjoint_splits: ClassVar[bool] = False

    corridor_length: int = 5
    reliability: float = 0.8
    num_episodes: int = 4

    def __post_init__(self) -> None:
        check_fields(self)
        for name, least in (("corridor_length", 0), ("num_episodes", 1)):
            value = getattr(self, name)
            text = f"an integer from {least} to {_LONGEST}"
            require(least <= value <= _LONGEST, f"TMaze.{name}", value, text)
        valid = math.isfinite(self.reliability) and 0.5 < self.reliability <= 1.0
        words = "a number above 0.5 and at most 1"
        require(valid, "TMaze.reliability", self.reliability, words)

    @property
    def observation_space(self) -> Discrete:
        return Discrete(4)

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    @property
    def horizon(self) -> int:
        return self.corridor_length + 2

    @property
    def default_episodes(self) -> int:
        return self.num_episodes

    def sample_task(self, key: Array, split: str = "train") -> TMazeTask:
        self.check_split(split)
        shifted = {"certain": 1.0, "noisier": 0.25 + 0.5 * self.reliability}
        reliability = shifted.get(split, self.reliability)
        inverted = jax.random.bernoulli(key).astype(jnp.int32)
        return TMazeTask(inverted, jnp.asarray(reliability, jnp.float32))

    def reset(self, key: Array, task: TMazeTask) -> tuple[TMazeState, Array]:
        arm_key, cue_key = jax.random.split(key)
        arm = jax.random.bernoulli(arm_key).astype(jnp.int32)
        # The draw lies in [0, 1), so that a reliability of 1 leaves no exception.
        common = jax.random.uniform(cue_key, (), jnp.float32) < task.reliability
        cue = jnp.where(common == (task.inverted == 0), arm, 1 - arm)
        return TMazeState(arm, jnp.zeros((), jnp.int32)), cue

    def step(
        self, key: Array, state: TMazeState, action: Array, task: TMazeTask
    ) -> tuple[TMazeState, Timestep]:
        del key, task
        at_junction = state.time == self.corridor_length + 1
        pays = self.action_space.clip(action) == state.arm
        time = state.time + 1
        obs = jnp.where(time <= self.corridor_length, CORRIDOR, JUNCTION)
        return TMazeState(state.arm, time), Timestep(
            obs=obs.astype(jnp.int32),
            reward=(at_junction & pays).astype(jnp.float32),
            terminated=at_junction,
            truncated=jnp.asarray(False),
        )

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns random, oracle, ignore-cue, win-stay-lose-shift and bayes-optimal.

        win-stay-lose-shift goes on following the cue, or opposing it, if that was rewarded in
        the episode before, and changes over if not: 0.5 in the first episode, 0.68 in every
        later one. bayes-optimal counts over all episodes; it believes in the training tasks
        on every split, and does not depend on their reliability.
        """
        del num_episodes
        return {
            "random": random_reference(self.action_space),
            "oracle": oracle(),
            "ignore-cue": ignore_cue(),
            "win-stay-lose-shift": repeat_last(),
            "bayes-optimal": count_agreements(),
        }

    def optimal_returns(self, num_episodes: int) -> np.ndarray:
        r"""Expected return of each episode under the Bayes-optimal policy on ``train``.

        An episode shows whether cue and paying arm agreed, whichever arm was chosen: there is
        nothing to explore. With :math:`s` agreements in t episodes so far and reliability q,

        .. math:: E[r_t] = \tfrac12 \sum_s \binom{t}{s} \max\Big(
            q^{s+1} (1-q)^{t-s} + (1-q)^{s+1} q^{t-s},\;
            q^s (1-q)^{t-s+1} + (1-q)^s q^{t-s+1}\Big),

        which is 0.5, 0.68, 0.68 and 0.7376 with the defaults.

        Returns:
            float64 ``[num_episodes]``, read-only.
        """
        require(num_episodes >= 1, "num_episodes", num_episodes, "an integer of at least 1")
        return majority_rewards((self.reliability, 1.0 - self.reliability), num_episodes)
