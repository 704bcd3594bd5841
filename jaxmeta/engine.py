"""The compiled part of training: pure functions made from a config.

The key of seed ``s`` is ``jax.random.key(s)``, split into one for the first state and one
for the updates; update ``u`` uses ``fold_in(update_key, u)``. So a run needs no key in its
state, and a resumed run continues with the numbers it would have had.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec, Sharding

from jaxmeta import parallel, placement, streams
from jaxmeta.config import TrainConfig, check_config
from jaxmeta.parallel import Device
from jaxmeta.parts.schedules import span_run

TrainFunction = Callable[[Array], tuple[Any, dict[str, Array]]]
ChunkFunction = Callable[[Any, Array, Array], tuple[Any, dict[str, Array]]]


def seed_keys(config: TrainConfig) -> Array:
    """Returns the keys of the config's seeds, ``[S]``."""
    seeds = range(config.seed, config.seed + config.num_seeds)
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def make_init(config: TrainConfig) -> Callable[[Array], Any]:
    """Returns ``keys[S] -> state`` whose leaves start with the seeds axis."""

    def init(keys: Array) -> Any:
        return jax.vmap(lambda k: config.algorithm.init(config.tasks, streams.init_key(k)))(keys)

    return init


def state_placement(config: TrainConfig) -> Any:
    """Returns where the algorithm's state lies, see `jaxmeta.placement`."""
    return config.algorithm.placement(config.tasks)


def state_target(config: TrainConfig, devices: list[Device]) -> Any:
    """Returns the state's shapes, dtypes and placement, without making one."""
    shapes = jax.eval_shape(make_init(config), seed_keys(config))
    where = placement.shardings(state_placement(config), devices)

    def placed(sharding: Sharding, part: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), part
        )

    return jax.tree.map(placed, where, shapes)


def make_update(config: TrainConfig) -> Callable[[Any, Array, Array], tuple[Any, dict[str, Array]]]:
    """Returns one update of one seed: ``(state, seed_key, update int32) -> (state, metrics)``."""
    algorithm = span_run(config.algorithm, config.plan().updates)

    def update(state: Any, key: Array, update: Array) -> tuple[Any, dict[str, Array]]:
        with _matmul_precision(config):
            own_key = streams.update_key(key, update)
            state, metrics = algorithm.update(config.tasks, state, own_key, update)
        return state, dict(metrics)

    return update


def _matmul_precision(config: TrainConfig) -> contextlib.AbstractContextManager:
    """How products that do not say otherwise are to be computed, while they are traced."""
    if config.matmul_precision == "default":
        return contextlib.nullcontext()
    algorithms = {"float32": "float32", "bfloat16": "BF16_BF16_F32"}
    return jax.default_matmul_precision(algorithms[config.matmul_precision])


def make_chunk(config: TrainConfig, devices: list[Device]) -> ChunkFunction:
    """Returns one dispatch of training: ``updates_per_chunk`` updates of every seed.

    Args:
        config: The run.
        devices: Devices that share the tasks, see `parallel.choose_devices`.

    Returns:
        ``(state, keys[S], first_update int32) -> (state, metrics)`` with metrics
        ``[updates, S]``. The caller compiles it, donating the state.
    """
    update_seed = make_update(config)

    def chunk(state: Any, keys: Array, first_update: Array) -> tuple[Any, dict[str, Array]]:
        def body(state: Any, update: Array) -> tuple[Any, Any]:
            if config.num_seeds == 1:  # a batch of one matrix product is slower than one
                one, metrics = update_seed(_squeeze(state), keys[0], update)
                return jax.tree.map(lambda x: x[None], (one, metrics))
            return jax.vmap(update_seed, in_axes=(0, 0, None))(state, keys, update)

        return jax.lax.scan(body, state, first_update + jnp.arange(config.updates_per_chunk))

    state = placement.specs(state_placement(config), leading=1)
    whole = PartitionSpec()
    return parallel.shard_update(chunk, devices, (state, whole, whole), (state, whole))


def make_train(config: TrainConfig) -> TrainFunction:
    """Returns a whole training run as one pure function.

    It takes the key of one seed; ``vmap`` it over ``jax.random.key`` of each for several.
    Use it to ``jit`` and ``vmap`` training yourself: nothing is printed, written or
    sharded, and ``num_seeds``, ``run_dir``, ``devices`` and the ``*_every`` fields are
    ignored. ``make_train(config)(jax.random.key(s))`` follows the same path as seed ``s``
    of ``train(config)``.

    Returns:
        ``key -> (state, metrics)`` with metrics ``[updates]``.
    """
    check_config(config)
    update_seed, updates = make_update(config), config.plan().updates

    def train(key: Array) -> tuple[Any, dict[str, Array]]:
        state = config.algorithm.init(config.tasks, streams.init_key(key))
        return jax.lax.scan(
            lambda state, update: update_seed(state, key, update), state, jnp.arange(updates)
        )

    return train


def _squeeze(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)
