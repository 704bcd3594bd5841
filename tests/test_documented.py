"""What docs/ say of metrics, presets and measurements is so."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jax
import pytest

import jaxmeta
from jaxmeta import EPOpt, Schedule
from jaxmeta.catalog import presets
from jaxmeta.ops.statistics import PERCENTILES
from tests.tiny_runs import RUNS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
OPTIMISERS = ("rl2.md#Of policy optimisation", "rl2.md#Of PPO", "rl2.md#Of TRPO")
TABLES = {
    "rl2": ("rl2.md#Metrics", *OPTIMISERS),
    "epopt": ("epopt.md#Metrics", *OPTIMISERS),
    "maml": ("maml.md#Metrics:0",),
    "policy-maml": ("maml.md#Metrics:1", *OPTIMISERS),
    "gmps": ("gmps.md#Metrics",),
    "sac": ("sac.md#Metrics",),
}
"""Where the metrics of an algorithm are told: file, heading and, of several, which table of it."""
RUN_OF = {"reptile": "maml"} | {
    name: next(a for a in ("policy-maml", *TABLES) if name.startswith(a))
    for name in RUNS
    if name != "reptile"
}


def documented(where):
    """Names in the first column of a table, lists with an ellipsis written out."""
    file, heading = where.split("#")
    heading, _, index = heading.partition(":")
    text = (DOCS / file).read_text()
    section = re.split(rf"^#+ {heading}$", text, flags=re.MULTILINE)[1].split("\n#")[0]
    tables = re.split(r"^\| Name \| Meaning \|$", section, flags=re.MULTILINE)[1:]
    rows = [x for x in tables[int(index or 0)].split("\n\n")[0].splitlines() if x.startswith("| `")]
    names = set()
    for row in rows:
        cell = row.split("|")[1]
        names |= set(re.findall(r"`([^`]+)`", cell))
        if "return_p5" in cell and ("…" in cell or "..." in cell):
            names |= {f"return_p{p}" for p in PERCENTILES if p != 50}
    return names


def logged(name):
    _, metrics = jax.eval_shape(jaxmeta.make_train(RUNS[name]), jax.random.key(0))
    return set(metrics)


def conditional(name):
    """Metrics of more inner steps, a source that adapts, evaluation, or continuous actions."""
    return name.startswith(("return_after_", "source_", "eval/", "action_at_bound"))


@pytest.mark.parametrize("algorithm", TABLES)
def test_the_documented_metrics_are_those_that_are_logged(algorithm):
    told = set().union(*(documented(where) for where in TABLES[algorithm]))
    found = set().union(*(logged(run) for run, of in RUN_OF.items() if of == algorithm))
    assert found <= told
    assert {name for name in told - found if not conditional(name)} == set()


def test_metrics_of_longer_adaptation_are_documented():
    config = RUNS["policy-maml-ppo"]
    inner = jaxmeta.InnerLoop(steps=2)
    longer = replace(config, algorithm=replace(config.algorithm, inner=inner))
    _, metrics = jax.eval_shape(jaxmeta.make_train(longer), jax.random.key(0))
    assert "return_after_1" in metrics
    assert "return_after_1" in documented("maml.md#Metrics:1")
    assert "return_after_1" in documented("gmps.md#Metrics")


def test_sections_of_the_optimisers_are_of_them():
    ppo, trpo = documented("rl2.md#Of PPO"), documented("rl2.md#Of TRPO")
    assert ppo <= logged("rl2-gru")
    assert not ppo & logged("rl2-trpo")
    assert trpo <= logged("rl2-trpo")
    assert not trpo & logged("rl2-gru")


def test_batches_of_presets_are_as_large_as_the_docs_say():
    sizes = [c.algorithm.num_tasks for (name, _), c in presets.PRESETS.items() if name == "rl2"]
    told = re.search(
        r"\*\*Batches\*\* are small, (\d+) to (\d+) trials", (DOCS / "rl2.md").read_text()
    )
    assert told is not None
    assert (min(sizes), max(sizes)) == tuple(map(int, told.groups()))


def test_schedules_of_rl2_presets_end_at_zero():
    for (name, _), config in presets.PRESETS.items():
        if name == "rl2":
            bonus = config.algorithm.entropy_coef
            assert config.algorithm.learning_rate.final == 0.0
            assert (bonus.final if isinstance(bonus, Schedule) else bonus) == 0.0


def test_epsilon_falls_when_the_docs_say():
    text = (DOCS / "epopt.md").read_text()
    assert EPOpt().risk.fraction == Schedule(1.0, 0.1, 100, "step")
    assert "By default ε is 1 for the first 100 updates" in text
    (told,) = re.findall(r"presets, whose runs are shorter, let it fall after (\d+) updates", text)
    for (name, _), config in presets.PRESETS.items():
        if name == "epopt":
            assert config.algorithm.risk.fraction == Schedule(1.0, 0.1, int(told), "step")


def test_measurements_in_the_docs_are_those_of_the_files():
    results = ROOT / "results"
    costs = json.loads((results / "epopt" / "cost.json").read_text())
    told = re.search(
        r"took ([\d.]+) to ([\d.]+) times .* own ([\d.]+) to ([\d.]+) times",
        (DOCS / "epopt.md").read_text().replace("\n", " "),
    )
    assert told is not None
    rows = [costs[family] for family in ("cartpole", "pendulum")]
    for index, kind in ((0, "filter"), (2, "own physics")):
        found = sorted(round(row[kind], 2) for row in rows)
        assert found == [float(x) for x in told.groups()[index : index + 2]]
    text = (DOCS / "scaling.md").read_text().replace("\n", " ")
    shares = json.loads((results / "device_cost.json").read_text())["processes"]
    for tasks in ("8,192", "1,024"):
        ratio = shares[f"rl2 bernoulli-bandit, {tasks} tasks"]["ratio"]["4"]
        assert re.search(
            rf"{tasks} tasks[^.]* {ratio:.2f} times|{tasks} tasks {ratio:.2f} times", text
        )
    for cell in ("rl2-bandit", "maml-sinusoid"):
        rounded = json.loads((results / "low_precision" / f"{cell}.json").read_text())
        assert f"{rounded['bfloat16']['total']['mean']:.3f}" in text
    curves = json.loads((results / "rl2_curves" / "mdp-25.json").read_text())["runs"]
    text = (DOCS / "rl2.md").read_text()
    for run in ("t4", "t5"):
        assert f"{curves[run]['held_out']['mean']:.1f}" in text
