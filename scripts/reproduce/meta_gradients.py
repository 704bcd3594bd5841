"""What estimators of the meta-gradient are worth: bias, variance and direction.

python scripts/reproduce/meta_gradients.py

Repeats the first update of PolicyMAML from one policy on decision processes small enough to
enumerate. What it estimates is known exactly: the gradient of the reward per step that the policy
earns after K inner steps on N episodes each. For every estimator, K and N it prints, and writes to
``results/meta_gradients/tiny.json``:

- bias: length of the mean error over that of the exact gradient, by enumeration, as the
  updates have it, and by enumeration with plain advantages, which are not standardised;
- relative deviation: root mean square distance of an update's gradient from their mean,
  over the length of that mean;
- cosine: of an update's gradient with the exact one, on average;
- p: how likely the mean of the updates is if it is what the enumeration says.

All estimators meet the same episodes, so that their p go up and down together. An update centres
advantages over its tasks, which takes less than 1 / (tasks · N) off the mean.

Then the relative deviations of LVC and DiCE over longer episodes, which nobody can enumerate.
Intervals are bootstrap 95 % intervals over updates.

Reference: Rothfuss et al. 2019, arXiv 1810.06784, sections 5 and 6.2.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxmeta import MLP
from jaxmeta.algorithms.policy_maml import PolicyMAML
from jaxmeta.parts.estimators import EMAML, LVC, DiCE, FirstOrder, LogLikelihood
from jaxmeta.parts.inner_loop import SGD, InnerLoop
from jaxmeta.testing.conformance import fast_jit
from jaxmeta.testing.meta_gradients import Adaptation
from jaxmeta.testing.tiny_family import TinyFamily, mean_p_value, sample_meta_gradients, tabular
from jaxmeta.testing.tiny_process import Terms

OUT = Path(__file__).parents[2] / "results" / "meta_gradients" / "tiny.json"
FAMILY = TinyFamily(seeds=(1, 2), certain=True)
LOGITS = np.array([[0.3, -0.4], [-0.2, 0.6]])
VALUES = np.array([0.5, -0.3])  # the baseline; one that is fitted to the batch would add a bias
RATE = 2.0
HORIZONS = (2, 5, 10)
RESAMPLES = 1000
ESTIMATORS: dict[str, tuple[Any, Terms]] = {
    "FirstOrder": (FirstOrder(), "none"),
    "LogLikelihood": (LogLikelihood(), "log_likelihood"),
    "LVC": (LVC(), "likelihood_ratio"),
    "DiCE": (DiCE(), "dice"),
    "E-MAML": (EMAML(), "log_likelihood"),
}


@functools.cache
def expected(name: str, steps: int, episodes: int, standardize: bool = True) -> np.ndarray:
    """Returns what an estimator gives on average, ``[S, A]``, by enumeration."""
    (estimator, terms), found = ESTIMATORS[name], []
    for process in FAMILY.processes:
        baseline = np.tile(VALUES, (process.horizon, 1))
        adaptation = Adaptation(process, RATE, steps, baseline, standardize)
        credit = estimator.credits_sampling
        found.append(adaptation.outside(LOGITS, terms, episodes, credit=credit).gradient)
    return np.mean(found, axis=0).reshape(LOGITS.shape)


def sample(
    name: str, steps: int, episodes: int, horizon: int, tasks: int, updates: int
) -> np.ndarray:
    """Returns the meta-gradients of the algorithm's own updates, ``[R, S, A]``."""
    family = dataclasses.replace(FAMILY, horizon=horizon)
    algorithm = PolicyMAML(
        num_tasks=tasks,
        shots=episodes,
        estimator=ESTIMATORS[name][0],
        inner=InnerLoop(steps=steps, optimizer=SGD(RATE)),
        baseline=MLP(),
    )
    return sample_meta_gradients(
        tabular(algorithm, family),
        family,
        LOGITS,
        jax.random.key(0),
        updates,
        values=VALUES,
        jit=fast_jit,
    ).gradient


def bias(gradients: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Returns the relative error of the mean of ``[..., R, P]``."""
    return _length(gradients.mean(-2) - exact) / _length(exact)


def deviation(gradients: np.ndarray) -> np.ndarray:
    """Returns the relative standard deviation of ``[..., R, P]``."""
    mean = gradients.mean(-2, keepdims=True)
    return np.sqrt(np.mean(_length(gradients - mean) ** 2, -1)) / _length(mean[..., 0, :])


def cosine(gradients: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Returns the mean cosine of ``[..., R, P]`` with the exact gradient."""
    lengths = _length(gradients) * _length(exact)
    return np.mean(gradients @ exact / lengths, axis=-1)


def _length(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x, axis=-1)


def with_interval(statistic: Any, gradients: np.ndarray) -> dict[str, float]:
    """Returns a statistic of ``[R, P]`` and its bootstrap 95 % interval over the updates."""
    rng = np.random.default_rng(0)
    rows = rng.integers(len(gradients), size=(RESAMPLES, len(gradients)))
    low, high = np.percentile(statistic(gradients[rows]), (2.5, 97.5))
    return {"value": float(statistic(gradients)), "low": float(low), "high": float(high)}


def measure(name: str, steps: int, episodes: int, tasks: int, updates: int) -> dict[str, Any]:
    """Holds an estimator against the exact gradient."""
    sampled = sample(name, steps, episodes, FAMILY.horizon, tasks, updates)
    mean, exact = (expected(n, steps, episodes) for n in (name, "E-MAML"))
    rows, truth = sampled.reshape(updates, -1), exact.ravel()
    plain, plain_truth = (expected(n, steps, episodes, False) for n in (name, "E-MAML"))
    return {
        "estimator": name,
        "steps": steps,
        "episodes": episodes,
        "expected_bias": float(bias(mean.reshape(1, -1), truth)),
        "plain_bias": float(bias(plain.reshape(1, -1), plain_truth.ravel())),
        "bias": with_interval(lambda x: bias(x, truth), rows),
        "deviation": with_interval(deviation, rows),
        "cosine": with_interval(lambda x: cosine(x, truth), rows),
        "p": mean_p_value(sampled, mean),
    }


def show(result: dict[str, Any]) -> None:
    """Prints both tables."""

    def entry(cell: dict[str, float]) -> str:
        return f"{cell['value']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]"

    title = f"Meta-gradients of {result['tasks']} tasks against the exact one"
    heads = ("K", "N", "", "bias", "as sampled", "plain", "deviation", "cosine", "p")
    table = Table(*heads, title=title)
    for row in result["rows"]:
        found, *cells = (entry(row[key]) for key in ("bias", "deviation", "cosine"))
        numbers = str(row["steps"]), str(row["episodes"]), row["estimator"]
        biases = f"{row['expected_bias']:.2f}", found, f"{row['plain_bias']:.2f}"
        table.add_row(*numbers, *biases, *cells, f"{row['p']:.2f}")
    longer = Table("steps of an episode", "LVC", "DiCE", title="Relative deviation, K = 1, N = 4")
    for row in result["horizons"]:
        longer.add_row(str(row["horizon"]), entry(row["LVC"]), entry(row["DiCE"]))
    console = Console(width=110)
    console.print(table)
    console.print(longer)


def main(
    steps: tuple[int, ...] = (1, 2),
    episodes: tuple[int, ...] = (2, 4, 8),
    horizons: tuple[int, ...] = HORIZONS,
    tasks: int = 40,
    updates: int = 1000,
    out: Path = OUT,
) -> None:
    """Measures and writes.

    Args:
        steps: Inner steps, K.
        episodes: Episodes per inner step, N.
        horizons: Steps of an episode, for the second table.
        tasks: Tasks per update.
        updates: Repetitions.
        out: Where the result is written.
    """
    rows = [measure(e, k, n, tasks, updates) for k in steps for n in episodes for e in ESTIMATORS]
    longer = []
    for horizon in horizons:
        row: dict[str, Any] = {"horizon": horizon}
        for name in ("LVC", "DiCE"):
            gradients = sample(name, 1, 4, horizon, tasks, updates)
            row[name] = with_interval(deviation, gradients.reshape(updates, -1))
        longer.append(row)
    result = {"tasks": tasks, "updates": updates, "learning_rate": RATE, "jax": jax.__version__}
    result |= {"rows": rows, "horizons": longer}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    tyro.cli(main)
