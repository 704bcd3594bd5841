"""A tiny task family that shows what an algorithm does with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, Reference, TaskFamily, Timestep
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields
from jaxmeta_envs.core.spaces import Box, Discrete


class ToyTask(NamedTuple):
    """What the actions pay.

    Attributes:
        payoff: float32 ``[3]``; of three discrete actions, or the first for a continuous one.
    """

    payoff: Array


class ToyState(NamedTuple):
    """Steps played, int32, and the last action as a number in [-1, 1]."""

    time: Array
    last: Array


class Call(NamedTuple):
    """One recorded call of a toy's method.

    Attributes:
        method: ``"sample_task"``, ``"reset"`` or ``"step"``.
        key: The key that it was given, as numbers.
        time: Steps played before; 0 but for ``step``.
        action: The action of ``step``, else 0.
    """

    method: str
    key: tuple[int, ...]
    time: int
    action: float


_METHODS = ("sample_task", "reset", "step")
_calls: list[Call] = []


@dataclass(frozen=True)
class ToyFamily(TaskFamily[ToyTask, ToyState]):
    """Actions that pay differently in every task, with noise, for a few steps.

    Attributes:
        continuous: Whether the action is a number in [-1, 1] rather than one of three.
        terminates: Whether the last step is terminated rather than truncated. Nothing else
            depends on it.
        length: Steps per episode.
        recorded: Whether calls can be seen by `recording`.
    """

    continuous: bool = False
    terminates: bool = False
    length: int = 3
    recorded: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.length >= 1, "length", self.length, "at least 1")

    @property
    def finite_horizon(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.terminates

    @property
    def observation_space(self) -> Box:
        return Box(-1.0, 1.0, (2,))

    @property
    def action_space(self) -> Box | Discrete:
        return Box(-1.0, 1.0, (1,)) if self.continuous else Discrete(3)

    @property
    def horizon(self) -> int:
        return self.length

    @property
    def default_episodes(self) -> int:
        return 2

    def sample_task(self, key: Array, split: str = "train") -> ToyTask:
        self.check_split(split)
        self._record("sample_task", key)
        return ToyTask(jax.random.normal(key, (3,), jnp.float32))

    def reset(self, key: Array, task: ToyTask) -> tuple[ToyState, Array]:
        del task
        self._record("reset", key)
        state = ToyState(jnp.int32(0), jnp.float32(0.0))
        return state, self._observe(state)

    def step(
        self, key: Array, state: ToyState, action: Array, task: ToyTask
    ) -> tuple[ToyState, Timestep]:
        self._record("step", key, state.time, action.reshape(()))
        if self.continuous:
            last = jnp.clip(action[0], -1.0, 1.0)
            pay = task.payoff[0] * last + task.payoff[1] * last**2 + task.payoff[2]
        else:
            arm = jnp.clip(action, 0, 2)
            last, pay = arm - 1.0, task.payoff[arm]
        state = ToyState(state.time + 1, last.astype(jnp.float32))
        reward = pay + 0.1 * jax.random.normal(key)
        end = state.time >= self.length
        terminated = end if self.terminates else jnp.zeros_like(end)
        return state, Timestep(self._observe(state), reward, terminated, end & ~terminated)

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns "random", and "oracle", which is told the payoffs.

        A little noise on its numbers tells apart what it does from copies of it.
        """

        def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any]:
            del inputs
            payoff = params[1].payoff
            if not self.continuous:
                return jnp.argmax(payoff).astype(jnp.int32), carry
            slope, curve = payoff[0], payoff[1]
            bend = jnp.where(curve < 0, -slope / (2.0 * curve), 0.0)
            tries = jnp.clip(jnp.stack([bend, -jnp.ones(()), jnp.ones(())]), -1.0, 1.0)
            best = tries[jnp.argmax(slope * tries + curve * tries**2)]
            noise = 0.01 * jax.random.normal(key, (1,))
            return jnp.clip(best[None] + noise, -1.0, 1.0), carry

        oracle = AdaptivePolicy(begin=lambda params, key: (), act=act)
        return dict(super().references(num_episodes)) | {"oracle": Reference(oracle, (), True)}

    def _observe(self, state: ToyState) -> Array:
        return jnp.stack([jnp.minimum(state.time / self.length, 1.0), state.last])

    def _record(self, method: str, key: Array, time: Array | int = 0, action: Array | int = 0):
        if self.recorded:
            index = _METHODS.index(method)
            jax.debug.callback(_append, index, jax.random.key_data(key), time, action)


def _append(method: int, key: Array, time: Array, action: Array) -> None:
    numbers = tuple(int(x) for x in key)
    _calls.append(Call(_METHODS[int(method)], numbers, int(time), float(action)))


@contextlib.contextmanager
def recording() -> Iterator[list[Call]]:
    """Collects the calls of every ``recorded`` toy, in no particular order."""
    calls: list[Call] = []
    jax.effects_barrier()
    _calls.clear()
    try:
        yield calls
    finally:
        jax.effects_barrier()
        calls.extend(_calls)
        _calls.clear()
