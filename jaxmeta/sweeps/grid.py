"""Which hyperparameters a sweep varies, and over which values."""

from __future__ import annotations

import dataclasses
import itertools
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Union

import numpy as np

from jaxmeta.config import TrainConfig
from jaxmeta.contracts import Algorithm
from jaxmeta.sweeps.swept import Swept
from jaxmeta_envs.core.errors import ConfigError, closest, require


@dataclass(frozen=True)
class Grid:
    """All combinations of the values of some hyperparameters of an algorithm.

    Point i has the i-th combination, the last name varying fastest.

    Attributes:
        names: Fields of the algorithm; those of its parts with dots, ``optimizer.clip``.
        values: Of each name, what it takes.
    """

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each name takes."""
        return tuple(map(len, self.values))

    @property
    def points(self) -> list[dict[str, float]]:
        """The combinations."""
        return [
            dict(zip(self.names, point, strict=True)) for point in itertools.product(*self.values)
        ]

    def config_of(self, config: TrainConfig, point: int) -> TrainConfig:
        """Returns the run of one combination, as `jaxmeta.train` would take it."""
        return _with(config, self.points[point])

    def swept(self, config: TrainConfig) -> TrainConfig:
        """Returns a run whose swept hyperparameters stand for all their values, see `Swept`."""
        points = self.points
        return _with(config, {n: Swept(n, [p[n] for p in points]) for n in self.names})


def make_grid(config: TrainConfig, axes: Mapping[str, Sequence[float]]) -> Grid:
    """Checks names and values, and every combination of them.

    Args:
        config: The run that is varied.
        axes: Values of each hyperparameter. Names may have dashes for underscores and may
            begin with ``algorithm.``, as on the command line.

    Raises:
        ConfigError: If a name is no number of the algorithm, or a value not allowed.
    """
    require(bool(axes), "axes", dict(axes), "at least one hyperparameter with its values")
    names, values = [], []
    for given, numbers in axes.items():
        name = given.replace("-", "_").removeprefix("algorithm.")
        require(name not in names, "axes", given, "given once")
        _check_name(config.algorithm, name)
        names.append(name)
        values.append(_check_values(name, numbers))
    for whole, part in itertools.permutations(names, 2):
        require(not part.startswith(f"{whole}."), "axes", part, f"swept without {whole}")
    grid = Grid(tuple(names), tuple(values))
    for point in grid.points:
        _with(config, point)  # its own checks speak for every combination
    return grid


def sweepable(part: Any, prefix: str = "") -> Iterator[str]:
    """Yields the names of all fields of a dataclass and its parts that are numbers to sweep."""
    hints = typing.get_type_hints(type(part))
    for field in dataclasses.fields(part):
        name, value = prefix + field.name, getattr(part, field.name)
        if _takes_float(hints[field.name]):
            yield name
        if dataclasses.is_dataclass(value):
            yield from sweepable(value, f"{name}.")


def _check_values(name: str, numbers: Sequence[float]) -> tuple[float, ...]:
    text = "some different finite numbers"
    try:
        values = tuple(float(number) for number in np.asarray(numbers, float))
    except (TypeError, ValueError):
        raise ConfigError(f"{name} is {numbers!r}; it must be {text}") from None
    good = len(values) == len(set(values)) > 0 and all(map(math.isfinite, values))
    require(good, name, numbers, text)
    return values


def _check_name(algorithm: Algorithm, name: str) -> None:
    *path, last = name.split(".")
    part: Any = algorithm
    for depth, step in enumerate(path):
        _check_field(algorithm, part, step, name)
        part = getattr(part, step)
        if not dataclasses.is_dataclass(part):
            where = ".".join(path[: depth + 1])
            raise ConfigError(f"{name} cannot be swept: {where} is {part!r}, which has no parts")
    _check_field(algorithm, part, last, name)
    if _takes_float(typing.get_type_hints(type(part))[last]):
        return
    value = getattr(part, last)
    if isinstance(value, bool | str) or value is None:
        why = "it is not a number"
    elif isinstance(value, int):
        why = (
            "whole numbers decide the shapes of arrays or how often something is repeated, so "
            "every value is a program of its own; train them one by one"
        )
    elif dataclasses.is_dataclass(value):
        inner = ", ".join(sweepable(value, f"{name}.")) or "none"
        why = f"it is a part; its numbers are: {inner}"
    else:
        why = "it is not one number"
    raise ConfigError(f"{name} cannot be swept: {why}")


def _check_field(algorithm: Algorithm, part: Any, step: str, name: str) -> None:
    if step in {field.name for field in dataclasses.fields(part)}:
        return
    names = list(sweepable(algorithm))
    elsewhere = [known for known in names if known.endswith(f".{name}")]
    guess = f" (did you mean {elsewhere[0]}?)" if elsewhere else closest(name, names)
    raise ConfigError(
        f"{name} cannot be swept: {type(part).__name__} has no field {step!r}"
        f"{guess}; the numbers of {type(algorithm).__name__} are: {', '.join(names)}"
    )


def _takes_float(hint: Any) -> bool:
    union = typing.get_origin(hint) in (Union, types.UnionType)
    return hint is float or (union and float in typing.get_args(hint))


def _with(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    algorithm: Any = config.algorithm
    return replace(config, algorithm=_replace(algorithm, changes))


def _replace(part: Any, changes: Mapping[str, Any]) -> Any:
    """Replaces fields by dotted names, each part once, so that it is checked with all of them."""
    own = {name: value for name, value in changes.items() if "." not in name}
    for step in dict.fromkeys(name.partition(".")[0] for name in changes if "." in name):
        inner = {
            name.partition(".")[2]: value
            for name, value in changes.items()
            if name.startswith(f"{step}.")
        }
        own[step] = _replace(getattr(part, step), inner)
    return replace(part, **own)
