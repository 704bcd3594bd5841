"""Experiments of MAML and its kin on policies."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from reproduce import adaptation, locomotion, maml_navigation

from results_page.experiment import Experiment, Protocol, Published, curve_reader, total_reader

ANYWHERE = Path("runs")
SEEDS = 5
_SETTINGS = {
    "algorithm.num_tasks": ("tasks of an update", 20),
    "algorithm.shots": ("episodes of a step", 20),
    "algorithm.network.sizes": ("layers", [100, 100]),
    "algorithm.network.activation": ("units", "relu"),
    "algorithm.initial_std": ("first standard deviation", 1.0),
    "algorithm.inner.optimizer.learning_rate": ("inner step", 0.1),
    "algorithm.inner.extra_step_factor": ("factor of later steps", 0.5),
    "algorithm.estimator.kind": ("estimator", "log-likelihood"),
    "algorithm.optimizer.kind": ("outer optimiser", "trpo"),
    "algorithm.optimizer.max_kl": ("bound on the KL divergence", 0.01),
    "algorithm.discount": ("discount", 0.99),
    "algorithm.gae_lambda": ("λ", 1.0),
}
NAVIGATION = Protocol(
    _SETTINGS,
    (
        "80 updates, the last parameters (paper: up to 500, the best of them)",
        "200 held-out goals (paper: 40)",
        "exact products with the Hessian (paper's code: finite differences)",
    ),
)
LOCOMOTION = Protocol(
    _SETTINGS
    | {
        "algorithm.num_tasks": ("tasks of an update", 40),
        "tasks.episode_length": ("steps of an episode", 200),
    },
    ("Gymnasium's body on MuJoCo MJX (paper: rllab's)",),
)
PROMP = Protocol(
    {
        "algorithm.num_tasks": ("tasks of an update", 40),
        "algorithm.network.sizes": ("layers", [64, 64]),
        "algorithm.network.activation": ("units", "tanh"),
        "algorithm.inner.optimizer.learning_rate": ("inner step", 0.1),
        "algorithm.inner.steps": ("inner steps", 3),
        "algorithm.learning_rate": ("learning rate", 0.001),
    }
)
REFERENCES = ("random", "still", "search", "pacing", "trilateration", "oracle")
_FIGURE = "the paper has figures without numbers"


def _navigation(
    cell: str,
    name: str,
    update: int,
    published: Published | None,
    protocol: Protocol | None,
    why: str = "",
    is_preset: bool = True,
) -> Experiment:
    of = maml_navigation.CELLS[cell]
    return Experiment(
        method="policies",
        name=name,
        file=f"maml_navigation/{cell}",
        command=f"maml_navigation.py --cells {cell}",
        read=curve_reader(update, REFERENCES),
        config=partial(of.config, SEEDS, ANYWHERE),
        score=f"return after {update} update{'s' if update > 1 else ''}",
        digits=2,
        published=published,
        protocol=protocol,
        not_comparable=why,
        preset=(of.method, of.family) if is_preset and update == 1 else None,
    )


def _locomotion(family: str, size: locomotion.Size, published: Published) -> Experiment:
    updates = 500 if size == "published" else 100
    why = "" if size == "published" else "a fraction of the paper's steps, shorter episodes"
    cut = "" if size == "published" else ", cut down"
    command = f"locomotion.py --families {family}"
    return Experiment(
        method="policies",
        name=f"MAML, {family.replace('-', ' ')}{cut}",
        file=f"locomotion/{family}-{size}",
        command=command + (" --size published" if size == "published" else ""),
        read=curve_reader(1, REFERENCES),
        config=partial(locomotion.configure, family, size, updates, 2, ANYWHERE),
        score="return after 1 update",
        published=published,
        protocol=LOCOMOTION,
        not_comparable=why,
    )


def _bandit() -> Experiment:
    return Experiment(
        method="policies",
        name="MAML, bandit of 5 arms and 10 pulls",
        file="adaptation/maml-bandit-5-10",
        command="adaptation.py --cells maml-bandit-5-10",
        read=total_reader,
        config=partial(adaptation.CELLS["maml-bandit-5-10"].config, SEEDS, ANYWHERE),
        digits=2,
        published=Published(6.5, 1, "SNAIL's paper"),
        protocol=Protocol({}, ("the settings of the published run are not known to us",)),
        preset=("maml", "bernoulli-bandit"),
    )


_CORNERS = (
    ("corners-promp", "ProMP, corners", True),
    ("corners-e-maml", "E-MAML, corners", True),
    ("corners-log-likelihood", "ProMP without sampling terms, corners", False),
)
_CHEETAH = {
    "half-cheetah-direction": Published(293.19, 2),
    "half-cheetah-velocity": Published(-78.6, 1),
}
EXPERIMENTS = (
    *(
        _navigation(
            "maml",
            f"MAML, points, {update} update{'s' if update > 1 else ''}",
            update,
            Published(maml_navigation.PAPER[update], 2),
            NAVIGATION,
        )
        for update in (1, 2)
    ),
    _navigation("promp", "ProMP, points", 1, None, None),
    *(_navigation(c, name, 1, None, PROMP, _FIGURE, tuned) for c, name, tuned in _CORNERS),
    _bandit(),
    *(_locomotion(f, "reduced", paper) for f, paper in _CHEETAH.items()),
    *(_locomotion(f, "published", paper) for f, paper in _CHEETAH.items()),
)
