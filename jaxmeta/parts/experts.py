"""Experts that know their task: what guided meta-policy search imitates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.experience.play import play_trial
from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, TaskFamily, Trajectory
from jaxmeta_envs.core.errors import ConfigError


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
