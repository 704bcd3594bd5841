"""Tables 1 and 2 of the RL² paper, cell by cell: the paper's figures beside ours.

    python scripts/reproduce/rl2_tables.py --cells bandit:5:10 mdp:10

``bandit:K:N`` has K arms and N pulls, ``mdp:N`` N episodes. Each cell writes
``results/rl2_tables/CELL.json``; cells that are there already are only printed, unless
``--again``. An interrupted cell goes on from its checkpoint. Cells and budgets fit two CPU cores
by default (up to half an hour a cell); ``--scale gpu`` takes all cells and larger batches.
Then ``python scripts/render_results.py`` puts the tables into RESULTS.md.

Reference: Duan et al. 2016, arXiv 1611.02779.
Differs from the paper: classical algorithms are tuned on tasks of their own; learned agents are
the average of all seeds instead of the best.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import jaxmeta
from jaxmeta import GRU, PPO, FastWeights, Recall, Schedule
from jaxmeta.catalog import serialization
from jaxmeta.evaluation import intervals
from jaxmeta.evaluation.candidates import BaselineScore, play_baselines
from jaxmeta.training import recording
from jaxmeta_envs import BernoulliBandit, TabularMDP, TaskFamily

ROOT = Path(__file__).parents[2]
OUT = ROOT / "results" / "rl2_tables"
FIRST_SEED = 1000  # settings were tuned on seeds 0 and 100

BANDIT_COLUMNS = {
    "random": "Random",
    "gittins": "Gittins",
    "thompson": "TS",
    "optimistic-thompson": "OTS",
    "ucb1": "UCB1",
    "epsilon-greedy (first of ties)": "ε-Greedy",
    "greedy (first of ties)": "Greedy",
    "greedy": "Greedy, random ties",
}
MDP_COLUMNS = {
    "random": "Random",
    "psrl (mu0=0)": "PSRL",
    "opsrl (mu0=0)": "OPSRL",
    "ucrl2 (no prior)": "UCRL2",
    "beb (value, mu0=0)": "BEB",
    "epsilon-greedy (no prior)": "ε-Greedy",
    "greedy (no prior)": "Greedy",
    "greedy": "Greedy, true prior",
    "beb": "BEB as published, true prior",
}
PAPER_COLUMNS = {
    "bandit": ("Random", "Gittins", "TS", "OTS", "UCB1", "ε-Greedy", "Greedy", "RL²"),
    "mdp": ("Random", "PSRL", "OPSRL", "UCRL2", "BEB", "ε-Greedy", "Greedy", "RL²"),
}
PAPER = {
    "bandit:5:10": (5.0, 6.6, 5.7, 6.5, 6.7, 6.6, 6.6, 6.7),
    "bandit:10:10": (5.0, 6.6, 5.5, 6.2, 6.7, 6.6, 6.6, 6.7),
    "bandit:50:10": (5.1, 6.5, 5.2, 5.5, 6.6, 6.5, 6.5, 6.8),
    "bandit:5:100": (49.9, 78.3, 74.7, 77.9, 78.0, 75.4, 74.8, 78.7),
    "bandit:10:100": (49.9, 82.8, 76.7, 81.4, 82.4, 77.4, 77.1, 83.5),
    "bandit:50:100": (49.8, 85.2, 64.5, 67.7, 84.3, 78.3, 78.0, 84.9),
    "bandit:5:500": (249.8, 405.8, 402.0, 406.7, 405.8, 388.2, 380.6, 401.6),
    "bandit:10:500": (249.0, 437.8, 429.5, 438.9, 437.1, 408.0, 395.0, 432.5),
    "bandit:50:500": (249.6, 463.7, 427.2, 437.6, 457.6, 413.6, 402.8, 438.9),
    "mdp:10": (100.1, 138.1, 144.1, 146.6, 150.2, 132.8, 134.8, 156.2),
    "mdp:25": (250.2, 408.8, 425.2, 424.1, 427.8, 377.3, 368.8, 445.7),
    "mdp:50": (499.7, 904.4, 930.7, 918.9, 917.8, 823.3, 769.3, 936.1),
    "mdp:75": (749.9, 1417.1, 1449.2, 1427.6, 1422.6, 1293.9, 1172.9, 1428.8),
    "mdp:100": (999.4, 1939.5, 1973.9, 1942.1, 1935.1, 1778.2, 1578.5, 1913.7),
}
CPU_CELLS = ("bandit:5:10", "bandit:10:10", "bandit:5:100", "bandit:10:100", "mdp:10", "mdp:25")
"""What two cores learn in reasonable time."""

NUM_TASKS = {"bandit": 20_000, "mdp": 4000}
"""Held-out tasks of all columns; what plans for every draw of a process is slow."""

Scale = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        kind: ``bandit`` or ``mdp``.
        family: Its tasks.
        episodes: N.
    """

    kind: str
    family: TaskFamily
    episodes: int

    @staticmethod
    def of(name: str) -> Cell:
        """Reads the name of a cell."""
        if name not in PAPER:
            raise SystemExit(f"cells has {name!r}; it must be of {', '.join(PAPER)}")
        kind, *numbers = name.split(":")
        sizes = [int(number) for number in numbers]
        if kind == "bandit":
            return Cell(kind, BernoulliBandit(*sizes), sizes[1])
        return Cell(kind, TabularMDP(num_episodes=sizes[0]), sizes[0])

    def config(
        self, scale: Scale, seeds: int, steps: int | None, run_dir: Path
    ) -> jaxmeta.TrainConfig:
        """Returns how the cell is trained; ``steps`` in place of the scale's if given."""
        name = "bernoulli-bandit" if self.kind == "bandit" else "tabular-mdp"
        preset = jaxmeta.preset("rl2", name)
        agent: Any = preset.algorithm
        budget = preset.total_env_steps
        if isinstance(self.family, BernoulliBandit) and self.episodes > 10:
            arms, pulls = self.family.num_arms, self.episodes
            agent, budget = LONG_BANDITS, 15_000_000
            if pulls <= 100 and arms <= 10:
                budget = 10_000_000
            if pulls <= 100 and arms <= 5:
                agent, budget = FEW_ARMS, 30_000_000
        if self.kind == "mdp" and self.episodes > 10:
            agent, budget = LONG_MDPS, 9_000_000
        if scale == "gpu":
            # A step costs a GPU its latency, however many tasks take it.
            agent = dataclasses.replace(agent, num_tasks=16 * agent.num_tasks)
            budget = 16 * budget
        return dataclasses.replace(
            preset,
            algorithm=agent,
            tasks=self.family,
            total_env_steps=steps or budget,
            seed=FIRST_SEED,
            num_seeds=seeds,
            run_dir=str(run_dir),
        )


# Associative memory keeps arms apart, which a gated unit must first learn to: with 50 arms a tuning
# seed of 4 million steps has 81.0 with it, 66.8 with GRU(64) and half the learning rate.
LONG_BANDITS = jaxmeta.RL2(
    optimizer=PPO(),
    # Inputs are one-hot, rewards of the order of 1.
    normalize_observations=False,
    normalize_rewards=False,
    num_tasks=64,
    memory=FastWeights(64),
    learning_rate=Schedule(2e-3, 0.0),
    entropy_coef=Schedule(0.05, 0.0),
    discount=Schedule(0.9, 1.0),
    gae_lambda=0.8,
)
# Five arms a gated unit keeps apart as well, given time: 78.0 after 100 pulls, with fast weights
# and 10 million steps 77.7 (five seeds each).
FEW_ARMS = dataclasses.replace(LONG_BANDITS, memory=GRU(64), learning_rate=Schedule(1e-3, 0.0))
# A λ of 0 keeps the noise of later rewards out of the advantages, and an entropy of 0.2 to 0.5 nats
# to the end keeps the policy from settling before it knows enough.
LONG_MDPS = jaxmeta.RL2(
    optimizer=PPO(),
    # Inputs are one-hot, rewards of the order of 1.
    normalize_observations=False,
    normalize_rewards=False,
    num_tasks=16,
    memory=Recall(64, num_heads=5, value_size=7, hops=2),
    learning_rate=Schedule(2e-3, 0.0),
    entropy_coef=Schedule(0.1, 0.04),
    discount=Schedule(0.0, 0.95, num_updates=400),
    gae_lambda=0.0,
    value_lambda=0.95,
    value_decay=0.97,
)


def train_cell(
    name: str,
    scale: Scale,
    seeds: int,
    steps: int | None,
    runs: Path,
    num_tasks: int,
    tuning_tasks: int,
) -> dict:
    """Trains and measures the agents of a cell, and plays the classical algorithms.

    All of them meet the same held-out tasks with the same luck: those of `jaxmeta.evaluate`.
    """
    cell, run_dir = Cell.of(name), runs / name.replace(":", "-")
    config = cell.config(scale, seeds, steps, run_dir)
    result, minutes = recording.finish(config)
    returns = jaxmeta.evaluate(result, num_tasks=num_tasks, references=False).returns
    totals = returns.sum(2, dtype=np.float64)
    columns = BANDIT_COLUMNS if cell.kind == "bandit" else MDP_COLUMNS
    # Settings of the samplers matter little and cost most; see `play_baselines`.
    slow = [n for n in columns if n.startswith(("opsrl", "optimistic"))]
    fast = [n for n in columns if n not in slow]
    sizes: dict[str, Any] = {"num_tasks": num_tasks, "num_tuning_tasks": tuning_tasks}
    scores = play_baselines(cell.family, cell.episodes, only=fast, **sizes)
    sizes["num_tuning_tasks"] = min(tuning_tasks, 100)
    scores |= play_baselines(cell.family, cell.episodes, only=slow, **sizes)
    optimum = cell.family.optimal_returns(cell.episodes)
    return {
        "cell": name,
        "config": serialization.to_dict(dataclasses.replace(result.config, run_dir=None)),
        "scale": scale,
        **recording.provenance(),
        "training_minutes_all_seeds": minutes,
        "env_steps_per_seed": result.env_steps,
        "held_out_tasks": num_tasks,
        "baseline_tasks": num_tasks,
        "per_episode": returns.mean((0, 1), dtype=np.float64).round(4).tolist(),
        "per_seed": totals.mean(1).tolist(),
        "rl2": {
            "mean": float(totals.mean()),
            "standard_error": float(intervals.standard_error(totals)),
            **dict(zip(("low", "high"), map(float, intervals.mean_interval(totals)), strict=True)),
        },
        "optimum": None if optimum is None else float(np.sum(optimum)),
        "paired": True,
        "baselines": {columns[n]: beside(totals, scores[n]) for n in columns},
    }


def beside(totals: np.ndarray, score: BaselineScore) -> dict[str, Any]:
    """Describes a classical algorithm and by how much agents ``[seeds, tasks]`` are better.

    The difference is task by task, so that the tasks' own spread is not in its error.
    """
    difference = totals - score.totals
    return {
        "mean": score.mean,
        "standard_error": score.standard_error,
        "setting": score.setting,
        "rl2_better_by": float(difference.mean()),
        "rl2_better_by_standard_error": float(intervals.standard_error(difference)),
    }


def tasks_met(cell: dict) -> str:
    """Returns a sentence on which tasks the columns of a cell met."""
    number = f"{cell['held_out_tasks']:,}"
    if cell.get("paired", False):
        return f"{cell['cell']}: all columns met the same {number} held-out tasks."
    return (
        f"{cell['cell']}: RL² met {number} held-out tasks, the classical columns others and fewer "
        "of them, so they are not paired."
    )


def show(cells: list[dict]) -> None:
    """Prints the paper's figures and ours."""
    for kind, number in (("bandit", 1), ("mdp", 2)):
        chosen = [cell for cell in cells if cell["cell"].startswith(kind)]
        if not chosen:
            continue
        table = Table(title=f"Table {number} of the RL² paper: total reward, paper | ours ±95 %")
        table.add_column("")
        for cell in chosen:
            table.add_column(cell["cell"], justify="right")
        names = [*chosen[0]["baselines"], "RL²", "exact optimum"]
        for name in names:
            table.add_row(name, *[entry(cell, name) for cell in chosen])
        table.caption = "\n".join(map(tasks_met, chosen))
        Console(width=100 if len(chosen) < 4 else 160).print(table)


def entry(cell: dict, name: str) -> str:
    """Returns one entry of the table."""
    if name == "exact optimum":
        return "–" if cell["optimum"] is None else f"{cell['optimum']:.3f}"
    kind = cell["cell"].split(":")[0]
    paper = dict(zip(PAPER_COLUMNS[kind], PAPER[cell["cell"]], strict=True)).get(name)
    score = cell["rl2"] if name == "RL²" else cell["baselines"][name]
    digits = 2 if score["mean"] < 50 else 1
    ours = f"{score['mean']:.{digits}f} ± {half_width(score):.{digits}f}"
    return f"{'–' if paper is None else paper} | {ours}"


def half_width(score: dict[str, float]) -> float:
    """Returns half the 95 % interval: over seeds and tasks, of a baseline over many tasks."""
    if "low" in score:
        return (score["high"] - score["low"]) / 2
    return 1.96 * score["standard_error"]


def main(
    cells: tuple[str, ...] | None = None,
    scale: Scale = "cpu",
    seeds: int = 5,
    steps: int | None = None,
    num_tasks: int | None = None,
    baseline_tasks: int = 1000,
    runs: Path = ROOT / "runs" / "rl2_tables",
    out: Path = OUT,
    again: bool = False,
) -> None:
    """Runs cells, writes their results and prints the tables.

    Args:
        cells: Which ones; by default those that the scale can learn.
        scale: Size of batches and budgets.
        seeds: Training seeds of each cell.
        steps: Environment steps of each seed; None takes the scale's.
        num_tasks: Held-out tasks that each seed and the classical algorithms meet; None takes
            `NUM_TASKS`.
        baseline_tasks: Tasks that the classical algorithms are tuned on.
        runs: Where the runs are kept.
        out: Where the results are written.
        again: Also cells whose results are there.
    """
    names = cells or (CPU_CELLS if scale == "cpu" else tuple(PAPER))
    for name in names:
        Cell.of(name)
    out.mkdir(parents=True, exist_ok=True)
    done = []
    for name in names:
        path = out / f"{name.replace(':', '-')}.json"
        if again or not path.exists():
            tasks = num_tasks or NUM_TASKS[Cell.of(name).kind]
            cell = train_cell(name, scale, seeds, steps, runs, tasks, baseline_tasks)
            path.write_text(json.dumps(cell, indent=1) + "\n")
        done.append(json.loads(path.read_text()))
        show(done[-1:])
    if len(done) > 1:
        show(done)


if __name__ == "__main__":
    tyro.cli(main)
