"""One value answers how a learner is measured, whether it acts in tasks or predicts."""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta.contracts import Algorithm
from jaxmeta.evaluation.acting import Acting
from jaxmeta.evaluation.evaluate import evaluate, evaluate_policy, evaluation_key
from jaxmeta.evaluation.predicting import QUERIES, Predicting
from jaxmeta.evaluation.protocols import protocol_for, protocol_of
from jaxmeta.evaluation.references import play_references
from jaxmeta.runs.result import TrainResult
from jaxmeta_envs import AdaptiveModel, ConfigError, Examples
from jaxmeta_envs.core.contracts import as_task_family
from tests.eval_toys import Echo, ToyAlgorithm, constant, counting, learner
from tests.toy_families import Sides

ROOT = Path(__file__).parent.parent
# What it takes an algorithm for or refuses it for, besides; tests of contracts must.
ASKS = {
    "evaluation/protocols.py",
    "catalog/methods.py",
    "contracts.py",
    "algorithms/maml.py",
}
KINDS = {"TaskFamily", "SupervisedFamily", "AdaptivePolicy", "AdaptiveModel"}


def asked_kinds(path):
    """Names of kinds that a file tells apart by isinstance."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            yield from (n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name))


def test_nothing_else_asks_of_which_kind_a_family_is():
    package = ROOT / "jaxmeta"
    asking = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if "testing" not in path.parts and KINDS.intersection(asked_kinds(path))
    }
    assert asking <= ASKS
    envs = ROOT / "envs" / "jaxmeta_envs"
    asking = {path.name for path in envs.rglob("*.py") if KINDS.intersection(asked_kinds(path))}
    assert asking <= {"contracts.py"}  # as_task_family


@dataclass(frozen=True)
class Nearest(Algorithm):
    """Predicts the side whose examples lie nearer on average; there is nothing to learn."""

    num_tasks: int = 2

    def init(self, family, key):
        return jnp.float32(0.0)

    def update(self, family, state, key):
        return state, {"loss": jnp.float32(0.0), "accuracy": jnp.float32(0.0)}

    def policy(self, family):
        def adapt(params, carry, support: Examples):
            return jnp.mean(support.x * support.y, axis=0)

        return AdaptiveModel(
            begin=lambda params: jnp.zeros(family.input_space.shape),
            predict=lambda params, carry, x: x @ carry[:, None],
            adapt=adapt,
            shots=4,
        )

    def check(self, family):
        pass

    def env_steps_per_update(self, family):
        return self.num_tasks * 4

    def trial_episodes(self, family):
        return 2


class State(NamedTuple):
    params: jax.Array


@pytest.fixture(scope="module")
def nearest():
    config = jaxmeta.TrainConfig(Nearest(), Sides(), num_seeds=2)
    return TrainResult(config, State(jnp.zeros(2)), {}, {}, {}, 0, None)


def test_a_model_of_a_new_kind_is_measured_without_a_word_about_it(nearest):
    found = evaluate(nearest, num_tasks=50)
    assert found.returns.shape == (2, 50, 2)
    assert (found.returns[..., 0] == 0).all()  # nothing is predicted before it adapts
    assert found.returns[..., 1].mean() > 0.8
    more = evaluate(nearest, num_tasks=50, shots=50, references=False)
    assert more.own_shots == more.shots == 50
    assert more.returns[..., 1].mean() > found.returns[..., 1].mean() + 0.05
    both = jaxmeta.compare([nearest, nearest], labels=("a", "b"), num_tasks=50)
    assert both.common_experience == 1


def test_a_new_kind_is_exported_without_a_word_about_it(nearest):
    protocol = protocol_of(nearest.config.algorithm, Sides())
    exported = protocol.programs(np.zeros(()))
    assert list(exported.programs) == ["begin", "predict", "adapt"]
    assert exported.described == {"kind": "model", "shots": 4}
    acts = protocol_for(counting(), Echo()).programs(np.zeros(()))
    assert list(acts.programs) == ["begin", "act", "adapt"]
    assert (acts.described["kind"], acts.described["adapts"]) == ("policy", True)


def test_a_policy_has_rows_of_as_many_episodes_as_it_adapts_to():
    protocol = protocol_of(ToyAlgorithm(episodes=7, together=3), Echo())
    assert isinstance(protocol, Acting)
    assert (protocol.experience, protocol.episodes, protocol.headline) == ((0, 3, 6), 3, "final")
    assert (protocol.seen, protocol.shots, protocol.adapts_by_steps) == (3, None, True)
    asked = protocol.asked("it", shots=2, episodes=5)
    assert (asked.experience, asked.episodes) == ((0, 2, 4), 5)
    assert asked.policy.adapt is protocol.policy.adapt
    curves = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(protocol.headline_of(curves), [2, 5])
    by_episode = protocol_of(ToyAlgorithm(), Echo())
    assert by_episode.headline == "total"
    np.testing.assert_array_equal(by_episode.headline_of(curves), [3, 12])
    assert not protocol_for(constant(), Echo()).adapts_by_steps


def test_a_model_has_rows_of_one_step_and_sums_up_by_the_last(nearest):
    protocol = protocol_of(nearest.config.algorithm, Sides())
    assert isinstance(protocol, Predicting)
    assert (protocol.experience, protocol.episodes, protocol.headline) == ((0, 1), 1, "final")
    assert (protocol.seen, protocol.shots, protocol.adapts_by_steps) == (4, 4, True)
    with pytest.raises(ConfigError, match=r"deterministic is True; .* supervised"):
        protocol.asked("it", deterministic=True)
    with pytest.raises(ConfigError, match=r"episodes_per_point is 2; .* supervised"):
        protocol.asked("it", episodes=2)


def test_the_optimum_is_known_only_of_who_adapts_after_every_episode():
    by_episode = protocol_for(counting(), Echo()).with_rows(2)
    np.testing.assert_array_equal(by_episode.optimum("test"), [10, 11])
    assert by_episode.optimum("far") is None
    assert protocol_for(learner(4), Echo()).with_rows(2).optimum("test") is None


def test_references_have_the_points_of_the_learner_and_as_many_episodes():
    protocol = protocol_for(learner(4), Echo()).with_rows(3)
    played = {name: own for name, (own, _, _) in protocol.references("test").items()}
    assert set(played) == set(Echo().reference_names()) == {"count", "told", "planner"}
    assert {own.experience for own in played.values()} == {(0, 4, 8)}
    assert {own.episodes for own in played.values()} == {4}


def test_what_does_not_adapt_has_one_score_at_every_point(nearest):
    protocol = protocol_of(nearest.config.algorithm, Sides()).with_rows(3)
    calls = []

    def play(own, params, told_task):
        calls.append((own.experience, told_task))
        return np.full((5, 1), 0.5)

    found = play_references(play, protocol)
    assert calls == [((0,), True)]
    assert set(found) == set(Sides().reference_names()) == {"oracle"}
    np.testing.assert_array_equal(found["oracle"], np.full((5, 3), 0.5))


def test_any_learner_is_played_by_hand(nearest):
    model = nearest.policy
    given = {"key": evaluation_key(0), "num_tasks": 3, "episodes": 2}
    by_hand = evaluate_policy(model, np.float32(0), Sides(), **given)
    found = evaluate(nearest, num_tasks=3, references=False)
    np.testing.assert_array_equal(by_hand, found.returns[0])
    shares = np.round(by_hand * QUERIES)
    np.testing.assert_allclose(shares, by_hand * QUERIES, atol=1e-3)


def test_a_family_to_predict_is_none_to_act_in():
    assert as_task_family(Echo()) == Echo()
    with pytest.raises(ConfigError, match="tasks is 'Sides'; it must be a TaskFamily, to act in"):
        as_task_family(Sides(), "tasks")
    with pytest.raises(ConfigError, match=r"family is <class '.*Echo'>"):
        as_task_family(Echo)
