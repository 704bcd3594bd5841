"""Command-line options, generated from the fields and docstrings of dataclasses.

A hyperparameter that is a constant or a `Schedule` takes one argument, see
`parse_schedule`.
"""

from __future__ import annotations

import contextlib
import io
import re
import types
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from jaxmeta.config import TrainConfig
from jaxmeta.import_option import NO_CLASSES, Own
from jaxmeta.report import NUM_TASKS
from jaxmeta.schedules import Schedule
from jaxmeta.worst_case import CrossEntropy
from jaxmeta_envs.errors import ConfigError, closest, require

Options = TypeVar("Options")
RunDir = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
RunDirs = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR ...")]

_SCHEDULE = re.compile(
    r"(?P<initial>[^:]+):(?P<final>[^:]+)(:(?P<updates>\d+))?(:(?P<shape>[a-z]+))?"
)
_SCHEDULE_METAVAR = "INITIAL:FINAL[:UPDATES][:SHAPE]"


@dataclass(frozen=True)
class ListOptions:
    """Lists algorithms, task families, their splits and references.

    Attributes:
        own: Classes that are not of this library.
    """

    own: Own = NO_CLASSES


@dataclass(frozen=True)
class HostOptions:
    """Several processes, on one machine or on many, that train one run together.

    Attributes:
        distributed: Start the same command once per process with this option. Under SLURM and
            on TPU pods the processes find each other; elsewhere give the next three options.
        coordinator: HOST:PORT of the process that is number 0.
        processes: How many processes there are.
        process_id: Number of this process, from 0.
    """

    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None


@dataclass(frozen=True)
class TrainOptions:
    """What ``jaxmeta train ALGORITHM FAMILY`` accepts.

    Attributes:
        config: The training run.
        dry_run: Print the configuration, exact counts and a memory estimate, and stop:
            nothing is compiled or written.
        evaluate: Evaluate on held-out tasks, beside the references, when training is done.
        hosts: Several processes that train together.
        own: Classes that are not of this library.
    """

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    dry_run: bool = False
    evaluate: bool = True
    hosts: Annotated[HostOptions, tyro.conf.arg(name="")] = HostOptions()
    own: Own = NO_CLASSES


@dataclass(frozen=True)
class ResumeOptions:
    """Continues a run from its newest checkpoint, then evaluates it.

    Attributes:
        run_dir: Directory of the run.
        total_env_steps: Environment steps of each seed, counted from the start of the run;
            None takes what the run was started with.
        evaluate: Evaluate on held-out tasks, beside the references, when training is done. A run
            that was started with ``--no-evaluate`` is not, unless ``--evaluate`` is written.
        hosts: Several processes that train together.
        own: Classes that are not of this library.
    """

    run_dir: RunDir
    total_env_steps: int | None = None
    evaluate: bool = True
    hosts: Annotated[HostOptions, tyro.conf.arg(name="")] = HostOptions()
    own: Own = NO_CLASSES


@dataclass(frozen=True)
class SweepOptions:
    """What ``jaxmeta sweep ALGORITHM FAMILY`` accepts.

    Attributes:
        config: The training run that is varied.
        over: What is varied: --over learning_rate=3e-4,1e-3,3e-3 optimizer.clip=0.1,0.2. The
            names are those of the options, without "algorithm."; of a schedule
            learning_rate.initial. Every combination is trained.
        memory_gib: Memory that may be used on each device, in GiB; None takes half of what is
            free. What does not fit at once is trained in waves.
        own: Classes that are not of this library.
    """

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    over: tuple[str, ...]
    memory_gib: float | None = None
    own: Own = NO_CLASSES

    def axes(self) -> dict[str, list[float]]:
        """Returns the values of every name.

        Raises:
            ConfigError: If something cannot be read.
        """
        text = "like learning_rate=3e-4,1e-3, each name once"
        require(bool(self.over), "over", self.over, text)
        axes: dict[str, list[float]] = {}
        for given in self.over:
            name, equals, values = given.partition("=")
            require(bool(equals and name) and name not in axes, "over", given, text)
            try:
                axes[name] = [float(value) for value in values.split(",")]
            except ValueError:
                raise ConfigError(f"over is {given!r}; it must be {text}") from None
        return axes


@dataclass(frozen=True)
class EvaluateOptions:
    """Measures how a trained agent adapts to held-out tasks, beside its references.

    Attributes:
        run_dir: Directory of the run.
        episodes: Episodes of adaptation (for an agent that adapts to several at a time,
            steps of adaptation); None takes as many as in training. More are allowed. On
            supervised tasks, rows of the curve: gradient steps and one.
        shots: What one step of adaptation sees, episodes or examples, for learners that adapt
            by steps; None takes as many as in training.
        split: Where the tasks are from: test, or a shift of the family as listed by
            "jaxmeta list".
        num_tasks: Held-out tasks.
        seed: Seed of the tasks and of all that is played on them.
        deterministic: Take the mode of the agent's action distribution instead of a sample.
            Episodes that an agent learns from as a whole it goes on sampling.
        references: Let the family's reference policies play too.
        save: Write the evaluation into the run's directory.
        own: Classes that are not of this library.
    """

    run_dir: RunDir
    episodes: int | None = None
    shots: int | None = None
    split: str = "test"
    num_tasks: int = NUM_TASKS
    seed: int = 0
    deterministic: bool = False
    references: bool = True
    save: bool = True
    own: Own = NO_CLASSES


@dataclass(frozen=True)
class CompareOptions:
    """Lays the adaptation curves of several agents of one task family over each other.

    The curves are over episodes of experience in a task, with 95 % intervals, beside the
    family's references and its optimum where that is known. The tables have, for every
    agent, the mean return, the interquartile mean (IQM) and the mean of the worst tenth (CVaR)
    at the start, at the end of training's trials and at the end of the curve; and for every
    two agents X and Y by how much X is better, and the probability P(X > Y) that a seed of X
    beats one of Y on a task, after the most experience that all curves have.

    An evaluation saved by "jaxmeta evaluate" is used again if it is of the same tasks, episodes
    and checkpoint; otherwise the agent plays. The directories of the runs are not changed.

    Attributes:
        run_dirs: Directories of the runs, at least two; their task families must be equal.
        labels: Names of the runs, in their order; by default those of the directories.
        episodes: Length of the curves: agents are measured as long as they have had fewer
            episodes than this in the task; None takes for each as many as in training.
        shots: What one step of adaptation sees, episodes or examples, of all learners that adapt
            by gradient steps; None takes for each as many as in training.
        split: Where the tasks are from: test, or a shift of the family as listed by
            "jaxmeta list".
        num_tasks: Held-out tasks, the same for all.
        seed: Seed of the tasks and of all that is played on them.
        deterministic: Take the mode of the agents' action distributions instead of a sample.
            Episodes that an agent learns from as a whole it goes on sampling.
        references: Draw the family's reference policies, too.
        save: Write the figure, and the numbers beside it as .json and .npz; older ones of the
            same name are replaced.
        out: The figure to write.
        own: Classes that are not of this library.
    """

    run_dirs: RunDirs
    labels: tuple[str, ...] = ()
    episodes: int | None = None
    shots: int | None = None
    split: str = "test"
    num_tasks: int = NUM_TASKS
    seed: int = 0
    deterministic: bool = False
    references: bool = True
    save: bool = True
    out: str = "compare.png"
    own: Own = NO_CLASSES


@dataclass(frozen=True)
class RobustnessOptions:
    """Maps the return over one or two physical parameters, and searches for the worst case.

    Parameters that are not swept are those of the family's nominal task. Of an agent that
    adapts, the return is that of the last episode of a trial; all training seeds play.
    Several runs of one family are drawn together.

    Attributes:
        run_dirs: Directories of the runs.
        parameters: One or two physical parameters; by default the family's first two.
        ranges: Name, lowest and highest value of each parameter whose range is not to be
            that of the family's limits: --ranges pole_mass 0.05 0.3 half_length 0.2 1.5.
        fixed: Name and value of parameters that are not to be nominal: --fixed gravity 3.7.
        points: Grid points per parameter.
        trials: Trials on each simulator of the grid per training seed; None takes 50 for
            one parameter and 10 for two.
        episodes: Episodes of adaptation (for an agent that adapts to several at a time,
            steps of adaptation); None takes as many as in training. The last one counts.
        deterministic: Take the mode of the agents' action distributions instead of a sample.
        worst_case: Search for the most adverse simulator, too.
        search: How to search for it: by default for the swept parameters within the map; with
            --search.within limits also for the others, up to the family's limits.
        labels: Names of the runs, in their order; by default those of the directories.
        seed: Seed of all that is played.
        save: Write the figure, and the numbers beside it as .json and .npz; older ones of the
            same name are replaced.
        out: The figure to write; None takes robustness.png, or with --parameters mass
            robustness-mass.png, in the directory of the run, and for several runs, none of which
            it belongs to, in the current directory.
        own: Classes that are not of this library.
    """

    run_dirs: RunDirs
    parameters: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    fixed: dict[str, float] = field(default_factory=dict)
    points: int = 21
    trials: int | None = None
    episodes: int | None = None
    deterministic: bool = False
    worst_case: bool = True
    search: CrossEntropy = field(default_factory=CrossEntropy)
    labels: tuple[str, ...] = ()
    seed: int = 0
    save: bool = True
    out: str | None = None
    own: Own = NO_CLASSES


@dataclass(frozen=True)
class ShowOptions:
    """Draws how a trained agent adapts to held-out tasks: show.png, and moving show.gif.

    Paths on grids and in the plane, pulls over what could be believed of the arms, bodies,
    functions with their examples; reward where a family has no drawing.

    Attributes:
        run_dir: Directory of the run.
        episodes: Episodes of a trial, or one and the gradient steps; None takes as many as in
            training.
        split: Where the tasks are from.
        num_tasks: Tasks, at most 8.
        seed: Seed of tasks and luck.
        seed_index: Which training seed's agent acts, counted from 0.
        out: Directory of the pictures; None takes the run's.
        own: Classes that are not of this library.
    """

    run_dir: RunDir
    episodes: int | None = None
    split: str = "test"
    num_tasks: int = 3
    seed: int = 0
    seed_index: int = 0
    out: str | None = None
    own: Own = NO_CLASSES


@dataclass(frozen=True)
class ExportOptions:
    """Writes a trained agent to a directory from which JAX alone can run it.

    The directory has one compiled program for each thing the agent does (begin, act and adapt;
    predict for supervised tasks), its parameters, a description, and load.py, which loads
    them: neither jaxmeta nor flax is needed there.

    Attributes:
        run_dir: Directory of the run.
        path: The directory to write; it must not exist yet, or be empty.
        seed_index: The training seed whose parameters are written, counted from 0.
        platforms: Where the agent is to run: some of cpu, cuda, rocm and tpu.
        own: Classes that are not of this library.
    """

    run_dir: RunDir
    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    seed_index: int = 0
    platforms: tuple[str, ...] = ("cpu", "cuda", "tpu")
    own: Own = NO_CLASSES


def parse_options(
    kind: type[Options],
    arguments: Sequence[str],
    *,
    command: str,
    description: str | None = None,
    default: Options | None = None,
) -> Options:
    """Builds a dataclass from command-line arguments.

    Args:
        kind: The dataclass.
        arguments: What follows the command.
        command: What the user typed to get here, for the messages.
        description: Text above the options; None takes the docstring of ``kind``.
        default: Values of the options that are not given; its parts also decide which
            concrete classes the options are those of.

    Raises:
        ConfigError: If a value is out of range, or an argument is unknown, missing or cannot be
            read.
        SystemExit: If help was asked for.
    """
    messages, unread = io.StringIO(), []
    try:
        with _registry(unread), contextlib.redirect_stderr(messages), warnings.catch_warnings():
            # tyro warns of a default that is none of the choices, such as a part of a user's own.
            warnings.filterwarnings("ignore", ".*does not match any type in Union")
            return tyro.cli(
                kind,
                args=list(arguments),
                prog=command,
                description=description,
                default=tyro.MISSING_NONPROP if default is None else default,
                config=(
                    # Options may follow the choice of an alternative in any order.
                    tyro.conf.CascadeSubcommandArgs,
                    # Comments in the source are for its readers.
                    tyro.conf.HelptextFromCommentsOff,
                ),
            )
    except SystemExit as stop:
        # tyro frames what validation says; here every bad value gets the same sentence.
        if (error := _config_error_behind(stop)) is not None:
            raise error from None
        _check_parts(arguments, messages.getvalue())
        _check_numbers(unread, messages.getvalue())
        _check_options(arguments, messages.getvalue(), command)
        if stop.code in (0, None):
            raise
        said = _first_paragraph(messages.getvalue())
        raise ConfigError(f"{said}; {command} --help lists what can be given") from None


def _check_parts(arguments: Sequence[str], complaint: str) -> None:
    """Raises `ConfigError` if tyro complained of a part such as ``algorithm.memory:lstmm``."""
    known = re.findall(r"(?<=[\s,])[a-z][\w.-]*:[a-z][\w-]*", complaint.partition("subcommands")[2])
    for word in arguments:
        if re.fullmatch(r"[a-z][\w.-]*:\S*", word) and known and word not in known:
            where = [name for name in known if name.partition(":")[0] == word.partition(":")[0]]
            raise ConfigError(
                f"part is {word!r}; it must be one of {', '.join(where or known)}"
                f"{closest(word, known)}"
            )


def _check_options(arguments: Sequence[str], complaint: str, command: str) -> None:
    """Raises `ConfigError` if tyro complained of an option that is not there."""
    named, _, near = complaint.partition("Perhaps you meant")
    unknown = [word for word in arguments if word.startswith("-") and word in named]
    if "Unrecognized options" in named and unknown:
        option = unknown[0].partition("=")[0]
        known = re.findall(r"(?<=\s)--[\w.-]*\w", near.replace(f"{command} --help", ""))
        raise ConfigError(
            f"{option} is no option of {command}{closest(option, known)}; --help lists them"
        )


def _first_paragraph(complaint: str) -> str:
    """Returns what tyro says in its box, above the first line across it."""
    lines = [line.strip("│ ") for line in complaint.splitlines()[1:-1]]
    rules = (i for i, line in enumerate(lines) if set(line) == {"─"})
    return " ".join(lines[: next(rules, None)]).strip(" .")


def _config_error_behind(error: BaseException | None) -> ConfigError | None:
    while error is not None and not isinstance(error, ConfigError):
        error = error.__cause__ or error.__context__
    return error


def _check_numbers(unread: Sequence[tuple[str, str]], complaint: str) -> None:
    """Raises `ConfigError` if tyro complained of one of the words that could not be read."""
    where = re.search(r"Error parsing\W+(--[\w.-]*\w)", complaint)
    if where is not None and unread:
        (word, allowed), none = unread[-1], ", or None" if "NoneType" in complaint else ""
        require(False, where[1], word, allowed + none)


def _registry(unread: list[tuple[str, str]]) -> ConstructorRegistry:
    """Returns how numbers are read; of those that are none come the word and what is allowed."""

    def reading(read: Callable[[str], Any], allowed: str) -> Callable[[list[str]], Any]:
        def parse(words: list[str]) -> Any:
            try:
                return read(words[0])
            except (ValueError, OverflowError):
                unread.append((words[0], allowed))
                raise ValueError(f"{words[0]!r} is not {allowed}") from None

        return parse

    def number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if info.type not in (int, float):
            return None
        whole = info.type is int
        kinds = int if whole else int | float
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT" if whole else "FLOAT",
            instance_from_str=(
                reading(_whole_number, "a whole number") if whole else reading(float, "a number")
            ),
            is_instance=lambda value: isinstance(value, kinds) and not isinstance(value, bool),
            str_from_instance=lambda value: [str(value)],
        )

    def constant_or_schedule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        """Reads ``float | Schedule`` from one argument, whichever of them is the default."""
        is_union = get_origin(info.type) in (Union, types.UnionType)
        if not is_union or set(get_args(info.type)) != {float, Schedule}:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=f"FLOAT|{_SCHEDULE_METAVAR}",
            instance_from_str=reading(parse_schedule, f"a number, or {_SCHEDULE_METAVAR}"),
            is_instance=lambda value: isinstance(value, int | float | Schedule),
            str_from_instance=lambda value: [format_schedule(value)],
        )

    registry = ConstructorRegistry()
    registry.primitive_rule(number)
    registry.primitive_rule(constant_or_schedule)
    return registry


def _whole_number(word: str) -> int:
    """Reads an integer, also as ``5e6`` or ``5_000_000``: counts of steps are long."""
    with contextlib.suppress(ValueError):
        return int(word)
    if (value := float(word)).is_integer():
        return int(value)
    raise ValueError(f"{word!r} is not a whole number")


def parse_schedule(text: str) -> float | Schedule:
    """Reads a number or ``INITIAL:FINAL[:UPDATES][:SHAPE]``.

    ``0.001:0`` falls linearly over the whole run, ``0.001:0:500`` over 500 updates,
    ``0.001:0:cosine`` and ``0.001:0:500:cosine`` along a cosine; ``1:0.1:100:step`` changes at
    once after 100 updates.

    Raises:
        ValueError: If ``text`` is neither.
    """
    match = _SCHEDULE.fullmatch(text)
    try:
        if match is None:
            return float(text)
        initial, final = float(match["initial"]), float(match["final"])
    except ValueError:
        raise ValueError(f"{text!r} is neither a number nor {_SCHEDULE_METAVAR}") from None
    updates = None if match["updates"] is None else int(match["updates"])
    shape: Any = match["shape"] or "linear"  # the schedule itself refuses other words
    return Schedule(initial, final, updates, shape)


def format_schedule(value: float | Schedule) -> str:
    """Writes what `parse_schedule` reads."""
    if not isinstance(value, Schedule):
        return str(value)
    text = f"{value.initial}:{value.final}"
    text = text if value.num_updates is None else f"{text}:{value.num_updates}"
    return text if value.shape == "linear" else f"{text}:{value.shape}"
