"""What training writes down as it goes: ``metrics.jsonl`` and TensorBoard events."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmeta.runtime.files import reason, write_atomically

Metrics = Mapping[str, np.ndarray]
EVENTS = ("evaluation", "adaptation")
"""What happens between chunks and is written down."""
_DIVERGED = "diverged"


class History(NamedTuple):
    """What a run has measured so far.

    Attributes:
        metrics: Arrays ``[updates, S]``.
        evaluations: Arrays ``[evaluations, S]``, and ``"update"`` ``[evaluations]``: the
            updates done at each.
        adaptations: What meetings with the run's target brought, likewise.
    """

    metrics: dict[str, np.ndarray]
    evaluations: dict[str, np.ndarray]
    adaptations: dict[str, np.ndarray]


class MetricsLog(contextlib.AbstractContextManager):
    """``metrics.jsonl``: one JSON object per update, per evaluation, per adaptation.

    A line is ``{"update", "env_steps", "seconds", "metrics": {name: [per seed]}}`` or
    ``{"update", "env_steps", "evaluation": {name: [per seed]}}``, or the same with
    ``"adaptation"``, where ``update`` counts the updates done (the first line says 1),
    ``env_steps`` the environment steps of each seed and ``seconds`` the time spent
    training, without compilation, evaluation, the meeting of targets and
    saving. A number that is not finite is null. ``{"update", "env_steps", "diverged": {"metric",
    "update", "seed"}}`` is the last line of a run that ended so.

    What the machine refuses, as a full disk does, is kept, and written with what comes next.

    Args:
        path: The file; what it holds is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115, closed by `close`
        self._left = b""
        self._warned = False

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        with self._file:
            self._try_to_write()

    def write_updates(
        self, updates: range, steps_per_update: int, seconds: float, metrics: Metrics
    ) -> None:
        """Appends the updates of a chunk, metrics ``[updates, S]``."""
        lines = [
            {
                "update": update,
                "env_steps": update * steps_per_update,
                "seconds": round(seconds, 3),
                "metrics": {name: _plain(values[i]) for name, values in metrics.items()},
            }
            for i, update in enumerate(updates)
        ]
        self._append(lines)

    def write_event(self, kind: str, update: int, steps_per_update: int, values: Metrics) -> None:
        """Appends an ``evaluation`` or an ``adaptation``, values ``[S]``."""
        plain = {name: _plain(value) for name, value in values.items()}
        self._append([{"update": update, "env_steps": update * steps_per_update, kind: plain}])

    def write_divergence(self, update: int, steps_per_update: int, found: dict[str, Any]) -> None:
        """Appends what was not finite, and where."""
        steps = update * steps_per_update
        self._append([{"update": update, "env_steps": steps, _DIVERGED: found}])

    def sync(self) -> None:
        """Brings everything written to the disk, as a checkpoint must not precede it.

        Raises:
            OSError: If that cannot be.
        """
        self._write()
        os.fsync(self._file.fileno())

    def _append(self, lines: list[dict[str, Any]]) -> None:
        # One write per chunk; a line cut by a crash is dropped by `cut_log`.
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        self._left += text.encode()
        self._try_to_write()

    def _try_to_write(self) -> None:
        try:
            self._write()
        except OSError as error:
            if not self._warned:
                warnings.warn(
                    f"{self._path} cannot be written: {reason(error) or error}; what is measured "
                    "is kept until it can",
                    stacklevel=4,
                )
            self._warned = True

    def _write(self) -> None:
        while self._left:  # a disk that fills takes a part
            self._left = self._left[self._file.write(self._left) or 0 :]


def cut_log(path: Path, update: int) -> None:
    """Drops the lines beyond ``update``, and one half-written by a killed process."""
    kept = "".join(text for text, line in _lines(path) if line["update"] <= update)
    if not path.exists() or path.read_bytes() != kept.encode():
        write_atomically(path, kept)


def read_divergence(path: Path) -> dict[str, Any] | None:
    """Returns what `MetricsLog.write_divergence` wrote of a run that ended so; else None."""
    lines = [line for _, line in _lines(path)]
    return lines[-1].get(_DIVERGED) if lines else None


def read_log(path: Path, updates: int, num_seeds: int) -> History:
    """Reads what was measured in the first ``updates`` updates.

    Updates without a line (somebody edited the file) are NaN, and warned of.
    """
    lines = [line for _, line in _lines(path) if line["update"] <= updates]
    rows = [line for line in lines if "metrics" in line]
    names = list(rows[0]["metrics"]) if rows else []
    shape = (updates, num_seeds)
    metrics = {name: np.full(shape, np.nan, np.float32) for name in names}
    seen = np.zeros(updates, bool)
    for line in rows:
        seen[line["update"] - 1] = True
        for name, values in line["metrics"].items():
            metrics[name][line["update"] - 1] = _array(values)
    if not seen.all():
        warnings.warn(f"{path} lacks {int((~seen).sum())} of {updates} updates", stacklevel=2)
    events = {
        kind: [(line["update"], line[kind]) for line in lines if kind in line] for kind in EVENTS
    }
    return History(metrics, *(stack_events(events[kind]) for kind in EVENTS))


def stack_events(events: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, np.ndarray]:
    """Returns ``(update, {name: [S]})`` pairs as the arrays of `History`."""
    if not events:
        return {}
    stacked = {"update": np.array([update for update, _ in events])}
    for name in events[0][1]:
        stacked[name] = np.stack([_array(values[name]) for _, values in events])
    return stacked


def list_events(stacked: Mapping[str, np.ndarray]) -> list[tuple[int, dict[str, np.ndarray]]]:
    """Returns the pairs that `stack_events` was given."""
    return [
        (int(update), {name: v[i] for name, v in stacked.items() if name != "update"})
        for i, update in enumerate(stacked.get("update", ()))
    ]


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields every whole line, as text and as parsed."""
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for text in file:
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if text.endswith("\n") and isinstance(line, dict) and "update" in line:
                    yield text, line


def _plain(values: np.ndarray) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in np.asarray(values).tolist()]


def _array(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64)  # None becomes NaN


class TensorBoard(contextlib.AbstractContextManager):
    """Events for TensorBoard, over environment steps.

    A metric is the mean over seeds; with several seeds each is also under
    ``seed_<number>/``. Where the machine refuses them, as a full disk does, they are given up:
    one warning says so, and nothing else happens any more.

    Args:
        path: The directory of the events.
        first_seed: Number of the first seed.
        env_steps: Events beyond this count are from before a resume, and hidden.
    """

    def __init__(self, path: Path, first_seed: int, env_steps: int) -> None:
        # tensorboardX's usual writer has a thread, whose end it does not notice: then it waits
        # for ever. This one writes where it is called.
        from tensorboardX.proto.event_pb2 import SessionLog  # pyright: ignore
        from tensorboardX.record_writer import RecordWriter

        self._path, self._first_seed = path, first_seed
        self._writer: RecordWriter | None = None
        with self._given_up_if_refused():
            path.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
            self._writer = RecordWriter(str(path / name))
            self._record(file_version="brain.Event:2")
            hidden = SessionLog(status=SessionLog.START)
            self._record(step=env_steps + 1, session_log=hidden)
            self._writer.flush()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Writes what is left and closes the file."""
        with self._given_up_if_refused():
            if self._writer is not None:
                self._writer.close()
        self._writer = None

    def write(self, env_steps: int, metrics: Metrics) -> None:
        """Adds one event per metric, values ``[S]``."""
        with self._given_up_if_refused():
            for name, values in metrics.items():
                self._add(name, float(np.mean(values)), env_steps)
                for i, value in enumerate(values if len(values) > 1 else ()):
                    self._add(f"seed_{self._first_seed + i}/{name}", float(value), env_steps)

    def flush(self) -> None:
        """Makes what was added visible to TensorBoard."""
        with self._given_up_if_refused():
            if self._writer is not None:
                self._writer.flush()

    def _add(self, tag: str, value: float, env_steps: int) -> None:
        from tensorboardX.summary import scalar

        if math.isfinite(value):
            self._record(step=env_steps, summary=scalar(tag, value))

    def _record(self, **event: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore

        if self._writer is not None:
            self._writer.write(Event(wall_time=time.time(), **event).SerializeToString())

    @contextlib.contextmanager
    def _given_up_if_refused(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            writer, self._writer = self._writer, None
            with contextlib.suppress(OSError):  # it tries to write what was refused
                if writer is not None:
                    writer.close()
            why = reason(error) or error
            warnings.warn(
                f"{self._path} cannot be written: {why}; training goes on without TensorBoard",
                stacklevel=5,
            )
