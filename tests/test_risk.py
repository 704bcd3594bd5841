"""Risk measures against float64 rewrites, and what they do to an algorithm."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import GRU, MLP, PPO, RL2, SGD, CVaR, EPOpt, InnerLoop, Mean, PolicyMAML, Schedule
from jaxmeta.evaluation.evaluate import evaluate_policy, evaluation_key
from jaxmeta.ops import statistics
from jaxmeta.ops.moments import Moments
from jaxmeta.parts.linear_baseline import LinearBaseline
from jaxmeta.parts.on_policy import make_batch
from jaxmeta.parts.risk import Risk, return_statistics
from jaxmeta.testing.toys import ToyFamily
from jaxmeta_envs import PolicyInput, Trajectory
from tests.toy_families import Counter, RareRuin, SafeOrRisky
from tests.toys import scan_updates

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


def test_a_simulator_without_weight_does_not_move_the_policy():
    """Over simulators the policy sees the kept ones only, the value network all."""
    family = Counter()
    learner = EPOpt(
        num_tasks=8,
        risk=Mean(),
        network=MLP((4,), "tanh"),
        baseline=MLP((4,), "tanh"),
        optimizer=PPO(epochs=1, minibatches=1),
        normalize_observations=False,  # else the first update only measures
    )
    risky = dataclasses.replace(learner, risk=CVaR(0.5))
    state = jax.jit(lambda key: learner.init(family, key))(jax.random.key(0))
    (mean, _), (tail, metrics) = (
        jax.jit(lambda s, k, a=a: a.update(family, s, k, 0))(state, jax.random.key(1))
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


class Weighted(Risk):
    """The tail by its weights alone, as a measure of one's own would have it."""

    def weights(self, returns, updates):
        return CVaR(0.1).weights(returns, updates)

    def check(self, num_tasks):
        pass


def test_influence_by_weights_is_that_of_the_formula():
    returns = jnp.asarray(np.random.default_rng(1).normal(size=200), jnp.float32)
    for risk, known in ((Weighted(), CVaR(0.1)), (Mean(), CVaR(1.0))):
        worth, expected = (r.influence(returns, NOW) for r in (risk, known))
        np.testing.assert_allclose(worth, expected - expected.min(), rtol=1e-4, atol=1e-4)


def test_influence_is_the_derivative_of_the_measure():
    """Against finite differences of the exact CVaR in the probability of each return."""
    returns = np.array([3.0, -1.0, 0.5, 7.0, 2.0, 2.0])

    def measure(probability, fraction=0.4):
        left, total = fraction, 0.0
        for k in np.argsort(returns, kind="stable"):
            share = min(probability[k], left)
            total, left = total + share * returns[k], left - share
        return total / fraction

    even, step = np.full(6, 1 / 6), 1e-6
    towards = step * (np.eye(6) - even)  # a little more of one return, less of all
    slope = np.array([(measure(even + t) - measure(even - t)) / (2 * step) for t in towards])
    at_risk = np.minimum(returns - 2.0, 0.0) / 0.4  # of 2.4 returns the third is at risk
    np.testing.assert_allclose(slope - slope.mean(), at_risk - at_risk.mean(), atol=1e-6)
    worth = CVaR(0.4).influence(jnp.float32(returns), NOW)
    np.testing.assert_allclose(worth - worth.mean(), slope - slope.mean(), atol=1e-5)


def tail_of(policy_params, learner, family, fraction):
    policy = learner.policy(family)
    key = evaluation_key(0)
    returns = evaluate_policy(policy, policy_params, family, key=key, num_tasks=2000)
    return statistics.cvar(returns, fraction), returns


TWO_ARMS = {
    "rl2": RL2(
        episodes_per_trial=1, num_tasks=512, memory=GRU(8), learning_rate=0.02, risk=CVaR(0.1)
    ),
    "epopt": EPOpt(
        num_tasks=512,
        risk=CVaR(0.1),
        risk_over="trajectories",
        network=MLP((8,), "tanh"),
        optimizer=PPO(),
        learning_rate=0.02,
    ),
}


@pytest.mark.parametrize("baseline", [LinearBaseline(), MLP((8,))])
def test_trajectories_are_paid_at_their_end_and_nothing_comes_after(baseline):
    """So it is one whether the last step terminates an episode or its time is up."""
    optimizer = PPO(epochs=1, minibatches=1)
    learner = EPOpt(
        num_tasks=40,
        risk=CVaR(0.5),
        risk_over="trajectories",
        network=MLP((8,)),
        baseline=baseline,
        optimizer=optimizer,
    )

    def learned(family):
        state = learner.init(family, jax.random.key(0))
        keys = jax.random.split(jax.random.key(1), 3)
        return jax.jit(lambda s: scan_updates(learner, family, s, keys))(state)[0].params

    one, other = learned(ToyFamily(terminates=True)), learned(ToyFamily(terminates=False))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), one, other)


@pytest.mark.parametrize("name", TWO_ARMS)
def test_the_conditional_value_at_risk_itself_is_raised(name):
    """A safe arm N(0, 0.1) and a better, riskier one N(0.3, 1): the worst tenth is the safe arm's.

    Advantages that are centred among the kept trials stay at an even choice.
    """
    family, learner = SafeOrRisky(), TWO_ARMS[name]

    @jax.jit
    def trained(learner_state, keys):
        return scan_updates(learner, family, learner_state, keys)

    state = learner.init(family, jax.random.key(0))
    state, _ = trained(state, jax.random.split(jax.random.key(1), 60))
    tail, _ = tail_of(state.params, learner, family, 0.1)
    assert tail > -0.25  # attainable: -0.175; the risky arm has -1.455
    # The mean prefers the other arm.
    plain = dataclasses.replace(learner, risk=Mean())
    state = plain.init(family, jax.random.key(0))
    run = jax.jit(lambda s, keys: scan_updates(plain, family, s, keys))
    state, _ = run(state, jax.random.split(jax.random.key(1), 60))
    tail, returns = tail_of(state.params, plain, family, 0.1)
    assert returns.mean() > 0.25
    assert tail < -1.2


@pytest.mark.parametrize(
    ("risk", "tail", "mean"), [(CVaR(0.2), 0.3, 0.3), (Mean(), -2.0, 0.4)], ids=["CVaR", "mean"]
)
def test_the_worst_tasks_after_adaptation_are_raised(risk, tail, mean):
    """Steps too small to tell tasks apart: the best mean ruins a fifth of them, CVaR(0.2) none."""
    family = RareRuin()
    learner = PolicyMAML(
        num_tasks=64,
        shots=8,
        network=MLP((8,), "tanh"),
        inner=InnerLoop(optimizer=SGD(0.01)),
        optimizer=PPO(epochs=4, minibatches=1),
        learning_rate=0.02,
        risk=risk,
    )

    @jax.jit
    def trained(key, keys):
        return scan_updates(learner, family, learner.init(family, key), keys)[1]

    metrics = trained(jax.random.key(0), jax.random.split(jax.random.key(1), 40))
    last = {name: float(x[-5:].mean()) for name, x in metrics.items()}
    assert last["return_cvar10"] == pytest.approx(tail, abs=0.1)  # what is attainable
    assert last["return"] == pytest.approx(mean, abs=0.1)
    assert metrics["return_cvar10"][0] < -0.9


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, Schedule(1.0, 0.0, 10)])
def test_impossible_fractions_are_refused(fraction):
    with pytest.raises(jaxmeta.ConfigError, match="fraction is"):
        CVaR(fraction)


def test_less_than_one_task_is_refused():
    with pytest.raises(jaxmeta.ConfigError, match=r"risk\.fraction is 0\.1.* 1 / 8"):
        RL2(num_tasks=8, risk=CVaR(0.1))
    RL2(num_tasks=40, risk=CVaR(0.1))
