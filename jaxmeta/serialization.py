"""Configurations as JSON and back.

Every dataclass becomes an object with a ``"kind"``: the short name of a class of this
library's registry, else ``"module:QualifiedName"``, which another process can import by
itself. Tuples become lists; infinity, which JSON lacks, ``{"kind": "float", "value": "inf"}``.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import types
import typing
from typing import Any, Literal, Union

import numpy as np

from jaxmeta import registry
from jaxmeta_envs.errors import ConfigError, closest, require

SCHEMA = 2
"""Version of the format; a file of a later version is refused."""

_BEFORE: dict[int, dict[str, dict[str, Any]]] = {
    1: {
        "rl2": {
            "actions": "clipped",
            "normalize_observations": False,
            "normalize_rewards": False,
        },
        "epopt": {"actions": "clipped", "normalize_observations": False},
        "policy-maml": {"actions": "clipped", "normalize_observations": False},
        "gmps": {"normalize_observations": False},
    }
}
"""By version and kind: fields that such a file lacks, and what was done before they existed."""


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

    Fields that are missing take their defaults, so that a field may be added later; those that
    the file's version is known to lack, what was done before they existed.

    Raises:
        ConfigError: If the object is of a later version, or a kind, a field or a field's
            type is unknown; and what the dataclasses themselves raise.
    """
    require(isinstance(data, dict), "config", data, "a JSON object")
    schema = data.get("schema")
    known = (*_BEFORE, SCHEMA)
    text = f"{' or '.join(map(str, known))}, the versions this jaxmeta reads"
    require(schema in known, "schema", schema, text)
    content = {k: v for k, v in data.items() if k != "schema"}
    return _decode(_completed(content, _BEFORE.get(schema, {})), "config")


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
    name = registry.builtin_name(cls)
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
    hints = _hints(cls)
    values = {name: _decode(value, f"{path}.{name}") for name, value in data.items()}
    for name, value in values.items():
        hint = hints.get(name, Any)
        require(_fits(value, hint), f"{path}.{name}", value, f"of type {_show(hint)}")
    for name, field in fields.items():
        default = (field.default, field.default_factory)
        missing = name not in values and default == (dataclasses.MISSING,) * 2
        require(not missing, f"{path}.{name}", None, "given")
    return cls(**values)


def _find_class(kind: str, path: str) -> type:
    cls: Any = (registry.ALGORITHMS | registry.FAMILIES).get(kind)
    if cls is None and ":" in kind:
        module, _, qualname = kind.partition(":")
        try:
            cls = importlib.import_module(module)
            for name in qualname.split("."):
                cls = getattr(cls, name)
        except (ImportError, AttributeError, ValueError) as error:
            advice = "; define it here before loading, or move it to a module"
            raise ConfigError(
                f"{path}.kind is {kind!r}, which is not found: {error}"
                f"{advice if module == '__main__' else ''}"
            ) from error
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        known = sorted(registry.ALGORITHMS | registry.FAMILIES)
        raise ConfigError(
            f"{path}.kind is {kind!r}; it must be one of {', '.join(known)}, or "
            f"module:QualifiedName of a dataclass{closest(kind, known)}"
        )
    return cls


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError:  # annotations that only a type checker can resolve
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value may stand in a field with this annotation; True where in doubt."""
    if hint is Any:  # a class by now, but none that isinstance takes
        return True
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _fits(value, args[0])
    if origin in (Union, types.UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(args) == 2 and args[1] is Ellipsis:
            return all(_fits(item, args[0]) for item in value)
        return len(value) == len(args) and all(map(_fits, value, args))
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):  # a bool is an int to Python, an int is a float to everyone
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    cls = origin or hint
    return isinstance(value, cls) if isinstance(cls, type) else True


def _show(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
