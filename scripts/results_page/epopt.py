"""Experiments of EPOpt: the worst tenth of simulators, beside what it is compared with."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from reproduce import epopt_robustness

from results_page.experiment import Experiment, Protocol, Reading
from results_page.intervals import difference, over_seeds, shown

ANYWHERE = Path("runs")
PAPER = Protocol(
    {
        "algorithm.num_tasks": ("trajectories of an update", 240),
        "algorithm.network.sizes": ("layers", [64, 64]),
        "algorithm.baseline.kind": (
            "baseline",
            "linear-baseline",
        ),
        "algorithm.optimizer.kind": ("optimiser", "trpo"),
        "algorithm.optimizer.max_kl": ("bound on the KL divergence", 0.01),
        "algorithm.risk.fraction.num_updates": ("updates until ε falls", 100),
        "algorithm.risk.fraction.shape": ("its way to 0.1", "step"),
        "algorithm.discount": ("discount", 0.995),
        "algorithm.gae_lambda": ("λ", 1.0),
        "tasks.episode_length": ("steps of an episode", 1000),
    }
)
P10, MEAN = "p10_of_each_seed", "mean_of_each_seed"
NAMES = ("EPOpt(0.1)", "EPOpt(1)", "one simulator")


def read(cell: dict) -> Reading:
    """Reads the 10th percentile over simulators, the mean of seeds."""
    ours, *others = (over_seeds(cell["policies"][name][P10]) for name in NAMES)
    return Reading(ours, cell["seeds"], dict(zip(NAMES[1:], others, strict=True)))


def effect(cell: dict, which: str = P10) -> str:
    """Says what EPOpt(0.1) gains over the mean policy, and whether that shows."""
    gain = difference(*(cell["policies"][name][which] for name in NAMES[:2]))
    names = {True: "a gain", False: "not told apart from none"}
    return f"{shown(gain, 1)}: {'a loss' if gain.high < 0 else names[gain.low > 0]}"


def _experiment(cell: str, name: str, why: str, preset: tuple[str, str] | None) -> Experiment:
    return Experiment(
        method="epopt",
        name=name,
        file=f"epopt/{cell}",
        command=f"epopt_robustness.py --families {cell}",
        read=read,
        config=partial(epopt_robustness.configure, cell, "EPOpt(0.1)", ANYWHERE),
        score="10th percentile of the return",
        protocol=PAPER,
        not_comparable=why,
        preset=preset,
    )


_OTHER = "another system than the paper's hopper, whose figures have no numbers"
EXPERIMENTS = (
    _experiment("pendulum", "pendulums, the preset", _OTHER, ("epopt", "pendulum")),
    _experiment("cartpole", "cart-poles, the preset", _OTHER, ("epopt", "cartpole")),
    _experiment("wide-pendulum", "pendulums of a wide range", _OTHER, None),
    _experiment("wide-pendulum-defaults", "wide pendulums, defaults", _OTHER, None),
    _experiment("wide-cartpole", "cart-poles of a wide range", _OTHER, None),
    _experiment(
        "hopper",
        "hopper, cut down",
        "a fraction of the paper's steps; the paper's figures have no numbers",
        None,
    ),
    _experiment("hopper-published", "hopper", "the paper's figures have no numbers", None),
)
