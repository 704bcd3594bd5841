"""The section on speed: what the files of the benchmarks hold, beside what was aimed at."""

from __future__ import annotations

import json
from typing import NamedTuple

from results_page.experiment import RESULTS
from results_page.summary import table


class Aim(NamedTuple):
    """What was aimed at, of a row of a file: a ratio, or a number per second."""

    file: str
    what: str
    beside: str
    ratio: float = 0.0
    rate: float = 0.0


AIMS = (
    Aim("cpu-bandit-1024", "bernoulli-bandit, gru-128, 1,024 tasks", "plain JAX kernel", 1.5),
    Aim("cpu-cartpole", "cartpole, gru-128, 256 tasks", "recurrent PPO as published", 4.0),
    Aim("torch", "sinusoid", "torch.func", 8.0),
    Aim("torch", "sinusoid", "torch, task by task", 50.0),
    Aim("torch", "navigation", "torch, task by task", rate=6.0),
)
BENCHMARKS = {
    "cpu": "plain JAX kernel",
    "cpu-bandit-1024": "plain JAX kernel",
    "cpu-cartpole": "recurrent PPO as published",
}
"""Files of `benchmark.py`, and what they stand beside."""


def _aim(file: str, what: str, beside: str, rate: float, ratio: float) -> str:
    for aim in AIMS:
        if aim[:3] == (file, what, beside):
            reached = "reached" if ratio >= aim.ratio and rate >= aim.rate else "missed"
            wanted = f"{aim.ratio:g} times" if aim.ratio else f"{aim.rate:g} per second"
            return f"{wanted}: {reached}"
    return "–"


def speed_table() -> str:
    """Returns steps per second of training beside other programs."""
    rows = [
        ["what", "per second ↑", "beside", "per second", "ratio ↑", "aim", "share of the limit"]
    ]
    for file, beside in BENCHMARKS.items():
        for row in json.loads((RESULTS / "benchmark" / f"{file}.json").read_text())["rows"]:
            rate, other = (row["steps_per_s"][name] for name in ("update", "plain update"))
            what = f"{row['family']}, {row['memory']}, {row['num_tasks']:,} tasks"
            aim = _aim(file, what, beside, rate, rate / other)
            limit = f"{100 * row['share_of_limit']['update']:.0f} %"
            ratio = f"{rate / other:.2f}"
            rows.append([what, f"{rate:,} steps", beside, f"{other:,}", ratio, aim, limit])
    problems = json.loads((RESULTS / "benchmark" / "torch.json").read_text())["problems"]
    for name, problem in problems.items():
        for beside, ratio in problem["ratios"].items():
            rate, other = (problem["per_s"][key] for key in ("jaxmeta", beside))
            aim = _aim("torch", name, beside, rate, ratio)
            what = f"MAML, {name}"
            cells = [f"{rate:,.4g} iterations", beside, f"{other:,.3g}", f"{ratio:.1f}", aim, "–"]
            rows.append([what, *cells])
    return table(rows)
