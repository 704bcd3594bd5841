"""A run on disk: its configuration, metrics, events and checkpoints, and who may write."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import warnings
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from jaxmeta.catalog import registry, serialization
from jaxmeta.config import TrainConfig
from jaxmeta.runs.checkpoint import CheckpointError, Checkpoints, NotSaved
from jaxmeta.runs.logs import (
    History,
    Metrics,
    MetricsLog,
    TensorBoard,
    cut_log,
    read_divergence,
    read_log,
)
from jaxmeta.runtime.files import reason, write_atomically
from jaxmeta.version import VERSION
from jaxmeta_envs.core.contracts import as_task_family
from jaxmeta_envs.core.errors import ConfigError, require
from jaxmeta_envs.core.spaces import Box

try:
    import fcntl
except ImportError:  # Windows: no guard against two processes
    fcntl = None

_CONFIG, _METRICS, _EVENTS, _CHECKPOINTS, LOCK = (
    "config.json",
    "metrics.jsonl",
    "tensorboard",
    "checkpoints",
    ".lock",
)


class Record(NamedTuple):
    """What ``config.json`` holds.

    Attributes:
        config: The run.
        devices: How many devices share its tasks; a resumed run is the same to the bit
            only on as many.
        platform: Their platform, such as ``"cpu"``.
        versions: Of the libraries that started the run.
        extensions: Every time the run was made longer: ``{"update", "from", "to"}``.
        evaluate: Whether ``jaxmeta resume`` evaluates the run once it is trained.
    """

    config: TrainConfig
    devices: int
    platform: str
    versions: dict[str, str]
    extensions: tuple[dict[str, int], ...] = ()
    evaluate: bool = True


def absolute(path: str | Path) -> Path:
    """Returns where a run is, whatever the working directory becomes.

    Raises:
        ConfigError: If that is no path.
    """
    require(isinstance(path, str | os.PathLike), "run_dir", path, "the directory of a run")
    return Path(path).expanduser().absolute()


def read_record(path: str | Path) -> Record:
    """Reads what a run is.

    Raises:
        ConfigError: If the directory holds no run, or one that this version cannot read.
    """
    path = absolute(path)
    try:
        text = (path / _CONFIG).read_text(encoding="utf-8")
    except NotADirectoryError:
        raise ConfigError(f"{path} is a file; it must be the directory of a run") from None
    except FileNotFoundError:
        why = f"it has no {_CONFIG}" if path.exists() else "there is no such directory"
        raise ConfigError(f"{path} is not a run: {why}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path / _CONFIG} cannot be read: {error}") from error
    return record_from_text(text, path)


def record_from_text(text: str, path: Path) -> Record:
    """Reads what `record_to_text` wrote of the run in ``path``; raises as `read_record`."""
    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise TypeError("no JSON object")
        record = Record(**{**data, "extensions": tuple(data["extensions"])})
    except ValueError as error:
        raise ConfigError(f"{path / _CONFIG} cannot be read: {error}") from error
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path / _CONFIG} is not the record of a run: {error!r}") from error
    try:
        config = serialization.from_dict(record.config)
    except ConfigError as error:
        raise ConfigError(f"{path / _CONFIG}: {error}") from error
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"{path / _CONFIG} describes a {type(config).__name__}, not a run")
    if data["config"]["schema"] == 1 and not _same_units(config):
        raise ConfigError(
            f"{path} was trained on actions in units of their own; this jaxmeta has them in half "
            "ranges from the centre of their bounds: train it again"
        )
    return record._replace(config=replace(config, run_dir=str(path)))  # it may have moved


def _same_units(config: TrainConfig) -> bool:
    """Whether actions of a run of schema 1 mean today what they meant then."""
    if registry.builtin_name(type(config.algorithm)) not in ("rl2", "epopt"):
        return True
    space = as_task_family(config.tasks).action_space
    return not isinstance(space, Box) or bool(
        np.all(space.centre == 0.0) and np.all(space.half_range == 1.0)
    )


def record_to_text(record: Record) -> str:
    """Writes down what a run is."""
    data = record._asdict() | {"config": serialization.to_dict(record.config)}
    return json.dumps(data, indent=2) + "\n"


def read_history(path: str | Path, updates: int, num_seeds: int) -> History:
    """Reads what the run in ``path`` measured in its first ``updates`` updates."""
    return read_log(absolute(path) / _METRICS, updates, num_seeds)


def read_checkpoints(path: str | Path) -> Checkpoints:
    """Opens the checkpoints of the run in ``path`` without being able to change them."""
    return Checkpoints(absolute(path) / _CHECKPOINTS, keep=1, read_only=True)


def check_same(config: TrainConfig, stored: TrainConfig) -> None:
    """Raises `ConfigError` unless both are the same run, whatever its length and place."""
    free = {"run_dir", "total_env_steps"}
    names = [field.name for field in fields(TrainConfig) if field.name not in free]
    for name in names:
        given, kept = getattr(config, name), getattr(stored, name)
        if given != kept:
            raise ConfigError(
                f"{name} is {given!r}; the run in {stored.run_dir} was started with {kept!r}, and "
                "a resumed run must go on as it began"
            )


class RunDirectory(contextlib.AbstractContextManager):
    """A run that this process writes. Make one with `create` or `open_existing`.

    Attributes:
        path: The directory.
        log: Its ``metrics.jsonl``.
        record: What ``config.json`` holds.
        checkpoints: The checkpoints.
    """

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path, self.log = path, path / _METRICS
        self.record: Record
        self.checkpoints: Checkpoints
        self._metrics: MetricsLog | None = None
        self._events: TensorBoard | None = None
        self._lock = lock
        self._created, self._withdrawn = False, False
        self._there: frozenset[str] = frozenset()  # what was there before

    @classmethod
    def create(
        cls, config: TrainConfig, devices: int, platform: str, evaluate: bool = True
    ) -> RunDirectory:
        """Starts a run in ``config.run_dir``; the arguments are those of a `Record`.

        Raises:
            ConfigError: If the directory holds a run or cannot be written, or if the run could
                not be read from it again.
        """
        serialization.check_loadable(config)
        path = absolute(str(config.run_dir))
        _check_empty(path)
        there = _names_in(path)
        run = cls(path, lock_directory(path))
        try:
            _check_empty(path)  # another process may have been quicker
            run._created, run._there = True, there
            run.record = Record(config, devices, platform, library_versions(), evaluate=evaluate)
            run._write_record()
            run.checkpoints = Checkpoints(path / _CHECKPOINTS, config.keep_checkpoints)
        except OSError as error:
            run.close()
            raise _refused(path, error) from error
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open_existing(cls, path: str | Path) -> RunDirectory:
        """Opens a run to go on with it.

        Raises:
            ConfigError: If the directory holds no run or another process is training it.
        """
        path = absolute(path)
        read_record(path)
        run = cls(path, lock_directory(path))
        try:
            run.record = read_record(path)
            keep = run.record.config.keep_checkpoints
            run.checkpoints = Checkpoints(path / _CHECKPOINTS, keep)
        except BaseException:
            run.close()
            raise
        return run

    def extend(self, total_env_steps: int, update: int) -> None:
        """Writes down that the run was made longer after ``update`` updates."""
        config = self.record.config
        extension = {"update": update, "from": config.total_env_steps, "to": total_env_steps}
        self.record = self.record._replace(
            config=replace(config, total_env_steps=total_env_steps),
            extensions=(*self.record.extensions, extension),
        )
        self._write_record()

    def begin(self, update: int) -> History:
        """Gets ready to write what follows ``update``; returns what came before.

        What an earlier process wrote beyond is dropped, as it will be written again.
        """
        config, steps = self.record.config, self.record.config.plan().env_steps_per_update
        self.checkpoints.set_aside_after(update)
        cut_log(self.path / _METRICS, update)
        history = read_history(self.path, update, config.num_seeds)
        self._metrics = MetricsLog(self.path / _METRICS)
        self._events = TensorBoard(self.path / _EVENTS, config.seed, update * steps)
        return history

    def write_updates(self, updates: range, seconds: float, metrics: Metrics) -> None:
        """Writes the metrics ``[updates, S]`` of a chunk; see `MetricsLog`."""
        log, events = self._logs()
        steps = self.record.config.plan().env_steps_per_update
        log.write_updates(updates, steps, seconds, metrics)
        for i, update in enumerate(updates):
            events.write(update * steps, {name: v[i] for name, v in metrics.items()})
        events.flush()

    def write_event(self, kind: str, update: int, values: Metrics) -> None:
        """Writes one of `jaxmeta.runs.logs.EVENTS`, values ``[S]``."""
        log, events = self._logs()
        steps = self.record.config.plan().env_steps_per_update
        log.write_event(kind, update, steps, values)
        events.write(update * steps, values)
        events.flush()

    def write_divergence(self, update: int, found: dict[str, Any]) -> None:
        """Writes down what was not finite, see `MetricsLog`, as the end of the run."""
        steps = self.record.config.plan().env_steps_per_update
        self._logs()[0].write_divergence(update, steps, found)

    def save(self, update: int, kept: Any, seconds: float, newest: Any = None) -> None:
        """Writes a checkpoint, once the metrics up to it are on the disk.

        Raises:
            NotSaved: If the machine refuses that.
        """
        if not (self.path / _CONFIG).exists():  # nobody could read what is saved there
            raise CheckpointError(f"the run in {self.path} cannot be saved: its directory is gone")
        try:
            self._logs()[0].sync()
            self.checkpoints.save(update, kept, seconds, newest)
            return
        except Exception as error:
            why = reason(error)
            if why is None:
                raise
        raise NotSaved(self.path, why, self.checkpoints.newest_whole())

    def withdraw(self) -> bool:
        """Says that the run does not begin; returns whether `close` removes it, as it is new."""
        self._withdrawn = self._created
        return self._withdrawn

    def close(self) -> None:
        """Closes everything and lets other processes in."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._lock.close)
            if self._withdrawn:
                stack.callback(self._remove)
            for part in (getattr(self, "checkpoints", None), self._events, self._metrics):
                if part is not None:
                    stack.callback(part.close)

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _remove(self) -> None:
        """Removes what a run writes before it begins; what was there before stays."""
        for name in {_EVENTS, _CHECKPOINTS} - self._there:
            shutil.rmtree(self.path / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            for name in {_METRICS, _CONFIG, LOCK} - self._there:
                (self.path / name).unlink(missing_ok=True)
            if "." not in self._there:
                self.path.rmdir()

    def _logs(self) -> tuple[MetricsLog, TensorBoard]:
        if self._metrics is None or self._events is None:
            raise RuntimeError("call begin before writing")
        return self._metrics, self._events

    def _write_record(self) -> None:
        write_atomically(self.path / _CONFIG, record_to_text(self.record))


def _names_in(path: Path) -> frozenset[str]:
    """Returns the names in a directory, and ".", or nothing where there is none."""
    try:
        return frozenset([".", *os.listdir(path)])
    except OSError:
        return frozenset()


def _check_empty(path: Path) -> None:
    """Refuses a directory with a run in it.

    One that ended before its first chunk is none, nor one that diverged before its first
    checkpoint: to resume it would end there again.
    """
    log, checkpoints = path / _METRICS, path / _CHECKPOINTS
    saved = checkpoints.is_dir() and any(checkpoints.iterdir())
    if not saved and not (log.is_file() and log.stat().st_size > 0):
        return
    diverged = read_divergence(log)
    if diverged is None:
        raise ConfigError(
            f"run_dir is {str(path)!r}, which already holds a run; resume it "
            "(jaxmeta.resume, or jaxmeta resume), or choose another directory"
        )
    if saved:
        raise ConfigError(
            f"run_dir is {str(path)!r}, which already holds a run; it diverged at update "
            f"{diverged['update']}, and would again: choose another directory"
        )


def lock_directory(path: Path) -> IO[str]:
    """Makes the directory and takes its lock, which the kernel frees however we end."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = open(path / LOCK, "a+", encoding="utf-8")  # noqa: SIM115, closed by the run
    except OSError as error:
        raise _refused(path, error) from error
    if fcntl is None:
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise ConfigError(
            f"run_dir is {str(path)!r}, into which another process ({owner}) is training"
        ) from None
    except OSError as error:  # some network and cloud drives have no locks
        warnings.warn(f"{path} cannot be locked ({error.strerror})", stacklevel=4)
        return file
    with contextlib.suppress(OSError):  # a full disk; it only tells others who has the lock
        file.truncate(0)
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
    return file


def _refused(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"run_dir is {str(path)!r}; it must be a directory that can be written ({error.strerror})"
    )


def library_versions() -> dict[str, str]:
    """Returns the versions of jaxmeta, Python and what results depend on."""
    ours = {"jaxmeta": VERSION, "python": platform.python_version()}
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return ours | {name: version(name) for name in packages}
