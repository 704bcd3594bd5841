import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import CrossEntropy, cli, robustness
from jaxmeta.analysis.robustness.map import _Watch
from jaxmeta.catalog import registry
from jaxmeta.evaluation import intervals
from jaxmeta.evaluation.player import batch_size, play_given
from jaxmeta.evaluation.protocols import protocol_for
from jaxmeta.runs import choose
from jaxmeta_envs.core.errors import ConfigError
from tests.eval_toys import TRACES, Echo, EchoTask, noisy, trained
from tests.robust_toys import HIGH, LOW, NOMINAL, WORST, LevelLearner, Terrain, TerrainTask, depth

# Most of the time here is compilation: tests share families, shapes and the search.
BATCH = 4  # of the same shape, whatever is played
SEARCH = CrossEntropy(population=30, iterations=12, trials=1, fresh_trials=8, within="limits")
WITHIN = replace(SEARCH, within="map")
FAMILY = Terrain()
NOISY = Terrain(noise=1.0)


def run(*args, family=FAMILY, levels=(0.0, 1.0), **options):
    options = {"points": 5, "trials": 2, "search": None, "save": False, "batch": BATCH} | options
    return robustness(trained(levels=levels, family=family), *args, **options)


# The grid


def test_the_map_of_two_parameters_is_the_closed_form():
    found = run(("tilt", "mass"))
    (only,) = found.maps
    assert only.returns.shape == (2, 2, 5, 5)
    assert found.parameters == ("tilt", "mass")
    np.testing.assert_allclose(found.grid[0], np.linspace(-2, 2, 5))
    np.testing.assert_allclose(found.grid[1], np.linspace(0.5, 4, 5))
    tilt, mass = np.meshgrid(*found.grid, indexing="ij")
    # The last of three episodes earns 2 more than the first, the second seed 1 more.
    expected = depth(mass, NOMINAL.friction, tilt) + 2
    np.testing.assert_allclose(only.returns[0], [expected, expected], rtol=1e-5)
    np.testing.assert_allclose(only.returns[1], [expected + 1, expected + 1], rtol=1e-5)
    np.testing.assert_allclose(only.mean, expected + 0.5, rtol=1e-5)
    assert found.fixed == {"friction": 0.5}


def test_the_curve_of_one_parameter_is_the_closed_form():
    found = run("mass", points=9, episodes=5, ranges={"mass": (1.0, 3.5)}, fixed={"tilt": -1.5})
    np.testing.assert_allclose(found.grid[0], np.linspace(1, 3.5, 9))
    expected = depth(found.grid[0], NOMINAL.friction, -1.5) + 4 + 0.5
    np.testing.assert_allclose(found.maps[0].mean, expected, rtol=1e-5)
    assert found.maps[0].rows == 5
    assert found.fixed == {"friction": 0.5, "tilt": -1.5}


def test_by_default_the_first_two_parameters_are_swept_over_their_limits():
    found = run()
    assert found.parameters == ("mass", "friction")
    assert [(g[0], g[-1]) for g in found.grid] == [(0.5, 4.0), (0.0, 1.0)]


def test_a_trial_has_the_same_luck_on_every_simulator_and_for_every_seed():
    returns = run(("mass", "friction"), family=NOISY, trials=6).maps[0].returns
    mass, friction = np.meshgrid(np.linspace(0.5, 4, 5), np.linspace(0, 1, 5), indexing="ij")
    luck = returns - depth(mass, friction, NOMINAL.tilt)
    np.testing.assert_allclose(luck[1], luck[0] + 1, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        luck[0], np.broadcast_to(luck[0, :, :1, :1], luck[0].shape), atol=1e-4
    )
    assert len(np.unique(luck[0, :, 0, 0])) == 6
    other = run(("mass", "friction"), family=NOISY, trials=6, seed=1).maps[0].returns
    assert not np.isin(other, returns).any()


@pytest.mark.parametrize("batch", [1, 1000])
def test_the_batch_size_changes_nothing(batch):
    whole = run("mass", family=NOISY).maps[0].returns
    np.testing.assert_array_equal(run("mass", family=NOISY, batch=batch).maps[0].returns, whole)


def test_an_agent_that_adapts_to_several_episodes_at_a_time_reports_its_last_step():
    result = trained(family=FAMILY, episodes=12, together=4)
    found = robustness(result, "mass", points=3, trials=1, search=None, save=False, batch=BATCH)
    expected = depth(found.grid[0], NOMINAL.friction, NOMINAL.tilt) + 2 + 0.5
    np.testing.assert_allclose(found.maps[0].mean, expected, rtol=1e-5)
    (described,) = found.summary()["runs"].values()
    assert (described["row"], described["episodes_per_adapt"]) == (3, 4)


def test_an_agent_of_one_episode_per_trial_reports_it():
    result = trained(family=FAMILY, episodes=1)
    found = robustness(result, "mass", points=3, search=None, batch=BATCH)
    assert found.maps[0].returns.shape == (2, 50, 3)
    expected = depth(found.grid[0], NOMINAL.friction, NOMINAL.tilt) + 0.5
    np.testing.assert_allclose(found.maps[0].mean, expected, rtol=1e-5)
    assert "return; 3 simulators × 50 trials × 2 seeds" in str(found)


def test_given_tasks_are_played_each_with_its_luck():
    tasks = EchoTask(np.arange(5, dtype=np.float32))
    luck = np.array([3, 3, 0, 1, 3])
    seen = []
    returns = play_given(
        protocol_for(noisy(), Echo(scale=100.0)).with_rows(2),
        (),
        key=jax.random.key(0),
        tasks=tasks,
        luck=luck,
        size=batch_size(5, 4),
        on_batch=lambda batch: seen.append(len(batch)),
    )
    assert sum(seen) == 5
    actions = returns - 100 * tasks.secret[:, None]
    np.testing.assert_allclose(actions[[0, 0]], actions[[1, 4]], atol=1e-3)
    assert np.all(np.abs(actions[2:4] - actions[0]) > 1e-2)


def test_mapping_again_compiles_nothing():
    options = {"search": SEARCH, "family": NOISY}
    run(("mass", "friction"), **options)
    TRACES.clear()
    run(("mass", "tilt"), **options, levels=(5.0, 6.0), seed=3, fixed={"friction": 0.1})
    assert TRACES == {}


# The range of training and the summary


def test_the_summary_tells_the_training_range_from_the_rest():
    found = run(("mass", "friction"), points=8)
    (only,) = found.maps
    mass, friction = found.grid
    inside = np.outer((mass <= 2.0), (friction >= 0.25) & (friction <= 0.75))
    np.testing.assert_array_equal(found.inside(only), inside)
    assert found.inside(only).any()
    described = found.summary()["runs"]["ToyAlgorithm"]
    assert described["training_range"] == {
        "mass": [0.5, 2.0],
        "friction": [0.25, 0.75],
        "tilt": [-0.5, 0.5],
    }
    for region, mask in (("everywhere", np.ones_like(inside)), ("inside_training", inside)):
        values = only.mean[mask]
        numbers = described[region]
        assert numbers["points"] == mask.sum()
        assert numbers["mean"] == pytest.approx(values.mean())
        assert numbers["p10"] == pytest.approx(np.quantile(values, 0.1))
        assert numbers["worst"] == pytest.approx(values.min())
        at = [numbers["worst_at"][name] for name in ("mass", "friction")]
        assert depth(*at, NOMINAL.tilt) + 2.5 == pytest.approx(values.min(), rel=1e-5)
        assert (numbers["low"], numbers["high"]) == pytest.approx(
            # Of two seeds, one apart.
            (values.mean() - 12.7062 / 2, values.mean() + 12.7062 / 2),
            abs=1e-4,
        )
    assert found.worst_point(only) == described["everywhere"]["worst_at"]


def test_the_ends_of_the_training_range_count_as_inside():
    found = run("friction", points=5)  # 0, 0.25, 0.5, 0.75, 1
    np.testing.assert_array_equal(found.inside(found.maps[0]), [False, True, True, True, False])


def test_without_a_point_in_the_training_range_there_is_nothing_to_say_of_it():
    found = run("mass", ranges={"mass": (3.0, 4.0)})
    assert found.summary()["runs"]["ToyAlgorithm"]["inside_training"] is None
    assert "–" in printed(found)


def test_the_intervals_are_those_of_means():
    found = run("mass", family=NOISY, trials=6)
    described = found.summary()["runs"]["ToyAlgorithm"]
    low, high = intervals.mean_interval(found.maps[0].returns)
    np.testing.assert_allclose(described["low"], low)
    np.testing.assert_allclose(described["high"], high)
    assert np.all(low < found.maps[0].mean)
    assert np.all(high > found.maps[0].mean)


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_table_and_the_summary_say_what_intervals_are_over(seeds):
    found = run("mass", family=NOISY, trials=6)
    only = fresh(found.maps[0], found.maps[0].returns[:seeds])
    found = type(found)(found.family, found.parameters, found.grid, {}, (only,))
    over = "trials only" if seeds == 1 else "seeds and trials"
    assert found.summary()["runs"][only.label]["intervals"] == f"t over {over}"
    assert f"± is 95 %, over {over}" in printed(found)


def test_returns_that_are_not_finite_are_left_out(tmp_path):
    found = run("mass", ranges={"mass": (1.0, 4.0)}, search=SEARCH)
    (only,) = found.maps
    only.returns[0, 0, 2] = np.nan
    only.returns[0, 1, 3] = np.inf
    found.save(tmp_path / "robustness.png")
    described = read(tmp_path / "robustness.json")["runs"]["ToyAlgorithm"]
    assert described["everywhere"]["points"] == 3
    assert [value is None for value in described["mean_return"]] == [
        False,
        False,
        True,
        True,
        False,
    ]
    only.returns[:] = np.nan
    # A new object, because a summary is made once.
    nothing = type(found)(found.family, found.parameters, found.grid, {}, (fresh(only),))
    nothing.save(tmp_path / "robustness.png")
    assert nothing.worst_point(nothing.maps[0]) is None
    assert "–" in printed(nothing)


def fresh(of, returns=None):
    returns = of.returns if returns is None else returns
    return type(of)(of.label, of.agent, returns, of.training)


# The worst case


def read_back(found):
    (described,) = found.summary()["runs"].values()
    return described


def closed_form(worst):
    return depth(*(worst.parameters[name] for name in TerrainTask._fields))


def test_the_search_finds_the_known_worst_point():
    worst = run("friction", search=SEARCH).maps[0].worst_case
    assert worst.searched == ("mass", "friction", "tilt")
    for name, at in WORST._asdict().items():
        assert worst.parameters[name] == pytest.approx(at, abs=0.15)
    assert worst.returns.shape == (2, 8)
    np.testing.assert_allclose(worst.returns[0], closed_form(worst) + 2, rtol=1e-4, atol=1e-4)
    assert worst.history.shape == (12,)
    assert worst.history[-1] < 0.1 * (worst.history[0] - 2.5) + 2.5
    assert worst.summary()["mean"] == pytest.approx(2.5, abs=0.1)


def test_the_search_is_as_good_as_a_grid_of_a_hundred_times_as_many_simulators():
    axes = [np.linspace(low, high, 33) for low, high in zip(LOW, HIGH, strict=True)]
    best = depth(*np.meshgrid(*axes, indexing="ij")).min()
    assert 90 * SEARCH.population * SEARCH.iterations < 33**3
    assert closed_form(run("mass", search=SEARCH).maps[0].worst_case) < best + 0.05


def test_the_worst_in_the_training_range_is_its_corner():
    search = CrossEntropy(population=30, iterations=12, trials=1, fresh_trials=8, within="train")
    worst = run("mass", search=search).maps[0].worst_case
    corner = {"mass": 2.0, "friction": 0.25, "tilt": -0.5}
    assert worst.parameters == pytest.approx(corner, abs=0.02)


def test_by_default_the_map_is_searched():
    assert CrossEntropy().within == "map"
    found = run("mass", search=WITHIN, ranges={"mass": (0.5, 2.0)}, fixed={"tilt": 0.5})
    worst = found.maps[0].worst_case
    assert worst.searched == ("mass",)
    assert worst.parameters == pytest.approx({"mass": 2.0, "friction": 0.5, "tilt": 0.5}, abs=0.02)
    described = read_back(found)["worst_case"]
    assert (described["within"], described["box"]) == ("map", {"mass": [0.5, 2.0]})
    text = spoken(found)
    assert "searched over mass, within the map" in text
    assert "friction" not in text.split("Worst case found")[1]


@pytest.mark.parametrize(
    ("search", "said", "friction"),
    [
        (SEARCH, "searched over mass, friction, tilt, up to the family's limits", [0.0, 1.0]),
        (replace(SEARCH, within="train"), "mass, friction, tilt, within what is tr", [0.25, 0.75]),
        (replace(WITHIN, parameters=("friction",)), "friction, within their ranges", [0.0, 1.0]),
    ],
)
def test_table_and_summary_say_where_was_searched(search, said, friction):
    found = run("mass", search=search)
    assert said in spoken(found)
    described = read_back(found)["worst_case"]
    assert described["box"]["friction"] == friction
    assert set(described["box"]) == set(described["searched"])


def test_the_places_of_worst_cases_have_decimals_alike():
    runs = [trained(levels=(level,), family=FAMILY) for level in (0.0, 1.0)]
    options = {"points": 5, "trials": 2, "save": False, "batch": BATCH, "search": WITHIN}
    found = robustness(runs, "mass", labels=("one", "two"), **options)
    lines = printed(found).split("Worst case found")[1].splitlines()
    places = [line.split()[2] for line in lines if line.startswith(("one", "two"))]
    # Between 0.5 and 4: hundredths.
    assert [len(place.split(".")[1]) for place in places] == [2, 2]


def test_the_worst_of_the_map_is_measured_on_the_same_trials():
    found = run("friction", family=NOISY, search=SEARCH)
    worst = found.maps[0].worst_case
    at = {"mass": 1.0, "tilt": 0.0} | found.worst_point(found.maps[0])
    gap = depth(*(at[name] for name in TerrainTask._fields)) - closed_form(worst)
    np.testing.assert_allclose(worst.map_returns - worst.returns, gap, atol=1e-3)
    described = read_back(found)["worst_case"]
    assert described["map"]["mean"] == pytest.approx(worst.map_returns.mean())
    assert described["difference"]["mean"] == pytest.approx(-gap, abs=1e-3)
    assert described["worse"] is True
    assert f"{worst.map_returns.mean():.1f} ±" in printed(found).split("Worst case found")[1]


def test_what_is_fixed_or_not_named_stays_as_it_is():
    worst = run("mass", search=SEARCH, fixed={"tilt": 1.5}).maps[0].worst_case
    assert worst.searched == ("mass", "friction")
    assert worst.parameters["tilt"] == 1.5
    assert worst.parameters["mass"] == pytest.approx(3.0, abs=0.15)
    search = CrossEntropy(population=30, iterations=12, trials=1, parameters=("friction",))
    worst = run("mass", search=search, ranges={"friction": (0.4, 0.9)}).maps[0].worst_case
    assert worst.searched == ("friction",)
    assert (worst.parameters["mass"], worst.parameters["tilt"]) == (1.0, 0.0)
    assert worst.parameters["friction"] == pytest.approx(0.4, abs=0.01)


def test_the_return_of_the_worst_case_is_no_worse_for_having_been_chosen():
    search = CrossEntropy(population=30, iterations=12, trials=1, fresh_trials=400, within="limits")
    tiny = {"mass": (2.9, 3.0), "friction": (0.2, 0.21), "tilt": (-1.0, -0.99)}
    options = {"levels": (0.0,), "ranges": tiny, "search": search, "batch": 1000}
    worst = run("mass", family=NOISY, **options).maps[0].worst_case
    # All simulators are alike: 2 and the mean of two steps' noise.
    assert worst.returns.mean() == pytest.approx(2.0, abs=0.15)
    assert worst.returns.std() == pytest.approx(0.5**0.5, rel=0.2)


def test_the_worst_of_the_grid_counts_if_the_search_finds_nothing_worse():
    search = CrossEntropy(population=2, elite_share=1.0, iterations=1, trials=1, fresh_trials=2)
    found = run(("mass", "tilt"), points=9, fixed={"friction": 0.2}, search=search)
    assert found.maps[0].worst_case.parameters["mass"] == found.worst_point(found.maps[0])["mass"]
    assert read_back(found)["worst_case"]["worse"] is False
    assert "1 generation found nothing clearly worse than the map's worst point" in spoken(found)
    assert "nothing clearly worse" not in printed(run("friction", search=SEARCH))


def test_whether_something_worse_was_found_is_judged_by_the_returns_that_are_shown():
    class Rough(Terrain):
        """Every simulator has luck of its own, and is on average as good as any other."""

        def step(self, key, state, action, task):
            state, step = super().step(key, state, action, task)
            own = jax.random.fold_in(key, jax.lax.bitcast_convert_type(task.mass, jnp.uint32))
            return state, step._replace(reward=jax.random.normal(own))

    found = run("mass", family=Rough(), search=WITHIN)
    worst = found.maps[0].worst_case
    assert worst.parameters["mass"] not in found.grid[0]  # what was chosen is not the map's
    described = read_back(found)["worst_case"]
    low, high = intervals.mean_interval(worst.returns - worst.map_returns)
    assert described["difference"]["low"] == pytest.approx(low)
    assert described["worse"] is bool(high < 0) is False
    assert "found nothing clearly worse than the map's worst point" in spoken(found)


def test_a_simulation_that_breaks_down_is_not_the_worst_case():
    class Fragile(Terrain):
        def step(self, key, state, action, task):
            state, step = super().step(key, state, action, task)
            broken = task.mass > 2.5
            return state, step._replace(reward=jnp.where(broken, jnp.nan, step.reward))

    worst = run("friction", family=Fragile(), search=SEARCH).maps[0].worst_case
    assert worst.parameters["mass"] == pytest.approx(2.5, abs=0.05)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"population": 1}, "CrossEntropy.population is 1"),
        ({"iterations": 0}, "CrossEntropy.iterations is 0"),
        ({"trials": 0.5}, "CrossEntropy.trials is 0.5"),
        ({"fresh_trials": True}, "CrossEntropy.fresh_trials is True"),
        ({"elite_share": 0.0}, "CrossEntropy.elite_share is 0.0; it must be above 0"),
        ({"elite_share": 1.5}, "CrossEntropy.elite_share is 1.5"),
        ({"noise": -1.0}, "CrossEntropy.noise is -1.0"),
        ({"within": "test"}, "CrossEntropy.within is 'test'; it must be map, limits or train"),
    ],
)
def test_a_bad_search_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        CrossEntropy(**fields)


# Several runs


def test_several_runs_meet_the_same_simulators(tmp_path):
    narrow = trained(levels=(3.0,), family=Terrain(heaviest=1.0, noise=1.0))
    wide = trained(levels=(0.0, 1.0, 2.0), family=NOISY)
    out = tmp_path / "both.png"
    options = {
        "points": 5,
        "trials": 2,
        "search": None,
        "batch": BATCH,
        "labels": ("narrow", "wide"),
    }
    found = robustness([narrow, wide], "mass", out=out, **options)
    first, second = found.maps
    np.testing.assert_allclose(first.returns[0], second.returns[0] + 3, rtol=1e-4)
    assert (first.training["mass"], second.training["mass"]) == ((0.5, 1.0), (0.5, 2.0))
    assert list(found.summary()["runs"]) == ["narrow", "wide"]
    assert {path.name for path in tmp_path.iterdir()} == {"both.png", "both.json", "both.npz"}
    lines = printed(found).splitlines()
    order = [line.split()[0] for line in lines if line.startswith(("narrow", "wide"))]
    assert order == ["narrow", "wide"]  # the better first


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["a/run1", "a/run2"], ["run1", "run2"]),
        (["a/run", "b/run"], ["a/run", "b/run"]),
        (["x/a/run", "y/a/run"], ["a/run", "a/run (2)"]),
        ([None, None], ["ToyAlgorithm", "ToyAlgorithm (2)"]),
    ],
)
def test_runs_are_called_as_their_directories(places, names):
    results = [trained(run_dir=place and Path(place), family=FAMILY) for place in places]
    found = robustness(results, "mass", points=2, trials=1, search=None, save=False, batch=BATCH)
    assert [run.label for run in found.maps] == names


# Files


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


def spoken(found):
    """What is printed, on one line."""
    return " ".join(printed(found).split())


def test_a_run_directory_is_loaded_and_written_to(tmp_path, monkeypatch):
    result = trained(run_dir=tmp_path, family=NOISY)
    monkeypatch.setattr(choose, "load", lambda path: result if path == str(tmp_path) else None)
    found = robustness(
        str(tmp_path), ("mass", "friction"), points=5, trials=2, search=SEARCH, batch=BATCH
    )
    names = {path.name for path in tmp_path.iterdir()}
    stem = tmp_path / "robustness-mass-friction-limits"  # as SEARCH looks there
    assert names == {f"{stem.name}.{kind}" for kind in ("json", "npz", "png")}
    assert read(stem.with_suffix(".json")) == found.summary()
    described = found.summary()["runs"][tmp_path.name]
    assert np.shape(described["mean_return"]) == (5, 5)
    assert set(described["worst_case"]["parameters"]) == {"mass", "friction", "tilt"}
    with np.load(stem.with_suffix(".npz")) as arrays:
        np.testing.assert_array_equal(arrays[f"returns/{tmp_path.name}"], found.maps[0].returns)
        np.testing.assert_array_equal(arrays["grid/friction"], found.grid[1])
        worst = arrays[f"worst_case/{tmp_path.name}"]
        np.testing.assert_array_equal(worst, found.maps[0].worst_case.returns)


def test_nothing_is_written_unless_there_is_a_place_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"points": 2, "trials": 1, "search": None, "batch": BATCH}
    robustness(trained(run_dir=tmp_path, family=FAMILY), "mass", save=False, **options)
    robustness(trained(family=FAMILY), "mass", **options)
    robustness([trained(run_dir=tmp_path, family=FAMILY)] * 2, "mass", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_tables_fit_eighty_columns_and_say_what_was_played():
    text = printed(run(("mass", "friction"), family=NOISY, search=SEARCH))
    assert "…" not in text
    assert "Return on Terrain over mass × friction" in text
    assert "return of episode 3; 5 × 5 simulators × 2 trials × 2 seeds" in text
    assert "Worst case found" in text
    assert "(kg)" in text


# Bad input


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (["mas"], {}, r"parameters has 'mas'; it must be one of mass, .*did you mean mass\?"),
        ([("mass", "mass")], {}, "parameters is .*different names"),
        ([("mass", "friction", "tilt")], {}, "parameters is .*one or two names"),
        ([()], {}, "parameters is .*one or two names"),
        (["mass"], {"ranges": {"mass": (2.0, 2.0)}}, r"range of mass is \(2.0, 2.0\)"),
        (["mass"], {"ranges": {"mass": (3.0, 2.0)}}, "the lower one first"),
        (["mass"], {"ranges": {"mass": (1.0, 9.0)}}, r"range of mass is .*limits, 0.5 to 4"),
        (["mass"], {"ranges": {"mass": (0.1, 2.0)}}, "range of mass is .*within the limits"),
        (["mass"], {"ranges": {"mass": (1.0, float("nan"))}}, "range of mass is"),
        (["mass"], {"ranges": {"tlit": (0.1, 2.0)}}, "ranges has 'tlit'.*did you mean tilt"),
        (["mass"], {"fixed": {"mass": 1.0}}, "fixed is 'mass'; .*not swept"),
        (["mass"], {"fixed": {"tilt": 3.0}}, "fixed tilt is 3.0; .*-2 to 2"),
        (["mass"], {"fixed": {"air": 3.0}}, "fixed has 'air'"),
        (["mass"], {"points": 1}, "points is 1; it must be an integer of at least 2"),
        (
            ["mass"],
            {"points": 10_001},
            "points is 10001; it must be at most 10,000 along each",
        ),
        ([["mass", "tilt"]], {"points": 101}, "points is 101; it must be at most 100 along each"),
        (["mass"], {"trials": 0}, "trials is 0"),
        (["mass"], {"episodes": 0}, "episodes is 0"),
        (["mass"], {"seed": -1}, "seed is -1"),
        (["mass"], {"batch": 0}, "batch is 0"),
        (["mass"], {"labels": ("a", "b")}, "labels is .*1 different names"),
        (["mass"], {"search": CrossEntropy(parameters=("air",))}, "search.parameters has 'air'"),
        (
            ["mass"],
            {"search": CrossEntropy(parameters=("tilt",)), "fixed": {"tilt": 0.0}},
            r"search.parameters is .*without what is fixed \(tilt\)",
        ),
        (["mass"], {"save": True, "out": "nowhere/map.png"}, "nowhere cannot be written"),
        (["mass"], {"save": True, "out": "map.pdf"}, "out is 'map.pdf'"),
        (["mass"], {"family": Echo()}, "tasks is Echo, which has no physical parameters"),
    ],
)
def test_bad_input_is_refused_before_anything_is_compiled(args, options, message):
    TRACES.clear()
    with pytest.raises(ConfigError, match=message):
        run(*args, **options)
    assert TRACES == {}


def test_runs_that_do_not_fit_together_are_refused():
    class Moon(Terrain):
        pass

    for other, message in ((Moon(), "Terrain, Moon"), (Terrain(horizon=3), r"horizon .*\(2, 3\)")):
        with pytest.raises(ConfigError, match=message):
            robustness([trained(family=FAMILY), trained(family=other)], "mass")
    with pytest.raises(ConfigError, match="at least one"):
        robustness([])


def test_infinite_limits_need_a_range():
    class Open(Terrain):
        def limits(self):
            box = super().limits()
            return box._replace(high=box.high._replace(mass=jnp.float32(jnp.inf)))

    with pytest.raises(ConfigError, match=r"range of mass is .*the limits are infinite"):
        run("mass", family=Open())
    with pytest.raises(ConfigError, match=r"range of mass is .*has no end"):
        run("tilt", family=Open(), search=SEARCH)
    assert run("mass", family=Open(), ranges={"mass": (1.0, 30.0)}).grid[0][-1] == 30.0


# Progress


def test_only_what_takes_long_is_shown(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch = _Watch(shown=True)
    watch.total = 300
    with watch:
        now[0] += 1.0
        watch.advance(100, 3.0)
        assert capsys.readouterr().err == ""
        now[0] += 10.0
        watch.advance(100, 3.0)
        assert " 67%  200 env-steps  10 env-steps/s  return 3" in capsys.readouterr().err


# The command


@pytest.fixture(scope="module")
def toys():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ALGORITHMS, "level", LevelLearner)
        patch.setitem(registry.FAMILIES, "terrain", Terrain)
        yield


@pytest.fixture(scope="module")
def finished(toys, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("robustness") / "run"
    train = ["train", "level", "terrain", "--total-env-steps", "12", "--num-seeds", "2"]
    assert cli.main([*train, "--no-evaluate", "--run-dir", str(run_dir)]) == 0
    return run_dir


@pytest.fixture
def run_dir(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(finished, tmp_path / "run"))


SMALL = ["--points", "4", "--trials", "2", "--search.population", "8", "--search.iterations", "3"]


def test_the_command_maps_a_run(run_dir, capsys):
    arguments = ["--parameters", "tilt", "mass", "--ranges", "mass", "1", "3", *SMALL]
    assert cli.main(["robustness", "run", *arguments, "--fixed", "friction", "0.2"]) == 0
    output = capsys.readouterr().out
    assert "Return on Terrain over tilt × mass" in output
    assert "Worst case found" in output
    assert "run/robustness-tilt-mass.json" in output
    content = read(run_dir / "robustness-tilt-mass.json")
    assert content["grid"]["mass"][-1] == 3.0
    assert content["fixed"] == {"friction": pytest.approx(0.2)}
    assert content["runs"]["run"]["num_seeds"] == 2
    tilt, mass = np.meshgrid(*content["grid"].values(), indexing="ij")
    np.testing.assert_allclose(
        content["runs"]["run"]["mean_return"], depth(mass, 0.2, tilt) + 2, rtol=1e-5
    )
    figure = run_dir / "robustness-tilt-mass.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    before = figure.with_suffix(".json").read_text()
    for other in (["--search.within", "limits"], ["--parameters", "mass"]):
        assert cli.main(["robustness", "run", *arguments, *other]) == 0
    assert figure.with_suffix(".json").read_text() == before
    found = {path.name for path in run_dir.glob("robustness*.png")}
    assert found == {figure.name, "robustness-tilt-mass-limits.png", "robustness-mass.png"}


def test_the_command_lays_several_runs_over_each_other(run_dir, capsys, tmp_path):
    shutil.copytree(run_dir, "other")
    arguments = ["--labels", "one", "two", "--parameters", "mass", "--no-worst-case", *SMALL]
    assert cli.main(["robustness", "run", "other", *arguments]) == 0
    output = capsys.readouterr().out
    assert "Worst case" not in output
    assert "The figure:  robustness-mass.png" in output
    assert list(read(tmp_path / "robustness-mass.json")["runs"]) == ["one", "two"]
    assert not (run_dir / "robustness-mass.json").exists()
    assert cli.main(["robustness", "run", "other", *arguments, "--out", "both.png"]) == 0
    assert (tmp_path / "both.npz").exists()


def test_the_command_writes_nothing_if_told_so(run_dir, capsys, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["robustness", "run", "--parameters", "mass", "--no-save", *SMALL]) == 0
    assert "The figure" not in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "runs is []; it must be at least one"),
        (["nowhere"], "nowhere is not a run"),
        (["run", "--parameters", "mess"], "did you mean mass?"),
        (["run", "--points", "1"], "points is 1"),
        (["run", "--search.elite-share", "0"], "CrossEntropy.elite_share is 0.0"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, message, run_dir, capsys):
    assert cli.main(["robustness", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
