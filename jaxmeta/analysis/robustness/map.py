"""Robustness maps: the return of trained agents over physical parameters.

Axes: S training seeds, E trials on each simulator, L lanes (a trial on a simulator each).
Trial e is played with the same luck on all simulators, by all seeds and by all runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxmeta.analysis.robustness.plan import Sweep, check_out, picture_name, plan_sweep
from jaxmeta.analysis.robustness.result import Robustness, RobustnessMap, WorstCase
from jaxmeta.analysis.robustness.worst_case import CrossEntropy, search_worst
from jaxmeta.catalog.methods import title_of
from jaxmeta.evaluation.player import BATCH, batch_size, play_given
from jaxmeta.evaluation.protocol import Protocol
from jaxmeta.evaluation.protocols import protocol_of
from jaxmeta.runs.choose import choose_labels, load_runs
from jaxmeta.runtime.arguments import check_integer, check_seed
from jaxmeta.runtime.files import write_or_warn
from jaxmeta.runtime.progress import Progress, make_progress
from jaxmeta.streams import Stream, stream_key

if TYPE_CHECKING:
    from jaxmeta.runs.result import TrainResult

__all__ = ["Robustness", "robustness"]

DEFAULT_SEARCH = CrossEntropy()
_TRIALS = {1: 50, 2: 10}
_PATIENCE = 5.0  # seconds without a word


def robustness(
    sources: TrainResult | str | Path | Sequence[TrainResult | str | Path],
    parameters: Sequence[str] | str | None = None,
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    fixed: Mapping[str, float] | None = None,
    points: int = 21,
    trials: int | None = None,
    episodes: int | None = None,
    deterministic: bool = False,
    search: CrossEntropy | None = DEFAULT_SEARCH,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    save: bool = True,
    out: str | Path | None = None,
    batch: int = BATCH,
    progress: bool = True,
) -> Robustness:
    """Measures return over a grid of one or two physical parameters, and at the worst point.

    All other parameters are those of the family's nominal task, or ``fixed``. Of an agent
    that adapts, the return is that of the last row of a trial. All training seeds play, and
    sample their actions unless ``deterministic``. Where runs adapt to different numbers of
    episodes at a time, the return of a trial is for all of them the mean of as many as for the
    largest: the lowest of noisy returns would be lower for a run with fewer.

    Args:
        sources: What `jaxmeta.training.train.train` returned or the directory of a run, or several
            of them, whose families must be of one class; they may differ in the
            distribution of training.
        parameters: One or two names of physical parameters; None: the family's first two.
        ranges: Lowest and highest value of a parameter; where not given, those of the
            family's limits (of several runs, from the lowest to the highest limit). Also of
            parameters that are not swept, for the search.
        fixed: Values of parameters that are not swept; the search leaves them, too.
        points: Grid points per parameter.
        trials: Trials on each simulator of the grid per training seed, E; None: 50 for one
            parameter, 10 for two.
        episodes: Rows of adaptation of a trial; None: as in training. The last one counts.
        deterministic: Whether all agents take the mode of their action's distribution instead
            of a sample, see `jaxmeta.evaluation.evaluate.evaluate`.
        search: How to look for the most adverse simulator, by default among those within the
            map, see `jaxmeta.CrossEntropy.within`; None: not at all.
        labels: Names of the runs; None: those of their directories.
        seed: Seed of all that is played.
        save: Whether to write files, see `Robustness.save`.
        out: The PNG to write, the numbers beside it, or the directory for them. None: that of a
            single run, and nothing for several or without one. In a directory it is
            ``robustness.png``, with the ``parameters`` that are given and ``limits``, if those
            are searched, in its name.
        batch: Trials played at a time; bounds the memory of the map (the search plays a
            whole generation at a time).
        progress: Whether to show how it goes, if it takes long.

    Raises:
        ConfigError: If an argument is out of range, a family has no physical parameters, an
            agent does not say its mode or the runs do not fit together, before anything is
            compiled.
    """
    results = load_runs(sources)
    _check_fields(points, trials, episodes, seed, batch)
    families = [result.config.tasks for result in results]
    named = [parameters] if isinstance(parameters, str) else parameters
    sweep = plan_sweep(families, named, ranges or {}, fixed or {}, points, search)
    names = choose_labels(results, labels)
    place = check_out(results, out, picture_name(named or (), search)) if save else None
    for family in families:
        family.check_installed()
    prepared = _prepare(results, episodes, deterministic)

    trials = _TRIALS[len(sweep.swept)] if trials is None else trials
    key = stream_key(seed, Stream.ROBUSTNESS)
    size = batch_size(len(sweep.simulators()) * trials, batch)
    session = _Session(sweep, trials, search, jax.random.split(key, 4), size, _Watch(progress))
    session.watch.total = sum(session.env_steps(run) for run in prepared)
    with session.watch:
        maps = [session.play(run, name) for run, name in zip(prepared, names, strict=True)]
    found = Robustness(
        family=type(families[0]).__name__,
        parameters=sweep.swept,
        grid=sweep.grid,
        fixed={name: value for name, value in sweep.base.items() if name not in sweep.swept},
        maps=tuple(maps),
        units=dict(families[0].units),
        seed=seed,
    )
    if place is not None:
        write_or_warn(found.save, place)
    return found


class _Run(NamedTuple):
    """An agent, ready to play."""

    agent: str
    params: Any
    seeds: int
    protocol: Protocol


@dataclass(frozen=True)
class _Session:
    """Plays runs on one sweep."""

    sweep: Sweep
    trials: int
    search: CrossEntropy | None
    keys: Array  # [4], of the grid, the search, the choice and the measurement
    size: int  # of all batches, so that all that is played compiles once
    watch: _Watch

    def env_steps(self, run: _Run) -> int:
        """Returns the steps that `play` will play (those of a filled-up batch left out)."""
        lanes = len(self.sweep.simulators()) * self.trials
        if (search := self.search) is not None:
            lanes += search.iterations * search.population * search.trials
            lanes += (search.iterations + 4) * search.fresh_trials
        return lanes * run.seeds * self._steps_of_lane(run)

    def _steps_of_lane(self, run: _Run) -> int:
        protocol = run.protocol
        return len(protocol.experience) * protocol.episodes * protocol.family.horizon

    def play(self, run: _Run, label: str) -> RobustnessMap:
        """Plays the grid, and searches for the worst case if that is wanted."""
        simulators = self.sweep.simulators()
        returns = self._returns(run, simulators, self.trials, self.keys[0])
        training = self.sweep.training_ranges(run.protocol.family)
        worst_case = None
        if self.search is not None:
            worst = simulators[_lowest(returns)]
            worst_case = self._worst_case(self.search, run, training, worst)
        return RobustnessMap(
            label=label,
            agent=run.agent,
            returns=returns.reshape(run.seeds, self.trials, *map(len, self.sweep.grid)),
            training=training,
            rows=len(run.protocol.experience),
            episodes_per_adapt=run.protocol.together,
            episodes_per_point=run.protocol.episodes,
            deterministic=run.protocol.deterministic,
            worst_case=worst_case,
        )

    def _worst_case(
        self, search: CrossEntropy, run: _Run, training: dict[str, Any], of_grid: np.ndarray
    ) -> WorstCase:
        low, high = self.sweep.box(search, training)
        key = self.keys[1]
        found = search_worst(search, run.protocol, run.params, key=key, low=low, high=high)
        lanes = search.iterations * search.population * search.trials * run.seeds
        self.watch.advance(lanes * self._steps_of_lane(run), float(found.history[-1]))
        candidates = np.concatenate([found.candidates, np.clip(of_grid, low, high)[None]])
        chosen = self._returns(run, candidates, search.fresh_trials, self.keys[2])
        both = np.stack([candidates[_lowest(chosen)], of_grid])
        measured = self._returns(run, both, search.fresh_trials, self.keys[3])
        names, searched = self.sweep.names, self.sweep.searched(search)
        ends = dict(zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True))
        return WorstCase(
            parameters=dict(zip(names, both[0].tolist(), strict=True)),
            searched=searched,
            returns=measured[:, :, 0],
            history=found.history,
            map_returns=measured[:, :, 1],
            within=search.within,
            box={name: ends[name] for name in searched},
        )

    def _returns(self, run: _Run, simulators: np.ndarray, trials: int, key: Array) -> np.ndarray:
        """Plays simulators ``[P, D]``; returns ``[S, E, P]`` of the last row."""
        luck = np.repeat(np.arange(trials), len(simulators))
        tasks = self.sweep.tasks(np.tile(simulators, (trials, 1)))
        steps = self._steps_of_lane(run)
        played = [
            play_given(
                run.protocol,
                run.params,
                key=key,
                tasks=tasks,
                luck=luck,
                size=self.size,
                member=member,
                on_batch=lambda returns: self.watch.advance(
                    len(returns) * steps, float(returns[:, -1].mean())
                ),
            )[:, -1]
            for member in range(run.seeds)
        ]
        return np.stack(played).reshape(run.seeds, trials, len(simulators))


class _Watch:
    """Shows how it goes, but not of what is over in a moment."""

    def __init__(self, shown: bool) -> None:
        self.total = 0
        self._shown, self._done = shown, 0
        self._start = self._last = time.monotonic()
        self._progress: Progress | None = None

    def __enter__(self) -> None:
        self._start = self._last = time.monotonic()

    def __exit__(self, *exc_info: object) -> None:
        if self._progress is not None:
            self._progress.close()

    def advance(self, env_steps: int, reached: float) -> None:
        now = time.monotonic()
        before, self._done = self._done, self._done + env_steps
        if self._progress is None and now - self._start > _PATIENCE:
            self._progress = make_progress(self._shown, self.total, before, "playing")
        if self._progress is not None:
            self._progress.advance(self._done, now - self._last, reached)
        self._last = now


def _lowest(returns: np.ndarray) -> int:
    """Returns the index of the simulator with the lowest mean, of returns ``[S, E, P]``."""
    means = returns.mean(axis=(0, 1), dtype=np.float64)
    return int(np.argmin(np.where(np.isfinite(means), means, np.inf)))


def _prepare(results: Sequence[Any], episodes: int | None, deterministic: bool) -> list[_Run]:
    protocols = [protocol_of(result.config.algorithm, result.config.tasks) for result in results]
    together = max(protocol.together for protocol in protocols)
    runs = []
    for result, protocol in zip(results, protocols, strict=True):
        agent = title_of(result.config.algorithm)
        wanted: dict[str, Any] = {"episodes": together, "deterministic": deterministic}
        run = _Run(
            agent=agent,
            params=result.params,
            seeds=jax.tree.leaves(result.params)[0].shape[0],
            protocol=protocol.asked(agent, rows=episodes, **wanted),
        )
        runs.append(run)
    return runs


def _check_fields(
    points: int, trials: int | None, episodes: int | None, seed: int, batch: int
) -> None:
    check_integer("points", points, least=2)
    check_integer("trials", 1 if trials is None else trials, least=1)
    check_integer("episodes", 1 if episodes is None else episodes, least=1)
    check_integer("batch", batch, least=1)
    check_seed(seed)
