"""What a sweep found: a score for every point of the grid, their ranking, files.

Axes: P points of the grid, S training seeds, B held-out tasks.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.catalog.methods import title_of
from jaxmeta.catalog.serialization import to_dict
from jaxmeta.config import TrainConfig
from jaxmeta.evaluation import intervals
from jaxmeta.evaluation.curve_statistics import plain
from jaxmeta.evaluation.protocols import protocol_of
from jaxmeta.ops import statistics
from jaxmeta.render.terminal import as_text
from jaxmeta.runtime.files import draw_or_warn, write_atomically
from jaxmeta.sweeps.grid import Grid

if TYPE_CHECKING:
    from rich.table import Table

NOTE = (
    "The best point is best on the seeds and tasks that it was chosen by, so its score flatters "
    "it. Train it again on other seeds, and report what those reach."
)


@dataclass(frozen=True, eq=False)
class Sweep:
    """Many runs of one algorithm that differ in some of its numbers.

    Attributes:
        config: What they have in common; `config_of` gives the run of a point.
        grid: The points.
        scores: Return of each held-out task's trial (or loss after adaptation) at the end of
            training, float32 ``[P, S, B]``. The tasks are those of the evaluations during
            training, not those of `jaxmeta.evaluate`, so that choosing by them spoils nothing.
        finished: Whether a run was trained, ``[P, S]``.
        diverged: Whether a metric or a parameter was not finite, ``[P, S]``.
        metrics: What each update measured, ``[P, S, updates]``; of runs that are not
            finished NaN.
        provenance: Devices, versions and the like.
        run_dir: Where the sweep is written, or None.
    """

    config: TrainConfig
    grid: Grid
    scores: np.ndarray
    finished: np.ndarray
    diverged: np.ndarray
    metrics: dict[str, np.ndarray]
    provenance: dict[str, Any]
    run_dir: Path | None = None

    @property
    def sign(self) -> int:
        """1 where a higher score is better, else -1."""
        return self.config.tasks.score.sign

    @property
    def ranking(self) -> list[int]:
        """Points, best first; those with a run that diverged or is not finished are left out."""
        means = self.scores.mean(axis=(1, 2), dtype=np.float64)
        good = np.flatnonzero((self.finished & ~self.diverged).all(axis=1))
        return sorted(good.tolist(), key=lambda point: -self.sign * means[point])

    @property
    def best(self) -> int | None:
        """The point with the best mean score; None if there is none without divergence."""
        return next(iter(self.ranking), None)

    def config_of(self, point: int) -> TrainConfig:
        """Returns the run of a point, as `jaxmeta.train` takes it; it writes nothing."""
        return replace(self.grid.config_of(self.config, point), run_dir=None)

    def summary(self) -> dict[str, Any]:
        """Returns everything but single returns and metrics, as plain Python values.

        Every point has its ``values``, the ``mean`` score over seeds and tasks with the ends
        of its 95 % interval, ``low`` and ``high``, the score ``of_each_seed``, how
        many seeds ``diverged``, and ``behind_best``: by how much the best point is better,
        with its interval (``behind_best_low``, ``behind_best_high``), over both points' seeds
        and their common tasks. With one seed intervals are over tasks only, as ``intervals``
        says.
        """
        return self._summary

    @functools.cached_property
    def _summary(self) -> dict[str, Any]:
        ranking, behind, score = self.ranking, self._behind_best(), self.config.tasks.score
        points = [self._describe(p, behind.get(p)) for p in range(len(self.scores))]
        return plain(
            {
                "algorithm": title_of(self.config.algorithm),
                "family": type(self.config.tasks).__name__,
                "axes": {
                    n: list(v) for n, v in zip(self.grid.names, self.grid.values, strict=True)
                },
                "score": score.name,
                "higher_is_better": score.higher_is_better,
                "unit": score.unit,
                "acts": protocol_of(self.config.algorithm, self.config.tasks).acts,
                "num_seeds": self.config.num_seeds,
                "num_tasks": self.scores.shape[2],
                "intervals": intervals.methods(self.config.num_seeds)["mean"],
                "updates": self.config.plan().updates,
                "env_steps": self.config.plan().env_steps,
                "finished": int(self.finished.sum()),
                "runs": self.finished.size,
                "points": points,
                "ranking": ranking,
                "best": points[ranking[0]]["values"] if ranking else None,
                "note": NOTE,
                "provenance": self.provenance,
                "config": to_dict(self.config),
            }
        )

    def _describe(self, point: int, behind: tuple[float, float, float] | None) -> dict[str, Any]:
        finished, bad = self.finished[point], self.diverged[point]
        described: dict[str, Any] = {"values": self.grid.points[point], "diverged": int(bad.sum())}
        numbers: list[Any] = [None] * 3
        if (finished & ~bad).all():
            scores = self.scores[point]
            numbers = [statistics.mean(scores), *intervals.mean_interval(scores)]
        described |= dict(zip(("mean", "low", "high"), numbers, strict=True))
        each = self.scores[point].mean(axis=1, dtype=np.float64)
        described["of_each_seed"] = [
            float(x) if ok else None for x, ok in zip(each, finished & ~bad, strict=True)
        ]
        names = ("behind_best", "behind_best_low", "behind_best_high")
        return described | dict(zip(names, behind or (None,) * 3, strict=True))

    def _behind_best(self) -> dict[int, tuple[float, float, float]]:
        """Returns by how much the best point is better than each other, with an interval."""
        best, behind = self.best, {}
        for point in self.ranking[1:]:
            better, worse = (self.sign * self.scores[p] for p in (best, point))
            low, high = intervals.difference_interval(better, worse)
            gap = statistics.mean(better) - statistics.mean(worse)
            behind[point] = (float(gap), float(low), float(high))
        return behind

    def __str__(self) -> str:
        """The table, as plain text."""
        return as_text(self.table())

    def table(self) -> Table:
        """Returns the table for the terminal (`rich.print` it), best first."""
        from jaxmeta.sweeps.table import sweep_table

        return sweep_table(self.summary())

    def save(self) -> None:
        """Writes ``sweep.json`` and ``sweep.png`` into the sweep's directory.

        Raises:
            OSError: If the numbers cannot be written; a figure that cannot is warned of.
        """
        from jaxmeta.sweeps.figure import plot_sweep

        if self.run_dir is None:
            return
        text = json.dumps(self.summary(), indent=1, allow_nan=False) + "\n"
        write_atomically(self.run_dir / "sweep.json", text)
        if self.ranking:
            path = self.run_dir / "sweep.png"
            draw_or_warn(path, lambda: plot_sweep(self.summary(), path))
