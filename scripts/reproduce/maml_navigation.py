"""Train gradient-based meta-learners on points in the plane, on several seeds.

    python scripts/reproduce/maml_navigation.py --cells maml promp

Returns after 0 to 4 updates on held-out goals, each on 40 episodes as in MAML's paper, the last
three with half the step. Every cell writes ``results/maml_navigation/CELL.json``; cells that are
there already are left alone unless ``--again``. An interrupted cell goes on from its checkpoint.
Then ``python scripts/render_results.py`` puts the numbers into RESULTS.md.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

import jaxmeta
from jaxmeta.catalog import serialization
from jaxmeta.training import recording

ROOT = Path(__file__).parents[2]
OUT = ROOT / "results" / "maml_navigation"
FIRST_SEED = 1000  # presets were tuned on seeds below 10
ROWS, SHOTS = 5, 40
PAPER = (-40.41, -11.68, -3.33, -3.23, -3.35)
"""MAML's own, after 0 to 4 updates."""


@dataclass(frozen=True)
class Cell:
    """What is trained: a preset, with another estimator of the meta-gradient if one is given."""

    method: str
    family: str
    estimator: jaxmeta.LogLikelihood | None = None

    def config(self, seeds: int, run_dir: Path) -> jaxmeta.TrainConfig:
        """Returns the configuration of all seeds."""
        config = jaxmeta.preset(self.method, self.family)
        if self.estimator is not None:
            algorithm: Any = config.algorithm
            algorithm = dataclasses.replace(algorithm, estimator=self.estimator)
            config = dataclasses.replace(config, algorithm=algorithm)
        return dataclasses.replace(config, seed=FIRST_SEED, num_seeds=seeds, run_dir=str(run_dir))


CELLS = {
    "maml": Cell("maml", "point-navigation"),
    "promp": Cell("promp", "point-navigation"),
    "corners-promp": Cell("promp", "point-navigation-corners"),
    "corners-e-maml": Cell("e-maml", "point-navigation-corners"),
    "corners-log-likelihood": Cell("promp", "point-navigation-corners", jaxmeta.LogLikelihood()),
}


def run(name: str, seeds: int, steps: int | None, num_tasks: int, runs: Path) -> dict:
    """Trains and evaluates a cell; returns what is written down."""
    config = CELLS[name].config(seeds, runs / name)
    if steps is not None:
        config = dataclasses.replace(config, total_env_steps=steps)
    result, minutes = recording.finish(config)
    evaluation = jaxmeta.evaluate(result, episodes=ROWS, shots=SHOTS, num_tasks=num_tasks)
    return {
        "cell": name,
        "config": serialization.to_dict(dataclasses.replace(result.config, run_dir=None)),
        **recording.provenance(),
        "training_minutes_all_seeds": minutes,
        "env_steps_per_seed": result.env_steps,
        "per_seed": evaluation.returns.mean(axis=1).tolist(),
        "evaluation": evaluation.summary(),
    }


def curves(cell: dict) -> dict[str, list[str]]:
    """Returns mean returns with intervals after each update, of the agent and its references."""
    evaluation, shown = cell["evaluation"], {}
    for name, policy in evaluation["policies"].items():
        rows = policy["rows"]
        trios = zip(rows["mean"], rows["low"], rows["high"], strict=True)
        label = cell["cell"] if name == evaluation["agent"] else name
        shown[label] = [f"{mean:.2f} [{low:.2f}, {high:.2f}]" for mean, low, high in trios]
    return shown


def show(cell: dict) -> None:
    """Prints a cell beside the paper's figures."""
    table = Table("after", *(f"{k} updates" for k in range(ROWS)), title=cell["cell"])
    for label, entries in curves(cell).items():
        table.add_row(label, *entries)
    if CELLS[cell["cell"]].family == "point-navigation":
        table.add_row("MAML's paper", *map(str, PAPER))
    Console(width=140).print(table)


def main(
    cells: tuple[str, ...] = tuple(CELLS),
    seeds: int = 5,
    steps: int | None = None,
    num_tasks: int = 200,
    runs: Path = ROOT / "runs" / "maml_navigation",
    out: Path = OUT,
    again: bool = False,
) -> None:
    """Runs cells and writes their results.

    Args:
        cells: Which ones.
        seeds: Training seeds of each.
        steps: Environment steps of each seed; None takes those of the preset.
        num_tasks: Held-out goals.
        runs: Where the runs are kept.
        out: Where the results are written.
        again: Also those whose results are there.
    """

    def make(name: str) -> dict:
        return run(name, seeds, steps, num_tasks, runs)

    for cell in recording.kept("cells", cells, CELLS, out, make, again):
        show(cell)


if __name__ == "__main__":
    tyro.cli(main)
