"""Devices: the tasks axis spread over a mesh without the algorithms knowing.

The shell wraps a whole update in `shard_map`. Inside it every device holds its own share of the
tasks, and of the state all that is not spread over tasks (`jaxmeta.placement`); the helpers
below pick that share and average over it. Without a mesh (a user's own ``jit`` or ``vmap``) they
do nothing, so an algorithm is written once. Random numbers belong to task indices, not to
devices: one device and eight draw the same tasks and the same trajectories.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, PartitionSpec

from jaxmeta_envs.core.errors import ConfigError, require

AXIS = "tasks"
Device: TypeAlias = Any  # jax.Device, which type checkers take for a variable
Tree = TypeVar("Tree")

_KINDS = "all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter"
_COLLECTIVE = re.compile(rf"= (?P<shape>.*?) (?P<kind>{_KINDS})(?:-start)?\(")

# How many shares the tasks are cut into while an update is traced.
_shares: ContextVar[int] = ContextVar("jaxmeta_task_shares", default=1)


def request_cpu_devices() -> None:
    """Asks for one XLA host device per core, unless JAX is running or the user chose.

    One device per core beats one device with a thread pool by about a quarter on
    recurrent training, because a fork and join per small operation costs more than it
    gains. Call before anything touches a device; later it does nothing.
    """
    if _chosen_devices():
        return
    # A backend that is already initialised refuses, and keeps what it has.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", _cores())


def check_platform() -> None:
    """Raises `ConfigError` if the user named a platform that JAX cannot use here.

    Starts JAX's backend.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
        if not asked:
            raise
        why = " ".join(str(error).split()) or "JAX finds no such device"
        raise ConfigError(
            f"JAX_PLATFORMS is {asked!r}; it must be a platform that is here, or unset ({why})"
        ) from error


def idle_cores() -> int:
    """Returns how many cores have no device because JAX was running before they were asked for."""
    alone = jax.default_backend() == "cpu" and jax.local_device_count() == 1
    return _cores() - 1 if alone and not _chosen_devices() else 0


def _chosen_devices() -> bool:
    """Whether the user, or an earlier request that was heard, says how many host devices."""
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    configured = jax.config.jax_num_cpu_devices  # pyright: ignore[reportAttributeAccessIssue]
    return chosen or configured >= 1


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def first_device() -> list[Device]:
    """Returns the first device of this process, alone."""
    check_platform()
    return jax.local_devices()[:1]


def choose_devices(num_tasks: int, task_multiple: int, devices: int | None) -> list[Device]:
    """Picks the devices that share ``num_tasks`` evenly.

    Args:
        num_tasks: Tasks per update.
        task_multiple: Each share must be a multiple of this.
        devices: How many to use, of all processes together; None takes as many as divide
            the tasks. Every process gives as many as every other.

    Raises:
        ConfigError: If ``devices`` are not there or do not divide the tasks, or if none do.
    """
    check_platform()
    processes, local = jax.process_count(), len(jax.local_devices())
    all_there = len(jax.devices())
    require(all_there == processes * local, "devices", all_there, "as many in every process")
    there = range(processes, all_there + 1, processes)
    fitting = [n for n in there if num_tasks % (n * task_multiple) == 0]
    least = processes * task_multiple
    multiple = f"a multiple of {least}, {task_multiple} for each process"
    require(bool(fitting), "num_tasks", num_tasks, multiple)
    if devices is None:
        devices = fitting[-1]
    where = "on this host" if processes == 1 else f"a multiple of the {processes} processes"
    require(devices in there, "devices", devices, f"from {there[0]} to {there[-1]} {where}")
    shares = "equal shares"
    if task_multiple > 1:
        shares += f" that are multiples of {task_multiple}"
    require(
        devices in fitting,
        "devices",
        devices,
        f"one of {', '.join(map(str, fitting))}: num_tasks={num_tasks} is split into {shares}",
    )
    return _devices_of_all(devices // processes)


def _devices_of_all(count: int) -> list[Device]:
    """Returns the first ``count`` devices of every process."""
    if jax.process_count() == 1:
        return jax.local_devices()[:count]
    processes = range(jax.process_count())
    return [d for p in processes for d in jax.local_devices(process_index=p)[:count]]


def task_mesh(devices: list[Device]) -> Mesh:
    """Returns the mesh whose one axis is the tasks."""
    return Mesh(devices, (AXIS,), axis_types=(AxisType.Auto,))


def shard_update(
    update: Callable[..., Any],
    devices: list[Device],
    in_specs: Any = PartitionSpec(),  # noqa: B008, immutable
    out_specs: Any = PartitionSpec(),  # noqa: B008
) -> Callable[..., Any]:
    """Wraps a pure function so that its tasks are spread over ``devices``.

    What the specs do not cut is replicated; of it, only what lies between `task_keys` and the
    reductions of this module differs from device to device. The collectives in the
    compiled program are therefore exactly the reductions that the algorithm asks for.

    Args:
        update: The function.
        devices: Who share the tasks.
        in_specs: How its arguments are cut, see `jax.shard_map`.
        out_specs: How its results are.
    """
    if len(devices) == 1:
        return update
    mesh = task_mesh(devices)

    def shared(*args: Any) -> Any:
        with _sharing(len(devices)):
            return update(*args)

    return jax.shard_map(shared, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


@contextlib.contextmanager
def _sharing(shares: int) -> Iterator[None]:
    token = _shares.set(shares)
    try:
        yield
    finally:
        _shares.reset(token)


def task_keys(key: Array, num_tasks: int) -> Array:
    """Returns one key per task of this device's share, ``[num_tasks / devices]``."""
    return own_tasks(jax.random.split(key, num_tasks))


def sum_over_devices(tree: Tree) -> Tree:
    """Adds a pytree of float arrays over all devices, as one reduction."""
    if _shares.get() == 1:
        return tree
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.psum(flat, AXIS))


def gather_tasks(x: Array) -> Array:
    """Returns the numbers of all tasks, ``[num_tasks]``, given those of this device's share."""
    shares = _shares.get()
    if shares == 1:
        return x
    everywhere = jnp.zeros(shares * x.shape[0], x.dtype)
    start = jax.lax.axis_index(AXIS) * x.shape[0]
    # As a sum it is the collective that every other reduction is.
    return jax.lax.psum(jax.lax.dynamic_update_slice_in_dim(everywhere, x, start, 0), AXIS)


def own_tasks(x: Array) -> Array:
    """Returns this device's share of the numbers of all tasks."""
    shares = _shares.get()
    if shares == 1:
        return x
    share = x.shape[0] // shares
    return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(AXIS) * share, share)


def sum_over_tasks(tree: Tree) -> Tree:
    """Adds float arrays over their leading tasks axis, on all devices."""
    return sum_over_devices(jax.tree.map(lambda x: jnp.sum(x, axis=0), tree))


def mean_over_tasks(tree: Tree) -> Tree:
    """Averages float arrays over their leading tasks axis, on all devices."""
    shares = _shares.get()
    return jax.tree.map(lambda total, x: total / (x.shape[0] * shares), sum_over_tasks(tree), tree)


class Collective(NamedTuple):
    """A message between devices in a compiled program.

    Attributes:
        kind: What it does, such as ``"all-reduce"``.
        elements: How many numbers every device then has of it.
    """

    kind: str
    elements: int


def collectives(text: str) -> list[Collective]:
    """Returns the collectives in the text of a compiled program, each where it stands once."""
    found = []
    for match in _COLLECTIVE.finditer(text):
        shapes = re.findall(r"\w+\[([\d,]*)\]", match["shape"])
        sizes = (math.prod(map(int, shape.split(","))) if shape else 1 for shape in shapes)
        found.append(Collective(match["kind"], sum(sizes)))
    return found
