"""Parts of users, chosen as ``algorithm.memory:mine:MyMemory``.

Parts of this library are alternatives that tyro knows. One of a user's becomes the default, of
which tyro makes options as of any other.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from jaxmeta.catalog import importing
from jaxmeta_envs.core.errors import require

Part = TypeVar("Part")

_CHOICE = re.compile(r"(?P<field>[a-z][a-z0-9.-]*):(?P<name>[^\W\d][\w.]*:[^\W\d][\w.]*)")


def choose_own_parts(config: Part, arguments: Sequence[str]) -> tuple[Part, list[str]]:
    """Returns a configuration with the parts that the arguments name, and the other arguments.

    Raises:
        ConfigError: If there is no such class, it cannot be made without arguments, or it is of
            another kind than the field.
    """
    rest = []
    for word in arguments:
        choice = _CHOICE.fullmatch(word)
        path = choice["field"].replace("-", "_").split(".") if choice else []
        if choice is None or not _has(config, path):
            rest.append(word)
        else:
            config = _replaced(config, path, _make(choice["field"], choice["name"]))
    return config, rest


def _has(part: Any, path: Sequence[str]) -> bool:
    """Whether a dataclass has a field of this path."""
    if not path:
        return True
    known = dataclasses.is_dataclass(part) and path[0] in {f.name for f in dataclasses.fields(part)}
    return known and _has(getattr(part, path[0]), path[1:])


def _replaced(part: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value
    inner = _replaced(getattr(part, path[0]), path[1:], value)
    return dataclasses.replace(part, **{path[0]: inner})


def _make(field: str, name: str) -> Any:
    """Returns an instance with its defaults."""
    cls = importing.find_named(field, name)
    require(dataclasses.is_dataclass(cls), field, name, "a dataclass")
    lacking = [*getattr(cls, "__abstractmethods__", ())]
    lacking += [f.name for f in dataclasses.fields(cls) if _is_required(f)]
    said = f"a class with all its methods and a default for every field: {', '.join(lacking)}"
    require(not lacking, field, name, said)
    return cls()


def _is_required(field: dataclasses.Field) -> bool:
    defaults = (field.default, field.default_factory)
    return field.init and all(default is dataclasses.MISSING for default in defaults)
