"""Risk measures against float64 rewrites, and what they do to an algorithm."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import GRU, PPO, RL2, CVaR, Mean, Schedule, statistics
from jaxmeta.algorithms.trials import make_batch
from jaxmeta.ops.moments import Moments
from jaxmeta.risk import return_statistics
from jaxmeta_envs import PolicyInput, Trajectory
from tests.toy_families import Counter

NOW = jnp.int32(0)


def tail_weights(returns, fraction):
    """The rule in words: sort; the lowest take 1 each until the count is spent; ties share."""
    returns = np.asarray(returns, np.float64)
    left = round(fraction * len(returns), 9)
    weights = np.zeros(len(returns))
    for value in sorted(set(returns.tolist())):
        tied = returns == value
        weights[tied] = min(1.0, max(left, 0.0) / tied.sum())
        left -= tied.sum()
    return weights


def test_a_tenth_of_1_to_240_is_exactly_24():
    weights = CVaR(0.1).weights(jnp.arange(1.0, 241.0), NOW)
    np.testing.assert_array_equal(weights, np.arange(1, 241) <= 24)
    cutoff = np.percentile(np.arange(1, 241), 10)  # the rule of the paper, where nothing is tied
    np.testing.assert_array_equal(weights, np.arange(1, 241) <= cutoff)


@pytest.mark.parametrize("n", [7, 40, 240])
@pytest.mark.parametrize("fraction", [0.15, 0.25, 0.5, 1.0])
def test_weights_are_those_of_the_float64_rewrite(n, fraction):
    """12 times 900 random batches, half of them of few distinct values."""
    rng = np.random.default_rng(n)
    few = rng.integers(0, 5, size=(450, n))
    returns = np.concatenate([few, rng.normal(size=(450, n))]).astype(np.float32)
    weights = jax.jit(jax.vmap(lambda r: CVaR(fraction).weights(r, NOW)))(returns)
    expected = np.stack([tail_weights(r, fraction) for r in returns])
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    estimate = np.sum(weights * returns, axis=1) / np.sum(weights, axis=1)
    np.testing.assert_allclose(
        estimate, statistics.cvar(returns, fraction, axis=1), rtol=1e-4, atol=1e-5
    )


def test_the_mean_is_the_whole_tail():
    returns = jnp.asarray([3.0, 1.0, 2.0])
    np.testing.assert_array_equal(Mean().weights(returns, NOW), 1.0)
    np.testing.assert_array_equal(CVaR(1.0).weights(returns, NOW), 1.0)


def test_a_step_schedule_changes_at_once():
    risk = CVaR(Schedule(1.0, 0.5, 100, "step"))
    shares = [float(risk.weights(jnp.arange(8.0), jnp.int32(u)).mean()) for u in (0, 99, 100, 500)]
    assert shares == [1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize("n", [4, 60])
def test_the_spread_of_returns_is_that_of_numpy(n):
    returns = np.random.default_rng(n).normal(size=n).astype(np.float32)
    described = return_statistics(jnp.asarray(returns))
    for level in (5, 10, 25, 75, 90):
        expected = np.percentile(np.float64(returns), level)
        assert described[f"return_p{level}"] == pytest.approx(expected, abs=1e-5)
    assert described["return_median"] == pytest.approx(np.median(returns), abs=1e-6)
    assert described["return_cvar10"] == pytest.approx(statistics.cvar(returns, 0.1), abs=1e-5)


def test_only_weighted_trials_decide_how_advantages_are_normalised():
    rng = np.random.default_rng(0)
    tasks, length = 6, 5
    advantage, value = rng.normal(size=(2, tasks, length)).astype(np.float32)
    mask = rng.random((tasks, length)) < 0.8
    weight = np.array([1.0, 0.0, 0.0, 1.0, 0.5, 0.0], np.float32)
    shaped = jnp.asarray(mask).reshape(tasks, 1, length)
    zeros = jnp.zeros(shaped.shape)
    inputs = PolicyInput(zeros, zeros, zeros, shaped, shaped)
    trajectory = Trajectory(inputs, zeros, zeros, shaped, shaped, zeros, shaped)
    masked = jnp.where(mask, advantage, 0.0)
    batch, moments, metrics = make_batch(
        trajectory, zeros, masked, jnp.asarray(value), jnp.asarray(weight), Moments.empty(), 0.9
    )
    each = (weight[:, None] * mask).astype(np.float64)
    mean = np.sum(each * advantage) / each.sum()
    std = np.sqrt(np.sum(each * (advantage - mean) ** 2) / each.sum())
    np.testing.assert_allclose(batch.advantage[mask], ((advantage - mean) / std)[mask], rtol=1e-4)
    target = np.where(mask, advantage + value, np.nan)
    assert moments.mean == pytest.approx(np.nanmean(target), rel=1e-4)
    assert moments.variance == pytest.approx(np.nanvar(target), rel=1e-4)
    explained = 1 - np.var(advantage[mask]) / np.nanvar(target)
    assert metrics["value_explained"] == pytest.approx(explained, abs=1e-4)
    spread = batch.weight[:, None] * mask
    assert spread.sum() == pytest.approx(mask.sum())


def test_a_trial_without_weight_does_not_move_the_policy():
    """With a separate value network the policy sees the kept trials only, the value all."""
    family = Counter()
    learner = RL2(
        episodes_per_trial=2,
        num_tasks=8,
        memory=GRU(4),
        optimizer=PPO(epochs=1, minibatches=1),
        value_network="separate",
        entropy_coef=0.0,
    )
    risky = dataclasses.replace(learner, risk=CVaR(0.5))
    state = jax.jit(lambda key: learner.init(family, key))(jax.random.key(0))
    (mean, _), (tail, metrics) = (
        jax.jit(lambda s, k, a=a: a.update(family, s, k))(state, jax.random.key(1))
        for a in (learner, risky)
    )
    assert metrics["risk_share"] == 0.5

    def moved(name, state_a, state_b):
        a, b = (jax.tree.leaves(s.params[name]) for s in (state_a, state_b))
        return max(float(jnp.abs(x - y).max()) for x, y in zip(a, b, strict=True))

    assert moved("policy_head", mean, tail) > 1e-4
    assert moved("policy_head", mean, state) > 1e-4
    # Adam divides by the gradient's size, and the clip is by the norm of both: nearly equal.
    assert moved("value_head", mean, tail) < 0.1 * moved("value_head", mean, state)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, Schedule(1.0, 0.0, 10)])
def test_impossible_fractions_are_refused(fraction):
    with pytest.raises(jaxmeta.ConfigError, match="fraction is"):
        CVaR(fraction)


def test_less_than_one_task_is_refused():
    with pytest.raises(jaxmeta.ConfigError, match=r"risk\.fraction is 0\.1.* 1 / 8"):
        RL2(num_tasks=8, risk=CVaR(0.1))
    RL2(num_tasks=40, risk=CVaR(0.1))
