import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.experience.play import play_adaptation
from jaxmeta_envs.bandits.correlated import VARIANTS, CorrelatedBandit
from jaxmeta_envs.bandits.solvers import solve_bernoulli_bandit
from jaxmeta_envs.core.contracts import Trajectory
from jaxmeta_envs.core.errors import ConfigError

POINTS = {
    "easy": (Fraction(1, 10), Fraction(9, 10)),
    "medium": (Fraction(1, 4), Fraction(3, 4)),
    "hard": (Fraction(2, 5), Fraction(3, 5)),
}
# Each policy is its own program, and compiling them is nearly all the time spent here.
FAST_COMPILE = {"xla_backend_optimization_level": 0}


def play(family, name, num_pulls, num_trials, split="train"):
    """Rewards ``[num_trials, num_pulls]``; policies meet the same tasks."""
    policy, params, told_task, _ = family.references(num_pulls)[name]

    def trial(key):
        task_key, play_key = jax.random.split(key)
        task = family.sample_task(task_key, split)
        read = (params, task) if told_task else params
        played = play_adaptation(family, policy, read, task, play_key, num_pulls)
        return played.reward[:, 0, 0]

    run = jax.jit(jax.vmap(trial), compiler_options=FAST_COMPILE)
    return np.asarray(run(jax.random.split(jax.random.key(0), num_trials)))


def evidence_moments(variant, successes, failures):
    """E[p^successes (1-p)^failures], exactly."""
    if variant == "uniform":
        top = math.factorial(successes) * math.factorial(failures)
        return Fraction(top, math.factorial(successes + failures + 1))
    return sum(p**successes * (1 - p) ** failures for p in POINTS[variant]) / 2


def best_of_all_policies(variant, num_pulls):
    """Value of the best policy: every history of arms and rewards, every choice, rationals."""

    def value(history, pulls_left):
        if pulls_left == 0:
            return Fraction(0)
        # A history's chance is a moment of p: arm 0 pays with p, arm 1 with 1 - p.
        spoke = sum(1 for arm, paid in history if (arm == 0) == paid)
        against = len(history) - spoke
        here = evidence_moments(variant, spoke, against)
        options = []
        for arm in (0, 1):
            more, less = (spoke + 1, against), (spoke, against + 1)
            p = evidence_moments(variant, *(more if arm == 0 else less)) / here
            paid = value((*history, (arm, True)), pulls_left - 1)
            failed = value((*history, (arm, False)), pulls_left - 1)
            options.append(p * (1 + paid) + (1 - p) * failed)
        return max(options)

    return value((), num_pulls)


@pytest.mark.parametrize("variant", ["uniform", "easy", "medium", "hard"])
@pytest.mark.parametrize("num_pulls", [1, 2, 5])
def test_the_optimum_is_the_best_of_all_policies_in_rationals(variant, num_pulls):
    rewards = CorrelatedBandit(variant=variant).optimal_returns(num_pulls)
    assert rewards.dtype == np.float64
    assert rewards.shape == (num_pulls,)
    assert rewards[0] == pytest.approx(0.5, abs=1e-12)
    assert rewards.sum() == pytest.approx(float(best_of_all_policies(variant, num_pulls)))


def test_the_optimum_of_uniform_arms_is_that_of_laplaces_rule():
    # The number of pulls that spoke for the first arm is uniform on 0 .. t.
    rewards = CorrelatedBandit().optimal_returns(100)
    for t in (0, 1, 2, 50, 99):
        mean = (np.arange(t + 1) + 1.0) / (t + 2.0)
        assert rewards[t] == pytest.approx(np.maximum(mean, 1.0 - mean).mean(), abs=1e-12)


@pytest.mark.parametrize(("variant", "better"), [("easy", 0.9), ("medium", 0.75), ("hard", 0.6)])
def test_the_least_regret_of_two_points_tends_to_that_of_a_random_walk(variant, better):
    # A walk with drift d = 2q - 1 is below 0, counting half of its stays at 0, for
    # 1 / (2 d²) steps in expectation; each costs d.
    rewards = CorrelatedBandit(variant=variant).optimal_returns(1500)
    assert np.sum(better - rewards) == pytest.approx(0.5 / (2.0 * better - 1.0), abs=1e-6)


def test_the_optima_of_a_hundred_pulls_are_the_documented_ones():
    for variant, value in (("uniform", 73.78), ("easy", 89.37), ("medium", 74.0), ("hard", 57.69)):
        total = CorrelatedBandit(variant=variant).optimal_returns(100).sum()
        assert total == pytest.approx(value, abs=0.006)


def test_independent_arms_are_the_bernoulli_bandit_of_two():
    family = CorrelatedBandit(variant="independent")
    assert np.array_equal(family.optimal_returns(9), solve_bernoulli_bandit(2, 9).rewards)
    assert family.optimal_returns(100) is None
    assert "bayes-optimal" in family.references(9)


def test_the_optimal_policy_earns_the_optimum_at_every_pull():
    family = CorrelatedBandit(12, "hard")
    rewards = play(family, "bayes-optimal", 12, 10_000)
    errors = rewards.std(axis=0, ddof=1) / math.sqrt(len(rewards))
    assert np.all(np.abs(rewards.mean(axis=0) - family.optimal_returns(12)) < 4 * errors)


def test_one_policy_is_optimal_for_every_dependent_variant():
    rewards = play(CorrelatedBandit(20, "easy"), "bayes-optimal", 20, 8000, split="medium")
    totals = rewards.sum(axis=1)
    optimum = CorrelatedBandit(variant="medium").optimal_returns(20).sum()
    assert abs(totals.mean() - optimum) < 4 * totals.std() / math.sqrt(len(totals))


def test_the_oracle_of_uniform_arms_earns_three_quarters():
    totals = play(CorrelatedBandit(30), "oracle", 30, 2000).sum(axis=1)
    assert abs(totals.mean() - 30 * 0.75) < 4 * totals.std() / math.sqrt(2000)


def test_pulls_not_played_are_not_counted():
    policy, params, *_ = CorrelatedBandit().references(1)["bayes-optimal"]
    episodes = Trajectory(
        inputs=None,
        action=jnp.array([[0], [1], [1], [0]]),
        reward=jnp.array([[0.0], [1.0], [1.0], [1.0]]),
        terminated=None,
        truncated=None,
        next_obs=None,
        mask=jnp.array([[True], [True], [False], [True]]),
    )
    carry = policy.begin(params, jax.random.key(0))
    assert policy.adapt(params, carry, episodes, jax.random.key(0)) == -1


@functools.cache
def probs():
    """Probabilities ``[4000, 2]`` of every split, in one program."""
    family = CorrelatedBandit(variant="medium")

    def sample(key):
        return {split: family.sample_task(key, split).probs for split in family.splits}

    run = jax.jit(jax.vmap(sample), compiler_options=FAST_COMPILE)
    return jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(1), 4000)))


@pytest.mark.parametrize("split", CorrelatedBandit.splits)
def test_every_split_draws_its_documented_probabilities(split):
    p = probs()[split]
    assert p.dtype == np.float32
    if split in ("uniform", "independent"):
        quarters = np.histogram(p[:, 0], bins=4, range=(0.0, 1.0))[0]
        assert np.all(np.abs(quarters - 1000) < 4 * math.sqrt(4000 * 0.25 * 0.75))
    else:
        low, high = POINTS["medium" if split in ("train", "test") else split]
        is_high = np.isclose(p[:, 0], float(high))
        assert np.all(is_high | np.isclose(p[:, 0], float(low)))
        assert abs(is_high.sum() - 2000) < 4 * math.sqrt(4000 * 0.25)
    dependent = np.allclose(p.sum(axis=1), 1.0)
    assert dependent == (split != "independent")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CorrelatedBandit(0), "CorrelatedBandit.num_pulls is 0"),
        (lambda: CorrelatedBandit(variant="mild"), "variant is 'mild'; it must be one of uniform"),
        (lambda: CorrelatedBandit().references(0), "num_episodes is 0"),
        (lambda: CorrelatedBandit().optimal_returns(0), "num_episodes is 0"),
        (lambda: CorrelatedBandit().sample_task(jax.random.key(0), "mild"), "split is 'mild'"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_families_are_equal_by_value_and_name_every_variant():
    assert CorrelatedBandit(100, "uniform") == CorrelatedBandit()
    assert hash(CorrelatedBandit(variant="easy")) == hash(CorrelatedBandit(variant="easy"))
    assert CorrelatedBandit.splits == ("train", "test", *VARIANTS)
