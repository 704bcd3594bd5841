"""Plays a policy, or lets a model predict, on many tasks: the compiled part of evaluation.

Axes: B tasks, K rows of the adaptation curve, which are the points of a `Protocol`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxmeta.evaluation.protocol import Protocol
from jaxmeta_envs.core.contracts import Family

BATCH = 1024
"""Tasks played at a time by default."""

AXIS = "tasks"
"""Name of the mesh axis that tasks are spread over."""


def play_tasks(
    protocol: Protocol,
    params: Any,
    *,
    key: Array,
    num_tasks: int,
    split: str,
    batch: int,
    told_task: bool = False,
    member: int | None = None,
) -> np.ndarray:
    """Plays tasks 0 to B - 1 in batches of one shape, spread over the local devices.

    Args:
        protocol: Who plays, on what, and the points of its curve, K.
        params: What its policy reads; with ``member``, for every seed (leading axis).
        key: Typed PRNG key of the evaluation.
        num_tasks: B.
        split: Where the tasks are from.
        batch: Most tasks played at a time (rounded up to a multiple of the devices).
        told_task: Whether the policy receives ``(params, task)``.
        member: Which seed's parameters to play, by index; None if they have no such axis.

    Returns:
        Scores, float32 ``[B, K]``: undiscounted returns, losses or the like.
    """
    mesh = local_mesh()
    size = batch_size(num_tasks, batch)
    player = _player(protocol, split, told_task, mesh)
    params, member_index, key = _replicate(mesh, params, member, key)
    starts = range(0, num_tasks, size)
    played = [
        player(params, member_index, key, np.arange(start, start + size, dtype=np.uint32), None)
        for start in starts
    ]
    return np.concatenate([np.asarray(returns) for returns in played])[:num_tasks]


def play_given(
    protocol: Protocol,
    params: Any,
    *,
    key: Array,
    tasks: Any,
    luck: np.ndarray,
    size: int,
    member: int | None = None,
    on_batch: Callable[[np.ndarray], None] = lambda returns: None,
) -> np.ndarray:
    """Plays tasks that are given rather than drawn.

    Args:
        protocol: As in `play_tasks`.
        params: Likewise.
        key: Typed PRNG key.
        tasks: The tasks, NumPy leaves ``[B, ...]``.
        luck: Index of the random numbers that each task is played with, ``[B]``: tasks of
            the same index meet the same luck.
        size: Tasks played at a time, a multiple of the devices (see `batch_size`). The last
            batch is filled up, so that calls of different B share one compilation.
        member: As in `play_tasks`.
        on_batch: Told the returns ``[b, K]`` of every batch as it is done.

    Returns:
        Undiscounted returns, float32 ``[B, K]``.
    """
    mesh = local_mesh()
    player = _player(protocol, None, False, mesh)
    params, member_index, key = _replicate(mesh, params, member, key)
    played = []
    for start in range(0, len(luck), size):
        lanes = np.minimum(np.arange(start, start + size), len(luck) - 1)
        given = jax.tree.map(lambda leaf, lanes=lanes: np.asarray(leaf)[lanes], tasks)
        played.append(player(params, member_index, key, np.uint32(luck[lanes]), given))
    returns = []
    for index, batch in enumerate(played):
        returns.append(np.asarray(batch)[: len(luck) - index * size])
        on_batch(returns[-1])
    return np.concatenate(returns)


def local_mesh() -> Mesh:
    """Returns the mesh over which tasks are spread: all local devices."""
    return Mesh(tuple(jax.local_devices()), (AXIS,), axis_types=(AxisType.Auto,))


def batch_size(num_tasks: int, batch: int) -> int:
    """Returns the size of equal batches of about ``batch`` tasks, a multiple of the devices."""
    # Equal, so that the last one is not mostly padding.
    size = math.ceil(num_tasks / math.ceil(num_tasks / batch))
    devices = len(jax.local_devices())
    return math.ceil(size / devices) * devices


def draw_task(family: Family, key: Array, index: Array, split: str | None) -> tuple[Any, Array]:
    """Returns task number ``index`` of an evaluation (without a split, None) and its luck."""
    task_key, play_key = jax.random.split(jax.random.fold_in(key, index))
    return None if split is None else family.sample_task(task_key, split), play_key


def _replicate(mesh: Mesh, params: Any, member: int | None, key: Array) -> tuple[Any, Any, Array]:
    member_index = None if member is None else np.int32(member)
    return jax.device_put((params, member_index, key), NamedSharding(mesh, PartitionSpec()))


@functools.lru_cache(maxsize=128)
def _player(
    protocol: Protocol, split: str | None, told_task: bool, mesh: Mesh
) -> Callable[..., Array]:
    """Compiles ``(params, member or None, key, indices[B], tasks[B]) -> returns[B, K]``.

    With a split the tasks are None and drawn from it; without, they are those given.
    """

    def play_task(params: Any, key: Array, index: Array, task: Any) -> Array:
        drawn, play_key = draw_task(protocol.family, key, index, split)
        task = task if split is None else drawn
        given = (params, task) if told_task else params
        return protocol.play(given, task, play_key)

    def play(params: Any, member: Array | None, key: Array, indices: Array, tasks: Any) -> Array:
        if member is not None:
            params = jax.tree.map(
                lambda x: jax.lax.dynamic_index_in_dim(x, member, keepdims=False), params
            )
        return jax.vmap(play_task, in_axes=(None, None, 0, 0))(params, key, indices, tasks)

    everywhere, shared = PartitionSpec(), PartitionSpec(AXIS)
    in_specs = (everywhere, everywhere, everywhere, shared, shared)
    sharded = jax.shard_map(play, mesh=mesh, in_specs=in_specs, out_specs=shared, check_vma=False)
    return jax.jit(sharded, compiler_options=compiler_options(mesh))


def compiler_options(mesh: Mesh) -> dict[str, int]:
    """Compiles evaluations on the CPU in half the time.

    An evaluation compiles a program for every reference and runs it for a moment. Measured
    on bandits and grids, level 1 halves the former and leaves the latter as it is (level 0
    makes it five times slower).
    """
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return {"xla_backend_optimization_level": 1} if on_cpu else {}
