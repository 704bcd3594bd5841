"""SIGINT and SIGTERM as a wish to stop, which training grants at its next safe place.

Python runs handlers of signals between two of its instructions, in the main thread. XLA compiles
inside a single one, for minutes if need be; so a program is compiled by a thread that can be left
behind, see `compile_beside`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import jax

from jaxmeta.runtime import hosts
from jaxmeta.runtime.leaving import SIGNALS, Stopped, held, leave

Compile = Callable[[Callable[[], jax.stages.Lowered]], jax.stages.Compiled]
"""Makes a program of what lowers it, as `Interrupts.compile` does."""


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
        self._at_once = False
        self._before: dict[int, Any] = {}
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Interrupts:
        self._held.enter_context(held())
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                # None is a handler that was not installed from Python: it cannot be put back.
                if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                    self._before[signum] = signal.signal(signum, self._handle)
        return self

    def arrived(self) -> bool:
        """Whether a signal has arrived, in any process of the run; all processes must ask."""
        self.signum = hosts.share_signal(self.signum)
        return self.signum is not None

    def compile(self, lower: Callable[[], jax.stages.Lowered]) -> jax.stages.Compiled:
        """Compiles a program; a signal ends that at once, also one that came before.

        Args:
            lower: Traces and lowers the program. It runs in this thread, where the settings of
                JAX are that a user made for a ``with`` block.

        Raises:
            Stopped: If a signal arrives; see `compile_beside`.
        """
        self._at_once = True
        try:
            self._check()
            lowered = lower()
            self._check()  # where Python calls back, as from C, what a handler raises is lost
            return compile_beside(lowered)
        finally:
            self._at_once = False

    def _check(self) -> None:
        if self.signum is not None:
            raise Stopped(self.signum)

    def __exit__(self, *exc_info: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._held.close()

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self.signum is None:
            self.signum = signum
            if self._at_once:
                raise Stopped(signum)
            if self._announce:  # not print, which is not safe inside a handler
                os.write(2, b"\nfinishing the chunk, then saving; Ctrl-C again stops at once\n")
        elif signum == signal.SIGINT:
            self.forced = True
            raise KeyboardInterrupt


def compile_beside(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles a program in a thread; what the handler of a signal raises ends the wait for it.

    XLA cannot be told to stop: it goes on in a thread that nobody waits for, and that ends with
    the process.
    """
    done, outcome = threading.Event(), {}

    def run() -> None:
        try:
            outcome["result"] = lowered.compile()
        except BaseException as error:
            outcome["error"] = error
        finally:
            done.set()

    threading.Thread(target=run, name="jaxmeta-compile", daemon=True).start()
    try:
        done.wait()
    except KeyboardInterrupt as stop:
        signum = stop.signum if isinstance(stop, Stopped) else signal.SIGINT
        atexit.register(_leave, done, 128 + signum)
        raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


def _leave(done: threading.Event, code: int) -> None:
    """Ends the process beside a thread that compiles.

    Python's own end would abort it, with a message of C++ and exit code 134, as soon as the
    compiler returns to an interpreter that is gone.
    """
    if not done.is_set():
        leave(code)
