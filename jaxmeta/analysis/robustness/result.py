"""What a robustness map found: returns over physical parameters, their summary, files.

Axes: S training seeds, E trials on each simulator, and one axis per swept parameter, whose
lengths are written N, M.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.evaluation import intervals
from jaxmeta.evaluation.curve_statistics import plain
from jaxmeta.ops import statistics
from jaxmeta.render.terminal import as_text
from jaxmeta.runtime.files import draw_or_warn, write_numbers
from jaxmeta_envs.core.errors import require

if TYPE_CHECKING:
    from rich.console import Group

Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class WorstCase:
    """The most adverse simulator that a search found.

    Attributes:
        parameters: Its physical parameters, all of them.
        searched: Names of those that the search could change.
        returns: Returns there, ``[S, E]``, on trials that played no part in finding it.
        history: Mean return of the elite in every generation of the search.
        map_returns: Returns at the worst point of the map, on the same trials as ``returns``.
        within: Which box was searched, see `jaxmeta.CrossEntropy`.
        box: Lowest and highest value of each searched parameter.
    """

    parameters: dict[str, float]
    searched: tuple[str, ...]
    returns: np.ndarray
    history: np.ndarray
    map_returns: np.ndarray
    within: str
    box: dict[str, Range]

    def summary(self) -> dict[str, Any]:
        """Returns the parameters and the mean return with its 95 % interval.

        ``difference`` is that to the return at the map's worst point, which is under ``map``,
        paired over seeds and trials; ``worse`` is whether its interval lies below 0.
        """
        difference = _mean_with_interval(self.returns - self.map_returns)
        return _mean_with_interval(self.returns) | {
            "map": _mean_with_interval(self.map_returns),
            "difference": difference,
            "worse": bool(difference["high"] < 0),
            "parameters": self.parameters,
            "searched": list(self.searched),
            "within": self.within,
            "box": {name: list(ends) for name, ends in self.box.items()},
            "trials": self.returns.shape[1],
            "history": self.history,
        }


def _mean_with_interval(returns: np.ndarray) -> dict[str, Any]:
    low, high = intervals.mean_interval(returns)
    return {"mean": statistics.mean(returns), "low": low, "high": high}


@dataclass(frozen=True, eq=False)
class RobustnessMap:
    """Returns of one run over a grid of simulators.

    Attributes:
        label: Name of the run.
        agent: Name of the algorithm.
        returns: Undiscounted returns of the last row of adaptation, ``[S, E, N]`` or
            ``[S, E, N, M]``. Trial e has the same luck everywhere on the grid.
        training: Lowest and highest value of every physical parameter in training.
        rows: Rows of adaptation that were played; the last one is reported.
        episodes_per_adapt: Episodes that a step of adaptation sees.
        episodes_per_point: Episodes of which the return of a trial is the mean.
        deterministic: Whether actions are the mode of their distribution; else sampled.
        worst_case: What the search found, if there was one.
    """

    label: str
    agent: str
    returns: np.ndarray
    training: dict[str, Range]
    rows: int = 1
    episodes_per_adapt: int = 1
    episodes_per_point: int = 1
    deterministic: bool = False
    worst_case: WorstCase | None = None

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """Mean over seeds and trials, float64 ``[N]`` or ``[N, M]``."""
        with np.errstate(invalid="ignore"):  # of infinities of both signs
            return self.returns.mean(axis=(0, 1), dtype=np.float64)

    def intervals(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the 95 % intervals of `mean`, over seeds and trials; NaN if not finite."""
        return intervals.mean_interval(self.returns)


@dataclass(frozen=True, eq=False)
class Robustness:
    """Maps of one or several runs over the same simulators.

    Attributes:
        family: Name of the task family.
        parameters: Names of the swept parameters, one or two.
        grid: Values of each of them.
        fixed: Values of all others.
        maps: One per run.
        units: Unit of each parameter that has one.
        seed: Seed of all that was played.
    """

    family: str
    parameters: tuple[str, ...]
    grid: tuple[np.ndarray, ...]
    fixed: dict[str, float]
    maps: tuple[RobustnessMap, ...]
    units: dict[str, str] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = tuple(len(values) for values in self.grid)
        require(len(sizes) in (1, 2), "grid", sizes, "of one or two parameters")
        require(len(self.parameters) == len(sizes), "parameters", self.parameters, "as many")
        for run in self.maps:
            shape = run.returns.shape
            require(shape[2:] == sizes, f"returns of {run.label}", shape, f"[S, E, *{sizes}]")

    def inside(self, run: RobustnessMap) -> np.ndarray:
        """Returns which points of the grid lie in the training range, bool ``[N]`` or ``[N, M]``.

        Only the swept parameters count.
        """
        mask = np.ones((), bool)
        for name, values in zip(self.parameters, self.grid, strict=True):
            low, high = run.training[name]
            slack = 1e-6 * max(abs(low), abs(high))  # the ends are float32
            within = (values >= low - slack) & (values <= high + slack)
            mask = mask[..., None] & within
        return mask

    def worst_point(self, run: RobustnessMap) -> dict[str, float] | None:
        """Returns where on the grid the mean return is lowest; None if no return is finite."""
        region = self.summary()["runs"][run.label]["everywhere"]
        return None if region is None else region["worst_at"]

    def summary(self) -> dict[str, Any]:
        """Returns everything but the single returns, as plain Python values.

        ``"runs"`` maps a label to the mean return at every point of the grid with its
        95 % interval (``mean_return``, ``low``, ``high``, nested lists in the
        order of ``parameters``), to the ``training_range`` of every physical parameter, and
        to statistics over ``everywhere`` and over ``inside_training`` (None if no point lies
        there): ``mean`` with interval ``low``, ``high``, the 10th percentile ``p10`` and
        ``worst`` of the points' mean returns, and ``worst_at``. ``worst`` is the lowest of
        noisy means. ``worst_case`` is what the search found, where it searched, and under
        ``map`` the return at the map's worst point on the same fresh trials.
        ``intervals`` says what they are over: seeds and trials, with one seed trials only.
        Points where a return is not a finite number are None and left out.
        """
        return self._summary

    @functools.cached_property
    def _summary(self) -> dict[str, Any]:
        names = self.parameters
        summary = {
            "family": self.family,
            "parameters": list(names),
            "units": dict(self.units),
            "grid": dict(zip(names, self.grid, strict=True)),
            "fixed": self.fixed,
            "seed": self.seed,
            "runs": {run.label: self._describe(run) for run in self.maps},
        }
        return plain(summary)

    def _describe(self, run: RobustnessMap) -> dict[str, Any]:
        low, high = run.intervals()
        everywhere = np.isfinite(run.mean)
        return {
            "agent": run.agent,
            "num_seeds": run.returns.shape[0],
            "trials": run.returns.shape[1],
            "intervals": f"t over {intervals.reach(len(run.returns), tasks='trials')}",
            "row": run.rows,
            "episodes_per_adapt": run.episodes_per_adapt,
            "episodes_per_point": run.episodes_per_point,
            "deterministic": run.deterministic,
            "training_range": {name: list(ends) for name, ends in run.training.items()},
            "everywhere": self._region(run, everywhere),
            "inside_training": self._region(run, everywhere & self.inside(run)),
            "worst_case": None if run.worst_case is None else run.worst_case.summary(),
            "mean_return": run.mean,
            "low": low,
            "high": high,
        }

    def _region(self, run: RobustnessMap, region: np.ndarray) -> dict[str, Any] | None:
        """Describes the points of the grid where ``region`` is true."""
        if not region.any():
            return None
        means = run.mean[region]
        low, high = intervals.mean_interval(run.returns[:, :, region].mean(axis=2))
        at = np.argwhere(region)[np.argmin(means)]
        values = (grid[i] for grid, i in zip(self.grid, at, strict=True))
        return {
            "points": len(means),
            "mean": means.mean(),
            "low": low,
            "high": high,
            "p10": np.quantile(means, 0.1),
            "worst": means.min(),
            "worst_at": dict(zip(self.parameters, values, strict=True)),
        }

    def __str__(self) -> str:
        """The table, as plain text."""
        return as_text(self.table())

    def table(self) -> Group:
        """Returns tables for the terminal (`rich.print` them), best mean first."""
        from jaxmeta.analysis.robustness.table import robustness_tables

        return robustness_tables(self)

    def save(self, path: str | Path) -> list[Path]:
        """Writes the figure and beside it, under the same name, the numbers.

        Each file is written whole or not at all; older ones are replaced.

        Args:
            path: The figure, such as ``robustness.png``. The summary goes to
                ``robustness.json``, and to ``robustness.npz`` go ``grid/<parameter>``, all
                returns (``returns/<label>``), and ``worst_case/<label>``.

        Returns:
            The JSON and, unless a warning says why it could not be drawn, the figure.

        Raises:
            OSError: If the numbers cannot be written.
        """
        from jaxmeta.analysis.robustness.figure import plot_robustness

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"grid/{n}": v for n, v in zip(self.parameters, self.grid, strict=True)}
        arrays |= {f"returns/{run.label}": run.returns for run in self.maps}
        for run in self.maps:
            if run.worst_case is not None:
                arrays[f"worst_case/{run.label}"] = run.worst_case.returns
        numbers = write_numbers(path.with_suffix(""), self.summary(), arrays)
        return [numbers, *draw_or_warn(path, lambda: plot_robustness(self, path))]
