"""A learner that compiles in a moment, for tests of everything around learning.

`ToyLearner` pulls a parameter towards the mean of noisy targets, one per task, so that its
states depend on keys and on the order of updates. It can be told to go wrong.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta import parallel
from jaxmeta.contracts import Algorithm
from jaxmeta.placement import WHOLE, Placement
from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, TaskFamily, Timestep
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.spaces import Box, Discrete


class ToyState(NamedTuple):
    params: dict[str, Array]
    count: Array


@dataclass(frozen=True)
class ToyFamily(TaskFamily[Array, Array]):
    """One step per episode; the reward is the task, whatever one does."""

    @property
    def observation_space(self) -> Box:
        return Box(-1.0, 1.0, (1,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    @property
    def horizon(self) -> int:
        return 1

    @property
    def default_episodes(self) -> int:
        return 1

    def sample_task(self, key: Array, split: str = "train") -> Array:
        self.check_split(split)
        return jax.random.normal(key)

    def reset(self, key: Array, task: Array) -> tuple[Array, Array]:
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key: Array, state: Array, action: Array, task: Array) -> tuple[Array, Timestep]:
        done = jnp.asarray(True)
        return state + 1, Timestep(jnp.zeros(1), task, jnp.asarray(False), done)


@dataclass(frozen=True)
class SlowToCompile(ToyFamily):
    """Keeps XLA at one constant for minutes; it says so itself on stderr after a second."""

    def sample_task(self, key: Array, split: str = "train") -> Array:
        many = 40_000
        sums = jax.lax.reduce_window(
            jnp.arange(many, dtype=jnp.float32), 0.0, jax.lax.add, (many,), (1,), "SAME"
        )
        return super().sample_task(key, split) + jnp.sum(sums)


SLOW = "Constant folding an instruction is taking"


@dataclass(frozen=True)
class ToyLearner(Algorithm):
    num_tasks: int = 4
    size: int = 3
    learning_rate: float = 0.1
    nan_metric_at: int = -1
    nan_params_at: int = -1

    traces: ClassVar[Counter] = Counter()
    """How often `update` was traced, per learner."""

    def init(self, family: TaskFamily, key: Array) -> ToyState:
        return ToyState({"w": jax.random.normal(key, (self.size,))}, jnp.int32(0))

    def update(
        self, family: TaskFamily, state: ToyState, key: Array, step: Array
    ) -> tuple[ToyState, dict]:
        del step
        self.traces[self] += 1

        def loss(w: Array, key: Array) -> Array:
            target = family.sample_task(key) + jnp.arange(self.size)
            return jnp.mean((w - target) ** 2)

        keys = parallel.task_keys(key, self.num_tasks)
        losses, grads = jax.vmap(jax.value_and_grad(loss), (None, 0))(state.params["w"], keys)
        mean_loss, grad = parallel.mean_over_tasks((losses, grads))
        w = state.params["w"] - self.learning_rate * grad
        w = jnp.where(state.count == self.nan_params_at, jnp.nan, w)
        mean_loss = jnp.where(state.count == self.nan_metric_at, jnp.nan, mean_loss)
        metrics = {"return": -jnp.sum(jnp.abs(w)), "loss": mean_loss}
        if self.nan_params_at >= 0:
            metrics["return"] = jnp.float32(0)  # so that only the parameters tell
        return ToyState({"w": w}, state.count + 1), metrics

    def policy(self, family: TaskFamily) -> AdaptivePolicy:
        def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any]:
            return jnp.int32(params["w"][0] > 0), carry

        return AdaptivePolicy(begin=lambda params, key: (), act=act)

    def check(self, family: TaskFamily) -> None:
        require(family.horizon == 1, "horizon", family.horizon, "1")

    def env_steps_per_update(self, family: TaskFamily) -> int:
        return self.num_tasks * family.horizon

    def trial_episodes(self, family: TaskFamily) -> int:
        return 1


def scan_updates(learner: Algorithm, family: Any, state: Any, keys: Array) -> tuple[Any, Any]:
    """Returns the state after an update with each key, from the first one, and metrics ``[U]``."""

    def one(state: Any, drawn: tuple[Array, Array]) -> tuple[Any, Any]:
        return learner.update(family, state, *drawn)

    return jax.lax.scan(one, state, (keys, jnp.arange(len(keys))))


class RememberingState(NamedTuple):
    params: dict[str, Array]
    total: Array
    ring: Array


@dataclass(frozen=True)
class Remembering(ToyLearner):
    """Pulls its parameter towards what it remembers of every task, its last four targets.

    The total of all targets of a task is spread over tasks, too, and kept in every checkpoint.
    """

    def init(self, family: TaskFamily, key: Array) -> RememberingState:  # pyright: ignore[reportIncompatibleMethodOverride]
        params = super().init(family, key).params
        return RememberingState(params, jnp.zeros(self.num_tasks), jnp.zeros((self.num_tasks, 4)))

    def placement(self, family: TaskFamily) -> RememberingState:
        spread = Placement(over_tasks=True)
        ring: Any = Placement(over_tasks=True, newest_only=True)
        return RememberingState(WHOLE, spread, ring)  # pyright: ignore[reportArgumentType]

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, family: TaskFamily, state: RememberingState, key: Array, step: Array
    ) -> tuple[RememberingState, dict]:
        drawn = jax.vmap(family.sample_task)(parallel.task_keys(key, self.num_tasks))
        ring = state.ring.at[:, step % 4].set(drawn)
        mean = parallel.mean_over_tasks(jnp.mean(ring, axis=1))
        w = state.params["w"] + self.learning_rate * (mean - state.params["w"])
        total = state.total + drawn
        metrics = {"return": -jnp.sum(jnp.abs(w)), "loss": parallel.mean_over_tasks(total**2)}
        return RememberingState({"w": w}, total, ring), metrics
