"""Agents and their references are measured in one way, and reports say in which."""

import io
import json
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import cli
from jaxmeta.analysis.comparison.compare import _Session
from jaxmeta.analysis.robustness.figure import _heading
from jaxmeta.catalog.registry import FAMILIES
from jaxmeta.cli.listing import describe_catalogue
from jaxmeta.evaluation.acting import OF_PRIOR, Acting, shown_name
from jaxmeta.evaluation.evaluate import evaluate, evaluate_policy, evaluation_key, quick_evaluation
from jaxmeta.evaluation.figure import plot_adaptation
from jaxmeta.evaluation.player import play_tasks
from jaxmeta.evaluation.protocols import protocol_of
from jaxmeta.evaluation.result import read_evaluation
from jaxmeta.testing import ToyFamily
from jaxmeta_envs import (
    AdaptivePolicy,
    BernoulliBandit,
    ConfigError,
    CorrelatedBandit,
    Discrete,
    GaussianBandit,
    GridNavigation,
    InformativeBandit,
    PointNavigation,
    PointNavigationCorners,
    PolicyInput,
    Reference,
    RestlessBandit,
    SparsePointNavigation,
    TabularMDP,
    TaskFamily,
    TwoStep,
)
from jaxmeta_envs.core.contracts import no_adaptation
from tests.eval_toys import Echo, ToyAlgorithm, counting, noisy, trained
from tests.robust_toys import Terrain
from tests.tiny_runs import RUNS, untrained

TOGETHER = 20
TASKS = 300


def printed(found):
    from rich.console import Console

    console = Console(width=100, force_terminal=False, file=io.StringIO())
    console.print(found.table())
    return " ".join(console.file.getvalue().split())


# As many episodes per point


@dataclass(frozen=True)
class Chance(Echo):
    """Its reference plays noise."""

    def references(self, num_episodes):
        return {"random": Reference(noisy())}


@dataclass(frozen=True)
class Random(ToyAlgorithm):
    """Plays noise, and learns nothing of so many episodes at a time."""

    def policy(self, family):
        return noisy(self.together)


def random_agent(together=TOGETHER, family=None, episodes=3 * TOGETHER, **fields):
    result = trained((0.0,), family=family or Chance(scale=1.0, noise=0.5), **fields)
    result.config.algorithm = Random(together=together, episodes=episodes)
    return result


def test_the_same_random_policy_has_the_same_returns_as_agent_and_as_reference():
    evaluation = evaluate(random_agent(), num_tasks=TASKS)
    agent, reference = evaluation.returns[0], evaluation.references["random"]
    np.testing.assert_allclose(agent, reference, rtol=1e-6, atol=1e-6)
    policies = evaluation.summary()["policies"]
    for row in range(3):
        cvar = [policies[name]["rows"]["cvar10"][row] for name in ("Random", "random")]
        assert cvar[0] == pytest.approx(cvar[1])


def test_a_reference_s_point_is_the_mean_of_episodes_that_begin_with_the_same_experience():
    """Episodes of a point teach nothing: after 40 episodes the reference has seen 40."""
    play = partial(play_tasks, key=evaluation_key(0), num_tasks=TASKS, split="test", batch=1000)
    points = {"experience": (0, 20, 40), "episodes": TOGETHER}
    counts = play(Acting(Echo(), counting("count reference"), **points), 0.0)
    np.testing.assert_array_equal(counts, [[0, 20, 40]] * TASKS)
    many = play(Acting(Echo(), noisy(), **points), ())
    # A return is the mean of two standard normal actions.
    assert many.std() == pytest.approx((0.5 / TOGETHER) ** 0.5, rel=0.1)


def test_points_may_lie_anywhere():
    family, key = Echo(), jax.random.key(0)
    task = family.sample_task(key)
    curve = Acting(family, counting(), (0, 1, 5, 6), 3).play(0.0, task, key)
    np.testing.assert_array_equal(curve, [0, 1, 5, 6])
    # A policy that adapts to four at a time has had one step after 5, 6 and 7 episodes.
    curve = Acting(family, counting(together=4), (0, 5, 6, 12), 4).play(0.0, task, key)
    np.testing.assert_array_equal(curve, [0, 1, 1, 3])


def test_episodes_between_points_have_luck_of_their_own():
    """A learner that remembers its last return: no two rows of a task may repeat it."""

    def adapt(params, carry, episodes, key):
        return episodes.reward.sum()

    policy = AdaptivePolicy(
        begin=lambda params, key: jnp.float32(0),
        act=lambda params, carry, inputs, key: (carry + jax.random.normal(key), carry),
        adapt=adapt,
    )
    family, key = Echo(), jax.random.key(0)
    curve = Acting(family, policy, (0, 2, 4), 2).play((), family.sample_task(key), key)
    steps = np.diff(np.asarray(curve))
    assert len(set(np.round(np.abs(steps), 4).tolist())) == 2


def test_a_row_may_be_of_more_episodes_than_the_agent_adapts_to():
    evaluation = evaluate(random_agent(1, episodes=2), num_tasks=TASKS, episodes_per_point=8)
    assert evaluation.episodes_per_point == 8
    np.testing.assert_allclose(
        evaluation.returns[0], evaluation.references["random"], rtol=1e-5, atol=1e-5
    )
    counted = evaluate(trained((0.0,), episodes=4), num_tasks=3, episodes_per_point=5)
    np.testing.assert_array_equal(counted.returns[0], [[0, 1, 2, 3]] * 3)
    assert counted.headline == "total"
    with pytest.raises(
        ConfigError, match="episodes_per_point is 3; it must be None or at least 20"
    ):
        evaluate(random_agent(), episodes_per_point=3)


def test_compare_measures_all_by_as_many_episodes():
    """Two random agents, of which one adapts to 20 episodes at a time, and the reference."""
    one, many = random_agent(1, episodes=1), random_agent(episodes=1)
    found = jaxmeta.compare([one, many], labels=["one", "many"], num_tasks=TASKS)
    runs, pair = found.summary()["runs"], found.summary()["pairs"]["one"]["many"]
    cvar = {label: run["at"]["common"]["cvar10"] for label, run in runs.items()}
    cvar["random"] = found.summary()["references"]["random"]["common"]["cvar10"]
    assert max(cvar.values()) - min(cvar.values()) < 0.05
    assert pair["probability"] == pytest.approx(0.5, abs=0.05)
    assert f"a point is the mean of {TOGETHER} episodes" in printed(found)
    assert found.summary()["episodes_per_point"] == TOGETHER


def test_reports_say_of_how_many_episodes_a_point_is(tmp_path):
    many = evaluate(random_agent(run_dir=tmp_path), num_tasks=TASKS)
    content = json.loads((tmp_path / f"evaluation{many.suffix}.json").read_text())
    assert content["episodes_per_point"] == TOGETHER
    assert f"a point is the mean of {TOGETHER} episodes" in printed(many)
    assert f"mean of {TOGETHER} episodes" in legend(many)


def legend(evaluation):
    """Returns the text of the figure's legend."""
    figures = []

    def keep(figure, path):
        figures.append(figure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxmeta.evaluation.figure.write_png", keep)
        plot_adaptation(evaluation, "nowhere.png")
    shown = figures[0].axes[0].get_legend()
    return "\n".join([shown.get_title().get_text(), *(t.get_text() for t in shown.get_texts())])


# Sampled actions, or their mode

AGENTS = ("rl2-gru", "epopt-trpo", "epopt-ppo", "policy-maml-trpo", "policy-maml-ppo", "gmps")


@pytest.mark.parametrize("name", [*AGENTS, "rl2 continuous"])
def test_agents_sample_their_actions_unless_asked_for_the_mode(name):
    run = RUNS["rl2-gru" if name == "rl2 continuous" else name]
    family = ToyFamily(continuous=True) if name == "rl2 continuous" else run.tasks
    policy = run.algorithm.policy(family)
    params = jax.tree.map(lambda x: x[0], untrained(run.algorithm, family).params)
    obs, action = family.observation_space.zero(), family.action_space.zero()
    seen = PolicyInput(obs, action, jnp.float32(0), jnp.asarray(False), jnp.asarray(True))

    def first(act, key):
        return act(params, policy.begin(params, key), seen, key)[0]

    keys = jax.random.split(jax.random.key(0), 2000)
    drawn, modes = (
        np.asarray(jax.jit(jax.vmap(lambda key, act=act: first(act, key)))(keys), float)
        for act in (policy.act, policy.act_mode)
    )
    np.testing.assert_array_equal(modes, modes[:1].repeat(len(keys), axis=0))
    if isinstance(family.action_space, Discrete):
        shares = np.bincount(drawn.astype(int), minlength=family.action_space.n) / len(keys)
        assert shares.min() > 0.1
        assert shares[int(modes[0])] > shares.max() - 0.05
    else:
        assert drawn.std() > 0.2 * family.action_space.half_range
        assert len(np.unique(drawn)) > 0.5 * drawn.size
        np.testing.assert_allclose(np.median(drawn, axis=0), modes[0], atol=0.1)


def two_ways(together=1, learns=False):
    """Plays 1 + carry, or by the mode 3 + carry; its carry is what episodes taught it."""

    def playing(value):
        return lambda params, carry, inputs, key: (value + carry, carry)

    def adapt(params, carry, episodes, key):
        return carry + episodes.reward.sum(axis=1).mean()

    taught = adapt if learns else no_adaptation
    begin = lambda params, key: jnp.float32(0)  # noqa: E731
    return AdaptivePolicy(begin, playing(1.0), taught, together, playing(3.0))


@dataclass(frozen=True)
class TwoWays(ToyAlgorithm):
    learns: bool = False

    def policy(self, family):
        return two_ways(self.together, self.learns)


def two_ways_agent(together=1, learns=False, **fields):
    result = trained((0.0, 0.0), **fields)
    result.config.algorithm = TwoWays(together=together, episodes=3 * together, learns=learns)
    return result


def test_evaluation_samples_unless_asked():
    result = two_ways_agent()
    sampled = evaluate(result, num_tasks=4, references=False)
    np.testing.assert_array_equal(sampled.returns, np.ones((2, 4, 3)))
    mode = evaluate(result, num_tasks=4, deterministic=True)
    np.testing.assert_array_equal(mode.returns, 3 * np.ones((2, 4, 3)))
    np.testing.assert_array_equal(mode.references["count"], [[0, 1, 2]] * 4)
    quick = quick_evaluation(result.config, result.params, 4)
    np.testing.assert_array_equal(quick["eval/return"], [3.0, 3.0])
    options = {"key": evaluation_key(0), "num_tasks": 4}
    policy = two_ways()
    assert np.all(evaluate_policy(policy, 0.0, Echo(), **options) == 1)
    assert np.all(evaluate_policy(policy, 0.0, Echo(), deterministic=True, **options) == 3)


@pytest.mark.parametrize("together", [1, 4])
def test_what_is_learned_from_is_sampled_and_what_is_measured_is_the_mode(together):
    result = two_ways_agent(together, learns=True)
    options = {"num_tasks": 2, "references": False}
    sampled = evaluate(result, **options).returns[0, 0]
    np.testing.assert_array_equal(sampled, [1, 2, 4])
    # Two more than that: it has learned from the same episodes.
    mode = evaluate(result, deterministic=True, **options).returns[0, 0]
    np.testing.assert_array_equal(mode, [3, 4, 6])


def test_compare_takes_the_mode_too():
    one, other = two_ways_agent(), two_ways_agent(4)
    options = {"labels": ["a", "b"], "num_tasks": 3, "references": False}
    found = jaxmeta.compare([one, other], deterministic=True, **options)
    assert found.summary()["deterministic"] is True
    assert all(run["mean"][0] == 3 for run in found.summary()["runs"].values())
    assert "actions are the mode" in printed(found)
    sampled = jaxmeta.compare([one, other], **options)
    assert all(run["mean"][0] == 1 for run in sampled.summary()["runs"].values())
    assert "actions are sampled" in printed(sampled)


def test_a_robustness_map_takes_the_mode_too(tmp_path):
    """Everywhere on the grid and in the worst case that was found, it earns two more."""
    search = jaxmeta.CrossEntropy(population=4, iterations=2, trials=1, fresh_trials=2)
    options = {"points": 3, "trials": 1, "search": search, "out": tmp_path / "map.png"}
    maps = {}
    for deterministic, said in ((False, "sampled"), (True, "the mode")):
        found = jaxmeta.robustness(
            two_ways_agent(family=Terrain()), "mass", deterministic=deterministic, **options
        )
        assert f"actions are {said}" in printed(found)
        (run,) = json.loads((tmp_path / "map.json").read_text())["runs"].values()
        assert run["deterministic"] is deterministic
        assert ("actions are the mode" in _heading(found)) == deterministic
        maps[deterministic] = found.maps[0]
    np.testing.assert_allclose(maps[True].returns - maps[False].returns, 2.0, rtol=1e-5)
    worst = [maps[way].worst_case.returns for way in (True, False)]
    np.testing.assert_allclose(worst[0] - worst[1], 2.0, rtol=1e-5)
    with pytest.raises(ConfigError, match="deterministic is True; it must be False, as ToyAlg"):
        jaxmeta.robustness(trained(family=Terrain()), "mass", deterministic=True)


def test_a_saved_evaluation_is_used_again_only_if_it_was_played_in_the_same_way(tmp_path):
    result = two_ways_agent(run_dir=tmp_path / "one")
    evaluate(result, num_tasks=3, deterministic=True)
    saved = read_evaluation(tmp_path / "one", "-mode-3-tasks")
    assert saved.deterministic
    session = _Session("test", num_tasks=3, seed=0, batch=100)
    own = protocol_of(result.config.algorithm, result.config.tasks)
    np.testing.assert_array_equal(
        session.evaluation(result, own, saved=True).returns, np.ones((2, 3, 3))
    )
    by_mode = replace(own, deterministic=True)
    monkey = session.evaluation(result, by_mode, saved=True)
    assert monkey.references.keys() == saved.references.keys()  # it was read, not played
    more = session.evaluation(result, replace(by_mode, episodes=4), saved=True)
    assert more.references == {}


def test_how_actions_are_chosen_is_recorded_and_named_under_the_table(tmp_path):
    result = two_ways_agent(run_dir=tmp_path)
    for deterministic, said in ((False, "sampled"), (True, "the mode")):
        found = evaluate(result, num_tasks=2, deterministic=deterministic, references=False)
        content = json.loads((tmp_path / f"evaluation{found.suffix}.json").read_text())
        assert content["deterministic"] is deterministic
        assert f"actions are {said}" in printed(found)
    assert "actions are the mode" in legend(found)


def test_the_mode_must_be_known():
    with pytest.raises(ConfigError, match="deterministic is True; it must be False, as ToyAlg"):
        evaluate(trained(), deterministic=True)
    with pytest.raises(ConfigError, match="deterministic is 1; it must be True or False"):
        evaluate(two_ways_agent(), deterministic=1)
    with pytest.raises(ConfigError, match="deterministic is True; it must be False on superv"):
        evaluate(untrained(RUNS["maml"].algorithm, RUNS["maml"].tasks), deterministic=True)


PLAYING = {
    "evaluate": "evaluation.evaluate.evaluate",
    "compare": "analysis.comparison.compare.compare",
    "robustness": "analysis.robustness.map.robustness",
}


@pytest.mark.parametrize("command", PLAYING)
def test_the_command_line_takes_the_mode(command, monkeypatch):
    given = {}

    def played(*args, **options):
        given.update(options)
        raise ConfigError("enough seen")

    monkeypatch.setattr(f"jaxmeta.{PLAYING[command]}", played)
    monkeypatch.setattr(
        cli.agents, "say_if_long", lambda *args, **options: None
    )  # it reads the runs
    runs = ["somewhere"] if command == "evaluate" else ["one", "two"]
    for options, expected in (([], False), (["--deterministic"], True)):
        assert cli.main([command, *runs, *options]) == cli.output.BAD_INPUT
        assert given["deterministic"] is expected


# References that believe in the training tasks

KNOW = {
    BernoulliBandit(2, 3): {
        "bayes-optimal",
        "gittins",
        "thompson",
        "greedy",
        "epsilon-greedy",
        "ucb1",
    },
    GaussianBandit(2, 3): {"gittins", "thompson", "greedy", "epsilon-greedy", "ucb"},
    GridNavigation(): {"bayes-optimal", "posterior sampling"},
    TabularMDP(): {"greedy", "psrl", "beb"},
    TwoStep(): {"bayes-filter"},
    RestlessBandit(): {"bayes-filter"},
    CorrelatedBandit(3): {"bayes-optimal"},
    CorrelatedBandit(3, "independent"): {"bayes-optimal", "gittins", "thompson", "ucb1"},
    InformativeBandit(): {"bayes-optimal"},
    PointNavigation(): set(),
    PointNavigationCorners(): {"search"},
    SparsePointNavigation(): {"search"},
}


@pytest.mark.parametrize("family", KNOW, ids=lambda family: type(family).__name__)
def test_families_say_which_references_know_the_distribution_of_training(family):
    found = family.references(2)
    assert {name for name, reference in found.items() if reference.knows_prior} == KNOW[family]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_reference_whose_name_speaks_of_a_prior_knows_it(name):
    family = FAMILIES[name]()
    if not isinstance(family, TaskFamily):
        return
    words = ("bayes", "gittins", "thompson", "posterior")
    for name, reference in family.references(1).items():
        if any(word in name for word in words) and not isinstance(family, CorrelatedBandit):
            assert reference.knows_prior, name


def test_on_a_shifted_split_references_say_that_they_are_for_the_training_prior(tmp_path):
    run = RUNS["rl2-gru"]
    family = BernoulliBandit(2, 3)
    result = untrained(run.algorithm, family)._replace(run_dir=tmp_path)
    shifted = evaluate(result, num_tasks=4, split="high")
    content = json.loads((tmp_path / "evaluation-high-4-tasks.json").read_text())
    for name in ("bayes-optimal", "gittins", "thompson"):
        label = f"{name}{OF_PRIOR}"
        assert label in shifted.references
        assert name not in shifted.references
        assert label in content["policies"]
        assert label in " ".join(legend(shifted).split())
    assert {"random", "oracle"} < set(shifted.references)
    assert printed(shifted).count(OF_PRIOR.strip()) == len(KNOW[family])
    for name, reference in family.references(3).items():
        assert {shown_name(name, reference, split) for split in ("train", "test")} == {name}


# Tasks that also occur in training


def test_reports_say_where_the_tasks_also_occur_in_training(tmp_path):
    said = "also occur in training"

    @dataclass(frozen=True)
    class Few(Echo):
        disjoint_splits = False

    few, options = trained(run_dir=tmp_path, family=Few()), {"num_tasks": 2, "references": False}
    assert said in printed(evaluate(few, **options))
    assert json.loads((tmp_path / "evaluation-2-tasks.json").read_text())["new_tasks"] is False
    assert said not in printed(evaluate(few, split="far", **options))
    assert said not in printed(evaluate(trained(), **options))
    assert said in printed(evaluate(trained(), split="train", **options))
    both = jaxmeta.compare([few, few], labels=["a", "b"], **options)
    assert said in printed(both)


def test_the_list_says_where_the_tasks_also_occur_in_training(monkeypatch):
    monkeypatch.setattr(Echo, "disjoint_splits", False)
    monkeypatch.setitem(FAMILIES, "echo", Echo)
    text = " ".join(describe_catalogue().split())
    assert "test (its tasks also occur in training)" in text[text.index("echo") :]
