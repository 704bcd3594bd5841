"""For scripts whose figures are kept: runs that can be taken up again, and where they were made."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax

from jaxmeta.training import resume, train
from jaxmeta_envs.errors import require

if TYPE_CHECKING:
    from jaxmeta.config import TrainConfig
    from jaxmeta.training import TrainResult


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
        ConfigError: If the configuration has no directory.
    """
    require(config.run_dir is not None, "run_dir", config.run_dir, "a directory")
    assert config.run_dir is not None
    if Path(config.run_dir, "config.json").exists():
        return Finished(resume(config.run_dir), None)
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
