"""Parts as alternatives: what can be written for a field that holds any part of a kind.

A field is typed by the abstract class, such as `Memory`, and the catalog knows the members.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import sys
import types
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from jaxmeta.catalog.part_names import members

_OLD = {"estimator:di-ce": "estimator:dice", "estimator:emaml": "estimator:e-maml"}


def parts_registry() -> ConstructorRegistry:
    """Returns how tyro is to understand fields of parts: as a choice among the members."""
    registry, asking = ConstructorRegistry(), list[StructTypeInfo]()

    @registry.struct_rule
    def with_choices(info: StructTypeInfo) -> Any:
        if asking or not dataclasses.is_dataclass(info.type):
            return None
        asking.append(info)  # what follows is for the rules of tyro
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            asking.pop()
        if not isinstance(spec, StructConstructorSpec):
            return spec
        fields = [dataclasses.replace(f, type=choices(f.type)) for f in spec.fields]
        return dataclasses.replace(spec, fields=tuple(fields))

    return registry


def choices(hint: Any) -> Any:
    """Returns the annotation of a field with the members in place of their abstract class."""
    if get_origin(hint) in (Union, types.UnionType):
        return functools.reduce(operator.or_, map(choices, get_args(hint)))
    named = members(hint) if isinstance(hint, type) else {}
    if len(named) < 2:
        return next(iter(named.values()), hint)
    alternatives = [Annotated[c, tyro.conf.subcommand(name=n)] for n, c in named.items()]
    return functools.reduce(operator.or_, alternatives)


def by_present_names(arguments: Sequence[str]) -> list[str]:
    """Returns arguments in which parts have the names that files give them, too."""

    def present(word: str) -> str:
        for old, new in _OLD.items():
            if word.endswith(f".{old}"):
                print(f"jaxmeta: {old} is now {new}; the old name goes soon", file=sys.stderr)
                return word.removesuffix(old) + new
        return word

    return list(map(present, arguments))
