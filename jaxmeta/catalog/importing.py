"""Classes of users: where they come from, and what is said where one is not found.

A module is imported because its user said so: by ``--import MODULE`` or a name ``module:Class``
on the command line, or by installing a package that declares it as an entry point. A file, such
as the record of a run, imports nothing: what it names has to be imported by then.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxmeta_envs.core.errors import ConfigError, closest

GROUPS = {"algorithm": "jaxmeta.algorithms", "family": "jaxmeta.families"}
"""Groups of entry points, by what is found there."""

_OURS = ("jaxmeta", "jaxmeta_envs")
_asked: list[str] = []

Getter = Callable[[Any, str, Any], Any]
"""As `getattr` is: an owner, a name, and what to return if it has no such attribute."""


def asked() -> tuple[str, ...]:
    """Returns the modules that the user asked for by name in this process."""
    return tuple(_asked)


def import_module(name: str) -> ModuleType:
    """Imports a module that the user named, such as a file in the working directory.

    Raises:
        ConfigError: If there is none, or it cannot be imported.
    """
    return _import_asked(name, f"import is {name!r}")


def find_named(field: str, name: str) -> Any:
    """Returns what a name ``module:Class`` that the user wrote stands for.

    Args:
        field: What is named, for the messages.
        name: The name.

    Raises:
        ConfigError: If the module cannot be imported or has no such thing.
    """
    said = f"{field} is {name!r}"
    module, _, qualname = name.partition(":")
    return _look_up(_import_asked(module, said), qualname, said, getattr)


def entry_points(field: str) -> tuple[str, ...]:
    """Returns the names that installed packages declare; nothing is imported.

    Args:
        field: ``"algorithm"`` or ``"family"``.
    """
    return tuple(sorted(metadata.entry_points(group=GROUPS[field]).names))


def load_entry_point(field: str, name: str) -> Any:
    """Returns what installed packages declare under one of the names of `entry_points`.

    Raises:
        ConfigError: If it cannot be imported, or if two packages declare different things.
    """
    points = {p.value: p for p in metadata.entry_points(group=GROUPS[field], name=name)}
    said = f"{field} is {name!r}, the entry point {' and '.join(points)} of an installed package"
    if len(points) > 1:
        raise ConfigError(f"{said}; write which of these is meant instead of the name")
    (point,) = points.values()
    return _look_up(_import(point.module, said), point.attr, said, getattr)


def find_in_file(kind: str, path: str) -> Any:
    """Returns what a file means by ``module:QualifiedName``, without importing for its sake.

    Only modules of this library, and the entry points of the package that the module is of,
    are imported; others must be already, see `asked`.

    Args:
        kind: The name.
        path: Where it stands in the file, for the messages.

    Raises:
        ConfigError: If it is not found; it says how it can be.
    """
    said = f"{path}.kind is {kind!r}"
    module, _, qualname = kind.partition(":")
    if module == "__main__":
        return _of_script(qualname, said)
    if module not in sys.modules and module.partition(".")[0] in _OURS:
        _import(module, said)
    if module not in sys.modules:
        _import_installed(module.partition(".")[0])
    if module not in sys.modules:
        raise ConfigError(
            f"{said}, and no module {module} is imported: add --import {module} to the command, "
            f"in Python import {module} first, or install a package whose entry points name it "
            f"({' or '.join(GROUPS.values())})"
        )
    # The module's dictionary is read, as its __getattr__ may import.
    return _look_up(sys.modules[module], qualname, said, _stored)


def _of_script(qualname: str, said: str) -> Any:
    """Finds what was defined in the script or notebook that wrote a file."""
    for name in ("__main__", *asked()):
        found = _attribute(sys.modules[name], qualname, _stored)
        if found is not None:
            return found
    raise ConfigError(
        f"{said}, of the script or notebook that wrote this file: define it before loading, or "
        "move it to a file such as mine.py and add --import mine to the command"
    )


def _import_installed(package: str) -> None:
    """Imports the entry points of a package, which installing it allowed."""
    for field, group in GROUPS.items():
        for point in metadata.entry_points(group=group):
            if point.module.partition(".")[0] == package:
                load_entry_point(field, point.name)


def _import_asked(name: str, said: str) -> ModuleType:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name) or name.endswith(".py"):
        raise ConfigError(
            f"{said}; the module must be named as in Python: mine for mine.py in the working "
            "directory, package.module for an installed one"
        )
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as python -m does, and python FILE
    importlib.invalidate_caches()
    module = _import(name, said)
    file, wanted = getattr(module, "__file__", None), Path(here, f"{name}.py")
    if wanted.exists() and not (file and os.path.samefile(file, wanted)):
        where = f"of {file}" if file else "of Python itself"
        raise ConfigError(f"{said}, which is a module {where}; give {wanted} another name")
    if name not in _asked:
        _asked.append(name)
    return module


def _import(name: str, said: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(said, name, error) from error
        near = closest(name, [file.stem for file in Path().glob("*.py")])
        raise ConfigError(
            f"{said}, and there is no module {error.name}, neither installed nor as a file in "
            f"{os.getcwd()}{near}"
        ) from None
    except (Exception, SystemExit) as error:
        raise _broken(said, name, error) from error


def _broken(said: str, name: str, error: BaseException) -> ConfigError:
    """Says what went wrong in a module, and in which of its lines."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = next((f for f in frames if f.name == "<module>"), None)
    where = f" ({theirs.filename}, line {theirs.lineno})" if theirs else ""
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return ConfigError(f"{said}, and importing {name} failed with {what}{where}")


def _look_up(module: ModuleType, qualname: str, said: str, get: Getter) -> Any:
    found = _attribute(module, qualname, get)
    if found is None and not qualname:
        raise ConfigError(f"{said}, which names no class: write {module.__name__}:Class")
    if found is None:
        named = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise ConfigError(
            f"{said}, and {module.__name__} has no {qualname}{closest(qualname, named)}"
        )
    return found


def _attribute(found: Any, qualname: str, get: Getter) -> Any:
    """Returns what a dotted name stands for, or None."""
    for name in qualname.split("."):
        found = get(found, name, None)
    return found


def _stored(owner: Any, name: str, default: Any) -> Any:
    return getattr(owner, "__dict__", {}).get(name, default)
