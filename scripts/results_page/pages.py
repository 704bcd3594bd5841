"""RESULTS.md and docs/results_appendix.md, put together."""

from __future__ import annotations

import tomllib
from pathlib import Path

from reproduce import adaptation, epopt_robustness, maml_navigation

from results_page import appendix, measurements, plots, sections, speed, summary
from results_page.experiment import METHODS, RESULTS

ROOT = Path(__file__).parents[2]
PAGE, APPENDIX = ROOT / "RESULTS.md", ROOT / "docs" / "results_appendix.md"
TEXTS = Path(__file__).with_name("texts.toml")
ALTERNATIVE = {
    "rl2": "Share of the way from chance to the best known, with intervals, one point a cell",
    "epopt": "10th percentiles with intervals, one panel a family",
    "maml": "Squared error against gradient steps, one line a method",
    "policies": "Return against updates, on points and on corners",
    "gmps": "Return against gradient steps, one line a cell",
}


def texts() -> dict[str, str]:
    """Returns the sentences by name."""
    return {name: text.strip() for name, text in tomllib.loads(TEXTS.read_text()).items()}


def page() -> str:
    """Returns RESULTS.md."""
    said = texts()
    parts = ["# Results", "## How to read", said["how_to_read"], "## Summary", summary.summary()]
    parts += ["## What was not reached", said["not_reached"], summary.not_reached()]
    parts += ["## Presets", said["presets"], summary.preset_table()]
    for method, title in METHODS.items():
        parts += [f"## {title}", said[method], sections.TABLES[method]()]
        if method in ALTERNATIVE:
            picture = plots.image(method).relative_to(ROOT)
            parts += [f"![{ALTERNATIVE[method]}]({picture})"]
    parts += ["## Speed", said["speed"], speed.speed_table()]
    return "\n\n".join(parts) + "\n"


def appendix_page() -> str:
    """Returns docs/results_appendix.md."""
    said = texts()
    parts = ["# Results: the long tables", said["appendix"], "## RL²", said["table_columns"]]
    for number, kind in ((1, "bandit"), (2, "mdp")):
        parts += [f"### Table {number} of the RL² paper", appendix.paper_table(kind)]
    parts += [said["ties"], "### Adaptation, policy by policy", said["adaptation"]]
    cells = appendix.read_all("adaptation", tuple(adaptation.CELLS))
    parts += [appendix.adaptation_table(cell) for cell in cells]
    parts += ["### Tuning of the MDPs of 25 episodes", said["curves"], measurements.curves_table()]
    parts += ["## EPOpt", said["robustness"]]
    cells = appendix.read_all("epopt", epopt_robustness.FAMILIES)
    parts += [appendix.robustness_table(cell) for cell in cells]
    parts += ["### What the filter costs", said["filter_cost"], measurements.epopt_cost_table()]
    parts += ["### Adaptation of the source", said["source"], measurements.source_table()]
    parts += ["## MAML and its kin, regression", _SINUSOIDS, appendix.sinusoid_table()]
    parts += ["## MAML and its kin, policies", said["policies"]]
    for title, corners in (("Points in the plane", False), ("Points and four corners", True)):
        names = [n for n in maml_navigation.CELLS if n.startswith("corners-") == corners]
        cells = appendix.read_all("maml_navigation", names)
        parts += [f"### {title}", appendix.navigation_table(cells)]
    names = sorted(path.stem for path in (RESULTS / "locomotion").glob("*.json"))
    parts += ["### Locomotion"]
    parts += [appendix.locomotion_table(cell) for cell in appendix.read_all("locomotion", names)]
    parts += ["## Meta-gradients", said["meta_gradients"], measurements.meta_gradient_table()]
    parts += ["## Products of bfloat16 factors", said["rounding"], measurements.rounding_table()]
    parts += ["## Programs compiled for TPUs", said["tpu"], measurements.tpu_table()]
    parts += ["## CPU time on several devices and in several processes", said["devices"]]
    parts += [measurements.device_table()]
    return "\n\n".join(parts) + "\n"


_SINUSOIDS = (
    "Squared error after gradient steps: published / ours, the mean over held-out tasks (mean of "
    "the best 99 %, median). ∞: some task diverges. Published figures of MAML after steps on 5 "
    "examples and of Meta-SGD are the papers', the others were recomputed by another program."
)
