"""A sweep on disk: what is trained, and what every finished wave gave.

``sweep.json`` holds what is swept and, so far as it is known, what was found; ``waves`` has a
file per wave of runs, written when the wave is done. A sweep that was stopped goes on with the
runs that are in no such file.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmeta.catalog import serialization
from jaxmeta.config import TrainConfig
from jaxmeta.runs.directory import LOCK, absolute, check_same, lock_directory
from jaxmeta.runtime.files import write_atomically
from jaxmeta.sweeps.grid import Grid
from jaxmeta_envs.core.errors import ConfigError

_SPEC, _WAVES = "sweep.json", "waves"


class Runs(NamedTuple):
    """What runs gave. Run ``r`` is point ``r // num_seeds`` with seed ``r % num_seeds``.

    Attributes:
        scores: float32 ``[R, B]``, see `jaxmeta.sweeps.result.Sweep`.
        finished: ``[R]``.
        diverged: ``[R]``.
        metrics: ``[R, updates]``.
    """

    scores: np.ndarray
    finished: np.ndarray
    diverged: np.ndarray
    metrics: dict[str, np.ndarray]

    @classmethod
    def none(cls, runs: int, tasks: int) -> Runs:
        """Returns so many runs, none of which is finished."""
        scores = np.full((runs, tasks), np.nan, np.float32)
        return cls(scores, np.zeros(runs, bool), np.zeros(runs, bool), {})

    def put(self, at: np.ndarray, wave: Runs) -> None:
        """Fills in a wave, the runs ``at``."""
        for whole, part in zip(self[:3], wave[:3], strict=True):
            whole[at] = part
        for name, values in wave.metrics.items():
            empty = np.full((len(self.finished), values.shape[1]), np.nan, np.float32)
            self.metrics.setdefault(name, empty)[at] = values


class SweepDirectory(contextlib.AbstractContextManager):
    """The directory of a sweep that this process writes. Make one with `open`.

    Attributes:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self._there = path.is_dir()
        self.path, self._lock = path, lock_directory(path)
        self._new = not (path / _SPEC).exists()

    @classmethod
    def open(cls, config: TrainConfig, grid: Grid) -> SweepDirectory:
        """Opens ``config.run_dir``, new or with the same sweep in it.

        Raises:
            ConfigError: If it holds something else, if another process works on it, if it cannot
                be written, or if the sweep could not be read from it again.
        """
        serialization.check_loadable(config)
        path = absolute(str(config.run_dir))
        if (path / "config.json").exists():
            raise ConfigError(f"run_dir is {str(path)!r}, which holds a run; choose another")
        store = cls(path)
        try:
            if not store._new:
                _check_same_sweep(config, grid, path)
            else:
                spec = {"config": serialization.to_dict(config), "axes": _axes(grid)}
                write_atomically(path / _SPEC, json.dumps(spec, indent=1) + "\n")
            (path / _WAVES).mkdir(exist_ok=True)
        except BaseException:
            store.close()
            raise
        return store

    def read(self, runs: Runs) -> None:
        """Fills in what earlier processes finished."""
        for path in sorted((self.path / _WAVES).glob("*.npz")):
            with np.load(path, allow_pickle=False) as found:
                names = [name for name in found.files if name.startswith("metrics/")]
                metrics = {name.removeprefix("metrics/"): found[name] for name in names}
                wave = Runs(found["scores"], np.asarray(True), found["diverged"], metrics)
                runs.put(found["runs"], wave)

    def write(self, at: np.ndarray, wave: Runs) -> None:
        """Writes a finished wave, whole or not at all."""
        arrays = {"runs": at, "scores": wave.scores, "diverged": wave.diverged}
        arrays |= {f"metrics/{name}": values for name, values in wave.metrics.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_atomically(self.path / _WAVES / f"from-run-{at[0]:06d}.npz", buffer.getvalue())

    def close(self) -> None:
        """Lets other processes in."""
        self._lock.close()

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is not None and self._new and not any((self.path / _WAVES).iterdir()):
            self._remove()
        self.close()

    def _remove(self) -> None:
        """Removes a sweep of which no wave was finished; what else is in the directory stays."""
        with contextlib.suppress(OSError):
            (self.path / _WAVES).rmdir()
            for name in (_SPEC, LOCK):
                (self.path / name).unlink(missing_ok=True)
            if not self._there:
                self.path.rmdir()


def read_sweep(path: str | Path) -> tuple[TrainConfig, dict[str, list[float]]]:
    """Returns what the sweep in a directory varies: the run, and the values of each name.

    Raises:
        ConfigError: If there is no sweep, or one that this version cannot read.
    """
    path = absolute(path)
    try:
        data = json.loads((path / _SPEC).read_text(encoding="utf-8"))
        config, axes = data["config"], data["axes"]
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{path} is not a sweep: it has no {_SPEC}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path / _SPEC} cannot be read: {error!r}") from error
    config: Any = serialization.from_dict(config)
    return config, axes


def _check_same_sweep(config: TrainConfig, grid: Grid, path: Path) -> None:
    stored, axes = read_sweep(path)
    if axes != _axes(grid):
        raise ConfigError(
            f"run_dir is {str(path)!r}, which holds a sweep over {axes}, not over {_axes(grid)}; "
            "choose another directory"
        )
    check_same(config, stored)
    if config.total_env_steps != stored.total_env_steps:
        raise ConfigError(
            f"total_env_steps is {config.total_env_steps}; the sweep in {path} was started with "
            f"{stored.total_env_steps}"
        )


def _axes(grid: Grid) -> dict[str, list[float]]:
    return {name: list(values) for name, values in zip(grid.names, grid.values, strict=True)}
