"""What a row of the page is: an experiment, its file, what it is compared with and what differs."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxmeta import TrainConfig
from results_page import intervals, stored
from results_page.intervals import Estimate

RESULTS = Path(__file__).parents[2] / "results"
ARROWS = {True: "↑", False: "↓"}
METHODS = {
    "rl2": "RL²",
    "epopt": "EPOpt",
    "maml": "MAML and its kin, regression",
    "policies": "MAML and its kin, policies",
    "gmps": "Guided meta-policy search",
    "sac": "Soft actor-critic",
}
"""Sections of the page."""


class Reading(NamedTuple):
    """What a file says.

    Attributes:
        ours: The score.
        seeds: Of training.
        others: Policies that it is to be seen beside, by what they are called; exact values have an
            interval without width.
        paired: Whether all of them played the same tasks.
    """

    ours: Estimate
    seeds: int
    others: Mapping[str, Estimate]
    paired: bool = True


class Published(NamedTuple):
    """A published figure: its value, the decimals it has, and whose it is."""

    value: float
    digits: int
    whose: str = "the paper's"


@dataclass(frozen=True)
class Protocol:
    """How the published figure was made, as far as that is known.

    Attributes:
        settings: Dotted path of a setting to what it is called and what the paper has there; our
            value is read from the file.
        notes: What no setting says.
    """

    settings: Mapping[str, tuple[str, Any]]
    notes: tuple[str, ...] = ()

    def differences(self, kept: dict) -> tuple[str, ...]:
        """Returns what differs between the settings of a file and those of the paper."""
        found = []
        for path, (label, theirs) in self.settings.items():
            ours = stored.brief(stored.look_up(kept, path))
            if ours != stored.brief(theirs):
                found.append(f"{label} {ours} (paper: {stored.brief(theirs)})")
        return (*found, *self.notes)


@dataclass(frozen=True)
class Experiment:
    """A row of the page.

    Attributes:
        method: A key of `METHODS`.
        name: What it is called.
        file: Under ``results/``, without its ending.
        command: What writes the file, after ``python scripts/reproduce/``.
        read: Reads the file.
        config: Returns what the command would train now.
        score: What is measured.
        higher_is_better: Of the score.
        digits: Decimals that are shown.
        published: The figure to compare with.
        protocol: How that was made.
        not_comparable: Why the two figures cannot be compared, if they cannot.
        preset: Names of the preset that it is of.
    """

    method: str
    name: str
    file: str
    command: str
    read: Callable[[dict], Reading]
    config: Callable[[], TrainConfig]
    score: str = "return of a trial"
    higher_is_better: bool = True
    digits: int = 1
    published: Published | None = None
    protocol: Protocol | None = None
    not_comparable: str = ""
    preset: tuple[str, str] | None = None

    @functools.cached_property
    def cell(self) -> dict | None:
        """What the file holds; None if the experiment was not run."""
        path = RESULTS / f"{self.file}.json"
        return json.loads(path.read_text()) if path.exists() else None

    @functools.cached_property
    def reading(self) -> Reading | None:
        """What the file says; None if the experiment was not run."""
        return None if self.cell is None else self.read(self.cell)

    @property
    def stale(self) -> list[str]:
        """In what the file's settings differ from those that the command has today."""
        return [] if self.cell is None else stored.changes(self.cell, self.config())

    @property
    def differs(self) -> tuple[str, ...]:
        """In what it differs from what was published; of the file, or where none is, of today."""
        if self.protocol is None:
            return (self.not_comparable,) if self.not_comparable else ()
        if self.cell is None:
            kept = stored.settings_of(self.config())
        else:
            kept = stored.settings(self.cell)
        why = (self.not_comparable,) if self.not_comparable else ()
        return (*why, *self.protocol.differences(kept))

    @property
    def verdict(self) -> str:
        """Match, below, above, not comparable or not run; a dash where nothing is published."""
        if self.reading is None:
            return "not run"
        if self.not_comparable:
            return "not comparable"
        if self.published is None:
            return "–"
        value, digits, _ = self.published
        exact = self.reading.others.get("exact optimum")
        best = None if exact is None else exact.value
        return intervals.verdict(self.reading.ours, value, digits, self.higher_is_better, best)

    def shown(self, estimate: Estimate) -> str:
        """Returns an estimate with the decimals of this experiment."""
        if estimate.low == estimate.high:
            return f"{estimate.value:.{self.digits}f}"
        return intervals.shown(estimate, self.digits)


def bare(value: float) -> Estimate:
    """Returns a value that is shown without an interval: exact, or no error of it is kept."""
    return Estimate(value, value, value, "tasks")


def curve_reader(row: int, others: tuple[str, ...]) -> Callable[[dict], Reading]:
    """Returns a reader of a row of an evaluation: what is played after ``row`` adaptations."""

    def read(cell: dict) -> Reading:
        evaluation = cell["evaluation"]
        policies, tasks = evaluation["policies"], evaluation["num_tasks"]
        rows = policies[evaluation["agent"]]["rows"]
        per_seed = [curve[row] for curve in evaluation["curve_of_each_seed"]]
        ours = intervals.crossed(per_seed, rows["stderr"][row], tasks)
        return Reading(
            ours,
            len(per_seed),
            {
                name: intervals.over_tasks(
                    policies[name]["rows"]["mean"][row],
                    policies[name]["rows"]["stderr"][row],
                    tasks,
                )
                for name in others
                if name in policies
            },
        )

    return read


def total_reader(cell: dict) -> Reading:
    """Reads the return of whole trials, the agent beside all its references."""
    evaluation = cell["evaluation"]
    policies, tasks, agent = evaluation["policies"], evaluation["num_tasks"], evaluation["agent"]
    per_seed = [sum(curve) for curve in evaluation["curve_of_each_seed"]]
    ours = intervals.crossed(per_seed, policies[agent]["total"]["stderr"], tasks)
    others = {
        name: intervals.over_tasks(p["total"]["mean"], p["total"]["stderr"], tasks)
        for name, p in policies.items()
        if name != agent
    }
    if evaluation["optimal_total"] is not None:
        others["exact optimum"] = bare(evaluation["optimal_total"])
    return Reading(ours, len(per_seed), others)
