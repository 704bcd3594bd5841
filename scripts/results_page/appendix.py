"""The long tables of the agents, in docs/results_appendix.md."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from reproduce import epopt_robustness, maml_navigation, maml_sinusoid, rl2_tables

from results_page import epopt, rl2
from results_page.experiment import RESULTS, curve_reader
from results_page.intervals import MARKS, crossed, over_seeds, over_tasks, shown
from results_page.summary import many, table


def read_all(folder: str, names: Sequence[str]) -> list[dict]:
    """Returns the files of a folder that are there, in this order."""
    paths = [RESULTS / folder / f"{name}.json" for name in names]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def how(cell: dict, seeds: int, minutes: float | None, tasks: int) -> str:
    """Says how long something was trained, where, and on how many tasks it was measured."""
    time = "" if minutes is None else f" in {minutes:.1f} minutes for all seeds together"
    length = cell.get("env_steps_per_seed")
    steps = "" if length is None else f" of {length:,} environment steps"
    return (
        f"{many(seeds, 'seed')}{steps}{time} ({cell['device']}, jax "
        f"{cell['jax']}); {tasks:,} held-out tasks"
    )


def paper_table(kind: str) -> str:
    """Returns one of the RL² paper's tables with ours in it; cells without a file say so."""
    names = [name for name in rl2_tables.PAPER if name.startswith(kind)]
    cells = dict.fromkeys(names)
    for cell in read_all("rl2_tables", [name.replace(":", "-") for name in names]):
        cells[cell["cell"]] = cell
    published = rl2_tables.PAPER_COLUMNS[kind]
    columns = rl2_tables.BANDIT_COLUMNS if kind == "bandit" else rl2_tables.MDP_COLUMNS
    head = [*columns.values(), "RL²", "exact optimum"]
    rows = [["", *names]]
    for name in head:
        row = [f"**{name}**" if name == "RL²" else name]
        for cell_name, cell in cells.items():
            theirs = dict(zip(published, rl2_tables.PAPER[cell_name], strict=True)).get(name)
            row.append(f"{'–' if theirs is None else theirs} / {_table_entry(cell, name)}")
        rows.append(row)
    lines = [table(rows), ""]
    for cell in filter(None, cells.values()):
        seeds = ", ".join(f"{x:.2f}" for x in cell["per_seed"])
        minutes, tasks = cell["training_minutes_all_seeds"], cell["held_out_tasks"]
        told = how(cell, len(cell["per_seed"]), minutes, tasks)
        others = cell.get("baseline_tasks", rl2.TABLE_TASKS)
        lines.append(f"- {cell['cell']}: {told}, classical {others:,}; per seed {seeds}.")
    return "\n".join(lines)


def _table_entry(cell: dict | None, name: str) -> str:
    if cell is None:
        return "not run"
    reading = rl2.table_reader(cell)
    estimate = reading.ours if name == "RL²" else reading.others.get(name)
    if estimate is None:
        return "–"
    digits = 2 if rl2_tables.PAPER[cell["cell"]][-1] < 10 else 1
    if estimate.low == estimate.high:
        return f"{estimate.value:.3f}"
    return shown(estimate, digits).removesuffix(MARKS["tasks"])


def adaptation_table(cell: dict) -> str:
    """Returns the policies of a cell of `adaptation.py`, best first."""
    evaluation = cell["evaluation"]
    tasks, agent = evaluation["num_tasks"], evaluation["agent"]
    head = ["policy", "total ↑", "first episode", "second", "last", "IQM", "CVaR 10 %"]
    rows = [head]
    policies = evaluation["policies"]
    for name in sorted(policies, key=lambda name: -policies[name]["total"]["mean"]):
        total, episodes = policies[name]["total"], policies[name]["rows"]["mean"]
        if name == agent:
            per_seed = [sum(curve) for curve in evaluation["curve_of_each_seed"]]
            estimate = crossed(per_seed, total["stderr"], tasks)
        else:
            estimate = over_tasks(total["mean"], total["stderr"], tasks)
        second = f"{episodes[1]:.3f}" if len(episodes) > 1 else "–"
        ends = [f"{episodes[0]:.3f}", second, f"{episodes[-1]:.3f}"]
        tail = [f"{total['iqm']:.2f}", f"{total['cvar10']:.2f}"]
        rows.append([f"**{name}**" if name == agent else name, shown(estimate, 3), *ends, *tail])
    seeds = ", ".join(f"{x:.3f}" for x in cell["per_seed_total"])
    told = how(cell, len(cell["per_seed_total"]), cell["training_minutes_all_seeds"], tasks)
    lines = [f"#### {cell['cell']}", "", f"{told}. Per seed: {seeds}.", "", table(rows)]
    if evaluation["optimal"] is not None:
        per_episode = ", ".join(f"{x:.3f}" for x in evaluation["optimal"])
        lines += ["", f"Exact optimum: {evaluation['optimal_total']:.4f} ({per_episode})."]
    return "\n".join(lines)


def robustness_table(cell: dict) -> str:
    """Returns EPOpt beside what it is compared with."""
    rows = [["", "mean ↑", "10th percentile ↑", "worst decile ↑"]]
    for name, policy in cell["policies"].items():
        cells = [shown(over_seeds(policy[key]), 1) for key in (epopt.MEAN, epopt.P10)]
        rows.append([name, *cells, f"{policy['worst_decile']['value']:.1f}"])
    told = how(cell, cell["seeds"], cell["minutes"], cell["held_out_tasks"])
    says = epopt_robustness.SETTINGS[cell["family"]].says
    lines = [f"#### {cell['family']}", "", says, "", table(rows), ""]
    split = cell.get("split", "test")  # older files have no other
    lines.append(f"{told} of split {split}, the mean of {cell['episodes']} episodes on each.")
    if all("curve" in policy for policy in cell["policies"].values()):
        lines += ["", _sweep(cell["policies"])]
    return "\n".join(lines)


def _sweep(policies: dict) -> str:
    """Returns mean returns over one parameter, every second point of it."""
    curves = {name: policy["curve"] for name, policy in policies.items()}
    (parameter,) = next(iter(curves.values())).keys() - {"return"}
    points = next(iter(curves.values()))[parameter][::2]
    rows = [[parameter.replace("_", " "), *(f"{x:.3g}" for x in points)]]
    rows += [[n, *(f"{x:.0f}" for x in curve["return"][::2])] for n, curve in curves.items()]
    return table(rows)


def navigation_table(cells: list[dict]) -> str:
    """Returns the return after each update, of the agents and their references."""
    rows = [["", *(f"{many(k, 'update')} ↑" for k in range(maml_navigation.ROWS))]]
    for index, cell in enumerate(cells):
        evaluation = cell["evaluation"]
        for name in evaluation["policies"]:
            agent = name == evaluation["agent"]
            if not agent and index > 0:  # all meet the same references
                continue
            entries = [_after(cell, name, k) for k in range(evaluation["rows"])]
            rows.append([f"**{cell['cell']}**" if agent else name, *entries])
    if cells[0]["cell"] == "maml":
        rows.append(["MAML's paper", *map(str, maml_navigation.PAPER)])
    lines = [table(rows), ""]
    for cell in cells:
        tasks, minutes = cell["evaluation"]["num_tasks"], cell["training_minutes_all_seeds"]
        seeds = ", ".join(f"{curve[1]:.2f}" for curve in cell["per_seed"])
        told = how(cell, len(cell["per_seed"]), minutes, tasks)
        lines.append(f"- {cell['cell']}: {told}; per seed after 1 update {seeds}.")
    return "\n".join(lines)


def _after(cell: dict, name: str, row: int) -> str:
    reading = curve_reader(row, (name,))(cell)
    ours = name == cell["evaluation"]["agent"]
    return shown(reading.ours if ours else reading.others[name], 2)


def locomotion_table(cell: dict) -> str:
    """Returns the return before and after gradient steps, in training and on held-out tasks."""
    training, evaluation = cell["training"], cell["evaluation"]
    settings = cell.get("config", cell)
    rows = [["return while training, mean of 10 updates", "before a step", "after it"]]
    seeds = len(training["return"][0])
    for seed in range(seeds):
        for end in (10, len(training["return"])):
            span = [training[name][end - 10 : end] for name in ("return_before", "return")]
            means = [f"{np.mean([values[seed] for values in part]):.1f}" for part in span]
            rows.append([f"seed {seed + 1}, updates {end - 9} to {end}", *means])
    lines = [f"#### {cell['cell']}", "", table(rows), ""]
    if evaluation is not None:
        steps = range(evaluation["rows"])
        rows = [["held-out tasks", *(f"after {many(k, 'step')} ↑" for k in steps)]]
        for name in evaluation["policies"]:
            shown_name = f"**{name}**" if name == evaluation["agent"] else name
            rows.append([shown_name, *(_after(cell, name, k) for k in steps)])
        lines += [table(rows), ""]
    tasks = 0 if evaluation is None else evaluation["num_tasks"]
    lines.append(
        f"{how(cell, seeds, cell['minutes_of_all_seeds'], tasks)}; an update has "
        f"{settings['algorithm']['num_tasks']} tasks and twice {settings['algorithm']['shots']} "
        f"episodes of {settings['tasks']['episode_length']} steps."
    )
    return "\n".join(lines)


def sinusoid_table() -> str:
    """Returns losses of MAML and its kin after gradient steps on 5, 10 and 20 examples."""
    names = [f"{p}-{row}" for p in maml_sinusoid.STEP_SIZE for row in maml_sinusoid.ROWS]
    cells = read_all("maml_sinusoid", names)
    rows = [["", "examples", *(f"{many(step, 'step')} ↓" for step in maml_sinusoid.COLUMNS)]]
    for cell in cells:
        for which in cell["losses"]:
            for shots in maml_sinusoid.SHOTS:
                entries = maml_sinusoid.entries(cell, which, shots)
                rows.append([maml_sinusoid.label(cell, which), str(shots), *entries])
    lines = [table(rows), ""]
    for cell in cells:
        name = maml_sinusoid.label(cell, maml_sinusoid.AS_TRAINED)
        minutes, tasks = cell["training_minutes_all_seeds"], cell["held_out_tasks"]
        told = how(cell, cell["seeds"], minutes, tasks)
        best = f"{cell['references']['mean']:.2f}"
        lines.append(f"- {name}: {told}, {cell['iterations']:,} iterations; no examples: {best}.")
    return "\n".join(lines)
