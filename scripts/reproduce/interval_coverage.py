"""Measure how often the 95 % intervals of `jaxmeta.evaluation.intervals` hold the truth.

python scripts/reproduce/interval_coverage.py

Returns are drawn from the model of crossed seeds and tasks, with normal and with skewed rests, and
from one of rewards of 0 or 1, and intervals of means, of differences of two runs and of
probabilities of improvement are made of them. Also, for the seeds held, of IQM and CVaR over tasks.
Writes ``results/interval_coverage.json`` and the tables of ``docs/statistics.md``.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy import special

from jaxmeta.evaluation import intervals
from jaxmeta.ops import statistics

ROOT = Path(__file__).parents[2]
OUT = ROOT / "results" / "interval_coverage.json"
PAGE = ROOT / "docs" / "statistics.md"
START, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
TASKS = 100
SEEDS = (1, 2, 3, 5, 10)
PAIRS = ((1, 1), (2, 2), (3, 3), (3, 10), (5, 5), (10, 10))
GAPS = (0.0, 0.7)
_SAMPLES = 1_000_000  # of which a truth is taken that has no closed form


@dataclass(frozen=True)
class Model:
    """Where returns come from.

    Attributes:
        seed: Standard deviation over seeds.
        task: Over tasks.
        rest: Of what is left.
        skewed: Whether the rest is exponential and not normal.
        binary: Whether a return is 1 where the sum is above 0, and else 0.
    """

    seed: float = 1.0
    task: float = 1.0
    rest: float = 1.0
    skewed: bool = False
    binary: bool = False

    @property
    def spread(self) -> float:
        """Standard deviation of the difference of two returns on a task."""
        return (2 * (self.seed**2 + self.rest**2)) ** 0.5

    def draw(
        self, rng: np.random.Generator, seeds: tuple[int, ...], tasks: int, repetitions: int
    ) -> list[np.ndarray]:
        """Returns what runs get on common tasks, ``[S, B, repetitions]`` each.

        Every run but the last is better by nothing; `shift` makes one better.
        """
        of_task = self.task * rng.normal(size=(1, tasks, repetitions))
        return [
            of_task
            + self.seed * rng.normal(size=(n, 1, repetitions))
            + self.rest * self._rest(rng, (n, tasks, repetitions))
            for n in seeds
        ]

    def shift(self, values: np.ndarray, gap: float) -> np.ndarray:
        """Returns them better by ``gap`` spreads, and made returns."""
        moved = values + gap * self.spread
        return (moved > 0).astype(float) if self.binary else moved

    def _rest(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.exponential(size=shape) - 1 if self.skewed else rng.normal(size=shape)

    @functools.cache  # noqa: B019  there are few models, and they live as long as the program
    def truth(self, gap: float) -> dict[str, float]:
        """Returns the mean of one run, and difference and probability of two."""
        x, y = self.draw(np.random.default_rng(1), (1, 1), 1, _SAMPLES)
        x, y = self.shift(x, gap), self.shift(y, 0.0)
        wins = np.mean((x > y) + 0.5 * (x == y))
        if self.binary:  # of a sum that is normal
            total = (self.seed**2 + self.task**2 + self.rest**2) ** 0.5
            mean = float(special.ndtr(gap * self.spread / total))
            return {"mean": mean, "difference": mean - 0.5, "probability": mean / 2 + 0.25}
        if not self.skewed:
            wins = special.ndtr(gap)
        moved = gap * self.spread
        return {"mean": moved, "difference": moved, "probability": float(wins)}


MODELS = {
    "equal spreads": Model(),
    "no seed effect": Model(seed=0.0),
    "seeds dominate": Model(seed=3.0),
    "skewed rest": Model(skewed=True),
    "rewards of 0 or 1": Model(binary=True),
}


def of_means(model: Model, seeds: int, repetitions: int) -> float:
    """Returns how often the interval of a mean holds it."""
    (x,) = model.draw(np.random.default_rng(seeds), (seeds,), TASKS, repetitions)
    low, high = intervals.mean_interval(model.shift(x, 0.7))
    truth = model.truth(0.7)["mean"]
    return float(np.mean((low <= truth) & (truth <= high)))


def of_pairs(model: Model, seeds: tuple[int, int], gap: float, repetitions: int) -> dict[str, Any]:
    """Returns how often the intervals of two runs hold difference and probability."""
    x, y = model.draw(np.random.default_rng(seeds), seeds, TASKS, repetitions)
    x, y = model.shift(x, gap), model.shift(y, 0.0)
    truth = model.truth(gap)
    low, high = intervals.difference_interval(x, y)
    held = (low <= truth["difference"]) & (truth["difference"] <= high)
    # Contiguous, for the speed of a loop over the last axis.
    x, y = (np.ascontiguousarray(np.moveaxis(run, -1, 0)) for run in (x, y))
    ends = [intervals.probability_interval(one, other) for one, other in zip(x, y, strict=True)]
    below, above = np.transpose(ends)
    within = (below <= truth["probability"]) & (truth["probability"] <= above)
    return {
        "probability": truth["probability"],
        "of_difference": float(held.mean()),
        "of_probability": float(within.mean()),
    }


def over_tasks(seeds: int, repetitions: int) -> dict[str, float]:
    """Returns how often the intervals of IQM and CVaR hold those of the same seeds."""
    rng = np.random.default_rng(seeds)
    of_seeds = rng.normal(size=(seeds, 1))

    def draw(tasks: int) -> np.ndarray:
        return of_seeds + rng.normal(size=(1, tasks)) + rng.normal(size=(seeds, tasks))

    def both(values: np.ndarray, axis: int | None = None) -> np.ndarray:
        found = [statistics.iqm(values, axis=axis), statistics.cvar(values, axis=axis)]
        return np.stack(found, axis=-1)

    truth, held = both(draw(_SAMPLES)), np.zeros(2)
    for _ in range(repetitions):
        low, high = intervals.bootstrap(draw(TASKS), both, repetitions=500)
        held += (low <= truth) & (truth <= high)
    return dict(zip(("iqm", "cvar10"), (held / repetitions).tolist(), strict=True))


def measure(repetitions: int) -> dict[str, Any]:
    """Returns the coverage of every kind of interval."""
    means = [
        {"model": name, "seeds": n, "coverage": of_means(model, n, repetitions)}
        for name, model in MODELS.items()
        for n in SEEDS
    ]
    half = max(repetitions // 2, 1)
    pairs = [
        {"model": name, "seeds": list(seeds), "gap": gap, **of_pairs(model, seeds, gap, half)}
        for name, model in MODELS.items()
        for seeds in PAIRS
        for gap in GAPS
    ]
    fewer = max(repetitions // 10, 1)
    held = [{"seeds": n, **over_tasks(n, fewer)} for n in (1, 3, 10)]
    return {
        "tasks": TASKS,
        "repetitions": repetitions,
        "repetitions_of_pairs": half,
        "means": means,
        "pairs": pairs,
        "over_tasks": held,
        "repetitions_over_tasks": fewer,
    }


def describe(result: dict[str, Any]) -> str:
    """Returns the tables of the page."""
    names, tasks = list(MODELS), result["tasks"]
    cells = {(row["model"], row["seeds"]): row["coverage"] for row in result["means"]}
    head = [f"| seeds | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    lines = [
        f"How many of {result['repetitions']:,} tables of {tasks} tasks have an interval that "
        "holds the mean:",
        "",
        *head,
    ]
    for n in SEEDS:
        row = " | ".join(f"{cells[name, n]:.3f}" for name in names)
        lines.append(f"| {n}{' (tasks only)' if n == 1 else ''} | {row} |")
    pairs = {(row["model"], tuple(row["seeds"]), row["gap"]): row for row in result["pairs"]}
    lines += [
        "",
        f"The difference of two runs, {result['repetitions_of_pairs']:,} tables at each of "
        f"{len(GAPS)} gaps:",
        "",
        *head,
    ]
    for seeds in PAIRS:
        found = [[pairs[name, seeds, gap]["of_difference"] for gap in GAPS] for name in names]
        row = " | ".join(f"{np.mean(two):.3f}" for two in found)
        lines.append(f"| {_against(seeds)} | {row} |")
    for gap in GAPS:
        truths = [pairs[name, PAIRS[0], gap]["probability"] for name in names]
        low, high = (f"{end:.2f}" for end in (min(truths), max(truths)))
        true = low if low == high else f"{low} to {high}"
        lines += ["", f"The probability of improvement, where it is {true}:", "", *head]
        for seeds in PAIRS:
            row = " | ".join(f"{pairs[n, seeds, gap]['of_probability']:.3f}" for n in names)
            lines.append(f"| {_against(seeds)} | {row} |")
    lines += [
        "",
        f"IQM and CVaR(10 %) of the same seeds on other tasks ({result['repetitions_over_tasks']} "
        "tables, equal spreads):",
        "",
        "| seeds | IQM | CVaR 10 % |",
        "|---|---|---|",
        *(f"| {r['seeds']} | {r['iqm']:.3f} | {r['cvar10']:.3f} |" for r in result["over_tasks"]),
    ]
    return "\n".join(lines)


def _against(seeds: tuple[int, int]) -> str:
    return f"{seeds[0]} against {seeds[1]}" + (" (tasks only)" if max(seeds) == 1 else "")


def main(repetitions: int = 4000, out: Path = OUT, page: Path = PAGE) -> None:
    """Measures the coverage and writes it down.

    Args:
        repetitions: Tables of each kind.
        out: Where the figures go.
        page: The page with their tables, between its markers.
    """
    result = measure(repetitions)
    out.write_text(json.dumps(result, indent=1) + "\n")
    head, rest = page.read_text().split(START)
    page.write_text(f"{head}{START}\n\n{describe(result)}\n\n{END}{rest.split(END)[1]}")
    print(describe(result))


if __name__ == "__main__":
    tyro.cli(main)
