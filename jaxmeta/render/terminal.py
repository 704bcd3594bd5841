"""Text on terminals that cannot show all of it."""

from __future__ import annotations

import codecs
import io
from typing import Any, TextIO

# One character for one, so that tables keep their columns.
_PLAIN = {"↑": "^", "↓": "v", "±": "~", "×": "x", "–": "-", "−": "-", "…": ".", "²": "2", "’": "'"}


def spell_plainly(*streams: TextIO) -> None:
    """Makes streams write a plain character for each that their encoding lacks."""
    codecs.register_error("jaxmeta-plain", _replace)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="jaxmeta-plain")


def as_text(table: Any, width: int = 120) -> str:
    """Returns a table of rich as plain text, for ``print``."""
    from rich.console import Console

    written = io.StringIO()
    Console(file=written, width=width, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines())


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lacking), error.end
