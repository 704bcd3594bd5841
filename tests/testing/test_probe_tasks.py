"""The probe tasks: their answers by enumeration, and learners that must pass or fail them."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import GRU, MLP, PPO, RL2, TRPO, EPOpt, FastWeights, Mean, Recall, Schedule
from jaxmeta.experience.play import play_adaptation
from jaxmeta.testing import PROBE_TASKS, ConformanceError, check_learning, check_task_family
from jaxmeta.testing.probe_tasks import (
    GuessAgain,
    Hidden,
    LookFirst,
    MatchNumber,
    PredictReward,
    RecallCue,
    StayOrLeave,
)
from jaxmeta_envs import AdaptivePolicy

LEARNER = RL2(
    num_tasks=128,
    memory=GRU(16),
    learning_rate=Schedule(5e-3, 0.0),
    entropy_coef=Schedule(0.3, 0.0),
    gae_lambda=0.95,
    optimizer=PPO(minibatches=2),
)


@dataclasses.dataclass(frozen=True)
class Forgetful(GRU):
    """Starts every step with an empty memory."""

    core: str = "plain"

    def step(self, params, carry, x):
        return super().step(params, jnp.zeros_like(carry), x)


LEARNERS = {
    "gru": LEARNER,
    "fast weights": dataclasses.replace(LEARNER, memory=FastWeights(16, 2, 4, 4)),
    "recall": dataclasses.replace(LEARNER, memory=Recall(16, 2, 4, 4)),
    "trpo": dataclasses.replace(
        LEARNER, optimizer=TRPO(max_kl=0.02, value_minibatches=2), value_network="separate"
    ),
}


def score(probe, actions, right, number=0.3):
    """Score of a trial in which the given actions are played."""

    def act(params, carry, inputs, key):
        return jnp.asarray(actions)[carry], carry + 1

    policy = AdaptivePolicy(begin=lambda params, key: jnp.int32(0), act=act)
    task = Hidden(jnp.int32(right), jnp.float32(number))
    trial = play_adaptation(probe, policy, (), task, jax.random.key(0), probe.episodes)
    return float(probe.marks(jax.tree.map(lambda x: x[:, 0], trial)))


@pytest.mark.parametrize("probe", PROBE_TASKS, ids=str)
def test_probes_are_task_families(probe):
    used = "number" if isinstance(probe, PredictReward | MatchNumber) else "right"
    unused = {"number", "right"} - (set() if isinstance(probe, StayOrLeave) else {used})
    check_task_family(probe, inert_leaves=[f".{name}" for name in unused])


def test_the_best_trials_score_one_and_the_failures_nothing():
    for right in (0, 1):
        wrong = 1 - right
        assert score(RecallCue(), [0, 0, 0, right], right) == 1.0
        assert score(RecallCue(), [0, 0, 0, wrong], right) == -1.0  # a blind guess: 0
        assert score(GuessAgain(), [right, right], right) == 2.0
        assert score(GuessAgain(), [wrong, right], right) == 0.0  # on average of both: 1
        assert score(LookFirst(), [2, 2], right) == 0.0
    assert score(MatchNumber(), jnp.array([[0.3]]), 0) == 1.0
    typical = 3**-0.5  # root mean square of the numbers
    assert score(MatchNumber(), jnp.zeros((1, 1)), 0, typical) == pytest.approx(0.0, abs=1e-6)
    looks = [score(LookFirst(), [3, right], right) for right in (0, 1)]  # pays 0.9 or -1.1
    assert np.mean(looks) == pytest.approx(1.0)


def test_looking_first_is_best_and_only_over_two_episodes():
    """Every policy of two episodes: a first action, and an answer to each first reward."""
    probe = LookFirst()

    def pay(action, right):
        task = Hidden(jnp.int32(right), jnp.float32(0.0))
        state, _ = probe.reset(jax.random.key(0), task)
        return float(probe.step(jax.random.key(0), state, jnp.int32(action), task)[1].reward)

    table = {(a, right): pay(a, right) for a in range(4) for right in (0, 1)}
    worth = {}
    for first, *then in itertools.product(range(4), repeat=3):
        seen = [table[first, right] for right in (0, 1)]
        answers = then if seen[0] != seen[1] else [then[0], then[0]]
        totals = [seen[r] + table[answers[r], r] for r in (0, 1)]
        worth[first] = max(worth.get(first, -9.0), np.mean(totals))
    assert worth[3] == pytest.approx(0.9)
    assert worth[0] == pytest.approx(0.5)
    assert worth[2] == pytest.approx(0.0)
    alone = [np.mean([table[a, r] for r in (0, 1)]) for a in range(4)]
    assert np.argmax(alone) == 2


@pytest.mark.parametrize("clock_ends_it", [False, True])
def test_staying_is_right_only_if_more_would_follow(clock_ends_it):
    probe = StayOrLeave(finite_horizon=clock_ends_it)
    assert score(probe, [0, 0, 0, 0], 0) == float(clock_ends_it)
    assert score(probe, [1, 0, 0, 0], 0) == float(not clock_ends_it)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_learners_pass(name):
    scores = check_learning(LEARNERS[name])
    assert len(scores) == len(PROBE_TASKS)


@pytest.mark.slow
def test_a_policy_without_memory_passes_what_needs_none():
    learner = EPOpt(
        num_tasks=128,
        risk=Mean(),
        network=MLP((16,), "tanh"),
        baseline=MLP((16,), "tanh"),
        optimizer=PPO(minibatches=2),
        learning_rate=Schedule(5e-3, 0.0),
        gae_lambda=0.95,
    )
    probes = [p for p in PROBE_TASKS if isinstance(p, PredictReward | StayOrLeave)]
    assert len(check_learning(learner, probes)) == len(probes) == 3


@pytest.mark.parametrize(
    ("probe", "broken"),
    [
        (PredictReward(), {"optimizer": PPO(minibatches=2, value_coef=0.0)}),
        (RecallCue(), {"memory": Forgetful(16)}),
        (GuessAgain(), {"memory_reset": "episode"}),
        (LookFirst(), {"discount": 0.0}),
        (StayOrLeave(finite_horizon=False), {"discount": 0.0}),
    ],
    ids=["no value", "no memory", "no memory across episodes", "no credit", "no bootstrap"],
)
def test_broken_learners_fail(probe, broken):
    learner = dataclasses.replace(LEARNER, **broken)
    with pytest.raises(ConformanceError, match=probe.failure):
        check_learning(learner, [probe], updates=60)


def test_a_learner_passes_the_probe_of_episodes():
    assert check_learning(LEARNER, [GuessAgain()], updates=60)["GuessAgain"] > 0.75
