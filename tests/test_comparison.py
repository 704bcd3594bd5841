import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxmeta
from jaxmeta import cli
from jaxmeta.analysis.comparison import compare as comparison
from jaxmeta.analysis.comparison.result import Comparison
from jaxmeta.catalog import registry
from jaxmeta.evaluation import intervals, player
from jaxmeta.evaluation.evaluate import evaluate, measure
from jaxmeta.evaluation.result import Evaluation
from jaxmeta.ops import statistics
from jaxmeta.runs import choose
from jaxmeta_envs import AdaptivePolicy, ConfigError
from jaxmeta_envs.regression.functions import Sinusoid
from tests.eval_toys import TRACES, Echo, ToyAlgorithm, constant, trained
from tests.toys import ToyFamily, ToyLearner

TASKS = 7
SECRETS = Echo(scale=1.0, noise=0.5)


def compare(*sources, **options):
    return jaxmeta.compare(list(sources), **({"num_tasks": TASKS, "references": False} | options))


def files_in(directory):
    return {p: p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def read(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def printed(found, width=80):
    from rich.console import Console

    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(found.table())
    return "\n".join(line.strip() for line in capture.get().splitlines())


def test_notebooks_show_the_tables():
    found = compare(trained(levels=(0.0,)), trained(levels=(1.0,)), labels=("low", "high"))
    assert "high" in str(found)  # and so does print
    table = found.table()
    shown = table._repr_mimebundle_(include=(), exclude=())
    assert "high" in shown["text/html"]
    assert "high" in shown["text/plain"]


# Experience


def test_agents_that_adapt_to_other_numbers_of_episodes_meet_at_equal_experience():
    one, four = trained(levels=(0.0,)), trained(levels=(0.5, 1.5), together=4, episodes=12)
    found = compare(one, four, labels=("one", "four"), episodes=10, references=True)
    summary = found.summary()
    assert summary["common_experience"] == 8
    assert summary["runs"]["one"]["experience"] == list(range(10))
    assert summary["runs"]["four"]["experience"] == [0, 4, 8]
    # The agent plays level + k after k steps of adaptation.
    assert summary["runs"]["one"]["at"]["common"]["mean"] == 8
    assert summary["runs"]["four"]["at"]["common"]["mean"] == 3
    assert summary["runs"]["four"]["curve_of_each_seed"] == [[0.5, 1.5, 2.5], [1.5, 2.5, 3.5]]
    assert summary["pairs"]["one"]["four"]["difference"] == 5
    assert summary["pairs"]["four"]["one"]["probability"] == 0
    # The references play every episode, and are asked for those that any agent has a row of.
    np.testing.assert_array_equal(found.experience, range(10))
    np.testing.assert_array_equal(found.references["count"], [range(10)] * TASKS)
    np.testing.assert_array_equal(found.references["planner"], 10.0)
    # The optimum is that of the agent that adapts after every episode.
    np.testing.assert_array_equal(found.optimal, np.arange(10) + 10.0)


@dataclass(frozen=True)
class Seer(ToyAlgorithm):
    """Plays how many episodes it has seen."""

    def policy(self, family):
        return AdaptivePolicy(
            begin=lambda params, key: jnp.float32(0.0),
            act=lambda params, carry, inputs, key: (carry, carry),
            adapt=lambda params, carry, episodes, key: carry + len(episodes.reward),
            episodes_per_adapt=self.together,
        )


@dataclass(frozen=True)
class Fixed(ToyAlgorithm):
    """Plays 0."""

    def policy(self, family):
        return constant()


def test_shots_are_those_of_every_agent_that_adapts_by_steps():
    two, four, fixed = (trained(levels=(0.0,)) for _ in range(3))
    two.config.algorithm, four.config.algorithm = Seer(together=2), Seer(together=4)
    fixed.config.algorithm = Fixed()
    found = compare(two, four, fixed, labels=("two", "four", "fixed"), episodes=7, shots=3)
    runs = found.summary()["runs"]
    for name in ("two", "four"):
        assert runs[name]["experience"] == [0, 3, 6]
        assert runs[name]["mean"] == [0, 3, 6]
    assert runs["fixed"]["experience"] == list(range(7))
    with pytest.raises(ConfigError, match="shots is 3; it must be None, as no run takes"):
        compare(fixed, fixed, labels=("a", "b"), shots=3)


def test_by_default_every_curve_is_as_long_as_in_training():
    found = compare(trained(), trained(together=4, episodes=12), references=True)
    described = list(found.summary()["runs"].values())
    assert [run["experience"] for run in described] == [[0, 1, 2], [0, 4, 8]]
    assert found.common_experience == 0
    np.testing.assert_array_equal(found.references["count"], [[0, 1, 2, 4, 8]] * TASKS)
    assert "at 5 episodes one would be" in " ".join(printed(found).split())
    # The row of training's last episode, where the curve has one.
    assert [run["at"]["training"]["experience"] for run in described] == [2, 8]
    longer, shorter = (compare(trained(), trained(), episodes=n).summary() for n in (5, 2))
    (run, _), (cut, _) = longer["runs"].values(), shorter["runs"].values()
    assert [at["experience"] for at in run["at"].values()] == [0, 2, 4, 4]
    assert cut["at"]["training"] is None


def test_runs_meet_the_same_tasks_with_the_same_luck():
    found = compare(trained((0.0, 0.0), family=SECRETS), trained((1.0,), family=SECRETS))
    assert found.summary()["runs"]["ToyAlgorithm"]["at"]["first"]["low"] < -0.1
    pair = found.summary()["pairs"]["ToyAlgorithm (2)"]["ToyAlgorithm"]
    for name in ("difference", "difference_low", "difference_high"):
        assert pair[name] == pytest.approx(1.0, abs=1e-5)
    # Seven tasks do not prove that all are won: by Clopper and Pearson 0.59 with one seed.
    assert 0.5 < pair["probability_low"] < 0.7
    assert pair["probability_high"] == 1.0


def test_references_are_played_once(monkeypatch):
    played, play = [], comparison.play_references
    monkeypatch.setattr(comparison, "play_references", lambda *a: played.append(a) or play(*a))
    found = compare(trained(), trained((4.0,)), trained((5.0,)), references=True)
    assert len(played) == 1
    assert set(found.references) == set(Echo().references(1))
    assert compare(trained(), trained()).references == {}


# Statistics


def random_runs(seed=0, tasks=40, seeds=(3, 2), rows=4, **fields):
    rng = np.random.default_rng(seed)
    return {
        f"run {i}": Evaluation(np.round(rng.normal(size=(s, tasks, rows)), 1), **fields)
        for i, s in enumerate(seeds)
    }


def test_the_statistics_are_those_of_the_returns():
    runs = random_runs(trained_rows=2, family="Bandit")
    summary = Comparison(runs).summary()
    for label, run in runs.items():
        described = summary["runs"][label]
        np.testing.assert_allclose(described["mean"], run.returns.mean(axis=(0, 1)))
        ends = intervals.mean_interval(run.returns)
        np.testing.assert_allclose((described["low"], described["high"]), ends)
        for name, row in (("first", 0), ("training", 1), ("last", 3), ("common", 3)):
            values, at = run.returns[:, :, row], described["at"][name]
            assert at["experience"] == row
            assert at["mean"] == pytest.approx(values.mean())
            assert at["iqm"] == pytest.approx(scipy.stats.trim_mean(values, 0.25, axis=None))
            tenth = np.sort(values, axis=None)[: values.size // 10]
            assert at["cvar10"] == pytest.approx(tenth.mean())
            for prefix, statistic in (("iqm_", statistics.iqm), ("cvar10_", statistics.cvar)):
                interval = (at[f"{prefix}low"], at[f"{prefix}high"])
                np.testing.assert_allclose(interval, intervals.bootstrap(values, statistic))


def test_every_ordered_pair_is_compared_task_by_task():
    runs = random_runs(seeds=(3, 2, 4))
    pairs = Comparison(runs).summary()["pairs"]
    for one, x in runs.items():
        assert set(pairs[one]) == set(runs) - {one}
        for other, pair in pairs[one].items():
            ours, theirs = x.returns[:, :, -1], runs[other].returns[:, :, -1]
            u = scipy.stats.mannwhitneyu(ours, theirs, axis=0).statistic
            wins = u / (len(ours) * len(theirs))
            assert pair["probability"] == pytest.approx(wins.mean())
            assert pair["difference"] == pytest.approx(ours.mean() - theirs.mean())
            mirrored = pairs[other][one]
            assert pair["probability_low"] == pytest.approx(1 - mirrored["probability_high"])
            assert pair["difference_high"] == pytest.approx(-mirrored["difference_low"])
            assert pair["probability_low"] < pair["probability"] < pair["probability_high"]
            ends = intervals.difference_interval(ours, theirs)
            np.testing.assert_allclose((pair["difference_low"], pair["difference_high"]), ends)
            ends = intervals.probability_interval(ours, theirs)
            np.testing.assert_allclose((pair["probability_low"], pair["probability_high"]), ends)
            assert pair["reach"] == "seeds and tasks"


def test_where_lower_is_better_the_worst_are_the_highest_and_lower_wins():
    runs = random_runs()
    mirror = {k: Evaluation(-run.returns, score="loss") for k, run in runs.items()}
    higher = Comparison(runs).summary()
    lower = Comparison(mirror)
    of_higher, of_lower = higher["runs"]["run 0"]["at"]["last"], lower.summary()["runs"]["run 0"]
    of_lower = of_lower["at"]["last"]
    for name in ("mean", "iqm", "cvar10"):
        assert of_lower[name] == pytest.approx(-of_higher[name])
    assert of_lower["cvar10_low"] == pytest.approx(-of_higher["cvar10_high"])
    pair, other = (s["pairs"]["run 0"]["run 1"] for s in (higher, lower.summary()))
    assert other["probability"] == pair["probability"]
    assert other["probability_low"] == pair["probability_low"]
    assert other["difference"] == pytest.approx(-pair["difference"])
    best = max(runs, key=lambda label: higher["runs"][label]["at"]["last"]["mean"])
    text = printed(lower)
    assert "P(X < Y)" in text
    assert text.index(best) < text.index(next(label for label in runs if label != best))


@pytest.mark.parametrize(
    ("seeds", "reach", "caption"),
    [
        ((2, 3), ("seeds and tasks",) * 2, "± is 95 %, over seeds and tasks"),
        ((1, 1), ("tasks only",) * 2, "± is 95 %, over tasks only (one seed)"),
        (
            (1, 3),
            ("tasks and the seeds of Y only", "tasks and the seeds of X only"),
            "± is 95 %, over seeds and tasks; of one seed over tasks only",
        ),
    ],
)
def test_reports_say_what_intervals_are_over(seeds, reach, caption):
    found = Comparison(random_runs(seeds=seeds))
    summary, text = found.summary(), printed(found)
    pairs = summary["pairs"]
    assert (pairs["run 0"]["run 1"]["reach"], pairs["run 1"]["run 0"]["reach"]) == reach
    for run in summary["runs"].values():
        over = "tasks only" if run["num_seeds"] == 1 else "seeds and tasks"
        assert run["intervals"]["mean"] == f"t over {over}"
        assert run["intervals"]["iqm"] == "percentile bootstrap over tasks only"
    assert caption in " ".join(text.split())
    assert "± of IQM and CVaR is over tasks only" in text
    assert (text.count("↑"), text.count("↓")) == (3, 0)
    lower = {k: Evaluation(run.returns, score="loss") for k, run in found.runs.items()}
    assert printed(Comparison(lower)).count("↓") == 3


def test_a_run_that_diverged_is_compared_without_numbers():
    runs = random_runs()
    runs["run 1"].returns[1, 3, -1] = np.nan
    found = Comparison(runs)
    pair = found.summary()["pairs"]["run 0"]["run 1"]
    assert {value for name, value in pair.items() if name != "reach"} == {None}
    assert "–" in printed(found)


def test_what_one_value_cannot_tell_is_null(tmp_path):
    runs = {name: Evaluation(np.full((1, 1, 1), level)) for name, level in (("a", 0.0), ("b", 1.0))}
    found = Comparison(runs)
    found.save(tmp_path / "map.png")
    pair = read(tmp_path / "map.json")["pairs"]["b"]["a"]
    assert (pair["difference"], pair["probability"], pair["probability_low"]) == (1.0, 1.0, None)
    assert "–" in printed(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "Moon"}, "family of the runs is .*Moon"),
        ({"split": "far"}, "split of the runs is .*far"),
        ({"seed": 3}, "seed of the runs is .*3"),
        ({"returns": np.zeros((1, 9, 2))}, r"tasks of the runs is \(5, 9\)"),
    ],
)
def test_evaluations_of_other_tasks_are_refused(change, message):
    one = Evaluation(np.zeros((1, 5, 2)))
    other = Evaluation(**({"returns": np.zeros((2, 5, 2))} | change))
    with pytest.raises(ConfigError, match=message):
        Comparison({"one": one, "other": other})


def test_a_comparison_of_one_or_with_odd_references_is_refused():
    runs = random_runs()
    with pytest.raises(ConfigError, match="at least two"):
        Comparison({"one": runs["run 0"]})
    with pytest.raises(ConfigError, match=r"references\['random'\] is \(40, 3\)"):
        Comparison(runs, {"random": np.zeros((40, 3))}, np.arange(4))
    with pytest.raises(ConfigError, match=r"experience is .*with 3 among it"):
        Comparison(runs, {"random": np.zeros((40, 3))}, np.arange(3))


# Saved evaluations


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Two runs, evaluated; returns their directories, and results by directory."""
    results = {}
    for name, level in (("a", 0.0), ("b", 1.0)):
        result = trained(levels=(level, level + 2), run_dir=tmp_path / name)
        evaluate(result, num_tasks=TASKS)
        results[str(tmp_path / name)] = result
    monkeypatch.setattr(choose, "load", results.get)
    return list(results), results


@pytest.fixture
def evaluated(monkeypatch):
    """Collects which directories were evaluated anew."""
    runs = []

    def spy(result, protocol, **options):
        runs.append(Path(result.run_dir).name)
        return measure(result, protocol, **options)

    monkeypatch.setattr(comparison, "measure", spy)
    return runs


def test_saved_evaluations_and_references_are_used_again(saved, monkeypatch):
    def fail(*args, **kwargs):
        pytest.fail("something was about to be played")

    monkeypatch.setattr(player, "_player", fail)
    places, _ = saved
    found = compare(*places, references=True)
    assert list(found.runs) == ["a", "b"]
    assert found.summary()["pairs"]["b"]["a"]["difference"] == 1
    assert set(found.references) == set(Echo().references(1))
    np.testing.assert_array_equal(found.optimal, [10, 11, 12])


@pytest.mark.parametrize(
    "options", [{"num_tasks": 5}, {"seed": 1}, {"episodes": 4}, {"split": "far"}]
)
def test_saved_evaluations_of_something_else_are_not(options, saved, evaluated, tmp_path):
    places, _ = saved
    before = files_in(tmp_path)
    found = compare(*places, **options)
    assert evaluated == ["a", "b"]
    assert files_in(tmp_path) == before, "the runs are left as they are"
    (run, _) = found.runs.values()
    shape = (2, options.get("num_tasks", TASKS), options.get("episodes", 3))
    assert (run.returns.shape, run.seed) == (shape, options.get("seed", 0))


def test_an_evaluation_from_before_more_training_is_not_used(saved, evaluated):
    places, results = saved
    results[places[1]].env_steps += 1
    compare(*places)
    assert evaluated == ["b"]


def test_a_result_in_memory_plays_itself(saved, evaluated):
    places, results = saved
    changed = results[places[1]]
    changed.params = changed.params + 5
    found = compare(places[0], changed)
    assert evaluated == ["b"]
    assert found.summary()["pairs"]["b"]["a"]["difference"] == 6


# Files and tables


def test_the_files_hold_everything(tmp_path):
    out = tmp_path / "both.v2.png"
    options = {"labels": ("one", "four"), "references": True, "out": out}
    found = compare(trained(), trained(together=4, episodes=12), **options)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"both.v2.png", "both.v2.json", "both.v2.npz"}
    assert read(tmp_path / "both.v2.json") == found.summary()
    with np.load(tmp_path / "both.v2.npz") as arrays:
        for label, run in found.runs.items():
            np.testing.assert_array_equal(arrays[f"returns/{label}"], run.returns)
        np.testing.assert_array_equal(arrays["experience/four"], [0, 4, 8])
        np.testing.assert_array_equal(arrays["reference/count"], found.references["count"])
        np.testing.assert_array_equal(arrays["experience"], [0, 1, 2, 4, 8])
        np.testing.assert_array_equal(arrays["optimal"], [10, 11, 12])


def test_nothing_is_written_without_a_place_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compare(trained(), trained())
    assert list(tmp_path.iterdir()) == []


def test_labels_are_shown_as_they_are():
    runs = dict(zip(("a [lr=3]", "b [bold]"), random_runs().values(), strict=True))
    text = printed(Comparison(runs))
    assert text.count("a [lr=3]") == text.count("b [bold]") == 2  # a run, and one pair


def test_the_tables_list_the_best_first_and_fit_eighty_columns():
    runs = random_runs(seeds=(2, 2), family="TabularMDP", tasks=200, trained_rows=2)
    better = Evaluation(runs["run 1"].returns + 100, family="TabularMDP", trained_rows=4)
    labels = {"memory of 32 units": runs["run 0"], "memory of 1 unit": better}
    references = {"posterior sampling": runs["run 0"].returns[0]}
    found = Comparison(labels, references, np.arange(4), np.full(4, 200.0))
    text = printed(found)
    assert "…" not in text
    lines = text.splitlines()
    starts = ("memory of 1 ", "memory of 32", "posterior sampling", "optimum (exact)")
    shown = [s for line in lines for s in starts if line.startswith(s)]
    assert shown == [*starts, starts[0]]
    assert any(line.startswith("1  trained ") for line in lines)
    assert "200 tasks × 2 seeds" in lines
    assert "X beside Y after 3 episodes of experience" in lines
    pair = next(line for line in lines if "memory of 1 unit" in line and "of 32 units" in line)
    assert pair.endswith("1.000  0.985 to 1.000")
    assert sum("of 32 units" in line for line in lines if "±" in line) == 2  # a run, and one pair


def test_no_pair_is_shown_twice_and_the_better_comes_first():
    runs = random_runs(seeds=(2, 2, 2), tasks=200)
    shifted = {f"run {i}": Evaluation(run.returns + i) for i, run in enumerate(runs.values())}
    text = printed(Comparison(shifted)).split("X beside Y")[1]
    pairs = re.findall(r"run (\d) +(?:run (\d) +)?\S+ ±", text)
    # The first of a group names X and Y, the others leave X out.
    assert [tuple(filter(None, pair)) for pair in pairs] == [("2", "1"), ("0",), ("1", "0")]


def test_the_total_stands_beside_the_last_episode():
    runs = random_runs(seeds=(2, 3), tasks=50)
    played = {"luck": np.ones((50, 4))}
    found = Comparison(runs, played, np.arange(4), np.array([1.0, 2.0, 3.0, 4.0]))
    summary = found.summary()
    assert summary["total_episodes"] == 4
    for label, run in runs.items():
        total, sums = summary["runs"][label]["total"], run.returns.sum(axis=-1, dtype=np.float64)
        assert total["mean"] == pytest.approx(sums.mean())
        assert total["iqm"] == pytest.approx(statistics.iqm(sums))
        ends = intervals.mean_interval(sums)
        np.testing.assert_allclose((total["low"], total["high"]), ends)
    assert summary["references"]["luck"]["total"]["mean"] == 4
    lines = printed(found).splitlines()
    totals = [line for line in lines if line.startswith("total ")]
    assert len(totals) == 4  # of two runs, a reference and the optimum
    assert totals[-1].split() == ["total", f"{10:.2f}"]
    assert "total: the sum of 4 episodes" in lines
    short = Evaluation(runs["run 0"].returns[..., :2])
    cut = Comparison({"a": short, "b": runs["run 1"]}).summary()
    assert cut["total_episodes"] == 2
    several = Evaluation(runs["run 0"].returns, episodes_per_adapt=2)
    other = Evaluation(runs["run 1"].returns, episodes_per_adapt=2)
    none = Comparison({"a": several, "b": other}).summary()
    assert none["total_episodes"] is none["runs"]["a"]["total"] is None
    with pytest.raises(ConfigError, match="of which totals are the sum"):
        Comparison(runs, {"luck": np.ones((50, 2))}, np.array([0, 3]))


# The figure


@pytest.fixture
def axes(monkeypatch):
    """Collects the axes of the figures drawn."""
    from matplotlib.figure import Figure

    drawn = []
    add_subplot = Figure.add_subplot

    def spy(self, *args, **kwargs):
        drawn.append(add_subplot(self, *args, **kwargs))
        return drawn[-1]

    monkeypatch.setattr(Figure, "add_subplot", spy)
    return drawn


def words(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_the_figure_lays_curves_over_experience(tmp_path, axes):
    path = tmp_path / "map.png"
    one, four = trained((0.0, 1.0)), trained((1.0, 2.0), together=4, episodes=8)
    options = {"labels": ("one", "four"), "episodes": 9, "references": True}
    found = compare(one, four, out=path, **options)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    (ax,) = axes
    assert ax.get_xlabel() == "episodes of experience"
    assert ax.get_ylabel() == "return of the next episode"
    assert ax.get_title() == "Echo, held-out tasks"
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_array_equal(lines["four"].get_xdata(), [0, 4, 8])
    np.testing.assert_array_equal(lines["four"].get_ydata(), [1.5, 2.5, 3.5])
    np.testing.assert_array_equal(lines["one"].get_xdata(), range(9))
    np.testing.assert_array_equal(lines["optimum (exact)"].get_xdata(), range(9))
    # Listed as they end, then what the ring means.
    expected = ["optimum (exact)", "planner", "one", "count", "four", "told", "end of training"]
    shown = words(ax.get_legend())
    assert set(shown) == set(expected)
    assert shown[0] == "optimum (exact)"
    assert shown[-1] == "end of training"
    rings = [line for line in ax.get_lines() if line.get_fillstyle() == "none"]
    at = [(ring.get_xdata()[0], ring.get_ydata()[0]) for ring in rings]
    assert [(x, y) for x, y in at if np.isfinite(x)] == [(2, 2.5), (4, 2.5)]
    bands = [band.get_paths()[0].get_extents() for band in ax.collections]
    described = found.summary()["runs"]["four"]
    assert bands[1].y1 == pytest.approx(described["high"][-1])
    colours = [lines[name].get_color() for name in ("one", "four", "count", "told")]
    assert len(set(colours)) == 3
    styles = {lines[name].get_linestyle() for name in ("count", "planner", "told")}
    assert "-" not in styles


@pytest.mark.parametrize("levels", [((0.0,), (1.0,)), ((0.0, 1.0), (1.0, 2.0))])
def test_the_legend_says_what_bands_are_over(levels, tmp_path, axes):
    compare(*(trained(each) for each in levels), out=tmp_path / "map.png")
    title = axes[0].get_legend().get_title().get_text().replace("\n", " ")
    over = "tasks only (one seed)" if len(levels[0]) == 1 else "seeds and tasks"
    assert title == f"band: 95 %, over {over}"


def test_without_more_rows_than_in_training_there_is_no_ring(tmp_path, axes):
    compare(trained(), trained(), out=tmp_path / "map.png", split="far")
    (ax,) = axes
    assert words(ax.get_legend()) == ["ToyAlgorithm", "ToyAlgorithm (2)"]
    assert ax.get_title() == 'Echo, split "far"'


def test_runs_of_one_row_are_drawn_as_points(tmp_path, axes):
    options = {"labels": ("low", "count"), "references": True, "out": tmp_path / "map.png"}
    compare(trained((1.0, 2.0), episodes=1), trained((3.0,), episodes=1), **options)
    (ax,) = axes
    first, second = ax.get_xlabel().split("\n")
    assert first == "return of the first episode"
    assert second == "bar: 95 %, over seeds and tasks; of one seed over tasks only"
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names[-1] == "count"  # a run that is called as a reference is
    assert sorted(names) == sorted(["low", "count", *Echo().references(1)])
    points = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert sorted(line.get_xdata()[0] for line in points) == [1.5, 3.0]


def test_a_run_of_one_row_among_curves_is_seen(tmp_path, axes):
    runs = {"curve": random_runs()["run 0"], "point": random_runs(rows=1)["run 0"]}
    Comparison(runs).save(tmp_path / "map.png")
    (ax,) = axes
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines["point"].get_marker() not in ("None", None)
    bars = [line for line in ax.get_lines() if list(line.get_xdata()) == [0, 0]]
    low, high = bars[0].get_ydata()
    assert low < lines["point"].get_ydata()[0] < high


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ("a",)}, "labels is .*2 different names"),
        ({"labels": ("a", "a")}, "labels is .*2 different names"),
        ({"split": "moon"}, "split is 'moon'; it must be one of train, test, far"),
        ({"episodes": 0}, "episodes is 0; it must be an integer of at least 1"),
        ({"shots": 0}, "shots is 0; it must be an integer of at least 1"),
        ({"num_tasks": 0}, "num_tasks is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"batch": 0}, "batch is 0"),
        ({"out": "map.pdf"}, "out is 'map.pdf'"),
        ({"out": "nowhere/map.png"}, "nowhere cannot be written"),
    ],
)
def test_bad_input_is_refused_before_anything_is_compiled(options, message):
    TRACES.clear()
    with pytest.raises(ConfigError, match=message):
        compare(trained(), trained(), **options)
    assert TRACES == {}


def test_runs_that_do_not_fit_together_are_refused():
    TRACES.clear()
    for sources in ([], [trained()]):
        with pytest.raises(ConfigError, match=r"runs is .*at least two"):
            compare(*sources)
    with pytest.raises(ConfigError, match="at least two"):
        jaxmeta.compare("one")
    with pytest.raises(ConfigError, match=r"a and b have different tasks: scale is 0.0 and 1.0"):
        compare(trained(), trained(family=Echo(scale=1.0)), labels=("a", "b"))
    waves = Sinusoid(), Sinusoid(phase=(0.0, 6.283185307179586), points=50)
    said = "phase is .* and .*, points is None and 50; train both on the same ones"
    with pytest.raises(ConfigError, match=said):
        compare(*(trained(family=family) for family in waves))
    assert waves[1] == jaxmeta.preset("reptile", "sinusoid").tasks  # as docs/maml.md has it
    with pytest.raises(ConfigError, match="different tasks: Echo and ToyFamily"):
        compare(trained(), trained(family=ToyFamily()))
    assert TRACES == {}


# The command


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two runs, one of them evaluated."""
    place = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ALGORITHMS, "toy", ToyLearner)
        patch.setitem(registry.FAMILIES, "toys", ToyFamily)
        train = ["train", "toy", "toys", "--total-env-steps", "8", "--no-evaluate"]
        for name, seeds in (("one", "2"), ("two", "1")):
            run_dir = str(place / name)
            assert cli.main([*train, "--num-seeds", seeds, "--run-dir", run_dir]) == 0
        assert cli.main(["evaluate", str(place / "one"), "--num-tasks", "8"]) == 0
        yield place


@pytest.fixture
def runs(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_command_lays_runs_over_each_other(runs, capsys, monkeypatch):
    played = []
    monkeypatch.setattr(
        comparison,
        "measure",
        lambda r, p, **o: played.append(r.run_dir.name) or measure(r, p, **o),
    )
    before = files_in(runs)
    assert cli.main(["compare", "one", "two", "--num-tasks", "8"]) == 0
    assert played == ["two"]
    output = capsys.readouterr().out
    assert "Return on ToyFamily, split 'test'" in output
    assert "8 tasks × 2/1 seeds" in output
    assert "The numbers: compare.json\nThe figure:  compare.png" in output
    content = read(runs / "compare.json")
    # The reward is the task, whatever one does.
    assert content["pairs"]["one"]["two"]["difference"] == 0
    assert content["pairs"]["two"]["one"]["probability"] == 0.5
    assert list(content["references"]) == ["random"]
    new = {name: content for name, content in files_in(runs).items() if name not in before}
    assert {path.name for path in new} == {"compare.json", "compare.npz", "compare.png"}
    assert files_in(runs) == before | new


def test_the_command_takes_its_options(runs, capsys):
    arguments = ["--labels", "first", "second", "--episodes", "3", "--num-tasks", "5"]
    arguments += ["--seed", "4", "--split", "train", "--no-references"]
    assert cli.main(["compare", "one", "two", *arguments, "--out", "other.png"]) == 0
    content = read(runs / "other.json")
    assert list(content["runs"]) == ["first", "second"]
    assert [content[name] for name in ("num_tasks", "seed", "split")] == [5, 4, "train"]
    assert content["common_experience"] == 2
    assert content["references"] == {}
    before = files_in(runs)
    capsys.readouterr()
    assert cli.main(["compare", "one", "two", *arguments, "--no-save"]) == 0
    assert "The figure" not in capsys.readouterr().out
    assert files_in(runs) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "runs is []; it must be at least two"),
        (["one"], "runs is ['one']; it must be at least two"),
        (["one", "nowhere"], "nowhere is not a run"),
        (["one", "two", "--labels", "a"], "labels is ('a',); it must be 2 different names"),
        (["one", "two", "--split", "moon"], "split is 'moon'; it must be one of train, test"),
        (["one", "two", "--out", "map.pdf"], "out is 'map.pdf'"),
        (["one", "two", "--episodes", "0"], "episodes is 0"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, message, runs, capsys, monkeypatch):
    monkeypatch.setattr(player, "_player", lambda *a: pytest.fail("a program is compiled"))
    before = files_in(runs)
    assert cli.main(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert files_in(runs) == before
