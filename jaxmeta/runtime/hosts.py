"""Several processes, on one machine or on many, that train one run together.

Every process runs the same program on its own devices, whose tasks it alone draws and plays;
what they exchange are the reductions of `jaxmeta.parallel`. The first process writes the run
and reads it back, so that the others need not see its disk. With a single process everything
here does nothing.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxmeta_envs.core.errors import ConfigError, require

Tree = TypeVar("Tree")

_HEARTBEAT_SECONDS = 20
_SHUTDOWN_SECONDS = 30
_LOSS = re.compile(r"Gloo|NCCL|heartbeat|CoordinationService|Connection closed by peer")


class ProcessLost(RuntimeError):
    """Another process of the run has ended, so that this one cannot go on."""


def connect(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes of a run; call before anything touches a device.

    Without arguments JAX finds out by itself, as under SLURM, Open MPI and on TPU pods.

    Args:
        coordinator: ``"HOST:PORT"`` of the first process, which listens there.
        processes: How many there are.
        process_id: Which one this is, from 0.

    Raises:
        ConfigError: If only some arguments are given, they do not fit, or the processes do
            not find each other.
    """
    given = (coordinator, processes, process_id)
    if coordinator is None or processes is None or process_id is None:
        require(
            given == (None, None, None),
            "coordinator, processes, process_id",
            given,
            "given together, or not at all where JAX finds the others itself",
        )
    else:
        require(processes >= 1, "processes", processes, "at least 1")
        require(0 <= process_id < processes, "process_id", process_id, f"from 0 to {processes - 1}")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        hint = ""
        if coordinator is None:
            hint = "; outside SLURM, Open MPI and TPU pods give coordinator, processes, process_id"
        raise ConfigError(f"the processes of the run cannot be joined{hint}: {error}") from error


def are_several() -> bool:
    """Whether this run has more than one process."""
    return jax.process_count() > 1


def leads() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def tells_of_loss(error: Exception) -> bool:
    """Whether an error of JAX says that another process cannot be reached.

    JAX has no type for it: the CPU's transport raises ValueError where a result is read.
    """
    return _LOSS.search(str(error)) is not None


def share_text(text: str) -> str:
    """Returns the first process's text; all must call."""
    if not are_several():
        return text
    own = np.frombuffer(text.encode(), np.uint8)
    data = np.zeros(int(broadcast(np.int32(own.size))), np.uint8)
    if leads():
        data[:] = own
    return bytes(broadcast(data)).decode()


def share_signal(signum: int | None) -> int | None:
    """Returns a signal that any process got, the same one in all; all must call."""
    if not are_several():
        return signum
    found = multihost_utils.process_allgather(np.int32(signum or 0))
    return int(np.max(found)) or None


def broadcast(tree: Tree) -> Tree:
    """Returns the first process's NumPy arrays, to the bit; all must call."""
    return multihost_utils.broadcast_one_to_all(tree)


def place(tree: Tree, target: Any) -> Tree:
    """Puts arrays that every process has where the leaves of ``target`` have their sharding."""

    def one(x: Any, target: Any) -> jax.Array:
        array = np.asarray(x)
        return jax.make_array_from_callback(
            array.shape, target.sharding, lambda index: array[index]
        )

    return jax.tree.map(one, tree, target)


def own_copy(tree: Tree) -> Tree:
    """Returns whole arrays on this process's first device.

    Of what every device holds that is one copy of many. If something is spread over devices of
    several processes, all must call.
    """

    def one(x: jax.Array) -> Any:
        if x.is_fully_replicated:
            return x.addressable_data(0)
        if x.is_fully_addressable:
            return jax.device_put(x, x.addressable_data(0).device)
        whole = multihost_utils.process_allgather(x, tiled=True)
        return jax.device_put(whole, x.addressable_data(0).device)

    return jax.tree.map(one, tree)
