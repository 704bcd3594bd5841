"""The grids of the classical algorithms, and optimistic Thompson sampling."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxmeta.evaluation.evaluate import evaluate_policy
from jaxmeta_envs import BernoulliBandit, ConfigError, GaussianBandit, GridNavigation, TabularMDP
from jaxmeta_envs.bandits import references as rules
from jaxmeta_envs.bandits.references import ArmStatistics
from jaxmeta_envs.random.sampling import sample_beta

FAMILIES = (BernoulliBandit(3), GaussianBandit(3), TabularMDP(3, 2, 4))


@functools.cache
def candidates(family):
    return family.candidates(6)


def test_the_grids_are_those_of_the_paper():
    sizes = {name: len(c.settings) for name, c in candidates(FAMILIES[0]).items()}
    assert sizes == {
        "random": 0, "gittins": 4, "thompson": 0, "optimistic-thompson": 20,
        "optimistic-bayesian": 0, "ucb1": 11, "epsilon-greedy (first of ties)": 11,
        "epsilon-greedy": 11, "greedy (first of ties)": 0, "greedy": 0,
    }  # fmt: skip
    tabular = candidates(FAMILIES[2])
    assert tabular["opsrl (mu0=0)"].settings == tuple(range(1, 21))
    for name in ("ucrl2 (no prior)", "beb (value, mu0=0)", "beb"):
        np.testing.assert_allclose(np.diff(np.log10(tabular[name].settings)), 0.2)
        np.testing.assert_allclose(tabular[name].settings[::20], [1e-4, 1.0])
    np.testing.assert_allclose(tabular["epsilon-greedy"].settings, np.arange(1, 11) / 10)


def test_families_without_classical_algorithms_have_no_grids():
    assert GridNavigation().candidates(6) == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_leaf_of_a_grid_has_the_axis_of_its_settings(family):
    for name, (_, params, settings) in candidates(family).items():
        sizes = {leaf.shape[0] for leaf in jax.tree.leaves(params)}
        assert sizes <= {max(1, len(settings))}, name


@pytest.mark.parametrize("name", ["ucrl2 (no prior)", "beb", "beb (value, mu0=0)"])
def test_a_grid_of_processes_is_planned_for_by_one_vmap(name):
    policy, params, settings = candidates(FAMILIES[2])[name]
    plans = jax.jit(jax.vmap(policy.begin, (0, None)))(params, jax.random.key(0)).q
    assert plans.shape == (len(settings), 4, 3, 2)
    # Nothing was seen yet: a larger bonus makes everything worth more.
    assert (jnp.diff(plans, axis=0) >= 0).all()
    assert (jnp.diff(plans[:, 0], axis=0) > 0).all()


def test_equal_families_share_the_policies_of_their_grids():
    again = BernoulliBandit(3).candidates(6)
    assert again["ucb1"].policy == candidates(FAMILIES[0])["ucb1"].policy
    again = TabularMDP(3, 2, 4).candidates(6)
    assert again["opsrl"].policy == candidates(FAMILIES[2])["opsrl (mu0=0)"].policy


# Optimistic Thompson sampling


SEEN = ArmStatistics(jnp.array([0, 5, 9]), jnp.array([0.0, 4.0, 2.0]))


def test_posterior_densities_differ_from_scipys_by_a_constant():
    points = np.random.default_rng(0).uniform(0.05, 0.95, (10, 3))
    beta = scipy.stats.beta(1 + np.array([0, 4, 2]), 1 + np.array([0, 1, 7]))
    gaussian = GaussianBandit(3, prior_mean=0.3, prior_std=2.0, noise_std=0.5)
    normal = scipy.stats.norm(gaussian.posterior_mean(SEEN), gaussian.posterior_std(SEEN))
    for family, exact in ((BernoulliBandit(3), beta), (gaussian, normal)):
        log = jax.vmap(family.posterior_log_density, (None, 0))(SEEN, jnp.asarray(points))
        difference = np.asarray(log) - exact.logpdf(points).sum(-1)
        np.testing.assert_allclose(difference, difference[0], rtol=1e-3, atol=1e-3)


def test_the_density_of_an_arm_never_pulled_is_flat_up_to_the_ends():
    at_ends = BernoulliBandit(2).posterior_log_density(
        ArmStatistics(jnp.zeros(2, jnp.int32), jnp.zeros(2)), jnp.array([0.0, 1.0])
    )
    assert at_ends == 0.0


def test_optimistic_thompson_keeps_the_densest_of_its_samples():
    family = BernoulliBandit(3)
    key = jax.random.key(0)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(6))
    draws = jax.jit(jax.vmap(family.sample_posterior, (0, None)))(keys, SEEN)
    exact = scipy.stats.beta(1 + np.array([0, 4, 2]), 1 + np.array([0, 1, 7]))
    density = exact.logpdf(np.asarray(draws, np.float64)).sum(-1)
    score = jax.jit(jax.vmap(rules._score_densest, (None, 0, None, None)), static_argnums=0)
    kept = score(family, jnp.array([1.0, 3.0, 6.0]), SEEN, key)
    for scores, n in zip(kept, (1, 3, 6), strict=True):
        np.testing.assert_allclose(scores, draws[np.argmax(density[:n])], rtol=1e-5)


def test_optimistic_bayesian_sampling_never_falls_below_the_mean():
    family = BernoulliBandit(3)
    keys = jax.random.split(jax.random.key(0), 500)
    score = jax.jit(jax.vmap(rules._score_raised_sample, (None, None, None, 0)), static_argnums=0)
    scores = np.asarray(score(family, (), SEEN, keys))
    mean = np.asarray(family.posterior_mean(SEEN))
    assert (scores >= mean).all()
    assert 0.3 < (scores > mean).mean() < 0.7


def test_beta_draws_follow_their_distribution():
    a, b = jnp.array([1.0, 4.0, 30.0]), jnp.array([1.0, 2.0, 9.0])
    shape = (5000, 1)
    draws = jax.jit(sample_beta)(jax.random.key(0), jnp.tile(a, shape), jnp.tile(b, shape))
    for i in range(3):
        exact = scipy.stats.beta(a[i], b[i])
        assert scipy.stats.kstest(np.asarray(draws[:, i], np.float64), exact.cdf).pvalue > 1e-3


def earned(family, reference, num_tasks=1000):
    policy, params, *_ = reference
    pulls = family.num_pulls
    played = evaluate_policy(
        policy, params, family, key=jax.random.key(0), num_tasks=num_tasks, episodes=pulls
    )
    total = played.sum(axis=1, dtype=np.float64)
    return total.mean(), total.std(ddof=1) / math.sqrt(num_tasks)


@pytest.mark.parametrize(("arms", "total"), [(5, 6.5), (10, 6.2), (50, 5.5)])
def test_optimistic_thompson_earns_what_the_rl2_paper_reports_in_ten_pulls(arms, total):
    family = BernoulliBandit(arms, 10)
    mean, error = earned(family, rules.optimistic_thompson(family))
    rounding = 0.05
    assert abs(mean - total) < rounding + 3 * math.sqrt(2) * error


def test_optimistic_thompson_with_one_sample_is_thompson():
    family = BernoulliBandit(5, 10)
    one, error = earned(family, rules.optimistic_thompson(family, 1))
    thompson, _ = earned(family, rules.thompson(family))
    assert abs(one - thompson) < 3 * math.sqrt(2) * error


@pytest.mark.slow  # half a minute each on two cores
@pytest.mark.parametrize(("arms", "total"), [(5, 77.9), (10, 81.4), (50, 67.7)])
def test_optimistic_thompson_earns_what_the_rl2_paper_reports_in_a_hundred_pulls(arms, total):
    family = BernoulliBandit(arms, 100)
    mean, error = earned(family, rules.optimistic_thompson(family))
    assert abs(mean - total) < 3 * math.sqrt(2) * error


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: rules.optimistic_thompson(FAMILIES[0], 0), "num_samples"),
        (lambda: rules.epsilon_greedy(FAMILIES[0], -0.1), "epsilon"),
        (lambda: rules.ucb1(FAMILIES[0], math.inf), "c is"),
    ],
)
def test_bad_settings_are_refused_by_name(build, name):
    with pytest.raises(ConfigError, match=name):
        build()
