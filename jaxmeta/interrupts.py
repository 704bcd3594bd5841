"""SIGINT and SIGTERM as a wish to stop, which training grants at its next safe place."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

from jaxmeta import hosts

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts(contextlib.AbstractContextManager):
    """Remembers the first SIGINT or SIGTERM that arrives inside the ``with`` block.

    A second SIGINT raises KeyboardInterrupt at once. Outside the main thread, where
    Python allows no handlers, it does nothing, and a signal that the process ignores (as
    under nohup) stays ignored. The handlers from before are put back at the end.

    Args:
        announce: Whether to tell a person who pressed Ctrl-C what happens now.

    Attributes:
        signum: The signal that arrived, or None.
        forced: Whether a second SIGINT arrived.
    """

    def __init__(self, announce: bool = False) -> None:
        self._announce = announce
        self.signum: int | None = None
        self.forced = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for signum in _SIGNALS:
                # None is a handler that was not installed from Python: it cannot be put back.
                if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                    self._before[signum] = signal.signal(signum, self._handle)
        return self

    def arrived(self) -> bool:
        """Whether a signal has arrived, in any process of the run; all processes must ask."""
        self.signum = hosts.share_signal(self.signum)
        return self.signum is not None

    def __exit__(self, *exc_info: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self.signum is None:
            self.signum = signum
            if self._announce:  # not print, which is not safe inside a handler
                os.write(2, b"\nfinishing the chunk, then saving; Ctrl-C again stops at once\n")
        elif signum == signal.SIGINT:
            self.forced = True
            raise KeyboardInterrupt
