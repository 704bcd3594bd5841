"""Sweeps: many runs in one program, each of them the run that `train` would make."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

import jaxmeta
from jaxmeta import GRU, MAML, MLP, PPO, RL2, EPOpt, PolicyMAML, Schedule
from jaxmeta.cli import main
from jaxmeta.evaluation import intervals
from jaxmeta.evaluation.evaluate import quick_evaluation
from jaxmeta.sweeps import sweep as sweeping
from jaxmeta.sweeps.figure import draw_sweep
from jaxmeta_envs import ConfigError
from jaxmeta_envs.regression.functions import Sinusoid
from tests.toy_families import Counter

AGENT = RL2(
    num_tasks=4,
    memory=GRU(4),
    optimizer=PPO(epochs=2, minibatches=2),
    learning_rate=Schedule(0.01, 0.0),
)
CASES = {
    "rl2": (AGENT, Counter(), {"learning_rate.initial": [0.01, 0.05], "gae_lambda": [0.0, 0.9]}),
    "epopt": (
        EPOpt(num_tasks=8, network=MLP((4,), "tanh"), risk=jaxmeta.CVaR(0.5), optimizer=PPO()),
        Counter(),
        {"risk.fraction": [0.25, 0.5], "learning_rate": [0.01]},
    ),
    "maml": (
        MAML(num_tasks=2, shots=3, queries=3, network=MLP((4,), "tanh")),
        Sinusoid(),
        {"inner.optimizer.learning_rate": [0.01, 0.1], "learning_rate": [1e-3]},
    ),
    "policy-maml": (
        PolicyMAML(
            num_tasks=2,
            shots=2,
            network=MLP((4,), "tanh"),
            optimizer=PPO(epochs=1, minibatches=1),
        ),
        Counter(),
        {"inner.optimizer.learning_rate": [0.1, 0.3], "discount": [0.9]},
    ),
}


def config(algorithm=AGENT, tasks=None, updates=4, **settings):
    tasks = tasks or Counter()
    steps = updates * algorithm.env_steps_per_update(tasks)
    usual = {"updates_per_chunk": 2, "num_seeds": 2, "eval_tasks": 6, "devices": 1}
    return jaxmeta.TrainConfig(algorithm, tasks, total_env_steps=steps, **(usual | settings))


LONG = {"epopt", "policy-maml"}  # to compile


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in CASES]
)
def test_every_run_is_the_run_that_train_makes(name):
    algorithm, tasks, axes = CASES[name]
    base = config(algorithm, tasks, seed=5)
    found = jaxmeta.sweep(base, axes, progress=False)
    assert found.finished.all()
    assert not found.diverged.any()
    point = len(found.grid.points) - 1
    alone = jaxmeta.train(found.config_of(point), progress=False)
    for metric, values in alone.metrics.items():
        np.testing.assert_allclose(
            found.metrics[metric][point].T, values, rtol=2e-3, atol=1e-5, err_msg=metric
        )
    scores = quick_evaluation(alone.config, alone.params, 6)[f"eval/{tasks.score.name}"]
    np.testing.assert_allclose(found.scores[point].mean(1), scores, rtol=2e-3, atol=1e-5)
    first, last = found.scores[0], found.scores[-1]
    assert not np.array_equal(first, last)  # the numbers did something


SMALL = config(num_seeds=2)
AXES = {"learning_rate.initial": [0.01, 0.05, 0.2]}


@pytest.fixture(scope="module")
def whole():
    """A sweep in one wave."""
    return jaxmeta.sweep(SMALL, AXES, progress=False)


def test_it_is_said_if_whole_chunks_are_far_more_than_was_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(sweeping, "_fitting_wave", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        jaxmeta.sweep(dataclasses.replace(SMALL, total_env_steps=1), AXES)
    assert "total_env_steps is 1; chunks are whole" in capsys.readouterr().err.splitlines()[0]


@pytest.fixture
def waves_of_two(monkeypatch):
    """Lets every wave have two runs, whatever the memory."""
    fitting = sweeping._fitting_wave
    monkeypatch.setattr(
        sweeping,
        "_fitting_wave",
        lambda config, grid, devices, runs, budget: fitting(config, grid, devices, 2, budget),
    )


def stopped_after(monkeypatch, waves):
    """Kills the sweep when so many waves are trained."""
    train, trained = sweeping._train, []

    def once_more(*args):
        if len(trained) == waves:
            raise KeyboardInterrupt
        trained.append(args)
        return train(*args)

    monkeypatch.setattr(sweeping, "_train", once_more)
    return trained


def test_a_sweep_that_was_stopped_goes_on(whole, waves_of_two, tmp_path, monkeypatch):
    run = dataclasses.replace(SMALL, run_dir=str(tmp_path / "sweep"))
    with monkeypatch.context() as patch:
        stopped_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            jaxmeta.sweep(run, AXES, progress=False)
    half = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert half["finished"] == 4
    assert half["points"][2]["mean"] is None
    trained = stopped_after(monkeypatch, 9)
    found = jaxmeta.resume_sweep(tmp_path / "sweep", progress=False)
    assert len(trained) == 1
    np.testing.assert_allclose(found.scores, whole.scores, rtol=2e-3, atol=1e-4)
    for name, values in whole.metrics.items():
        np.testing.assert_allclose(found.metrics[name], values, rtol=2e-2, atol=1e-3, err_msg=name)
    assert found.ranking == whole.ranking
    assert (tmp_path / "sweep" / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    assert jaxmeta.sweep(run, AXES, progress=False).finished.all()
    assert len(trained) == 1  # nothing was trained again
    with pytest.raises(ConfigError, match="holds a sweep over"):
        jaxmeta.sweep(run, {"gae_lambda": [0.1]}, progress=False)


def test_what_does_not_fit_is_split_or_refused(whole):
    with pytest.raises(ConfigError, match=r"memory_gib is .*e-07; one run needs"):
        jaxmeta.sweep(SMALL, AXES, memory_gib=1e-6, progress=False)


def test_the_summary_says_what_numpy_says(whole):
    summary = whole.summary()
    means = whole.scores.mean((1, 2), dtype=np.float64)
    np.testing.assert_allclose([p["mean"] for p in summary["points"]], means)
    assert summary["ranking"] == np.argsort(-means).tolist()
    best = summary["points"][summary["ranking"][0]]
    assert best["behind_best"] is None
    second = summary["points"][summary["ranking"][1]]
    gap = np.sort(means)[-1] - np.sort(means)[-2]
    np.testing.assert_allclose(second["behind_best"], gap, rtol=1e-5)
    assert second["behind_best_low"] <= gap <= second["behind_best_high"]
    assert whole.config_of(1).algorithm.learning_rate == Schedule(0.05, 0.0)


def test_a_point_that_diverges_stops_no_other():
    optimizer = PPO(epochs=2, minibatches=2, max_grad_norm=math.inf)
    agent = dataclasses.replace(AGENT, optimizer=optimizer)
    found = jaxmeta.sweep(config(agent), {"learning_rate.initial": [0.01, 1e18]}, progress=False)
    assert found.diverged.tolist() == [[False, False], [True, True]]
    assert found.ranking == [0]
    assert found.summary()["points"][1]["mean"] is None


@pytest.mark.parametrize("there", [False, True])
def test_a_sweep_that_is_refused_or_stopped_before_its_first_wave_leaves_nothing(there, tmp_path):
    place, note = tmp_path / "sweep", tmp_path / "sweep" / "note.txt"
    if there:
        place.mkdir()
        note.write_text("mine")
    with pytest.raises(ConfigError, match="memory_gib is"):
        jaxmeta.sweep(
            config(run_dir=str(place)),
            {"gae_lambda": [0.0, 0.9]},
            memory_gib=1e-9,
            progress=False,
        )
    assert [*tmp_path.rglob("*")] == ([place, note] if there else [])


def test_a_sweep_of_which_all_diverges_has_no_best_point(tmp_path, monkeypatch, capsys):
    """Nor does its progress warn of a mean of nothing, nor the command line name a figure."""
    learner, tasks, _ = CASES["maml"]
    learner = dataclasses.replace(learner, network=MLP((8, 8)))  # its outputs overflow
    run = config(learner, tasks, num_seeds=1, run_dir=str(tmp_path / "sweep"))
    found = jaxmeta.sweep(run, {"learning_rate": [1e18]})
    assert found.diverged.all()
    assert found.best is None
    written = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert (written["ranking"], written["best"]) == ([], None)
    assert not (tmp_path / "sweep" / "sweep.png").exists()
    monkeypatch.setattr(sweeping, "sweep", lambda *args, **settings: found)
    assert main(["sweep", "maml", "sinusoid", "--over", "learning_rate=1e18"]) == 0
    out = capsys.readouterr().out
    assert "1 of 1 diverged" in out
    assert "sweep.json" in out
    assert "sweep.png" not in out


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({}, "axes is {}; it must be at least one"),
        ({"learning_rat": [0.1]}, r"no field 'learning_rat' \(did you mean learning_rate\?\)"),
        ({"num_tasks": [4, 8]}, "num_tasks cannot be swept: whole numbers decide the shapes"),
        ({"memory": [1.0]}, r"it is a part; its numbers are: memory.update_bias"),
        ({"observe_reward": [0.0]}, "it is not a number"),
        ({"gae_lambda": [0.5, 1.5]}, "gae_lambda is 1.5"),
        ({"gae_lambda": [0.5, 0.5]}, "some different finite numbers"),
        ({"gae_lambda": ["high"]}, "some different finite numbers"),
        ({"learning_rate.slope": [0.5]}, "Schedule has no field 'slope'"),
    ],
    ids=lambda x: next(iter(x), "none") if isinstance(x, dict) else "",
)
def test_what_cannot_be_swept_is_refused_before_anything_compiles(axes, says):
    with pytest.raises(ConfigError, match=says):
        jaxmeta.sweep(SMALL, axes, progress=False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "over is (); it must be like"),
        (["--over", "gae_lambda"], "over is 'gae_lambda'"),
        (["--over", "gae_lambda=a,b"], "over is 'gae_lambda=a,b'"),
        (["--over", "gae_lambda=0.1", "gae_lambda=0.2"], "each name once"),
        (["--over", "num_tasks=4,8"], "num_tasks cannot be swept"),
    ],
)
def test_the_command_line_refuses_likewise(words, says, capsys):
    assert main(["sweep", "rl2", "bernoulli-bandit", *words]) == 2
    assert says in capsys.readouterr().err


def test_the_command_line_sweeps(whole, monkeypatch, capsys, tmp_path):
    given = {}

    def fake(config, axes, memory_gib):
        given.update(config=config, axes=axes, memory_gib=memory_gib)
        return dataclasses.replace(whole, run_dir=tmp_path)

    monkeypatch.setattr(sweeping, "sweep", fake)
    words = ["--over", "learning_rate=1e-3,2e-3", "optimizer.clip=0.1", "--num-seeds", "3"]
    assert main(["sweep", "rl2", "bernoulli-bandit", *words, "--memory-gib", "2"]) == 0
    assert given["axes"] == {"learning_rate": [1e-3, 2e-3], "optimizer.clip": [0.1]}
    assert (given["config"].num_seeds, given["memory_gib"]) == (3, 2.0)
    out = capsys.readouterr().out
    assert "behind best" in out
    assert str(tmp_path / "sweep.png") in out
    assert main(["sweep", "rl2", "bernoulli-bandit", "--help"]) == 0
    assert "learning_rate.initial" in capsys.readouterr().out


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c")])
def test_pictures_show_every_point(names, whole):
    """Of one axis the means lie on the line, of two they stand in the map, else in the ranking."""
    points = []
    for number, values in enumerate(itertools.product([1.0, 20.0], repeat=len(names))):
        point = dict.fromkeys(("mean", "low", "high"), float(number))
        each = {"of_each_seed": [number - 0.5, number + 0.5], "diverged": 0}
        gap = 2.0 ** len(names) - 1 - number
        ends = (gap - 0.3, gap + 0.2) if gap else (None, None)
        each |= dict(zip(("behind_best_low", "behind_best_high"), ends, strict=True))
        points.append({"values": dict(zip(names, values, strict=True)), **point, **each})
    summary = whole.summary() | {
        "axes": {name: [1.0, 20.0] for name in names},
        "points": points,
        "ranking": list(range(len(points)))[::-1],
        "best": points[-1]["values"],
    }
    figure = draw_sweep(summary)
    axes = figure.axes[0]
    if len(names) == 1:
        assert axes.lines[0].get_ydata().tolist() == [0.0, 1.0]
        assert axes.get_xscale() == "log"
        # The first is 1 behind the best, by 0.7 to 1.2.
        (paired,) = (lines for lines in axes.collections if "paired" in lines.get_label())
        np.testing.assert_allclose(paired.get_segments()[0], [[1.0, -0.2], [1.0, 0.3]])
    elif len(names) == 2:
        assert [text.get_text() for text in axes.texts] == [f"{n}.00" for n in range(4)]
        assert [frame.get_xy() for frame in axes.patches] == [(0.5, 0.5)]
        points[1]["behind_best_low"] = -0.1
        said = [text.get_text() for text in draw_sweep(summary).legends[0].get_texts()]
        assert said == ["not clearly behind the best (paired, 95 %)", "best"]
    else:
        assert len(axes.get_yticklabels()) == 8
        (paired,) = (lines for lines in axes.collections if "paired" in lines.get_label())
        np.testing.assert_allclose(paired.get_segments()[0], [[-0.2, -0.25], [0.3, -0.25]])
    if len(names) != 2:
        said = [text.get_text() for text in figure.legends[0].get_texts()]
        assert {"mean", "a seed", "mean of the best"} <= set(said)
        assert said.count("a seed") == 1
    labels = (axes.get_xlabel(), axes.get_ylabel(), figure.axes[-1].get_ylabel())
    assert "mean return of held-out tasks" in labels


@pytest.mark.parametrize(("seeds", "over"), [(1, "tasks only (one seed)"), (2, "seeds and tasks")])
def test_the_table_and_the_figure_say_what_intervals_are_over(whole, seeds, over):
    found = dataclasses.replace(
        whole,
        config=dataclasses.replace(whole.config, num_seeds=seeds),
        scores=whole.scores[:, :seeds],
        finished=whole.finished[:, :seeds],
        diverged=whole.diverged[:, :seeds],
    )
    assert found.summary()["intervals"] == f"t over {over.removesuffix(' (one seed)')}"
    assert f"± is 95 %, over {over}" in found.table().caption
    assert found.table().columns[-3].header == "return ↑\n±95 %"
    best, *others = found.ranking
    first, then = (found.scores[point] for point in (best, others[0]))
    ends = intervals.difference_interval(first, then)
    described = found.summary()["points"][others[0]]
    np.testing.assert_allclose((described["behind_best_low"], described["behind_best_high"]), ends)
