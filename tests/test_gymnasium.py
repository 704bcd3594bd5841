"""Our families for Gymnasium's users, and our agents in Gymnasium's environments."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import GRU, MAML, RL2, GymnasiumEnv, GymnasiumPolicy, TrainConfig
from jaxmeta.experience.play import play_adaptation
from jaxmeta.runs.result import TrainResult
from jaxmeta_envs import (
    AdaptivePolicy,
    BernoulliBandit,
    Box,
    ConfigError,
    Dict,
    Discrete,
    PointNavigation,
)
from jaxmeta_envs.regression.functions import Sinusoid
from tests.toy_families import Counter, CounterTask
from tests.toy_spaces import DONE, MIXED, SEEN, AnySpaces

gymnasium = pytest.importorskip("gymnasium")
env_checker = pytest.importorskip("gymnasium.utils.env_checker")
MODES = list(gymnasium.vector.AutoresetMode)


def counting(length, bonus=0.25):
    return CounterTask(jnp.int32(length), jnp.float32(bonus))


def play_through(env):
    """Plays an episode of action 1; returns what came back, step by step."""
    steps = []
    while not (steps and (steps[-1][2] or steps[-1][3])):
        steps.append(env.step(1))
    return steps


# Families as environments.


@pytest.mark.parametrize(
    "env",
    [
        GymnasiumEnv(BernoulliBandit(num_arms=3, num_pulls=4), seed=0),
        GymnasiumEnv(PointNavigation(episode_length=5), split="far"),
        GymnasiumEnv(Counter(), counting(3)),
        GymnasiumEnv(AnySpaces(MIXED, DONE["multi-discrete"])),
        GymnasiumEnv(AnySpaces(SEEN["tuple"], DONE["matrix"])),
    ],
    ids=lambda env: type(env.family).__name__,
)
@pytest.mark.filterwarnings("ignore:.*infinity:UserWarning")  # positions have no bound
@pytest.mark.filterwarnings("ignore:.*symmetric and normalized:UserWarning")
def test_gymnasiums_checker_passes(env):
    env_checker.check_env(env, skip_render_check=True)


@pytest.mark.parametrize("ends", ["terminated", "truncated"])
@pytest.mark.parametrize("length", [2, 9])
def test_an_episode_is_that_of_the_family(ends, length):
    family, task = Counter(ends=ends), counting(length)
    env = GymnasiumEnv(family, task)
    obs, _ = env.reset()
    state, first = family.reset(jax.random.key(0), task)
    step_family = jax.jit(family.step)
    np.testing.assert_array_equal(obs, first)
    for obs, reward, terminated, truncated, _ in play_through(env):
        state, step = step_family(jax.random.key(0), state, 1, task)
        np.testing.assert_array_equal(obs, step.obs)
        assert obs in env.observation_space
        assert (reward, terminated, truncated) == (step.reward, step.terminated, step.truncated)
    assert terminated == (length == 2 or ends == "terminated")
    assert truncated == (not terminated)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(1)


def test_a_task_stays_until_another_is_asked_for():
    env = GymnasiumEnv(Counter(), seed=3)
    assert env.task is None
    env.reset()
    first = env.task
    env.reset()
    assert env.task is first
    env.reset(options={"task": "new"})
    assert float(env.task.bonus) != float(first.bonus)
    env.reset(seed=3)
    assert float(env.task.bonus) == float(first.bonus)
    assert float(GymnasiumEnv(Counter()).reset(seed=3) and env.task.bonus) == float(first.bonus)


def test_a_task_that_was_given_stays_when_seeded():
    env = GymnasiumEnv(Counter(), counting(2, bonus=7.0))
    env.reset(seed=1)
    assert float(env.task.bonus) == 7.0
    env.reset(options={"task": counting(4, bonus=8)})
    env.reset(seed=2)
    assert float(env.task.bonus) == 8.0
    assert len(play_through(env)) == 4
    env.reset(options={"task": "new"})
    assert float(env.task.bonus) < 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GymnasiumEnv(Sinusoid()), "family is 'Sinusoid'; it must be a TaskFamily"),
        (lambda: GymnasiumEnv(Counter(), split="far"), "split is 'far'"),
        (lambda: GymnasiumEnv(Counter(), {"length": 3}), "task is .*must be like one of Counter"),
        (lambda: GymnasiumEnv(Counter(), counting([3, 4])), r"task is 'of shape \(2,\)'"),
        (lambda: GymnasiumEnv(Counter()).reset(options={"task": "next"}), "task is 'next'"),
    ],
)
def test_what_is_no_task_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_code_written_for_gymnasium_learns_here():
    """A bandit learner that knows nothing of us, behind Gymnasium's wrappers, in a vector."""
    family = BernoulliBandit(num_arms=2, num_pulls=1)
    best = family.sample_task(jax.random.key(0))
    best = jax.tree.map(lambda x: jnp.asarray([0.1, 0.9], x.dtype), best)
    wrap = gymnasium.wrappers.RecordEpisodeStatistics
    envs = gymnasium.vector.SyncVectorEnv(
        [lambda: wrap(GymnasiumEnv(family, best)) for _ in range(2)],
        autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
    )
    envs.action_space.seed(0)
    envs.reset(seed=0)
    paid, taken = np.zeros(2), np.zeros(2)
    for _ in range(50):
        actions = envs.action_space.sample()
        _, rewards, terminated, _, infos = envs.step(actions)
        assert terminated.all()
        np.testing.assert_array_equal(infos["final_info"]["episode"]["r"], rewards)
        np.add.at(paid, actions, rewards)
        np.add.at(taken, actions, 1)
    assert paid[0] / taken[0] < 0.4 < 0.6 < paid[1] / taken[1]


def test_actions_that_are_no_array_are_refused():
    with pytest.raises(ConfigError, match=r"family.action_space is Dict.* for GymnasiumEnv"):
        GymnasiumEnv(AnySpaces(Discrete(2), Dict({"a": Discrete(2)})))


# Agents in environments.


@functools.lru_cache
def probe(episodes_per_adapt):
    """A policy without luck whose actions depend on all that it was ever shown."""

    def cents(reward):
        return jnp.round(100 * reward).astype(jnp.int32)

    def number(seen):
        return (
            seen.obs[..., 0].astype(jnp.int32)
            + 3 * seen.prev_action
            + 5 * cents(seen.prev_reward)
            + 7 * seen.prev_done
            + 11 * seen.episode_start
        )

    def act(params, carry, seen, key):
        carry = (5 * carry + number(seen) + 1) % 1009
        return carry % 3, carry

    def adapt(params, carry, episodes, key):
        each = (
            number(episodes.inputs)
            + 13 * episodes.action
            + 17 * cents(episodes.reward)
            + 19 * episodes.terminated
            + 23 * episodes.truncated
            + 29 * episodes.next_obs[..., 0].astype(jnp.int32)
        )
        weight = jnp.arange(1, each.size + 1).reshape(each.shape) * episodes.mask
        return (carry + jnp.sum(weight * each)) % 1009

    return AdaptivePolicy(lambda params, key: params, act, adapt, episodes_per_adapt)


library = jax.jit(play_adaptation, static_argnums=(0, 1, 5))


def expected(policy, family, task, steps):
    """Returns and lengths of the episodes that the library itself plays."""
    played = library(family, policy, jnp.int32(2), task, jax.random.key(0), steps)
    return [np.asarray(x.sum(axis=-1)).ravel() for x in (played.reward, played.mask)]


@pytest.mark.parametrize("episodes_per_adapt", [1, 2])
def test_in_a_single_environment_it_is_as_in_the_library(episodes_per_adapt):
    family, task, policy = Counter(), counting(3), probe(episodes_per_adapt)
    agent = GymnasiumPolicy(policy, jnp.int32(2), family, GymnasiumEnv(family, task))
    first, second = agent.play(4), agent.play(2)
    returns, lengths = expected(policy, family, task, 6 // episodes_per_adapt)
    np.testing.assert_allclose([*first.returns, *second.returns], returns, rtol=1e-6)
    np.testing.assert_array_equal([*first.lengths, *second.lengths], lengths)
    agent.begin()
    np.testing.assert_allclose(agent.play(6).returns, returns, rtol=1e-6)


@pytest.mark.parametrize("episodes_per_adapt", [1, 2])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_every_lane_of_a_vector_is_as_if_alone(mode, episodes_per_adapt):
    family, policy = Counter(), probe(episodes_per_adapt)
    tasks = [counting(2, 0.5), counting(9, 0.25), counting(1, 0.75)]
    envs = gymnasium.vector.SyncVectorEnv(
        [lambda task=task: GymnasiumEnv(family, task) for task in tasks], autoreset_mode=mode
    )
    played = GymnasiumPolicy(policy, jnp.int32(2), family, envs).play(4)
    for lane, task in enumerate(tasks):
        returns, lengths = expected(policy, family, task, 4 // episodes_per_adapt)
        np.testing.assert_allclose(played.returns[lane], returns, rtol=1e-6)
        np.testing.assert_array_equal(played.lengths[lane], lengths)


def test_a_loop_of_ones_own_does_the_same_as_play():
    family, task, policy = Counter(), counting(9), probe(2)
    env = GymnasiumEnv(family, task)
    agent, returns = GymnasiumPolicy(policy, jnp.int32(2), family, env), []
    for _ in range(4):
        obs, done = env.reset()[0], False
        returns.append(0.0)
        while not done:
            obs, reward, terminated, truncated, _ = env.step(agent.act(obs))
            agent.observe(obs, reward, terminated, truncated)
            returns[-1] += reward
            done = terminated or truncated
    np.testing.assert_allclose(returns, expected(policy, family, task, 2)[0], rtol=1e-6)
    with pytest.raises(RuntimeError, match="ask act"):
        agent.observe(obs, 0.0, False, False)


@pytest.mark.parametrize("episodes_per_adapt", [1, 2])
def test_an_episode_cut_off_by_play_is_not_learned_from(episodes_per_adapt):
    family, task, policy = Counter(), counting(3), probe(episodes_per_adapt)
    env = GymnasiumEnv(family, task)
    agent = GymnasiumPolicy(policy, jnp.int32(2), family, env)
    obs, _ = env.reset()
    agent.observe(*env.step(agent.act(obs)))
    assert agent.play(2).lengths.tolist() == [3, 3]
    if episodes_per_adapt == 2:  # all starts anew from the same carry
        again = GymnasiumPolicy(policy, jnp.int32(2), family, env)
        agent.begin()
        obs, _ = env.reset()
        agent.observe(*env.step(agent.act(obs)))
        np.testing.assert_array_equal(agent.play(4).returns, again.play(4).returns)


class Car(Counter):
    """Observations and actions of Gymnasium's mountain car."""

    observation_space = Box(-2.0, 2.0, (2,))


@pytest.mark.parametrize("num_envs", [None, 2])
def test_it_plays_what_gymnasium_ships(num_envs):
    name, family = "MountainCar-v0", Car(horizon=200)
    env = gymnasium.make_vec(name, num_envs) if num_envs else gymnasium.make(name)
    played = GymnasiumPolicy(probe(1), jnp.int32(2), family, env).play(2, seed=0)
    # Such a policy does not get up in 200 steps, each of which costs 1.
    assert played.returns.shape == ((num_envs, 2) if num_envs else (2,))
    assert np.all(played.lengths == 200)
    assert np.all(played.returns == -200.0)


def test_episodes_longer_than_it_can_adapt_from_are_refused():
    env = GymnasiumEnv(Counter(horizon=6), counting(9))
    agent = GymnasiumPolicy(probe(1), jnp.int32(2), Counter(horizon=4), env)
    with pytest.raises(ConfigError, match=r"more than 4 steps.*TimeLimit\(env, 4\)"):
        agent.play(1)
    limited = gymnasium.wrappers.TimeLimit(env, 4)
    agent = GymnasiumPolicy(probe(1), jnp.int32(2), Counter(horizon=4), limited)
    assert agent.play(2).lengths.tolist() == [4, 4]


@pytest.fixture(scope="module")
def result():
    """A recurrent agent, two seeds, that has not learned anything."""
    config = TrainConfig(algorithm=RL2(num_tasks=8, memory=GRU(4)), tasks=Counter(), num_seeds=2)
    init = jax.jit(jax.vmap(lambda key: config.algorithm.init(config.tasks, key)))
    state = init(jax.random.split(jax.random.key(0), 2))
    state = state._replace(params=jax.tree.map(lambda x: 20 * x, state.params))  # not uniform
    return TrainResult(config, state, {}, {}, {}, 0, None)


def test_a_trained_agent_plays_where_it_is_taken(result):
    env = GymnasiumEnv(Counter(), counting(9))
    plays = [
        jaxmeta.as_gymnasium_policy(result, env, seed_index=i, seed=s).play(8).returns.tolist()
        for i, s in ((1, 0), (1, 0), (1, 1), (0, 0))
    ]
    assert plays[0] == plays[1]
    assert plays[0] != plays[2]
    assert plays[0] != plays[3]


def test_it_plays_by_the_mode_on_request(result):
    env = GymnasiumEnv(Counter(), counting(9))
    plays = [
        jaxmeta.as_gymnasium_policy(result, env, seed=s, deterministic=True)
        .play(8)
        .returns.tolist()
        for s in (0, 1)
    ]
    assert plays[0] == plays[1]  # nothing is drawn
    act_mode = lambda params, carry, seen, key: (jnp.int32(2), carry)  # noqa: E731
    modal, own = probe(2)._replace(act_mode=act_mode), jnp.int32(2)
    agent = GymnasiumPolicy(modal, own, Counter(), env, deterministic=True)
    returns = agent.play(6).returns  # and nothing is learned of whole episodes
    np.testing.assert_array_equal(returns, returns[:1].repeat(6))
    with pytest.raises(ConfigError, match="deterministic is True; it must be False, as the policy"):
        GymnasiumPolicy(probe(2), own, Counter(), env, deterministic=True)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (BernoulliBandit(), r"env.observation_space is Discrete\(1\); it must be like Counter's"),
        (PointNavigation(), "env.observation_space"),
    ],
)
def test_other_spaces_are_refused(result, family, message):
    with pytest.raises(ConfigError, match=message):
        jaxmeta.as_gymnasium_policy(result, GymnasiumEnv(family))


def test_an_agent_of_several_integers_plays_and_one_of_mixed_observations_is_refused():
    """It hears back what it did: an action of Gymnasium's own space."""

    def agent(seen):
        family = AnySpaces(seen, DONE["multi-discrete"])
        network = RL2(num_tasks=8, memory=GRU(4))
        params = network.init(family, jax.random.key(0)).params
        env = GymnasiumEnv(family, seed=0)
        return GymnasiumPolicy(network.policy(family), params, family, env)

    played = agent(SEEN["image"])
    obs, _ = played.env.reset(seed=0)
    assert played.env.action_space.contains(played.act(obs))
    assert np.isfinite(agent(SEEN["image"]).play(2).returns).all()
    with pytest.raises(ConfigError, match=r"observation_space is Dict.* a policy in Gymnasium"):
        agent(MIXED)


def test_what_cannot_act_there_is_refused(result):
    env = GymnasiumEnv(Counter())
    with pytest.raises(ConfigError, match="seed_index is 2; it must be from 0 to 1"):
        jaxmeta.as_gymnasium_policy(result, env, seed_index=2)
    with pytest.raises(ConfigError, match="env is 'CartPole-v1'; it must be a Gymnasium"):
        jaxmeta.as_gymnasium_policy(result, "CartPole-v1")
    waves = result._replace(config=TrainConfig(algorithm=MAML(), tasks=Sinusoid(), num_seeds=2))
    with pytest.raises(ConfigError, match="tasks is 'Sinusoid'; it must be a TaskFamily"):
        jaxmeta.as_gymnasium_policy(waves, env)
    with pytest.raises(ConfigError, match="episodes is 0"):
        jaxmeta.as_gymnasium_policy(result, env).play(0)


def test_without_gymnasium_the_extra_is_named():
    code = """
import sys
sys.modules["gymnasium"] = None
import jaxmeta
try:
    jaxmeta.GymnasiumEnv
except jaxmeta.ConfigError as error:
    assert 'pip install "jaxmeta[gymnasium]"' in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)
