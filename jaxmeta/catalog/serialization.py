"""Configurations as JSON and back.

Every dataclass becomes an object with a ``"kind"``: the short name of a class of this
library, see `jaxmeta.catalog.registry` and `jaxmeta.catalog.part_names`; of a user's own class
``"module:QualifiedName"``, which another process finds once it has imported the module. Tuples
become lists; infinity, which JSON lacks,
``{"kind": "float", "value": "inf"}``.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from jaxmeta.catalog import importing, registry
from jaxmeta.catalog.part_names import OLD_NAMES, PLACES, part_name
from jaxmeta_envs.core.annotations import fits, hints_of, shown
from jaxmeta_envs.core.errors import ConfigError, closest, require

SCHEMA = 4
"""Version of the format; a file of a later version is refused."""

_BEFORE: dict[int, dict[str, dict[str, Any]]] = {
    1: {
        "rl2": {
            "actions": "clipped",
            "bptt_steps": None,
            "checkpoint": False,
            "encoder": None,
            "normalize_observations": False,
            "normalize_rewards": False,
            "risk": {"kind": "mean"},
            "value_lambda": None,
        },
        "epopt": {
            "actions": "clipped",
            "normalize_observations": False,
            "risk_over": "simulators",
        },
        "gmps": {"actions": "clipped"},
        "policy-maml": {"actions": "clipped", "initial_std": 1.0, "standardize_over": "batch"},
        "policy-objective": {
            "episodes": "adapted",
            "standardize": True,
        },
        "ppo": {"max_kl": None},
        "trpo": {"task_by_task": False},
        "train-config": {"matmul_precision": "default", "target": None},
        "recall": {"hops": 1},
        "gymnax-family": {"disjoint_splits": True},
    },
    2: {
        "gmps": {"normalize_observations": False},
        "maml": {"first_weights": "he"},
        "policy-maml": {"normalize_observations": False},
        "sinusoid": {"points": None},
        "inner-loop": {"minibatches": None},
        # Nothing was chosen, and of few features nothing is now.
        "linear-baseline": {"highest_ridge": 10.0},
    },
    3: {"train-config": {"check": True}},  # no part of what is learned
}
"""By version and kind: fields that files of this version or an earlier one may lack, and what was
done before they existed. A new field of a class of this library needs a line under the last
version before `SCHEMA`; if files of `SCHEMA` are in other hands already, `SCHEMA` goes up."""


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a dataclass as a JSON object.

    Args:
        config: A dataclass whose fields hold numbers, text, None, tuples and dataclasses.

    Raises:
        ConfigError: If a field holds something else.
    """
    name = type(config).__name__
    require(dataclasses.is_dataclass(config), "config", config, "a dataclass")
    return {"schema": SCHEMA, **_encode(config, name)}


def from_dict(data: Any) -> Any:
    """Returns the dataclass that `to_dict` was given.

    Fields that the file's version is known to lack take what was done before they existed; that
    is not always today's default, so other fields may not be missing. No module is imported for a
    file's sake, see `jaxmeta.catalog.importing.find_in_file`.

    Raises:
        ConfigError: If the object is of a later version, if a kind, a field or a field's
            type is unknown, or if a field is missing; and what the dataclasses themselves raise.
    """
    require(isinstance(data, dict), "config", data, "a JSON object")
    schema = data.get("schema")
    known = (*_BEFORE, SCHEMA)
    text = f"{' or '.join(map(str, known))}, the versions this jaxmeta reads"
    require(schema in known, "schema", schema, text)
    content = renamed({k: v for k, v in data.items() if k != "schema"})
    for version, missing in _BEFORE.items():
        content = _completed(content, missing) if schema <= version else content
    return _decode(content, "config")


def check_loadable(config: Any) -> None:
    """Raises `ConfigError` if a file with ``config`` could not be read again.

    So it is with what is defined inside a function, what is no dataclass, and a part of a kind
    that an algorithm does not take.
    """
    written = to_dict(config)
    back = to_dict(from_dict(json.loads(json.dumps(written))))
    if back != written:
        raise ConfigError(
            "config is another one after it was written to a file and read again; its parts must "
            "be what their fields say"
        )


def renamed(data: Any) -> Any:
    """Returns decoded JSON in which built-in classes have the names that `to_dict` gives them.

    Args:
        data: Of any version.
    """
    if isinstance(data, list):
        return [renamed(item) for item in data]
    if not isinstance(data, dict):
        return data
    fields = {name: renamed(value) for name, value in data.items()}
    kind = fields.get("kind")
    if isinstance(kind, str):
        fields["kind"] = OLD_NAMES.get(kind, kind)
    return fields


def _completed(data: Any, missing: dict[str, dict[str, Any]]) -> Any:
    """Returns decoded JSON with fields that its objects lack, by their kind."""
    if isinstance(data, list):
        return [_completed(item, missing) for item in data]
    if not isinstance(data, dict):
        return data
    fields = {name: _completed(value, missing) for name, value in data.items()}
    kind = data.get("kind")
    return (missing.get(kind, {}) if isinstance(kind, str) else {}) | fields


def _encode(value: Any, path: str) -> Any:
    if isinstance(value, tuple) and not hasattr(value, "_fields"):  # a list loses the names
        return [_encode(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field for field in dataclasses.fields(value) if field.init]
        encoded = {f.name: _encode(getattr(value, f.name), f"{path}.{f.name}") for f in fields}
        return {"kind": _kind(type(value), path), **encoded}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"kind": "float", "value": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"{path} is {value!r}; to be written to a file it must be a number, text, None, a tuple "
        "or a dataclass of these"
    )


def _kind(cls: type, path: str) -> str:
    name = registry.builtin_name(cls) or part_name(cls)
    if name is not None:
        return name
    if "<locals>" in cls.__qualname__:
        raise ConfigError(
            f"{path} is of class {cls.__qualname__}; to be written to a file it must be of a class "
            "defined at the top of a module, where it can be found again"
        )
    return f"{cls.__module__}:{cls.__qualname__}"


def _decode(data: Any, path: str) -> Any:
    if isinstance(data, list):
        return tuple(_decode(item, f"{path}[{i}]") for i, item in enumerate(data))
    if not isinstance(data, dict):
        return data
    kind = data.get("kind", "")
    known = isinstance(kind, str) and kind != ""
    require(known, f"{path}.kind", kind, "the name of a class")
    fields = {name: value for name, value in data.items() if name != "kind"}
    if kind == "float":
        value = fields.get("value", "missing")
        require(value in ("inf", "-inf", "nan"), path, value, "inf, -inf or nan")
        return float(value)
    return _build(_find_class(kind, path), fields, path)


def _build(cls: type, data: dict[str, Any], path: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in data:
        if name not in fields:
            raise ConfigError(
                f"{path}.{name} is not a field of {cls.__name__}; its fields are "
                f"{', '.join(fields)}{closest(name, fields)}"
            )
    hints = hints_of(cls)
    values = {name: _decode(value, f"{path}.{name}") for name, value in data.items()}
    for name, value in values.items():
        hint = hints.get(name, Any)
        require(fits(value, hint), f"{path}.{name}", value, f"of type {shown(hint)}")
    for name, field in fields.items():
        if name not in values:
            raise ConfigError(f"{path}.{name} is missing{_default(field)}")
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{path} cannot be made a {cls.__name__} again: {error}") from error


def _default(field: dataclasses.Field) -> str:
    default, factory = field.default, field.default_factory
    if default is dataclasses.MISSING and factory is dataclasses.MISSING:
        return ", and has no default"
    value = default if factory is dataclasses.MISSING else factory()
    return (
        f"; its default today, {value!r}, need not be what the run used: write into the file "
        "what it used"
    )


def _find_class(kind: str, path: str) -> type:
    place = PLACES.get(kind, kind)
    if ":" in place:
        cls: Any = importing.find_in_file(place, path)
    else:
        cls = (registry.ALGORITHMS | registry.FAMILIES).get(kind)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        known = sorted({*registry.ALGORITHMS, *registry.FAMILIES, *PLACES})
        raise ConfigError(
            f"{path}.kind is {kind!r}; it must be one of {', '.join(known)}, or "
            f"module:QualifiedName of a dataclass{closest(kind, known)}"
        )
    return cls
