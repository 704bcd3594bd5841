"""Where the parts of an algorithm's state lie, and how long they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from jaxmeta.parallel import AXIS, Device, task_mesh


@dataclass(frozen=True)
class Placement:
    """Where a part of the state lies; `jaxmeta.contracts.Algorithm.placement` says it.

    Attributes:
        over_tasks: Whether its first axis is the tasks of an update and each device holds the
            rows of its own tasks, instead of every device holding all of it.
        newest_only: Whether it is data that only going on needs, such as a replay buffer. Such
            data are written with the newest checkpoint alone, from which a resumed run goes on
            bit for bit, and are None in a `jaxmeta.TrainResult`.
    """

    over_tasks: bool = False
    newest_only: bool = False


WHOLE = Placement()
"""Held in full by every device and kept in every checkpoint, as parameters are."""


def spread(prefix: Any, state: Any) -> Any:
    """Returns the placement of each leaf, given that of the subtrees of the state.

    Raises:
        ValueError: If ``prefix`` is no pytree prefix of the state.
    """
    return jax.tree.map(lambda one, part: jax.tree.map(lambda _: one, part), prefix, state)


def specs(prefix: Any, *, leading: int) -> Any:
    """Returns how a mesh of the tasks cuts the state, of the structure of ``prefix``.

    Args:
        prefix: Of `Placement`.
        leading: Axes in front of those that the algorithm knows of, such as that of the seeds.
    """
    over_tasks = PartitionSpec(*[None] * leading, AXIS)
    return jax.tree.map(lambda one: over_tasks if one.over_tasks else PartitionSpec(), prefix)


def shardings(prefix: Any, devices: list[Device]) -> Any:
    """Returns the sharding of a state with a seeds axis on devices that share the tasks."""
    if len(devices) == 1:
        return jax.tree.map(lambda one: replicated(devices), prefix)
    mesh = task_mesh(devices)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs(prefix, leading=1))


def replicated(devices: list[Device]) -> Sharding:
    """Returns the sharding of whatever every device holds in full."""
    if len(devices) == 1:
        return SingleDeviceSharding(devices[0])
    return NamedSharding(task_mesh(devices), PartitionSpec())


def split(prefix: Any, state: Any) -> tuple[Any, Any]:
    """Returns what every checkpoint keeps, and what the newest one alone does.

    Both have the structure of the state, with None in place of what is in the other.
    """
    placed = spread(prefix, state)
    kept = jax.tree.map(lambda one, x: None if one.newest_only else x, placed, state)
    newest = jax.tree.map(lambda one, x: x if one.newest_only else None, placed, state)
    return kept, newest


def join(kept: Any, newest: Any) -> Any:
    """Returns the state that `split` took apart."""

    def one(x: Any, y: Any) -> Any:
        return y if x is None else x

    return jax.tree.map(one, kept, newest, is_leaf=lambda x: x is None)
