import inspect
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta.evaluation import evaluate as evaluation
from jaxmeta.evaluation import intervals
from jaxmeta.evaluation import result as report
from jaxmeta.evaluation.evaluate import (
    Evaluation,
    evaluate,
    evaluate_policy,
    evaluation_key,
    quick_evaluation,
)
from jaxmeta.evaluation.result import NUM_TASKS, read_evaluation
from jaxmeta.ops import statistics
from jaxmeta_envs.core.errors import ConfigError
from tests.eval_toys import (
    TRACES,
    Echo,
    constant,
    counting,
    learner,
    noisy,
    trained,
)

KEY = evaluation_key(0)
SECRETS = Echo(scale=1.0, noise=0.5)

# Most of the time here is compilation: tests share policies, families and shapes.
TASKS = 7
NOISY = noisy()
CONSTANT = constant()


def play(policy, params, family, **options):
    options = {"key": KEY, "num_tasks": TASKS, "episodes": 3} | options
    return evaluate_policy(policy, params, family, **options)


def test_row_k_is_the_episode_after_k_episodes_of_experience():
    returns = play(counting(), jnp.float32(0.0), Echo(), episodes=5)
    assert returns.shape == (TASKS, 5)
    assert returns.dtype == np.float32
    np.testing.assert_array_equal(returns, np.tile(np.arange(5.0), (TASKS, 1)))


def test_a_policy_that_adapts_to_four_episodes_at_a_time_learns_through_adapt():
    returns = play(learner(together=4), (), Echo(), episodes=4)
    np.testing.assert_allclose(returns, np.tile(np.arange(4.0), (TASKS, 1)), atol=1e-6)


def test_the_return_of_parallel_episodes_is_their_mean():
    one = play(NOISY, (), Echo(), num_tasks=1000)
    many = play(noisy(together=25), (), Echo(), num_tasks=1000)
    # A return is the mean of two standard normal actions.
    assert one.std() == pytest.approx(0.5**0.5, rel=0.05)
    assert many.std() == pytest.approx(0.5**0.5 / 5, rel=0.05)


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_the_batch_size_changes_nothing(batch):
    whole = play(NOISY, (), SECRETS)
    np.testing.assert_array_equal(play(NOISY, (), SECRETS, batch=batch), whole)


def test_more_tasks_leave_the_first_ones_as_they_are():
    few = play(NOISY, (), SECRETS)
    more = play(NOISY, (), SECRETS, num_tasks=2 * TASKS, batch=TASKS)
    np.testing.assert_array_equal(more[:TASKS], few)


def test_tasks_differ_and_keys_matter():
    family = Echo(scale=1.0)
    returns = play(CONSTANT, jnp.float32(0.0), family)
    assert len(np.unique(returns[:, 0])) == TASKS
    np.testing.assert_array_equal(returns, returns[:, :1].repeat(3, axis=1))
    other = play(CONSTANT, jnp.float32(0.0), family, key=evaluation_key(1))
    assert not np.isin(other, returns).any()


def test_a_policy_that_is_told_the_task_receives_it():
    family = Echo(scale=1.0)
    secrets = play(CONSTANT, jnp.float32(0.0), family)
    told = family.references(1)["told"]
    returns = play(told.policy, told.params, family, told_task=True)
    np.testing.assert_allclose(returns, 3 * secrets, rtol=1e-5)


def test_the_split_decides_where_the_tasks_are_from():
    family = Echo(scale=1.0)
    assert np.all(play(CONSTANT, jnp.float32(0.0), family, split="far") > 90)


def test_evaluation_keys_are_none_of_trainings():
    data = jax.random.key_data
    training = [
        key for seed in range(5) for key in (jax.random.key(seed), *jax.random.split(KEY, 64))
    ]
    assert not any((data(evaluation_key(0)) == data(key)).all() for key in training)
    train_keys = jax.random.split(jax.random.key(0), 64)
    assert not (data(train_keys) == data(KEY)[None]).all(axis=1).any()


def test_every_seed_and_every_reference_meets_the_same_tasks_with_the_same_luck():
    evaluation = evaluate(trained(levels=(0.0, 0.0, 5.0), family=SECRETS), num_tasks=TASKS)
    assert evaluation.returns.shape == (3, TASKS, 3)
    assert np.unique(evaluation.returns).size > TASKS
    np.testing.assert_array_equal(evaluation.returns[0], evaluation.returns[1])
    np.testing.assert_allclose(evaluation.returns[2], evaluation.returns[0] + 5, rtol=1e-5)
    np.testing.assert_array_equal(evaluation.references["count"], evaluation.returns[0])


def test_curves_are_as_long_as_in_training_unless_asked():
    result = trained()
    assert evaluate(result, num_tasks=TASKS, references=False).returns.shape == (2, TASKS, 3)
    longer = evaluate(result, num_tasks=TASKS, episodes=12)
    np.testing.assert_array_equal(longer.returns[0, 0], np.arange(12.0))
    assert longer.trained_rows == 3
    assert longer.optimal.shape == (12,)
    np.testing.assert_array_equal(longer.references["planner"], 12.0)


def test_references_have_as_much_experience_as_an_agent_that_adapts_to_several_episodes():
    # Twelve episodes of training are three steps of four.
    evaluation = evaluate(trained(episodes=12, together=4), num_tasks=TASKS)
    np.testing.assert_array_equal(evaluation.returns[0], [[0, 1, 2]] * TASKS)
    np.testing.assert_array_equal(evaluation.references["count"], [[0, 4, 8]] * TASKS)
    np.testing.assert_array_equal(evaluation.references["planner"], 9.0)
    assert evaluation.optimal is None
    assert "regret" not in evaluation.summary()["policies"]["ToyAlgorithm"]["final"]


def test_references_can_be_left_out():
    assert evaluate(trained(), num_tasks=TASKS, references=False).references == {}


def test_the_optimum_of_a_shifted_split_is_not_known():
    assert evaluate(trained(), num_tasks=TASKS, references=False).optimal is not None
    shifted = evaluate(trained(), num_tasks=TASKS, references=False, split="far")
    assert shifted.optimal is None


def test_regret_is_what_is_missing_to_the_exact_optimum():
    evaluation = evaluate(trained(levels=(0.0, 1.0)), num_tasks=TASKS)
    summary = evaluation.summary()
    agent = summary["policies"]["ToyAlgorithm"]
    assert summary["optimal"] == [10.0, 11.0, 12.0]
    assert agent["total"]["mean"] == 4.5  # 0 + 1 + 2 and 1 + 2 + 3
    assert agent["total"]["regret"] == 33 - 4.5
    assert agent["rows"]["regret"] == [9.5, 9.5, 9.5]
    # Of seeds 3 and 6 with one degree of freedom.
    half = 12.7062 * 1.5
    assert agent["total"]["regret_low"] == pytest.approx(33 - 4.5 - half, abs=1e-3)
    assert agent["total"]["regret_high"] == pytest.approx(33 - 4.5 + half, abs=1e-3)
    assert agent["total"]["regret_low"] == 33 - agent["total"]["high"]


def test_the_summary_is_what_the_statistics_say():
    rng = np.random.default_rng(0)
    returns, other = rng.normal(size=(3, 40, 4)), rng.normal(size=(40, 4))
    summary = Evaluation(returns, {"other": other}).summary()
    for name, values in (("agent", returns), ("other", other[None])):
        rows, total = (summary["policies"][name][part] for part in ("rows", "total"))
        sums = values.sum(axis=2)
        for key, of in (
            ("mean", statistics.mean),
            ("iqm", statistics.iqm),
            ("cvar10", statistics.cvar),
            ("median", np.median),
            ("p10", lambda x: np.percentile(x, 10)),
            ("worst", statistics.worst),
        ):
            assert total[key] == pytest.approx(of(sums))
            np.testing.assert_allclose(rows[key], [of(values[..., k]) for k in range(4)])
        assert total["stderr"] == pytest.approx(intervals.standard_error(sums))
        interval = [total["low"], total["high"]]
        np.testing.assert_allclose(interval, intervals.mean_interval(sums))
        interval = [total["iqm_low"], total["iqm_high"]]
        np.testing.assert_allclose(interval, intervals.bootstrap(sums, statistics.iqm))
        interval = [total["cvar10_low"], total["cvar10_high"]]
        np.testing.assert_allclose(interval, intervals.bootstrap(sums, statistics.cvar))


def test_evaluating_twice_compiles_once():
    evaluate(trained(levels=(0.0, 1.0)), num_tasks=TASKS)
    TRACES.clear()
    # Other seeds and parameters, and an equal configuration that is another object.
    evaluate(trained(levels=(3.0, 4.0)), num_tasks=TASKS, seed=5)
    assert TRACES == {}


def test_batches_and_seeds_share_one_compilation():
    policy = counting("batches")
    play(policy, jnp.float32(0.0), Echo(), num_tasks=10, batch=4)
    traces = TRACES["batches"]
    play(policy, jnp.float32(1.0), Echo(), num_tasks=9, batch=3)
    play(policy, jnp.float32(1.0), Echo(), num_tasks=8, batch=4)
    # Batches of 4, 3 and 4 tasks on one device: two shapes at most.
    assert TRACES["batches"] <= 2 * traces


def test_a_run_directory_is_loaded_and_written_to(tmp_path, monkeypatch):
    result = trained(run_dir=tmp_path)
    loaded = []
    monkeypatch.setattr(evaluation, "load", lambda path: loaded.append(path) or result)
    evaluate(str(tmp_path), num_tasks=TASKS, references=False)
    assert loaded == [str(tmp_path)]
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"evaluation-7-tasks.json", "evaluation-7-tasks.npz", "adaptation-7-tasks.png"}


def test_what_is_measured_otherwise_replaces_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "NUM_TASKS", TASKS)
    result = trained(run_dir=tmp_path)
    ways = {
        "": {},
        "-far": {"split": "far"},
        "-5-rows": {"episodes": 5},
        "-2-each": {"episodes_per_point": 2},
        "-8-tasks": {"num_tasks": 8},
        "-seed-3": {"seed": 3},
        "-far-5-rows-2-each-8-tasks-seed-3": {
            **{"split": "far", "episodes": 5, "episodes_per_point": 2},
            **{"num_tasks": 8, "seed": 3},
        },
    }
    before: dict[str, bytes] = {}
    for suffix, options in ways.items():
        found = evaluate(result, **{"num_tasks": TASKS, "references": False} | options)
        assert found.suffix == suffix
        now = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        names = {f"evaluation{suffix}.json", f"evaluation{suffix}.npz", f"adaptation{suffix}.png"}
        assert now.keys() - before.keys() == names
        assert {name: now[name] for name in before} == before
        np.testing.assert_array_equal(read_evaluation(tmp_path, suffix).returns, found.returns)
        before = now


def test_by_default_nothing_is_added_to_the_names():
    for call in (evaluate, jaxmeta.compare):
        assert inspect.signature(call).parameters["num_tasks"].default == NUM_TASKS
    assert Evaluation(np.ones((1, NUM_TASKS, 2))).suffix == ""
    assert Evaluation(np.ones((1, NUM_TASKS, 2)), own_shots=5).suffix == "-5-shots"
    assert Evaluation(np.ones((1, NUM_TASKS, 2)), deterministic=True).suffix == "-mode"


def test_nothing_is_written_unless_asked_and_possible(tmp_path):
    evaluate(trained(run_dir=tmp_path), num_tasks=TASKS, save=False)
    evaluate(trained(run_dir=None), num_tasks=TASKS)
    assert list(tmp_path.iterdir()) == []


def test_what_one_value_cannot_tell_is_null_in_the_json(tmp_path):
    Evaluation(np.ones((1, 1, 2))).save(tmp_path)
    text = (tmp_path / "evaluation-1-tasks.json").read_text()
    content = json.loads(text, parse_constant=_refuse)
    total = content["policies"]["agent"]["total"]
    assert total["mean"] == 2
    assert [total[key] for key in ("stderr", "low", "high", "iqm_low")] == [None] * 4


def _refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_the_json_has_the_summary_and_the_npz_all_returns(tmp_path):
    evaluation = evaluate(trained(run_dir=tmp_path), num_tasks=TASKS, seed=3)
    written = tmp_path / "evaluation-7-tasks-seed-3.json"
    content = json.loads(written.read_text(), parse_constant=_refuse)
    assert content == evaluation.summary()
    assert content["agent"] == "ToyAlgorithm"
    assert content["family"] == "Echo"
    assert content["split"] == "test"
    assert (content["seed"], content["num_seeds"], content["num_tasks"]) == (3, 2, TASKS)
    assert content["curve_of_each_seed"] == [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]
    with np.load(written.with_suffix(".npz")) as arrays:
        np.testing.assert_array_equal(arrays["returns"], evaluation.returns)
        np.testing.assert_array_equal(arrays["optimal"], evaluation.optimal)
        for name, returns in evaluation.references.items():
            np.testing.assert_array_equal(arrays[f"reference/{name}"], returns)


def test_what_was_saved_is_read_again(tmp_path):
    assert read_evaluation(tmp_path) is None
    evaluation = evaluate(trained(run_dir=tmp_path, env_steps=24), num_tasks=TASKS, seed=3)
    again = read_evaluation(tmp_path, evaluation.suffix)
    assert again.summary() == evaluation.summary()
    assert again.env_steps == 24
    np.testing.assert_array_equal(again.returns, evaluation.returns)
    assert list(again.references) == list(evaluation.references)
    assert read_evaluation(tmp_path, "-far") is None


@pytest.mark.parametrize("damage", ["other returns", "cut", "no json", "old", "renamed"])
def test_files_that_are_no_whole_evaluation_are_not_read(damage, tmp_path):
    path = tmp_path / "evaluation-5-tasks.npz"
    evaluation = Evaluation(np.random.default_rng(0).normal(size=(2, 5, 3)))
    evaluation.save(tmp_path)
    if damage == "other returns":  # as a crash between the two files leaves them
        np.savez(path, returns=evaluation.returns + 1)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "no json":
        path.with_suffix(".json").write_text("{")
    elif damage == "old":
        content = json.loads(path.with_suffix(".json").read_text())
        del content["env_steps"]
        path.with_suffix(".json").write_text(json.dumps(content))
    else:
        path.rename(tmp_path / "evaluation-far.npz")
        path.with_suffix(".json").rename(tmp_path / "evaluation-far.json")
        assert read_evaluation(tmp_path, "-far") is None
    assert read_evaluation(tmp_path, "-5-tasks") is None


def lines(evaluation, width=100):
    from rich.console import Console

    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(evaluation.table())
    return [line.strip() for line in capture.get().splitlines() if line.strip()]


def test_the_table_lists_all_policies_best_first():
    text = lines(evaluate(trained(levels=(0.0, 1.0)), num_tasks=TASKS, episodes=12))
    assert text[0] == "ToyAlgorithm on Echo, split 'test'"
    starts = ("optimum", "planner", "ToyAlgorithm", "count", "told")
    shown = [
        next(s for s in starts if line.startswith(s)) for line in text[4:-3]
    ]  # after title, heading, rule
    assert shown == list(starts)
    agent = text[4 + shown.index("ToyAlgorithm")]
    assert agent.split()[1:6] == ["0.5", "1.5", "11.5", "72.0", "±76.2"]
    assert agent.split()[-1] == "114.0"
    assert text[-3] == "actions are sampled; a point is one episode"
    assert text[-2] == "2 seeds × 7 tasks × 12 episodes; from IQM on, of the total column"
    assert text[-1] == "± is 95 %, over seeds and tasks"


def test_reports_say_what_intervals_are_over_and_which_way_is_better():
    rng = np.random.default_rng(0)
    for seeds, over in ((1, "tasks only"), (3, "seeds and tasks")):
        found = Evaluation(rng.normal(size=(seeds, 9, 4)), optimal=np.ones(4))
        assert found.summary()["intervals"]["mean"] == f"t over {over}"
        assert found.summary()["intervals"]["cvar10"].endswith("over tasks only")
        text = "\n".join(lines(found))
        assert f"± is 95 %, over {over}" in text
        assert ("one seed" in text) == (seeds == 1)
        assert (text.count("↑"), text.count("↓")) == (4, 1)
    loss = Evaluation(rng.normal(size=(2, 9, 4)), score="loss", shots=5)
    assert (text := "\n".join(lines(loss))).count("↓") == 4
    assert "↑" not in text


def test_what_diverged_is_a_dash_in_the_table_and_comes_last():
    returns = np.full((2, 9, 4), np.nan)
    for score in ("return", "loss"):
        shots = 5 if score == "loss" else None
        found = Evaluation(returns, {"other": np.ones((9, 4))}, score=score, shots=shots)
        shown = [line.split()[0] for line in lines(found) if line.startswith(("agent ", "other"))]
        assert shown[-2:] == ["other", "agent"]
        assert any(line.startswith("agent ") and "–" in line for line in lines(found))


def test_the_table_of_one_episode_has_no_total():
    rng = np.random.default_rng(0)
    text = "\n".join(lines(Evaluation(rng.normal(size=(1, 1, 1)), episodes_per_adapt=4)))
    assert "total" not in text
    assert "regret" not in text
    assert "1 seed × 1 task; steps of 4 episodes" in " ".join(text.split())
    assert "±" not in next(line for line in text.splitlines() if line.startswith("agent  "))


def test_a_table_of_long_names_fits_eighty_columns():
    rng = np.random.default_rng(0)
    references = {"posterior sampling": 50 + rng.normal(size=(300, 10))}
    optimal = np.full(10, 61.0)
    text = lines(Evaluation(rng.normal(size=(2, 300, 10)), references, optimal), width=80)
    assert not any("…" in line for line in text)


def test_the_quick_evaluation_gives_one_value_per_seed():
    result = trained(levels=(0.0, 1.0))
    metrics = quick_evaluation(result.config, result.params, TASKS)
    assert set(metrics) == {"eval/return", "eval/return_first", "eval/return_last"}
    np.testing.assert_array_equal(metrics["eval/return"], [3.0, 6.0])
    np.testing.assert_array_equal(metrics["eval/return_first"], [0.0, 1.0])
    np.testing.assert_array_equal(metrics["eval/return_last"], [2.0, 3.0])
    TRACES.clear()
    quick_evaluation(result.config, result.params + 1, TASKS)
    assert TRACES == {}


def test_the_quick_evaluation_plays_held_out_tasks():
    splits = []

    class Noted(Echo):
        def sample_task(self, key, split="train"):
            splits.append(split)
            return super().sample_task(key, split)

    result = trained(family=Noted())
    splits.clear()
    quick_evaluation(result.config, result.params, TASKS)
    assert set(splits) == {"test"}


def test_the_quick_evaluation_plays_tasks_of_its_own():
    result = trained(levels=(0.0, 0.0, 0.0), family=SECRETS)
    quick = quick_evaluation(result.config, result.params, TASKS)["eval/return"]
    final = evaluate(result, num_tasks=TASKS, references=False).returns.sum(axis=2)
    assert quick[0] == quick[1]
    assert abs(quick[0] - final[0].mean()) > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "moon"}, r"split is 'moon'; it must be one of train, test, far"),
        ({"episodes": 0}, r"episodes is 0; it must be an integer of at least 1"),
        ({"episodes": 2.5}, r"episodes is 2.5"),
        ({"num_tasks": 0}, r"num_tasks is 0"),
        ({"num_tasks": True}, r"num_tasks is True"),
        ({"num_tasks": 10**12}, r"num_tasks is 1000000000000; it must be at most"),
        ({"episodes": 10**9}, r"episodes is 1000000000; it must be at most 100,000,000"),
        (
            {"episodes": 10**6, "num_tasks": 101},
            r"num_tasks is 101; .* 100 where each has 1",
        ),
        ({"batch": 0}, r"batch is 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_compiled(options, message):
    TRACES.clear()
    with pytest.raises(ConfigError, match=message):
        evaluate(trained(), **options)
    with pytest.raises(ConfigError, match=message):
        play(counting(), jnp.float32(0.0), Echo(), **options)
    assert TRACES == {}


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ConfigError, match="seed is"):
        evaluate(trained(), seed=seed)


def test_an_evaluation_of_the_wrong_shape_is_refused():
    returns = np.zeros((1, 3, 2))
    with pytest.raises(ConfigError, match="returns"):
        Evaluation(np.zeros((3, 2)))
    with pytest.raises(ConfigError, match=r"references\['random'\] is \(3, 1\)"):
        Evaluation(returns, {"random": np.zeros((3, 1))})
    with pytest.raises(ConfigError, match="optimal"):
        Evaluation(returns, optimal=np.zeros(3))
    with pytest.raises(ConfigError, match="named other than the agent"):
        Evaluation(returns, {"agent": np.zeros((3, 2))})


_ON_DEVICES = """
import jax, numpy as np, jax.numpy as jnp
from tests.eval_toys import Echo, noisy
from jaxmeta.evaluation.evaluate import evaluate_policy, evaluation_key
assert jax.device_count() == 3
returns = evaluate_policy(noisy(), (), Echo(scale=1.0, noise=0.5), key=evaluation_key(0),
                          num_tasks=7, episodes=3, batch=5)
print(returns.tolist())
"""


def test_the_number_of_devices_changes_nothing():
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": "3",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([".", "envs"]),
    }
    done = subprocess.run(
        [sys.executable, "-c", _ON_DEVICES],
        env=environment,
        cwd=os.path.dirname(os.path.dirname(__file__)),
        capture_output=True,
        text=True,
        check=True,
    )
    expected = play(NOISY, (), SECRETS)
    np.testing.assert_array_equal(np.float32(json.loads(done.stdout)), expected)


def test_parameters_may_lie_on_other_devices_than_those_that_play():
    devices = jax.local_devices()
    mesh = jax.sharding.Mesh(devices[::-1], ("some",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    config = trained().config
    for place in (everywhere, devices[-1]):
        params = jax.device_put(jnp.asarray([0.0, 1.0]), place)
        metrics = quick_evaluation(config, params, TASKS)
        np.testing.assert_array_equal(metrics["eval/return"], [3.0, 6.0])


def test_importing_the_evaluator_starts_no_backend_and_imports_nothing_heavy():
    code = (
        "import sys, jax._src.xla_bridge as x;"
        "from jaxmeta.evaluation import evaluate, figure, table;"
        "assert not x.backends_are_initialized();"
        "assert not {'matplotlib', 'scipy.stats'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_printed_is_the_table():
    evaluation = Evaluation(np.ones((2, 5, 3)), agent="Echo", family="Tasks")
    text = str(evaluation)
    assert [line.strip() for line in text.splitlines() if line.strip()] == lines(evaluation, 120)
    assert "Echo on Tasks" in text
    assert "\x1b" not in text
