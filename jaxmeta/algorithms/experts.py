"""Experts that know their task: what guided meta-policy search imitates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.algorithms.epopt import EPOpt
from jaxmeta.experience.play import play_trial
from jaxmeta.networks import MLP
from jaxmeta.parts.optimizers.ppo import PPO
from jaxmeta.parts.risk import Mean
from jaxmeta.parts.schedules import span_run
from jaxmeta_envs.core.contracts import (
    AdaptivePolicy,
    PolicyInput,
    TaskFamily,
    Timestep,
    Trajectory,
)
from jaxmeta_envs.core.errors import ConfigError, require
from jaxmeta_envs.core.fields import check_fields
from jaxmeta_envs.core.spaces import ArraySpace, Space


class Expert(ABC):
    """Who shows what to do in a task; a frozen dataclass of its settings.

    What an expert reads besides the input, ``knowledge``, is drawn with the task.
    """

    @abstractmethod
    def check(self, family: TaskFamily) -> None:
        """Raises `ConfigError` if there is no such expert of ``family``."""

    def init(self, family: TaskFamily, key: Array) -> Any:
        """Returns what is learned once, before training; often nothing."""
        del family, key
        return ()

    @abstractmethod
    def draw(self, family: TaskFamily, learned: Any, key: Array) -> tuple[Any, Any]:
        """Returns a task to train on, and the expert's knowledge of it."""

    @abstractmethod
    def policy(self, family: TaskFamily) -> AdaptivePolicy:
        """Returns how the expert acts, given its knowledge as parameters."""


@dataclass(frozen=True)
class OracleExpert(Expert):
    """The family's reference "oracle", which is told the task. Costs no learning."""

    def check(self, family: TaskFamily) -> None:
        oracle = family.references(1).get("oracle")
        if oracle is None or not oracle.told_task:
            raise ConfigError(
                f"expert is {self!r}, and {type(family).__name__} has no reference policy "
                '"oracle" that is told the task; it must be TrainedExperts() there'
            )

    def draw(self, family: TaskFamily, learned: Any, key: Array) -> tuple[Any, Any]:
        del learned
        task = family.sample_task(key)
        return task, (family.references(1)["oracle"].params, task)

    def policy(self, family: TaskFamily) -> AdaptivePolicy:
        return family.references(1)["oracle"].policy


class TrainedTasks(NamedTuple):
    """Tasks and what was learned on each, leaves ``[M, ...]``.

    Attributes:
        tasks: The tasks.
        params: Parameters of their experts.
        returns: Mean return of an episode in the last update, ``[M]``.
    """

    tasks: Any
    params: Any
    returns: Array


@dataclass(frozen=True)
class TrainedExperts(Expert):
    """Policies that are trained on one task each, before meta-training, in its first state.

    Meta-training then knows these tasks only. What their training plays is not counted in the
    run's environment steps: it is ``num_tasks · updates · learner.env_steps_per_update(family)``.

    Attributes:
        num_tasks: Tasks with an expert, M.
        updates: Updates of each.
        learner: Trains it; its own ``num_tasks`` are the trials of an update.

    Reference: Mendonca et al. 2019, arXiv 1904.00956.
    Differs from the paper: experts learn on-policy, by PPO, instead of by SAC.
    """

    num_tasks: int = 40
    updates: int = 100
    learner: EPOpt = field(
        default_factory=lambda: EPOpt(
            num_tasks=20,
            risk=Mean(),
            baseline=MLP((64, 64), "tanh"),
            optimizer=PPO(),
            learning_rate=3e-3,
            gae_lambda=0.95,
        )
    )

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("num_tasks", "updates"):
            require(getattr(self, name) >= 1, f"expert.{name}", getattr(self, name), "at least 1")

    def check(self, family: TaskFamily) -> None:
        self.learner.check(family)

    def init(self, family: TaskFamily, key: Array) -> TrainedTasks:
        """Trains all experts at once."""
        learner = span_run(self.learner, self.updates)

        def one(key: Array) -> TrainedTasks:
            task_key, init_key, key = jax.random.split(key, 3)
            task = family.sample_task(task_key)
            alone = _OneTask(family, task)

            def update(state: Any, drawn: tuple[Array, Array]) -> tuple[Any, Array]:
                state, metrics = learner.update(alone, state, *drawn)
                return state, metrics["return"]

            drawn = jax.random.split(key, self.updates), jnp.arange(self.updates)
            state, returns = jax.lax.scan(update, learner.init(alone, init_key), drawn)
            return TrainedTasks(task, state.params, returns[-1])

        return jax.vmap(one)(jax.random.split(key, self.num_tasks))

    def draw(self, family: TaskFamily, learned: TrainedTasks, key: Array) -> tuple[Any, Any]:
        del family
        index = jax.random.randint(key, (), 0, self.num_tasks)
        return jax.tree.map(lambda x: x[index], (learned.tasks, learned.params))

    def policy(self, family: TaskFamily) -> AdaptivePolicy:
        return self.learner.policy(family)


class Shown(NamedTuple):
    """What an expert did, or would have done, leaves ``[E, T, ...]``.

    Attributes:
        inputs: What it saw.
        action: What it did, within the action space.
        mask: Whether the step was played.
    """

    inputs: PolicyInput
    action: Array
    mask: Array


def demonstrate(
    family: TaskFamily, expert: AdaptivePolicy, knowledge: Any, task: Any, key: Array, num: int
) -> tuple[Shown, Array]:
    """Lets an expert play ``num`` episodes; returns them and their mean return."""

    def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any, tuple]:
        return (*expert.act(params, carry, inputs, key), ())

    def episode(key: Array) -> Trajectory:
        begin_key, key = jax.random.split(key)
        begun = expert.begin(knowledge, begin_key)
        played = play_trial(family, act, knowledge, begun, task, key, 1).trajectory
        return jax.tree.map(lambda x: x[0], played)

    played = jax.vmap(episode)(jax.random.split(key, num))
    action = family.action_space.clip(played.action)
    return Shown(played.inputs, action, played.mask), jnp.mean(jnp.sum(played.reward, axis=1))


def relabel(
    family: TaskFamily, expert: AdaptivePolicy, knowledge: Any, played: Trajectory, key: Array
) -> Shown:
    """Returns what an expert would have done in episodes ``[E, T]`` that another one played."""

    def episode(inputs: PolicyInput, key: Array) -> Array:
        begin_key, key = jax.random.split(key)

        def step(carry: Any, row: tuple[PolicyInput, Array]) -> tuple[Any, Array]:
            action, carry = expert.act(knowledge, carry, *row)
            return carry, action

        keys = jax.random.split(key, played.mask.shape[1])
        return jax.lax.scan(step, expert.begin(knowledge, begin_key), (inputs, keys))[1]

    action = jax.vmap(episode)(played.inputs, jax.random.split(key, played.mask.shape[0]))
    return Shown(played.inputs, family.action_space.clip(action), played.mask)


@dataclass(frozen=True, eq=False)
class _OneTask(TaskFamily):
    """A family of which one task alone is drawn; not hashable by value, for use in a trace."""

    family: TaskFamily
    task: Any

    @property
    def finite_horizon(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.family.finite_horizon

    @property
    def observation_space(self) -> Space:
        return self.family.observation_space

    @property
    def action_space(self) -> ArraySpace:
        return self.family.action_space

    @property
    def horizon(self) -> int:
        return self.family.horizon

    @property
    def default_episodes(self) -> int:
        return self.family.default_episodes

    def sample_task(self, key: Array, split: str = "train") -> Any:
        del key, split
        return self.task

    def reset(self, key: Array, task: Any) -> tuple[Any, Array]:
        return self.family.reset(key, task)

    def step(self, key: Array, state: Any, action: Array, task: Any) -> tuple[Any, Timestep]:
        return self.family.step(key, state, action, task)
