"""RL²: replay, returns along a trial, and learning with its ablations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import GRU, LSTM, MLP, PPO, RL2, TRPO, Schedule
from jaxmeta.engine import make_train
from jaxmeta.experience.play import play_adaptation
from jaxmeta.ops.moments import Moments
from jaxmeta_envs.bandits.independent import BernoulliBandit
from tests.toy_families import Counter, CounterTask, Target

TINY = RL2(episodes_per_trial=3, num_tasks=8, memory=GRU(4), optimizer=PPO(epochs=1, minibatches=1))


def started(algorithm, family):
    """A state whose values are far from zero, as after some training."""
    state = jax.jit(lambda key: algorithm.init(family, key))(jax.random.key(0))
    shape = state.value_moments.mean.shape
    mean = 3.0 + 0.1 * jnp.arange(shape[0])
    moments = Moments(mean, jnp.full(shape, 4.0), jnp.full(shape, 0.5))
    return state._replace(value_moments=moments)


@pytest.mark.parametrize(
    ("family", "parts"),
    [
        (Counter(), {}),
        (Target(), {"value_network": "separate"}),
        (Counter(), {"memory": LSTM(4), "encoder": MLP((6,)), "bptt_steps": 4}),
        (Counter(), {"memory_reset": "episode", "checkpoint": True}),
    ],
    ids=["ends early", "continuous, separate value", "encoder, truncated", "no memory"],
)
def test_replaying_with_unchanged_parameters_gives_ratio_one(family, parts):
    still = dataclasses.replace(TINY, learning_rate=1e-30, **parts)
    state = started(still, family)
    _, metrics = jax.jit(lambda s, k: still.update(family, s, k, 0))(state, jax.random.key(1))
    assert metrics["approx_kl"] == pytest.approx(0.0, abs=1e-7)
    assert metrics["clip_fraction"] == 0.0
    # Advantages are normalised, so at ratio one the surrogate's mean is zero.
    assert metrics["policy_loss"] == pytest.approx(0.0, abs=1e-6)


def test_for_a_risk_a_trial_is_paid_at_its_end_and_undiscounted():
    family = Counter()
    learner = dataclasses.replace(TINY, gae_lambda=1.0, discount=0.5)
    state, network = started(learner, family), learner._network(family)
    task = CounterTask(jnp.int32(3), jnp.float32(0.2))
    trial, said = learner._play(family, network, state, task, jax.random.key(2))
    advantage, value, _ = learner._advantages(state, trial, said, jnp.float32(-7.0), jnp.int32(0))
    played = np.asarray(trial.trajectory.mask).ravel()
    assert 0 < played.sum() < played.size
    np.testing.assert_allclose((advantage + value)[played], -7.0, rtol=1e-5)


def test_a_step_that_no_trial_reached_before_has_the_value_of_its_neighbour():
    family = Counter()
    state, network = started(TINY, family), TINY._network(family)
    moments = state.value_moments
    reached = jnp.arange(len(moments.weight)) == 1
    moments = moments._replace(weight=jnp.where(reached, 0.5, 0.0))
    state = state._replace(value_moments=moments)
    task = CounterTask(jnp.int32(9), jnp.float32(0.2))
    trial, said = TINY._play(family, network, state, task, jax.random.key(2))
    value = TINY._advantages(state, trial, said, None, jnp.int32(0))[1]
    np.testing.assert_allclose(value, 3.1 + 2.0 * trial.extras.value.ravel(), rtol=1e-5)


@pytest.mark.parametrize("ends", ["truncated", "terminated"])
@pytest.mark.parametrize("length", [2, 9])
def test_the_return_runs_through_the_trial_and_ends_with_it(ends, length):
    """An episode that ends early (length 2) always terminates; the clock may truncate."""
    family = Counter(ends=ends)
    state, network = started(TINY, family), TINY._network(family)
    task = CounterTask(jnp.int32(length), jnp.float32(0.2))
    patient = dataclasses.replace(TINY, gae_lambda=0.3, value_lambda=0.9)
    trial, said = patient._play(family, network, state, task, jax.random.key(2))
    advantage, value, target = patient._advantages(state, trial, said, None, jnp.int32(0))

    played = np.asarray(trial.trajectory.mask).reshape(-1)
    reward = np.float64(trial.trajectory.reward).reshape(-1)[played]
    values = np.float64(value)[played]
    mean = 3.0 + 0.1 * np.arange(len(played))
    raw = np.float64(trial.extras.value).reshape(-1)
    np.testing.assert_allclose(values, (mean + 2.0 * raw)[played], rtol=1e-5)
    _, beyond = network.step(state.params, trial.carry, trial.final)
    after = 0.0 if length == 2 or ends == "terminated" else mean[-1] + 2.0 * float(beyond.value)
    next_values = np.append(values[1:], after)

    def summed(lambda_):
        sums, trace = np.zeros(len(values)), 0.0
        for t in reversed(range(len(values))):
            trace = reward[t] + 0.99 * next_values[t] - values[t] + 0.99 * lambda_ * trace
            sums[t] = trace
        return sums

    np.testing.assert_allclose(np.asarray(advantage)[played], summed(0.3), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(advantage)[~played], 0.0)
    # The value is fitted to the λ-return of a λ of its own.
    expected = values + summed(0.9)
    np.testing.assert_allclose(np.asarray(target)[played], expected, rtol=1e-4, atol=1e-5)


def test_metrics_measure_the_trials_that_were_played():
    family = Counter(horizon=2, max_length=1)  # every episode is one step with reward 1 + …
    state = started(TINY, family)
    _, metrics = jax.jit(lambda s, k: TINY.update(family, s, k, 0))(state, jax.random.key(1))
    assert metrics["episode_length"] == 1.0
    assert 3 * 1.0 < metrics["return"] < 3 * 2.03
    assert metrics["return_first_episode"] == pytest.approx(float(metrics["return"]) / 3, abs=0.02)


LEARNER = RL2(num_tasks=512, memory=GRU(32), learning_rate=Schedule(2e-3, 0.0))
BANDIT = BernoulliBandit(num_arms=5, num_pulls=10)  # chance 5, Bayes optimum 6.66


def trained_returns(algorithm, updates, tasks=4000):
    """Trains on bandits; returns ``[tasks, pulls]`` on held-out ones."""
    steps = updates * algorithm.env_steps_per_update(BANDIT)
    config = jaxmeta.TrainConfig(algorithm=algorithm, tasks=BANDIT, total_env_steps=steps)
    state, metrics = jax.jit(make_train(config))(jax.random.key(0))
    assert np.all(np.isfinite(np.asarray(jax.tree.leaves(metrics))))
    policy = algorithm.policy(BANDIT)

    def meet(key):
        task_key, key = jax.random.split(key)
        task = BANDIT.sample_task(task_key, "test")
        return play_adaptation(BANDIT, policy, state.params, task, key, 10).reward.sum((1, 2))

    return np.asarray(jax.jit(jax.vmap(meet))(jax.random.split(jax.random.key(7), tasks)))


def standard_error(totals):
    return totals.std() / len(totals) ** 0.5


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(PPO(), id="ppo"),
        pytest.param(TRPO(max_kl=0.02, value_minibatches=2), id="trpo", marks=pytest.mark.slow),
    ],
)
def test_it_learns_to_explore_and_exploit_a_bandit(optimizer):
    parts = {"optimizer": optimizer}
    if optimizer.needs_separate_value:
        parts["value_network"] = "separate"
    returns = trained_returns(dataclasses.replace(LEARNER, **parts), updates=200)
    totals = returns.sum(1)
    assert 6.2 < totals.mean() < 6.66 + 4 * standard_error(totals)
    assert returns[:, -1].mean() > returns[:, 0].mean() + 0.15


@pytest.mark.parametrize(
    "ablation", [{"observe_reward": False}, {"memory_reset": "episode"}], ids=["reward", "memory"]
)
def test_without_rewards_or_memory_it_stays_at_chance(ablation):
    totals = trained_returns(dataclasses.replace(LEARNER, **ablation), updates=100).sum(1)
    assert totals.mean() == pytest.approx(5.0, abs=4 * float(standard_error(totals)))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_tasks": 6}, "num_tasks is 6; it must be a positive multiple of"),
        ({"episodes_per_trial": 0}, "episodes_per_trial is 0"),
        ({"discount": 1.5}, "discount is 1.5"),
        ({"value_lambda": -0.1}, "value_lambda is -0.1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"bptt_steps": 0}, "bptt_steps is 0"),
        ({"bptt_steps": 3, "memory_reset": "episode"}, "bptt_steps is 3"),
        ({"value_network": "none"}, "value_network is 'none'"),
        ({"memory_reset": "never"}, "memory_reset is 'never'"),
    ],
)
def test_impossible_settings_are_refused(bad, message):
    with pytest.raises(jaxmeta.ConfigError, match=message):
        RL2(**bad)


def test_equal_algorithms_are_equal_values():
    assert hash(RL2()) == hash(RL2())
    assert RL2() == RL2()
    assert RL2(memory=GRU(8)) != RL2()
