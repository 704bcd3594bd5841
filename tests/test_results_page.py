"""RESULTS.md is rendered whole from the files in results/, and says what was run."""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import jaxmeta
from jaxmeta.catalog import presets
from jaxmeta.evaluation.intervals import standard_error

ROOT = Path(__file__).parent.parent


@pytest.fixture
def page(monkeypatch):
    """Imports modules of scripts/."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


@pytest.fixture
def files(page, monkeypatch):
    """The page's experiments, read anew, from a folder of the test's own if it asks for one."""
    summary = page("results_page.summary")
    monkeypatch.setattr(
        summary, "EXPERIMENTS", tuple(map(dataclasses.replace, summary.EXPERIMENTS))
    )
    found = {e.preset: e for e in summary.EXPERIMENTS if e.preset is not None}
    monkeypatch.setattr(summary, "PRESET_FILES", found)
    return summary


def test_pages_and_pictures_are_what_the_files_render_to(page):
    pytest.importorskip("matplotlib")
    assert page("render_results").out_of_date() == [], "run scripts/render_results.py"


def test_a_sentence_that_was_edited_is_noticed(page, monkeypatch, tmp_path):
    render, pages = page("render_results"), page("results_page.pages")
    edited = tmp_path / "RESULTS.md"
    edited.write_text(pages.page().replace("## How to read", "## How to read it"))
    monkeypatch.setattr(pages, "PAGE", edited)
    with pytest.raises(SystemExit, match=r"RESULTS\.md: not what the files"):
        render.main(check=True)


def test_texts_hold_no_figures(page):
    for name, text in page("results_page.pages").texts().items():
        without_names = re.sub(r"EPOpt\([0-9.]+\)", "", text)
        assert not re.search(r"\d[.,]\d", without_names), name


def test_a_picture_of_other_figures_is_noticed(page, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    plots = page("results_page.plots")
    monkeypatch.setattr(plots, "IMAGES", tmp_path)
    assert plots.drawn("gmps") is None
    plots.draw("gmps")
    assert plots.drawn("gmps") == plots.digest("gmps")
    data, paint, size = plots.PLOTS["gmps"]
    other = {name: points[::-1] for name, points in data().items()}
    monkeypatch.setitem(plots.PLOTS, "gmps", (lambda: other, paint, size))
    assert plots.drawn("gmps") != plots.digest("gmps")


@pytest.mark.parametrize("name", presets.PRESETS, ids="-".join)
def test_the_row_of_a_preset_is_of_the_preset_or_says_that_it_is_not(files, page, name):
    stored = page("results_page.stored")
    experiment = files.PRESET_FILES.get(name)
    (row,) = (x for x in files.preset_table().splitlines() if f"`{' '.join(name)}`" in x)
    if experiment is None or experiment.cell is None:
        assert "| not run |" in row
        return
    if _same(experiment.cell, jaxmeta.preset(*name), stored):
        assert "| as the preset |" in row
    else:
        assert "| stale: of an earlier preset |" in row


def _same(cell, config, stored):
    """Whether all settings agree; one that the file lacks has the value from before it."""
    kept = dict(_flatten(stored.settings(cell)))
    today = dict(_flatten(stored.settings_of(config)))
    before = dict(_flatten(stored.SINCE))
    idle = {path for path, holds in stored.IDLE.items() if holds(config)}
    paths = (kept.keys() | today.keys()) - idle
    paths = {path for path in paths if not path.endswith("schema")}
    return all(kept.get(p, before.get(p)) == today.get(p, "absent") for p in paths)


def _flatten(tree, path=""):
    if isinstance(tree, dict):
        for name, inner in tree.items():
            yield from _flatten(inner, f"{path}.{name}" if path else name)
    else:
        yield path, tree


@pytest.mark.parametrize("name", presets.PRESETS, ids="-".join)
def test_the_command_of_a_row_trains_the_preset(page, name):
    """Running it again makes a stale row the preset's."""
    stored = page("results_page.stored")
    experiment = page("results_page.summary").PRESET_FILES.get(name)
    if experiment is not None:
        trained, wanted = experiment.config(), jaxmeta.preset(*name)
        assert stored.settings_of(trained) == stored.settings_of(wanted)


def test_files_of_other_settings_are_called_stale(files):
    experiment = files.PRESET_FILES["rl2", "two-step"]
    cell = json.loads(json.dumps(experiment.cell))
    assert experiment.stale == []
    cell["config"]["algorithm"]["gae_lambda"] = 0.5
    cell["config"]["algorithm"]["learning_rate"]["initial"] = 0.004
    del cell["config"]["algorithm"]["observe_reward"]  # as if it were newer than the file
    experiment.__dict__["cell"] = cell
    changes = " ".join(experiment.stale)
    assert "`algorithm.gae_lambda`: 0.5 → 0.9" in changes
    assert "`algorithm.learning_rate.initial`: 0.004 → 0.001" in changes
    assert "`algorithm.observe_reward`: (no such setting) → True" in changes
    (row,) = (x for x in files.preset_table().splitlines() if "`rl2 two-step`" in x)
    assert "stale" in row
    assert "**stale**" in files.ours(experiment)
    assert any("adaptation/two-step" in line for line in files.stale())


def test_settings_that_are_no_part_of_what_is_learned_make_nothing_stale(files):
    experiment = files.PRESET_FILES["rl2", "two-step"]
    config = dataclasses.replace(experiment.config(), num_seeds=9, seed=7, checkpoint_every=1)
    assert files.stored.changes(experiment.cell, config) == []


def test_a_setting_without_effect_makes_nothing_stale(files):
    """How continuous actions are distributed is nothing to a bandit, and much to a point."""
    for name, stale in (
        (("maml", "bernoulli-bandit"), False),
        (("maml", "point-navigation"), True),
    ):
        experiment = files.PRESET_FILES[name]
        cell = json.loads(json.dumps(experiment.cell))
        cell["config"]["algorithm"]["actions"] = "of another kind"
        assert any("actions" in x for x in files.stored.changes(cell, experiment.config())) == stale


def test_cells_of_the_paper_that_were_not_run_are_shown(files, page):
    tables = page("reproduce.rl2_tables").PAPER
    run = {p.stem for p in (ROOT / "results" / "rl2_tables").glob("*.json")}
    missing = [name for name in tables if name.replace(":", "-") not in run]
    for name in missing:
        (row,) = (x for x in files.summary().splitlines() if f"--cells {name}`" in x)
        assert row.count("| not run |") == 2
    appendix = page("results_page.appendix")
    tables = appendix.paper_table("bandit") + appendix.paper_table("mdp")
    learned = [x for x in tables.splitlines() if x.startswith("| **RL²**")]
    assert sum(x.count("not run") for x in learned) == len(missing)


def test_what_differs_from_a_paper_is_read_from_the_file(files):
    found = {e.file: "; ".join(e.differs) for e in files.EXPERIMENTS if e.differs}
    navigation = found["maml_navigation/maml"]
    for part in (
        "estimator LVC (paper: LogLikelihood)",
        "first standard deviation 0.7 (paper: 1.0)",
        "inner step 0.2 (paper: 0.1)",
        "bound on the KL divergence 0.02 (paper: 0.01)",
        "80 updates",
    ):
        assert part in navigation
    assert "optimiser PPO (paper: TRPO)" in found["epopt/wide-pendulum"]
    assert "baseline MLP (paper: LinearBaseline)" in found["epopt/wide-cartpole"]
    compared = [e for e in files.EXPERIMENTS if e.published is not None]
    assert all(e.protocol is not None for e in compared)
    experiment = next(e for e in files.EXPERIMENTS if e.file == "maml_navigation/maml")
    cell = json.loads(json.dumps(experiment.cell))
    cell["config"]["algorithm"]["initial_std"] = 1.0  # as in the paper: no difference
    experiment.__dict__["cell"] = cell
    assert not any("standard deviation" in part for part in experiment.differs)


def test_what_no_setting_says_is_so(files):
    """The notes and texts that speak of numbers of tasks, updates and of PPO."""
    for experiment in files.EXPERIMENTS:
        cell, notes = experiment.cell, " ".join(experiment.differs)
        if cell is None:
            continue
        tasks = cell.get("held_out_tasks", cell.get("evaluation", {}).get("num_tasks"))
        for told in re.findall(r"([\d,]+) held-out (?:goals|tasks)", notes):
            assert int(told.replace(",", "")) == tasks
        for told in re.findall(r"(\d+) updates, the last", notes):
            config = experiment.config()
            assert int(told) * config.plan().env_steps_per_update == config.total_env_steps
    robust = [e for e in files.EXPERIMENTS if e.method == "epopt"]
    by_ppo = {e.file for e in robust if isinstance(e.config().algorithm.optimizer, jaxmeta.PPO)}
    assert by_ppo == {e.file for e in robust} - {"epopt/hopper-published"}


def test_intervals_are_those_of_the_returns(page):
    """From seeds' means and the standard error alone, as from the returns themselves."""
    intervals = page("results_page.intervals")
    rng = np.random.default_rng(0)
    seeds, tasks = rng.normal(size=(4, 1)), rng.normal(size=(1, 50))
    returns = seeds + 2 * tasks + rng.normal(size=(4, 50))
    error = float(standard_error(returns))
    found = intervals.crossed(returns.mean(1).tolist(), error, 50)
    of_seeds = returns.mean(1).var(ddof=1) / 4
    of_tasks = error**2 - of_seeds
    mean = returns.mean()
    reach = np.sqrt(stats.t.ppf(0.975, 3) ** 2 * of_seeds + stats.t.ppf(0.975, 49) ** 2 * of_tasks)
    assert found[:3] == pytest.approx((mean, mean - reach, mean + reach))
    means = returns.mean(1)
    expected = stats.t.interval(0.95, 3, means.mean(), stats.sem(means))
    assert intervals.over_seeds(means.tolist())[1:3] == pytest.approx(expected)
    other = rng.normal(size=6)
    expected = stats.ttest_ind(means, other, equal_var=False).confidence_interval(0.95)
    found = intervals.difference(means.tolist(), other.tolist())
    assert found[1:3] == pytest.approx((expected.low, expected.high))
    assert intervals.crossed([1.0], 0.5, 30).over == "tasks"
    assert intervals.shown(intervals.over_seeds([2.0]), 1) == "2.0 (one seed)"


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_hold_the_truth_as_often_as_they_say(page, seeds):
    intervals, rng, held = page("results_page.intervals"), np.random.default_rng(1), []
    for _ in range(1000):
        x = rng.normal(size=(seeds, 1)) + rng.normal(size=(1, 50)) + rng.normal(size=(seeds, 50))
        found = intervals.crossed(x.mean(1).tolist(), float(standard_error(x)), 50)
        held.append(found.low <= 0 <= found.high)
    assert 0.92 < np.mean(held) < 0.98


@pytest.mark.parametrize(
    ("low", "high", "better", "expected"),
    [
        (6.60, 6.66, True, "match"),  # 6.7 may be 6.65
        (6.60, 6.64, True, "below (worse)"),
        (6.60, 6.64, False, "below (better)"),
        (6.76, 6.80, True, "above (better)"),
        (6.76, 6.80, False, "above (worse)"),
    ],
)
def test_verdicts_follow_from_the_interval(page, low, high, better, expected):
    intervals = page("results_page.intervals")
    ours = intervals.Estimate((low + high) / 2, low, high, "seeds")
    assert intervals.verdict(ours, 6.7, 1, better) == expected


@pytest.mark.parametrize(
    ("low", "high", "best", "expected"),
    [
        (6.69, 6.73, 6.714, "match of the optimum, which the paper's is beyond"),
        (6.60, 6.64, 6.714, "below (worse)"),  # than both
        (6.69, 6.73, 6.76, "below (worse)"),  # 6.8 may be 6.75
        (6.69, 6.73, 6.9, "below (worse)"),
    ],
)
def test_a_published_figure_beyond_the_optimum_is_no_bar(page, low, high, best, expected):
    intervals = page("results_page.intervals")
    ours = intervals.Estimate((low + high) / 2, low, high, "seeds")
    assert intervals.verdict(ours, 6.8, 1, True, best) == expected


def test_policies_are_told_apart_only_by_intervals_that_do_not_meet(page):
    intervals = page("results_page.intervals")
    low, middle, high = (intervals.Estimate(x, x - 1, x + 1, "seeds") for x in (0.0, 1.5, 3.0))
    assert intervals.told_apart(high, low) == "above"
    assert intervals.told_apart(low, high) == "below"
    assert intervals.told_apart(low, middle) == "not told apart from"


def test_a_gain_that_may_be_chance_is_not_called_one(page):
    epopt = page("results_page.epopt")
    cell = {"policies": {"EPOpt(0.1)": {epopt.P10: [1.0, 2.0, 3.0]}, "EPOpt(1)": {}}}
    for mean, says in ((0.9, "not told apart"), (-9.0, "a gain"), (9.0, "a loss")):
        cell["policies"]["EPOpt(1)"][epopt.P10] = [mean, mean + 0.1, mean + 0.2]
        assert says in epopt.effect(cell)


def test_aims_that_were_missed_are_said_to_be(page, monkeypatch):
    speed = page("results_page.speed")
    monkeypatch.setattr(speed, "AIMS", (speed.Aim("torch", "sinusoid", "torch.func", 8.0),))
    assert speed._aim("torch", "sinusoid", "torch.func", 100.0, 7.9) == "8 times: missed"
    assert speed._aim("torch", "sinusoid", "torch.func", 100.0, 8.0) == "8 times: reached"
    assert speed._aim("torch", "navigation", "torch.func", 1.0, 1.0) == "–"
