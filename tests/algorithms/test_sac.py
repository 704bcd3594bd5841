"""Soft actor-critic: what it stores, when and what it learns, resuming, and Pendulum-v1."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import MLP, SAC
from jaxmeta.engine import make_train
from jaxmeta.evaluation import evaluate as evaluation
from jaxmeta.experience.play import play_adaptation
from jaxmeta.ops.trees import num_bytes
from jaxmeta.testing import ToyFamily, check_algorithm
from jaxmeta.testing.learning import check_learning
from jaxmeta.testing.probe_tasks import MatchNumber, StayOrLeave
from jaxmeta_envs import Box, CartPole, Pendulum, PointNavigation
from tests.tiny_runs import LAYERS, SMALL_SAC, TASKS
from tests.toy_families import Target

FAMILY = ToyFamily(continuous=True)
QUICK = SAC(
    num_tasks=8,
    steps=4,
    gradient_steps=8,
    batch_size=64,
    capacity=500,
    warmup_steps=64,
    network=MLP((16,)),
    critic_network=MLP((32, 32)),
    learning_rate=3e-3,
    critic_learning_rate=3e-3,
    temperature_learning_rate=3e-3,
    tau=0.02,
)


def run(algorithm, family, updates, seed=0):
    """The state after so many updates, and metrics ``[updates]``."""
    steps = updates * algorithm.env_steps_per_update(family)
    config = jaxmeta.TrainConfig(algorithm, family, total_env_steps=steps, updates_per_chunk=1)
    return jax.jit(make_train(config))(jax.random.key(seed))


def test_it_keeps_the_contract():
    small = {"num_tasks": 4, "batch_size": 8, "warmup_steps": 8}
    # Enough of learning for an update to show how episodes ended.
    eager = {"gradient_steps": 20, "learning_rate": 0.03, "critic_learning_rate": 0.03}
    check_algorithm(dataclasses.replace(SMALL_SAC, **small, **eager))


def test_it_plays_at_random_and_learns_nothing_until_enough_is_stored():
    algorithm = dataclasses.replace(SMALL_SAC, warmup_steps=3 * 32, capacity=100, steps=2)
    state, metrics = run(algorithm, FAMILY, 5)
    learned = np.asarray(metrics["critic_loss"]) > 0
    np.testing.assert_array_equal(learned, [False, False, True, True, True])
    np.testing.assert_array_equal(state.replay.size, [10] * TASKS)
    heads = [run(algorithm, FAMILY, n)[0].params["actor"]["head"]["params"] for n in (1, 2, 3)]
    np.testing.assert_array_equal(heads[0]["bias"], heads[1]["bias"])
    assert np.all(heads[1]["bias"] != heads[2]["bias"])
    long = dataclasses.replace(algorithm, steps=90, warmup_steps=2000)
    actions = np.asarray(run(long, FAMILY, 1)[0].replay.items.action)[:, :90].ravel()
    # Uniform on [-1, 1]: its quantiles are a straight line.
    quantiles = np.quantile(actions, np.linspace(0.05, 0.95, 19))
    np.testing.assert_allclose(quantiles, np.linspace(-0.9, 0.9, 19), atol=0.08)


def test_a_ring_of_each_task_holds_its_newest_steps():
    state, metrics = run(SMALL_SAC, FAMILY, 6)
    np.testing.assert_array_equal(state.replay.size, [7] * TASKS)
    np.testing.assert_array_equal(state.replay.position, [12 % 7] * TASKS)
    np.testing.assert_array_equal(state.playing.episodes, [4] * TASKS)
    assert float(metrics["episodes"][-1]) == 4.0
    stored = jax.tree.map(np.asarray, state.replay.items)
    # What a task pays is a parabola of the action and noise: each ring is of its own task.
    payoff, action = np.asarray(state.tasks.payoff), stored.action[..., 0]
    expected = payoff[:, :1] * action + payoff[:, 1:2] * action**2 + payoff[:, 2:]
    assert np.std(stored.reward - expected) < 0.15
    assert len(np.unique(payoff)) == payoff.size
    assert not stored.terminated.any()


def test_the_return_is_that_of_whole_episodes_once_there_is_one():
    state, metrics = run(dataclasses.replace(SMALL_SAC, steps=1, warmup_steps=64), FAMILY, 4)
    score, last = np.asarray(metrics["return"]), np.asarray(state.playing.last)
    assert score[2] == score[3] == pytest.approx(last.mean(), rel=1e-5)
    assert len(set(score[:3].tolist())) == 3


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_noise_is_as_correlated_as_it_says_and_spread_as_without(correlation):
    algorithm = dataclasses.replace(
        SMALL_SAC, steps=200, capacity=200, warmup_steps=10_000, noise_correlation=correlation
    )
    state, _ = run(algorithm, FAMILY, 1)
    actions = np.asarray(state.replay.items.action)[..., 0]
    found = np.corrcoef(actions[:, 1:].ravel(), actions[:, :-1].ravel())[0, 1]
    # Of uniform numbers with normal copula: (6 / π) asin(ρ / 2).
    assert found == pytest.approx(6 / np.pi * np.arcsin(correlation / 2), abs=0.06)
    assert actions.std() == pytest.approx(1 / 3**0.5, abs=0.05)


def test_observations_are_normalised_by_all_that_was_played():
    state, _ = run(dataclasses.replace(SMALL_SAC, capacity=100), FAMILY, 5)
    seen = np.asarray(state.replay.items.obs)[:, :10].reshape(-1, 2).astype(np.float64)
    moments = state.params["inputs"].obs
    np.testing.assert_allclose(moments.mean, seen.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(moments.variance, seen.var(0), rtol=1e-3, atol=1e-5)
    plain, _ = run(dataclasses.replace(SMALL_SAC, normalize_observations=False), FAMILY, 1)
    assert set(plain.params) == {"actor"}


@dataclass(frozen=True)
class Door(StayOrLeave):
    """`StayOrLeave` with a number: below one half leaves."""

    @property
    def action_space(self):
        return Box(0.0, 1.0, (1,))

    def pay(self, state, action, task):
        return super().pay(state, (action[0] > 0.5).astype(jnp.int32), task)


@dataclass(frozen=True)
class Clocked(Door):
    """The clock merely stops the episode."""

    finite_horizon: bool = False
    failure: ClassVar[str] = Door.failure


@pytest.mark.parametrize("family", [Door(), Clocked()], ids=["terminated", "truncated"])
def test_time_limits_bootstrap_and_terminations_do_not(family):
    """Who takes one for the other leaves where staying pays, or stays where leaving does."""
    algorithm = dataclasses.replace(QUICK, temperature=0.02, discount=0.95)
    check_learning(algorithm, [family], updates=150)


def test_one_policy_serves_many_tasks():
    many = {"num_tasks": 64, "steps": 1, "batch_size": 128, "warmup_steps": 128}
    algorithm = dataclasses.replace(QUICK, **many, capacity=300)
    check_learning(algorithm, [MatchNumber()], updates=300)


def test_the_temperature_keeps_the_entropy_at_its_target():
    algorithm = dataclasses.replace(QUICK, target_entropy=-1.5, temperature_learning_rate=1e-2)
    _, metrics = run(algorithm, Target(), 200)
    assert np.mean(metrics["entropy"][-20:]) == pytest.approx(-1.5, abs=0.25)
    fixed = dataclasses.replace(algorithm, temperature=0.3)
    _, metrics = run(fixed, Target(), 3)
    np.testing.assert_allclose(metrics["alpha"], 0.3, rtol=1e-6)


def test_rewards_in_other_units_are_learned_from_alike_with_their_scale():
    """Scaled back they are the same problem; without, α weighs ten times as much."""

    @dataclass(frozen=True)
    class Tenfold(ToyFamily):
        def step(self, key, state, action, task):
            state, timestep = super().step(key, state, action, task)
            return state, timestep._replace(reward=10.0 * timestep.reward)

    plain, _ = run(SMALL_SAC, FAMILY, 4)
    tenfold = Tenfold(continuous=True)
    scaled, _ = run(dataclasses.replace(SMALL_SAC, reward_scale=0.1), tenfold, 4)
    unscaled, _ = run(SMALL_SAC, tenfold, 4)

    def head(state):
        return np.asarray(state.critics["head"]["params"]["Dense_0"]["bias"])

    np.testing.assert_allclose(head(scaled), head(plain), rtol=1e-3, atol=1e-5)
    assert np.max(np.abs(head(unscaled) - head(plain))) > 1e-4


def test_a_resumed_run_goes_on_with_its_buffer_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "quick_evaluation", lambda *_: {"eval/return": np.zeros(2)})
    config = jaxmeta.TrainConfig(
        algorithm=SMALL_SAC,
        tasks=FAMILY,
        num_seeds=2,
        total_env_steps=8 * 32,
        updates_per_chunk=2,
        checkpoint_every=1,
        devices=2,
        run_dir=str(tmp_path / "run"),
    )
    whole = jaxmeta.train(dataclasses.replace(config, run_dir=None), progress=False)

    def stop(info):
        if info.update == 4:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        jaxmeta.train(config, callback=stop, progress=False)
    result = jaxmeta.resume(config.run_dir, progress=False)
    assert jax.tree.leaves(result.state.replay) == jax.tree.leaves(result.state.playing) == []
    for a, b in zip(jax.tree.leaves(result.state), jax.tree.leaves(whole.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_memory_is_that_of_the_buffer_and_little_more():
    algorithm = dataclasses.replace(SMALL_SAC, capacity=100_000)
    state = jax.eval_shape(lambda: algorithm.init(FAMILY, jax.random.key(0)))
    buffer = num_bytes(state.replay)
    # Two observations of two entries, an action and a reward, and a flag; two counters a task.
    assert buffer == TASKS * (100_000 * (4 * (2 * 2 + 1 + 1) + 1) + 8)
    assert buffer < algorithm.memory_bytes(FAMILY, TASKS) < 1.01 * buffer
    half = algorithm.memory_bytes(FAMILY, TASKS // 2)
    assert half == pytest.approx(algorithm.memory_bytes(FAMILY, TASKS) / 2, rel=0.01)


REFUSED = [
    ({"batch_size": 30}, "batch_size is 30; it must be a multiple of num_tasks=16"),
    ({"warmup_steps": 0}, "warmup_steps is 0; it must be at least batch_size=32"),
    ({"capacity": 1}, "capacity is 1; it must be at least steps=2"),
    ({"batch_size": 16 * 8, "warmup_steps": 999}, "capacity is 7; .* at least batch_size=128"),
    ({"temperature": 0.0}, "temperature is 0.0; it must be above 0, or None"),
    ({"noise_correlation": 1.0}, "noise_correlation is 1.0; it must be at least 0 and below 1"),
    ({"tau": 1.5}, "tau is 1.5"),
    ({"steps": 0}, "steps is 0"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_settings_that_cannot_work_are_refused(fields, message):
    with pytest.raises(jaxmeta.ConfigError, match=message):
        dataclasses.replace(SMALL_SAC, **fields)


def test_families_that_it_cannot_act_in_are_refused_by_name():
    for family, source, message in (
        (CartPole(), "train", r"tasks.action_space is Discrete\(n=2\); it must be a Box"),
        (PointNavigation(), "nominal", "a split of PointNavigation, which has no standard"),
        (Pendulum(), "heavier", "source is 'heavier'; .*heavy, light, nominal"),
    ):
        with pytest.raises(jaxmeta.ConfigError, match=message):
            jaxmeta.TrainConfig(SAC(source=source), family)


def test_with_the_nominal_source_every_task_is_the_standard_one():
    algorithm = SAC(num_tasks=4, source="nominal", capacity=100, network=LAYERS)
    tasks = algorithm.init(Pendulum(), jax.random.key(0)).tasks
    np.testing.assert_array_equal(tasks.length, np.ones(4))
    spread = dataclasses.replace(algorithm, source="train").init(Pendulum(), jax.random.key(0))
    assert len(np.unique(spread.tasks.length)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1000, 1001, 1002])
def test_the_preset_solves_pendulum_v1(seed):
    """Its level is -146; what merely hangs has -1200, what spins -1500."""
    config = dataclasses.replace(jaxmeta.preset("sac", "pendulum"), seed=seed)
    family = config.tasks
    params = jaxmeta.train(config, progress=False).state.params
    params = jax.tree.map(lambda x: x[0], params)
    policy = config.algorithm.policy(family)
    policy = policy._replace(act=policy.act_mode)

    def play(key):
        task = family.nominal_task()
        return play_adaptation(family, policy, params, task, key, 1).reward.sum()

    returns = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(7), 1000))
    assert np.mean(returns) > -155.0
