"""Write the numbers of ``results/`` into RESULTS.md, between its markers.

python scripts/render_results.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from preset_table import describe_presets
from reproduce import epopt_robustness, low_precision, maml_navigation, maml_sinusoid, rl2_tables

ROOT = Path(__file__).parents[1]
START, END = "<!-- results: begin -->", "<!-- results: end -->"
ORDER = ("bandit-5-10", "bandit-10-10", "gaussian-bandit-5-10", "grid")
ORDER += ("informative-bandit", "two-step", "cartpole", "maml-bandit-5-10")


def interval(total: dict) -> str:
    """Returns a mean with its interval."""
    return f"{total['mean']:.3f} [{total['low']:.3f}, {total['high']:.3f}]"


def describe(cell: dict) -> str:
    """Returns the section of one cell."""
    evaluation = cell["evaluation"]
    agent, policies = evaluation["agent"], evaluation["policies"]
    seeds = ", ".join(f"{x:.3f}" for x in cell["per_seed_total"])
    minutes = cell["training_minutes_all_seeds"]
    time = "" if minutes is None else f" in {minutes:.1f} minutes for all seeds together"
    lines = [
        f"### {cell['cell']}",
        "",
        f"{len(cell['per_seed_total'])} seeds of {cell['env_steps_per_seed']:,} environment steps"
        f"{time} ({cell['device']}, jax {cell['jax']}); {evaluation['num_tasks']:,} held-out "
        f"tasks. Per seed: {seeds}.",
        "",
        "| policy | total [95 % interval] | first episode | second | last | IQM | CVaR 10 % |",
        "|---|---|---|---|---|---|---|",
    ]
    best_first = sorted(policies.items(), key=lambda item: -item[1]["total"]["mean"])
    for name, policy in best_first:
        total, rows = policy["total"], policy["rows"]["mean"]
        shown = f"**{name}**" if name == agent else name
        second = f"{rows[1]:.3f}" if len(rows) > 1 else "–"
        curve = f"{rows[0]:.3f} | {second} | {rows[-1]:.3f}"
        tail = f"{total['iqm']:.2f} | {total['cvar10']:.2f}"
        lines.append(f"| {shown} | {interval(total)} | {curve} | {tail} |")
    if evaluation["optimal"] is not None:
        per_episode = ", ".join(f"{x:.3f}" for x in evaluation["optimal"])
        lines += ["", f"Exact optimum: {evaluation['optimal_total']:.4f} ({per_episode})."]
    return "\n".join(lines)


def describe_table(number: int, cells: list[dict]) -> str:
    """Returns one of the paper's tables, with ours in it."""
    names = [*cells[0]["baselines"], "RL²", "exact optimum"]
    lines = [
        f"### Table {number} of the RL² paper",
        "",
        "Total reward: paper / ours ± half the 95 % interval.",
        "",
        f"| | {' | '.join(cell['cell'] for cell in cells)} |",
        f"|---|{'---|' * len(cells)}",
    ]
    for name in names:
        shown = f"**{name}**" if name == "RL²" else name
        entries = [rl2_tables.entry(cell, name).replace(" | ", " / ") for cell in cells]
        lines.append(f"| {shown} | {' | '.join(entries)} |")
    lines += ["", "How the agents of ours were trained:", ""]
    for cell in cells:
        seeds = ", ".join(f"{x:.2f}" for x in cell["per_seed"])
        minutes = cell["training_minutes_all_seeds"]
        time = "" if minutes is None else f", {minutes:.0f} minutes for all seeds together"
        lines.append(
            f"- {cell['cell']}: {cell['env_steps_per_seed']:,} environment steps per seed{time} "
            f"({cell['device']}, jax {cell['jax']}); {cell['held_out_tasks']:,} held-out tasks; "
            f"per seed {seeds}."
        )
    return "\n".join(lines)


def describe_robustness(result: dict) -> str:
    """Returns a section with EPOpt beside what it is compared with."""
    lines = [
        f"### EPOpt on {result['family']}",
        "",
        epopt_robustness.SETTINGS[result["family"]].says,
        "",
        "| | mean | 10th percentile | worst decile |",
        "|---|---|---|---|",
    ]
    for name, policy in result["policies"].items():
        cells = (policy[key] for key in ("mean", "p10", "worst_decile"))
        shown = (f"{c['value']:.1f} [{c['low']:.1f}, {c['high']:.1f}]" for c in cells)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    minutes = result["minutes"]
    time = "" if minutes is None else f"; {minutes:.0f} minutes in all"
    lines += [
        "",
        f"{result['seeds']} seeds of {result['env_steps_per_seed']:,} environment steps, "
        f"{result['held_out_tasks']:,} held-out simulators, the mean of {result['episodes']} "
        "episodes on each, 95 % intervals: of means over seeds and simulators, of the others over "
        f"simulators only{time} ({result['device']}, jax {result['jax']}).",
    ]
    if all("curve" in policy for policy in result["policies"].values()):
        lines += ["", *describe_sweep(result["policies"])]
    return "\n".join(lines)


def describe_sweep(policies: dict) -> list[str]:
    """Returns a table of mean returns over one parameter, every second point of it."""
    curves = {name: policy["curve"] for name, policy in policies.items()}
    (parameter,) = next(iter(curves.values())).keys() - {"return"}
    points = next(iter(curves.values()))[parameter][::2]
    lines = [
        f"| {parameter.replace('_', ' ')} | {' | '.join(f'{x:.3g}' for x in points)} |",
        f"|---|{'---|' * len(points)}",
    ]
    for name, curve in curves.items():
        lines.append(f"| {name} | {' | '.join(f'{x:.0f}' for x in curve['return'][::2])} |")
    return lines


def describe_locomotion(result: dict) -> str:
    """Returns a section with the return before and after gradient steps."""
    algorithm, tasks, evaluation = result["algorithm"], result["tasks"], result["evaluation"]
    training = result["training"]
    lines = [f"### {result['cell']}", ""]
    lines += ["| return while training, mean of 10 updates | before a step | after it |"]
    lines += ["|---|---|---|"]
    for seed in range(result["seeds"]):
        for end in (10, len(training["return"])):
            span = [training[name][end - 10 : end] for name in ("return_before", "return")]
            means = (np.mean([values[seed] for values in rows]) for rows in span)
            cells = " | ".join(f"{mean:.1f}" for mean in means)
            lines.append(f"| seed {seed + 1}, updates {end - 9} to {end} | {cells} |")
    if evaluation is not None:
        lines += ["", *describe_steps(evaluation)]
    minutes = result["minutes_of_all_seeds"]
    time = "" if minutes is None else f" in {minutes:.0f} minutes for all seeds together"
    lines += [
        "",
        f"{result['seeds']} seeds of {result['env_steps_per_seed']:,} environment steps{time} "
        f"({result['device']}, jax {result['jax']}); an update has {algorithm['num_tasks']} tasks "
        f"and twice {algorithm['shots']} episodes of {tasks['episode_length']} steps.",
    ]
    return "\n".join(lines)


def describe_steps(evaluation: dict) -> list[str]:
    """Returns a table of the return after gradient steps on held-out tasks."""
    steps = range(evaluation["rows"])
    lines = [
        f"| {evaluation['num_tasks']} held-out tasks | "
        f"{' | '.join(f'after {k} steps' for k in steps)} |",
        f"|---|{'---|' * len(steps)}",
    ]
    for name, policy in evaluation["policies"].items():
        rows = policy["rows"]
        cells = zip(rows["mean"], rows["low"], rows["high"], strict=True)
        shown = " | ".join(f"{m:.1f} [{a:.1f}, {b:.1f}]" for m, a, b in cells)
        lines.append(f"| {f'**{name}**' if name == evaluation['agent'] else name} | {shown} |")
    return lines


def describe_navigation(title: str, cells: list[dict]) -> str:
    """Returns a section of gradient-based learners on one family of points in the plane."""
    rows = maml_navigation.ROWS
    lines = [
        f"### {title}",
        "",
        "Return of an episode after as many updates, mean and 95 % interval over seeds and goals.",
        "",
        f"| | {' | '.join(map(str, range(rows)))} |",
        f"|---|{'---|' * rows}",
    ]
    for index, cell in enumerate(cells):
        for label, entries in maml_navigation.curves(cell).items():
            agent = label == cell["cell"]
            if agent or index == 0:  # all meet the same references
                shown = f"**{label}**" if agent else label
                lines.append(f"| {shown} | {' | '.join(entries)} |")
    if cells[0]["cell"] == "maml":
        lines.append(f"| MAML's paper | {' | '.join(map(str, maml_navigation.PAPER))} |")
    lines.append("")
    for cell in cells:
        minutes = cell["training_minutes_all_seeds"]
        time = "" if minutes is None else f" in {minutes:.1f} minutes for all seeds together"
        lines.append(
            f"- {cell['cell']}: {len(cell['per_seed'])} seeds of "
            f"{cell['env_steps_per_seed']:,} environment steps{time} ({cell['device']}, "
            f"jax {cell['jax']}); {cell['evaluation']['num_tasks']:,} held-out goals."
        )
    return "\n".join(lines)


def describe_sinusoids(results: list[dict]) -> str:
    """Returns a section with MAML and its kin on sinusoids."""
    lines = [
        "### MAML on sinusoids",
        "",
        "Squared error after gradient steps: published / ours, the mean over held-out tasks (mean "
        "of the best 99 %, median). ∞: some task diverges.",
        "",
        f"| | examples | {' | '.join(f'{step} steps' for step in maml_sinusoid.COLUMNS)} |",
        f"|---|---|{'---|' * len(maml_sinusoid.COLUMNS)}",
    ]
    for result in results:
        for which in result["losses"]:
            for shots in maml_sinusoid.SHOTS:
                cells = " | ".join(maml_sinusoid.entries(result, which, shots))
                lines.append(f"| {maml_sinusoid.label(result, which)} | {shots} | {cells} |")
    told = "How they were trained; at the end the loss of the best predictor without examples:"
    lines += ["", told, ""]
    for result in results:
        minutes, tasks = result["training_minutes_all_seeds"], result["held_out_tasks"]
        time = "" if minutes is None else f" in {minutes:.1f} minutes for all seeds together"
        name = maml_sinusoid.label(result, maml_sinusoid.AS_TRAINED)
        lines.append(
            f"- {name}: {result['seeds']} seeds of "
            f"{result['iterations']:,} iterations{time} ({result['device']}, jax {result['jax']}); "
            f"{tasks:,} held-out tasks; {result['references']['mean']:.2f}."
        )
    return "\n".join(lines)


def describe_tpu(result: dict) -> str:
    """Returns a section on the programs that were compiled for TPUs."""
    lines = [
        "### Training programs compiled for TPUs",
        "",
        "By `python scripts/compile_tpu.py` on a machine without one: the compiler of libtpu "
        f"{result['libtpu']}, jax {result['jax']}. Nothing was run. Memory is of each chip, as XLA "
        "reports it; all devices hold the state. A collective in a loop counts once.",
        "",
        "| program | tasks | slice | state | temporary | code | collectives | largest, numbers |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["programs"]:
        sizes = (row[f"{kind}_bytes"] / 2**20 for kind in ("argument", "temporary", "code"))
        memory = " | ".join(f"{size:.1f} MiB" for size in sizes)
        found = ", ".join(f"{n} {kind}" for kind, n in row["collectives"].items()) or "none"
        lines.append(
            f"| {row['program']} | {row['num_tasks']:,} | {row['slice']} | {memory} | {found} | "
            f"{row['largest_collective']:,} |"
        )
    return "\n".join(lines)


def describe_devices(result: dict) -> str:
    """Returns a section on the CPU time that sharing the tasks costs."""
    lines = [
        "### CPU time of the same work on several devices and in several processes",
        "",
        "By `python scripts/device_cost.py`: user and system time of all threads, as a multiple of "
        "one device's or one process's; devices are forced host devices of one process, processes "
        "have one device each and talk by gloo. The median of "
        f"{result['repetitions']} rounds, the worst in brackets ({result['cores']} cores shared "
        f"with other work, {result['machine']}, jax {result['jax']}).",
    ]
    for kind in ("devices", "processes"):
        counts = list(next(iter(result[kind].values()))["ratio"])
        lines += [
            "",
            f"| {kind} | {' | '.join(counts)} |",
            f"|---|{'---|' * len(counts)}",
        ]
        for name, row in result[kind].items():
            cells = (f"{row['ratio'][n]:.2f} ({row['worst_ratio'][n]:.2f})" for n in counts)
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def describe_precision(cells: list[dict]) -> str:
    """Returns a section on what rounded products cost."""
    lines = [
        "### Products of bfloat16 factors",
        "",
        "By `python scripts/reproduce/low_precision.py`: presets trained with float32 and, with "
        "the same seeds, with every product's factors rounded to bfloat16, as `matmul_precision` "
        "has it on a TPU; emulated on a CPU. Agents are measured in float32, on the same tasks.",
        "",
        "| preset | seeds | score | float32 | bfloat16 | difference |",
        "|---|---|---|---|---|---|",
    ]
    for cell in cells:
        numbers = [cell[kind]["total"] for kind in ("float32", "bfloat16")] + [cell["difference"]]
        seeds = len(cell["float32"]["per_seed"])
        shown = " | ".join(interval(number) for number in numbers)
        lines.append(f"| {cell['cell']} | {seeds} | {cell['score']} | {shown} |")
    lines += ["", "Training scores by twentieths of the run (mean of all seeds):", ""]
    for cell in cells:
        for kind in ("float32", "bfloat16"):
            curve = " ".join(f"{x:.3g}" for x in cell[kind]["curve"])
            lines.append(f"- {cell['cell']}, {kind}: {curve}")
    return "\n".join(lines)


def render() -> str:
    """Returns the rendered part of RESULTS.md."""
    parts = [describe_presets()]
    tables = {}
    for name in rl2_tables.PAPER:
        path = ROOT / "results" / "rl2_tables" / f"{name.replace(':', '-')}.json"
        if path.exists():
            tables.setdefault(name.split(":")[0], []).append(json.loads(path.read_text()))
    for number, kind in ((1, "bandit"), (2, "mdp")):
        if kind in tables:
            parts.append(describe_table(number, tables[kind]))
    folder = ROOT / "results" / "epopt"
    found = [folder / f"{name}.json" for name in epopt_robustness.FAMILIES]
    parts += [describe_robustness(json.loads(p.read_text())) for p in found if p.exists()]
    found = sorted((ROOT / "results" / "locomotion").glob("*.json"))
    parts += [describe_locomotion(json.loads(path.read_text())) for path in found]
    for title, prefix in (("Points in the plane", ""), ("Points and four corners", "corners-")):
        names = [n for n in maml_navigation.CELLS if n.startswith("corners-") == bool(prefix)]
        found = [maml_navigation.OUT / f"{name}.json" for name in names]
        cells = [json.loads(p.read_text()) for p in found if p.exists()]
        if cells:
            parts.append(describe_navigation(title, cells))
    folder = ROOT / "results" / "maml_sinusoid"
    found = [
        folder / f"{protocol}-{name}.json"
        for protocol in maml_sinusoid.STEP_SIZE
        for name in maml_sinusoid.ROWS
    ]
    learned = [json.loads(path.read_text()) for path in found if path.exists()]
    if learned:
        parts.append(describe_sinusoids(learned))
    folder = ROOT / "results" / "adaptation"
    cells = [folder / f"{name}.json" for name in ORDER]
    parts += [describe(json.loads(p.read_text())) for p in cells if p.exists()]
    found = [low_precision.OUT / f"{name}.json" for name in low_precision.CELLS]
    rounded = [json.loads(path.read_text()) for path in found if path.exists()]
    if rounded:
        parts.append(describe_precision(rounded))
    for name, section in (("tpu_compile", describe_tpu), ("device_cost", describe_devices)):
        path = ROOT / "results" / f"{name}.json"
        if path.exists():
            parts.append(section(json.loads(path.read_text())))
    return "\n\n".join(parts)


def main() -> None:
    """Renders the page."""
    path = ROOT / "RESULTS.md"
    head, rest = path.read_text().split(START)
    path.write_text(f"{head}{START}\n\n{render()}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
