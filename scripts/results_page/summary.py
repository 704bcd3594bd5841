"""The summary of all experiments, what was not reached, and the presets."""

from __future__ import annotations

from jaxmeta.catalog import presets
from results_page import epopt, guided, maml, off_policy, policies, rl2, stored
from results_page.experiment import ARROWS, METHODS, Experiment

MODULES = {
    "rl2": rl2,
    "epopt": epopt,
    "maml": maml,
    "policies": policies,
    "gmps": guided,
    "sac": off_policy,
}
EXPERIMENTS: tuple[Experiment, ...] = tuple(
    experiment for name in METHODS for experiment in MODULES[name].EXPERIMENTS
)
SHORT = {
    "rl2": "RL²",
    "epopt": "EPOpt",
    "maml": "regression",
    "policies": "policies",
    "gmps": "guided",
    "sac": "SAC",
}
PRESET_FILES = {e.preset: e for e in EXPERIMENTS if e.preset is not None}


def table(rows: list[list[str]]) -> str:
    """Returns a Markdown table; the first row is its head."""
    head, *body = rows
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in body)])


def many(number: int, what: str) -> str:
    """Returns ``1 step`` or ``2 steps``."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def letters(experiments: tuple[Experiment, ...]) -> dict[tuple[str, ...], str]:
    """Returns a label for every list of differences, in the order of the table."""
    lists = dict.fromkeys(e.differs for e in experiments if e.differs)
    return {differs: f"d{number}" for number, differs in enumerate(lists, 1)}


def ours(experiment: Experiment) -> str:
    """Returns our figure; of a file that the command would not write today, says so."""
    if experiment.reading is None:
        return "not run"
    stale = " **stale**" if experiment.stale else ""
    return experiment.shown(experiment.reading.ours) + stale


def paper(experiment: Experiment) -> str:
    """Returns the published figure and whose it is."""
    if experiment.published is None:
        return "–"
    value, digits, whose = experiment.published
    return f"{value:.{digits}f}" + ("" if whose == "the paper's" else f" ({whose})")


def summary() -> str:
    """Returns the table of all experiments and the lists of what differs."""
    labels = letters(EXPERIMENTS)
    rows = [["experiment", "score", "ours", "paper", "verdict", "seeds", "what differs", "command"]]
    for experiment in EXPERIMENTS:
        reading = experiment.reading
        rows.append(
            [
                f"{SHORT[experiment.method]}: {experiment.name}",
                f"{experiment.score} {ARROWS[experiment.higher_is_better]}",
                ours(experiment),
                paper(experiment),
                experiment.verdict,
                "–" if reading is None else str(reading.seeds),
                labels.get(experiment.differs, "–"),
                f"`{experiment.command}`",
            ]
        )
    lists = [f"- **{label}**: {'; '.join(differs)}." for differs, label in labels.items()]
    return "\n".join([table(rows), "", "What differs from the published runs:", "", *lists])


def stale() -> list[str]:
    """Returns a line for every file whose settings are not those of its command today."""
    files = {e.file: e for e in EXPERIMENTS if e.stale}
    return [f"- `{file}.json`: {'; '.join(e.stale)}." for file, e in files.items()]


def not_reached() -> str:
    """Returns what is worse than published, what has no file, and what is of earlier settings."""
    parts = []
    worse = [e for e in EXPERIMENTS if e.verdict.endswith("(worse)")]
    lines = [f"- {e.name}: {ours(e)}, published {paper(e)}." for e in worse]
    parts.append("Worse than published, beyond the interval:\n\n" + ("\n".join(lines) or "- none."))
    missing = {e.file: e for e in EXPERIMENTS if e.reading is None}
    lines = [f"- {e.name}: `{e.command}`" for e in missing.values()]
    parts.append("Not run:\n\n" + ("\n".join(lines) or "- none."))
    old = "\n".join(stale()) or "- none."
    parts.append(
        "Stale: files of earlier settings than the command has today, and what changed:\n\n" + old
    )
    return "\n\n".join(parts)


def preset_table() -> str:
    """Returns a row for every preset: what it reached, or that it was not run."""
    rows = [["preset", "score", "result", "seeds", "state", "command"]]
    for method, family in presets.PRESETS:
        experiment, name = PRESET_FILES.get((method, family)), f"`{method} {family}`"
        if experiment is None:
            rows.append([name, "–", "not run", "–", "no script measures it", "–"])
            continue
        state = "as the preset"
        if experiment.cell is None:
            state = "not run"
        elif stored.changes(experiment.cell, presets.preset(method, family)):
            state = "stale: of an earlier preset"
        score = f"{experiment.score} {ARROWS[experiment.higher_is_better]}"
        seeds = "–" if experiment.reading is None else str(experiment.reading.seeds)
        figure = ours(experiment).removesuffix(" **stale**")
        rows.append([name, score, figure, seeds, state, f"`{experiment.command}`"])
    return table(rows)
