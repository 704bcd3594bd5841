"""What a run has come to: in memory, or read from its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmeta import engine, parallel, placement
from jaxmeta.config import TrainConfig
from jaxmeta.runs.directory import absolute, read_checkpoints, read_history, read_record
from jaxmeta.runs.logs import History
from jaxmeta.runtime import hosts
from jaxmeta_envs.core.contracts import AdaptivePolicy
from jaxmeta_envs.core.errors import ConfigError


class TrainResult(NamedTuple):
    """A trained agent and how it came about.

    Attributes:
        config: The run.
        state: The algorithm's state; every leaf starts with the seeds axis S. What only going on
            needs, such as a replay buffer, is None here (`jaxmeta.placement.Placement`).
        metrics: What each update measured, ``[updates, S]``.
        evaluations: What evaluations on held-out tasks measured, ``[evaluations, S]``, and
            ``"update"`` ``[evaluations]``, the updates done at each.
        adaptations: What meetings with the run's target brought, ``[meetings, S]``, and
            ``"update"``, likewise; empty without one.
        env_steps: Environment steps done, per seed.
        run_dir: Where the run is written, or None. Of several processes only the first one
            has it, and what was measured before a run was resumed.
    """

    config: TrainConfig
    state: Any
    metrics: dict[str, np.ndarray]
    evaluations: dict[str, np.ndarray]
    adaptations: dict[str, np.ndarray]
    env_steps: int
    run_dir: Path | None

    @property
    def params(self) -> Any:
        """What the policy reads; every leaf starts with the seeds axis S."""
        return self.state.params

    @property
    def policy(self) -> AdaptivePolicy:
        """How the agent acts and adapts, given the parameters of one seed."""
        return self.config.algorithm.policy(self.config.tasks)


def load(run_dir: str | Path) -> TrainResult:
    """Reads a run as it was at its newest checkpoint, without changing anything.

    Raises:
        ConfigError: If the directory holds no run, or no checkpoint yet.
        CheckpointError: If there are checkpoints and none can be read.
    """
    parallel.request_cpu_devices()
    record, path = read_record(run_dir), absolute(run_dir)
    with read_checkpoints(path) as checkpoints:
        target = engine.state_target(record.config, parallel.first_device())
        kept, _ = placement.split(engine.state_placement(record.config), target)
        restored = checkpoints.restore(kept)
    if restored is None:
        raise ConfigError(f"{path} has no checkpoint yet")
    history = read_history(path, restored.update, record.config.num_seeds)
    return make_result(record.config, restored.state, restored.update, history, path)


def make_result(
    config: TrainConfig, state: Any, update: int, history: History, path: Path | None
) -> TrainResult:
    """Returns what is known of a run after ``update`` updates, its state on one device."""
    env_steps = update * config.plan().env_steps_per_update
    kept, _ = placement.split(engine.state_placement(config), state)
    # On one device, so that a user can mix it with arrays of their own.
    return TrainResult(config, hosts.own_copy(kept), *history, env_steps, path)
