"""Experts that an algorithm trains: part of guided search that needs another learner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.algorithms.epopt import EPOpt
from jaxmeta.networks import MLP
from jaxmeta.parts.experts import Expert
from jaxmeta.parts.optimizers.ppo import PPO
from jaxmeta.parts.risk import Mean
from jaxmeta.parts.schedules import span_run
from jaxmeta_envs.core.contracts import AdaptivePolicy, TaskFamily, Timestep
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields
from jaxmeta_envs.core.spaces import ArraySpace, Space


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
