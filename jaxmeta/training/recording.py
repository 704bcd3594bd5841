"""For scripts whose figures are kept: runs that can be taken up again, and where they were made."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from jaxmeta.runs.directory import read_record
from jaxmeta.training.train import resume, train
from jaxmeta_envs.core.errors import require

if TYPE_CHECKING:
    from jaxmeta.config import TrainConfig
    from jaxmeta.runs.result import TrainResult


class Finished(NamedTuple):
    """A run that is done.

    Attributes:
        result: What it gave.
        minutes: How long it took; None of a run that was taken up again.
    """

    result: TrainResult
    minutes: float | None


def finish(config: TrainConfig) -> Finished:
    """Trains, or goes on where the run's directory says that it was stopped.

    Raises:
        ConfigError: If the configuration has no directory, or the directory holds another run.
    """
    require(config.run_dir is not None, "run_dir", config.run_dir, "a directory")
    assert config.run_dir is not None
    if Path(config.run_dir, "config.json").exists():
        begun = read_record(config.run_dir).config.total_env_steps
        allowed = f"{begun}, as the run in {config.run_dir} began; move that one away"
        require(config.total_env_steps == begun, "total_env_steps", config.total_env_steps, allowed)
        return Finished(resume(config.run_dir, config=config), None)
    started = time.monotonic()
    result = train(config)
    return Finished(result, round((time.monotonic() - started) / 60, 2))


def provenance() -> dict[str, str]:
    """Returns devices, kind of machine and version of JAX; nothing that names this machine."""
    return {
        "device": f"{jax.local_device_count()} x {jax.devices()[0].device_kind}",
        "machine": platform.machine(),
        "jax": jax.__version__,
    }


def kept(
    kind: str,
    names: Sequence[str],
    known: Collection[str],
    out: Path,
    make: Callable[[str], dict[str, Any]],
    again: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yields the result of each name, made and written to ``out`` unless it is there.

    Args:
        kind: What the names are of, for the complaint.
        names: Which results.
        known: Names that there are.
        out: Folder of the files, ``NAME.json``.
        make: Returns a result.
        again: Make also those that are there.

    Raises:
        SystemExit: If a name is unknown, before anything is made.
    """
    for name in names:
        if name not in known:
            raise SystemExit(f"{kind} has {name!r}; it must be of {', '.join(known)}")
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = out / f"{name}.json"
        if again or not path.exists():
            path.write_text(json.dumps(make(name), indent=1) + "\n")
        yield json.loads(path.read_text())
