"""RESULTS.md says what the files under results/ hold."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxmeta
from jaxmeta_envs import PointNavigation

ROOT = Path(__file__).parent.parent
TABLES = sorted((ROOT / "results" / "rl2_tables").glob("*.json"))
CELLS = sorted((ROOT / "results" / "rl2_adaptation").glob("*.json"))


@pytest.fixture
def load_script(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])

    def load(name):
        path = ROOT / "scripts" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
        spec.loader.exec_module(module)
        return module

    return load


def test_the_page_is_what_the_files_render_to(load_script):
    script = load_script("render_results")
    page = (ROOT / "RESULTS.md").read_text()
    assert page.split(script.START)[1].split(script.END)[0].strip() == script.render().strip()


@pytest.mark.parametrize("path", CELLS, ids=lambda p: p.stem)
def test_reported_agents_do_not_pass_the_optimum(path):
    """A mean above the exact optimum by more than chance would be a defect of ours."""
    evaluation = json.loads(path.read_text())["evaluation"]
    total = evaluation["policies"][evaluation["agent"]]["total"]
    if evaluation["optimal"] is not None:
        assert total["mean"] < evaluation["optimal_total"] + 3 * total["stderr"]


@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.stem)
def test_learned_cells_do_not_pass_the_optimum(path):
    cell = json.loads(path.read_text())
    if cell["optimum"] is not None:
        assert cell["rl2"]["mean"] < cell["optimum"] + 3 * cell["rl2"]["standard_error"]


def test_a_cell_is_trained_measured_and_written(load_script, tmp_path, capsys):
    script = load_script("reproduce/rl2_tables")
    small = {"seeds": 1, "steps": 1, "num_tasks": 40, "baseline_tasks": 40}
    script.main(("bandit:5:10",), runs=tmp_path / "runs", out=tmp_path / "out", **small)
    cell = json.loads((tmp_path / "out" / "bandit-5-10.json").read_text())
    assert cell["optimum"] == pytest.approx(6.66, abs=1e-3)
    assert 3 < cell["rl2"]["mean"] < 7
    assert str(tmp_path) not in json.dumps(cell), "a result names no path of the machine"
    assert "6.6 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="bandit:3:3"):
        script.main(("bandit:3:3",))


@pytest.mark.parametrize(
    "swept", [None, pytest.param(("half_length", 0.5, 0.6), marks=pytest.mark.slow)]
)
def test_robustness_is_trained_measured_and_written(
    swept, load_script, tmp_path, monkeypatch, capsys
):
    script = load_script("reproduce/epopt_robustness")
    tiny = script.CartPole(episode_length=10)
    agent = script.EPOpt(num_tasks=10, network=jaxmeta.MLP((4,), "tanh"))
    setting = script.Setting(tiny, agent, 1, "Tiny.", swept=swept)
    monkeypatch.setitem(script.SETTINGS, "cartpole", setting)
    small = {"seeds": 2, "steps": 1, "num_tasks": 20}
    script.main(("cartpole",), runs=tmp_path / "runs", out=tmp_path / "out", **small)
    text = (tmp_path / "out" / "cartpole.json").read_text()
    policies = json.loads(text)["policies"]
    assert set(policies) == {"EPOpt(0.1)", "EPOpt(1)", "one simulator"}
    for policy in policies.values():
        for part in (policy["mean"], policy["p10"], policy["worst_decile"]):
            assert part["low"] <= part["value"] <= part["high"]
        assert policy["worst_decile"]["value"] <= policy["p10"]["value"]
        assert ("curve" in policy) == (swept is not None)
        if swept is not None:
            assert policy["curve"]["half_length"][::12] == pytest.approx([0.5, 0.6])
            assert all(1 <= x <= 10 for x in policy["curve"]["return"])
    section = load_script("render_results").describe_robustness(json.loads(text))
    assert ("| half length | 0.5 | 0.517 |" in section) == (swept is not None)
    assert str(tmp_path) not in text
    assert "worst decile" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="walker"):
        script.main(("walker",))


@pytest.mark.slow
def test_locomotion_is_trained_measured_and_written(load_script, tmp_path, monkeypatch, capsys):
    script = load_script("reproduce/locomotion")
    # Nothing of it needs a body.
    monkeypatch.setitem(script.FAMILIES, "ant-goal", PointNavigation)
    settings = {"num_tasks": 2, "shots": 2, "network": jaxmeta.MLP((4,), "tanh")}
    monkeypatch.setattr(script, "REDUCED", dataclasses.replace(script.REDUCED, **settings))
    small = {"updates": 1, "seeds": 2, "num_tasks": 3, "runs": tmp_path / "runs"}
    script.main(("ant-goal",), out=tmp_path / "out", **small)
    text = (tmp_path / "out" / "ant-goal-reduced.json").read_text()
    result = json.loads(text)
    assert np.shape(result["training"]["return"]) == (10, 2)
    assert str(tmp_path) not in text
    assert "seed 1001: [-" in capsys.readouterr().out
    render = load_script("render_results").describe_locomotion
    section, training = render(result), render(result | {"evaluation": None})
    assert "| **PolicyMAML** | -" in section
    assert section.count("\n| ") - training.count("\n| ") == 6, "a heading, agent, four references"
    means = np.mean(result["training"]["return"], axis=0)
    assert all(f"| {mean:.1f} |" in training for mean in means)
    with pytest.raises(SystemExit, match="walker"):
        script.main(("walker",))


def test_the_cost_of_the_filter_is_measured(load_script, tmp_path, monkeypatch):
    script = load_script("epopt_cost")
    monkeypatch.setattr(script, "FAMILIES", ("pendulum",))
    script.main(repetitions=1, tasks=4, out=tmp_path / "cost.json")
    costs = json.loads((tmp_path / "cost.json").read_text())["pendulum"]
    assert set(costs) == {"filter", "own physics"}
    assert all(cost > 0 for cost in costs.values())


def test_the_benchmark_runs(load_script, tmp_path, monkeypatch, capsys):
    script = load_script("benchmark")
    monkeypatch.setattr(script, "UPDATES", 1)
    monkeypatch.setattr(script, "MEMORIES", {"gru-64": script.GRU(4)})
    monkeypatch.setattr(script, "FAMILIES", {"bernoulli-bandit": script.BernoulliBandit(5, 100)})
    script.main(quick=True, out=tmp_path / "speed.json")
    (row,) = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert set(row["steps_per_s"]) == {"rollout", "update", "plain rollout", "plain update"}
    assert all(value > 0 for value in row["steps_per_s"].values())
    assert "bernoulli-bandit" in capsys.readouterr().out
