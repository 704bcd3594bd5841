"""Sweeps over hyperparameters: many runs as one compiled program."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from jaxmeta import parallel
from jaxmeta.config import TrainConfig, check_config
from jaxmeta.evaluation.evaluate import check_playable
from jaxmeta.evaluation.player import BATCH
from jaxmeta.evaluation.protocols import protocol_of
from jaxmeta.parallel import Device
from jaxmeta.runs.directory import library_versions
from jaxmeta.runtime.device_memory import format_bytes, free_bytes
from jaxmeta.runtime.files import write_or_warn
from jaxmeta.runtime.progress import Progress, make_progress
from jaxmeta.sweeps.grid import Grid, make_grid
from jaxmeta.sweeps.program import Wave, compile_wave, place_runs
from jaxmeta.sweeps.result import Sweep
from jaxmeta.sweeps.store import Runs, SweepDirectory, read_sweep
from jaxmeta.testing.before_training import check_before_training
from jaxmeta.training.recording import provenance
from jaxmeta_envs.core.errors import ConfigError, require

__all__ = ["Sweep", "resume_sweep", "sweep"]

_USUAL_SHARE = 0.5  # of the free memory, as evaluation and the host need some


def sweep(
    config: TrainConfig,
    axes: Mapping[str, Sequence[float]] | None = None,
    *,
    num_seeds: int | None = None,
    memory_gib: float | None = None,
    progress: bool = True,
    **named: Sequence[float],
) -> Sweep:
    """Trains a run for every combination of some hyperparameters, side by side.

    Every run is that of `jaxmeta.train` with these numbers and this seed, evaluated at its end.
    All are trained by one program, in as many waves as the memory asks for, spread over the
    local devices. A run that diverges does not stop the others.

    With a ``run_dir``, every wave is written when it is done; the same call goes on with a
    sweep that was stopped, or returns one that is complete.

    Example::

        found = jaxmeta.sweep(config, learning_rate=[3e-4, 1e-3, 3e-3], num_seeds=5)
        rich.print(found.table())
        again = dataclasses.replace(found.config_of(found.best), seed=100)

    Args:
        config: The run that is varied. Of its ``*_every`` fields none matters.
        axes: Hyperparameters of the algorithm and their values. Names of parts have dots,
            such as ``optimizer.clip`` or ``learning_rate.initial`` of a schedule.
        num_seeds: Seeds of each combination; None takes the config's.
        memory_gib: What a wave may need on each device; None takes half of what is free.
        progress: Whether to show how it goes.
        **named: More of ``axes``.

    Raises:
        ConfigError: If a name is no number of the algorithm, if a value is not allowed or
            decides what is compiled, if there is too little memory for one run, or if
            ``run_dir`` holds something else.
    """
    check_config(config)
    parallel.request_cpu_devices()
    config = replace(config, num_seeds=config.num_seeds if num_seeds is None else num_seeds)
    text = "None: a sweep stays on the devices, and a target is met on the host"
    require(config.target is None, "target", config.target, text)
    fine = memory_gib is None or 0 < memory_gib < math.inf
    require(fine, "memory_gib", memory_gib, "above 0 and finite, or None")
    config.tasks.check_installed()
    if config.check:
        check_before_training(config.tasks)
    check_playable(config.tasks, "test", config.eval_tasks, 1, BATCH)
    grid = make_grid(config, {**(axes or {}), **named})
    if config.run_dir is None:
        return _run(config, grid, memory_gib, progress, None)
    with SweepDirectory.open(config, grid) as store:
        return _run(config, grid, memory_gib, progress, store)


def resume_sweep(
    run_dir: str | Path, *, memory_gib: float | None = None, progress: bool = True
) -> Sweep:
    """Goes on with the sweep in a directory, or returns it if it is complete.

    Raises:
        ConfigError: If there is no sweep, and as in `sweep`.
    """
    config, axes = read_sweep(run_dir)
    config = replace(config, run_dir=str(run_dir))
    return sweep(config, axes, memory_gib=memory_gib, progress=progress)


def _run(
    config: TrainConfig,
    grid: Grid,
    memory_gib: float | None,
    progress: bool,
    store: SweepDirectory | None,
) -> Sweep:
    runs = Runs.none(math.prod(grid.shape) * config.num_seeds, config.eval_tasks)
    if store is not None:
        store.read(runs)
    todo = np.flatnonzero(~runs.finished)
    steps, before = config.plan().env_steps, int(runs.finished.sum())
    with make_progress(progress, runs.finished.size * steps, before * steps, "sweep") as shown:
        if len(todo):
            parallel.check_platform()
            devices = jax.local_devices()[: min(config.devices or len(todo), len(todo))]
            budget = _budget(memory_gib, devices)
            if (note := config.length_note()) is not None:
                shown.say(note)
            shown.say("compiling")
            wave = _fitting_wave(config, grid, devices, len(todo), budget)
            shown.say(_describe(wave, devices, len(todo), budget))
            for start in range(0, len(todo), wave.size):
                at = todo[start : start + wave.size]
                trained = _train(config, wave, devices, at, shown)
                runs.put(at, trained)
                if store is not None:
                    store.write(at, trained)
                    write_or_warn(_result(config, grid, runs, store).save)
    found = _result(config, grid, runs, store)
    if store is not None and not len(todo):  # it may have been killed between the two
        write_or_warn(found.save)
    return found


def _budget(memory_gib: float | None, devices: list[Device]) -> int:
    """Returns the bytes that a wave may need on each device."""
    if memory_gib is not None:
        return int(memory_gib * 2**30)
    return int(_USUAL_SHARE * free_bytes(devices[0], len(devices)))


def _fitting_wave(
    config: TrainConfig, grid: Grid, devices: list[Device], runs: int, budget: int
) -> Wave:
    """Compiles the largest wave that fits: estimated first, then read off the program."""
    swept, algorithm = grid.swept(config), config.algorithm
    estimate = algorithm.memory_bytes(config.tasks, algorithm.num_tasks)
    most = max(budget // estimate, 1) if estimate else runs
    while True:
        waves = math.ceil(runs / (most * len(devices)))
        each = math.ceil(runs / (waves * len(devices)))  # equal waves, without much padding
        wave = compile_wave(swept, devices, each * len(devices))
        if wave.memory <= budget:
            return wave
        if each == 1:
            raise ConfigError(
                f"memory_gib is {budget / 2**30:.3g}; one run needs {format_bytes(wave.memory)}: "
                "allow more, or make num_tasks smaller"
            )
        most = max(min(each - 1, int(each * budget / wave.memory)), 1)


def _train(
    config: TrainConfig, wave: Wave, devices: list[Device], at: np.ndarray, shown: Progress
) -> Runs:
    """Trains and evaluates the runs ``at``; a wave that is not full trains the last one again."""
    lanes = np.concatenate([at, np.repeat(at[-1:], wave.size - len(at))])
    seeds, points = config.seed + lanes % config.num_seeds, lanes // config.num_seeds
    placed = place_runs(devices, seeds, points)
    state, plan = wave.init(*placed), config.plan()
    chunks, score, unit = [], config.tasks.score.name, config.tasks.experience_unit
    for first in range(0, plan.updates, plan.updates_per_chunk):
        began = time.perf_counter()
        state, metrics = wave.train(state, *placed, np.int32(first))
        chunks.append({n: x[:, : len(at)] for n, x in jax.device_get(metrics).items()})
        done = shown.done + len(at) * plan.updates_per_chunk * plan.env_steps_per_update
        reached = chunks[-1][score][-1]
        good = reached[np.isfinite(reached)]
        reached = float(good.mean()) if good.size else math.nan
        shown.advance(done, time.perf_counter() - began, reached, score, unit)
    curves, finite = jax.device_get(wave.evaluate(state.params, placed[1]))
    measured = {name: np.concatenate([c[name] for c in chunks]).T for name in chunks[0]}
    good = np.all([np.isfinite(values).all(axis=1) for values in measured.values()], axis=0)
    diverged = ~(good & finite[: len(at)])
    scores = protocol_of(config.algorithm, config.tasks).headline_of(curves[: len(at)])
    return Runs(scores, np.ones(len(at), bool), diverged, measured)


def _result(config: TrainConfig, grid: Grid, runs: Runs, store: SweepDirectory | None) -> Sweep:
    shape = (math.prod(grid.shape), config.num_seeds)
    return Sweep(
        config=config,
        grid=grid,
        scores=runs.scores.reshape(*shape, -1),
        finished=runs.finished.reshape(shape),
        diverged=runs.diverged.reshape(shape),
        metrics={name: values.reshape(*shape, -1) for name, values in runs.metrics.items()},
        provenance=provenance() | library_versions(),
        run_dir=None if store is None else store.path,
    )


def _describe(wave: Wave, devices: list[Device], runs: int, budget: int) -> str:
    waves = math.ceil(runs / wave.size)
    plural = "s" if waves > 1 else ""
    return (
        f"compiled in {wave.seconds:.1f} s: {runs} runs in {waves} wave{plural} of {wave.size} on "
        f"{len(devices)} {devices[0].device_kind}; a wave needs {format_bytes(wave.memory)} of "
        f"{format_bytes(budget)} on each device"
    )
