"""Experiments of learners that replay what they have stored."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from reproduce import adaptation

from results_page.experiment import Experiment, total_reader

ANYWHERE = Path("runs")
SEEDS = 5


def _experiment(cell: str, name: str) -> Experiment:
    of = adaptation.CELLS[cell]
    return Experiment(
        method="sac",
        name=name,
        file=f"adaptation/{cell}",
        command=f"adaptation.py --cells {cell}",
        read=total_reader,
        config=partial(of.config, SEEDS, ANYWHERE),
        digits=1,
        preset=(of.method, of.family),
    )


EXPERIMENTS = (
    _experiment("sac-pendulum", "pendulums"),
    _experiment("sac-mountain-car", "mountain cars"),
)
