"""What a training run is: one frozen dataclass, checked when it is made."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from jaxmeta.algorithms.rl2 import RL2
from jaxmeta.contracts import AdaptsToTarget, Algorithm
from jaxmeta.sim_to_real.targets import check_target
from jaxmeta_envs.bandits.independent import BernoulliBandit
from jaxmeta_envs.core.contracts import Family, as_task_family
from jaxmeta_envs.core.errors import ConfigError, require
from jaxmeta_envs.core.fields import LARGE, check_all_fields

MatmulPrecision = Literal["default", "float32", "bfloat16"]


def check_config(config: Any) -> None:
    """Raises `ConfigError` unless ``config`` is a `TrainConfig`."""
    require(isinstance(config, TrainConfig), "config", config, "a TrainConfig")


class Plan(NamedTuple):
    """The exact counts of a run, per seed, as Python integers.

    Attributes:
        env_steps_per_update: Environment steps of one update.
        updates_per_chunk: Updates of one compiled dispatch.
        chunks: Dispatches.
        updates: ``chunks * updates_per_chunk``.
        env_steps: ``updates * env_steps_per_update``.
    """

    env_steps_per_update: int
    updates_per_chunk: int
    chunks: int
    updates: int
    env_steps: int


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        algorithm: The meta-learning algorithm and its hyperparameters.
        tasks: The family of tasks.
        seed: Seed of the first run; run i uses ``seed + i``.
        num_seeds: Independent runs, trained together as a vmapped axis.
        total_env_steps: Environment steps of each run, rounded up to whole chunks; on
            supervised tasks, examples seen.
        updates_per_chunk: Meta-iterations compiled into one dispatch; between dispatches
            the host logs, evaluates and saves.
        eval_every: Evaluate on held-out tasks every so many chunks; 0 only at the end.
        eval_tasks: Held-out tasks of those evaluations.
        checkpoint_every: Save the whole state every so many chunks (and always at the end);
            0 saves only at the end.
        keep_checkpoints: How many of the newest checkpoints stay on disk.
        run_dir: Where everything is written; None writes nothing.
        target: The system that the algorithm adapts its simulators to, between chunks: a
            split of the tasks (a hidden draw from it), ``task:NAME=VALUE,...`` (a task), or
            ``gymnasium:ENVIRONMENT`` (a Gymnasium environment, on the host); None for none.
        devices: Devices that share the tasks; None takes as many local ones as fit.
        check: Whether `train` and `sweep` look at a family that is not of this library before they
            compile; see `jaxmeta.testing.check_before_training`.
        matmul_precision: How matrix products of training round their factors; they add up
            in float32 always. ``"default"`` is the device's own (bfloat16 on a TPU, TF32 on a
            GPU, float32 on a CPU), ``"float32"`` the most exact, ``"bfloat16"`` the fastest; a CPU
            computes in float32 whatever is asked. Least squares keep float32.
    """

    algorithm: Algorithm = field(default_factory=RL2)
    tasks: Family = field(default_factory=BernoulliBandit)
    seed: int = field(default=0, metadata=LARGE)
    num_seeds: int = 1
    total_env_steps: int = field(default=5_000_000, metadata=LARGE)
    updates_per_chunk: int = 10
    eval_every: int = 0
    eval_tasks: int = 1000
    checkpoint_every: int = 10
    keep_checkpoints: int = 3
    run_dir: str | None = None
    target: str | None = None
    devices: int | None = None
    check: bool = True
    matmul_precision: MatmulPrecision = "default"

    def __post_init__(self) -> None:
        if isinstance(self.run_dir, os.PathLike):
            object.__setattr__(self, "run_dir", os.fspath(self.run_dir))
        check_all_fields(self)
        require(self.run_dir != "", "run_dir", self.run_dir, "a directory, or None")
        require(isinstance(self.algorithm, Algorithm), "algorithm", self.algorithm, "an Algorithm")
        require(isinstance(self.tasks, Family), "tasks", self.tasks, "a family of tasks")
        self.tasks.check_score()
        for name, least in (
            ("seed", 0),
            ("num_seeds", 1),
            ("total_env_steps", 1),
            ("updates_per_chunk", 1),
            ("eval_every", 0),
            ("eval_tasks", 1),
            ("checkpoint_every", 0),
            ("keep_checkpoints", 1),
        ):
            require(getattr(self, name) >= least, name, getattr(self, name), f"at least {least}")
        require(self.seed + self.num_seeds <= 2**32, "seed", self.seed, "below 2**32 - num_seeds")
        require(self.devices is None or self.devices >= 1, "devices", self.devices, "at least 1")
        precisions = get_args(MatmulPrecision)
        require(
            self.matmul_precision in precisions,
            "matmul_precision",
            self.matmul_precision,
            f"of {', '.join(precisions)}",
        )
        self.algorithm.check(self.tasks)
        if self.target is not None:
            self._check_target(self.target)

    def _check_target(self, target: str) -> None:
        algorithm = self.algorithm
        if not isinstance(algorithm, AdaptsToTarget):
            name = type(algorithm).__name__
            raise ConfigError(f"target must be None: {name} cannot adapt to one")
        algorithm.check_target(self.tasks)
        check_target(target, as_task_family(self.tasks, "tasks"))
        every = algorithm.round_updates
        require(
            every % self.updates_per_chunk == 0,
            "updates_per_chunk",
            self.updates_per_chunk,
            f"a divisor of round_updates={every}, as a target is met between chunks",
        )

    def plan(self) -> Plan:
        """Returns the exact counts of the run."""
        steps = self.algorithm.env_steps_per_update(self.tasks)
        chunks = math.ceil(self.total_env_steps / (steps * self.updates_per_chunk))
        updates = chunks * self.updates_per_chunk
        return Plan(steps, self.updates_per_chunk, chunks, updates, updates * steps)

    def length_note(self) -> str | None:
        """Returns what is to be said if whole chunks make the run a tenth longer than asked."""
        plan = self.plan()
        if plan.env_steps <= 1.1 * self.total_env_steps:
            return None
        size, closer = f"{plan.updates_per_chunk} updates", " (fewer updates_per_chunk come closer)"
        if plan.updates_per_chunk == 1:
            size, closer = f"an update of {plan.env_steps_per_update:,} steps", ""
        return (
            f"total_env_steps is {self.total_env_steps:,}; chunks are whole, of {size}, so it "
            f"trains {plan.env_steps:,}{closer}"
        )
