"""SIGINT and SIGTERM at the command line: the process ends within seconds, whatever it does.

Python runs handlers of signals between two of its instructions, in the main thread. Inside a
single one XLA compiles or computes for minutes if need be; so a thread watches whether the handler
got its turn. Where something has to be finished first, `jaxmeta.runtime.interrupts` takes over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_PATIENCE = 2.0  # seconds
_holding: list[object] = []


class Stopped(KeyboardInterrupt):
    """A signal ended what was going on, of which nothing had to be finished.

    Attributes:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signal.Signals(signum).name)


@contextlib.contextmanager
def leaving_at_once(say: Callable[[int], Any]) -> Iterator[None]:
    """Raises `Stopped` inside the block when a signal arrives, or ends the process.

    The latter with exit code 128 plus the signal's number, if the main thread does not come to
    the former. A signal that the process ignores, as under nohup, stays ignored; outside the
    main thread, where Python allows no handlers, nothing is done.

    Args:
        say: Told the signal before the process ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = threading.Event()

    def handle(signum: int, frame: Any) -> None:
        del frame
        heard.set()
        raise Stopped(signum)

    watched, woken = socket.socketpair()
    with watched, woken, contextlib.ExitStack() as stack:
        woken.setblocking(False)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(woken.fileno()))
        for signum in SIGNALS:
            # None is a handler that was not installed from Python: it cannot be put back.
            if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                stack.callback(signal.signal, signum, signal.signal(signum, handle))
        arguments = (watched.dup(), heard, say)
        threading.Thread(target=_watch, args=arguments, name="jaxmeta-leave", daemon=True).start()
        yield


def leave(code: int) -> NoReturn:
    """Ends the process at once, what was printed being kept."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Lets no signal that arrives inside the block end the process; it has handlers of its own."""
    token = object()
    _holding.append(token)
    try:
        yield
    finally:
        _holding.remove(token)


def _watch(signals: socket.socket, heard: threading.Event, say: Callable[[int], Any]) -> None:
    with signals:
        while arrived := signals.recv(1):  # nothing once the other end is closed
            signum = arrived[0]
            if signum in SIGNALS and not _holding and not heard.wait(_PATIENCE):
                say(signum)
                leave(128 + signum)
