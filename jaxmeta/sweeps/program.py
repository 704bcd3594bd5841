"""The compiled part of a sweep: many runs side by side in one program.

Axes: R runs of a wave (a run is a point of the grid and a seed), B held-out tasks, K rows of
the adaptation curve. Runs are spread over the devices, which have nothing to tell one another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxmeta import engine
from jaxmeta.config import TrainConfig
from jaxmeta.evaluation.evaluate import monitor_key
from jaxmeta.evaluation.player import BATCH, compiler_options, draw_task
from jaxmeta.evaluation.protocols import make_protocol
from jaxmeta.parallel import Device
from jaxmeta.runtime.interrupts import compile_beside
from jaxmeta.sweeps.swept import at_point

AXIS = "runs"
_RUNS, _ALL = PartitionSpec(AXIS), PartitionSpec()


class Wave(NamedTuple):
    """A program that trains R runs.

    Attributes:
        size: R, a multiple of the devices.
        init: ``(keys[R], points[R]) -> state``, every leaf with a leading runs axis.
        train: ``(state, keys, points, first_update) -> (state, metrics[updates, R])``. The
            given state is gone.
        evaluate: ``(params, points) -> (scores[R, B, K], finite[R])``, the scores on the tasks
            of `jaxmeta.evaluation.evaluate.quick_evaluation`, and whether all parameters are
            finite.
        memory: Bytes that ``train`` needs on each device.
        seconds: What compiling took.
    """

    size: int
    init: Callable[[Array, Array], Any]
    train: Callable[..., tuple[Any, dict[str, Array]]]
    evaluate: Callable[[Any, Array], tuple[Array, Array]]
    memory: int
    seconds: float


def compile_wave(config: TrainConfig, devices: list[Device], size: int) -> Wave:
    """Compiles a wave.

    Args:
        config: The run; its swept hyperparameters are `jaxmeta.sweeps.swept.Swept`.
        devices: Devices that share the runs.
        size: R, a multiple of the devices.
    """
    began = time.perf_counter()
    mesh = Mesh(devices, (AXIS,), axis_types=(AxisType.Auto,))
    init = _spread(_make_init(config), mesh, (_RUNS, _RUNS), _RUNS)
    keys = jax.ShapeDtypeStruct((size,), jax.random.key(0).dtype)
    points = jax.ShapeDtypeStruct((size,), jnp.int32)
    state = jax.eval_shape(init, keys, points)
    chunk = _spread(
        _make_chunk(config), mesh, (_RUNS, _RUNS, _RUNS, _ALL), (_RUNS, PartitionSpec(None, AXIS))
    )
    by_run = NamedSharding(mesh, _RUNS)
    state, keys, points = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=by_run), (state, keys, points)
    )
    train = jax.jit(chunk, donate_argnums=0).lower(state, keys, points, np.int32(0))
    train = compile_beside(train)
    evaluate = _spread(_make_evaluation(config), mesh, (_RUNS, _RUNS), (_RUNS, _RUNS))
    return Wave(
        size=size,
        init=jax.jit(init, out_shardings=by_run),
        train=train,
        evaluate=jax.jit(evaluate, compiler_options=compiler_options(mesh)),
        memory=_memory(train),
        seconds=time.perf_counter() - began,
    )


def place_runs(devices: list[Device], seeds: np.ndarray, points: np.ndarray) -> tuple[Array, Array]:
    """Returns the keys of seeds ``[R]`` and the points ``[R]`` where the runs are trained."""
    mesh = Mesh(devices, (AXIS,), axis_types=(AxisType.Auto,))
    keys = jnp.stack([jax.random.key(int(seed)) for seed in seeds])
    return jax.device_put((keys, np.asarray(points, np.int32)), NamedSharding(mesh, _RUNS))


def _spread(function: Callable[..., Any], mesh: Mesh, specs: Any, out: Any) -> Callable[..., Any]:
    """Lets every device work on its own runs."""
    if mesh.size == 1:
        return function
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)


def _make_init(config: TrainConfig) -> Callable[[Array, Array], Any]:
    init_seeds = engine.make_init(config)

    def init(key: Array, point: Array) -> Any:
        with at_point(point):
            return jax.tree.map(lambda x: x[0], init_seeds(key[None]))

    return jax.vmap(init)


def _make_chunk(config: TrainConfig) -> Callable[..., tuple[Any, dict[str, Array]]]:
    update_run = engine.make_update(config)

    def one(state: Any, key: Array, point: Array, update: Array) -> tuple[Any, dict[str, Array]]:
        with at_point(point):
            return update_run(state, key, update)

    def chunk(
        state: Any, keys: Array, points: Array, first_update: Array
    ) -> tuple[Any, dict[str, Array]]:
        def body(state: Any, update: Array) -> tuple[Any, Any]:
            if points.shape[0] == 1:  # a batch of one matrix product is slower than one
                own, key, point = jax.tree.map(lambda x: x[0], (state, keys, points))
                return jax.tree.map(lambda x: x[None], one(own, key, point, update))
            return jax.vmap(one, in_axes=(0, 0, 0, None))(state, keys, points, update)

        return jax.lax.scan(body, state, first_update + jnp.arange(config.updates_per_chunk))

    return chunk


def _make_evaluation(config: TrainConfig) -> Callable[..., tuple[Array, Array]]:
    """Plays one run after the other, all of a run's tasks at once."""
    algorithm, family, tasks = config.algorithm, config.tasks, config.eval_tasks

    def run(given: tuple[Any, Array]) -> tuple[Array, Array]:
        params, point = given
        key = monitor_key()

        def play(index: Array) -> Array:
            task, play_key = draw_task(family, key, index, "test")
            with at_point(point):
                return make_protocol(algorithm, family).play(params, task, play_key)

        indices = jnp.arange(tasks, dtype=jnp.uint32)
        scores = jax.lax.map(play, indices, batch_size=min(tasks, BATCH))
        floats = (x for x in jax.tree.leaves(params) if jnp.issubdtype(x.dtype, jnp.inexact))
        return scores, jnp.all(jnp.asarray([jnp.isfinite(x).all() for x in floats]))

    return lambda params, points: jax.lax.map(run, (params, points))


def _memory(compiled: Any) -> int:
    """Returns the bytes that a compiled program needs on each device; 0 if unknown."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    return held - analysis.alias_size_in_bytes + analysis.temp_size_in_bytes
