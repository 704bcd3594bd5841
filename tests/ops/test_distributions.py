"""Action distributions against scipy and against enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmeta.ops.distributions import Categorical, Normal

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


@pytest.mark.parametrize("make", [lambda x: Categorical(x), lambda x: Normal(x, 0.1 * x)])
def test_the_score_has_mean_zero(make):
    """E[∇ log p] = 0 ties sampling and log-probability to each other."""
    x = jnp.array([0.3, -0.4, 0.8])
    keys = jax.random.split(jax.random.key(2), 50_000)
    actions = jax.vmap(make(x).sample)(keys)
    scores = np.asarray(jax.vmap(jax.grad(lambda v, a: make(v).log_prob(a)), (None, 0))(x, actions))
    assert np.all(np.abs(scores.mean(0)) < 4.5 * scores.std(0) / len(scores) ** 0.5)
