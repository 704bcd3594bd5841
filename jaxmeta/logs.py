"""What training writes down as it goes: ``metrics.jsonl`` and TensorBoard events."""

from __future__ import annotations

import contextlib
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmeta.files import write_atomically

Metrics = Mapping[str, np.ndarray]
EVENTS = ("evaluation", "adaptation")
"""What happens between chunks and is written down."""


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
    saving. A number that is not finite is null.

    Args:
        path: The file; what it holds is kept.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115, closed by `close`

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

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

    def sync(self) -> None:
        """Brings everything written to the disk, as a checkpoint must not precede it."""
        os.fsync(self._file.fileno())

    def _append(self, lines: list[dict[str, Any]]) -> None:
        # One write per chunk; a line cut by a crash is dropped by `cut_log`.
        self._file.write("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines))
        self._file.flush()


def cut_log(path: Path, update: int) -> None:
    """Drops the lines beyond ``update``, and one half-written by a killed process."""
    kept = [text for text, line in _lines(path) if line["update"] <= update]
    write_atomically(path, "".join(kept))


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
    ``seed_<number>/``.

    Args:
        path: The directory of the events.
        first_seed: Number of the first seed.
        env_steps: Events beyond this count are from before a resume, and hidden.
    """

    def __init__(self, path: Path, first_seed: int, env_steps: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(path), purge_step=env_steps + 1)
        self._first_seed = first_seed

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Writes what is left and closes the file."""
        self._writer.close()

    def write(self, env_steps: int, metrics: Metrics) -> None:
        """Adds one event per metric, values ``[S]``."""
        for name, values in metrics.items():
            self._add(name, float(np.mean(values)), env_steps)
            for i, value in enumerate(values if len(values) > 1 else ()):
                self._add(f"seed_{self._first_seed + i}/{name}", float(value), env_steps)

    def flush(self) -> None:
        """Makes what was added visible to TensorBoard."""
        self._writer.flush()

    def _add(self, tag: str, value: float, env_steps: int) -> None:
        if math.isfinite(value):
            self._writer.add_scalar(tag, value, env_steps)
