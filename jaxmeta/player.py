"""Plays a policy on many tasks: the compiled part of evaluation.

Axes: B tasks, K rows of the adaptation curve.
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

from jaxmeta.rollout import play_adaptation
from jaxmeta_envs.base import AdaptivePolicy, TaskFamily

BATCH = 1024
"""Tasks played at a time by default."""

_AXIS = "tasks"


def play_tasks(
    policy: AdaptivePolicy,
    params: Any,
    family: TaskFamily,
    rows: int,
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
        policy: The policy.
        params: What it reads; with ``member``, for every seed (leading axis).
        family: The task family.
        rows: K.
        key: Typed PRNG key of the evaluation.
        num_tasks: B.
        split: Where the tasks are from.
        batch: Most tasks played at a time (rounded up to a multiple of the devices).
        told_task: Whether the policy receives ``(params, task)``.
        member: Which seed's parameters to play, by index; None if they have no such axis.

    Returns:
        Undiscounted returns, float32 ``[B, K]``.
    """
    devices = tuple(jax.local_devices())
    # Equal batches, so that the last one is not mostly padding.
    size = math.ceil(num_tasks / math.ceil(num_tasks / batch))
    size = math.ceil(size / len(devices)) * len(devices)
    mesh = Mesh(devices, (_AXIS,), axis_types=(AxisType.Auto,))
    player = _player(policy, family, rows, split, told_task, mesh)
    member_index = None if member is None else np.int32(member)
    replicated = NamedSharding(mesh, PartitionSpec())
    params, member_index, key = jax.device_put((params, member_index, key), replicated)
    starts = range(0, num_tasks, size)
    played = [
        player(params, member_index, key, np.arange(start, start + size, dtype=np.uint32))
        for start in starts
    ]
    return np.concatenate([np.asarray(returns) for returns in played])[:num_tasks]


@functools.lru_cache(maxsize=128)
def _player(
    policy: AdaptivePolicy, family: TaskFamily, rows: int, split: str, told_task: bool, mesh: Mesh
) -> Callable[..., Array]:
    """Compiles ``(params, member or None, key, indices[B]) -> returns[B, K]``."""

    def play_task(params: Any, key: Array, index: Array) -> Array:
        task_key, play_key = jax.random.split(jax.random.fold_in(key, index))
        task = family.sample_task(task_key, split)
        given = (params, task) if told_task else params
        trajectory = play_adaptation(family, policy, given, task, play_key, rows)
        return trajectory.reward.sum(axis=-1).mean(axis=-1)

    def play(params: Any, member: Array | None, key: Array, indices: Array) -> Array:
        if member is not None:
            params = jax.tree.map(
                lambda x: jax.lax.dynamic_index_in_dim(x, member, keepdims=False), params
            )
        return jax.vmap(play_task, in_axes=(None, None, 0))(params, key, indices)

    everywhere, shared = PartitionSpec(), PartitionSpec(_AXIS)
    in_specs = (everywhere, everywhere, everywhere, shared)
    sharded = jax.shard_map(play, mesh=mesh, in_specs=in_specs, out_specs=shared, check_vma=False)
    return jax.jit(sharded, compiler_options=_compiler_options(mesh))


def _compiler_options(mesh: Mesh) -> dict[str, int]:
    """Compiles evaluations on the CPU in half the time.

    An evaluation compiles a program for every reference and runs it for a moment. Measured
    on bandits and grids, level 1 halves the former and leaves the latter as it is (level 0
    makes it five times slower).
    """
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return {"xla_backend_optimization_level": 1} if on_cpu else {}
