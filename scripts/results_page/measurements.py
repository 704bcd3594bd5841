"""Long tables of what is no agent's score: estimators, precision, devices."""

from __future__ import annotations

import json

from reproduce import low_precision

from results_page.appendix import read_all
from results_page.experiment import RESULTS
from results_page.intervals import over_seeds, shown
from results_page.summary import table


def rounding_table() -> str:
    """Returns what rounded products cost."""
    rows = [["preset", "seeds", "score", "float32", "bfloat16", "difference"]]
    lines = []
    for cell in read_all("low_precision", tuple(low_precision.CELLS)):
        exact, rounded = (cell[kind]["per_seed"] for kind in ("float32", "bfloat16"))
        apart = [b - a for a, b in zip(exact, rounded, strict=True)]  # the same seeds and tasks
        cells = [shown(over_seeds(x), 3) for x in (exact, rounded, apart)]
        rows.append([cell["cell"], str(len(exact)), cell["score"], *cells])
        for kind in ("float32", "bfloat16"):
            curve = " ".join(f"{x:.3g}" for x in cell[kind]["curve"])
            lines.append(f"- {cell['cell']}, {kind}: {curve}")
    told = "Training scores by twentieths of the run (mean of all seeds):"
    return "\n".join([table(rows), "", told, "", *lines])


def meta_gradient_table() -> str:
    """Returns bias and spread of the estimators of the meta-gradient."""
    (found,) = read_all("meta_gradients", ("tiny",))
    head = ["estimator", "inner steps", "episodes", "bias", "expected", "plain", "deviation"]
    rows = [[*head, "cosine"]]
    for row in found["rows"]:
        size = [str(row["steps"]), str(row["episodes"])]
        bias = [row["bias"]["value"], row["expected_bias"], row["plain_bias"]]
        spread = [row["deviation"]["value"], row["cosine"]["value"]]
        rows.append([row["estimator"], *size, *(f"{x:.2f}" for x in (*bias, *spread))])
    return table(rows)


def source_table() -> str:
    """Returns how well a source distribution finds its target."""
    (found,) = read_all("source_adaptation", ("cartpole",))
    rows = [["target", "repetitions", "mean relative error ↓", "largest ↓"]]
    for name, row in found["errors"].items():
        errors = [row["mean_relative_error"], row["largest_relative_error"]]
        rows.append([name, str(found["repetitions"]), *(f"{100 * x:.2f} %" for x in errors)])
    covered = {n: row for n, row in found["coverage"].items() if isinstance(row, dict)}
    says = [f"{name} in {100 * row['covered']:.0f} %" for name, row in covered.items()]
    lines = f"Of {found['targets']} targets, 95 % intervals cover {' and '.join(says)}."
    return f"{table(rows)}\n\nAfter {found['episodes']} episodes. {lines}"


def curves_table() -> str:
    """Returns the tuning runs of tabular MDPs of 25 episodes."""
    (found,) = read_all("rl2_curves", ("mdp-25",))
    rows = [["settings", "environment steps", "held-out return ↑", "its standard error over tasks"]]
    for run in found["runs"].values():
        held_out = [f"{run['held_out'][name]:.1f}" for name in ("mean", "standard_error")]
        rows.append([run["what"], f"{run['total_env_steps']:,}", *held_out])
    return table(rows)


def tpu_table() -> str:
    """Returns what programs compiled for TPUs need."""
    found = json.loads((RESULTS / "tpu_compile.json").read_text())
    head = ["program", "tasks", "slice", "state", "temporary", "code", "collectives"]
    rows = [[*head, "largest, numbers"]]
    for row in found["programs"]:
        sizes = (row[f"{kind}_bytes"] / 2**20 for kind in ("argument", "temporary", "code"))
        sums = ", ".join(f"{n} {kind}" for kind, n in row["collectives"].items()) or "none"
        numbers = [f"{size:.1f} MiB" for size in sizes]
        name = [row["program"], f"{row['num_tasks']:,}", row["slice"]]
        rows.append([*name, *numbers, sums, f"{row['largest_collective']:,}"])
    return f"The compiler of libtpu {found['libtpu']}, jax {found['jax']}.\n\n{table(rows)}"


def device_table() -> str:
    """Returns the CPU time that sharing the tasks costs."""
    found = json.loads((RESULTS / "device_cost.json").read_text())
    where = f"{found['cores']} cores shared with other work, {found['machine']}"
    lines = [
        f"The median of {found['repetitions']} rounds, the worst in brackets ({where}, jax "
        f"{found['jax']})."
    ]
    for kind in ("devices", "processes"):
        counts = list(next(iter(found[kind].values()))["ratio"])
        rows = [[kind, *counts]]
        for name, row in found[kind].items():
            ratios = (f"{row['ratio'][n]:.2f} ({row['worst_ratio'][n]:.2f})" for n in counts)
            rows.append([name, *ratios])
        lines += ["", table(rows)]
    return "\n".join(lines)


def epopt_cost_table() -> str:
    """Returns what the filter and own physics cost in time."""
    found = json.loads((RESULTS / "epopt" / "cost.json").read_text())
    rows = [["time of an update, times that without", "filter", "own physics"]]
    rows += [
        [name, *(f"{row[key]:.2f}" for key in ("filter", "own physics"))]
        for name, row in found.items()
        if isinstance(row, dict)
    ]
    return table(rows)
