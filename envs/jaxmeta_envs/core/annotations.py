"""What may stand in a field, by its annotation."""

from __future__ import annotations

import abc
import dataclasses
import inspect
import types
import typing
from typing import Any, Literal, Union


def hints_of(cls: type) -> dict[str, Any]:
    """Returns the annotations of a class; none if only a type checker can resolve them."""
    try:
        return typing.get_type_hints(cls)
    except (NameError, TypeError):  # annotations that only a type checker can resolve
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value may stand in a field with this annotation; True where in doubt."""
    hint = getattr(hint, "__value__", hint)  # of an alias
    if hint is Any:  # a class by now, but none that isinstance takes
        return True
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return fits(value, args[0])
    if origin in (Union, types.UnionType):
        base = _base(args)
        return any(fits(value, arg) for arg in args) or bool(base and isinstance(value, base))
    if origin is Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(args) == 2 and args[1] is Ellipsis:
            return all(fits(item, args[0]) for item in value)
        return len(value) == len(args) and all(map(fits, value, args))
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):  # a bool is an int to Python, an int is a float to everyone
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    cls = origin or hint
    return isinstance(value, cls) if isinstance(cls, type) else True


def _base(choices: tuple[Any, ...]) -> type | None:
    """Returns the abstract class that all classes among the choices extend, if there is one.

    A choice of memories, say, is open to every other `Memory`. A choice with an abstract class in
    it is as open as that class is.
    """
    classes = [getattr(choice, "__value__", choice) for choice in choices]
    classes = [cls for cls in classes if isinstance(cls, type)]
    if any(map(_is_base, classes)):
        return None
    parts = [cls for cls in classes if dataclasses.is_dataclass(cls)]
    bases = {next(filter(_is_base, part.__mro__), None) for part in parts}
    return bases.pop() if len(bases) == 1 else None


def _is_base(cls: type) -> bool:
    return inspect.isabstract(cls) or abc.ABC in cls.__bases__


def shown(hint: Any) -> str:
    """Returns an annotation as text."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        choices = typing.get_args(hint)
        base = _base(choices)
        more = f" or another {base.__name__}" if base else ""
        return " | ".join(map(shown, choices)) + more
    hint = getattr(hint, "__value__", hint)
    if hint is type(None):
        return "None"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
