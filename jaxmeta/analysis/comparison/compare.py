"""Comparing trained agents: their adaptation to the same held-out tasks."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.analysis.comparison.result import Comparison, experience_of
from jaxmeta.evaluation.evaluate import check_playable, evaluation_key, measure, unplayed
from jaxmeta.evaluation.player import BATCH, play_tasks
from jaxmeta.evaluation.protocol import Protocol
from jaxmeta.evaluation.protocols import protocol_of
from jaxmeta.evaluation.references import play_references
from jaxmeta.evaluation.result import NUM_TASKS, Evaluation, read_evaluation
from jaxmeta.runs.choose import agent_name, as_list, choose_labels, load_runs, picture_place
from jaxmeta.runtime.arguments import check_integer, check_seed
from jaxmeta.runtime.files import write_or_warn
from jaxmeta_envs.core.contracts import Family
from jaxmeta_envs.core.errors import ConfigError, require

if TYPE_CHECKING:
    from jaxmeta.runs.result import TrainResult

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
    place = None if out is None else picture_place(out, "compare.png")
    protocols = _protocols(results, episodes, shots, deterministic)
    family.check_installed()

    session = _Session(split, num_tasks, seed, batch)
    given = zip(several, results, protocols, strict=True)
    runs = [session.evaluation(r, p, saved=isinstance(s, str | Path)) for s, r, p in given]
    experience = np.unique(np.concatenate([experience_of(run) for run in runs]))
    common = replace(protocols[0], experience=tuple(experience.tolist()))
    found = Comparison(
        runs=dict(zip(names, runs, strict=True)),
        references=session.references(runs, common) if references else {},
        experience=experience,
        optimal=_longest([run.optimal for run in runs]),
    )
    if place is not None:
        write_or_warn(found.save, place)
    return found


@dataclass(frozen=True)
class _Session:
    """Plays agents and references on the same tasks, or finds that it has been done."""

    split: str
    num_tasks: int
    seed: int
    batch: int

    def evaluation(self, result: Any, protocol: Protocol, saved: bool) -> Evaluation:
        """Returns an agent's evaluation, if ``saved`` that of its directory if it fits."""
        tasks: dict[str, Any] = {"split": self.split, "num_tasks": self.num_tasks}
        tasks["seed"] = self.seed
        if saved:
            wanted = unplayed(result, protocol, **tasks)
            found = read_evaluation(result.run_dir, wanted.suffix)
            if found is not None and found.measures_as(wanted):
                return replace(found, agent=wanted.agent)  # older files have its class
        return measure(result, protocol, references=False, batch=self.batch, **tasks)

    def references(self, runs: Sequence[Evaluation], protocol: Protocol) -> dict[str, np.ndarray]:
        """Returns the references at every point of the protocol, ``[B, X]``."""
        for run in runs:
            if run.references and np.array_equal(experience_of(run), protocol.experience):
                return run.references
        play = functools.partial(
            play_tasks,
            key=evaluation_key(self.seed),
            num_tasks=self.num_tasks,
            split=self.split,
            batch=self.batch,
        )
        return play_references(play, protocol, self.split)


def _protocols(
    results: Sequence[Any], episodes: int | None, shots: int | None, deterministic: bool
) -> list[Protocol]:
    """Returns how every agent is measured: all points are means of as many episodes.

    Raises:
        ConfigError: If an agent cannot be measured in this way.
    """
    agents = [result.config.algorithm for result in results]
    trained = [protocol_of(result.config.algorithm, result.config.tasks) for result in results]
    if shots is not None:
        check_integer("shots", shots, least=1)
        possible = any(protocol.adapts_by_steps for protocol in trained)
        require(possible, "shots", shots, "None, as no run takes gradient steps at test time")
    asked = []
    for algorithm, protocol in zip(agents, trained, strict=True):
        seen = shots if protocol.adapts_by_steps else None
        options: dict[str, Any] = {"shots": seen, "deterministic": deterministic}
        asked.append(protocol.asked(agent_name(algorithm), **options))
    number = max(protocol.together for protocol in asked)
    return [
        replace(protocol, episodes=number).with_rows(
            len(own.experience) if episodes is None else math.ceil(episodes / protocol.together)
        )
        for own, protocol in zip(trained, asked, strict=True)
    ]


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
