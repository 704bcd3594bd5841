import dataclasses
import functools
import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.experience.play import play_trial
from jaxmeta_envs.core.contracts import PolicyInput, Trajectory
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.tabular.t_maze import CORRIDOR, JUNCTION, TMaze, TMazeState, TMazeTask

FAMILY = TMaze()
FAST_COMPILE = {"xla_backend_optimization_level": 0}


# The optimum.


def best_of_all_policies(num_episodes, reliability):
    """Value of the best policy in rationals: every choice after every history and cue.

    It knows nothing of agreements: it sums over paying arms and cues what the task makes of them.
    """
    q = Fraction(reliability).limit_denominator()

    def value(inverted, episodes_left):
        """``inverted``: weights of the two tasks given the history, unnormalised."""
        if episodes_left == 0:
            return sum(inverted)
        best = []
        for cue in (0, 1):
            options = []
            for choice in (0, 1):
                total = Fraction(0)
                for arm in (0, 1):
                    weights = [
                        w * Fraction(1, 2) * (q if (cue == arm) != bool(task) else 1 - q)
                        for task, w in enumerate(inverted)
                    ]
                    paid = int(choice == arm)
                    later = value(weights, episodes_left - 1) if episodes_left > 1 else 0
                    total += paid * sum(weights) + later
                options.append(total)
            best.append(max(options))
        return sum(best)

    return value([Fraction(1, 2), Fraction(1, 2)], num_episodes)


@pytest.mark.parametrize("reliability", [0.8, 0.6, 1.0])
@pytest.mark.parametrize("num_episodes", [1, 2, 4])
def test_the_optimum_is_the_best_of_all_policies_in_rationals(num_episodes, reliability):
    returns = TMaze(reliability=reliability).optimal_returns(num_episodes)
    assert returns.dtype == np.float64
    assert returns.shape == (num_episodes,)
    exact = float(best_of_all_policies(num_episodes, reliability))
    assert returns.sum() == pytest.approx(exact, abs=1e-12)


def test_the_optimum_is_the_documented_one():
    assert FAMILY.optimal_returns(4) == pytest.approx([0.5, 0.68, 0.68, 0.7376], abs=1e-12)
    assert FAMILY.optimal_returns(4).sum() == pytest.approx(2.5976, abs=1e-12)


def test_many_episodes_tell_almost_all_that_an_oracle_is_told():
    assert FAMILY.optimal_returns(60)[-1] == pytest.approx(0.8, abs=1e-4)


# The references, each played on every trial that can be, weighted by its probability.


@functools.cache
def all_trials(family=FAMILY):
    """Every task, paying arm and cue of the trial's episodes: ``[N]``, ``[N, E]``, ``[N, E]``."""
    pairs = list(itertools.product((0, 1), repeat=2 * family.num_episodes))
    trials = np.array([(task, *pair) for task in (0, 1) for pair in pairs], np.int32)
    task, arms, cues = np.split(trials, [1, 1 + family.num_episodes], axis=1)
    shown = np.where((arms == cues) == (task == 0), family.reliability, 1.0 - family.reliability)
    return task[:, 0], arms, cues, 0.5 * np.prod(0.5 * shown, axis=1)


def play_all(name, family=FAMILY):
    """Expected reward of every episode over all trials, float64 ``[E]``."""
    task, arms, cues, weight = all_trials(family)
    policy, params, told_task, _ = family.references(family.num_episodes)[name]
    key = jax.random.key(0)

    def episode(read, carry, task, arm, cue):
        state, obs = TMazeState(arm, jnp.int32(0)), cue
        rows = []
        for t in range(family.horizon):
            inputs = PolicyInput(
                obs, jnp.int32(0), jnp.float32(0), jnp.asarray(t == 0), jnp.asarray(t == 0)
            )
            action, carry = policy.act(read, carry, inputs, key)
            state, (after, reward, terminated, truncated) = family.step(key, state, action, task)
            rows.append(
                Trajectory(inputs, action, reward, terminated, truncated, after, jnp.asarray(True))
            )
            obs = after
        played = jax.tree.map(lambda *leaves: jnp.stack(leaves)[None], *rows)
        return policy.adapt(read, carry, played, key), played.reward.sum()

    def trial(inverted, arms, cues):
        task = TMazeTask(inverted, jnp.float32(family.reliability))
        read = (params, task) if told_task else params
        carry = policy.begin(read, key)
        earned = []
        for arm, cue in zip(arms, cues, strict=True):
            carry, reward = episode(read, carry, task, arm, cue)
            earned.append(reward)
        return jnp.stack(earned)

    run = jax.jit(jax.vmap(trial), compiler_options=FAST_COMPILE)
    return np.asarray(run(task, arms, cues), np.float64).T @ weight


def test_the_trials_are_all_there_are():
    assert all_trials()[-1].sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("oracle", [0.8] * 4),
        ("ignore-cue", [0.5] * 4),
        ("win-stay-lose-shift", [0.5, 0.68, 0.68, 0.68]),
        ("bayes-optimal", [0.5, 0.68, 0.68, 0.7376]),
    ],
)
def test_every_reference_earns_its_exact_value(name, exact):
    assert play_all(name) == pytest.approx(exact, abs=1e-9)


def test_the_optimal_policy_earns_the_optimum_of_other_mazes():
    family = TMaze(corridor_length=0, reliability=0.65, num_episodes=5)
    assert play_all("bayes-optimal", family) == pytest.approx(family.optimal_returns(5), abs=1e-9)


# The task.


@functools.cache
def random_trials():
    """Trials of two episodes with random actions, leaves ``[B, 2, T, ...]``, and their tasks."""

    def act(params, carry, inputs, key):
        del params, inputs
        return jax.random.bernoulli(key).astype(jnp.int32), carry, ()

    def trial(key):
        task_key, play_key = jax.random.split(key)
        task = FAMILY.sample_task(task_key)
        return play_trial(FAMILY, act, (), (), task, play_key, 2).trajectory, task

    run = jax.jit(jax.vmap(trial), compiler_options=FAST_COMPILE)
    played, task = jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(0), 4000)))
    shape = (4000, 2, FAMILY.horizon)
    return jax.tree.map(lambda x: x.reshape(shape), played), task


def test_an_episode_is_a_cue_five_steps_of_corridor_and_a_junction_that_ends_it():
    played, _ = random_trials()
    assert FAMILY.horizon == 7
    assert np.all(played.mask)
    assert set(np.unique(played.inputs.obs[..., 0])) == {0, 1}
    assert np.all(played.inputs.obs[..., 1:6] == CORRIDOR)
    assert np.all(played.inputs.obs[..., 6] == JUNCTION)
    assert np.all(played.reward[..., :6] == 0.0)
    assert np.all(played.terminated == (np.arange(7) == 6))
    assert not np.any(played.truncated)


def test_paying_arms_cues_and_tasks_have_their_probabilities():
    played, task = random_trials()
    choice, paid, cue = (
        x[..., t]
        for x, t in zip((played.action, played.reward, played.inputs.obs), (-1, -1, 0), strict=True)
    )
    arm = np.where(paid == 1.0, choice, 1 - choice)
    agree = arm == cue
    plain = task.inverted == 0
    for sample, probability in (
        (arm, 0.5),
        (arm[:, 0] == arm[:, 1], 0.5),  # drawn anew in every episode
        (plain, 0.5),
        (agree[plain], 0.8),
        (agree[~plain], 0.2),
        (agree[plain][:, 0] & agree[plain][:, 1], 0.64),
        (paid, 0.5),
    ):
        error = math.sqrt(probability * (1.0 - probability) / sample.size)
        assert abs(sample.mean() - probability) < 4.5 * error


def test_only_the_action_at_the_junction_counts_and_bounds_are_clipped():
    task = TMazeTask(jnp.int32(0), jnp.float32(0.8))
    key = jax.random.key(0)
    for action, arm in ((-2, 0), (0, 0), (1, 1), (5, 1)):
        state = TMazeState(jnp.int32(1), jnp.int32(0))
        for time in range(FAMILY.horizon):
            state, timestep = FAMILY.step(key, state, jnp.int32(action), task)
            last = time == FAMILY.horizon - 1
            assert (timestep.reward, timestep.terminated) == (float(last and arm == 1), last)
        assert (state.arm, state.time) == (1, FAMILY.horizon)


@pytest.mark.parametrize(
    ("split", "reliability"),
    [("train", 0.8), ("test", 0.8), ("certain", 1.0), ("noisier", 0.65)],
)
def test_every_split_has_its_reliability_and_both_tasks(split, reliability):
    keys = jax.random.split(jax.random.key(1), 2000)
    task = jax.vmap(lambda key: FAMILY.sample_task(key, split))(keys)
    assert np.asarray(task.reliability) == pytest.approx(reliability)
    assert task.inverted.dtype == jnp.int32
    assert abs(float(task.inverted.mean()) - 0.5) < 4.5 * 0.5 / math.sqrt(2000)


def test_a_certain_cue_is_never_wrong_and_its_inversion_never_right():
    keys = jax.random.split(jax.random.key(2), 2000)
    for inverted in (0, 1):
        task = TMazeTask(jnp.int32(inverted), jnp.float32(1.0))
        state, cue = jax.vmap(FAMILY.reset, (0, None))(keys, task)
        assert np.all(np.asarray(state.arm == cue) == (inverted == 0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TMaze(corridor_length=-1), "TMaze.corridor_length is -1"),
        (lambda: TMaze(num_episodes=0), "TMaze.num_episodes is 0"),
        (lambda: TMaze(reliability=0.5), "TMaze.reliability is 0.5; .* above 0.5"),
        (lambda: TMaze(reliability=math.nan), "TMaze.reliability is nan"),
        (lambda: FAMILY.optimal_returns(0), "num_episodes is 0"),
        (lambda: FAMILY.sample_task(jax.random.key(0), "far"), "split is 'far'"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_fields_give_the_sizes():
    family = dataclasses.replace(FAMILY, corridor_length=9, num_episodes=3)
    assert (family.horizon, family.default_episodes) == (11, 3)
    assert (family.observation_space.n, family.action_space.n) == (4, 2)
