"""Task families with known answers, each of which one kind of broken learner gets wrong."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.contracts import TaskFamily, Timestep, Trajectory
from jaxmeta_envs.core.spaces import Box, Discrete


class Hidden(NamedTuple):
    """What differs between the tasks of a probe.

    Attributes:
        right: The answer, 0 or 1, int32.
        number: Uniform in [-1, 1], float32.
    """

    right: Array
    number: Array

    @property
    def cue(self) -> Array:
        """The answer as -1 or 1."""
        return 2.0 * self.right - 1.0


class Clock(NamedTuple):
    """Steps played, int32, and the action of the first step, int32."""

    time: Array
    first: Array


@dataclass(frozen=True)
class ProbeTask(TaskFamily[Hidden, Clock]):
    """A family whose best and worst behaviour are known.

    Observations are two numbers, actions one of two or three unless said otherwise, and an
    episode ends by the clock unless `pay` ends it before.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    failure: ClassVar[str]
    """What is wrong with a learner that fails here."""
    steps: ClassVar[int] = 1
    episodes: ClassVar[int] = 1
    actions: ClassVar[int] = 2

    @property
    def observation_space(self) -> Box:
        return Box(-1.0, 1.0, (2,))

    @property
    def action_space(self) -> Discrete | Box:
        return Discrete(self.actions)

    @property
    def horizon(self) -> int:
        return self.steps

    @property
    def default_episodes(self) -> int:
        return self.episodes

    def sample_task(self, key: Array, split: str = "train") -> Hidden:
        self.check_split(split)
        right_key, number_key = jax.random.split(key)
        number = jax.random.uniform(number_key, minval=-1.0, maxval=1.0)
        return Hidden(jax.random.randint(right_key, (), 0, 2), number)

    def reset(self, key: Array, task: Hidden) -> tuple[Clock, Array]:
        del key
        state = Clock(jnp.int32(0), jnp.int32(0))
        return state, self.observe(state, task)

    def step(self, key: Array, state: Clock, action: Array, task: Hidden) -> tuple[Clock, Timestep]:
        del key
        action = self.action_space.clip(action)
        reward, ended = self.pay(state, action, task)
        chosen = jnp.round(action).astype(jnp.int32).reshape(())
        new = Clock(state.time + 1, jnp.where(state.time == 0, chosen, state.first))
        clock = new.time >= self.steps
        terminated = ended | (clock & self.finite_horizon)
        obs = self.observe(new, task)
        reward = jnp.asarray(reward, jnp.float32)
        return new, Timestep(obs, reward, terminated, clock & ~terminated)

    @abstractmethod
    def observe(self, state: Clock, task: Hidden) -> Array:
        """Returns the observation, ``[2]``."""

    @abstractmethod
    def pay(self, state: Clock, action: Array, task: Hidden) -> tuple[Array, Array]:
        """Returns the reward of an action, and whether it ends the episode."""

    @abstractmethod
    def marks(self, trial: Trajectory) -> Array:
        """Returns 1 for the best possible trial and 0 for the failure, on average.

        Args:
            trial: Leaves ``[episodes, steps, ...]``.
        """


def _obs(first: Array | float, second: Array | float) -> Array:
    return jnp.stack([jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.float32)])


@dataclass(frozen=True)
class PredictReward(ProbeTask):
    """Pays at the end what the first observation said; actions do nothing."""

    finite_horizon = True
    steps = 3
    failure = "the value estimate does not learn a reward that the observation announces"

    def observe(self, state: Clock, task: Hidden) -> Array:
        return _obs(task.number, state.time == self.steps - 1)

    def pay(self, state: Clock, action: Array, task: Hidden) -> tuple[Array, Array]:
        del action
        return task.number * (state.time == self.steps - 1), jnp.asarray(False)

    def marks(self, trial: Trajectory) -> Array:
        del trial
        return jnp.float32(1.0)  # judged by the metric ``value_explained``


@dataclass(frozen=True)
class RecallCue(ProbeTask):
    """Shows the answer in the first step and asks for it in the last."""

    finite_horizon = True
    steps = 4
    failure = "nothing is remembered within an episode"

    def observe(self, state: Clock, task: Hidden) -> Array:
        return _obs(task.cue * (state.time == 0), state.time == self.steps - 1)

    def pay(self, state: Clock, action: Array, task: Hidden) -> tuple[Array, Array]:
        asked = state.time == self.steps - 1
        return asked * jnp.where(action == task.right, 1.0, -1.0), jnp.asarray(False)

    def marks(self, trial: Trajectory) -> Array:
        return jnp.sum(trial.reward)


@dataclass(frozen=True)
class GuessAgain(ProbeTask):
    """Any answer of the first episode, right or wrong, tells that of the second."""

    finite_horizon = True
    episodes = 2
    failure = "nothing is carried from one episode to the next"

    def observe(self, state: Clock, task: Hidden) -> Array:
        del state, task
        return jnp.zeros(2)

    def pay(self, state: Clock, action: Array, task: Hidden) -> tuple[Array, Array]:
        del state
        return jnp.where(action == task.right, 1.0, -1.0), jnp.asarray(False)

    def marks(self, trial: Trajectory) -> Array:
        return jnp.sum(trial.reward)


@dataclass(frozen=True)
class LookFirst(ProbeTask):
    """Looking costs 0.1 on average; a right answer pays 1, a wrong one costs 2.

    Whoever cares for one episode at a time does nothing (action 2, pays 0): looking gains
    nothing there, and a blind guess loses 0.5 on average. Over two episodes looking and
    then answering is worth 0.9, guessing at once and then knowing 0.5.
    """

    finite_horizon = True
    episodes = 2
    actions = 4
    failure = "no credit reaches from an episode back to what was explored in the one before"

    def observe(self, state: Clock, task: Hidden) -> Array:
        del state, task
        return jnp.zeros(2)

    def pay(self, state: Clock, action: Array, task: Hidden) -> tuple[Array, Array]:
        del state
        guess = jnp.where(action == task.right, 1.0, -2.0)
        look = -0.1 + task.cue  # which tells the answer
        reward = jnp.select([action < 2, action == 2], [guess, jnp.float32(0.0)], look)
        return reward, jnp.asarray(False)

    def marks(self, trial: Trajectory) -> Array:
        return jnp.sum(trial.reward) / 0.9


@dataclass(frozen=True)
class StayOrLeave(ProbeTask):
    """Leave for 0.5, or stay for 0.1 a step until the clock stops after four steps.

    Attributes:
        finite_horizon: If the clock ends the process, staying is worth 0.4: leave. If it
            merely stops the episode, more would follow: stay.
    """

    finite_horizon: bool = True  # pyright: ignore[reportIncompatibleVariableOverride]
    steps: ClassVar[int] = 4
    failure: ClassVar[str] = "a time limit and a termination are taken for one another"

    def observe(self, state: Clock, task: Hidden) -> Array:
        del task
        return _obs(state.time > 0, 0.0)

    def pay(self, state: Clock, action: Array, task: Hidden) -> tuple[Array, Array]:
        del task
        leaves = (state.time == 0) & (action == 0)
        return jnp.where(leaves, 0.5, 0.1), leaves

    def marks(self, trial: Trajectory) -> Array:
        stayed = trial.mask[0, 1].astype(jnp.float32)
        return 1.0 - stayed if self.finite_horizon else stayed


@dataclass(frozen=True)
class MatchNumber(ProbeTask):
    """A number is shown; the continuous action nearest to it pays most."""

    finite_horizon = True
    failure = "continuous actions do not follow the observation"

    @property
    def action_space(self) -> Box:
        return Box(-2.0, 2.0, (1,))

    def observe(self, state: Clock, task: Hidden) -> Array:
        del state
        return _obs(task.number, 0.0)

    def pay(self, state: Clock, action: Array, task: Hidden) -> tuple[Array, Array]:
        del state
        return -((action[0] - task.number) ** 2), jnp.asarray(False)

    def marks(self, trial: Trajectory) -> Array:
        return 1.0 + 3.0 * jnp.sum(trial.reward)  # always 0 costs 1/3


PROBE_TASKS: tuple[ProbeTask, ...] = (
    PredictReward(),
    RecallCue(),
    GuessAgain(),
    LookFirst(),
    StayOrLeave(finite_horizon=True),
    StayOrLeave(finite_horizon=False),
    MatchNumber(),
)
"""One family per way to fail, the cheapest first."""
