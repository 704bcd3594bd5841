"""What a comparison of several agents found: curves over experience, statistics, files.

Axes: S training seeds of a run, Z those of another, B held-out tasks, K rows of a run's
adaptation curve, X amounts of experience.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.evaluation import intervals
from jaxmeta.evaluation.curve_statistics import plain, robust_intervals
from jaxmeta.evaluation.result import Evaluation
from jaxmeta.ops import statistics
from jaxmeta.render.terminal import as_text
from jaxmeta.runtime.files import draw_or_warn, write_numbers
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.score import Score

if TYPE_CHECKING:
    from rich.console import Group


_COMMON = ("family", "split", "seed", "score", "episodes_per_point", "deterministic", "new_tasks")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Evaluations of several agents on the same held-out tasks, laid over each other.

    Agents adapt to different numbers N of episodes at a time, so curves are over experience:
    row k of an agent is the return after k N episodes in the task. A return is the mean of as
    many episodes for every agent and reference, those of the agent with the largest N: with
    other numbers, IQM, CVaR and the probability of improvement would compare luck.
    On supervised tasks they are over gradient steps, and in place of returns there are losses.

    Attributes:
        runs: Label to evaluation; their references and optima are not read.
        references: Name to returns ``[B, X]``.
        experience: Episodes of experience of the references, increasing, ``[X]``.
        optimal: Exact expected returns after 0, 1, 2, … episodes of the policy that is
            Bayes-optimal over so many; None if unknown.
    """

    runs: dict[str, Evaluation]
    references: dict[str, np.ndarray] = field(default_factory=dict)
    experience: np.ndarray = field(default_factory=lambda: np.arange(0))
    optimal: np.ndarray | None = None

    def __post_init__(self) -> None:
        require(len(self.runs) >= 2, "runs", list(self.runs), "at least two")
        for name in _COMMON:
            values = tuple(getattr(run, name) for run in self.runs.values())
            require(len(set(values)) == 1, f"{name} of the runs", values, "the same for all")
        tasks = tuple(run.returns.shape[1] for run in self.runs.values())
        require(len(set(tasks)) == 1, "tasks of the runs", tasks, "as many for all")
        known = self.common_experience in self.experience or not self.references
        require(known, "experience", self.experience, f"with {self.common_experience} among it")
        summed = self.total_episodes or 0
        unbroken = np.array_equal(self.experience[:summed], range(summed)) or not self.references
        require(unbroken, "experience", self.experience, "0, 1, 2, …, of which totals are the sum")
        for name, returns in self.references.items():
            shape = (tasks[0], len(self.experience))
            require(returns.shape == shape, f"references[{name!r}]", returns.shape, "[B, X]")

    @property
    def score(self) -> Score:
        """What is compared."""
        return next(iter(self.runs.values())).score

    @functools.cached_property
    def common_experience(self) -> int:
        """The most experience after which every run has a row; 0 at the least."""
        amounts = [set(experience_of(run).tolist()) for run in self.runs.values()]
        return max(set.intersection(*amounts))

    @functools.cached_property
    def total_episodes(self) -> int | None:
        """How many episodes a total sums: as many as all curves have; None if one is enough.

        Nor is there a total where an agent adapts by steps: then only what it ends with counts.
        """
        summed = all(run.headline == "total" for run in self.runs.values())
        return self.common_experience + 1 if summed and self.common_experience else None

    def summary(self) -> dict[str, Any]:
        """Returns everything but the single returns, as plain Python values.

        ``"runs"`` maps a label to the curve (``mean``, ``low`` and ``high`` over
        ``experience``, and ``curve_of_each_seed``) and to ``at``: statistics of the returns
        of one row over all pairs of seed and task, at the ``first`` row, at the last row of
        ``training`` (None if the curve ends before), at the ``last`` row and after the
        ``common_experience``. These are ``mean``, ``iqm`` and ``cvar10`` (the mean of the
        worst tenth), each with the ends of its 95 % interval, ``low`` and
        ``high``, ``iqm_low`` and so on. ``intervals`` says of which kind they are: of the
        mean over the run's seeds and over tasks, see
        `jaxmeta.evaluation.intervals.mean_interval`; of a run with one seed, and of IQM and
        CVaR always, over tasks only, which says nothing of how another seed would have turned
        out. ``total`` has the same of the sum of the first
        ``total_episodes``; None where there is none, see `total_episodes`.

        ``"pairs"`` maps label X and label Y, for every ordered pair, to the ``difference`` of
        the mean returns, X minus Y, and to the ``probability`` of improvement: that a seed
        of X beats a seed of Y on a task (lower beats higher where lower is better), ties
        counted half. Both are of the return after the common experience; their intervals
        (``difference_low``, …) are over the seeds of X, the seeds of Y and the tasks, which
        are the same for both runs; of a run with one seed not over its seeds, as ``reach``
        says. See `jaxmeta.evaluation.intervals.difference_interval` and `probability_interval`.

        ``"references"`` have curves, and the statistics after the common experience and of the
        total, without intervals but that of the mean.
        """
        return self._summary

    @functools.cached_property
    def _summary(self) -> dict[str, Any]:
        first = next(iter(self.runs.values()))
        summary = {
            "family": first.family,
            "split": first.split,
            "seed": first.seed,
            "num_tasks": first.returns.shape[1],
            "score": self.score.name,
            "unit": self.score.unit,
            "acts": first.acts,
            "episodes_per_point": first.episodes_per_point,
            "deterministic": first.deterministic,
            "new_tasks": first.new_tasks,
            "higher_is_better": self.score.higher_is_better,
            "common_experience": self.common_experience,
            "total_episodes": self.total_episodes,
            "runs": {label: self._describe(run) for label, run in self.runs.items()},
            "pairs": self._pairs(),
            "references": self._describe_references(),
            "optimal": self.optimal,
        }
        return plain(summary)

    def _describe(self, run: Evaluation) -> dict[str, Any]:
        seeds, _, rows = run.returns.shape
        low, high = intervals.mean_interval(run.returns)
        experience = experience_of(run)
        trained = run.trained_rows
        shown = {
            "first": 0,
            "training": None if trained is None or trained > rows else trained - 1,
            "last": rows - 1,
            "common": experience.tolist().index(self.common_experience),
        }
        described = {row: self._statistics(run, row) for row in shown.values() if row is not None}
        return {
            "agent": run.agent,
            "num_seeds": seeds,
            "intervals": intervals.methods(seeds),
            "episodes_per_adapt": run.episodes_per_adapt,
            "trained_rows": trained,
            "env_steps": run.env_steps,
            "experience": experience,
            "mean": run.returns.mean(axis=(0, 1), dtype=np.float64),
            "low": low,
            "high": high,
            "curve_of_each_seed": run.returns.mean(axis=1, dtype=np.float64),
            "at": {name: None if row is None else described[row] for name, row in shown.items()},
            "total": self._total(run.returns, robust=True),
        }

    def _statistics(self, run: Evaluation, row: int) -> dict[str, Any]:
        values = run.returns[:, :, row]
        low, high = intervals.mean_interval(values)
        numbers = {"experience": int(experience_of(run)[row]), "low": low, "high": high}
        return numbers | self._points(values) | robust_intervals(values, self.score.sign)

    def _total(self, returns: np.ndarray, robust: bool) -> dict[str, Any] | None:
        """Describes the sums of curves ``[S, B, K]``, whose row k is of episode k + 1."""
        if self.total_episodes is None:
            return None
        values = returns[..., : self.total_episodes].sum(axis=-1, dtype=np.float64)
        low, high = intervals.mean_interval(values)
        numbers = {"low": low, "high": high} | self._points(values)
        return numbers | (robust_intervals(values, self.score.sign) if robust else {})

    def _points(self, values: np.ndarray) -> dict[str, Any]:
        return {
            "mean": statistics.mean(values),
            "iqm": statistics.iqm(values),
            "cvar10": self.score.sign * statistics.cvar(self.score.sign * values),
        }

    def _pairs(self) -> dict[str, dict[str, Any]]:
        values = {label: self.after_common_experience(run) for label, run in self.runs.items()}
        pairs: dict[str, dict[str, Any]] = {label: {} for label in values}
        for one, other in itertools.combinations(values, 2):
            found = _compare(values[one], values[other], self.score.sign)
            seeds = len(values[one]), len(values[other])
            pairs[one][other] = found | {"reach": intervals.reach(*seeds)}
            pairs[other][one] = _mirror(found) | {"reach": intervals.reach(*seeds[::-1])}
        return pairs

    def after_common_experience(self, run: Evaluation) -> np.ndarray:
        """Returns the returns of a run after the common experience, ``[S, B]``."""
        return run.returns[:, :, self.common_experience // run.episodes_per_adapt]

    def _describe_references(self) -> dict[str, Any]:
        if not self.references:
            return {}
        stacked = np.stack(list(self.references.values()), axis=-1)  # [B, X, references]
        low, high = intervals.mean_interval(stacked[None])
        common = self.experience.tolist().index(self.common_experience)
        described = {}
        for i, (name, returns) in enumerate(self.references.items()):
            described[name] = {
                "experience": self.experience,
                "mean": returns.mean(axis=0, dtype=np.float64),
                "low": low[:, i],
                "high": high[:, i],
                "common": self._points(returns[:, common])
                | {"low": low[common, i], "high": high[common, i]},
                "total": self._total(returns[None, :, : common + 1], robust=False),
            }
        return described

    def __str__(self) -> str:
        """The table, as plain text."""
        return as_text(self.table())

    def table(self) -> Group:
        """Returns tables for the terminal (`rich.print` them), best first."""
        from jaxmeta.analysis.comparison.table import comparison_tables

        return comparison_tables(self)

    def save(self, path: str | Path) -> list[Path]:
        """Writes the figure and beside it, under the same name, the numbers.

        Each file is written whole or not at all; older ones are replaced.

        Args:
            path: The figure, such as ``compare.png``. The summary goes to ``compare.json``,
                and to ``compare.npz`` go all returns: ``returns/<label>`` with
                ``experience/<label>``, and ``reference/<name>`` with ``experience``.

        Returns:
            The JSON and, unless a warning says why it could not be drawn, the figure.

        Raises:
            OSError: If the numbers cannot be written.
        """
        from jaxmeta.analysis.comparison.figure import plot_comparison

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"returns/{label}": run.returns for label, run in self.runs.items()}
        arrays |= {f"experience/{label}": experience_of(r) for label, r in self.runs.items()}
        arrays |= {f"reference/{name}": returns for name, returns in self.references.items()}
        arrays |= {"experience": self.experience} if self.references else {}
        arrays |= {} if self.optimal is None else {"optimal": self.optimal}
        numbers = write_numbers(path.with_suffix(""), self.summary(), arrays)
        return [numbers, *draw_or_warn(path, lambda: plot_comparison(self, path))]


def experience_of(run: Evaluation) -> np.ndarray:
    """Returns the episodes of experience before every row of an evaluation, ``[K]``."""
    return run.episodes_per_adapt * np.arange(run.returns.shape[2])


def _compare(x: np.ndarray, y: np.ndarray, sign: int) -> dict[str, float]:
    """Compares returns ``[S, B]`` with those of another run on the same tasks, ``[Z, B]``."""
    found: dict[str, Any] = {}
    for name, value, (low, high) in (
        ("difference", _gap(x, y), intervals.difference_interval(x, y)),
        (
            "probability",
            statistics.win_table(sign * x, sign * y).mean(),
            intervals.probability_interval(sign * x, sign * y),
        ),
    ):
        found |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return found


@np.errstate(invalid="ignore")  # of two that diverged the difference is NaN
def _gap(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return statistics.mean(x) - statistics.mean(y)


def _mirror(pair: dict[str, float]) -> dict[str, float]:
    """Returns the comparison of Y with X, from that of X with Y."""
    mirrored = {}
    for name, whole in (("difference", 0.0), ("probability", 1.0)):
        mirrored |= {name: whole - pair[name], f"{name}_low": whole - pair[f"{name}_high"]}
        mirrored |= {f"{name}_high": whole - pair[f"{name}_low"]}
    return mirrored
