"""Command-line options: dataclasses, whose fields and docstrings are what a user sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from jaxmeta.analysis.robustness.worst_case import CrossEntropy
from jaxmeta.cli.import_option import NO_CLASSES, Own
from jaxmeta.config import TrainConfig
from jaxmeta.evaluation.result import NUM_TASKS
from jaxmeta_envs.core.errors import ConfigError, require

RunDir = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
RunDirs = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR ...")]


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
        out: The figure to write, or the directory for compare.png.
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
        out: The figure to write, or the directory for it; None takes the directory of the run, and
            for several runs, none of which it belongs to, the current one. In a directory it is
            robustness.png, or with --parameters mass robustness-mass.png.
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
        out: The still picture to write, the moving one beside it, or the directory for show.png
            and show.gif; None takes the run's.
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
