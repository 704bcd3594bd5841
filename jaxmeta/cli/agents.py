"""The commands that take trained agents: how they adapt, how they look, and where they go."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

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
    from jaxmeta.cli.parsing import parse_options
    from jaxmeta.evaluation import evaluate
    from jaxmeta.options import EvaluateOptions

    prepare_jax()
    options = dataclasses.asdict(
        parse_options(EvaluateOptions, arguments, command="jaxmeta evaluate")
    )
    run_dir, _ = options.pop("run_dir"), options.pop("own")
    if options["save"] and os.path.isdir(run_dir) and not os.access(run_dir, os.W_OK):
        message = f"{run_dir} cannot be written; choose --no-save to look only"
        return complain(message, BAD_INPUT)
    save = options.pop("save")
    evaluation = evaluate(run_dir, save=False, **options)
    written = write_or_complain(evaluation.save, Path(run_dir)) if save else []
    print_table(evaluation)
    return say_written(written, "The curves: ")


def compare_command(arguments: list[str]) -> int:
    """Lays adaptation curves over each other."""
    from jaxmeta.cli.parsing import parse_options
    from jaxmeta.comparison import compare
    from jaxmeta.options import CompareOptions
    from jaxmeta.runs import check_picture

    prepare_jax()
    options = parse_options(CompareOptions, arguments, command="jaxmeta compare")
    if options.save:
        check_picture(Path(options.out).expanduser())
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
    written = write_or_complain(found.save, Path(options.out).expanduser()) if options.save else []
    print_table(found)
    return say_written(written, "The figure: ")


def robustness_command(arguments: list[str]) -> int:
    """Maps the return over physical parameters."""
    from jaxmeta.cli.parsing import parse_options
    from jaxmeta.options import RobustnessOptions
    from jaxmeta.robustness_checks import picture_name
    from jaxmeta.robustness_map import robustness
    from jaxmeta.runs import check_picture

    prepare_jax()
    options = parse_options(RobustnessOptions, arguments, command="jaxmeta robustness")
    run_dirs = list(options.run_dirs)
    beside = run_dirs[:1] if options.out is None and len(run_dirs) == 1 else []
    name = picture_name(options.parameters, options.search if options.worst_case else None)
    place = Path(*beside, options.out or name).expanduser()
    if options.save and (not beside or place.parent.is_dir()):  # else it is no run
        check_picture(place)
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
    written = write_or_complain(found.save, place) if options.save else []
    print_table(found)
    return say_written(written, "The figure: ")


def show_command(arguments: list[str]) -> int:
    """Draws the agent at work, still and moving."""
    from jaxmeta.cli.parsing import parse_options
    from jaxmeta.options import ShowOptions
    from jaxmeta.showing import show

    prepare_jax()
    options = dataclasses.asdict(parse_options(ShowOptions, arguments, command="jaxmeta show"))
    run_dir, _ = options.pop("run_dir"), options.pop("own")
    pictures = show(run_dir, **options)
    print(f"Still:  {shortest(pictures.still)}\nMoving: {shortest(pictures.moving)}")
    return OK


def export_command(arguments: list[str]) -> int:
    """Writes an agent that JAX alone can run."""
    from jaxmeta.cli.parsing import parse_options
    from jaxmeta.exporting import export
    from jaxmeta.options import ExportOptions

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
