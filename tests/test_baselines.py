import jax
import numpy as np
import pytest

from jaxmeta.evaluation import candidates as baselines
from jaxmeta.evaluation.candidates import play_baselines
from jaxmeta.evaluation.evaluate import evaluate_policy, evaluation_key
from jaxmeta.streams import Stream, stream_key
from jaxmeta_envs import BernoulliBandit, ConfigError, GridNavigation

FAMILY = BernoulliBandit(3, 5)


def test_the_setting_is_chosen_on_other_tasks_than_it_is_reported_on(monkeypatch):
    calls = []

    def play_tasks(protocol, params, *, key, num_tasks, split, batch, member):
        calls.append((member, split, num_tasks, batch, key))
        # On the tasks to tune on, member 3 is best; on the others it is worst.
        value = float(member == 3) if split == "train" else -float(member == 3)
        return np.full((num_tasks, len(protocol.experience)), value, np.float32)

    monkeypatch.setattr(baselines, "play_tasks", play_tasks)
    score = play_baselines(FAMILY, 5, only=["ucb1"], num_tasks=40, num_tuning_tasks=10)["ucb1"]
    assert score[:3] == (-5.0, 0.0, 0.3)
    assert [c[:4] for c in calls] == [(g, "train", 10, 10) for g in range(11)] + [
        (3, "test", 40, 10)
    ]
    assert calls[0][-1] == stream_key(0, Stream.TUNING)
    assert calls[-1][-1] == evaluation_key(0)


def test_classical_algorithms_meet_the_tasks_and_the_luck_of_an_agent_s_evaluation():
    """The policy of a candidate, played as an agent, earns the same on every task."""
    greedy = FAMILY.candidates(5)["greedy"]
    params = jax.tree.map(lambda x: x[0], greedy.params)
    agent = evaluate_policy(
        greedy.policy, params, FAMILY, key=evaluation_key(2), num_tasks=40, episodes=5
    )
    score = play_baselines(FAMILY, 5, only=["greedy"], num_tasks=40, seed=2)["greedy"]
    np.testing.assert_array_equal(score.totals, agent.sum(1))


def test_what_has_nothing_to_tune_is_played_once(monkeypatch):
    calls = []

    def play_tasks(*args, num_tasks, **kwargs):
        calls.append(num_tasks)
        return np.arange(num_tasks * 5, dtype=np.float32).reshape(num_tasks, 5)

    monkeypatch.setattr(baselines, "play_tasks", play_tasks)
    score = play_baselines(FAMILY, 5, only=["greedy"], num_tasks=4)["greedy"]
    assert calls == [4]
    totals = np.arange(20).reshape(4, 5).sum(1)
    assert score[:3] == (totals.mean(), totals.std(ddof=1) / 2, None)
    np.testing.assert_array_equal(score.totals, totals)


def test_scores_come_in_the_order_asked_for_and_repeat():
    only = ["ucb1", "random"]
    first = play_baselines(FAMILY, 5, only=only, num_tasks=64, num_tuning_tasks=32, seed=1)
    assert list(first) == only
    assert first["ucb1"].mean > first["random"].mean + 0.1
    assert first["random"].setting is None
    assert first["ucb1"].setting in FAMILY.candidates(5)["ucb1"].settings
    again = play_baselines(FAMILY, 5, only=only, num_tasks=64, num_tuning_tasks=32, seed=1)
    assert all(again[name][:3] == first[name][:3] for name in only)


def test_a_family_without_classical_algorithms_has_no_scores():
    assert play_baselines(GridNavigation(), 2) == {}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"only": ["ucb9"]}, "only"),
        ({"num_tasks": 0}, "num_tasks"),
        ({"num_tuning_tasks": 0}, "num_tuning_tasks"),
        ({"episodes": 0}, "episodes"),
        ({"split": "other"}, "split"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, name):
    with pytest.raises(ConfigError, match=name):
        play_baselines(FAMILY, **{"episodes": 5, **arguments})
