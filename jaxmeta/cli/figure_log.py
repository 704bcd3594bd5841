"""What matplotlib logs, in the words of this command."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from jaxmeta.cli.output import FAILED, complain


class FigureLog(logging.Handler):
    """Says what matplotlib logs, in one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Says that figures begin slowly, where matplotlib cannot keep what it found out."""
        text = " ".join(record.getMessage().split())
        if text.startswith("mkdir -p failed"):  # the next message says what comes of it
            return
        if "temporary cache directory" in text:
            text = "figures take seconds longer, as there is no home for what matplotlib knows of "
            text += "fonts (MPLCONFIGDIR names a directory)"
        complain(text, FAILED)


@contextlib.contextmanager
def saying_what_figures_log() -> Iterator[None]:
    """Lets `FigureLog` speak instead of Python's last resort."""
    log, handler = logging.getLogger("matplotlib"), FigureLog(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
