"""Regression on sinusoids, row by row: MAML and its kin, published figures beside ours.

    python scripts/reproduce/maml_sinusoid.py
    python scripts/reproduce/maml_sinusoid.py --rows maml reptile --protocol paper

A row is a method. It is trained on 10 examples per task and tested on 5, 10 and 20, before and
after gradient steps. Each row writes ``results/maml_sinusoid/PROTOCOL-ROW.json``; rows that are
there already are only printed, unless ``--again``. An interrupted row goes on from its checkpoint.
Then ``python scripts/render_results.py`` puts the table into RESULTS.md.

Two protocols: ``paper`` has the inner step size 0.01 of the paper's text, ``code`` the 0.001 that
the command of its code leaves at.

Reference: Finn et al. 2017, arXiv 1703.03400; Nichol et al. 2018, arXiv 1803.02999; Li et al. 2017,
arXiv 1707.09835; Raghu et al. 2020, arXiv 1909.09157.
Differs from the paper: a mean over seeds; 100 query points per held-out task (with Reptile, whose
waves have 50 points, each of them twice).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import jaxmeta
from jaxmeta import Schedule, preset
from jaxmeta.algorithms.maml import MAML
from jaxmeta.catalog import serialization
from jaxmeta.evaluation import intervals
from jaxmeta.parts.inner_loop import SGD, InnerLoop, MetaSGD
from jaxmeta.training import recording
from jaxmeta_envs.regression.functions import Sinusoid

ROOT = Path(__file__).parents[2]
OUT = ROOT / "results" / "maml_sinusoid"
FIRST_SEED = 1000  # settings were tuned on seeds 0 to 9
SHOTS = (5, 10, 20)
STEPS = (0, 1, 5, 10)
COLUMNS = (*STEPS, 32)
FINE_TUNING = (0.001, 0.003, 0.01, 0.03)
"""Step sizes of which a pretrained network takes the best, on tasks of their own."""

AS_TRAINED, HALVED = "same step", "later steps halved"
"""What the steps beyond those of training are, at test; the second is also MAML's rule in its code
for reinforcement learning."""
DIVERGED = 100.0  # a loss above says only that a task diverged

Protocol = Literal["paper", "code"]
STEP_SIZE: dict[str, float] = {"paper": 0.01, "code": 0.001}


@dataclass(frozen=True)
class Row:
    """A method.

    Attributes:
        says: What it is called in the table.
        make: Returns the learner, given the inner step size of the protocol.
        tasks: The tasks.
        iterations: Updates.
        steps: Gradient steps at test that are shown.
        published: Loss after 1, 5 and 10 steps by examples: the paper's where it has them,
            else recomputed by a program apart from this library; None where there is none.
        protocols: Where it belongs.
        may_diverge: Whether it is also tested with later steps halved.
    """

    says: str
    make: Callable[[float], MAML]
    tasks: Sinusoid = Sinusoid()  # noqa: RUF009  frozen
    iterations: int = 70_000
    steps: tuple[int, ...] = STEPS
    published: dict[int, tuple[float | None, ...]] = dataclasses.field(default_factory=dict)
    protocols: tuple[str, ...] = ("paper",)
    may_diverge: bool = True


def maml(**settings: Any) -> Callable[[float], MAML]:
    """Returns a maker of MAML whose inner loop has ``settings`` besides its step size."""
    return lambda step: MAML(inner=InnerLoop(optimizer=SGD(step), **settings))


def reptile(**settings: Any) -> Callable[[float], MAML]:
    """Returns a maker of the preset, as in Reptile's demonstration, with ``settings``."""
    agent: Any = preset("reptile", "sinusoid").algorithm
    return lambda step: dataclasses.replace(agent, **settings)


_POINTS = Sinusoid(phase=(0.0, 2 * math.pi), points=50)
ROWS: dict[str, Row] = {
    "maml": Row(
        "MAML",
        maml(),
        published={5: (0.67, 0.38, 0.35), 10: (0.35, 0.18, 0.12), 20: (0.22, 0.09, 0.05)},
        protocols=("paper", "code"),
    ),
    "first-order": Row(
        "first-order MAML",
        maml(second_order_steps=0),
        published={5: (0.70, 0.52, 0.44), 10: (0.41, 0.19, 0.15), 20: (0.27, 0.08, 0.06)},
        protocols=("paper", "code"),
    ),
    "first-order-falling": Row(
        "first-order MAML, learning rate falling to 0",
        lambda step: MAML(
            inner=InnerLoop(optimizer=SGD(step), second_order_steps=0),
            learning_rate=Schedule(1e-3, 0.0),
        ),
    ),
    "anil": Row("ANIL", maml(adapts="head")),
    "meta-sgd": Row("Meta-SGD", lambda step: MAML(inner=InnerLoop(optimizer=MetaSGD()))),
    "meta-sgd-5": Row(
        "Meta-SGD, trained on 5 examples",
        lambda step: MAML(shots=5, inner=InnerLoop(optimizer=MetaSGD())),
        published={5: (0.90, None, None), 10: (0.63, None, None), 20: (0.50, None, None)},
    ),
    "pretrained": Row(
        "pretrained, then fine-tuned",
        lambda step: MAML(inner=InnerLoop(steps=0)),
        published={5: (2.41, 2.23, 2.19), 10: (2.53, 2.15, 2.03)},
        may_diverge=False,
    ),
    "reptile": Row("Reptile", reptile(), _POINTS, 30_000, COLUMNS, may_diverge=False),
    "reptile-he": Row(
        "Reptile, biases begin at 0",
        reptile(first_weights="he"),
        _POINTS,
        30_000,
        COLUMNS,
        may_diverge=False,
    ),
}


def train_row(
    name: str, protocol: Protocol, seeds: int, iterations: int | None, runs: Path
) -> recording.Finished:
    """Trains a row's seeds side by side; returns them and the minutes, None if it went on."""
    return recording.finish(configure(name, protocol, seeds, iterations, runs))


def configure(
    name: str, protocol: Protocol, seeds: int, iterations: int | None, runs: Path
) -> jaxmeta.TrainConfig:
    """Returns how a row is trained; ``iterations`` in place of the row's if given."""
    row = ROWS[name]
    algorithm, updates = row.make(STEP_SIZE[protocol]), iterations or row.iterations
    return jaxmeta.TrainConfig(
        algorithm=algorithm,
        tasks=row.tasks,
        seed=FIRST_SEED,
        num_seeds=seeds,
        total_env_steps=updates * algorithm.env_steps_per_update(row.tasks),
        updates_per_chunk=min(1000, updates),
        checkpoint_every=20,
        run_dir=str(runs / f"{protocol}-{name}"),
    )


def adapting(result: jaxmeta.TrainResult, **inner: Any) -> jaxmeta.TrainResult:
    """Returns what was trained with other settings of its inner loop at test."""
    algorithm: Any = result.config.algorithm
    algorithm = dataclasses.replace(algorithm, inner=dataclasses.replace(algorithm.inner, **inner))
    return result._replace(config=dataclasses.replace(result.config, algorithm=algorithm))


def tuned(result: jaxmeta.TrainResult, num_tasks: int) -> tuple[jaxmeta.TrainResult, float]:
    """Returns a pretrained network with the step size that is best after ten steps."""

    def loss(step: float) -> float:
        settings: dict[str, Any] = {"split": "train", "seed": 1, "num_tasks": num_tasks}
        settings |= {"references": False, "save": False, "episodes": max(STEPS) + 1}
        last = (
            jaxmeta.evaluate(adapting(result, optimizer=SGD(step)), **settings)
            .returns[..., -1]
            .mean()
        )
        return float(last) if np.isfinite(last) else math.inf

    best = min(FINE_TUNING, key=loss)
    return adapting(result, optimizer=SGD(best)), best


def summarize(losses: np.ndarray) -> dict[str, list]:
    """Returns statistics over held-out tasks of losses ``[seeds, tasks, rows]``, per row.

    A few tasks in a thousand diverge where training never saw so many steps or so few
    examples, hence the median and the mean of the best 99 % beside the mean. What is not
    finite is None.
    """
    losses = np.minimum(np.nan_to_num(losses.astype(np.float64), nan=np.inf), 1e30)
    kept = np.sort(losses, axis=1)[:, : max(1, int(0.99 * losses.shape[1]))]
    found = {
        "mean": losses.mean((0, 1)),
        "best_99_percent": kept.mean((0, 1)),
        "median": np.median(losses, axis=1).mean(0),
    }
    summary: dict[str, list] = {
        name: [round(x, 4) if x < DIVERGED else None for x in row.tolist()]
        for name, row in found.items()
    }
    errors = [float(intervals.standard_error(row)) for row in np.moveaxis(losses, 2, 0)]
    known = zip(errors, summary["mean"], strict=True)
    return summary | {
        "mean_per_seed": [summarize_seed(seed) for seed in losses],
        "standard_error": [None if mean is None else float(f"{e:.4g}") for e, mean in known],
    }


def summarize_seed(losses: np.ndarray) -> list[float | None]:
    """Returns the mean over tasks of one seed's losses ``[tasks, rows]``."""
    return [round(x, 4) if x < DIVERGED else None for x in losses.mean(0).tolist()]


def measure_row(
    name: str, protocol: Protocol, seeds: int, iterations: int | None, num_tasks: int, runs: Path
) -> dict[str, Any]:
    """Trains and measures a row."""
    row = ROWS[name]
    result, minutes = train_row(name, protocol, seeds, iterations, runs)
    trained, step = result.config, None
    if name == "pretrained":
        result, step = tuned(result, num_tasks)
    ways = {AS_TRAINED: result}
    if row.may_diverge:
        ways[HALVED] = adapting(result, extra_step_factor=0.5)
    losses: dict[str, dict] = {way: {} for way in ways}
    references = {}
    for way, agent in ways.items():
        for shots in SHOTS:
            evaluation = jaxmeta.evaluate(
                agent, episodes=max(row.steps) + 1, shots=shots, num_tasks=num_tasks, save=False
            )
            losses[way][str(shots)] = summarize(evaluation.returns[..., row.steps])
            references = {key: float(x[:, 0].mean()) for key, x in evaluation.references.items()}
    return {
        "row": name,
        "protocol": protocol,
        "config": serialization.to_dict(dataclasses.replace(trained, run_dir=None)),
        **recording.provenance(),
        "training_minutes_all_seeds": minutes,
        "iterations": len(result.metrics["loss"]),
        "seeds": seeds,
        "held_out_tasks": num_tasks,
        "fine_tuning_step": step,
        "steps": list(row.steps),
        "losses": losses,
        "references": {name: float(f"{x:.4g}") for name, x in references.items()},
    }


def entries(result: dict[str, Any], which: str, shots: int) -> list[str]:
    """Returns a row of the table: published / mean (best 99 %, median) after each of `STEPS`."""
    published = ROWS[result["row"]].published.get(shots, (None,) * 3)
    if result["protocol"] != "paper":
        published = (None,) * 3
    known = dict(zip(STEPS, (None, *published), strict=True))
    names = ("mean", "best_99_percent", "median")
    columns = zip(*(result["losses"][which][str(shots)][name] for name in names), strict=True)
    cells = {}
    for step, column in zip(result["steps"], columns, strict=True):
        mean, best, median = ("∞" if x is None else f"{x:.2f}" for x in column)
        theirs = known.get(step)
        cells[step] = f"{'–' if theirs is None else f'{theirs:.2f}'} / {mean} ({best}, {median})"
    return [cells.get(step, "") for step in COLUMNS]


def label(result: dict[str, Any], which: str) -> str:
    """Returns what the method is called."""
    step = result["fine_tuning_step"]
    name = ROWS[result["row"]].says + ("" if step is None else f" by {step:g}")
    name += "" if result["protocol"] == "paper" else ", inner step 0.001"
    return name if which == AS_TRAINED else f"{name}, {which}"


def show(results: list[dict[str, Any]]) -> None:
    """Prints published figures and ours."""
    table = Table(title="Loss on sinusoids: published / ours, mean (best 99 %, median of tasks)")
    table.add_column("")
    for name in ("examples", *(f"{step} steps" for step in COLUMNS)):
        table.add_column(name, justify="right")
    for result in results:
        for which in result["losses"]:
            for shots in SHOTS:
                cells = entries(result, which, shots)
                table.add_row(label(result, which), str(shots), *cells)
    Console(width=160).print(table)


def main(
    rows: tuple[str, ...] | None = None,
    protocol: Protocol | None = None,
    seeds: int = 5,
    iterations: int | None = None,
    num_tasks: int = 2000,
    runs: Path = ROOT / "runs" / "maml_sinusoid",
    out: Path = OUT,
    again: bool = False,
) -> None:
    """Runs rows, writes their results and prints the table.

    Args:
        rows: Which ones; by default all.
        protocol: Only rows of this protocol.
        seeds: Training seeds of each row.
        iterations: Updates of each seed; None takes the row's.
        num_tasks: Held-out tasks that each seed meets.
        runs: Where the runs are kept.
        out: Where the results are written.
        again: Also rows whose results are there.
    """
    for name in rows or ():
        if name not in ROWS:
            raise SystemExit(f"rows has {name!r}; it must be of {', '.join(ROWS)}")
    out.mkdir(parents=True, exist_ok=True)
    done = []
    wanted: tuple[Protocol, ...] = ("paper", "code") if protocol is None else (protocol,)
    for kind in wanted:
        for name in rows or tuple(ROWS):
            if kind not in ROWS[name].protocols:
                continue
            path = out / f"{kind}-{name}.json"
            if again or not path.exists():
                result = measure_row(name, kind, seeds, iterations, num_tasks, runs)
                path.write_text(json.dumps(result, indent=1) + "\n")
            done.append(json.loads(path.read_text()))
    show(done)


if __name__ == "__main__":
    tyro.cli(main)
