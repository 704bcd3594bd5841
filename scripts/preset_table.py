"""The table of all presets in RESULTS.md: what each reached, and the command that says it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from reproduce import maml_navigation, maml_sinusoid, rl2_tables

from jaxmeta import presets

RESULTS = Path(__file__).parents[1] / "results"
Preset = tuple[str, str]  # method, family


class Row(NamedTuple):
    """What is known of a preset.

    Attributes:
        score: What was measured.
        seeds: Of training.
        result: The agent's score.
        floor: What acting at random has; losses: no step; EPOpt: training on one simulator.
        reference: What the best that is known has, and who; EPOpt: the mean of simulators.
        paper: The published figure.
        minutes: Of training all seeds; None where it was interrupted.
        device: Where.
    """

    score: str
    seeds: int
    result: str
    floor: str
    reference: str
    paper: str
    minutes: float | None
    device: str


def interval(numbers: dict, digits: int) -> str:
    """Returns a mean and its 95 % interval."""
    mean, low, high = (f"{numbers[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def spread(values: list[float], digits: int) -> str:
    """Returns the mean of seeds, and the lowest and the highest if there are several."""
    mean = f"{sum(values) / len(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def trial(cell: dict, paper: str = "–") -> Row:
    """Reads a cell of `adaptation.py`; ``paper`` has a published figure."""
    evaluation = cell["evaluation"]
    policies, optimum = evaluation["policies"], evaluation["optimal_total"]
    name, known = "exact optimum", optimum
    if known is None:
        name, known = "oracle", policies["oracle"]["total"]["mean"]
    return Row(
        "return of a trial",
        len(cell["per_seed_total"]),
        interval(policies[evaluation["agent"]]["total"], 2),
        f"{policies['random']['total']['mean']:.2f}",
        f"{known:.2f} ({name})",
        paper,
        cell["training_minutes_all_seeds"],
        cell["device"],
    )


def mdp(cell: dict) -> Row:
    """Reads a cell of `rl2_tables.py` on tabular MDPs."""
    baselines = {name: score["mean"] for name, score in cell["baselines"].items()}
    best = max(baselines, key=lambda name: baselines[name])
    return Row(
        "return of a trial",
        len(cell["per_seed"]),
        spread(cell["per_seed"], 1),
        f"{baselines['Random']:.1f}",
        f"{baselines[best]:.1f} ({best})",
        f"{rl2_tables.PAPER[cell['cell']][-1]}",
        cell["training_minutes_all_seeds"],
        cell["device"],
    )


def navigation(cell: dict) -> Row:
    """Reads a cell of `maml_navigation.py`, after one update."""
    policies = cell["evaluation"]["policies"]
    rows = policies[cell["evaluation"]["agent"]]["rows"]
    corners = cell["cell"].startswith("corners-")
    return Row(
        "return after one update",
        len(cell["per_seed"]),
        interval({key: rows[key][1] for key in ("mean", "low", "high")}, 2),
        f"{policies['random']['rows']['mean'][1]:.2f}",
        f"{policies['oracle']['rows']['mean'][1]:.2f} (oracle)",
        "–" if corners else f"{maml_navigation.PAPER[1]} (MAML)",
        cell["training_minutes_all_seeds"],
        cell["device"],
    )


def sinusoid(result: dict) -> Row:
    """Reads a row of `maml_sinusoid.py`: after one step on 10 examples, of Reptile after 32."""
    losses = result["losses"][maml_sinusoid.AS_TRAINED]["10"]
    step = 32 if result["row"].startswith("reptile") else 1
    published = maml_sinusoid.ROWS[result["row"]].published.get(10, ("–",))[0]
    return Row(
        f"loss after {step} step{'s' if step > 1 else ''}",
        result["seeds"],
        spread([seed[result["steps"].index(step)] for seed in losses["mean_per_seed"]], 3),
        f"{losses['mean'][0]:.2f} (no step)",
        "0 (oracle)",
        f"{published}",
        result["training_minutes_all_seeds"],
        result["device"],
    )


def robust(result: dict) -> Row:
    """Reads a family of `epopt_robustness.py`."""
    mine, average, single = list(result["policies"].values())[:3]
    return Row(
        "10th percentile of the return",
        result["seeds"],
        interval(mine["p10"] | {"mean": mine["p10"]["value"]}, 1),
        f"{single['p10']['value']:.1f} (one simulator)",
        f"{average['p10']['value']:.1f} (the mean of simulators)",
        "–",
        result["minutes"],
        result["device"],
    )


def guided(cell: dict) -> Row:
    """Reads a cell of `meta_policy_search.py`, after two steps."""
    return Row(
        "return after two steps",
        len(cell["return_per_seed_and_steps"]),
        spread([steps[2] for steps in cell["return_per_seed_and_steps"]], 1),
        f"{cell['references']['random']:.1f}",
        f"{cell['references']['oracle']:.1f} (oracle)",
        "–",
        cell["training_minutes_all_seeds"],
        cell["device"],
    )


class Source(NamedTuple):
    """Where a preset's figures are, and how they are made.

    Attributes:
        file: Under ``results/``, without its ending.
        read: Makes a row of it.
        command: What writes the file.
    """

    file: str
    read: Callable[[Any], Row]
    command: str


def _trial(cell: str, paper: str = "–") -> Source:
    read = partial(trial, paper=paper)
    return Source(f"adaptation/{cell}", read, f"adaptation.py --cells {cell}")


def _sine(row: str) -> Source:
    command = f"maml_sinusoid.py --rows {row} --protocol paper"
    return Source(f"maml_sinusoid/paper-{row}", sinusoid, command)


def _point(cell: str) -> Source:
    return Source(f"maml_navigation/{cell}", navigation, f"maml_navigation.py --cells {cell}")


def _robust(family: str) -> Source:
    return Source(f"epopt/{family}", robust, f"epopt_robustness.py --families {family}")


def _guided(cell: str) -> Source:
    return Source(f"meta_policy_search/{cell}", guided, f"meta_policy_search.py --cells {cell}")


SOURCES: dict[Preset, Source] = {
    ("rl2", "bernoulli-bandit"): _trial("bandit-5-10", f"{rl2_tables.PAPER['bandit:5:10'][-1]}"),
    ("rl2", "gaussian-bandit"): _trial("gaussian-bandit-5-10"),
    ("rl2", "informative-bandit"): _trial("informative-bandit"),
    ("rl2", "two-step"): _trial("two-step"),
    ("rl2", "grid-navigation"): _trial("grid"),
    ("rl2", "cartpole"): _trial("cartpole"),
    ("rl2", "tabular-mdp"): Source("rl2_tables/mdp-10", mdp, "rl2_tables.py --cells mdp:10"),
    ("epopt", "cartpole"): _robust("cartpole"),
    ("epopt", "pendulum"): _robust("pendulum"),
    ("maml", "sinusoid"): _sine("maml"),
    ("fomaml", "sinusoid"): _sine("first-order"),
    ("anil", "sinusoid"): _sine("anil"),
    ("meta-sgd", "sinusoid"): _sine("meta-sgd"),
    ("reptile", "sinusoid"): _sine("reptile"),
    ("pretraining", "sinusoid"): _sine("pretrained"),
    ("maml", "point-navigation"): _point("maml"),
    ("maml", "bernoulli-bandit"): _trial("maml-bandit-5-10", "6.5"),
    ("promp", "point-navigation"): _point("promp"),
    ("promp", "point-navigation-corners"): _point("corners-promp"),
    ("e-maml", "point-navigation-corners"): _point("corners-e-maml"),
    ("gmps", "regression-control"): _guided("gmps-regression"),
    ("gmps", "point-navigation"): _guided("gmps-point"),
}


def describe_presets() -> str:
    """Returns a section with a row for every preset, also for those of which nothing is known."""
    lines = [
        "### Every preset",
        "",
        "On held-out tasks, with its 95 % interval over seeds and tasks, or in round brackets the "
        "lowest and the highest seed. Minutes are of all seeds together, where a run was not "
        "interrupted. Commands begin with `python scripts/reproduce/`.",
        "",
        "| preset | score | seeds | result | floor | reference | paper | minutes | command |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method, family in presets.PRESETS:
        source = SOURCES.get((method, family))
        path = None if source is None else RESULTS / f"{source.file}.json"
        if source is None or path is None or not path.exists():
            lines.append(f"| `{method} {family}` | not kept as a file |{' – |' * 7}")
            continue
        row = source.read(json.loads(path.read_text()))
        minutes = "–" if row.minutes is None else f"{row.minutes:.0f}"
        cells = (row.score, row.seeds, row.result, row.floor, row.reference, row.paper)
        lines.append(
            f"| `{method} {family}` | {' | '.join(map(str, cells))} | {minutes}, {row.device} | "
            f"`{source.command}` |"
        )
    return "\n".join(lines)
