"""Experiments of MAML and its kin on sinusoids."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from reproduce import maml_sinusoid

from results_page.experiment import Experiment, Protocol, Published, Reading, bare
from results_page.intervals import crossed, over_seeds

ANYWHERE = Path("runs")
SEEDS = 5
_TESTED = "2,000 held-out tasks a seed (paper: 600)"
_MAML = {
    "algorithm.num_tasks": ("tasks of an update", 25),
    "algorithm.shots": ("examples", 10),
    "algorithm.network.sizes": ("layers", [40, 40]),
    "algorithm.network.activation": ("units", "relu"),
    "algorithm.inner.optimizer.learning_rate": ("inner step", 0.01),
    "algorithm.learning_rate": ("learning rate", 0.001),
}
_SCALED = "weights scaled by the inputs of a unit (paper: a standard deviation of 0.01)"
PAPER = Protocol(_MAML, (_SCALED, _TESTED))
RECOMPUTED = Protocol(_MAML)
META_SGD = Protocol(
    {"algorithm.shots": ("examples", 5)},
    ("first step sizes as in `MetaSGD()` (paper: uniform from 0.005 to 0.1)",),
)
REPTILE = Protocol(
    {
        "algorithm.num_tasks": ("tasks of an update", 1),
        "algorithm.inner.steps": ("inner steps", 5),
        "algorithm.inner.minibatches": ("minibatches of a task's points, of 10 each", 5),
        "tasks.points": ("points of a task", 50),
    }
)


def read(cell: dict, shots: int, step: int) -> Reading:
    """Reads the loss after ``step`` gradient steps on ``shots`` examples."""
    losses = cell["losses"][maml_sinusoid.AS_TRAINED][str(shots)]
    column = cell["steps"].index(step)
    per_seed = [math.inf if x[column] is None else x[column] for x in losses["mean_per_seed"]]
    error = losses.get("standard_error")  # older files have none
    if error is None or error[column] is None:
        ours = over_seeds(per_seed)
    else:
        ours = crossed(per_seed, error[column], cell["held_out_tasks"])
    before = over_seeds([seed[0] for seed in losses["mean_per_seed"]])
    others = {"no step": before, "no examples": bare(cell["references"]["mean"])}
    return Reading(ours, cell["seeds"], others)


def _experiment(
    row: str,
    shots: int,
    published: Published | None = None,
    protocol: Protocol | None = None,
    step: int = 1,
    preset: str | None = None,
    **more: str,
) -> Experiment:
    says = maml_sinusoid.ROWS[row].says
    return Experiment(
        method="maml",
        name=f"{says}, {shots} examples",
        file=f"maml_sinusoid/paper-{row}",
        command=f"maml_sinusoid.py --rows {row} --protocol paper",
        read=partial(read, shots=shots, step=step),
        config=partial(maml_sinusoid.configure, row, "paper", SEEDS, None, ANYWHERE),
        score=f"loss after {step} step{'s' if step > 1 else ''}",
        higher_is_better=False,
        digits=2,
        published=published,
        protocol=protocol,
        preset=None if preset is None else (preset, "sinusoid"),
        **more,
    )


_AGAIN = "recomputed by another program"
EXPERIMENTS = (
    _experiment("maml", 5, Published(0.67, 2), PAPER),
    _experiment("maml", 10, Published(0.35, 2, _AGAIN), RECOMPUTED, preset="maml"),
    _experiment("maml", 20, Published(0.22, 2, _AGAIN), RECOMPUTED),
    _experiment("first-order", 10, Published(0.41, 2, _AGAIN), RECOMPUTED, preset="fomaml"),
    _experiment("first-order-falling", 10, Published(0.41, 2, _AGAIN), RECOMPUTED),
    _experiment("anil", 10, preset="anil"),
    _experiment("meta-sgd", 10, preset="meta-sgd"),
    _experiment("meta-sgd-5", 5, Published(0.90, 2), META_SGD),
    _experiment("meta-sgd-5", 10, Published(0.63, 2), META_SGD),
    _experiment("meta-sgd-5", 20, Published(0.50, 2), META_SGD),
    _experiment("pretrained", 5, Published(2.41, 2), PAPER),
    _experiment("pretrained", 10, Published(2.53, 2, _AGAIN), RECOMPUTED, preset="pretraining"),
    *(
        _experiment(
            row,
            10,
            protocol=REPTILE,
            step=32,
            preset="reptile" if row == "reptile" else None,
            not_comparable="the paper has a figure without numbers",
        )
        for row in maml_sinusoid.ROWS
        if row.startswith("reptile")
    ),
)
