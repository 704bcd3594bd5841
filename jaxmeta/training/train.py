"""Training as one call: `train`, `resume` and `load`."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmeta import engine, parallel, placement
from jaxmeta.config import TrainConfig, check_config
from jaxmeta.parallel import Device
from jaxmeta.runs.checkpoint import NotSaved, Restored
from jaxmeta.runs.directory import (
    Record,
    RunDirectory,
    absolute,
    check_same,
    read_history,
    record_from_text,
    record_to_text,
)
from jaxmeta.runs.logs import History
from jaxmeta.runs.result import TrainResult, make_result
from jaxmeta.runtime import hosts
from jaxmeta.runtime.device_memory import check_fits
from jaxmeta.runtime.files import draw_or_warn
from jaxmeta.runtime.interrupts import Interrupts
from jaxmeta.runtime.leaving import Stopped
from jaxmeta.runtime.progress import Progress, make_progress
from jaxmeta.testing.before_training import check_before_training
from jaxmeta.training.loop import (
    Callback,
    ChunkInfo,
    Loop,
    Program,
    TrainingDiverged,
    compile_chunk,
    first_state,
)
from jaxmeta.training.rounds import Rounds
from jaxmeta_envs.core.errors import ConfigError, require

__all__ = [
    "Callback",
    "ChunkInfo",
    "NotSaved",
    "TrainingDiverged",
    "TrainingInterrupted",
    "resume",
    "train",
]

_NOTHING = History({}, {}, {})


class TrainingInterrupted(RuntimeError):
    """A signal stopped training after a whole chunk, the state saved, or while it compiled.

    Attributes:
        signum: The signal.
        run_dir: The run, ready for `resume`; None if it was not written anywhere, or had not
            begun: then nothing is left of it.
        result: The agent as it is now; its state is None if no training had been done.
    """

    def __init__(self, signum: int, result: TrainResult) -> None:
        self.signum, self.run_dir, self.result = signum, result.run_dir, result
        where = f"; resume it from {self.run_dir}" if self.run_dir else ""
        name = signal.Signals(signum).name
        super().__init__(f"{name} stopped training at {result.env_steps} env steps{where}")


def train(
    config: TrainConfig,
    *,
    callback: Callback | None = None,
    progress: bool = True,
    resume_evaluates: bool = True,
) -> TrainResult:
    """Trains an agent.

    With a ``run_dir`` everything is written there, and `resume` goes on with what a signal,
    a crash or an error ended. The first SIGINT or SIGTERM finishes the chunk and saves; a
    second SIGINT stops at once. So does the first one while the program is compiled, and of a
    run that was not begun nothing is left. The compiler cannot be stopped: it goes on beside
    what the caller does then, and is abandoned at the end of the process, whose exit code is 128
    plus the signal's number if that comes first. A disk that is full stops no run before its next
    checkpoint: events for TensorBoard are given up, metrics kept until there is room.

    Args:
        config: The run.
        callback: Called after every chunk. What it raises ends training, the state saved.
        progress: Whether to show how training goes.
        resume_evaluates: Whether the command ``jaxmeta resume`` evaluates the run once it is
            trained; written down in ``run_dir``.

    Raises:
        ConfigError: If ``run_dir`` holds a run or cannot be written, if the devices or the
            target do not fit, if the tasks need a package that is not installed, or if they break
            the contract of families (`TrainConfig.check`).
        TrainingDiverged: If a metric or a parameter is not finite.
        NotSaved: If the machine refuses to save the state, as a full disk does.
        TrainingInterrupted: If a signal stopped training.
        ProcessLost: If another process of the run has ended, see `jaxmeta.runtime.hosts`.
    """
    check_config(config)
    parallel.request_cpu_devices()
    config.tasks.check_installed()
    if config.check:
        check_before_training(config.tasks)
    devices, rounds = _choose_devices(config, config.devices), Rounds(config)
    check_fits(config, devices)
    if config.run_dir is None:
        return _run(config, devices, rounds, None, callback, progress)
    count, platform = len(devices), devices[0].platform

    def create() -> RunDirectory:
        return RunDirectory.create(config, count, platform, resume_evaluates)

    with _open(create, config.run_dir) as (store, record):
        check_same(config, record.config)  # of another process, it may have been given another
        return _run(config, devices, rounds, store, callback, progress)


def resume(
    run_dir: str | Path,
    *,
    config: TrainConfig | None = None,
    total_env_steps: int | None = None,
    callback: Callback | None = None,
    progress: bool = True,
) -> TrainResult:
    """Goes on with a run, from its newest checkpoint that can be read.

    On as many devices as before, the run ends as it would have without the break, bit for
    bit. A run that is complete is returned as it is.

    Args:
        run_dir: The directory of the run.
        config: If given, the run must be this one, whatever its length.
        total_env_steps: A new, greater length of the run. Schedules that span the whole
            run stretch with it: the longer run then goes on at the values of its new length.
        callback: As in `train`.
        progress: As in `train`.

    Raises:
        ConfigError: If the directory holds no run or another one, if another process is
            training it, or if it was to become shorter.
        CheckpointError: If there are checkpoints and none can be read.
        TrainingDiverged: As in `train`.
        NotSaved: As in `train`.
        TrainingInterrupted: As in `train`.
        ProcessLost: As in `train`.
    """
    parallel.request_cpu_devices()
    with _open(lambda: RunDirectory.open_existing(run_dir), run_dir) as (store, record):
        stored = record.config
        if config is not None:
            check_same(config, stored)
        least = stored.total_env_steps
        wanted = least if total_env_steps is None else total_env_steps
        total = replace(stored, total_env_steps=wanted).total_env_steps
        require(total >= least, "total_env_steps", total, f"at least {least}, the run's length")
        longer = replace(stored, total_env_steps=total)
        devices, rounds = _same_devices(record), Rounds(longer)
        check_fits(longer, devices)
        return _run(longer, devices, rounds, store, callback, progress)


def _run(
    config: TrainConfig,
    devices: list[Device],
    rounds: Rounds,
    store: RunDirectory | None,
    callback: Callback | None,
    progress: bool,
) -> TrainResult:
    """Trains from the newest checkpoint in ``store``, or from the start."""
    if not hosts.are_several():
        return _run_here(config, devices, rounds, store, callback, progress)
    require(config.target is None, "target", config.target, "None with several processes")
    try:
        return _run_here(config, devices, rounds, store, callback, progress and hosts.leads())
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if not hosts.tells_of_loss(error):
            raise
        where = f"; resume it from {config.run_dir}" if config.run_dir else ""
        raise hosts.ProcessLost(f"another process of the run has ended{where}") from error


def _run_here(
    config: TrainConfig,
    devices: list[Device],
    rounds: Rounds,
    store: RunDirectory | None,
    callback: Callback | None,
    progress: bool,
) -> TrainResult:
    plan = config.plan()
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts(announce=progress))
        restored = _restore(config, store, devices)
        update = restored.update if restored else 0
        steps = plan.env_steps_per_update * config.num_seeds
        shown = make_progress(progress, plan.updates * steps, update * steps)
        shown = stack.enter_context(shown)
        with _before_it_begins(config, store, restored):
            program = _compile(config, devices, update, shown, interrupts)
            first = None if restored else first_state(config, devices, interrupts.compile)
        history = store.begin(update) if store else _NOTHING
        if store and config.total_env_steps != store.record.config.total_env_steps:
            store.extend(config.total_env_steps, update)
        loop = Loop(
            config=config,
            program=program,
            rounds=rounds,
            state=restored.state if restored else first,
            update=update,
            seconds=restored.seconds if restored else 0.0,
            history=history,
            store=store,
            progress=shown,
            callback=callback,
            saved=restored.update if restored else None,
        )
        loop.run(interrupts)
    path = store.path if store else None
    result = make_result(config, loop.state, loop.update, loop.measured(), path)
    if store and any(name.startswith("posterior_std/") for name in result.adaptations):
        _draw_rounds(result, store.path / "posterior.png")
    if interrupts.signum is not None:
        raise TrainingInterrupted(interrupts.signum, result)
    return result


@contextlib.contextmanager
def _before_it_begins(
    config: TrainConfig, store: RunDirectory | None, restored: Restored | None
) -> Iterator[None]:
    """Leaves no directory of a run that does not begin; a signal becomes `TrainingInterrupted`."""
    try:
        yield
    except BaseException as error:
        path = store.path if store is not None and not store.withdraw() else None
        if not isinstance(error, Stopped):
            raise
        if restored is None:
            result = TrainResult(config, None, *_NOTHING, 0, path)
        else:
            known = read_history(path, restored.update, config.num_seeds) if path else _NOTHING
            result = make_result(config, restored.state, restored.update, known, path)
        raise TrainingInterrupted(error.signum, result) from None


def _compile(
    config: TrainConfig, devices: list[Device], update: int, shown: Progress, interrupts: Interrupts
) -> Program | None:
    """Compiles the run's program, unless all its updates are done."""
    plan = config.plan()
    if update >= plan.updates:
        return None
    if (note := config.length_note()) is not None:
        shown.say(note)
    shown.say("compiling")
    program = compile_chunk(config, devices, interrupts.compile)
    shown.say(f"compiled in {program.seconds:.1f} s for {_describe(devices)}")
    return program


def _draw_rounds(result: TrainResult, path: Path) -> None:
    from jaxmeta.training.figure import plot_rounds

    family: Any = result.config.tasks
    title = f"target {result.config.target}"
    told = (result.adaptations, result.metrics, path, title, family.units)
    draw_or_warn(path, functools.partial(plot_rounds, *told))


@contextlib.contextmanager
def _open(
    opening: Callable[[], RunDirectory], run_dir: str | Path
) -> Iterator[tuple[RunDirectory | None, Record]]:
    """Opens a run; of several processes the first one does, and the others fail if it does."""
    if not hosts.are_several():
        with opening() as store:
            yield store, store.record
        return
    with contextlib.ExitStack() as stack:
        store, said = None, {}
        if hosts.leads():
            try:
                store = stack.enter_context(opening())
                said = {"record": record_to_text(store.record)}
            except ConfigError as error:
                said = {"problem": str(error)}
        said = json.loads(hosts.share_text(json.dumps(said)))
        if "problem" in said:
            raise ConfigError(said["problem"])
        yield store, record_from_text(said["record"], absolute(run_dir))


def _restore(
    config: TrainConfig, store: RunDirectory | None, devices: list[Device]
) -> Restored | None:
    """Reads the newest checkpoint; of several processes the first one does, for all."""
    target, where = engine.state_target(config, devices), engine.state_placement(config)
    if not hosts.are_several():
        return store.checkpoints.restore(*placement.split(where, target)) if store else None
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), target)
    found = store.checkpoints.restore(*placement.split(where, blank)) if store else None
    found = found if found else Restored(-1, 0.0, blank)
    state = jax.tree.map(np.asarray, found.state)
    update, seconds, state = hosts.broadcast((np.int32(found.update), found.seconds, state))
    if update < 0:
        return None
    return Restored(int(update), float(seconds), hosts.place(state, target))


def _choose_devices(config: TrainConfig, devices: int | None) -> list[Device]:
    algorithm = config.algorithm
    return parallel.choose_devices(algorithm.num_tasks, algorithm.task_multiple, devices)


def _same_devices(record: Record) -> list[Device]:
    """Returns as many devices as the run began with, or warns that it cannot."""
    here = jax.devices()
    count, platform = record.devices, here[0].platform
    if len(here) < count or platform != record.platform:
        devices = _choose_devices(record.config, None)
        warnings.warn(
            f"the run began on {count} {record.platform} devices and goes on on {len(devices)} "
            f"{platform} devices: it will not be the same to the bit",
            stacklevel=3,
        )
        return devices
    return _choose_devices(record.config, count)


def _describe(devices: list[Device]) -> str:
    plural = "s" if len(devices) > 1 else ""
    described = f"{len(devices)} {devices[0].device_kind} device{plural}"
    if idle := parallel.idle_cores():
        described += (
            f", not for {idle + 1}: JAX was in use before jaxmeta was; set JAX_NUM_CPU_DEVICES="
            f"{idle + 1} before JAX is imported, or 1 to keep one"
        )
    return described
