"""What bfloat16 products cost in learning: the same runs with float32 and with rounded factors.

    python scripts/reproduce/low_precision.py

``matmul_precision="bfloat16"`` changes nothing on a CPU, which computes in float32. So here every
product's factors are rounded to bfloat16 before it is formed, in the gradient as well, and added up
in float32: what a TPU does. Each cell trains the same seeds both ways, writes
``results/low_precision/CELL.json``, and goes on from its checkpoints when it was interrupted. Then
``python scripts/render_results.py`` puts the numbers into RESULTS.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxmeta
from jaxmeta.catalog import serialization
from jaxmeta.evaluation.intervals import mean_interval
from jaxmeta.training import recording

ROOT = Path(__file__).parents[2]
OUT = ROOT / "results" / "low_precision"
FIRST_SEED = 1000  # presets were tuned on other seeds
CELLS = {"rl2-bandit": ("rl2", "bernoulli-bandit"), "maml-sinusoid": ("maml", "sinusoid")}


@contextlib.contextmanager
def rounded_products() -> Iterator[None]:
    """Rounds the factors of products that are traced inside to bfloat16's 8 bits.

    JAX has no public place for this: its own rule for the gradient of a product and all that
    multiplies matrices call one function, which is replaced for a while.
    """
    from jax._src.lax import lax

    exact = lax.dot_general

    def dot_general(lhs: Any, rhs: Any, *args: Any, **options: Any) -> jax.Array:
        lhs, rhs = (_rounded(x) for x in (lhs, rhs))
        return exact(lhs, rhs, *args, **options)

    jax.clear_caches()  # of functions traced before
    with (
        mock.patch.object(lax, "dot_general", dot_general),
        mock.patch.object(jax.lax, "dot_general", dot_general),
    ):
        yield
    jax.clear_caches()


def _rounded(x: Any) -> Any:
    x = jnp.asarray(x)
    if x.dtype != jnp.float32:
        return x
    # An exact sum with a constant: the factors of the gradient are rounded, but not the gradient.
    return x + jax.lax.stop_gradient(jax.lax.reduce_precision(x, 8, 7) - x)


def train(name: str, seeds: int, updates: int | None, run_dir: Path) -> jaxmeta.TrainResult:
    """Trains the preset of a cell; fewer updates if so many are given."""
    config = jaxmeta.preset(*CELLS[name])
    steps = config.total_env_steps
    if updates is not None:
        steps = updates * config.plan().env_steps_per_update
    return recording.finish(
        dataclasses.replace(
            config,
            seed=FIRST_SEED,
            num_seeds=seeds,
            total_env_steps=steps,
            run_dir=str(run_dir),
        )
    ).result


def scores(result: jaxmeta.TrainResult, num_tasks: int) -> np.ndarray:
    """Returns losses after adaptation, or returns of whole trials, on held-out tasks ``[S, B]``."""
    evaluation = jaxmeta.evaluate(result, num_tasks=num_tasks, references=False)
    rows = np.asarray(evaluation.returns, np.float64)
    return rows[:, :, -1] if evaluation.headline == "final" else rows.sum(2)


def describe(result: jaxmeta.TrainResult, reached: np.ndarray) -> dict[str, Any]:
    """Returns what the seeds reach, and the course of training in twenty parts."""
    curve = np.array_split(result.metrics[result.config.tasks.score.name].mean(1), 20)
    return {
        "per_seed": reached.mean(1).tolist(),
        "total": interval(reached),
        "curve": [float(part.mean()) for part in curve],
    }


def interval(values: np.ndarray) -> dict[str, float]:
    """Returns a mean over seeds and tasks with its 95 % interval."""
    low, high = map(float, mean_interval(values))
    return {"mean": float(values.mean()), "low": low, "high": high}


def run(name: str, seeds: int, updates: int | None, num_tasks: int, runs: Path) -> dict[str, Any]:
    """Trains a cell both ways; agents are measured in float32, on the same tasks."""
    exact = train(name, seeds, updates, runs / f"{name}-float32")
    with rounded_products():
        rounded = train(name, seeds, updates, runs / f"{name}-bfloat16")
    reached = scores(exact, num_tasks), scores(rounded, num_tasks)
    return {
        "cell": name,
        **recording.provenance(),
        "config": serialization.to_dict(dataclasses.replace(exact.config, run_dir=None)),
        "score": exact.config.tasks.score.name,
        "env_steps_per_seed": exact.env_steps,
        "num_tasks": num_tasks,
        "float32": describe(exact, reached[0]),
        "bfloat16": describe(rounded, reached[1]),
        "difference": interval(reached[1] - reached[0]),
    }


def main(
    cells: tuple[str, ...] = tuple(CELLS),
    seeds: int = 3,
    updates: int | None = None,
    num_tasks: int = 10_000,
    runs: Path = ROOT / "runs" / "low_precision",
    out: Path = OUT,
    again: bool = False,
) -> None:
    """Trains cells and writes their results.

    Args:
        cells: Which ones.
        seeds: Training seeds of each.
        updates: Updates of a run; None takes the preset's.
        num_tasks: Held-out tasks.
        runs: Where the runs are kept.
        out: Where the results are written.
        again: Also those whose results are there.
    """

    def make(name: str) -> dict[str, Any]:
        return run(name, seeds, updates, num_tasks, runs)

    for row in recording.kept("cells", cells, CELLS, out, make, again):
        found = {name: round(row[name]["total"]["mean"], 4) for name in ("float32", "bfloat16")}
        print(row["cell"], found, "difference", row["difference"])


if __name__ == "__main__":
    tyro.cli(main)
