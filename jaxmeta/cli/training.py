"""The commands that train: ``train``, ``sweep`` and ``resume``."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from jaxmeta.cli.devices import join, prepare_jax
from jaxmeta.cli.names import training_names
from jaxmeta.cli.output import (
    FAILED,
    OK,
    complain,
    print_table,
    say_written,
    shortest,
    write_or_complain,
)

if TYPE_CHECKING:
    from jaxmeta.runs.result import TrainResult


def train_command(arguments: list[str]) -> int:
    """Trains, then evaluates on held-out tasks."""
    names = training_names("train", arguments)
    if names is None:
        return OK

    from jaxmeta.catalog.presets import preset
    from jaxmeta.cli.listing import describe_training
    from jaxmeta.cli.options import TrainOptions
    from jaxmeta.cli.own_parts import choose_own_parts
    from jaxmeta.cli.parsing import parse_options
    from jaxmeta.training.dry_run import describe_run
    from jaxmeta.training.train import train

    prepare_jax()
    config, rest = choose_own_parts(preset(*names), arguments[2:])
    options = parse_options(
        TrainOptions,
        rest,
        command=f"jaxmeta train {' '.join(names)}",
        description=describe_training(config),
        default=TrainOptions(dataclasses.replace(config, run_dir=_new_run_dir(*names))),
    )
    if options.dry_run:
        print(describe_run(options.config))
        return OK
    join(options.hosts)
    result = train(options.config, resume_evaluates=options.evaluate)
    return _report(result, options.evaluate)


def sweep_command(arguments: list[str]) -> int:
    """Trains with many numbers at once."""
    names = training_names("sweep", arguments)
    if names is None:
        return OK

    from jaxmeta.catalog.presets import preset
    from jaxmeta.cli.listing import describe_sweep
    from jaxmeta.cli.options import SweepOptions
    from jaxmeta.cli.own_parts import choose_own_parts
    from jaxmeta.cli.parsing import parse_options
    from jaxmeta.sweeps.sweep import sweep

    prepare_jax()
    config, rest = choose_own_parts(preset(*names), arguments[2:])
    usual = dataclasses.replace(config, run_dir=_new_run_dir("sweep", *names))
    options = parse_options(
        SweepOptions,
        rest,
        command=f"jaxmeta sweep {' '.join(names)}",
        description=describe_sweep(config),
        default=SweepOptions(usual, ()),
    )
    try:
        found = sweep(options.config, options.axes(), memory_gib=options.memory_gib)
    except KeyboardInterrupt:
        if (place := options.config.run_dir) is not None and os.path.exists(place):
            hint = f"the same command with --run-dir {shlex.quote(place)} goes on with the sweep"
            complain(hint, FAILED)
        raise
    print_table(found)
    if found.run_dir is not None:
        picture = Path(shortest(found.run_dir), "sweep.png")
        print(f"\nThe numbers: {picture.with_suffix('.json')}")
        if found.ranking:  # else there is nothing to draw
            print(f"The figure:  {picture}")
    return OK


def resume_command(arguments: list[str]) -> int:
    """Continues a run that was stopped."""
    from jaxmeta.cli.options import ResumeOptions
    from jaxmeta.cli.parsing import parse_options
    from jaxmeta.runs.directory import read_record
    from jaxmeta.training.train import resume

    prepare_jax()
    options = parse_options(ResumeOptions, arguments, command="jaxmeta resume")
    join(options.hosts)
    result = resume(options.run_dir, total_env_steps=options.total_env_steps)
    wanted = "--evaluate" in arguments or read_record(options.run_dir).evaluate
    return _report(result, options.evaluate and wanted)


def _report(result: TrainResult, evaluate_too: bool) -> int:
    """Evaluates a finished run, if wanted, and says what there is and what to do next."""
    from jaxmeta.cli.import_option import again
    from jaxmeta.evaluation.evaluate import evaluate
    from jaxmeta.runtime import hosts

    # Every process evaluates: the others would time out at exit, waiting for the first one.
    evaluation = evaluate(result, save=False) if evaluate_too else None
    if not hosts.leads():
        return OK
    written: list[Path] | None = []
    if evaluation is not None:
        if result.run_dir is not None:
            written = write_or_complain(evaluation.save, result.run_dir)
        print_table(evaluation)
    if result.run_dir is None:
        return OK
    run_dir = shortest(result.run_dir)
    code = say_written(written, "The curves: ")
    print(f"The run is in {run_dir}. To go on:\n")
    place, own = shlex.quote(run_dir), again()
    shift = next((s for s in result.config.tasks.splits if s not in ("train", "test")), "test")
    trained = evaluation.trained_rows if evaluation is not None else None
    longer = f" --episodes {2 * trained}" if trained is not None else ""
    print(f"  jaxmeta evaluate {place} --split {shift}{longer}{own}")
    print(f"  jaxmeta resume {place} --total-env-steps {2 * result.env_steps}{own}")
    print(f"  tensorboard --logdir {place}")
    return code


def _new_run_dir(*names: str) -> str:
    """Returns a directory of the present second that does not exist yet."""
    name = "-".join([*names, _now()]).replace(":", "-")  # of module:Class
    candidates = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    return next(str(p) for p in (Path("runs", c) for c in candidates) if not p.exists())


def _now() -> str:
    return f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
