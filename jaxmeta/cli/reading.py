"""How words of the command line become numbers and schedules.

A hyperparameter that is a constant or a `Schedule` takes one argument, see
`parse_schedule`.
"""

from __future__ import annotations

import contextlib
import re
import types
from collections.abc import Callable
from typing import Any, NamedTuple, Union, get_args, get_origin

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from jaxmeta.parts.schedules import Schedule

_SCHEDULE = re.compile(
    r"(?P<initial>[^:]+):(?P<final>[^:]+)(:(?P<updates>\d+))?(:(?P<shape>[a-z]+))?"
)
_SCHEDULE_METAVAR = "INITIAL:FINAL[:UPDATES][:SHAPE]"


class Unread(NamedTuple):
    """A word that is no number where there must be one.

    Attributes:
        word: The word.
        allowed: What could have been there.
    """

    word: str
    allowed: str


def numbers_registry(unread: list[Unread]) -> ConstructorRegistry:
    """Returns how tyro is to read numbers.

    Args:
        unread: Gets the words that are none.
    """

    def reading(read: Callable[[str], Any], allowed: str) -> Callable[[list[str]], Any]:
        def parse(words: list[str]) -> Any:
            try:
                return read(words[0])
            except (ValueError, OverflowError):
                unread.append(Unread(words[0], allowed))
                raise ValueError(f"{words[0]!r} is not {allowed}") from None

        return parse

    def number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if info.type not in (int, float):
            return None
        whole = info.type is int
        kinds = int if whole else int | float
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT" if whole else "FLOAT",
            instance_from_str=(
                reading(_whole_number, "a whole number") if whole else reading(float, "a number")
            ),
            is_instance=lambda value: isinstance(value, kinds) and not isinstance(value, bool),
            str_from_instance=lambda value: [str(value)],
        )

    def constant_or_schedule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        """Reads ``float | Schedule`` from one argument, whichever of them is the default."""
        is_union = get_origin(info.type) in (Union, types.UnionType)
        if not is_union or set(get_args(info.type)) != {float, Schedule}:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=f"FLOAT|{_SCHEDULE_METAVAR}",
            instance_from_str=reading(parse_schedule, f"a number, or {_SCHEDULE_METAVAR}"),
            is_instance=lambda value: isinstance(value, int | float | Schedule),
            str_from_instance=lambda value: [format_schedule(value)],
        )

    registry = ConstructorRegistry()
    registry.primitive_rule(number)
    registry.primitive_rule(constant_or_schedule)
    return registry


def _whole_number(word: str) -> int:
    """Reads an integer, also as ``5e6`` or ``5_000_000``: counts of steps are long."""
    with contextlib.suppress(ValueError):
        return int(word)
    if (value := float(word)).is_integer():
        return int(value)
    raise ValueError(f"{word!r} is not a whole number")


def parse_schedule(text: str) -> float | Schedule:
    """Reads a number or ``INITIAL:FINAL[:UPDATES][:SHAPE]``.

    ``0.001:0`` falls linearly over the whole run, ``0.001:0:500`` over 500 updates,
    ``0.001:0:cosine`` and ``0.001:0:500:cosine`` along a cosine; ``1:0.1:100:step`` changes at
    once after 100 updates.

    Raises:
        ValueError: If ``text`` is neither.
    """
    match = _SCHEDULE.fullmatch(text)
    try:
        if match is None:
            return float(text)
        initial, final = float(match["initial"]), float(match["final"])
    except ValueError:
        raise ValueError(f"{text!r} is neither a number nor {_SCHEDULE_METAVAR}") from None
    updates = None if match["updates"] is None else int(match["updates"])
    shape: Any = match["shape"] or "linear"  # the schedule itself refuses other words
    return Schedule(initial, final, updates, shape)


def format_schedule(value: float | Schedule) -> str:
    """Writes what `parse_schedule` reads."""
    if not isinstance(value, Schedule):
        return str(value)
    text = f"{value.initial}:{value.final}"
    text = text if value.num_updates is None else f"{text}:{value.num_updates}"
    return text if value.shape == "linear" else f"{text}:{value.shape}"
