import functools
import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.experience.play import play_adaptation
from jaxmeta_envs.bandits import references
from jaxmeta_envs.bandits.independent import BernoulliBandit, GaussianBandit
from jaxmeta_envs.bandits.references import ArmStatistics
from jaxmeta_envs.bandits.solvers import (
    MAX_STATES,
    bernoulli_gittins_table,
    gaussian_gittins_table,
    is_solvable,
    solve_bernoulli_bandit,
)
from jaxmeta_envs.core.contracts import PolicyInput, Trajectory
from jaxmeta_envs.core.errors import ConfigError

FAMILIES = (BernoulliBandit(), GaussianBandit())


# Each policy is its own program, and compiling them is nearly all the time spent here.
FAST_COMPILE = {"xla_backend_optimization_level": 0}


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), compiler_options=FAST_COMPILE)
def _play(family, policy, told_task, num_pulls, num_trials, params, key):
    def trial(key):
        task_key, play_key = jax.random.split(key)
        task = family.sample_task(task_key)
        read = (params, task) if told_task else params
        trajectory = play_adaptation(family, policy, read, task, play_key, num_pulls)
        return trajectory.reward[:, 0, 0]

    return jax.vmap(trial)(jax.random.split(key, num_trials))


def play(family, reference, num_pulls, num_trials, seed=0):
    """Rewards ``[num_trials, num_pulls]``; equal seeds meet equal tasks."""
    policy, params, told_task, _ = reference
    key = jax.random.key(seed)
    return np.asarray(_play(family, policy, told_task, num_pulls, num_trials, params, key))


def mean_and_error(totals):
    return totals.mean(), totals.std(ddof=1) / math.sqrt(len(totals))


def posterior_mean(arm):
    return Fraction(1 + arm[0], 2 + arm[0] + arm[1])


def exact_value(choose, num_arms, num_pulls):
    """Expected total reward of a policy on Bernoulli arms, by recursion over histories.

    ``choose`` maps a tuple of (successes, failures) to the probability of each arm and must
    treat arms alike, so that histories are merged when sorted.
    """

    @functools.cache
    def value(arms, pulls_left):
        if pulls_left == 0:
            return 0.0
        total = 0.0
        for i, chance in enumerate(choose(arms)):
            if chance > 0:
                p = float(posterior_mean(arms[i]))
                success, failure = successors(arms, i)
                total += chance * p * (1.0 + value(tuple(sorted(success)), pulls_left - 1))
                total += chance * (1.0 - p) * value(tuple(sorted(failure)), pulls_left - 1)
        return total

    return value(((0, 0),) * num_arms, num_pulls)


def successors(arms, i):
    s, f = arms[i]
    return (*arms[:i], (s + 1, f), *arms[i + 1 :]), (*arms[:i], (s, f + 1), *arms[i + 1 :])


def highest(scores):
    """Equal chances for all arms whose score is highest."""
    best = [float(abs(x - max(scores)) < 1e-9) for x in scores]
    return [x / sum(best) for x in best]


def choose_greedy(arms):
    return highest([posterior_mean(arm) for arm in arms])


def choose_epsilon_greedy(arms):
    return [0.7 * chance + 0.3 / len(arms) for chance in choose_greedy(arms)]


def choose_ucb1(arms):
    counts = [2 + s + f for s, f in arms]
    bonus = [0.2 * math.sqrt(2.0 * math.log(sum(counts)) / n) for n in counts]
    return highest([float(posterior_mean(arm)) + b for arm, b in zip(arms, bonus, strict=True)])


def choose_gittins(arms):
    table = bernoulli_gittins_table(10, 0.9)
    return highest([table[arm] for arm in arms])


def choose_thompson(arms):
    """P(θ_i is the largest) for Beta posteriors, by integration on a grid."""
    x = (np.arange(500) + 0.5) / 500
    mass = np.array([x**s * (1.0 - x) ** f for s, f in arms])
    mass /= mass.sum(axis=1, keepdims=True)
    below = np.cumsum(mass, axis=1) - 0.5 * mass
    others = [np.prod(np.delete(below, i, axis=0), axis=0) for i in range(len(arms))]
    chance = [float(m @ o) for m, o in zip(mass, others, strict=True)]
    return [c / sum(chance) for c in chance]


def choose_optimally(arms, pulls_left):
    if pulls_left == 0:
        return Fraction(0)
    options = []
    for i, arm in enumerate(arms):
        p = posterior_mean(arm)
        success, failure = successors(arms, i)
        options.append(
            p * (1 + choose_optimally(success, pulls_left - 1))
            + (1 - p) * choose_optimally(failure, pulls_left - 1)
        )
    return max(options)


# The exact optimum.


@pytest.mark.parametrize(("num_arms", "num_pulls"), [(1, 3), (2, 3), (2, 5), (3, 4), (4, 2)])
def test_the_solver_agrees_with_enumerating_all_histories_in_rationals(num_arms, num_pulls):
    expected = choose_optimally(((0, 0),) * num_arms, num_pulls)
    assert solve_bernoulli_bandit(num_arms, num_pulls).value == pytest.approx(float(expected))


@pytest.mark.parametrize(("num_arms", "value"), [(5, 6.6600), (10, 6.7140), (50, 6.7140)])
def test_the_optimum_of_ten_pulls_is_the_published_figure(num_arms, value):
    assert solve_bernoulli_bandit(num_arms, 10).value == pytest.approx(value, abs=6e-5)


@pytest.mark.parametrize(("num_arms", "num_pulls"), [(1, 1), (1, 7), (2, 20), (5, 10), (12, 9)])
def test_expected_rewards_per_pull_sum_to_the_optimal_value(num_arms, num_pulls):
    solution = solve_bernoulli_bandit(num_arms, num_pulls)
    assert solution.rewards.shape == (num_pulls,)
    assert solution.rewards.sum() == pytest.approx(solution.value, abs=1e-12)
    assert solution.rewards[0] == 0.5


def test_rewards_per_pull_of_three_pulls_of_two_arms_are_those_found_by_hand():
    # After a success (p = 2/3) stay; after a failure (1/3) switch (1/2): 7/12 expected.
    # Third pull: 1/3·3/4 + 1/6·1/2 after a success, 1/4·2/3 + 1/4·1/3 after a failure.
    rewards = solve_bernoulli_bandit(2, 3).rewards
    assert rewards == pytest.approx([1 / 2, 7 / 12, 7 / 12], abs=1e-12)


def test_arms_beyond_the_number_of_pulls_change_nothing():
    assert solve_bernoulli_bandit(30, 6) is solve_bernoulli_bandit(6, 6)
    assert solve_bernoulli_bandit(5, 6).value < solve_bernoulli_bandit(6, 6).value


def test_the_solver_lists_exactly_the_reachable_states_with_distinct_keys():
    arms = [(s, f) for s in range(4) for f in range(4 - s)]
    multisets = {
        tuple(sorted(choice))
        for choice in itertools.product(arms, repeat=3)
        if sum(s + f for s, f in choice) < 4
    }
    keys = solve_bernoulli_bandit(3, 4).keys
    assert len(keys) == len(multisets)
    assert np.all(keys[1:] > keys[:-1])


def test_too_large_a_state_space_is_refused_without_being_solved():
    assert is_solvable(5, 10)
    assert is_solvable(500, 10)
    assert not is_solvable(5, 100)
    assert not is_solvable(500, 500)
    with pytest.raises(ConfigError, match=str(MAX_STATES)):
        solve_bernoulli_bandit(5, 100)
    family = BernoulliBandit(5, 100)
    assert family.optimal_returns(100) is None
    assert "bayes-optimal" not in family.references(100)


def test_optimal_returns_are_read_only_and_follow_the_length_of_the_trial():
    family = BernoulliBandit(2, 10)
    returns = family.optimal_returns(3)
    assert returns.dtype == np.float64
    assert returns.sum() == pytest.approx(solve_bernoulli_bandit(2, 3).value)
    with pytest.raises(ValueError, match="read-only"):
        returns[0] = 1.0
    assert GaussianBandit().optimal_returns(3) is None


def test_playing_the_optimal_policy_earns_the_optimal_value_at_every_pull():
    family = BernoulliBandit(5, 10)
    rewards = play(family, references.bayes_optimal(family, 10), 10, 20_000)
    expected = family.optimal_returns(10)
    mean, error = mean_and_error(rewards.sum(axis=1))
    assert abs(mean - expected.sum()) < 4 * error
    errors = rewards.std(axis=0, ddof=1) / math.sqrt(len(rewards))
    assert np.all(np.abs(rewards.mean(axis=0) - expected) < 4 * errors)


def test_the_optimal_policy_is_greedy_once_the_trial_outlasts_its_table():
    family = BernoulliBandit(3, 4)
    policy, params, *_ = references.bayes_optimal(family, 4)
    inputs = PolicyInput(*(jnp.zeros(()) for _ in PolicyInput._fields))
    for pulls, totals in (([3, 2, 4], [1, 2, 2]), ([900, 1000, 5], [1, 999, 0])):
        carry = ArmStatistics(jnp.array(pulls), jnp.array(totals, jnp.float32))
        action, _ = policy.act(params, carry, inputs, jax.random.key(0))
        assert action == 1


# Gittins indices.


@pytest.mark.parametrize(
    ("discount", "successes", "failures", "index"),
    [
        (0.9, 0, 0, 0.7029),
        (0.9, 1, 0, 0.8001),
        (0.9, 0, 1, 0.5001),
        (0.9, 1, 1, 0.6346),
        (0.9, 2, 2, 0.6010),
        (0.9, 9, 1, 0.8695),
        (0.99, 0, 0, 0.8699),
    ],
)
def test_bernoulli_gittins_indices_are_the_published_ones(discount, successes, failures, index):
    # Gittins, Glazebrook and Weber, "Multi-armed Bandit Allocation Indices", 2011, chapter 8.
    table = bernoulli_gittins_table(20, discount)
    assert table[successes, failures] == pytest.approx(index, abs=1e-4)


@pytest.mark.parametrize(
    ("discount", "scaled_index"),
    [(0.5, 0.14542), (0.7, 0.20218), (0.9, 0.23609), (0.95, 0.22263), (0.99, 0.15758)],
)
def test_gaussian_gittins_indices_are_the_published_ones(discount, scaled_index):
    # Same book, table 8.1, first row: the index after one observation times sqrt(1 - γ).
    index = gaussian_gittins_table(1, discount)[0]
    assert index * math.sqrt(1.0 - discount) == pytest.approx(scaled_index, abs=2e-5)


def test_a_gaussian_pull_is_worth_one_prior_observation():
    table = gaussian_gittins_table(3, 0.8, 0.5)
    assert gaussian_gittins_table(1, 0.8, 2.5)[0] == pytest.approx(table[2], abs=1e-5)


def test_a_gittins_index_of_a_single_pull_is_the_posterior_mean():
    assert bernoulli_gittins_table(1, 0.0) == pytest.approx(0.5, abs=1e-5)
    assert gaussian_gittins_table(1, 0.0) == pytest.approx(0.0, abs=1e-9)


def test_gittins_indices_exceed_the_posterior_mean_and_grow_with_the_discount():
    s, f = np.indices((12, 12))
    inside = s + f < 12
    mean = (s + 1) / (s + f + 2)
    low, high = (bernoulli_gittins_table(12, discount) for discount in (0.8, 0.95))
    assert np.all(low[inside] > mean[inside])
    assert np.all(high[inside] > low[inside])
    assert np.array_equal(low[~inside], mean[~inside])


@pytest.mark.parametrize("table", [bernoulli_gittins_table, gaussian_gittins_table])
@pytest.mark.parametrize(("num_pulls", "discount"), [(0, 0.9), (5, 1.0), (5, -0.1)])
def test_bad_arguments_of_a_gittins_table_are_named(table, num_pulls, discount):
    with pytest.raises(ConfigError, match=r"num_pulls is 0|discount is"):
        table(num_pulls, discount)


# Reference policies.


# Total reward of 1000 trials, recomputed independently for Table 1 of the RL² paper.
RECOMPUTED = {
    10: {"random": 5.0, "gittins": 6.7, "thompson": 5.8, "ucb1": 6.7, "greedy": 6.6},
    100: {"gittins": 78.8, "thompson": 75.1, "ucb1": 78.5, "greedy": 75.8},
}
ROUNDING = 0.05


@pytest.mark.parametrize(
    ("name", "choose"),
    [
        ("random", lambda arms: [0.2] * 5),
        ("greedy", choose_greedy),
        ("ucb1", choose_ucb1),
        ("thompson", choose_thompson),
        ("gittins", choose_gittins),
    ],
)
def test_a_baseline_earns_its_exact_value_and_the_recomputed_one_in_ten_pulls(name, choose):
    family = BernoulliBandit(5, 10)
    num_trials = 4000 if name == "thompson" else 20_000  # beta samples are slow
    rewards = play(family, family.references(10)[name], 10, num_trials)
    mean, error = mean_and_error(rewards.sum(axis=1))
    exact = exact_value(choose, 5, 10)
    assert abs(mean - exact) < 4 * error
    their_error = error * math.sqrt(num_trials / 1000)  # of 1000 trials
    assert abs(exact - RECOMPUTED[10][name]) < ROUNDING + 3 * their_error
    assert exact < solve_bernoulli_bandit(5, 10).value


def test_epsilon_greedy_earns_its_exact_value():
    family = BernoulliBandit(5, 10)
    reference = references.epsilon_greedy(family, epsilon=0.3)
    mean, error = mean_and_error(play(family, reference, 10, 20_000).sum(axis=1))
    assert abs(mean - exact_value(choose_epsilon_greedy, 5, 10)) < 4 * error


@pytest.mark.parametrize("name", RECOMPUTED[100])
def test_a_baseline_earns_its_recomputed_reward_in_a_hundred_pulls(name):
    family = BernoulliBandit(5, 100)
    reference = family.references(100)[name]
    num_trials = 500 if name == "thompson" else 2000
    mean, error = mean_and_error(play(family, reference, 100, num_trials).sum(axis=1))
    their_error = 0.51
    assert abs(mean - RECOMPUTED[100][name]) < ROUNDING + 3 * math.hypot(error, their_error)


def test_breaking_ties_for_the_first_arm_gives_the_greedy_column_of_the_rl2_paper():
    family = BernoulliBandit(50, 100)
    first = play(family, references.greedy(family, random_ties=False), 100, 1000).sum(axis=1)
    random = play(family, references.greedy(family), 100, 1000).sum(axis=1)
    mean, error = mean_and_error(first)
    assert abs(mean - 78.0) < ROUNDING + 4 * math.sqrt(2) * error
    gain, error = mean_and_error(random - first)  # 2.2: ties with untouched arms explore
    assert gain > 4 * error


def test_the_bernoulli_oracle_earns_the_expected_maximum():
    family = BernoulliBandit(5, 10)
    mean, error = mean_and_error(play(family, references.oracle(family), 10, 20_000).sum(axis=1))
    assert abs(mean - 10 * 5 / 6) < 4 * error


def test_gaussian_greedy_earns_what_integration_says_in_two_pulls():
    # After reward r ~ N(0, 2) the arm's mean is r/2, the other's 0: E max(0, r/2).
    family = GaussianBandit(2, 2)
    mean, error = mean_and_error(play(family, references.greedy(family), 2, 40_000).sum(axis=1))
    assert abs(mean - 0.5 * math.sqrt(2.0) / math.sqrt(2.0 * math.pi)) < 4 * error


def test_gaussian_baselines_are_ordered_and_below_the_oracle():
    family = GaussianBandit(5, 10)
    policies = family.references(10)
    assert set(policies) == {
        *("random", "oracle", "greedy", "epsilon-greedy", "ucb", "thompson", "gittins")
    }
    order = ("oracle", "gittins", "thompson", "random")
    total = {name: play(family, policies[name], 10, 5000).sum(axis=1) for name in (*order, "ucb")}
    for better, worse in itertools.pairwise(order):
        gap, error = mean_and_error(total[better] - total[worse])
        assert gap > 4 * error, (better, worse)
    gap, error = mean_and_error(total["gittins"] - total["ucb"])
    assert gap > -2 * error
    mean, error = mean_and_error(total["oracle"])
    assert abs(mean - 10 * 1.16296) < 4 * error  # the largest of five standard normals


def test_gaussian_posteriors_agree_with_bayes_rule_on_a_grid():
    family = GaussianBandit(3, prior_mean=0.5, prior_std=2.0, noise_std=0.7)
    rewards = ([], [1.3], [0.2, -1.0, 0.4])
    statistics = ArmStatistics(
        jnp.array([len(r) for r in rewards]), jnp.array([sum(r) for r in rewards], jnp.float32)
    )
    m = np.linspace(-15.0, 15.0, 20_001)
    keys = jax.random.split(jax.random.key(0), 20_000)
    samples = np.asarray(jax.vmap(family.sample_posterior, in_axes=(0, None))(keys, statistics))
    for i, seen in enumerate(rewards):
        log = -((m - 0.5) ** 2) / 8.0 - sum((m - r) ** 2 for r in seen) / (2 * 0.49)
        weight = np.exp(log - log.max())
        mean = np.average(m, weights=weight)
        std = math.sqrt(np.average((m - mean) ** 2, weights=weight))
        assert family.posterior_mean(statistics)[i] == pytest.approx(mean, abs=1e-5)
        assert family.posterior_std(statistics)[i] == pytest.approx(std, abs=1e-5)
        assert samples[:, i].mean() == pytest.approx(mean, abs=4 * std / math.sqrt(20_000))
        assert samples[:, i].std() == pytest.approx(std, rel=0.03)


def test_bernoulli_posterior_samples_have_the_moments_of_their_beta():
    family = BernoulliBandit(2)
    statistics = ArmStatistics(jnp.array([0, 5]), jnp.array([0.0, 4.0]))
    keys = jax.random.split(jax.random.key(0), 20_000)
    samples = np.asarray(jax.vmap(family.sample_posterior, in_axes=(0, None))(keys, statistics))
    for i, (a, b) in enumerate([(1, 1), (5, 2)]):
        variance = a * b / ((a + b) ** 2 * (a + b + 1))
        assert samples[:, i].mean() == pytest.approx(a / (a + b), abs=4 * math.sqrt(variance / 2e4))
        assert samples[:, i].var() == pytest.approx(variance, rel=0.05)


def test_the_first_pull_is_spread_evenly_over_the_tied_arms():
    family = BernoulliBandit(4)
    policy, params, *_ = references.greedy(family)
    inputs = PolicyInput(*(jnp.zeros(()) for _ in PolicyInput._fields))
    carry = policy.begin(params, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 8000)
    actions, _ = jax.vmap(policy.act, in_axes=(None, None, None, 0))(params, carry, inputs, keys)
    counts = np.bincount(np.asarray(actions), minlength=4)
    assert np.all(np.abs(counts - 2000) < 4 * math.sqrt(8000 * 0.25 * 0.75))


def test_a_grid_of_parameters_is_one_policy_and_one_vmap():
    family = BernoulliBandit(5, 10)
    policy, params, *_ = references.ucb1(family, jnp.array([0.2, 0.2, 1.0]))
    assert policy == references.ucb1(BernoulliBandit(5, 10), 0.7).policy
    key = jax.random.key(0)
    rewards = jax.vmap(lambda c: _play(family, policy, False, 10, 64, c, key))(params)
    assert rewards.shape == (3, 64, 10)
    assert np.array_equal(rewards[0], rewards[1])
    assert not np.array_equal(rewards[0], rewards[2])


def test_only_pulls_that_were_played_enter_the_statistics():
    family = GaussianBandit(3)
    policy, params, *_ = references.greedy(family)
    episodes = Trajectory(
        inputs=None,
        action=jnp.array([[2], [0], [2]]),
        reward=jnp.array([[0.5], [7.0], [1.0]]),
        terminated=None,
        truncated=None,
        next_obs=None,
        mask=jnp.array([[True], [False], [True]]),
    )
    carry = policy.begin(params, jax.random.key(0))
    seen = policy.adapt(params, carry, episodes, jax.random.key(0))
    assert seen.pulls.tolist() == [0, 0, 2]
    assert seen.totals.tolist() == [0.0, 0.0, 1.5]
    assert seen.pulls.dtype == carry.pulls.dtype == jnp.int32


# The families.


@pytest.mark.parametrize("family", FAMILIES)
def test_every_pull_is_an_episode_that_terminates(family):
    task = family.sample_task(jax.random.key(0))
    state, obs = family.reset(jax.random.key(1), task)
    assert obs.dtype == jnp.int32
    assert obs == 0
    _, timestep = family.step(jax.random.key(2), state, jnp.int32(1), task)
    assert timestep.terminated
    assert not timestep.truncated
    assert timestep.obs == 0
    assert timestep.reward.dtype == jnp.float32
    assert timestep.reward.shape == ()
    assert (family.horizon, family.finite_horizon) == (1, True)
    assert family.default_episodes == family.num_pulls


@pytest.mark.parametrize("family", FAMILIES)
def test_each_arm_pays_its_mean_and_actions_out_of_bounds_are_clipped(family):
    task = family.sample_task(jax.random.key(3))
    state, _ = family.reset(jax.random.key(1), task)
    keys = jax.random.split(jax.random.key(2), 4000)
    pull = jax.jit(
        jax.vmap(lambda key, arm: family.step(key, state, arm, task)[1].reward, in_axes=(0, None))
    )
    rewards = np.stack([pull(keys, jnp.int32(arm)) for arm in range(-1, 6)])
    mean, error = rewards.mean(axis=1), rewards.std(axis=1) / math.sqrt(4000)
    assert np.all(np.abs(mean[1:6] - family.arm_means(task)) < 4 * error[1:6])
    assert np.array_equal(rewards[0], rewards[1])
    assert np.array_equal(rewards[6], rewards[5])


@pytest.mark.parametrize("family", FAMILIES)
def test_train_and_test_share_a_distribution_and_unknown_splits_are_refused(family):
    key = jax.random.key(0)
    assert family.splits[:2] == ("train", "test")
    assert np.array_equal(family.sample_task(key, "train")[0], family.sample_task(key, "test")[0])
    with pytest.raises(ConfigError, match="split is 'tset'; it must be one of train, test"):
        family.sample_task(key, "tset")


@pytest.mark.parametrize(
    ("split", "low", "high"),
    [("train", 0, 1), ("high", 0.5, 1), ("low", 0, 0.5), ("close", 0.4, 0.6)],
)
def test_bernoulli_splits_cover_their_documented_range(split, low, high):
    probs = BernoulliBandit(2000).sample_task(jax.random.key(0), split).probs
    assert probs.shape == (2000,)
    assert low <= probs.min() < low + 0.01
    assert high - 0.01 < probs.max() <= high


@pytest.mark.parametrize(
    ("split", "mean", "std"), [("train", 1, 2), ("wide", 1, 4), ("shifted", 5, 2)]
)
def test_gaussian_splits_have_their_documented_moments(split, mean, std):
    family = GaussianBandit(10_000, prior_mean=1.0, prior_std=2.0)
    means = np.asarray(family.sample_task(jax.random.key(0), split).means)
    assert means.mean() == pytest.approx(mean, abs=4 * std / 100)
    assert means.std() == pytest.approx(std, rel=0.04)


def test_families_are_equal_and_hash_by_value():
    assert BernoulliBandit(5, 10) == BernoulliBandit()
    assert hash(BernoulliBandit(5, 10)) == hash(BernoulliBandit())
    assert BernoulliBandit(5, 11) != BernoulliBandit()
    assert BernoulliBandit() != GaussianBandit()
    assert hash(GaussianBandit(noise_std=2.0)) == hash(GaussianBandit(noise_std=2.0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BernoulliBandit(num_pulls=0), "BernoulliBandit.num_pulls is 0"),
        (lambda: BernoulliBandit(num_arms=-1), "BernoulliBandit.num_arms is -1"),
        (lambda: BernoulliBandit(num_arms=2.5), "BernoulliBandit.num_arms is 2.5"),
        (lambda: GaussianBandit(num_pulls=0), "GaussianBandit.num_pulls is 0"),
        (lambda: GaussianBandit(prior_mean=math.nan), "GaussianBandit.prior_mean is nan"),
        (lambda: GaussianBandit(prior_std=0.0), "GaussianBandit.prior_std is 0.0"),
        (lambda: GaussianBandit(noise_std=math.inf), "GaussianBandit.noise_std is inf"),
        (lambda: BernoulliBandit().references(0), "num_episodes is 0"),
        (lambda: GaussianBandit().references(0), "num_episodes is 0"),
        (lambda: BernoulliBandit().optimal_returns(0), "num_episodes is 0"),
    ],
)
def test_bad_fields_are_named_with_their_value(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
