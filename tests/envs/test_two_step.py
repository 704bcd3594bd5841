import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.experience.play import play_adaptation
from jaxmeta_envs.core.contracts import PolicyInput, Trajectory
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.tabular.two_step import TwoStep, TwoStepState, TwoStepTask
from jaxmeta_envs.tabular.two_step_analysis import StayCounts, count_stays
from jaxmeta_envs.tabular.two_step_references import optimal_value

ROUNDS = 20
FAMILY = TwoStep(ROUNDS)
EPISODES = 3000
# Each policy is its own program, and compiling them is nearly all the time spent here.
FAST_COMPILE = {"xla_backend_optimization_level": 0}


@functools.cache
def play(name):
    """Episodes of a reference, leaves ``[B, 2 R, ...]``, their tasks and their stays."""
    policy, params, told_task, _ = FAMILY.references(1)[name]

    def trial(key):
        task_key, play_key = jax.random.split(key)
        task = FAMILY.sample_task(task_key)
        read = (params, task) if told_task else params
        played = play_adaptation(FAMILY, policy, read, task, play_key, 1)
        episode = jax.tree.map(lambda x: x[0, 0], played)
        return episode, task, count_stays(episode)

    run = jax.jit(jax.vmap(trial), compiler_options=FAST_COMPILE)
    episode, task, counts = run(jax.random.split(jax.random.key(0), EPISODES))
    total = StayCounts(*(np.asarray(x).sum(axis=0) for x in counts))
    return (*jax.tree.map(np.asarray, (episode, task)), total)


def returns(name):
    return play(name)[0].reward.sum(axis=1)


# The optimum.


def best_of_all_policies(num_rounds, common, reward, switch):
    """Value of the best policy: every choice after every history of a round, float64."""

    def value(rich, rounds_left):
        """``rich`` is the probability of every second-stage state to be the rich one."""
        if rounds_left == 0:
            return 0.0
        options = []
        for choice in (0, 1):
            total = 0.0
            for reached in (0, 1):
                leads = common if reached == choice else 1.0 - common
                for paid in (0, 1):
                    of_rich = reward if paid else 1.0 - reward
                    likelihood = np.full(2, 1.0 - of_rich)
                    likelihood[reached] = of_rich
                    chance = rich @ likelihood
                    seen = rich * likelihood / chance
                    after = (1.0 - switch) * seen + switch * seen[::-1]
                    total += leads * chance * (paid + value(after, rounds_left - 1))
            options.append(total)
        return max(options)

    return value(np.array([0.5, 0.5]), num_rounds)


@pytest.mark.parametrize(
    ("num_rounds", "common", "reward", "switch"),
    [(1, 0.8, 0.9, 0.025), (4, 0.8, 0.9, 0.025), (4, 0.6, 0.7, 0.2), (3, 1.0, 0.8, 0.5)],
)
def test_the_optimum_is_the_best_of_all_policies(num_rounds, common, reward, switch):
    exact = best_of_all_policies(num_rounds, common, reward, switch)
    assert optimal_value(num_rounds, common, reward, switch) == pytest.approx(exact, abs=1e-9)


def test_the_optimum_of_the_published_task_is_the_documented_one():
    assert TwoStep().optimal_returns(1) == pytest.approx([70.5855], abs=1e-4)
    assert TwoStep().optimal_returns(2) is None


def test_with_certain_rewards_one_round_tells_which_state_is_rich():
    family = TwoStep(10, reward_prob=1.0, switch_prob=0.0)
    assert family.optimal_returns(1) == pytest.approx([0.5 + 9 * 0.8], abs=1e-9)


def test_the_filter_earns_the_optimum():
    error = returns("bayes-filter").std() / math.sqrt(EPISODES)
    optimum = FAMILY.optimal_returns(1)[0]
    assert abs(returns("bayes-filter").mean() - optimum) < 4 * error


def posterior_by_enumeration(reached, rewards, reward, switch):
    """P(state 0 is rich in the round after these), summed over every path of swaps."""
    num_rounds = len(reached)
    weights = np.zeros(2)
    for path in itertools.product((0, 1), repeat=num_rounds + 1):
        weight = 0.5
        for before, after in itertools.pairwise(path):
            weight *= switch if before != after else 1.0 - switch
        for rich, state, paid in zip(path, reached, rewards, strict=False):
            weight *= reward if (rich == state) == bool(paid) else 1.0 - reward
        weights[path[-1]] += weight
    return weights[0] / weights.sum()


def test_the_filter_agrees_with_summing_over_every_path_of_swaps():
    policy, params, *_ = TwoStep(switch_prob=0.1, reward_prob=0.7).references(1)["bayes-filter"]
    reached, rewards = [0, 1, 1, 0, 0, 1], [1, 0, 1, 0, 0, 1]
    act = jax.jit(policy.act)
    carry = policy.begin(params, jax.random.key(0))
    paid = 0
    for t in range(len(reached) + 1):
        new = jnp.asarray(t == 0)
        inputs = PolicyInput(jnp.int32(0), jnp.int32(0), jnp.float32(paid), new, new)
        choice, carry = act(params, carry, inputs, jax.random.key(t))
        expected = posterior_by_enumeration(reached[:t], rewards[:t], 0.7, 0.1)
        assert carry.belief == pytest.approx(expected, abs=1e-5)
        assert expected == pytest.approx(0.5) or choice == int(expected < 0.5)
        if t < len(reached):
            inputs = PolicyInput(
                *(jnp.int32(1 + reached[t]), choice, jnp.float32(0.0)), *[jnp.asarray(False)] * 2
            )
            _, carry = act(params, carry, inputs, jax.random.key(t))
            paid = rewards[t]


def test_the_oracle_earns_its_exact_value_and_habit_lies_between_it_and_chance():
    error = returns("oracle").std() / math.sqrt(EPISODES)
    assert abs(returns("oracle").mean() - 0.74 * ROUNDS) < 4 * error
    habit = returns("win-stay-lose-shift")
    error = habit.std() / math.sqrt(EPISODES)
    assert 0.5 * ROUNDS + 4 * error < habit.mean() < FAMILY.optimal_returns(1)[0] - 4 * error


# The analysis.


def stay_error(counts):
    """Standard error of the probabilities to stay, ``[2, 2]``; at least one round's worth."""
    p = counts.probability
    return np.sqrt(np.maximum(p * (1.0 - p), 1.0 / counts.rounds) / counts.rounds)


def test_habit_stays_after_every_reward_and_never_after_a_failure():
    counts = play("win-stay-lose-shift")[2]
    assert np.array_equal(counts.probability, [[1.0, 0.0], [1.0, 0.0]])
    assert (counts.reward_effect, counts.interaction) == (1.0, 0.0)


def test_the_model_based_policy_shows_the_interaction_and_no_effect_of_reward():
    counts = play("bayes-filter")[2]
    error = math.sqrt(np.sum(stay_error(counts) ** 2))
    assert counts.interaction > 0.5 + 4 * error
    # Rewarded by a common transition is to it what unrewarded by a rare one is.
    assert abs(counts.reward_effect) < 4 * error / 2


def test_stays_are_counted_as_by_hand():
    # Rounds: choice, second-stage state, reward.
    rounds = [(0, 0, 1), (0, 1, 0), (1, 0, 1), (1, 1, 0), (0, 0, 1), (1, 1, 1)]
    action = jnp.array([a for choice, _, _ in rounds for a in (choice, 1)])
    obs = jnp.array([o for _, reached, _ in rounds for o in (0, 1 + reached)])
    reward = jnp.array([r for _, _, paid in rounds for r in (0.0, float(paid))])
    nothing = jnp.zeros(12, bool)
    inputs = PolicyInput(obs, action, reward, nothing, nothing)
    counts = count_stays(Trajectory(inputs, action, reward, nothing, nothing, obs, ~nothing))
    # common rewarded: stay, shift; common unrewarded: shift; rare rewarded: stay; rare
    # unrewarded: shift.
    assert counts.rounds.tolist() == [[2.0, 1.0], [1.0, 1.0]]
    assert counts.stays.tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert counts.probability.tolist() == [[0.5, 0.0], [1.0, 0.0]]
    assert counts.reward_effect == 0.75
    assert counts.interaction == -0.5


# The task.


def test_transitions_and_rewards_have_their_probabilities():
    episode, task, _ = play("win-stay-lose-shift")
    choice, reached = episode.action[:, ::2], episode.inputs.obs[:, 1::2] - 1
    assert np.all(episode.inputs.obs[:, ::2] == 0)
    assert np.all(episode.reward[:, ::2] == 0.0)
    in_rich = reached == task.rich
    paid = episode.reward[:, 1::2]
    for sample, probability in (
        ((reached == choice).ravel(), 0.8),
        (paid[in_rich], 0.9),
        (paid[~in_rich], 0.1),
    ):
        error = math.sqrt(probability * (1.0 - probability) / len(sample))
        assert abs(sample.mean() - probability) < 4 * error
    assert np.array_equal(np.flatnonzero(episode.terminated[0]), [2 * ROUNDS - 1])
    assert not np.any(episode.truncated)


@functools.cache
def tasks():
    """Tasks of every split, in one program."""

    def sample(key):
        return {split: FAMILY.sample_task(key, split) for split in FAMILY.splits}

    run = jax.jit(jax.vmap(sample), compiler_options=FAST_COMPILE)
    return jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(3), 2000)))


@pytest.mark.parametrize(
    ("split", "switch", "common"),
    [
        ("train", 0.025, 0.8),
        ("test", 0.025, 0.8),
        ("reversed", 0.025, 0.2),
        ("stable", 0.0, 0.8),
        ("volatile", 0.1, 0.8),
    ],
)
def test_every_split_has_its_transitions_and_swaps(split, switch, common):
    task = tasks()[split]
    assert task.rich.dtype == np.int32
    assert task.common == pytest.approx(common)
    assert abs(task.rich[:, 0].mean() - 0.5) < 4 * 0.5 / math.sqrt(2000)
    swaps = np.diff(task.rich, axis=1) != 0
    assert abs(swaps.mean() - switch) <= 4 * math.sqrt(switch * (1.0 - switch) / swaps.size)


def test_the_second_stage_ignores_the_action_and_bounds_are_clipped():
    task = TwoStepTask(jnp.array([1, 0]), jnp.float32(1.0))
    family = TwoStep(2, reward_prob=1.0)
    start, _ = family.reset(jax.random.key(0), task)
    for action, reached in ((-2, 1), (0, 1), (1, 2), (5, 2)):
        state, timestep = family.step(jax.random.key(1), start, jnp.int32(action), task)
        assert (timestep.obs, timestep.reward, state.time) == (reached, 0.0, 1)
        for any_action in (0, 1):
            state = TwoStepState(jnp.int32(reached), jnp.int32(1))
            _, timestep = family.step(jax.random.key(2), state, jnp.int32(any_action), task)
            assert (timestep.obs, timestep.reward) == (0, float(reached == 2))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TwoStep(0), "TwoStep.num_rounds is 0"),
        (lambda: TwoStep(common_prob=0.5), "common_prob is 0.5; .* above 0.5"),
        (lambda: TwoStep(reward_prob=1.1), "reward_prob is 1.1"),
        (lambda: TwoStep(switch_prob=0.6), "switch_prob is 0.6"),
        (lambda: TwoStep().optimal_returns(0), "num_episodes is 0"),
        (lambda: TwoStep().sample_task(jax.random.key(0), "still"), "split is 'still'"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
