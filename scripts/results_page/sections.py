"""The sections of the methods: one table each, beside what the agents are to be seen beside."""

from __future__ import annotations

from types import ModuleType

from results_page import epopt, guided, maml, off_policy, policies, rl2
from results_page.experiment import Experiment, curve_reader
from results_page.intervals import Estimate, over_seeds, shown, told_apart
from results_page.summary import many, table

OPTIMA = ("exact optimum", "bayes-optimal", "bayes-filter")
TOLD = ("oracle", *OPTIMA)
"""References that know the task, or how to play optimally."""


def measured(module: ModuleType) -> list[Experiment]:
    """Returns the experiments of a module that were run, one of each file."""
    found: dict[str, Experiment] = {}
    for experiment in module.EXPERIMENTS:
        if experiment.cell is not None:
            found.setdefault(experiment.file, experiment)
    return list(found.values())


def best_other(experiment: Experiment) -> tuple[str, Estimate]:
    """Returns the best reference that was told nothing."""
    assert experiment.reading is not None
    others = {n: x for n, x in experiment.reading.others.items() if n not in TOLD}
    name = max(others, key=lambda n: others[n].value)
    return name, others[name]


def best_known(experiment: Experiment) -> tuple[str, Estimate]:
    """Returns the exact optimum, else the oracle, else the best other."""
    assert experiment.reading is not None
    for name in ("exact optimum", "oracle"):
        if name in experiment.reading.others:
            return name, experiment.reading.others[name]
    return best_other(experiment)


def share(experiment: Experiment) -> tuple[float, float, float]:
    """Returns how far of the way from chance to the best that is known, with its interval."""
    assert experiment.reading is not None
    others = experiment.reading.others
    floor = others.get("random", others.get("Random"))
    assert floor is not None
    best = best_known(experiment)[1].value
    ours = experiment.reading.ours
    value, low, high = (100 * (x - floor.value) / (best - floor.value) for x in ours[:3])
    return value, low, high


def rl2_table() -> str:
    """Returns RL² beside chance, the best that was told nothing and the best that is known."""
    rows = [["experiment", "random", "RL² ↑", "", "best other", "best known", "share of the way"]]
    for experiment in measured(rl2):
        reading = experiment.reading
        assert reading is not None
        other, best = best_other(experiment), best_known(experiment)
        apart = told_apart(reading.ours, other[1])
        random = reading.others.get("random", reading.others.get("Random"))
        assert random is not None
        mark = "" if reading.paired else " *"
        shares = "{:.1f} % [{:.1f}, {:.1f}]".format(*share(experiment))
        rows.append(
            [
                experiment.name + mark,
                f"{random.value:.{experiment.digits}f}",
                f"**{experiment.shown(reading.ours)}**",
                apart,
                f"{experiment.shown(other[1])} ({other[0]})",
                f"{experiment.shown(best[1])} ({best[0]})",
                shares,
            ]
        )
    return table(rows)


def epopt_table() -> str:
    """Returns the lower tail of EPOpt(0.1) beside the mean policy and a single simulator."""
    rows = [["experiment", "seeds", *(f"{name} ↑" for name in epopt.NAMES), "gain in the tail"]]
    rows[0] += ["gain in the mean"]
    for experiment in measured(epopt):
        cell = experiment.cell
        assert cell is not None
        tails = [over_seeds(cell["policies"][name][epopt.P10]) for name in epopt.NAMES]
        gains = [epopt.effect(cell, which) for which in (epopt.P10, epopt.MEAN)]
        tail = [shown(x, 1) for x in tails]
        rows.append([experiment.name, str(cell["seeds"]), *tail, *gains])
    return table(rows)


def maml_table(shots: int = 10) -> str:
    """Returns losses after gradient steps, method by method."""
    steps = (0, 1, 5, 10, 32)
    rows = [["method", "seeds", *(f"{many(k, 'step')} ↓" for k in steps)]]
    for experiment in measured(maml):
        cell = experiment.cell
        assert cell is not None
        name = experiment.name.rsplit(",", 1)[0]
        losses = []
        for step in steps:
            known = step in cell["steps"]
            ours = maml.read(cell, shots, step).ours if known else None
            losses.append("" if ours is None else shown(ours, 2))
        rows.append([name, str(cell["seeds"]), *losses])
    return table(rows)


def policies_table() -> str:
    """Returns returns after gradient steps, of cells with a curve."""
    steps = range(3)
    rows = [["experiment", "seeds", *(f"{many(k, 'update')} ↑" for k in steps)]]
    rows[0] += ["references after 1"]
    for experiment in measured(policies):
        cell = experiment.cell
        assert cell is not None
        readings = [curve_reader(k, policies.REFERENCES)(cell) for k in steps]
        if experiment.file.startswith("adaptation/"):  # an update after every pull
            continue
        others = (f"{n} {experiment.shown(x)}" for n, x in readings[1].others.items())
        curve = [experiment.shown(reading.ours) for reading in readings]
        name = experiment.name.removesuffix(", 1 update")
        rows.append([name, str(readings[0].seeds), *curve, "; ".join(others)])
    return table(rows)


def gmps_table() -> str:
    """Returns returns after gradient steps."""
    steps = range(5)
    rows = [["experiment", "seeds", *(f"{many(k, 'step')} ↑" for k in steps)]]
    rows[0] += ["random", "oracle"]
    for experiment in measured(guided):
        cell = experiment.cell
        assert cell is not None
        curve = [experiment.shown(guided.read(cell, k).ours) for k in steps]
        ends = [f"{cell['references'][name]:.1f}" for name in ("random", "oracle")]
        seeds = len(cell["return_per_seed_and_steps"])
        rows.append([experiment.name, str(seeds), *curve, *ends])
    return table(rows)


def sac_table() -> str:
    """Returns the return of an episode beside that of the references."""
    rows = [["experiment", "seeds", "environment steps", "return ↑", "references"]]
    for experiment in measured(off_policy):
        cell, reading = experiment.cell, experiment.reading
        assert cell is not None
        assert reading is not None
        others = (f"{n} {experiment.shown(x)}" for n, x in reading.others.items())
        steps = f"{cell['env_steps_per_seed']:,}"
        ours = experiment.shown(reading.ours)
        rows.append([experiment.name, str(reading.seeds), steps, ours, "; ".join(others)])
    return table(rows)


TABLES = {
    "rl2": rl2_table,
    "epopt": epopt_table,
    "maml": maml_table,
    "policies": policies_table,
    "gmps": gmps_table,
    "sac": sac_table,
}
