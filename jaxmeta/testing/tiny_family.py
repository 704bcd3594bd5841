"""Meta-gradients of the real algorithm on processes small enough to enumerate.

`TinyFamily` is a task family of `TinyProcess`es. `tabular` turns a `PolicyMAML` into one whose
policy is a table of logits, so that its meta-gradients, which `sample_meta_gradients` takes from
its own `update`, can be held against those of `Adaptation`.

Axes: R repetitions, S states, A actions, P processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from jax import Array

from jaxmeta.algorithms.policy_maml import PolicyMAML, PolicyMAMLState
from jaxmeta.networks import MLP
from jaxmeta.ops.moments import Moments
from jaxmeta.parts.optimizers.ppo import PPO
from jaxmeta.testing.tiny_process import TinyProcess
from jaxmeta_envs.core.contracts import TaskFamily, Timestep
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields
from jaxmeta_envs.core.spaces import Discrete

_LOGITS = "policy_head/params/Dense_0/kernel"


class TinyTask(NamedTuple):
    """A `TinyProcess`; its attributes of the same names, ``[...]`` as there."""

    transition: Array
    reward: Array
    stops: Array


class TinyState(NamedTuple):
    """Where an episode is, and how many steps it has had; both int32."""

    position: Array
    time: Array


@dataclass(frozen=True)
class TinyFamily(TaskFamily[TinyTask, TinyState]):
    """One of some `TinyProcess`es, each as likely; the last step terminates.

    Attributes:
        seeds: Of the processes, see `TinyProcess.draw`.
        horizon: Most steps of an episode.
        states: States, which are the observations.
        actions: Actions.
        certain: Whether actions are sure of the next state.
        ends: Whether some actions end an episode.
    """

    finite_horizon: ClassVar[bool] = True

    seeds: tuple[int, ...] = (1,)
    horizon: int = 2  # pyright: ignore[reportIncompatibleMethodOverride]
    states: int = 2
    actions: int = 2
    certain: bool = False
    ends: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("horizon", "states", "actions"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")

    @property
    def processes(self) -> tuple[TinyProcess, ...]:
        """The processes that are tasks."""
        return _draw(self)

    @property
    def observation_space(self) -> Discrete:
        return Discrete(self.states)

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.actions)

    @property
    def default_episodes(self) -> int:
        return 1

    def sample_task(self, key: Array, split: str = "train") -> TinyTask:
        self.check_split(split)
        chosen = jax.random.randint(key, (), 0, len(self.seeds))
        rows = ((p.transition, p.reward, p.stops) for p in self.processes)
        stacked = (np.stack(column) for column in zip(*rows, strict=True))
        kinds = (np.float32, np.float32, np.bool_)
        return TinyTask(*(jnp.asarray(x, k)[chosen] for x, k in zip(stacked, kinds, strict=True)))

    def reset(self, key: Array, task: TinyTask) -> tuple[TinyState, Array]:
        del key, task
        return TinyState(jnp.int32(0), jnp.int32(0)), jnp.int32(0)

    def step(
        self, key: Array, state: TinyState, action: Array, task: TinyTask
    ) -> tuple[TinyState, Timestep]:
        action = self.action_space.clip(action)
        chances = task.transition[state.position, action]
        # Compared with all but the last sum, which is 1 up to rounding.
        passed = jax.random.uniform(key) >= jnp.cumsum(chances)[:-1]
        new = TinyState(jnp.sum(passed, dtype=jnp.int32), state.time + 1)
        terminated = task.stops[state.position, action] | (new.time >= self.horizon)
        reward = task.reward[state.position, action]
        return new, Timestep(new.position, reward, terminated, jnp.zeros_like(terminated))


@lru_cache
def _draw(family: TinyFamily) -> tuple[TinyProcess, ...]:
    return tuple(
        TinyProcess.draw(
            seed,
            family.horizon,
            states=family.states,
            actions=family.actions,
            certain=family.certain,
            ends=family.ends,
        )
        for seed in family.seeds
    )


def tabular(algorithm: PolicyMAML, family: TinyFamily) -> PolicyMAML:
    """Returns the algorithm with a table of logits for a policy, which alone adapts.

    Its first layer, and that of a value network, is to hand on the state as it is
    (`tabular_state`). Returns are not discounted, and one gradient is taken per update.
    """
    layer = MLP((family.states,), "relu")
    return replace(
        algorithm,
        network=layer,
        baseline=layer if isinstance(algorithm.baseline, MLP) else algorithm.baseline,
        inner=replace(algorithm.inner, adapts=_LOGITS),
        optimizer=PPO(epochs=1, minibatches=1, max_grad_norm=1e9),
        discount=1.0,
        gae_lambda=1.0,
    )


def tabular_state(
    algorithm: PolicyMAML, family: TinyFamily, logits: np.ndarray, values: np.ndarray | None = None
) -> PolicyMAMLState:
    """Returns a state in which the policy has these logits.

    Args:
        algorithm: From `tabular`.
        family: The processes.
        logits: ``[S, A]``.
        values: What a value network says of each state, ``[S]``; by default 0.
    """
    state = algorithm.init(family, jax.random.key(0))
    heads = {"policy_head": np.asarray(logits)}
    heads["value_head"] = np.zeros((family.states, 1)) if values is None else values[:, None]

    def fill(path: tuple, leaf: Array) -> Array:
        part, name = path[0].key, path[-1].key
        value = 0.0 if name == "bias" else heads.get(part, np.eye(family.states))
        return jnp.broadcast_to(jnp.asarray(value, leaf.dtype), leaf.shape)

    initial = jax.tree_util.tree_map_with_path(fill, state.params.meta.initial)
    # The network's values are in units of the rewards.
    moments = Moments(jnp.float32(0.0), jnp.float32(1.0), jnp.float32(1.0))
    meta = state.params.meta._replace(initial=initial)
    return state._replace(params=state.params._replace(meta=meta, value_moments=moments))


class Sampled(NamedTuple):
    """What updates gave.

    Attributes:
        gradient: Of the mean reward per step after adaptation, in the logits, ``[R, S, A]``.
        value: Mean return of an episode after adaptation, ``[R]``.
    """

    gradient: np.ndarray
    value: np.ndarray


def sample_meta_gradients(
    algorithm: PolicyMAML,
    family: TinyFamily,
    logits: np.ndarray,
    key: Array,
    repetitions: int,
    *,
    values: np.ndarray | None = None,
    jit: Callable[..., Callable[..., Any]] = jax.jit,
) -> Sampled:
    """Returns the meta-gradients of updates that begin with the same policy.

    They are read off the state after an update: Adam's mean of gradients then is a tenth of its
    first one. That is the gradient of a loss whose advantages are divided by their deviation over
    all tasks, which the metrics tell.

    Args:
        algorithm: From `tabular`.
        family: The processes.
        logits: ``[S, A]``.
        key: Of the updates.
        repetitions: R.
        values: See `tabular_state`.
        jit: Compiles.
    """
    state = tabular_state(algorithm, family, logits, values)

    def one(key: Array) -> tuple[Array, Array]:
        new, metrics = algorithm.update(family, state, key, jnp.int32(0))
        mean: Any = optax.tree.get(new.opt_state, "mu")
        slope = 10.0 * mean.initial["policy_head"]["params"]["Dense_0"]["kernel"]
        return -slope * metrics["advantage_std"], metrics["return"]

    run = jit(lambda keys: jax.lax.map(one, keys))
    gradient, value = run(jax.random.split(key, repetitions))
    return Sampled(np.asarray(gradient, np.float64), np.asarray(value, np.float64))


def mean_p_value(sampled: np.ndarray, mean: np.ndarray) -> float:
    """Returns how likely a sample mean is to lie as far off as this one (Hotelling's T² test).

    The derivatives in the logits of one state sum to 0: what is compared is those of all actions
    but the first less that of the first.

    Args:
        sampled: ``[R, S, A]``, independent, R large enough for its mean to be normal.
        mean: What its mean is to be, ``[S, A]``.
    """
    off = sampled - mean
    off = (off[..., 1:] - off[..., :1]).reshape(len(off), -1)
    count, size = off.shape
    covariance = np.atleast_2d(np.cov(off.T))
    squared = count * off.mean(0) @ np.linalg.solve(covariance, off.mean(0))
    share = (count - size) / (size * (count - 1))
    return float(scipy.stats.f.sf(share * squared, size, count - size))
