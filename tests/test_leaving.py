"""Signals: when a process leaves at once, and when it has something to finish."""

import contextlib
import signal
import socket
import threading

import pytest

from jaxmeta.runtime import interrupts, leaving
from jaxmeta.runtime.interrupts import Interrupts


@pytest.mark.parametrize("finishing", [False, True])
@pytest.mark.parametrize("handled", [False, True])
def test_a_process_leaves_unless_its_handler_had_its_turn_or_it_finishes(
    finishing, handled, monkeypatch
):
    told, codes, heard = [], [], threading.Event()
    monkeypatch.setattr(leaving, "_PATIENCE", 0.01)
    monkeypatch.setattr(leaving, "leave", codes.append)
    watched, woken = socket.socketpair()
    woken.send(bytes([signal.SIGTERM]))
    woken.close()
    if handled:
        heard.set()
    with leaving.held() if finishing else contextlib.nullcontext():
        leaving._watch(watched, heard, told.append)
    leaves = not (finishing or handled)
    assert told == [signal.SIGTERM] * leaves
    assert codes == [128 + signal.SIGTERM] * leaves


def test_a_signal_that_tracing_swallowed_ends_the_compilation_before_it_begins(monkeypatch):
    monkeypatch.setattr(interrupts, "compile_beside", lambda lowered: pytest.fail("compiled"))
    with Interrupts() as arrived:

        def lower():
            with contextlib.suppress(leaving.Stopped):  # as where C calls Python back
                signal.raise_signal(signal.SIGTERM)

        with pytest.raises(leaving.Stopped) as stopped:
            arrived.compile(lower)
    assert stopped.value.signum == signal.SIGTERM
