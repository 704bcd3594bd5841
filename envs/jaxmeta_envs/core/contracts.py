"""The contracts of a task family and of an adaptive policy.

A meta-RL task is an *argument*: it is never hidden in an environment's state and
never drawn by ``reset``. Sizes and horizons are fields of a frozen dataclass (the
family); what differs between tasks is a pytree of arrays (the task).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core import drawings
from jaxmeta_envs.core.errors import ConfigError, closest, require
from jaxmeta_envs.core.score import RETURN, Score, as_score
from jaxmeta_envs.core.spaces import ArraySpace, Space

Task = TypeVar("Task")
State = TypeVar("State")


class Timestep(NamedTuple):
    """What one step of the environment returns.

    Attributes:
        obs: Observation after the action.
        reward: Reward of the action just taken, float32 scalar.
        terminated: The decision process ended: its value beyond here is 0.
        truncated: The clock ended the episode: bootstrap with the value of ``obs``.
    """

    obs: Array
    reward: Array
    terminated: Array
    truncated: Array


class PolicyInput(NamedTuple):
    """What a policy sees at one step, before it acts.

    Attributes:
        obs: The current observation.
        prev_action: Action of the step before; the action space's zero at trial start.
        prev_reward: Reward of the step before; 0 at trial start.
        prev_done: Whether the step before ended an episode; False at trial start.
        episode_start: Whether this is the first step of an episode, the first of the
            trial included (the flag ``d`` of the RL² paper).
    """

    obs: Array
    prev_action: Array
    prev_reward: Array
    prev_done: Array
    episode_start: Array


class Trajectory(NamedTuple):
    """The steps of an episode, leaves ``[T, ...]``; callers add axes in front.

    An episode that ends early fills the rest of its ``T`` steps with rows whose
    ``mask`` is False; their other contents mean nothing and rewards there are 0.

    Attributes:
        inputs: What the policy saw.
        action: What it did.
        reward: What it got, float32.
        terminated: Whether this step ended the decision process.
        truncated: Whether the clock ended the episode at this step.
        next_obs: The observation after the step (the final one at an episode's end).
        mask: Whether the step was really played.
    """

    inputs: PolicyInput
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: Array
    mask: Array


def no_adaptation(params: Any, carry: Any, episodes: Trajectory, key: Array) -> Any:
    """The ``adapt`` of a policy that learns nothing between episodes."""
    del params, episodes, key
    return carry


class AdaptivePolicy(NamedTuple):
    """How something acts on a task and adapts to it; all three are pure functions.

    Attributes:
        begin: ``(params, key) -> carry``, called once for a new task.
        act: ``(params, carry, input: PolicyInput, key) -> (action, carry)``.
        adapt: ``(params, carry, episodes: Trajectory, key) -> carry``, called after every
            step of adaptation with leaves ``[episodes_per_adapt, T, ...]``.
        episodes_per_adapt: Episodes played per step of adaptation. With more than one they
            start from the same carry and ``adapt`` receives that carry; with one, it
            receives the carry that acting left behind.
        act_mode: As ``act``, but the action is the mode of its distribution instead of a
            sample; None where there is no such thing.
    """

    begin: Callable[[Any, Array], Any]
    act: Callable[[Any, Any, PolicyInput, Array], tuple[Array, Any]]
    adapt: Callable[[Any, Any, Trajectory, Array], Any] = no_adaptation
    episodes_per_adapt: int = 1
    act_mode: Callable[[Any, Any, PolicyInput, Array], tuple[Array, Any]] | None = None


class Reference(NamedTuple):
    """A policy to draw beside a learned one.

    Attributes:
        policy: The policy itself.
        params: What it reads, such as a table of indices.
        told_task: Whether it is told the task: it then receives ``(params, task)`` in
            place of ``params``.
        knows_prior: Whether it acts on a belief that starts from the distribution of the
            tasks of training. On a shifted split that belief is wrong, and what is optimal
            under it is not optimal there; reports say so beside its name.
    """

    policy: AdaptivePolicy
    params: Any = ()
    told_task: bool = False
    knows_prior: bool = False


class Candidates(NamedTuple):
    """A policy with the settings among which the best is to be chosen.

    Choose on other tasks than those that are reported: the best of many is partly luck.

    Attributes:
        policy: The policy, the same for all settings: one compilation serves them all.
        params: What it reads, leaves ``[G, ...]``.
        settings: The number that each of the G candidates is known by; empty if there is
            nothing to choose and G is 1.
    """

    policy: AdaptivePolicy
    params: Any
    settings: tuple[float, ...] = ()

    @staticmethod
    def tuned(build: Callable[[float], Reference], settings: Iterable[float]) -> Candidates:
        """Returns a policy with every setting; it compiles once, as its params have an axis."""
        settings = tuple(settings)
        references = [build(setting) for setting in settings]
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(r.params for r in references))
        return Candidates(references[0].policy, params, settings)

    @staticmethod
    def alone(reference: Reference) -> Candidates:
        """Returns a policy without anything to choose."""
        return Candidates(reference.policy, jax.tree.map(lambda x: x[None], reference.params))


def random_reference(action_space: Space) -> Reference:
    """Returns the policy that draws every action uniformly."""

    def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any]:
        del params, inputs
        return action_space.sample(key), carry

    return Reference(AdaptivePolicy(begin=lambda params, key: (), act=act))


def still_reference(action_space: Space) -> Reference:
    """Returns the policy that does nothing: it takes the action space's zero."""

    def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any]:
        del params, inputs, key
        return action_space.zero(), carry

    return Reference(AdaptivePolicy(begin=lambda params, key: (), act=act))


class Family(abc.ABC, Generic[Task]):
    """A distribution over tasks: `TaskFamily` to act in, `SupervisedFamily` to predict.

    Subclasses are frozen dataclasses, hashable by value. Every method is pure,
    un-batched and traceable; callers add ``vmap``.

    Attributes:
        splits: Names accepted by `sample_task`. ``"train"`` and ``"test"`` follow the same
            distribution, or parts of one that share no task; other names are documented shifts.
        score: What a learner is judged by, a `Score`. A subclass may write ``"return"`` for
            `RETURN` and ``"loss"`` for `LOSS`.
        experience_unit: What ``env_steps`` counts, in words.
        disjoint_splits: Whether the tasks of ``"test"`` never occur in ``"train"``. Where they
            do, evaluation says so beside the figure. Of a continuum of tasks this is True,
            for none is drawn twice but by a chance of measure zero. It is False where every
            test task may also be one of training, because there are only a few tasks.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    score: ClassVar[Score] = RETURN
    experience_unit: ClassVar[str] = "env-steps"
    disjoint_splits: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        named = cls.__dict__.get("score")
        if isinstance(named, str):
            cls.score = as_score(named)

    @abc.abstractmethod
    def sample_task(self, key: Array, split: str = "train") -> Task:
        """Draws a task.

        Args:
            key: Typed PRNG key.
            split: One of `splits`.

        Raises:
            ConfigError: If ``split`` is unknown.
        """

    @abc.abstractmethod
    def reference_names(self) -> tuple[str, ...]:
        """Returns the names of what learners are compared with."""

    def check_installed(self) -> None:
        """Raises `ConfigError` if a package that the family needs cannot be imported.

        Training asks before it writes anything. A family is made, and says its splits and
        the names of its references, without that package.
        """

    def check_score(self) -> None:
        """Raises `ConfigError` unless ``score`` is a `Score` that can be measured."""
        require(isinstance(self.score, Score), "score", self.score, "a Score, as of jaxmeta_envs")

    def check_split(self, split: str) -> None:
        """Raises `ConfigError` unless ``split`` is one of `splits`."""
        known = f"one of {', '.join(self.splits)}{closest(split, self.splits)}"
        require(split in self.splits, "split", split, known)


class TaskFamily(Family[Task], Generic[Task, State]):
    """A distribution over decision processes that share spaces and horizon.

    Attributes:
        finite_horizon: Whether the horizon is part of the decision process. If so the step
            that reaches it is ``terminated``; if not, the clock merely stops the episode
            and that step is ``truncated``.
        reward_of_state: Whether a step is paid for the state that it begins in, so that an action
            shows in later rewards only. Checks of the contract ask
            (`jaxmeta.testing.check_task_family`).
    """

    finite_horizon: ClassVar[bool] = False
    reward_of_state: ClassVar[bool] = False

    def check_score(self) -> None:
        super().check_score()
        score = self.score
        fitting = score.name == RETURN.name and score.higher_is_better
        text = 'the "return", of which more is better: that is what is played for in a TaskFamily'
        require(fitting, "score", score, text)

    @property
    def draws_trial(self) -> bool:
        """Whether `draw` shows a whole trial at once: where an episode is a single step."""
        return self.horizon == 1

    @property
    @abc.abstractmethod
    def observation_space(self) -> Space:
        """What the agent sees: any space, also a `Dict` or a `Tuple` of spaces."""

    @property
    @abc.abstractmethod
    def action_space(self) -> ArraySpace:
        """What the agent does: `Discrete`, `MultiDiscrete` or `Box`."""

    @property
    @abc.abstractmethod
    def horizon(self) -> int:
        """Longest possible episode, in steps."""

    @property
    @abc.abstractmethod
    def default_episodes(self) -> int:
        """Episodes per trial in the published protocol."""

    @abc.abstractmethod
    def reset(self, key: Array, task: Task) -> tuple[State, Array]:
        """Starts an episode of ``task``; returns the state and the first observation."""

    @abc.abstractmethod
    def step(self, key: Array, state: State, action: Array, task: Task) -> tuple[State, Timestep]:
        """Plays one action; never resets itself. Actions out of bounds are clipped."""

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns policies to compare with over trials of ``num_episodes`` episodes."""
        del num_episodes
        return {"random": random_reference(self.action_space)}

    def reference_names(self) -> tuple[str, ...]:
        # Of the shortest trial: the names are the same, and nothing big is solved for them.
        return tuple(self.references(1))

    def candidates(self, num_episodes: int) -> Mapping[str, Candidates]:
        """Returns classical algorithms whose settings are yet to be tuned.

        They are slower to play than `references` and hence apart from them.
        """
        del num_episodes
        return {}

    def optimal_returns(self, num_episodes: int) -> np.ndarray | None:
        """Expected return of each episode under the exact Bayes-optimal policy.

        Args:
            num_episodes: Length of the trial over which that policy is optimal.

        Returns:
            float64 ``[num_episodes]``, or None where it is not known exactly.
        """
        del num_episodes
        return None

    def draw(self, axes: Any, task: Task, played: Trajectory, until: int) -> None:
        """Draws what an agent did: reward so far, unless a family has a picture of its own.

        Args:
            axes: Of a matplotlib figure.
            task: The task, NumPy arrays.
            played: The episodes of one row of adaptation, NumPy leaves ``[N, T, ...]``; with
                `draws_trial` those of a trial in turn, ``[E, 1, ...]``.
            until: Steps that are drawn; with `draws_trial`, episodes.
        """
        del task
        if self.draws_trial:
            played = played._replace(reward=played.reward.T, mask=played.mask.T)
        drawings.rewards(axes, played, until)


class TimedFamily(TaskFamily[Task, State], Generic[Task, State]):
    """A family whose fields say how long an episode and a trial are.

    Attributes:
        episode_length: The horizon, steps.
        num_episodes: Episodes per trial in the published protocol.
    """

    episode_length: int
    num_episodes: int

    @property
    def horizon(self) -> int:
        return self.episode_length

    @property
    def default_episodes(self) -> int:
        return self.num_episodes


def as_task_family(family: Any, argument: str = "family") -> TaskFamily:
    """Returns a family as one to act in.

    Raises:
        ConfigError: If it is none; the message names the argument.
    """
    if isinstance(family, TaskFamily):
        return family
    shown = family if isinstance(family, type) else type(family).__name__
    raise ConfigError(f"{argument} is {shown!r}; it must be a TaskFamily, to act in")
