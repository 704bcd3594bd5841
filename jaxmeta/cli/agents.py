"""The commands that take trained agents: how they adapt, how they look, and where they go."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from jaxmeta.cli.amounts import say_if_long
from jaxmeta.cli.devices import prepare_jax
from jaxmeta.cli.output import (
    BAD_INPUT,
    OK,
    complain,
    print_table,
    say_written,
    shortest,
    write_or_complain,
)


def evaluate_command(arguments: list[str]) -> int:
    """Measures adaptation to held-out tasks."""
    from jaxmeta.cli.options import EvaluateOptions
    from jaxmeta.cli.parsing import parse_options
    from jaxmeta.evaluation.evaluate import evaluate

    prepare_jax()
    options = dataclasses.asdict(
        parse_options(EvaluateOptions, arguments, command="jaxmeta evaluate")
    )
    run_dir, _ = options.pop("run_dir"), options.pop("own")
    if options["save"] and os.path.isdir(run_dir) and not os.access(run_dir, os.W_OK):
        message = f"{run_dir} cannot be written; choose --no-save to look only"
        return complain(message, BAD_INPUT)
    save = options.pop("save")
    say_if_long([run_dir], options, in_rows=True)
    evaluation = evaluate(run_dir, save=False, **options)
    written = write_or_complain(evaluation.save, Path(run_dir)) if save else []
    print_table(evaluation)
    return say_written(written, "The curves: ")


def compare_command(arguments: list[str]) -> int:
    """Lays adaptation curves over each other."""
    from jaxmeta.analysis.comparison.compare import compare
    from jaxmeta.cli.options import CompareOptions
    from jaxmeta.cli.parsing import parse_options
    from jaxmeta.runs.choose import picture_place

    prepare_jax()
    options = parse_options(CompareOptions, arguments, command="jaxmeta compare")
    place = picture_place(options.out, "compare.png") if options.save else None
    say_if_long(options.run_dirs, dataclasses.asdict(options))
    found = compare(
        options.run_dirs,
        labels=options.labels or None,
        episodes=options.episodes,
        shots=options.shots,
        split=options.split,
        num_tasks=options.num_tasks,
        seed=options.seed,
        deterministic=options.deterministic,
        references=options.references,
        out=None,
    )
    written = [] if place is None else write_or_complain(found.save, place)
    print_table(found)
    return say_written(written, "The figure: ")


def robustness_command(arguments: list[str]) -> int:
    """Maps the return over physical parameters."""
    from jaxmeta.analysis.robustness.map import robustness
    from jaxmeta.analysis.robustness.plan import picture_name
    from jaxmeta.cli.options import RobustnessOptions
    from jaxmeta.cli.parsing import parse_options
    from jaxmeta.runs.choose import picture_place

    prepare_jax()
    options = parse_options(RobustnessOptions, arguments, command="jaxmeta robustness")
    run_dirs = list(options.run_dirs)
    name = picture_name(options.parameters, options.search if options.worst_case else None)
    own = run_dirs[0] if len(run_dirs) == 1 else "."
    place = None
    if options.save and (options.out is not None or os.path.isdir(own)):  # else it is no run
        place = picture_place(own if options.out is None else options.out, name)
    found = robustness(
        run_dirs,
        options.parameters or None,
        ranges=options.ranges,
        fixed=options.fixed,
        points=options.points,
        trials=options.trials,
        episodes=options.episodes,
        deterministic=options.deterministic,
        search=options.search if options.worst_case else None,
        labels=options.labels or None,
        seed=options.seed,
        save=False,
    )
    written = [] if place is None else write_or_complain(found.save, place)
    print_table(found)
    return say_written(written, "The figure: ")


def show_command(arguments: list[str]) -> int:
    """Draws the agent at work, still and moving."""
    from jaxmeta.analysis.pictures.show import show
    from jaxmeta.cli.options import ShowOptions
    from jaxmeta.cli.parsing import parse_options

    prepare_jax()
    options = dataclasses.asdict(parse_options(ShowOptions, arguments, command="jaxmeta show"))
    run_dir, _ = options.pop("run_dir"), options.pop("own")
    pictures = show(run_dir, **options)
    print(f"Still:  {shortest(pictures.still)}\nMoving: {shortest(pictures.moving)}")
    return OK


def export_command(arguments: list[str]) -> int:
    """Writes an agent that JAX alone can run."""
    from jaxmeta.cli.options import ExportOptions
    from jaxmeta.cli.parsing import parse_options
    from jaxmeta.deploy.export import export

    options = parse_options(ExportOptions, arguments, command="jaxmeta export")
    path = export(
        options.run_dir,
        options.path,
        seed_index=options.seed_index,
        platforms=options.platforms,
    )
    print(f"The agent is in {shortest(path)}. To run it there, with JAX alone:\n")
    print("  from load import load_exported\n  agent = load_exported()")
    return OK
