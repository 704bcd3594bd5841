"""Experiments of RL²."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from reproduce import adaptation, rl2_tables

from results_page.experiment import (
    Experiment,
    Protocol,
    Published,
    Reading,
    bare,
    total_reader,
)
from results_page.intervals import crossed, over_tasks

ANYWHERE = Path("runs")  # a configuration wants a folder; it is not compared
SEEDS = 5
PAPER = Protocol(
    {
        "algorithm.memory.kind": ("memory", "gru"),
        "algorithm.memory.hidden_size": ("units of the memory", 256),
        "algorithm.value_network": ("value network", "separate"),
        "algorithm.optimizer.clip": ("clip", 0.1),
        "algorithm.optimizer.epochs": ("epochs", 5),
        "algorithm.optimizer.max_kl": ("bound on the KL divergence", 0.01),
        "algorithm.learning_rate": ("learning rate", 0.001),
        "algorithm.entropy_coef": ("entropy bonus", 0.0),
        "algorithm.discount": ("discount", 0.99),
        "algorithm.gae_lambda": ("λ", 0.3),
        "algorithm.num_tasks": ("trials of an update", "250,000 steps"),
    },
    notes=(
        "tanh units without weight normalisation (paper: ReLU with it)",
        "no line search on the KL divergence (paper: with it)",
        "the mean of all seeds (paper: the best of five seeds)",
        "20,000 held-out tasks a seed (paper: 1,000, whose own noise is not in the verdict)",
    ),
)
TABLE_TASKS = 1000  # that the classical columns meet where the file does not say so


def table_reader(cell: dict) -> Reading:
    """Reads a cell of `rl2_tables.py`; in older files classical columns met other, fewer tasks."""
    ours = crossed(cell["per_seed"], cell["rl2"]["standard_error"], cell["held_out_tasks"])
    tasks = cell.get("baseline_tasks", TABLE_TASKS)
    others = {
        name: over_tasks(score["mean"], score["standard_error"], tasks)
        for name, score in cell["baselines"].items()
    }
    if cell["optimum"] is not None:
        others["exact optimum"] = bare(cell["optimum"])
    return Reading(ours, len(cell["per_seed"]), others, cell.get("paired", False))


def _sizes(name: str) -> str:
    kind, *numbers = name.split(":")
    return (
        f"{numbers[0]} arms, {numbers[1]} pulls" if kind == "bandit" else f"{numbers[0]} episodes"
    )


def _cell(name: str) -> Experiment:
    """Returns a cell of the paper's tables."""
    kind = "bandit" if name.startswith("bandit") else "MDP"
    paper = rl2_tables.PAPER[name][-1]
    return Experiment(
        method="rl2",
        name=f"{kind}, {_sizes(name)}",
        file=f"rl2_tables/{name.replace(':', '-')}",
        command=f"rl2_tables.py --cells {name}",
        read=table_reader,
        config=partial(rl2_tables.Cell.of(name).config, "cpu", SEEDS, None, ANYWHERE),
        digits=2 if paper < 10 else 1,
        published=Published(paper, 1),
        protocol=PAPER,
        preset=("rl2", "tabular-mdp") if name == "mdp:10" else None,
    )


def _adaptation(cell: str, name: str, digits: int = 2, paper: str | None = None) -> Experiment:
    """Returns a cell of `adaptation.py`; ``paper`` is the cell of the paper's table."""
    of = adaptation.CELLS[cell]
    return Experiment(
        method="rl2",
        name=name,
        file=f"adaptation/{cell}",
        command=f"adaptation.py --cells {cell}",
        read=total_reader,
        config=partial(of.config, SEEDS, ANYWHERE),
        digits=digits,
        published=None if paper is None else Published(rl2_tables.PAPER[paper][-1], 1),
        protocol=None if paper is None else PAPER,
        preset=None if cell == "bandit-10-10" else ("rl2", of.family),
    )


ADAPTED = {"bandit:5:10": "bandit-5-10", "bandit:10:10": "bandit-10-10"}
"""Cells of the paper that `adaptation.py` measures beside references on the same tasks."""

EXPERIMENTS = (
    *(
        _adaptation(ADAPTED[name], f"bandit, {_sizes(name)}", paper=name)
        if name in ADAPTED
        else _cell(name)
        for name in rl2_tables.PAPER
    ),
    _adaptation("gaussian-bandit-5-10", "Gaussian bandit, 5 arms, 10 pulls"),
    _adaptation("informative-bandit", "bandit with an informative arm"),
    _adaptation("two-step", "two-step task"),
    _adaptation("grid", "grid navigation"),
    _adaptation("cartpole", "cart-poles of random physics", digits=1),
    _adaptation("regression-control", "curves from rewards alone", digits=1),
)
