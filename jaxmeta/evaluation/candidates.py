"""Classical algorithms at their best setting: the columns that a learner is put beside.

The setting is chosen on tasks of its own, and the return reported on others, so that it is
no better for having been chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np

from jaxmeta.evaluation.player import play_tasks
from jaxmeta.evaluation.protocols import protocol_for
from jaxmeta.streams import Stream, stream_key
from jaxmeta_envs.core.contracts import Candidates, TaskFamily
from jaxmeta_envs.core.errors import require


class BaselineScore(NamedTuple):
    """How an algorithm did.

    Attributes:
        mean: Return of the whole trial, averaged over tasks.
        standard_error: Of the mean.
        setting: The number chosen; None if there was nothing to choose.
        totals: Return of the whole trial on every task, float64 ``[B]``.
    """

    mean: float
    standard_error: float
    setting: float | None
    totals: np.ndarray


def play_baselines(
    family: TaskFamily,
    episodes: int,
    *,
    only: Iterable[str] | None = None,
    num_tasks: int = 1000,
    num_tuning_tasks: int = 1000,
    split: str = "test",
    seed: int = 0,
) -> dict[str, BaselineScore]:
    """Tunes and plays the family's `candidates`, on the same tasks for all of them.

    With the seed, the split and the number of tasks of a `jaxmeta.evaluate` they are the
    tasks of that evaluation, so that an agent can be compared with them task by task.

    Every algorithm compiles once, however many settings it has.

    Args:
        family: The task family.
        episodes: Episodes of the trial.
        only: Names of the algorithms to play; all by default.
        num_tasks: Tasks to report on.
        num_tuning_tasks: Tasks to choose the setting on, drawn from ``"train"``. Few are
            enough where settings differ much; 100 save time on OPSRL, but with 250 the
            discount of the Gittins index is left to chance.
        split: Where the tasks to report on are from.
        seed: Seed of both kinds of tasks.

    Returns:
        The score of each algorithm, in the order of ``only`` or of the family.

    Raises:
        ConfigError: If an argument is out of range or a name is unknown.
    """
    counts = {"episodes": episodes, "num_tasks": num_tasks, "num_tuning_tasks": num_tuning_tasks}
    for name, value in counts.items():
        require(value >= 1, name, value, "an integer of at least 1")
    family.check_split(split)
    known = family.candidates(episodes)
    names = list(known) if only is None else list(only)
    for name in names:
        require(name in known, "only", name, f"one of {', '.join(known) or 'nothing'}")

    tuning_key, report_key = (stream_key(seed, s) for s in (Stream.TUNING, Stream.EVALUATION))

    def total(candidates: Candidates, key: jax.Array, split: str, tasks: int, g: int) -> np.ndarray:
        returns = play_tasks(
            protocol_for(candidates.policy, family).with_rows(episodes),
            candidates.params,
            key=key,
            num_tasks=tasks,
            split=split,
            # One batch size for tuning and reporting, hence one program.
            batch=min(num_tasks, num_tuning_tasks),
            member=g,
        )
        return returns.sum(axis=1, dtype=np.float64)

    def score(candidates: Candidates) -> BaselineScore:
        settings = candidates.settings
        best = 0
        if len(settings) > 1:
            tuning = [
                total(candidates, tuning_key, "train", num_tuning_tasks, g).mean()
                for g in range(len(settings))
            ]
            best = int(np.argmax(tuning))
        totals = total(candidates, report_key, split, num_tasks, best)
        error = totals.std(ddof=1) / math.sqrt(num_tasks) if num_tasks > 1 else math.nan
        chosen = settings[best] if settings else None
        return BaselineScore(float(totals.mean()), float(error), chosen, totals)

    return {name: score(known[name]) for name in names}
