"""How much of what lies between random and optimal the agents of short bandits reach, exactly.

    python scripts/reproduce/adaptation.py --cells bandit-5-10 bandit-10-10 --again
    python scripts/reproduce/bandit_gap.py --cells bandit-5-10 bandit-10-10

A mean of returns is too noisy for that: with 20,000 tasks its standard error is 1 % of the gap. So
each pull counts what its arm pays on average instead of what it paid, and what the means of a
task's arms explain of its return, by least squares on their order statistics and squares, whose
expectations are known, is taken off. With 400,000 tasks the error is 0.1 % of the gap.
Reads the runs of ``adaptation.py`` and writes ``results/bandit_gap.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxmeta
from jaxmeta.experience.play import play_trial
from jaxmeta.training import recording
from jaxmeta_envs import AdaptivePolicy, BernoulliBandit

ROOT = Path(__file__).parents[2]
BATCH = 20_000


def compiled(family: BernoulliBandit, policy: AdaptivePolicy, by_mode: bool) -> Any:
    """Returns ``(params, keys) -> expected returns, sorted means of the arms``, for all seeds."""
    chosen = policy.act_mode if by_mode and policy.act_mode is not None else policy.act

    def one(params: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        task_key, begin_key, play_key = jax.random.split(key, 3)
        task = family.sample_task(task_key, "test")

        def act(params, carry, inputs, key):
            return (*chosen(params, carry, inputs, key), ())

        begun = policy.begin(params, begin_key)
        trial = play_trial(family, act, params, begun, task, play_key, family.num_pulls)
        means = family.arm_means(task)
        return jnp.sum(means[trial.trajectory.action.reshape(-1)]), jnp.sort(means)

    return jax.jit(jax.vmap(one, in_axes=(None, 0)))


def play(batch: Any, params: Any, tasks: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns expected returns ``[B]`` and the sorted means of the arms ``[B, k]``."""
    keys = jax.random.split(jax.random.key(15), tasks // BATCH)
    parts = [jax.device_get(batch(params, jax.random.split(key, BATCH))) for key in keys]
    values, means = (np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True))
    return values, means


def without_the_luck_of_tasks(values: np.ndarray, means: np.ndarray) -> tuple[float, float]:
    """Returns mean and standard error, order statistics of uniform arms as control variates."""
    arms = means.shape[1]
    place = np.arange(1, arms + 1)
    expected = place / (arms + 1)
    variance = place * (arms + 1 - place) / ((arms + 1) ** 2 * (arms + 2))
    known = np.concatenate([means - expected, (means - expected) ** 2 - variance], axis=1)
    design = np.concatenate([np.ones((len(values), 1)), known], axis=1)
    weights = np.linalg.lstsq(design, values, rcond=None)[0]
    rest = values - known @ weights[1:]
    return float(rest.mean()), float(rest.std(ddof=design.shape[1]) / len(values) ** 0.5)


def main(
    cells: tuple[str, ...] = ("bandit-5-10", "bandit-10-10"),
    tasks: int = 400_000,
    runs: Path = ROOT / "runs" / "adaptation",
    out: Path = ROOT / "results" / "bandit_gap.json",
) -> None:
    """Measures the runs of cells and writes the shares of the gap.

    Args:
        cells: Of ``adaptation.py``, trained by it.
        tasks: Held-out tasks; a multiple of 20,000.
        runs: Where the runs are.
        out: What is written.
    """
    found: dict[str, object] = {**recording.provenance(), "held_out_tasks": tasks}
    for cell in cells:
        result = jaxmeta.load(runs / cell)
        family = result.config.tasks
        assert isinstance(family, BernoulliBandit)
        optimal = family.optimal_returns(family.num_pulls)
        assert optimal is not None
        best, chance = float(np.sum(optimal)), family.num_pulls / 2
        modes = {"sampled": False, "mode": True}
        batches = {name: compiled(family, result.policy, m) for name, m in modes.items()}
        rows = []
        for seed in range(result.config.num_seeds):
            params = jax.tree.map(lambda x, seed=seed: x[seed], result.params)
            row = {}
            for name, batch in batches.items():
                mean, error = without_the_luck_of_tasks(*play(batch, params, tasks))
                row[name] = {
                    "return": mean,
                    "share_of_gap": (mean - chance) / (best - chance),
                    "standard_error_of_share": error / (best - chance),
                }
            rows.append(row)
            print(cell, seed, {n: round(100 * r["share_of_gap"], 2) for n, r in row.items()})
        found[cell] = {"optimum": best, "random": chance, "seeds": rows}
    out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
