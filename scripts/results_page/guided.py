"""Experiments of guided meta-policy search, and of the actor-critic beside it."""

from __future__ import annotations

import math
from functools import partial

from reproduce import meta_policy_search

from jaxmeta import TrainConfig
from results_page.experiment import Experiment, Reading, bare
from results_page.intervals import crossed

STEPS = 2  # of training


def read(cell: dict, step: int = STEPS) -> Reading:
    """Reads the return after ``step`` gradient steps."""
    per_seed = [curve[step] for curve in cell["return_per_seed_and_steps"]]
    # Of the mean over seeds: it holds a share of what differs between seeds, which counts twice.
    of_tasks = cell["standard_error_over_tasks"][step]
    seeds = len(per_seed)
    mean = sum(per_seed) / seeds
    of_seeds = sum((x - mean) ** 2 for x in per_seed) / (seeds - 1) / seeds if seeds > 1 else 0.0
    ours = crossed(per_seed, math.hypot(of_tasks, math.sqrt(of_seeds)), cell["num_tasks"])
    others = {name: bare(value) for name, value in cell["references"].items()}
    return Reading(ours, seeds, others)


def _config(cell: str) -> TrainConfig:
    return meta_policy_search.CELLS[cell]


def _experiment(cell: str, name: str, family: str | None = None) -> Experiment:
    return Experiment(
        method="gmps",
        name=name,
        file=f"meta_policy_search/{cell}",
        command=f"meta_policy_search.py --cells {cell}",
        read=read,
        config=partial(_config, cell),
        score=f"return after {STEPS} steps",
        not_comparable="the paper has figures without numbers, of robots",
        preset=None if family is None else ("gmps", family),
    )


EXPERIMENTS = (
    _experiment("gmps-regression", "guided, regression to act in", "regression-control"),
    _experiment("gmps-point", "guided with DAgger, points", "point-navigation"),
    _experiment("actor-critic-regression", "actor-critic, regression to act in"),
    _experiment("actor-critic-point", "actor-critic, points"),
)
