"""What commands print, how they end, and how they write what was found."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxmeta.analysis.comparison.result import Comparison
    from jaxmeta.analysis.robustness.result import Robustness
    from jaxmeta.evaluation.result import Evaluation
    from jaxmeta.sweeps.result import Sweep

OK, FAILED, BAD_INPUT, BROKEN_PIPE = 0, 1, 2, 141


def complain(message: str, code: int) -> int:
    """Says one sentence on stderr; returns the exit code."""
    print(f"jaxmeta: {message}", file=sys.stderr)
    return code


def drop_output() -> None:
    """Sends what is left in the buffer nowhere, so that Python does not try again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_table(found: Evaluation | Comparison | Robustness | Sweep) -> None:
    """Prints the tables of what was found."""
    from rich.console import Console

    # A file or pipe has no width, unless it is given one; 80 columns would cut the table.
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if known else 120)
    console.print(found.table())


def write_or_complain(write: Callable[[Path], list[Path]], place: Path) -> list[Path] | None:
    """Writes what was found, before anything else can go wrong; None if that cannot be."""
    from jaxmeta.runtime.files import describe_refusal

    try:
        return write(place)
    except OSError as error:
        complain(describe_refusal(error) or str(error), FAILED)
        return None


def say_written(written: list[Path] | None, figure: str) -> int:
    """Says where the numbers are, and the figure if there is one; returns the exit code."""
    if written is None:
        return FAILED
    names = ("The numbers:", figure)
    lines = [f"{name} {shortest(path)}" for name, path in zip(names, written, strict=False)]
    if lines:
        print("\n" + "\n".join(lines))
    return OK


def shortest(path: Path) -> str:
    """Returns the path as seen from here, if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
