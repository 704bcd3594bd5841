"""The ``jaxmeta`` command.

Imports happen inside the commands, so that help is immediate. Every mistake of the user
ends in one sentence on stderr and exit code 2, before anything is compiled or written; what
the machine refuses, as a full disk does, in one and exit code 1, once everything else is done;
an error that is neither keeps its traceback.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import itertools
import os
import shlex
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from jaxmeta import __version__
from jaxmeta.leaving import Stopped, leave, leaving_at_once
from jaxmeta.terminal import spell_plainly

if TYPE_CHECKING:
    from jaxmeta.comparison_report import Comparison
    from jaxmeta.options import HostOptions
    from jaxmeta.report import Evaluation
    from jaxmeta.robustness_report import Robustness
    from jaxmeta.sweep_report import Sweep
    from jaxmeta.training import TrainResult

OK, FAILED, BAD_INPUT, BROKEN_PIPE = 0, 1, 2, 141

_HELP = ("-h", "--help")


class Command(NamedTuple):
    """A command: what runs it, given its arguments, and what the help says of it."""

    run: Callable[[list[str]], int]
    usage: str
    summary: str


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Arguments after the program's name; None takes those of the process, which then ends
            with this call.

    Returns:
        The exit code: 0; 1 if training diverged or something could not be written; 2 for bad
        input; 128 plus the signal's number if interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):  # None where they were closed
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    spell_plainly(sys.stdout, sys.stderr)
    with warnings.catch_warnings():
        warnings.showwarning = _say_warning
        return _run(arguments, ends_process=argv is None)


def _run(arguments: list[str], ends_process: bool) -> int:
    try:
        with leaving_at_once(_say_stopped):
            code = _dispatch(arguments)
        sys.stdout.flush()  # while a closed pipe can still be told from a defect
        return code
    except SystemExit as stop:  # help, or an option that cannot be read
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    except KeyboardInterrupt as stop:
        code = _say_stopped(stop.signum if isinstance(stop, Stopped) else signal.SIGINT)
        if ends_process:
            leave(code)  # Python's own end would wait for threads that compile
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        _drop_output()
        return BROKEN_PIPE
    except Exception as error:
        explained = _explain(error)
        if explained is None:
            raise
        return _complain(*explained)


def _drop_output() -> None:
    """Sends what is left in the buffer nowhere, so that Python does not try again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows a warning as one line, without the place in the code that made it."""
    from jaxmeta.compilation_cache import stop_after_refusal

    if issubclass(category, UserWarning):
        text = stop_after_refusal(str(message)) or str(message)
    else:
        text = f"{category.__name__}: {message} ({filename}:{lineno})"
    print(f"jaxmeta: {text}", file=sys.stderr if file is None else file)


def _say_stopped(signum: int) -> int:
    name = signal.Signals(signum).name
    return _complain(f"interrupted by {name}; what was saved until now is kept", 128 + signum)


def _explain(error: Exception) -> tuple[str, int] | None:
    """Returns what to say of an error that is no defect, and the exit code; else None."""
    from jaxmeta.checkpoint import CheckpointError, NotSaved
    from jaxmeta.files import describe_refusal
    from jaxmeta.hosts import ProcessLost
    from jaxmeta.import_option import again
    from jaxmeta.run_dir import read_record
    from jaxmeta.training import TrainingDiverged, TrainingInterrupted
    from jaxmeta_envs.errors import ConfigError

    if isinstance(error, TrainingInterrupted):
        when = f"after {error.result.env_steps:,} environment steps"
        if error.run_dir is not None:
            later = f"go on with: jaxmeta resume {shlex.quote(str(error.run_dir))}{again()}"
            total = error.result.config.total_env_steps
            if total != read_record(error.run_dir).config.total_env_steps:  # not yet written down
                later += f" --total-env-steps {total}"
        elif error.result.state is None:
            when, later = "before it began", "nothing is left of it"
        else:
            later = "nothing is saved, as there was no run directory"
        name = signal.Signals(error.signum).name
        return f"{name} stopped training {when}; {later}", 128 + error.signum
    if isinstance(error, TrainingDiverged):
        return str(error), FAILED
    if isinstance(error, ProcessLost):
        _complain(str(error), FAILED)
        sys.stdout.flush()
        os._exit(FAILED)  # JAX would wait at exit for the process that is gone
    if isinstance(error, NotSaved):
        later = f"jaxmeta resume {shlex.quote(str(error.run_dir))}{again()}"
        return f"{error}; once it can, go on with: {later}", FAILED
    if isinstance(error, OSError) and (refused := describe_refusal(error)) is not None:
        if error.filename is None:
            _drop_output()
        return refused, FAILED
    return (str(error), BAD_INPUT) if isinstance(error, ConfigError | CheckpointError) else None


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in _HELP:
        print(_usage(), file=sys.stdout if arguments else sys.stderr)
        return OK if arguments else BAD_INPUT
    if arguments[0] == "--version":
        print(f"jaxmeta {__version__}")
        return OK
    from jaxmeta.import_option import split_modules

    arguments, modules = split_modules(arguments)
    name, *rest = arguments or [""]
    if name not in _COMMANDS:
        known = ", ".join(_COMMANDS)
        near = difflib.get_close_matches(name, _COMMANDS, n=1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        return _complain(f"command is {name!r}; it must be one of {known}{guess}", BAD_INPUT)
    if modules:
        from jaxmeta.importing import import_module

        _prepare_jax()  # they may use it
        for module in modules:
            import_module(module)
    return _COMMANDS[name].run([*rest, *(f"--import={module}" for module in modules)])


def _usage() -> str:
    width = max(len(command.usage) for command in _COMMANDS.values())
    lines = [f"  jaxmeta {c.usage:<{width}}  {c.summary}" for c in _COMMANDS.values()]
    return "\n".join(
        [
            "Meta-reinforcement learning in JAX.",
            "",
            *lines,
            "",
            "jaxmeta COMMAND --help explains the options of a command, jaxmeta --version",
            "prints the version. --import MODULE finds classes of your own, in mine.py say with",
            "--import mine. To begin with:",
            "",
            "  jaxmeta train rl2 bernoulli-bandit --dry-run",
        ]
    )


def _names(command: str, arguments: list[str]) -> tuple[str, str] | None:
    """Returns algorithm and family; None if the help was asked for instead, and printed."""
    from jaxmeta.catalogue import train_usage
    from jaxmeta_envs.errors import ConfigError

    names = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    if len(names) >= 2:
        return names[0], names[1]
    if set(arguments) & set(_HELP):
        print(train_usage(command))
        return None
    usage = f"jaxmeta {command} ALGORITHM FAMILY [OPTIONS]"
    raise ConfigError(f"{command} needs two names first: {usage}")


def _train(arguments: list[str]) -> int:
    names = _names("train", arguments)
    if names is None:
        return OK

    from jaxmeta.catalogue import describe_training
    from jaxmeta.dry_run import describe_run
    from jaxmeta.options import TrainOptions, parse_options
    from jaxmeta.presets import preset
    from jaxmeta.training import train_from_command

    _prepare_jax()
    config = preset(*names)
    options = parse_options(
        TrainOptions,
        arguments[2:],
        command=f"jaxmeta train {' '.join(names)}",
        description=describe_training(config),
        default=TrainOptions(dataclasses.replace(config, run_dir=_new_run_dir(*names))),
    )
    if options.dry_run:
        print(describe_run(options.config))
        return OK
    _join(options.hosts)
    result = train_from_command(options.config, evaluate=options.evaluate)
    return _report(result, options.evaluate)


def _sweep(arguments: list[str]) -> int:
    names = _names("sweep", arguments)
    if names is None:
        return OK

    from jaxmeta.catalogue import describe_sweep
    from jaxmeta.options import SweepOptions, parse_options
    from jaxmeta.presets import preset
    from jaxmeta.sweeping import sweep

    _prepare_jax()
    config = preset(*names)
    usual = dataclasses.replace(config, run_dir=_new_run_dir("sweep", *names))
    options = parse_options(
        SweepOptions,
        arguments[2:],
        command=f"jaxmeta sweep {' '.join(names)}",
        description=describe_sweep(config),
        default=SweepOptions(usual, ()),
    )
    try:
        found = sweep(options.config, options.axes(), memory_gib=options.memory_gib)
    except KeyboardInterrupt:
        if (place := options.config.run_dir) is not None and os.path.exists(place):
            hint = f"the same command with --run-dir {shlex.quote(place)} goes on with the sweep"
            _complain(hint, FAILED)
        raise
    _print_table(found)
    if found.run_dir is not None:
        picture = Path(_shortest(found.run_dir), "sweep.png")
        print(f"\nThe numbers: {picture.with_suffix('.json')}")
        if found.ranking:  # else there is nothing to draw
            print(f"The figure:  {picture}")
    return OK


def _resume(arguments: list[str]) -> int:
    from jaxmeta.options import ResumeOptions, parse_options
    from jaxmeta.run_dir import read_record
    from jaxmeta.training import resume

    _prepare_jax()
    options = parse_options(ResumeOptions, arguments, command="jaxmeta resume")
    _join(options.hosts)
    result = resume(options.run_dir, total_env_steps=options.total_env_steps)
    wanted = "--evaluate" in arguments or read_record(options.run_dir).evaluate
    return _report(result, options.evaluate and wanted)


def _evaluate(arguments: list[str]) -> int:
    from jaxmeta.evaluation import evaluate
    from jaxmeta.options import EvaluateOptions, parse_options

    _prepare_jax()
    options = dataclasses.asdict(
        parse_options(EvaluateOptions, arguments, command="jaxmeta evaluate")
    )
    run_dir, _ = options.pop("run_dir"), options.pop("own")
    if options["save"] and os.path.isdir(run_dir) and not os.access(run_dir, os.W_OK):
        message = f"{run_dir} cannot be written; choose --no-save to look only"
        return _complain(message, BAD_INPUT)
    save = options.pop("save")
    evaluation = evaluate(run_dir, save=False, **options)
    written = _save(evaluation.save, Path(run_dir)) if save else []
    _print_table(evaluation)
    return _say_written(written, "The curves: ")


def _compare(arguments: list[str]) -> int:
    from jaxmeta.comparison import compare
    from jaxmeta.options import CompareOptions, parse_options
    from jaxmeta.runs import check_picture

    _prepare_jax()
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
    written = _save(found.save, Path(options.out).expanduser()) if options.save else []
    _print_table(found)
    return _say_written(written, "The figure: ")


def _robustness(arguments: list[str]) -> int:
    from jaxmeta.options import RobustnessOptions, parse_options
    from jaxmeta.robustness_checks import picture_name
    from jaxmeta.robustness_map import robustness
    from jaxmeta.runs import check_picture

    _prepare_jax()
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
    written = _save(found.save, place) if options.save else []
    _print_table(found)
    return _say_written(written, "The figure: ")


def _export(arguments: list[str]) -> int:
    from jaxmeta.exporting import export
    from jaxmeta.options import ExportOptions, parse_options

    options = parse_options(ExportOptions, arguments, command="jaxmeta export")
    path = export(
        options.run_dir,
        options.path,
        seed_index=options.seed_index,
        platforms=options.platforms,
    )
    print(f"The agent is in {_shortest(path)}. To run it there, with JAX alone:\n")
    print("  from load import load_exported\n  agent = load_exported()")
    return OK


def _show(arguments: list[str]) -> int:
    from jaxmeta.options import ShowOptions, parse_options
    from jaxmeta.showing import show

    _prepare_jax()
    options = dataclasses.asdict(parse_options(ShowOptions, arguments, command="jaxmeta show"))
    run_dir, _ = options.pop("run_dir"), options.pop("own")
    pictures = show(run_dir, **options)
    print(f"Still:  {_shortest(pictures.still)}\nMoving: {_shortest(pictures.moving)}")
    return OK


def _list(arguments: list[str]) -> int:
    from jaxmeta.catalogue import describe_catalogue
    from jaxmeta.options import ListOptions, parse_options

    if arguments and not arguments[0].startswith("-"):
        return _complain(f"list takes no arguments, not {' '.join(arguments)}", BAD_INPUT)
    parse_options(ListOptions, arguments, command="jaxmeta list")
    print(describe_catalogue(shutil.get_terminal_size((1000, 24)).columns))
    return OK


def _prepare_jax() -> None:
    """Chooses devices and where compiled programs are kept, before JAX starts."""
    from jaxmeta.compilation_cache import use_compilation_cache
    from jaxmeta.parallel import request_cpu_devices

    request_cpu_devices()
    use_compilation_cache()


def _join(options: HostOptions) -> None:
    """Joins the other processes of the run, if it has any."""
    from jaxmeta import hosts
    from jaxmeta_envs.errors import require

    given = (options.coordinator, options.processes, options.process_id)
    if options.distributed:
        hosts.connect(*given)
    else:
        said = "absent without --distributed"
        require(given == (None,) * 3, "coordinator, processes, process_id", given, said)


def _report(result: TrainResult, evaluate_too: bool) -> int:
    """Evaluates a finished run, if wanted, and says what there is and what to do next."""
    from jaxmeta import hosts
    from jaxmeta.evaluation import evaluate
    from jaxmeta.import_option import again

    # Every process evaluates: the others would time out at exit, waiting for the first one.
    evaluation = evaluate(result, save=False) if evaluate_too else None
    if not hosts.leads():
        return OK
    written: list[Path] | None = []
    if evaluation is not None:
        if result.run_dir is not None:
            written = _save(evaluation.save, result.run_dir)
        _print_table(evaluation)
    if result.run_dir is None:
        return OK
    run_dir = _shortest(result.run_dir)
    code = _say_written(written, "The curves: ")
    print(f"The run is in {run_dir}. To go on:\n")
    place, own = shlex.quote(run_dir), again()
    shift = next((s for s in result.config.tasks.splits if s not in ("train", "test")), "test")
    trained = evaluation.trained_rows if evaluation is not None else None
    longer = f" --episodes {2 * trained}" if trained is not None else ""
    print(f"  jaxmeta evaluate {place} --split {shift}{longer}{own}")
    print(f"  jaxmeta resume {place} --total-env-steps {2 * result.env_steps}{own}")
    print(f"  tensorboard --logdir {place}")
    return code


def _print_table(found: Evaluation | Comparison | Robustness | Sweep) -> None:
    from rich.console import Console

    # A file or pipe has no width, unless it is given one; 80 columns would cut the table.
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if known else 120)
    console.print(found.table())


def _save(save: Callable[[Path], list[Path]], place: Path) -> list[Path] | None:
    """Writes what was found, before anything else can go wrong; None if that cannot be."""
    from jaxmeta.files import describe_refusal

    try:
        return save(place)
    except OSError as error:
        _complain(describe_refusal(error) or str(error), FAILED)
        return None


def _say_written(written: list[Path] | None, figure: str) -> int:
    """Says where the numbers are, and the figure if there is one; returns the exit code."""
    if written is None:
        return FAILED
    names = ("The numbers:", figure)
    lines = [f"{name} {_shortest(path)}" for name, path in zip(names, written, strict=False)]
    if lines:
        print("\n" + "\n".join(lines))
    return OK


def _shortest(path: Path) -> str:
    """Returns the path as seen from here, if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _new_run_dir(*names: str) -> str:
    """Returns a directory of the present second that does not exist yet."""
    name = "-".join([*names, _now()]).replace(":", "-")  # of module:Class
    candidates = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    return next(str(p) for p in (Path("runs", c) for c in candidates) if not p.exists())


def _now() -> str:
    return f"{datetime.datetime.now():%Y%m%d-%H%M%S}"


def _complain(message: str, code: int) -> int:
    print(f"jaxmeta: {message}", file=sys.stderr)
    return code


_COMMANDS = {
    "train": Command(
        _train, "train ALGORITHM FAMILY [OPTIONS]", "Train, then evaluate on held-out tasks."
    ),
    "sweep": Command(
        _sweep,
        "sweep ALGORITHM FAMILY --over NAME=VALUE,VALUE [OPTIONS]",
        "Train with many numbers at once.",
    ),
    "resume": Command(_resume, "resume RUN_DIR [OPTIONS]", "Continue a run that was stopped."),
    "evaluate": Command(
        _evaluate, "evaluate RUN_DIR [OPTIONS]", "Measure adaptation to held-out tasks."
    ),
    "compare": Command(
        _compare,
        "compare RUN_DIR ... [OPTIONS]",
        "Lay adaptation curves over each other.",
    ),
    "robustness": Command(
        _robustness,
        "robustness RUN_DIR ... [OPTIONS]",
        "Map the return over physical parameters.",
    ),
    "show": Command(_show, "show RUN_DIR [OPTIONS]", "Draw the agent at work, still and moving."),
    "export": Command(
        _export, "export RUN_DIR PATH [OPTIONS]", "Write an agent that JAX alone can run."
    ),
    "list": Command(_list, "list", "List algorithms, task families, splits and references."),
}
