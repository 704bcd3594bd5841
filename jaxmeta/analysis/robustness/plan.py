"""What a robustness map is to play, worked out and checked before anything is compiled.

Axes: P simulators, D physical parameters in the order of the task's leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmeta.analysis.robustness.result import Range
from jaxmeta.analysis.robustness.worst_case import CrossEntropy
from jaxmeta.catalog.registry import closest
from jaxmeta.runs.choose import picture_place
from jaxmeta_envs.core.contracts import TaskFamily
from jaxmeta_envs.core.errors import ConfigError, require
from jaxmeta_envs.core.physical import PhysicalFamily

_SLACK = 1e-6  # the limits are float32, what a user types is not
_MOST_POINTS = 10_000  # of a map, each a simulator of its own


class Sweep(NamedTuple):
    """Which simulators to play.

    Attributes:
        names: All physical parameters.
        swept: One or two of them.
        grid: The values of each, float32.
        base: The values of all parameters where they are not swept.
        ranges: Where every parameter may be swept or searched.
        kept: Parameters that the user fixed.
        structure: Of a task.
    """

    names: tuple[str, ...]
    swept: tuple[str, ...]
    grid: tuple[np.ndarray, ...]
    base: dict[str, float]
    ranges: dict[str, Range]
    kept: tuple[str, ...]
    structure: Any

    def simulators(self) -> np.ndarray:
        """Returns the simulators of the grid, the last parameter fastest, float32 ``[P, D]``."""
        swept = np.meshgrid(*self.grid, indexing="ij")
        columns = dict(zip(self.swept, (values.ravel() for values in swept), strict=True))
        rest = {name: np.full(swept[0].size, value) for name, value in self.base.items()}
        return np.stack([(rest | columns)[name] for name in self.names], -1).astype(np.float32)

    def tasks(self, simulators: np.ndarray) -> Any:
        """Returns the tasks of simulators ``[P, D]``, leaves ``[P]``."""
        return jax.tree.unflatten(self.structure, list(simulators.T))

    def training_ranges(self, family: PhysicalFamily) -> dict[str, Range]:
        """Returns the lowest and highest value of every parameter in training."""
        return _ranges(family.distribution("train"), self.names)

    def searched(self, search: CrossEntropy) -> tuple[str, ...]:
        """Returns the parameters that a search may change."""
        free = tuple(n for n in self.names if n not in self.kept)
        chosen = search.parameters or (self.swept if search.within == "map" else free)
        return tuple(name for name in self.names if name in chosen)

    def box(
        self, search: CrossEntropy, training: Mapping[str, Range]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ends of the box of a search, float32 ``[D]``."""
        searched, ends = self.searched(search), []
        for name in self.names:
            low, high = self.ranges[name]
            if name not in searched:
                low = high = self.base[name]
            elif search.within == "train":
                low, high = np.clip(training[name], low, high)
            ends.append((low, high))
        low, high = np.asarray(ends, np.float32).T
        return low, high


def plan_sweep(
    families: Sequence[TaskFamily],
    parameters: Sequence[str] | None,
    ranges: Mapping[str, tuple[float, float]],
    fixed: Mapping[str, float],
    points: int,
    search: CrossEntropy | None,
) -> Sweep:
    """Checks what the user asked for and returns what to play.

    Raises:
        ConfigError: If it cannot be played.
    """
    physical = _check_families(families)
    family = physical[0]
    names = family.parameter_names()
    swept = tuple(names[:2] if parameters is None else parameters)
    require(len(swept) in (1, 2), "parameters", swept, "one or two names")
    require(len(set(swept)) == len(swept), "parameters", swept, "different names")
    most = int(_MOST_POINTS ** (1 / len(swept)))
    require(points <= most, "points", points, f"at most {most:,} along each of {len(swept)}")
    _check_names("parameters", swept, names)
    _check_names("ranges", ranges, names)
    _check_names("fixed", fixed, names)
    limits = _envelope([_ranges(f.limits(), names) for f in physical])
    for name, value in fixed.items():
        require(name not in swept, "fixed", name, "a parameter that is not swept")
        _check_inside(f"fixed {name}", (value, value), limits[name])
    chosen = {n: _check_range(n, ranges[n], limits[n]) for n in names if n in ranges}
    for name in swept:
        finite = np.all(np.isfinite((limits | chosen)[name]))
        require(bool(finite), f"range of {name}", limits[name], "given: the limits are infinite")
    task = family.nominal_task()
    nominal = {name: float(getattr(task, name)) for name in names}
    sweep = Sweep(
        names=names,
        swept=swept,
        grid=tuple(np.linspace(*(limits | chosen)[n], points, dtype=np.float32) for n in swept),
        base=nominal | {name: float(value) for name, value in fixed.items()},
        ranges=limits | chosen,
        kept=tuple(fixed),
        structure=jax.tree.structure(task),
    )
    if search is not None:
        _check_search(search, sweep)
    return sweep


def picture_name(parameters: Sequence[str], search: CrossEntropy | None) -> str:
    """Returns what a figure is called: maps of other parameters, or by another search, otherwise.

    Args:
        parameters: Those that were asked for by name.
        search: How the worst case is looked for.
    """
    wide = ["limits"] if search is not None and search.within == "limits" else []
    return "-".join(["robustness", *parameters, *wide]) + ".png"


def check_out(results: Sequence[Any], out: str | Path | None, name: str) -> Path | None:
    """Returns the PNG to write, or None if there is no place for it.

    Args:
        results: The runs.
        out: Where the user wants it.
        name: What it is called in the directory of a run.

    Raises:
        ConfigError: If it cannot be written.
    """
    place = out
    if out is None and len(results) == 1:
        place = results[0].run_dir
    return None if place is None else picture_place(place, name)


def _check_families(families: Sequence[TaskFamily]) -> list[PhysicalFamily]:
    physical = [family for family in families if isinstance(family, PhysicalFamily)]
    for family in families:
        if family not in physical:
            raise ConfigError(
                f"tasks is {type(family).__name__}, which has no physical parameters; it must "
                "be a PhysicalFamily, such as CartPole"
            )
    kinds = tuple(dict.fromkeys(type(family) for family in physical))
    names = ", ".join(kind.__name__ for kind in kinds)
    require(len(kinds) == 1, "family of the runs", names, "the same for all")
    horizons = tuple(family.horizon for family in physical)
    require(len(set(horizons)) == 1, "horizon of the runs", horizons, "the same for all")
    return physical


def _ranges(box: Any, names: Sequence[str]) -> dict[str, Range]:
    """Returns the ends of a distribution for every parameter."""
    return {name: (float(getattr(box.low, name)), float(getattr(box.high, name))) for name in names}


def _envelope(limits: Sequence[Mapping[str, Range]]) -> dict[str, Range]:
    """Returns the ranges that contain the limits of all runs."""
    return {
        name: (min(box[name][0] for box in limits), max(box[name][1] for box in limits))
        for name in limits[0]
    }


def _check_names(
    field: str, given: Sequence[str] | Mapping[str, Any], names: Sequence[str]
) -> None:
    for name in given:
        if name not in names:
            guess = closest(str(name), names)
            known = ", ".join(names)
            raise ConfigError(f"{field} has {name!r}; it must be one of {known}{guess}")


def _check_range(name: str, given: Any, limits: Range) -> Range:
    field = f"range of {name}"
    pair = isinstance(given, tuple | list) and len(given) == 2
    require(pair and given[0] < given[1], field, given, "two numbers, the lower one first")
    _check_inside(field, (given[0], given[1]), limits)
    return float(given[0]), float(given[1])


def _check_inside(field: str, given: Range, limits: Range) -> None:
    low, high = (end + _SLACK * sign * abs(end) for end, sign in zip(limits, (-1, 1), strict=True))
    inside = low <= given[0] and given[1] <= high and np.all(np.isfinite(given))
    value = given[0] if given[0] == given[1] else given
    allowed = f"within the limits, {limits[0]:g} to {limits[1]:g}"
    require(bool(inside), field, value, allowed)


def _check_search(search: CrossEntropy, sweep: Sweep) -> None:
    chosen = search.parameters
    if chosen is not None:
        require(len(chosen) > 0, "search.parameters", chosen, "at least one name")
        _check_names("search.parameters", chosen, sweep.names)
        kept = [name for name in chosen if name in sweep.kept]
        require(not kept, "search.parameters", chosen, f"without what is fixed ({', '.join(kept)})")
    for name in sweep.searched(search):
        finite = np.all(np.isfinite(sweep.ranges[name]))
        require(bool(finite), f"range of {name}", sweep.ranges[name], "given: it has no end")
