"""Action distributions against scipy and against enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmeta.ops.distributions import Categorical, MultiCategorical, Normal, SquashedNormal
from jaxmeta_envs import Box

LOGITS = jnp.array([0.3, -1.2, 2.0, 0.0])
OTHER = jnp.array([1.0, 0.0, -0.5, 0.4])


def probabilities(logits):
    p = np.exp(np.float64(logits))
    return p / p.sum()


def test_categorical_agrees_with_enumeration():
    p, q = probabilities(LOGITS), probabilities(OTHER)
    d = Categorical(LOGITS)
    np.testing.assert_allclose([d.log_prob(a) for a in range(4)], np.log(p), rtol=1e-5)
    np.testing.assert_allclose(d.entropy(), -np.sum(p * np.log(p)), rtol=1e-5)
    np.testing.assert_allclose(d.kl(Categorical(OTHER)), np.sum(p * np.log(p / q)), rtol=1e-5)
    assert d.mode() == 2


def test_categorical_samples_follow_the_probabilities():
    draws = jax.vmap(Categorical(LOGITS).sample)(jax.random.split(jax.random.key(0), 20_000))
    counts = np.bincount(draws, minlength=4)
    # A false alarm about once in ten thousand seeds; the seed is fixed.
    assert stats.chisquare(counts, 20_000 * probabilities(LOGITS)).pvalue > 1e-4


def test_independent_choices_agree_with_enumeration():
    two, three = jnp.array([0.7, -0.4]), jnp.array([0.1, 1.5, -0.8])
    d = MultiCategorical((Categorical(two), Categorical(three)))
    other = MultiCategorical((Categorical(two[::-1]), Categorical(jnp.zeros(3))))
    pairs = [(a, b) for a in range(2) for b in range(3)]
    p = np.outer(probabilities(two), probabilities(three)).ravel()
    q = np.outer(probabilities(two[::-1]), np.full(3, 1 / 3)).ravel()
    told = [d.log_prob(jnp.array(pair, jnp.int32)) for pair in pairs]
    np.testing.assert_allclose(told, np.log(p), rtol=1e-5)
    np.testing.assert_allclose(d.entropy(), -np.sum(p * np.log(p)), rtol=1e-5)
    np.testing.assert_allclose(d.kl(other), np.sum(p * np.log(p / q)), rtol=1e-5)
    np.testing.assert_array_equal(d.mode(), pairs[int(np.argmax(p))])
    draws = np.asarray(jax.vmap(d.sample)(jax.random.split(jax.random.key(0), 20_000)))
    assert draws.dtype == np.int32
    counts = np.bincount(draws[:, 0] * 3 + draws[:, 1], minlength=6)
    assert stats.chisquare(counts, 20_000 * p).pvalue > 1e-4


def test_impossible_actions_leave_entropy_kl_and_gradients_finite():
    logits = jnp.array([0.5, -jnp.inf, 0.1])

    def total(x):
        d = Categorical(jnp.where(jnp.isfinite(logits), x, -jnp.inf))
        return d.entropy() + d.kl(Categorical(jnp.zeros(3)))

    value, grad = jax.value_and_grad(total)(jnp.array([0.5, 0.0, 0.1]))
    assert np.isfinite(value)
    assert np.all(np.isfinite(grad))


def test_normal_agrees_with_scipy():
    d = Normal(jnp.array([0.5, -1.0]), jnp.array([0.1, -0.7]))
    x = jnp.array([0.2, 0.3])
    exact = stats.norm(np.float64(d.mean), np.exp(np.float64(d.log_std)))
    np.testing.assert_allclose(d.log_prob(x), exact.logpdf(np.float64(x)).sum(), rtol=1e-5)
    np.testing.assert_allclose(d.entropy(), exact.entropy().sum(), rtol=1e-5)
    np.testing.assert_allclose(d.mode(), d.mean)


def test_normal_kl_is_the_mean_log_ratio():
    d, other = (
        Normal(jnp.array([0.5]), jnp.array([0.1])),
        Normal(jnp.array([0.0]), jnp.array([0.4])),
    )
    x = jax.vmap(d.sample)(jax.random.split(jax.random.key(1), 100_000))
    ratios = np.asarray(jax.vmap(lambda v: d.log_prob(v) - other.log_prob(v))(x))
    assert d.kl(other) == pytest.approx(
        float(ratios.mean()), abs=float(4 * ratios.std() / len(ratios) ** 0.5)
    )
    assert d.kl(d) == pytest.approx(0.0, abs=1e-6)


UNEQUAL = Box((100.0, -np.inf, -0.01), (200.0, 1.0, 0.01), (3,))
"""Bounds far from 0, none on one side, and narrow."""


def density(x, mean, std, low, high):
    """Of one entry by the change of variables, float64."""
    unit = (x - 0.5 * (low + high)) / (0.5 * (high - low))
    return stats.norm(mean, std).pdf(np.arctanh(unit)) / (1 - unit**2) / (0.5 * (high - low))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (100.0, 200.0), (-0.01, 0.01)])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.8, 0.3), (-1.5, 2.0)])
def test_squashed_density_entropy_and_mass_are_those_of_the_change_of_variables(
    low, high, mean, std
):
    d = SquashedNormal(jnp.array([mean]), jnp.log(jnp.array([std])), Box(low, high, (1,)))
    u = np.linspace(mean - 9 * std, mean + 9 * std, 40_001)
    p = stats.norm(mean, std).pdf(u) * (u[1] - u[0])
    assert p.sum() == pytest.approx(1.0, abs=1e-6)
    slope = np.log(0.5 * (high - low)) + 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))
    entropy = np.sum(p * (slope - stats.norm(mean, std).logpdf(u)))
    assert d.entropy() == pytest.approx(entropy, abs=0.01)
    inside = np.linspace(low + 0.05 * (high - low), high - 0.05 * (high - low), 9)
    expected = np.log(density(inside, mean, std, low, high))
    said = jax.vmap(d.log_prob)(jnp.asarray(inside[:, None], jnp.float32))
    np.testing.assert_allclose(said, expected, atol=2e-3)
    draws = jax.vmap(d.sample)(jax.random.split(jax.random.key(0), 4000))[:, 0]
    assert np.all((draws >= low) & (draws <= high))
    exact = stats.norm(mean, std)
    units = np.arctanh(np.clip((np.float64(draws) - (low + high) / 2) / ((high - low) / 2), -1, 1))
    assert stats.kstest(units[np.isfinite(units)], exact.cdf).pvalue > 1e-4


def test_entries_without_two_bounds_are_not_squashed():
    d = SquashedNormal(jnp.array([0.2, 0.5, -0.3]), jnp.array([0.0, 0.4, -1.0]), UNEQUAL)
    action = jnp.array([120.0, -3.0, 0.004])
    expected = (
        np.log(density(120.0, 0.2, 1.0, 100.0, 200.0))
        + stats.norm(0.5, np.exp(0.4)).logpdf(-3.0)
        + np.log(density(0.004, -0.3, np.exp(-1.0), -0.01, 0.01))
    )
    assert d.log_prob(action) == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(
        d.mode(), [150 + 50 * np.tanh(0.2), 0.5, 0.01 * np.tanh(-0.3)], rtol=1e-5
    )


def test_at_the_bounds_everything_stays_finite_and_ratios_are_those_of_the_normals():
    space = Box(-0.01, 0.01, (1,))
    for action in (-0.01, 0.01):

        def ratio(mean, action=action):
            old = SquashedNormal(jnp.array([3.0]), jnp.array([0.0]), space)
            new = SquashedNormal(mean, jnp.array([0.0]), space)
            a = jnp.array([action])
            return new.log_prob(a) - old.log_prob(a) + new.entropy() + new.kl(old)

        value, slope = jax.value_and_grad(ratio)(jnp.array([5.0]))
        assert np.isfinite(value)
        assert np.all(np.isfinite(slope))


def test_squashing_leaves_the_divergence_of_normals():
    a = SquashedNormal(jnp.array([0.3]), jnp.array([-0.5]), Box(0.0, 4.0, (1,)))
    b = SquashedNormal(jnp.array([-0.2]), jnp.array([0.1]), Box(0.0, 4.0, (1,)))
    x = jax.vmap(a.sample)(jax.random.split(jax.random.key(1), 100_000))
    ratios = np.asarray(jax.vmap(lambda v: a.log_prob(v) - b.log_prob(v))(x))
    within = float(4 * ratios.std() / len(ratios) ** 0.5)
    assert a.kl(b) == pytest.approx(float(ratios.mean()), abs=within)


MAKES = [
    lambda x: Categorical(x),
    lambda x: Normal(x, 0.1 * x),
    lambda x: SquashedNormal(x, 0.1 * x, UNEQUAL),
]


@pytest.mark.parametrize("make", MAKES)
def test_the_score_has_mean_zero(make):
    """E[∇ log p] = 0 ties sampling and log-probability to each other."""
    x = jnp.array([0.3, -0.4, 0.8])
    keys = jax.random.split(jax.random.key(2), 50_000)
    actions = jax.vmap(make(x).sample)(keys)
    scores = np.asarray(jax.vmap(jax.grad(lambda v, a: make(v).log_prob(a)), (None, 0))(x, actions))
    assert np.all(np.abs(scores.mean(0)) < 4.5 * scores.std(0) / len(scores) ** 0.5)
