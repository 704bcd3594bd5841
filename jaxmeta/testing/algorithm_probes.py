"""An algorithm under test: its first state and a few updates, shared by the checks.

Axes: S lanes (seeds side by side), U updates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta.contracts import Algorithm
from jaxmeta.testing.conformance import fast_jit
from jaxmeta.testing.toys import ToyFamily
from jaxmeta_envs.core.contracts import Family
from jaxmeta_envs.core.errors import ConfigError

LANES, UPDATES = 4, 2


class Updates(NamedTuple):
    """What some updates of several lanes returned.

    Attributes:
        states: State after every update, leaves ``[S, U, ...]``.
        metrics: Arrays ``[S, U]``.
    """

    states: Any
    metrics: dict[str, Any]

    def after(self, update: int) -> Any:
        """Returns the states after that update, leaves ``[S, ...]``."""
        return jax.tree.map(lambda x: x[:, update], self.states)


@dataclass(frozen=True, eq=False)
class AlgorithmProbe:
    """An algorithm under test, with what the checks share.

    Attributes:
        algorithm: The algorithm, with tiny settings.
        family: The family that most checks train on.
        seed: Seed of all randomness.
        bootstraps: Whether the algorithm tells time limits from terminations.
    """

    algorithm: Algorithm
    family: Any = field(default_factory=ToyFamily)
    seed: int = 0
    bootstraps: bool = True
    _programs: dict[Family, Callable[..., Updates]] = field(default_factory=dict)

    def key(self, name: str) -> Array:
        """Returns the key of a named stream."""
        return jax.random.fold_in(jax.random.key(self.seed), sum(name.encode()))

    def accepts(self, family: Any) -> bool:
        """Whether the algorithm can train on ``family``."""
        try:
            self.algorithm.check(family)
        except ConfigError:
            return False
        return True

    @cached_property
    def state(self) -> Any:
        """The first state on the family."""
        return self.init(self.family)

    def init(self, family: Any) -> Any:
        """Returns a first state."""
        return fast_jit(lambda key: self.algorithm.init(family, key))(self.key("init"))

    def trace_update(self, family: Any) -> tuple[Any, Any]:
        """Returns shapes of the state and metrics after an update, without running it."""

        def update(key: Array) -> tuple[Any, Any]:
            init_key, update_key = jax.random.split(key)
            state = self.algorithm.init(family, init_key)
            return self.algorithm.update(family, state, update_key, jnp.int32(0))

        return jax.eval_shape(update, self.key("trace"))

    @cached_property
    def keys(self) -> Array:
        """Keys of `first`, ``[S, U]``: two lanes are equal, all have one second key."""
        keys = jax.random.split(self.key("updates"), LANES)
        first = jnp.stack([keys[0], keys[0], keys[1], keys[2]])
        return jnp.stack([first, jnp.stack([keys[3]] * LANES)], axis=1)

    @cached_property
    def first(self) -> Updates:
        """Two updates of every lane from the first state, under `keys`."""
        return self.updates(self.family, lanes(self.state), self.keys)

    def updates(self, family: Any, states: Any, keys: Array, step: int = 0) -> Updates:
        """Runs updates of states ``[S, ...]`` under keys ``[S, U]``; one program per family.

        Args:
            family: The family.
            states: The states.
            keys: Keys of the updates.
            step: Updates done before.
        """
        if family not in self._programs:

            def one(state: Any, drawn: tuple[Array, Array]) -> tuple[Any, Updates]:
                state, metrics = self.algorithm.update(family, state, *drawn)
                return state, Updates(state, dict(metrics))

            def run(state: Any, keys: Array, step: Array) -> Updates:
                return jax.lax.scan(one, state, (keys, step + jnp.arange(len(keys))))[1]

            self._programs[family] = fast_jit(jax.vmap(run, in_axes=(0, 0, None)))
        return self._programs[family](states, keys, jnp.int32(step))

    def loud(self, state: Any, draw: int = 0) -> Any:
        """Returns the state with large random parameters, under which everything matters.

        Fresh policies hardly depend on what they see, so that defects would not show.
        """
        rng = np.random.default_rng([self.seed, draw])

        def shout(path: tuple, leaf: Array) -> Array:
            if not is_params(path) or not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)

        return jax.tree_util.tree_map_with_path(shout, state)


def is_params(path: tuple) -> bool:
    """Whether a path into the state leads to its parameters."""
    entry = path[0] if path else None
    return getattr(entry, "name", getattr(entry, "key", None)) == "params"


def lanes(tree: Any) -> Any:
    """Repeats a pytree for every lane."""
    return jax.tree.map(lambda x: jnp.stack([x] * LANES), tree)
