"""``--import MODULE``, which every command takes: where classes of users come from.

It is read before all other options, as it may decide which names and classes they know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True)
class OwnClasses:
    """Classes that are not of this library.

    Attributes:
        modules: Imports a module first, such as mine for a file mine.py in the working directory:
            the classes of a run that it defines are found, and the names that it registers known.
            May be given several times.
    """

    modules: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(name="import", metavar="MODULE"),
    ] = ()


Own = Annotated[OwnClasses, tyro.conf.arg(name="")]
NO_CLASSES = OwnClasses()


def split_modules(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the arguments without every ``--import MODULE``, and the modules."""
    rest, modules, words = [], [], iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option == "--import":
            modules.append(value if equals else next(words, ""))
        else:
            rest.append(word)
    return rest, modules


def again() -> str:
    """Returns what another command needs to find the same classes: " --import mine", or nothing."""
    from jaxmeta.catalog.importing import asked  # JAX comes with it

    return "".join(f" --import {module}" for module in asked())
