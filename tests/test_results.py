"""The scripts that write the files under results/, and what these hold."""

import dataclasses
import importlib
import importlib.util
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta.training.loop import trace_chunk
from jaxmeta_envs import PointNavigation
from tests.toys import ToyFamily, ToyLearner

ROOT = Path(__file__).parent.parent
TABLES = sorted((ROOT / "results" / "rl2_tables").glob("*.json"))
CELLS = sorted((ROOT / "results" / "adaptation").glob("*.json"))


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


@pytest.fixture
def page(monkeypatch):
    """Imports modules of scripts/, as the page does."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


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
    # All columns met the same tasks with the same luck: the difference is of single tasks.
    assert cell["paired"]
    assert cell["held_out_tasks"] == 40
    greedy = cell["baselines"]["Greedy"]
    difference = cell["rl2"]["mean"] - greedy["mean"]
    assert greedy["rl2_better_by"] == pytest.approx(difference, abs=1e-5)
    apart = (cell["rl2"]["standard_error"] ** 2 + greedy["standard_error"] ** 2) ** 0.5
    assert greedy["rl2_better_by_standard_error"] < apart
    assert "the same 40 held-out tasks" in script.tasks_met(cell)
    assert "not paired" in script.tasks_met({**cell, "paired": False})
    assert str(tmp_path) not in json.dumps(cell), "a result names no path of the machine"
    assert "6.6 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="bandit:3:3"):
        script.main(("bandit:3:3",))


@pytest.mark.slow
@pytest.mark.parametrize("swept", [None, ("half_length", 0.5, 0.6)])
def test_robustness_is_trained_measured_and_written(
    swept, load_script, page, tmp_path, monkeypatch, capsys
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
    monkeypatch.setitem(page("reproduce.epopt_robustness").SETTINGS, "cartpole", setting)
    section = page("results_page.appendix").robustness_table(json.loads(text))
    assert ("| half length | 0.5 | 0.517 |" in section) == (swept is not None)
    assert str(tmp_path) not in text
    assert "worst decile" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="walker"):
        script.main(("walker",))


@pytest.mark.slow
def test_locomotion_is_trained_measured_and_written(
    load_script, page, tmp_path, monkeypatch, capsys
):
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
    render = page("results_page.appendix").locomotion_table
    section, training = render(result), render(result | {"evaluation": None})
    assert "| **ProMP** | -" in section
    assert section.count("\n| ") - training.count("\n| ") == 6, "a heading, agent, four references"
    means = np.mean(result["training"]["return"], axis=0)
    assert all(f"| {mean:.1f} |" in training for mean in means)
    with pytest.raises(SystemExit, match="walker"):
        script.main(("walker",))


@pytest.mark.slow
def test_navigation_is_trained_measured_and_written(
    load_script, page, tmp_path, monkeypatch, capsys
):
    script = load_script("reproduce/maml_navigation")
    tiny = jaxmeta.PolicyMAML(num_tasks=2, shots=2, network=jaxmeta.MLP((4,), "tanh"))
    tasks = PointNavigation(episode_length=5)
    preset = jaxmeta.TrainConfig(tiny, tasks, total_env_steps=1, updates_per_chunk=1)
    monkeypatch.setattr(script.jaxmeta, "preset", lambda *names: preset)
    monkeypatch.setattr(script, "SHOTS", 3)
    small = {"seeds": 2, "num_tasks": 4, "runs": tmp_path / "runs"}
    script.main(("maml",), out=tmp_path / "out", **small)
    text = (tmp_path / "out" / "maml.json").read_text()
    cell = json.loads(text)
    assert np.shape(cell["per_seed"]) == (2, script.ROWS)
    assert str(tmp_path) not in text
    assert "-11.68" in capsys.readouterr().out
    section = page("results_page.appendix").navigation_table([cell])
    assert "| **maml** | -" in section
    assert "| MAML's paper | -40.41 |" in section
    assert "| oracle | -" in section
    with pytest.raises(SystemExit, match="walker"):
        script.main(("walker",))


def test_meta_gradients_are_measured_and_written(load_script, tmp_path, monkeypatch, capsys):
    script = load_script("reproduce/meta_gradients")
    monkeypatch.setattr(script, "ESTIMATORS", {"E-MAML": script.ESTIMATORS["E-MAML"]})
    out = tmp_path / "tiny.json"
    script.main(steps=(1,), episodes=(2,), horizons=(), tasks=4, updates=40, out=out)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["expected_bias"] == 0.0
    assert row["p"] > 1e-4
    for name in ("bias", "deviation", "cosine"):
        assert row[name]["low"] <= row[name]["high"]
    assert "E-MAML" in capsys.readouterr().out


def test_reported_meta_gradients_are_as_expected():
    """What E-MAML estimates is exact, LVC varies less than DiCE; means are those enumerated."""
    result = json.loads((ROOT / "results" / "meta_gradients" / "tiny.json").read_text())
    rows = {(r["estimator"], r["steps"], r["episodes"]): r for r in result["rows"]}
    assert len(rows) == 30
    for (name, steps, episodes), row in rows.items():
        assert row["p"] > 1e-4
        assert (row["expected_bias"] == 0.0) == (name == "E-MAML")
        if name == "LVC":
            other = rows["DiCE", steps, episodes]
            assert row["deviation"]["value"] < other["deviation"]["value"]
        if name == "DiCE":  # what is left of all terms falls as 1/N
            assert row["plain_bias"] < 0.2 / episodes * steps
    for row in result["horizons"]:
        assert row["LVC"]["high"] < row["DiCE"]["low"]


@pytest.mark.slow
def test_the_cost_of_the_filter_is_measured(load_script, tmp_path, monkeypatch):
    script = load_script("epopt_cost")
    monkeypatch.setattr(script, "FAMILIES", ("pendulum",))
    script.main(repetitions=1, tasks=4, out=tmp_path / "cost.json")
    costs = json.loads((tmp_path / "cost.json").read_text())["pendulum"]
    assert set(costs) == {"filter", "own physics"}
    assert all(cost > 0 for cost in costs.values())


def test_what_a_compiled_program_needs_is_read_from_it(load_script, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    script = load_script("compile_tpu")
    config = jaxmeta.TrainConfig(algorithm=ToyLearner(size=3), tasks=ToyFamily())
    for devices, expected in ((1, {}), (4, {"all-reduce": 1})):
        found = script.describe(trace_chunk(config, jax.devices()[:devices]).lower().compile())
        assert found["collectives"] == expected
        assert found["largest_collective"] == (4 if expected else 0)  # a gradient and a loss
        assert found["argument_bytes"] > 0
    for name in script._PROGRAMS:
        multiple = 4 * script.training_run(name).algorithm.task_multiple
        assert script.training_run(name).algorithm.num_tasks % multiple == 0


def test_the_cost_of_sharing_is_measured(load_script, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")
    script = load_script("device_cost")
    monkeypatch.setattr(script, "COUNTS", (1, 4))
    config = jaxmeta.TrainConfig(algorithm=ToyLearner(), tasks=ToyFamily())
    found = script.measure(config, repetitions=2)
    assert found["ratio"]["1"] == 1.0
    assert 0 < found["ratio"]["4"] <= found["worst_ratio"]["4"]


def test_programs_for_tpus_only_add_up():
    result = json.loads((ROOT / "results" / "tpu_compile.json").read_text())
    for row in result["programs"]:
        assert set(row["collectives"]) == ({"all-reduce"} if row["chips"] > 1 else set())


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


PROGRAM = """HloModule m

%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %t = f32[4]{0} tanh(f32[4]{0} %p)
}

%inner (s: (s32[], f32[4])) -> (s32[], f32[4]) {
  %s = (s32[], f32[4]{0}) parameter(0)
  %x = f32[4]{0} get-tuple-element((s32[], f32[4]{0}) %s), index=1
  %y = f32[4]{0} fusion(f32[4]{0} %x), kind=kLoop, calls=%fused
  %d = f32[4]{0} custom-call(f32[4]{0} %y), custom_call_target="dot"
  ROOT %r = (s32[], f32[4]{0}) tuple(s32[] %i, f32[4]{0} %d)
}

%outer (s: (s32[], f32[4])) -> (s32[], f32[4]) {
  %s = (s32[], f32[4]{0}) parameter(0)
  %w = (s32[], f32[4]{0}) while((s32[], f32[4]{0}) %s), condition=%c, body=%inner
  %a = f32[4]{0} add(f32[4]{0} %x, f32[4]{0} %x)
  %b = f32[4]{0} add(f32[4]{0} %a, f32[4]{0} %x)
  %e = f32[4]{0} add(f32[4]{0} %b, f32[4]{0} %x)
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %w = (s32[], f32[4]{0}) while((s32[], f32[4]{0}) %t), condition=%c, body=%outer
}
"""


def test_kernels_of_a_step_are_counted(load_script):
    script = load_script("benchmark")
    assert script.kernels_per_step(PROGRAM) == 2
    assert script.kernels_per_step("HloModule m") == 0

    def many(x):
        return jax.lax.scan(lambda x, _: (jnp.cumsum(jnp.sort(x)), None), x, None, 5)[0]

    text = jax.jit(many).lower(jnp.zeros(8)).compile().as_text()
    assert script.kernels_per_step(text) >= 2


def test_stages_end_when_the_time_is_up(load_script, tmp_path, monkeypatch, capsys):
    script = load_script("accelerator")
    for name, code in (("good", "pass"), ("bad", "raise SystemExit(3)"), ("long", "input()")):
        (tmp_path / name).write_text("import time\n" + code.replace("input()", "time.sleep(60)"))
    monkeypatch.setattr(script, "SCRIPTS", tmp_path)
    monkeypatch.setattr(script, "STAGES", {name: [name] for name in ("good", "bad", "long")})
    assert script.main(("good",), minutes=1.0) == 0
    assert script.main(("bad", "good", "long", "good"), minutes=0.1) == 1
    ended = capsys.readouterr().out.splitlines()[-3:]
    assert ended[0] == "bad: failed with exit code 3"
    assert ended[1] == "good: not begun, as the time was up"
    assert ended[2] == "long: stopped, as the time was up"
    with pytest.raises(SystemExit, match="stages has 'all'"):
        script.main(("all",))


def test_sinusoids_are_learned_measured_and_written(load_script, tmp_path, monkeypatch, capsys):
    script = load_script("reproduce/maml_sinusoid")
    monkeypatch.setattr(script, "FINE_TUNING", (0.001, 0.01))
    small = {"seeds": 2, "iterations": 2, "num_tasks": 16}
    script.main(("pretrained",), "paper", runs=tmp_path / "runs", out=tmp_path / "out", **small)
    text = (tmp_path / "out" / "paper-pretrained.json").read_text()
    result = json.loads(text)
    assert result["iterations"] == 2
    assert result["fine_tuning_step"] in script.FINE_TUNING
    assert result["references"]["oracle"] == 0.0
    assert set(result["losses"]) == {script.AS_TRAINED}
    for losses in result["losses"][script.AS_TRAINED].values():
        assert losses["best_99_percent"][0] < losses["mean"][0] < 20.0
        assert len(losses["mean_per_seed"]) == 2
    assert str(tmp_path) not in text
    assert "2.41 / " in capsys.readouterr().out
    with pytest.raises(SystemExit, match="cosine"):
        script.main(("cosine",))


def test_a_task_that_diverges_leaves_the_median_and_the_best_99_percent(load_script):
    script = load_script("reproduce/maml_sinusoid")
    losses = np.ones((2, 200, 2), np.float32)
    losses[:, :2, 1] = np.nan, 1e30
    found = script.summarize(losses)
    assert found["mean"] == [1.0, None]
    assert found["best_99_percent"] == found["median"] == [1.0, 1.0]
    assert found["mean_per_seed"] == [[1.0, None], [1.0, None]]


def test_products_are_rounded_to_bfloat16_in_both_directions(load_script):
    script = load_script("reproduce/low_precision")
    rng = np.random.default_rng(0)
    x, w, c = (rng.normal(size=shape).astype(np.float32) for shape in ((5, 8), (8, 3), (5, 3)))

    def product_and_gradient(x):
        product, gradient = jax.vjp(lambda x: x @ w, x)
        return product, gradient(jnp.asarray(c))[0]

    exact = jax.jit(product_and_gradient)(x)
    with script.rounded_products():
        rounded = jax.jit(product_and_gradient)(x)
    x16, w16, c16 = (a.astype(jnp.bfloat16).astype(np.float64) for a in (x, w, c))
    for found, expected in zip(rounded, (x16 @ w16, c16 @ w16.T), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert abs(rounded[0] - exact[0]).max() > 1e-3
    np.testing.assert_allclose(jax.jit(product_and_gradient)(x)[0], exact[0], rtol=1e-6)


@pytest.fixture
def torch():
    """PyTorch with one thread, whatever else the machine does; skips without it."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return torch


def test_the_comparison_with_torch_runs(load_script, torch, tmp_path, monkeypatch, capsys):
    script = load_script("compare_torch")
    monkeypatch.setattr(script, "THREADS", 1)
    script.main(quick=True, out=tmp_path / "torch.json")
    problems = json.loads((tmp_path / "torch.json").read_text())["problems"]
    assert set(problems["sinusoid"]["per_s"]) == {"jaxmeta", "torch.func", "torch, task by task"}
    assert set(problems["navigation"]["ratios"]) == {"torch, task by task"}
    assert all(rate > 0 for row in problems.values() for rate in row["per_s"].values())
    assert "torch.func" in capsys.readouterr().out


def test_short_bandits_reach_99_percent_of_the_gap_to_the_optimum_on_every_seed():
    found = json.loads((ROOT / "results" / "bandit_gap.json").read_text())
    for cell in ("bandit-5-10", "bandit-10-10"):
        shares = [seed["sampled"]["share_of_gap"] for seed in found[cell]["seeds"]]
        errors = [seed["sampled"]["standard_error_of_share"] for seed in found[cell]["seeds"]]
        assert len(shares) == 5
        assert min(shares) >= 0.99
        assert max(errors) < 0.002
        text = (ROOT / "docs" / "rl2.md").read_text()
        assert "five seeds reach 99.4 to 99.9 %" in text  # at k = 5 and k = 10
        assert 0.9935 <= min(shares) <= max(shares) < 0.9995


def test_the_luck_of_tasks_is_taken_off_and_nothing_else(load_script):
    script = load_script("reproduce/bandit_gap")
    rng = np.random.default_rng(0)
    means = np.sort(rng.uniform(size=(50_000, 4)), axis=1)
    values = 3 * means[:, -1] + means[:, 0] ** 2 + 0.1 * rng.normal(size=50_000)
    mean, error = script.without_the_luck_of_tasks(values, means)
    exact = 3 * 4 / 5 + 2 / 30  # of order statistics: E max = 4 / 5, E min² = 2 / ((4 + 1)(4 + 2))
    assert abs(mean - exact) < 4 * error
    assert error < 0.25 * values.std() / 50_000**0.5


def test_the_torch_programs_learn_the_same_thing(load_script, torch):
    """Both write the same mathematics: from the same parameters and tasks the same losses."""
    script = load_script("plain_torch")
    losses = []
    for program in (script.sinusoid_by_loop, script.sinusoid_by_func):
        torch.manual_seed(0)
        iterations = program(tasks=3)
        losses.append([next(iterations) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_torch_navigation_improves(load_script, torch):
    script = load_script("plain_torch")
    np.random.seed(0)  # noqa: NPY002
    settings = script.Navigation(tasks=4, shots=10, length=20, hidden=8)
    iterations = script.navigation(settings)
    returns = [next(iterations) for _ in range(25)]
    assert np.mean(returns[-5:]) > np.mean(returns[:5]) + 1.0
