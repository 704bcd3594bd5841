"""What an evaluation found: adaptation curves, their summary, a table and files.

Axes: S training seeds, B held-out tasks, K rows of the adaptation curve.
"""

from __future__ import annotations

import functools
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from jaxmeta.evaluation import intervals
from jaxmeta.evaluation.curve_statistics import describe_curves, plain
from jaxmeta.render.terminal import as_text
from jaxmeta.runtime.files import draw_or_warn, write_numbers
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.score import RETURN, Score, as_score

if TYPE_CHECKING:
    from rich.table import Table

NUM_TASKS = 1000
"""Held-out tasks of an evaluation, unless told otherwise."""

_MEASURED = (
    *("split", "seed", "episodes_per_adapt", "episodes_per_point", "deterministic"),
    *("shots", "env_steps"),
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a trained learner and of its references on the same held-out tasks.

    Row k is what was played after k episodes of experience; for an agent that adapts to
    several episodes at a time, after k steps of adaptation; on supervised tasks, after k
    gradient steps. It is the mean of N episodes, for the agent and for its references: with
    other numbers, IQM, CVaR, percentiles and the worst would compare luck.

    Attributes:
        returns: Undiscounted returns of the agent, ``[S, B, K]``; on supervised tasks, losses or
            what else the family is judged by.
        references: Name to returns ``[B, K]``, each after as many episodes as the agent. On a
            shifted split the names say which believe in the distribution of training.
        optimal: Exact expected returns ``[K]`` of the policy that is Bayes-optimal over K
            episodes; None where unknown (see `jaxmeta.evaluation.evaluate.evaluate`).
        split: Where the tasks are from.
        agent: Name of the agent.
        family: Name of the task family.
        seed: Seed of the held-out tasks.
        episodes_per_adapt: Episodes that a step of adaptation sees.
        episodes_per_point: N; None for as many as ``episodes_per_adapt``, which is the least.
        deterministic: Whether the agent's actions are the mode of their distribution; else
            they are sampled.
        new_tasks: Whether these tasks are known to be others than those of training.
        trained_rows: The K of training; None if unknown.
        env_steps: Environment steps that each seed was trained for; None if unknown.
        score: What was measured, a `Score`; given as ``"return"`` or ``"loss"``, that one.
        headline: What sums up a curve, see `jaxmeta.evaluation.protocol.Protocol.headline`; None
            for ``"total"`` if episodes were played and the agent adapts to every one, else
            ``"final"``.
        shots: On supervised tasks, examples that a step of adaptation saw; else None.
        own_shots: What a step of adaptation saw, examples or episodes, if not as in training;
            else None.
    """

    returns: np.ndarray
    references: dict[str, np.ndarray] = field(default_factory=dict)
    optimal: np.ndarray | None = None
    split: str = "test"
    agent: str = "agent"
    family: str = "tasks"
    seed: int = 0
    episodes_per_adapt: int = 1
    episodes_per_point: int | None = None
    deterministic: bool = False
    new_tasks: bool = True
    trained_rows: int | None = None
    env_steps: int | None = None
    score: Score = RETURN
    headline: str | None = None
    shots: int | None = None
    own_shots: int | None = None

    def __post_init__(self) -> None:
        shape = self.returns.shape
        require(len(shape) == 3 and min(shape) >= 1, "returns", shape, "[seeds, tasks, rows]")
        for name, returns in self.references.items():
            require(returns.shape == shape[1:], f"references[{name!r}]", returns.shape, "[B, K]")
            require(name != self.agent, "references", name, "named other than the agent")
        least = self.episodes_per_adapt
        if self.episodes_per_point is None:
            object.__setattr__(self, "episodes_per_point", least)
        points = self.episodes_per_point or 0
        require(points >= least, "episodes_per_point", points, f"at least {least}")
        known = self.optimal is None or self.optimal.shape == shape[2:]
        require(known, "optimal", self.optimal, "[K]")
        object.__setattr__(self, "score", as_score(self.score))
        if self.headline is None:
            summed = self.acts and self.episodes_per_adapt == 1
            object.__setattr__(self, "headline", "total" if summed else "final")

    @property
    def acts(self) -> bool:
        """Whether episodes were played; else labels of examples were predicted."""
        return self.shots is None

    def summary(self) -> dict[str, Any]:
        """Returns statistics of the agent and of every reference, as plain Python values.

        ``"policies"`` maps a name to ``{headline: {...}, "rows": {...}}``: of what sums the
        curve up, see ``headline``, numbers; of the K rows, lists. Both have
        ``mean``, its standard error ``stderr`` and 95 % interval ``low``,
        ``high``, and ``iqm``, ``cvar10``, ``worst``, ``median`` and the percentiles ``p5``,
        ``p10``, ``p25``, ``p75``, ``p90`` over all pairs of seed and task (of returns as
        played, the luck of the episode included). ``cvar10`` and ``worst`` are of the bad
        side: low returns, high losses. The headline also has the
        intervals of ``iqm`` and ``cvar10``. ``"intervals"`` says of which kind they are: of
        means over seeds and tasks, with one seed over tasks only; of IQM and CVaR always over
        tasks only. References have no seeds. Where the optimum is known, ``regret`` is the
        exact expected optimum minus the mean, with the interval of the mean; below 0 it is
        luck, or in one row a debt paid in another. What is undefined (the standard error
        of one value) is None. See `jaxmeta.evaluation.intervals`.
        """
        return self._summary

    @functools.cached_property
    def _summary(self) -> dict[str, Any]:
        def describe(values: np.ndarray) -> list[dict[str, Any]]:
            return describe_curves(values, self.optimal, self.score.sign, str(self.headline))

        policies = {self.agent: describe(self.returns[None])[0]}
        if self.references:
            stacked = np.stack(list(self.references.values()))[:, None]
            policies |= zip(self.references, describe(stacked), strict=True)
        seeds, tasks, rows = self.returns.shape
        summary = {
            "agent": self.agent,
            "family": self.family,
            "split": self.split,
            "seed": self.seed,
            "num_seeds": seeds,
            "num_tasks": tasks,
            "rows": rows,
            "episodes_per_adapt": self.episodes_per_adapt,
            "episodes_per_point": self.episodes_per_point,
            "deterministic": self.deterministic,
            "new_tasks": self.new_tasks,
            "trained_rows": self.trained_rows,
            "env_steps": self.env_steps,
            "score": self.score.name,
            "higher_is_better": self.score.higher_is_better,
            "unit": self.score.unit,
            "acts": self.acts,
            "shots": self.shots,
            "own_shots": self.own_shots,
            "headline": self.headline,
            "intervals": intervals.methods(seeds),
            "optimal": None if self.optimal is None else self.optimal,
            "optimal_total": None if self.optimal is None else self.optimal.sum(),
            "policies": policies,
            "curve_of_each_seed": self.returns.mean(axis=1, dtype=np.float64),
        }
        return plain(summary)

    @property
    def suffix(self) -> str:
        """What the names of its files end with: how it differs from what is done by default.

        Nothing for 1,000 tasks of the split "test", drawn with seed 0, as many rows, shots and
        episodes as in training, actions sampled; else, say, ``-far-20-rows-mode``.
        """
        _, tasks, rows = self.returns.shape
        given = (
            (self.split != "test", self.split),
            (self.trained_rows not in (None, rows), f"{rows}-rows"),
            (self.own_shots is not None, f"{self.own_shots}-shots"),
            (self.episodes_per_point != self.episodes_per_adapt, f"{self.episodes_per_point}-each"),
            (self.deterministic, "mode"),
            (tasks != NUM_TASKS, f"{tasks}-tasks"),
            (self.seed != 0, f"seed-{self.seed}"),
        )
        return "".join(f"-{said}" for differs, said in given if differs)

    def measures_as(self, other: Evaluation) -> bool:
        """Whether another one is of the same tasks, played in the same way at the same age."""
        same = all(getattr(self, name) == getattr(other, name) for name in _MEASURED)
        return same and self.returns.shape == other.returns.shape

    def __str__(self) -> str:
        """The table, as plain text."""
        return as_text(self.table())

    def table(self) -> Table:
        """Returns a table for the terminal (`rich.print` it), best total first."""
        from jaxmeta.evaluation.table import evaluation_table

        return evaluation_table(self)

    def save(self, directory: str | Path) -> list[Path]:
        """Writes the evaluation into ``directory``, each file whole or not at all.

        ``evaluation.json`` has the summary and the mean curve of each seed,
        ``evaluation.npz`` all returns (``returns``, ``optimal`` if known, and one
        ``reference/<name>`` each), ``adaptation.png`` the figure. What was measured
        otherwise than by default is written beside them, with `suffix` in the names; measuring
        the same again replaces its files.

        Returns:
            ``evaluation.json`` and, unless a warning says why it could not be drawn, the figure.

        Raises:
            OSError: If the numbers cannot be written.
        """
        from jaxmeta.evaluation.figure import plot_adaptation

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        suffix = self.suffix
        arrays = {"returns": self.returns}
        arrays |= {f"reference/{name}": returns for name, returns in self.references.items()}
        arrays |= {} if self.optimal is None else {"optimal": self.optimal}
        numbers = write_numbers(directory / f"evaluation{suffix}", self.summary(), arrays)
        path = directory / f"adaptation{suffix}.png"
        return [numbers, *draw_or_warn(path, lambda: plot_adaptation(self, path))]


def read_evaluation(directory: str | Path, suffix: str = "") -> Evaluation | None:
    """Reads what `Evaluation.save` wrote with this `Evaluation.suffix`; None if it did not.

    Nor is it one if its files are not of one evaluation, as a crash between them leaves it,
    or are of a version that wrote something else.
    """
    place = Path(directory)
    names = ("split", "agent", "family", "seed", "episodes_per_adapt", "trained_rows", "env_steps")
    names += ("shots", "episodes_per_point", "deterministic", "new_tasks", "own_shots")
    try:
        summary = json.loads((place / f"evaluation{suffix}.json").read_text(encoding="utf-8"))
        content = (place / f"evaluation{suffix}.npz").read_bytes()
        with np.load(io.BytesIO(content)) as arrays:
            saved = dict(arrays)
        fields = {name: summary[name] for name in names}
        curves = np.asarray(summary["curve_of_each_seed"], float)
        prefix = "reference/"
        of_references = {n: saved[n] for n in saved if n.startswith(prefix)}
        evaluation = Evaluation(
            returns=saved["returns"],
            references={n.removeprefix(prefix): returns for n, returns in of_references.items()},
            optimal=saved.get("optimal"),
            score=_read_score(summary),
            headline=summary.get("headline"),
            **fields,
        )
    except (OSError, ValueError, KeyError, TypeError, BadZipFile):
        return None
    means = evaluation.returns.mean(axis=1, dtype=np.float64)
    same = means.shape == curves.shape and np.allclose(means, curves, rtol=1e-9, equal_nan=True)
    return evaluation if same and evaluation.suffix == suffix else None


def _read_score(summary: dict[str, Any]) -> Score:
    """Returns the score of a stored evaluation; before files said more, its name was all."""
    if "higher_is_better" not in summary:
        return as_score(summary["score"])
    return Score(summary["score"], summary["higher_is_better"], summary["unit"])
