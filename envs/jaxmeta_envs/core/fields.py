"""One policy for the fields of a configuration: their types, and how large numbers may be.

Every configuration calls `check_fields` before it looks at ranges, so that what follows may
compare without thinking of NaN, text or infinity.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
import numbers
import operator
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple, Union

import numpy as np

from jaxmeta_envs.core.annotations import fits, hints_of, shown
from jaxmeta_envs.core.errors import require

INFINITE: Mapping[str, Any] = types.MappingProxyType({"infinite": True})
"""Metadata of a field in which infinity has a meaning, which its documentation gives."""

LARGE: Mapping[str, Any] = types.MappingProxyType({"large": True})
"""Metadata of a count that is kept as a Python integer and may be more than 32 bits hold."""

_NUMBERS = {int, float}
_MOST = 2**31 - 1  # counters on devices have 32 bits
_MOST_LARGE = 2**53  # up to here every integer is a float64
_HIGHEST = 1e18  # the square is a finite float32


class _Kind(NamedTuple):
    """What a field takes besides the instances of classes.

    Attributes:
        name: The class and the field.
        whole: Whether numbers must be whole.
        entries: Of what kind the entries of a tuple are; None where there may be none.
        only_entries: Whether a number by itself may not be there.
        others: Whether something that is not a number may be there, such as a schedule.
        optional: Whether None may be.
        infinite: Whether ``math.inf`` may be.
        large: Whether integers of more than 32 bits may be.
    """

    name: str
    whole: bool
    entries: _Kind | None
    only_entries: bool
    others: bool
    optional: bool
    infinite: bool
    large: bool


def check_fields(part: Any) -> None:
    """Raises `ConfigError` unless the fields of a dataclass hold what their annotations say.

    That is asked of numbers, text, truth values, None and dataclasses; a choice among classes
    with one abstract base is open to every other of its kind. Booleans are no numbers. No number
    is NaN; infinity is one only in fields marked `INFINITE`. Integers have at most 32 bits, or 53
    in fields marked `LARGE`; other numbers are at most 1e18 in size, whose square is still finite
    on devices. Whole numbers in fields of integers (``1e6``) become integers, NumPy's scalars
    Python's, and lists tuples. Arrays, and what JAX takes for one, pass: their values may not
    be known.

    Args:
        part: A dataclass, frozen or not, in its ``__post_init__``.

    Raises:
        ConfigError: Naming field, value and what is allowed.
    """
    for name, kind in _kinds(type(part)).items():
        value = getattr(part, name)
        checked = _checked(value, kind)
        if checked is not value:
            object.__setattr__(part, name, checked)
    for name, hint in _plain_hints(type(part)):
        value = getattr(part, name)
        if not _is_array(value):
            field = f"{type(part).__name__}.{name}"
            require(fits(value, hint), field, value, f"of type {shown(hint)}")


def check_least(part: Any, **least: int) -> None:
    """Raises `ConfigError` unless integer fields, checked by `check_fields`, are large enough.

    Args:
        part: A dataclass.
        least: What each field is at least; a field of None passes.
    """
    for name, low in least.items():
        value = getattr(part, name)
        field = f"{type(part).__name__}.{name}"
        require(value is None or value >= low, field, value, f"an integer of at least {low}")


def check_all_fields(part: Any) -> None:
    """Raises `ConfigError` as `check_fields` does, for a dataclass and those in its fields.

    So that the numbers of a user's own parts are checked too.
    """
    check_fields(part)
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            check_all_fields(value)


def _checked(value: Any, kind: _Kind) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if (value is None and kind.optional) or _is_array(value):
        return value
    if isinstance(value, tuple | list) and kind.entries is not None:
        if hasattr(value, "_fields"):  # names are not to be lost
            return value
        entry = kind.entries
        named = [entry._replace(name=f"{kind.name}[{i}]") for i in range(len(value))]
        checked = tuple(_checked(x, k) for x, k in zip(value, named, strict=True))
        same = isinstance(value, tuple) and all(map(operator.is_, checked, value))
        return value if same else checked
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number and kind.others and not isinstance(value, str | bool):
        return value
    require(number and not kind.only_entries, kind.name, value, _said(kind))
    return _whole(value, kind) if kind.whole else _real(value, kind)


def _is_array(value: Any) -> bool:
    """Whether it is one, or stands for one, as the values of a sweep do."""
    return hasattr(value, "dtype") or hasattr(value, "__jax_array__")


def _whole(value: Any, kind: _Kind) -> int:
    finite = math.isfinite(value)
    require(finite and value == int(value), kind.name, value, _said(kind))
    most = _MOST_LARGE if kind.large else _MOST
    require(abs(value) <= most, kind.name, value, f"{_said(kind)} of at most {most}")
    return value if type(value) is int else int(value)


def _real(value: Any, kind: _Kind) -> Any:
    if kind.infinite and value == math.inf:
        return value
    within = abs(value) <= _HIGHEST  # false of NaN
    require(within, kind.name, value, f"{_said(kind)} of at most {_HIGHEST:g} in size")
    return value


def _said(kind: _Kind) -> str:
    text = "an integer" if kind.whole else "a number"
    if kind.only_entries:
        text = "a tuple of integers" if kind.whole else "a tuple of numbers"
    return f"{text} (or None)" if kind.optional else text


@functools.cache
def _plain_hints(cls: type) -> tuple[tuple[str, Any], ...]:
    """Returns the fields whose annotation is a choice of numbers, text, None and dataclasses."""

    def is_plain(hint: Any) -> bool:
        hint = getattr(hint, "__value__", hint)
        if typing.get_origin(hint) in (Union, types.UnionType):
            return all(map(is_plain, typing.get_args(hint)))
        if hint in (int, float, bool, str, types.NoneType):
            return True
        if typing.get_origin(hint) is tuple:
            return all(x is Ellipsis or is_plain(x) for x in typing.get_args(hint))
        return isinstance(hint, type) and (
            dataclasses.is_dataclass(hint) or abc.ABC in hint.__mro__
        )

    hints = hints_of(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.name in hints]
    return tuple((name, hints[name]) for name in names if is_plain(hints[name]))


@functools.cache
def _kinds(cls: type) -> dict[str, _Kind]:
    """Returns the numeric fields of a dataclass; none if its annotations cannot be read."""
    hints, fields = hints_of(cls), dataclasses.fields(cls)
    kinds = {f.name: _kind(cls, f, hints[f.name]) for f in fields if f.name in hints}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _kind(cls: type, field: dataclasses.Field, hint: Any) -> _Kind | None:
    union = typing.get_origin(hint) in (Union, types.UnionType)
    members = typing.get_args(hint) if union else (hint,)
    tuples = [m for m in members if _NUMBERS & _of_tuple(m)]
    plain = _NUMBERS & set(members)
    if not plain and not tuples:
        return None
    kind = _Kind(
        name=f"{cls.__name__}.{field.name}",
        whole=float not in (plain or _of_tuple(tuples[0])),
        entries=None,
        only_entries=not plain,
        others=any(m not in (*_NUMBERS, types.NoneType, *tuples) for m in members),
        optional=types.NoneType in members,
        infinite=field.metadata.get("infinite", False),
        large=field.metadata.get("large", False),
    )
    if not tuples:
        return kind
    whole = float not in _of_tuple(tuples[0])
    entry = kind._replace(whole=whole, only_entries=False, others=False, optional=False)
    return kind._replace(entries=entry)


def _of_tuple(hint: Any) -> set[Any]:
    return set(typing.get_args(hint)) if typing.get_origin(hint) is tuple else set()
