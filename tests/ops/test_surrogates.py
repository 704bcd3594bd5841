"""Surrogates against dynamic programming on processes small enough to enumerate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.ops import surrogates
from jaxmeta.testing.conformance import fast_jit
from jaxmeta.testing.meta_gradients import TinyProcess, batches, multiplicity

TERMS = ("log_likelihood", "likelihood_ratio", "dice")
THETA = np.array([[0.4, -0.7, 0.2], [-0.3, 0.5, 1.1]])
STOPS = np.array([[False, True, False], [True, False, False]])


def process(horizon=3, ends=False):
    drawn = TinyProcess.draw(3, horizon, actions=3)
    return dataclasses.replace(drawn, stops=STOPS) if ends else drawn


def baseline(name, of):
    if name == "none":
        return None
    return of.state_values(THETA) if name == "values" else np.array([[0.7, -2.0]] * of.horizon)


def expectation(name, theta, of, advantage, weight):
    """The expectation of a surrogate as a function of θ; the policy of `THETA` plays."""
    episodes = of.episodes
    at = episodes.state, episodes.action
    now, then = (jax.nn.log_softmax(x.reshape(THETA.shape))[at] for x in (theta, THETA))
    rows = (x[:, None] for x in (now, then, advantage, episodes.mask))
    return jnp.sum(weight * jax.vmap(getattr(surrogates, name))(*rows))


@pytest.mark.parametrize("ends", [False, True], ids=["fixed length", "early ends"])
@pytest.mark.parametrize("name", TERMS)
def test_expected_derivatives_are_what_each_surrogate_claims(name, ends):
    """With early ends: of the mean over played steps times their number."""
    of = process(ends=ends)
    length = of.episodes.mask.sum(1)
    assert ends == (length.min() < of.horizon)
    with jax.enable_x64(True):
        weight = jnp.asarray(of.probability(THETA) * length / of.horizon)

        @fast_jit
        def derivatives(theta, advantage):
            def function(theta):
                return expectation(name, theta, of, advantage, weight)

            return jax.grad(function)(theta), jax.hessian(function)(theta)

        for kind in ("none", "values", "wrong"):
            base = baseline(kind, of)
            gradient, hessian = derivatives(THETA.ravel(), of.advantage(base))
            np.testing.assert_allclose(gradient, of.gradient(THETA), atol=1e-10)
            kept = of.hessian_terms(THETA, base).keep(name)
            np.testing.assert_allclose(hessian, kept, atol=1e-10)


def test_the_claims_differ():
    """Else the test above could not tell one surrogate from another."""
    terms = process().hessian_terms(THETA)
    sizes = [np.linalg.norm(terms.keep(name)) for name in TERMS]
    assert np.linalg.norm(terms.keep("dice") - terms.keep("likelihood_ratio")) > 0.03
    assert np.linalg.norm(terms.first) > 0.03
    assert min(sizes) > 0.03


def test_a_baseline_leaves_all_terms_but_those_of_the_log_likelihood():
    of = process()
    plain, values = (of.hessian_terms(THETA, baseline(b, of)) for b in ("none", "values"))
    for name in ("likelihood_ratio", "dice"):
        np.testing.assert_allclose(plain.keep(name), values.keep(name), atol=1e-14)
    assert np.linalg.norm(plain.second) > 0.03
    np.testing.assert_allclose(values.second, 0.0, atol=1e-14)  # of a softmax over logits


@pytest.mark.parametrize("name", TERMS)
def test_a_batch_of_episodes_is_a_mean(name):
    """The expectation over all pairs of episodes is that over one."""
    of = process(horizon=2)
    episodes, advantage, counts = of.episodes, of.advantage(), batches(18, 2)
    pairs = np.array([np.repeat(np.arange(18), count) for count in counts])
    weight = np.exp(counts @ np.log(of.probability(THETA))) * multiplicity(counts)
    with jax.enable_x64(True):

        def log_prob(theta):
            return jax.nn.log_softmax(theta.reshape(THETA.shape))[episodes.state, episodes.action]

        def function(theta):
            now, then = log_prob(theta), log_prob(jnp.asarray(THETA))
            rows = (x[pairs] for x in (now, then, jnp.asarray(advantage), episodes.mask))
            return jnp.sum(weight * jax.vmap(getattr(surrogates, name))(*rows))

        hessian = fast_jit(jax.hessian(function))(jnp.asarray(THETA.ravel()))
    np.testing.assert_allclose(hessian, of.hessian_terms(THETA).keep(name), atol=1e-10)


def test_the_third_derivative_of_dice_is_exact():
    of = process()
    direction = np.array([0.3, -1.0, 0.5, 0.8, 0.1, -0.6])

    def second(t):
        at = THETA + t * direction.reshape(THETA.shape)
        return direction @ of.hessian_terms(at).keep("dice") @ direction

    with jax.enable_x64(True):
        weight, advantage = of.probability(THETA), of.advantage(of.state_values(THETA))

        def along(t):
            return expectation("dice", THETA.ravel() + t * direction, of, advantage, weight)

        third = fast_jit(jax.grad(jax.grad(jax.grad(along))))(0.0)
    step = 1e-4
    np.testing.assert_allclose(third, (second(step) - second(-step)) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_what_was_not_played_has_no_influence(name):
    rng = np.random.default_rng(0)
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    log_prob, advantage = np.float32(rng.normal(size=(2, 3, 4)))

    def gradient(garbage):
        then, now, a = (np.where(mask, x, garbage) for x in (log_prob, log_prob, advantage))
        then = np.where(mask, then, 0.0)  # the ratio of what was not played may overflow
        return jax.value_and_grad(getattr(surrogates, name))(now, then, a, mask)

    for loud, quiet in zip(gradient(np.float32(500.0)), gradient(np.float32(0.0)), strict=True):
        np.testing.assert_array_equal(loud, quiet)
    nothing = np.zeros_like(mask)
    assert getattr(surrogates, name)(log_prob, log_prob, advantage, nothing) == 0.0


def test_all_surrogates_have_the_policy_gradient_of_every_sample():
    """And the first-order expansion around the policy that played: ratio 1."""
    rng = np.random.default_rng(1)
    log_prob, advantage = np.float32(rng.normal(size=(2, 5, 4)))
    mask = np.arange(4) < np.array([4, 2, 1, 3, 4])[:, None]
    want = np.where(mask, advantage, 0.0) / mask.sum()
    for name in TERMS:
        got = jax.grad(getattr(surrogates, name))(log_prob, log_prob, advantage, mask)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)


def test_the_credit_is_a_sum_over_all_steps_that_were_played():
    rng = np.random.default_rng(2)
    log_prob = np.float32(rng.normal(size=(3, 4)))
    mask = np.arange(4) < np.array([4, 2, 3])[:, None]
    value, slope = jax.value_and_grad(surrogates.sampling_credit)(
        log_prob, log_prob, mask, jnp.float32(-1.5)
    )
    assert value == 0.0
    np.testing.assert_array_equal(slope, np.where(mask, -1.5, 0.0))


def test_ranks_and_shapes_are_checked():
    x, mask = np.zeros((2, 3), np.float32), np.ones((2, 3), bool)
    with pytest.raises(AssertionError):
        surrogates.dice(x[0], x[0], x[0], mask[0])
    with pytest.raises(AssertionError):
        surrogates.log_likelihood(x, x, x[:, :2], mask)
    with pytest.raises(AssertionError):
        surrogates.sampling_credit(x, x, mask, np.zeros(2, np.float32))
