"""Train the RL² presets on several seeds and measure them on held-out tasks.

    python scripts/reproduce/rl2_adaptation.py --cells bandit-5-10 grid

Each cell writes ``results/rl2_adaptation/CELL.json``; cells that are there already are left
alone unless ``--again``. An interrupted cell goes on from its checkpoint. Then
``python scripts/render_results.py`` puts the numbers into RESULTS.md.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import tyro

import jaxmeta
from jaxmeta import recording, serialization
from jaxmeta_envs import BernoulliBandit, GaussianBandit

ROOT = Path(__file__).parents[2]
FIRST_SEED = 1000  # presets were tuned on seeds 0 and 100


@dataclass(frozen=True)
class Cell:
    """What is trained and how long it is met at meta-test."""

    family: str
    tasks: object = None
    eval_tasks: int = 20_000

    def config(self, seeds: int, run_dir: Path) -> jaxmeta.TrainConfig:
        preset = jaxmeta.preset("rl2", self.family)
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
        "evaluation": json.loads((run_dir / "evaluation.json").read_text()),
    }


def main(
    cells: tuple[str, ...] = tuple(CELLS),
    seeds: int = 5,
    runs: Path = ROOT / "runs" / "rl2_adaptation",
    again: bool = False,
) -> None:
    """Runs cells and writes their results.

    Args:
        cells: Which ones.
        seeds: Training seeds of each.
        runs: Where the runs are kept.
        again: Also those whose results are there.
    """
    out = ROOT / "results" / "rl2_adaptation"
    out.mkdir(parents=True, exist_ok=True)
    for name in cells:
        if name not in CELLS:
            raise SystemExit(f"cells has {name!r}; it must be of {', '.join(CELLS)}")
        path = out / f"{name}.json"
        if again or not path.exists():
            path.write_text(json.dumps(run(name, seeds, runs), indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
