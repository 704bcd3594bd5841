"""Whether a file in ``results/`` is of the settings that its command has today."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from jaxmeta import TrainConfig
from jaxmeta.catalog import serialization
from jaxmeta.catalog.part_names import PLACES
from jaxmeta_envs.core.spaces import Box, Discrete

HELD = ("algorithm", "tasks", "total_env_steps", "matmul_precision")
"""The settings that decide what is learned; the others decide what is written, and when."""

SINCE: dict[str, Any] = {
    "algorithm.actions": "clipped",
    "algorithm.baseline.highest_ridge": 10.0,  # not chosen with so few features
    "algorithm.first_weights": "he",
    "algorithm.inner.minibatches": None,
    "algorithm.normalize_observations": False,
    "algorithm.normalize_rewards": False,
    "algorithm.risk": {"kind": "mean"},
    "algorithm.risk_over": "simulators",
    "algorithm.standardize_over": "batch",
    "algorithm.value_lambda": None,
    "matmul_precision": "default",
    "tasks.points": None,
}
"""Settings that are younger than some files, with the value that means what was done before.

A setting that is missing in a file and not named here makes the file stale: the default of a new
setting is not taken for what an old run did.
"""
ABSENT = "(no such setting)"


def _without_bounds(config: TrainConfig) -> bool:
    """Whether actions are choices, or have no bounds to be squashed into."""
    space = getattr(config.tasks, "action_space", None)
    return isinstance(space, Discrete) or (isinstance(space, Box) and not space.bounded.any())


IDLE: dict[str, Callable[[TrainConfig], bool]] = {"algorithm.actions": _without_bounds}
"""Settings that change nothing where this holds: how continuous actions are distributed."""


def settings(cell: dict) -> dict[str, Any]:
    """Returns the settings that a file keeps; older files keep the algorithm and tasks alone."""
    kept = cell.get("config", cell)
    return {name: serialization.renamed(kept[name]) for name in HELD if name in kept}


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """Returns the same of a configuration, as a file would keep them."""
    written = json.loads(json.dumps(serialization.to_dict(config)))
    return {name: written[name] for name in HELD}


def changes(cell: dict, config: TrainConfig) -> list[str]:
    """Returns in what a file's settings differ from ``config``: ``path: the file's → today's``."""
    kept, today = settings(cell), settings_of(config)
    if "config" not in cell:
        today = {name: today[name] for name in kept}
    idle = {path for path, holds in IDLE.items() if holds(config)}
    found = [change for change in _differences(kept, today) if change[0] not in idle]
    return [f"`{path}`: {brief(old)} → {brief(new)}" for path, old, new in found]


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if not (isinstance(old, dict) and isinstance(new, dict)) or _replaced(old, new):
        if old != new:
            yield path, old, new
        return
    for name in sorted((old.keys() | new.keys()) - {"schema"}):
        inner = f"{path}.{name}" if path else name
        if name not in old and inner in SINCE and new[name] == SINCE[inner]:
            continue
        yield from _differences(old.get(name, ABSENT), new.get(name, ABSENT), inner)


def _replaced(old: dict, new: dict) -> bool:
    """Whether one part took the place of another, whose settings cannot be compared."""
    return old.get("kind") != new.get("kind")


def look_up(kept: dict, path: str) -> Any:
    """Returns the setting at a dotted path; `ABSENT` where there is none."""
    value: Any = kept
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return SINCE.get(path, ABSENT)
        value = value[name]
    return value


def class_name(kind: str) -> str:
    """Returns the class of a part by its name in files; other text as it is."""
    return PLACES.get(kind, kind).split(":")[-1]


def brief(value: Any) -> str:
    """Returns a setting in few words: a schedule as ``0.002 → 0``, a part by its name."""
    if isinstance(value, dict) and "kind" in value:
        name = class_name(value["kind"])
        if name == "Schedule":
            return f"{value['initial']:g} → {value['final']:g}"
        if name == "CVaR":
            return f"CVaR of {brief(value['fraction'])}"
        return name
    if value is None:
        return "none"
    if isinstance(value, list):
        return "-".join(map(brief, value))
    if isinstance(value, str):
        return class_name(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"
