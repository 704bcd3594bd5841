"""EPOpt: the percentile filter, returns, sources, and learning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import MLP, PPO, TRPO, CVaR, EPOpt, LinearBaseline, Mean, Schedule
from jaxmeta.engine import make_train
from jaxmeta.ops.moments import Moments
from jaxmeta.parts.episodes import last_played
from jaxmeta.testing import check_algorithm
from jaxmeta.testing.policies import first_input
from jaxmeta_envs import BernoulliBandit, CartPole, Timestep, Uniform
from jaxmeta_envs.random.distributions import as_truncated_normal
from tests.toy_families import Counter, CounterTask, Target

TINY = EPOpt(num_tasks=8, episodes_per_task=2, risk=Mean(), network=MLP((4,), "tanh"))
NETWORK = {"baseline": MLP((4,)), "optimizer": PPO(epochs=1, minibatches=1)}


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"optimizer": PPO(epochs=1, minibatches=2)},
        {"baseline": MLP((4,)), "optimizer": TRPO(value_minibatches=2)},
    ],
    ids=["trpo, linear", "ppo, linear", "trpo, network"],
)
def test_it_keeps_the_contract_of_an_algorithm(parts):
    check_algorithm(dataclasses.replace(TINY, **parts))


def test_a_network_of_values_tells_time_limits_from_terminations():
    check_algorithm(dataclasses.replace(TINY, **NETWORK))


@pytest.mark.parametrize("ends", ["truncated", "terminated"])
@pytest.mark.parametrize("length", [2, 9])
def test_returns_end_with_each_episode(ends, length):
    family = Counter(ends=ends)
    algorithm = dataclasses.replace(TINY, **NETWORK, gae_lambda=0.7)
    state = algorithm.init(family, jax.random.key(0))
    state = state._replace(value_moments=Moments(*map(jnp.float32, (3.0, 4.0, 0.5))))
    network = algorithm._network(family)
    task = CounterTask(jnp.int32(length), jnp.float32(0.2))
    trial = algorithm._play(family, network, state, task, jax.random.key(2))
    discount = jnp.float32(algorithm.discount)
    advantage, values = algorithm._advantages(family, network, state, trial, discount)
    advantage = np.asarray(advantage).reshape(2, -1)
    values = np.float64(values).reshape(2, -1)
    steps = trial.trajectory
    for episode in range(2):
        played = int(steps.mask[episode].sum())
        final = jax.tree.map(lambda x: x[episode, played - 1], steps.inputs)  # noqa: B023
        final = final._replace(obs=steps.next_obs[episode, played - 1])
        beyond = 3.0 + 2.0 * float(network.step(state.params, (), final)[1].value)
        if length == 2 or ends == "terminated":
            beyond = 0.0
        after = np.append(values[episode, 1:played], beyond)
        reward = np.float64(steps.reward[episode, :played])
        expected, trace = np.zeros(played), 0.0
        for t in reversed(range(played)):
            trace = reward[t] + 0.995 * after[t] - values[episode, t] + 0.995 * 0.7 * trace
            expected[t] = trace
        np.testing.assert_allclose(advantage[episode, :played], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(advantage[episode, played:], 0.0)


def test_the_linear_baseline_is_fitted_to_all_trajectories():
    """Also to those that the filter drops; NumPy fits the same returns."""
    family = Counter(horizon=6)
    risky = dataclasses.replace(TINY, num_tasks=16, risk=CVaR(0.25), discount=0.9)
    state = risky.init(family, jax.random.key(0))
    new, metrics = jax.jit(lambda s, k: risky.update(family, s, k, 0))(state, jax.random.key(1))
    assert metrics["risk_share"] == 0.25
    whole, _ = jax.jit(lambda s, k: TINY_WHOLE.update(family, s, k, 0))(state, jax.random.key(1))
    np.testing.assert_array_equal(new.baseline, whole.baseline)
    assert np.any(np.asarray(new.baseline) != 0.0)


TINY_WHOLE = dataclasses.replace(TINY, num_tasks=16, discount=0.9)


def test_the_last_played_step_is_found():
    mask = jnp.asarray([[True, True, False], [True, True, True]])
    expected = [[False, True, False], [False, False, True]]
    np.testing.assert_array_equal(last_played(mask), expected)


CARTPOLE = CartPole(episode_length=100)


@pytest.mark.parametrize(("source", "spread"), [("train", 1.5), ("nominal", 0.0), ("heavy", 1.5)])
def test_simulators_come_from_the_source(source, spread):
    algorithm = dataclasses.replace(TINY, source=source)
    state = jax.eval_shape(lambda: algorithm.init(CARTPOLE, jax.random.key(0)))
    assert set(state.source._fields) == {"mean", "std", "low", "high"}
    first = algorithm.first_source(CARTPOLE)
    expected = CARTPOLE.distribution("train" if source == "nominal" else source)
    width = float(first.high.cart_mass - first.low.cart_mass)
    wide = float(expected.high.cart_mass - expected.low.cart_mass)
    assert width == (pytest.approx(wide) if spread else 0.0)
    mean, _ = first.location()
    assert mean.cart_mass == (expected.location()[0].cart_mass if spread else 1.0)


def test_simulators_are_drawn_from_the_state():
    """What adaptation puts there is what is trained on."""
    algorithm = dataclasses.replace(TINY, episodes_per_task=1)
    state = algorithm.init(CARTPOLE, jax.random.key(0))
    task = CARTPOLE.nominal_task()._replace(gravity=jnp.float32(7.0))
    state = state._replace(source=as_truncated_normal(Uniform(task, task)))
    drawn = algorithm._sample_task(CARTPOLE, state, jax.random.key(3))
    assert drawn.gravity == 7.0
    new, metrics = jax.jit(lambda s, k: algorithm.update(CARTPOLE, s, k, 0))(
        state, jax.random.key(1)
    )
    assert metrics["source_mean/gravity"] == 7.0
    assert metrics["source_std/gravity"] == 0.0
    assert new.source.low.gravity == 7.0
    same = jax.tree.structure(state) == jax.tree.structure(new)
    assert same


@pytest.mark.parametrize(
    "parts",
    [{"optimizer": TRPO(max_kl=0.05)}, {**NETWORK, "optimizer": PPO(minibatches=2)}],
    ids=["trpo, linear", "ppo, network"],
)
def test_it_learns_to_balance(parts):
    """Of 100 steps chance keeps 24."""
    learner = EPOpt(num_tasks=32, network=MLP((16,), "tanh"), risk=Mean(), learning_rate=5e-3)
    learner = dataclasses.replace(learner, **parts)
    steps = 40 * learner.env_steps_per_update(CARTPOLE)
    config = jaxmeta.TrainConfig(algorithm=learner, tasks=CARTPOLE, total_env_steps=steps)
    _, metrics = jax.jit(make_train(config))(jax.random.key(0))
    assert np.mean(metrics["return"][-5:]) > 80.0


def test_the_worst_simulators_decide_and_the_mean_pays():
    """Two kinds of simulators want opposite actions; the rare one loses more by being ignored."""
    mean, tail = (trained_action(risk) for risk in (Mean(), CVaR(0.1)))
    assert mean == pytest.approx(0.5, abs=0.15)
    assert abs(tail) < 0.25  # exploration blurs the tip of the roof


@dataclasses.dataclass(frozen=True)
class Stakes(Target):
    """One step; reward 1 - |a - 0.5| or, in a tenth of the tasks, -4 |a|."""

    def sample_task(self, key, split="train"):
        self.check_split(split)
        return jax.random.uniform(key) < 0.1

    def step(self, key, state, action, task):
        a = jnp.clip(action[0], -1.0, 1.0)
        reward = jnp.where(task, -4.0 * jnp.abs(a), 1.0 - jnp.abs(a - 0.5))
        return state, Timestep(jnp.int32(0), reward, jnp.asarray(True), jnp.asarray(False))


def trained_action(risk):
    learner = EPOpt(
        risk=risk, network=MLP((4,), "tanh"), actions="clipped", optimizer=TRPO(max_kl=0.02)
    )
    family = Stakes()
    steps = 60 * learner.env_steps_per_update(family)
    config = jaxmeta.TrainConfig(algorithm=learner, tasks=family, total_env_steps=steps)
    state, _ = jax.jit(make_train(config))(jax.random.key(0))
    _, output = learner._network(family).step(state.params, (), first_input(family))
    return float(output.distribution.mean[0])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_tasks": 0}, "num_tasks is 0"),
        ({"episodes_per_task": 0}, "episodes_per_task is 0"),
        ({"num_tasks": 8}, r"risk\.fraction is .*at least 1 / 8"),
        ({"risk": CVaR(Schedule(1.0, 0.001, 100, "step"))}, r"at least 1 / 240"),
        ({"num_tasks": 241, "optimizer": PPO(), "baseline": MLP((4,))}, "num_tasks is 241"),
        ({"discount": 1.5}, "discount is 1.5"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
    ],
)
def test_impossible_settings_are_refused(bad, message):
    with pytest.raises(jaxmeta.ConfigError, match=message):
        EPOpt(**bad)


def test_impossible_sources_are_refused():
    for source, tasks, message in (
        ("heavier", CartPole(), "source is 'heavier'; .*heavy"),
        ("nominal", BernoulliBandit(), "no standard parameters"),
    ):
        with pytest.raises(jaxmeta.ConfigError, match=message):
            jaxmeta.TrainConfig(algorithm=EPOpt(source=source), tasks=tasks)


def test_equal_algorithms_are_equal_values():
    assert hash(EPOpt()) == hash(EPOpt())
    assert EPOpt() == EPOpt()
    assert EPOpt(baseline=LinearBaseline(1e-3)) != EPOpt()
