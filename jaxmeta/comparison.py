"""Comparing trained agents: their adaptation to the same held-out tasks."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxmeta.comparison_report import Comparison, experience_of
from jaxmeta.evaluation import (
    adapts_by_steps,
    check_integer,
    check_playable,
    check_protocol,
    check_seed,
    evaluate,
    evaluation_key,
    own_shots,
    policy_of,
    steps_of_experience,
    trained_rows,
)
from jaxmeta.files import write_or_warn
from jaxmeta.methods import title_of
from jaxmeta.played_references import play_references
from jaxmeta.player import BATCH, play_tasks
from jaxmeta.report import NUM_TASKS, Evaluation, protocol_suffix, read_evaluation
from jaxmeta.runs import as_list, choose_labels, load_runs, picture_place
from jaxmeta_envs.base import Family, TaskFamily
from jaxmeta_envs.errors import ConfigError, require

if TYPE_CHECKING:
    from jaxmeta.training import TrainResult

__all__ = ["Comparison", "compare"]


def compare(
    sources: Sequence[TrainResult | str | Path],
    *,
    labels: Sequence[str] | None = None,
    episodes: int | None = None,
    shots: int | None = None,
    split: str = "test",
    num_tasks: int = NUM_TASKS,
    seed: int = 0,
    deterministic: bool = False,
    references: bool = True,
    out: str | Path | None = None,
    batch: int = BATCH,
) -> Comparison:
    """Lays the adaptation curves of several agents of one task family over each other.

    All agents and the family's references meet the same held-out tasks (and with the same
    number of episodes per step of adaptation, the same luck), so they are compared task by
    task. Curves are over episodes of experience: row k of an agent that adapts to M episodes
    at a time is the return after k M of them. It is the mean of N episodes which begin with
    what those have taught, N being the largest M: the same for all agents and references. On
    supervised tasks, row k is the loss after k gradient steps.

    An evaluation that `jaxmeta.evaluate` has saved in a run's directory is used again, if it
    is of these tasks, of as many rows and N, and of the agent as its newest checkpoint has it;
    otherwise the agent plays. The directories of the runs are left as they are.

    Args:
        sources: At least two results of `jaxmeta.train` or directories of runs, whose
            families are equal.
        labels: Names of the runs; None: those of their directories.
        episodes: Length of the curves: every row before which an agent has had fewer
            episodes than this. None: each agent's as in training.
        shots: What one step of adaptation sees, of all learners that adapt by steps: episodes,
            or examples. None: each as in training.
        split: Where the tasks are from, one of the family's ``splits``.
        num_tasks: Held-out tasks.
        seed: Seed of the tasks and of all that is played on them, as in `jaxmeta.evaluate`.
        deterministic: Whether all agents take the mode of their action's distribution instead
            of a sample, as in `jaxmeta.evaluate`.
        references: Whether the family's references are drawn, too.
        out: The PNG to write, or the directory for ``compare.png``, the numbers beside it, see
            `Comparison.save`; None: nothing.
        batch: Tasks played at a time; bounds the memory.

    Raises:
        ConfigError: If an argument is out of range or the runs do not fit together, before
            anything is compiled.
    """
    several = as_list(sources)
    results = load_runs(several, least=2)
    family = results[0].config.tasks
    names = choose_labels(results, labels)
    _check_families([result.config.tasks for result in results], names)
    check_playable(family, split, num_tasks, 1 if episodes is None else episodes, batch)
    check_seed(seed)
    if shots is not None:
        check_integer("shots", shots, least=1)
        none = not any(adapts_by_steps(result.config.algorithm, family) for result in results)
        require(not none, "shots", shots, "None, as no run takes gradient steps at test time")
    place = None if out is None else picture_place(out, "compare.png")
    points = _check_protocols(results, shots, deterministic)
    family.check_installed()

    played = (split, num_tasks, seed, deterministic, points, batch)
    session = _Session(family, episodes, shots, *played)
    pairs = zip(several, results, strict=True)
    runs = [session.evaluation(r, saved=isinstance(s, str | Path)) for s, r in pairs]
    experience = np.unique(np.concatenate([experience_of(run) for run in runs]))
    found = Comparison(
        runs=dict(zip(names, runs, strict=True)),
        references=session.references(runs, experience) if references else {},
        experience=experience,
        optimal=_longest([run.optimal for run in runs]),
    )
    if place is not None:
        write_or_warn(found.save, place)
    return found


@dataclass(frozen=True)
class _Session:
    """Plays agents and references on the same tasks, or finds that it has been done."""

    family: Family
    episodes: int | None
    shots: int | None
    split: str
    num_tasks: int
    seed: int
    deterministic: bool
    points: int | None  # N, of all; None on supervised tasks
    batch: int

    def evaluation(self, result: Any, saved: bool) -> Evaluation:
        """Returns an agent's evaluation, if ``saved`` that of its directory if it fits."""
        algorithm = result.config.algorithm
        shots = _shots_of(algorithm, self.family, self.shots)
        together = steps_of_experience(algorithm, self.family, shots)
        rows = trained_rows(algorithm, self.family)
        if self.episodes is not None:
            rows = math.ceil(self.episodes / together)
        if saved:
            trained = trained_rows(algorithm, self.family)
            suffix = protocol_suffix(
                self.split,
                rows=None if rows == trained else rows,
                shots=own_shots(algorithm, self.family, shots),
                each=None if self.points in (None, together) else self.points,
                deterministic=self.deterministic,
                tasks=self.num_tasks,
                seed=self.seed,
            )
            found = read_evaluation(result.run_dir, suffix)
            if found is not None and self._is_of(result, found, together, shots, rows):
                return replace(found, agent=title_of(algorithm))  # older files have its class
        return evaluate(
            result,
            episodes=rows,
            shots=shots,
            split=self.split,
            num_tasks=self.num_tasks,
            seed=self.seed,
            deterministic=self.deterministic,
            episodes_per_point=self.points,
            references=False,
            save=False,
            batch=self.batch,
        )

    def _is_of(
        self, result: Any, found: Evaluation, together: int, shots: int | None, rows: int
    ) -> bool:
        seeds = jax.tree.leaves(result.params)[0].shape[0]
        seen = getattr(policy_of(result.config.algorithm, self.family, shots), "shots", None)
        points = 1 if self.points is None else self.points
        wanted = (self.seed, self.deterministic, points, together, seen, result.env_steps)
        return (*wanted, (seeds, self.num_tasks, rows)) == (
            found.seed,
            found.deterministic,
            found.episodes_per_point,
            found.episodes_per_adapt,
            found.shots,
            found.env_steps,
            found.returns.shape,
        )

    def references(
        self, runs: Sequence[Evaluation], experience: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns the references after each amount of experience, ``[B, X]``."""
        for run in runs:
            if run.references and np.array_equal(experience_of(run), experience):
                return run.references
        play = functools.partial(
            play_tasks,
            key=evaluation_key(self.seed),
            num_tasks=self.num_tasks,
            split=self.split,
            batch=self.batch,
        )
        points = 1 if self.points is None else self.points
        return play_references(play, self.family, experience, points, self.split)


def _shots_of(algorithm: Any, family: Family, shots: int | None) -> int | None:
    return shots if adapts_by_steps(algorithm, family) else None


def _check_protocols(results: Sequence[Any], shots: int | None, deterministic: bool) -> int | None:
    """Returns N, the episodes of which a point of every curve is the mean; None on losses.

    Raises:
        ConfigError: If an agent cannot be measured in this way.
    """
    pairs = [(result.config.algorithm, result.config.tasks) for result in results]
    policies = [policy_of(a, family, _shots_of(a, family, shots)) for a, family in pairs]
    acts = isinstance(pairs[0][1], TaskFamily)
    points = max(policy.episodes_per_adapt for policy in policies) if acts else None
    for (algorithm, family), policy in zip(pairs, policies, strict=True):
        check_protocol(algorithm, family, policy, deterministic, points)
    return points


def _check_families(families: Sequence[Family], names: Sequence[str]) -> None:
    """Raises `ConfigError`, which names what differs, unless all families are equal."""
    first = families[0]
    for family, name in zip(families, names, strict=True):
        if family != first:
            raise ConfigError(
                f"the runs {names[0]} and {name} have different tasks: "
                f"{_difference(first, family)}; train both on the same ones"
            )


def _difference(one: Family, other: Family) -> str:
    if type(one) is type(other) and is_dataclass(one):
        pairs = {f.name: (getattr(one, f.name), getattr(other, f.name)) for f in fields(one)}
        differing = [f"{n} is {a!r} and {b!r}" for n, (a, b) in pairs.items() if a != b]
        if differing:
            return ", ".join(differing)
    return f"{type(one).__name__} and {type(other).__name__}"


def _longest(curves: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [curve for curve in curves if curve is not None]
    return max(known, key=len) if known else None
