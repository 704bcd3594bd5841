"""Train presets on several seeds and measure their adaptation on held-out tasks.

    python scripts/reproduce/adaptation.py --cells bandit-5-10 grid

Each cell writes ``results/adaptation/CELL.json``; cells that are there already are left
alone unless ``--again``. An interrupted cell goes on from its checkpoint. Then
``python scripts/render_results.py`` puts the numbers into RESULTS.md.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import tyro

import jaxmeta
from jaxmeta.catalog import serialization
from jaxmeta.training import recording
from jaxmeta_envs import BernoulliBandit, GaussianBandit

ROOT = Path(__file__).parents[2]
FIRST_SEED = 1000  # presets were tuned on seeds 0 and 100


@dataclass(frozen=True)
class Cell:
    """What is trained and how long it is met at meta-test."""

    family: str
    tasks: object = None
    eval_tasks: int = 20_000
    method: str = "rl2"

    def config(self, seeds: int, run_dir: Path) -> jaxmeta.TrainConfig:
        """Returns the configuration of all seeds."""
        preset = jaxmeta.preset(self.method, self.family)
        return dataclasses.replace(
            preset,
            tasks=self.tasks or preset.tasks,
            seed=FIRST_SEED,
            num_seeds=seeds,
            run_dir=str(run_dir),
        )


CELLS = {
    "bandit-5-10": Cell("bernoulli-bandit", BernoulliBandit(5, 10)),
    "bandit-10-10": Cell("bernoulli-bandit", BernoulliBandit(10, 10)),
    "gaussian-bandit-5-10": Cell("gaussian-bandit", GaussianBandit(5, 10)),
    "grid": Cell("grid-navigation"),
    "informative-bandit": Cell("informative-bandit", eval_tasks=4000),
    "two-step": Cell("two-step", eval_tasks=4000),
    "cartpole": Cell("cartpole", eval_tasks=2000),
    "regression-control": Cell("regression-control", eval_tasks=2000),
    "sac-pendulum": Cell("pendulum", eval_tasks=2000, method="sac"),
    "sac-mountain-car": Cell("mountain-car", eval_tasks=2000, method="sac"),
    "maml-bandit-5-10": Cell("bernoulli-bandit", BernoulliBandit(5, 10), method="maml"),
}


def run(name: str, seeds: int, runs: Path) -> dict:
    """Trains and evaluates a cell; returns what is written down."""
    run_dir = runs / name
    config = CELLS[name].config(seeds, run_dir)
    result, minutes = recording.finish(config)
    evaluation = jaxmeta.evaluate(result, num_tasks=CELLS[name].eval_tasks)
    print(f"{name}: {evaluation.returns.sum(2).mean(1)}")
    return {
        "cell": name,
        "config": serialization.to_dict(dataclasses.replace(result.config, run_dir=None)),
        **recording.provenance(),
        "training_minutes_all_seeds": minutes,
        "env_steps_per_seed": result.env_steps,
        "per_seed_total": evaluation.returns.sum(2).mean(1).tolist(),
        "evaluation": evaluation.summary(),
    }


def main(
    cells: tuple[str, ...] = tuple(CELLS),
    seeds: int = 5,
    runs: Path = ROOT / "runs" / "adaptation",
    out: Path = ROOT / "results" / "adaptation",
    again: bool = False,
) -> None:
    """Runs cells and writes their results.

    Args:
        cells: Which ones.
        seeds: Training seeds of each.
        runs: Where the runs are kept.
        out: Where the results are written.
        again: Also those whose results are there.
    """

    def make(name: str) -> dict:
        return run(name, seeds, runs)

    for _ in recording.kept("cells", cells, CELLS, out, make, again):
        pass


if __name__ == "__main__":
    tyro.cli(main)
