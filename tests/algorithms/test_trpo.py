"""The trust-region step against a dense float64 solution."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import RL2, TRPO
from tests.algorithms.test_ppo import make_batch, replay

STEP = TRPO(cg_iterations=20, damping=1e-6, value_epochs=5, value_minibatches=2)


def improve(trpo, params, batch, entropy_coef=0.0, learning_rate=0.1):
    step = jax.jit(lambda *args: trpo.improve(replay, *args))
    rate, coef = jnp.float32(learning_rate), jnp.float32(entropy_coef)
    return step(params, trpo.init(params), batch, jax.random.key(0), rate, coef)


def log_probs(theta, batch):
    """Log-probabilities of both actions at the played steps, ``[n, 2]``, in float64."""
    obs = np.float64(batch.inputs.obs)[np.asarray(batch.mask)]
    logits = obs[:, None] * theta[2:] + theta[:2]
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def surrogate(theta, old, batch, entropy_coef):
    log_p, mask = log_probs(theta, batch), np.asarray(batch.mask)
    rows, actions = np.arange(len(log_p)), np.asarray(batch.action)[mask]
    ratio = np.exp(log_p[rows, actions] - log_probs(old, batch)[rows, actions])
    entropy = -(np.exp(log_p) * log_p).sum(1)
    return np.mean(ratio * np.float64(batch.advantage)[mask] + entropy_coef * entropy)


def divergence(theta, old, batch):
    before = log_probs(old, batch)
    return np.mean((np.exp(before) * (before - log_probs(theta, batch))).sum(1))


def bumps(theta, size):
    return size * np.eye(len(theta))


def vector(params):
    return np.concatenate([np.float64(params["b"]), np.float64(params["w"])])


def test_the_step_is_the_natural_gradient_scaled_to_the_bound():
    params, batch = make_batch()
    new, _, metrics = improve(STEP, params, batch, entropy_coef=0.1)
    old, e = vector(params), 1e-4
    grad = np.array(
        [
            surrogate(old + d, old, batch, 0.1) - surrogate(old - d, old, batch, 0.1)
            for d in bumps(old, e)
        ]
    ) / (2 * e)
    hessian = np.array(
        [
            [
                divergence(old + a + b, old, batch)
                - divergence(old + a - b, old, batch)
                - divergence(old - a + b, old, batch)
                + divergence(old - a - b, old, batch)
                for b in bumps(old, e)
            ]
            for a in bumps(old, e)
        ]
    ) / (4 * e**2)
    # Adding a constant to both logits changes nothing: the smallest such step is meant.
    direction = np.linalg.pinv(hessian, rcond=1e-3) @ grad
    expected = np.sqrt(2 * STEP.max_kl / (direction @ hessian @ direction)) * direction
    moved = vector(new) - old
    np.testing.assert_allclose(moved, float(metrics["step_size"]) * expected, rtol=0.02)
    assert metrics["kl"] == pytest.approx(divergence(vector(new), old, batch), rel=1e-3)
    assert metrics["grad_norm"] == pytest.approx(np.linalg.norm(grad), rel=1e-3)


def test_the_policy_improves_inside_the_trust_region_again_and_again():
    params, batch = make_batch()
    first = surrogate(vector(params), vector(params), batch, 0.0)
    for max_kl in (1e-3, 0.05):
        new, _, metrics = improve(TRPO(max_kl=max_kl), params, batch)
        assert 0.2 * max_kl < metrics["kl"] <= max_kl
        assert surrogate(vector(new), vector(params), batch, 0.0) > first


def test_trials_without_weight_count_as_if_never_played():
    params, batch = make_batch()
    kept = jnp.arange(8) % 2 == 0
    alone = batch._replace(mask=batch.mask & kept[:, None])
    share = jnp.sum(batch.mask) / jnp.sum(alone.mask)
    new, _, metrics = improve(STEP, params, batch._replace(weight=share * kept), 0.1)
    expected, _, same = improve(STEP, params, alone, 0.1)
    for name in ("b", "w"):
        np.testing.assert_allclose(new[name], expected[name], rtol=1e-3, atol=1e-6)
    assert metrics["kl"] == pytest.approx(float(same["kl"]), rel=1e-3)


def test_task_by_task_the_step_is_the_same():
    params, batch = make_batch()
    one_by_one = dataclasses.replace(STEP, task_by_task=True)
    results = [improve(trpo, params, batch, 0.1) for trpo in (STEP, one_by_one)]
    for at_once, in_turn in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(in_turn, at_once, rtol=1e-4, atol=1e-6)


def test_the_line_search_shortens_a_step_that_is_too_long():
    """Far from the quadratic model: with one observation huge, the divergence overshoots."""
    params, batch = make_batch()
    batch = batch._replace(
        inputs=batch.inputs._replace(obs=batch.inputs.obs.at[0, 0].set(40.0)),
        mask=batch.mask.at[0, 0].set(True),
    )
    log_p = replay(params, batch.inputs, batch.mask)[0]
    taken = jax.vmap(jax.vmap(lambda d, a: d.log_prob(a)))(log_p, batch.action)
    batch = batch._replace(log_prob=taken)
    _, _, metrics = improve(TRPO(max_kl=0.5, damping=0.0), params, batch)
    assert 0.0 < metrics["step_size"] < 1.0
    assert 0.0 < metrics["kl"] <= 0.5


def test_without_anything_to_gain_the_policy_stays():
    params, batch = make_batch()
    new, _, metrics = improve(
        STEP, params, batch._replace(advantage=jnp.zeros_like(batch.mask * 1.0))
    )
    assert metrics["step_size"] == 0.0
    assert metrics["kl"] == pytest.approx(0.0, abs=1e-7)
    np.testing.assert_allclose(vector(new), vector(params), atol=1e-6)


def test_the_value_is_fitted_and_only_the_value():
    params, batch = make_batch()
    still = batch._replace(advantage=jnp.zeros_like(batch.advantage))
    new, _, _ = improve(TRPO(value_epochs=200), params, still, learning_rate=0.02)
    mask = np.asarray(batch.mask)
    obs, target = np.float64(batch.inputs.obs)[mask], np.float64(batch.target)[mask]
    assert new["v"] == pytest.approx(obs @ target / (obs @ obs), abs=0.02)
    np.testing.assert_allclose(vector(new), vector(params), atol=1e-6)


def test_policy_and_value_must_be_separate():
    with pytest.raises(jaxmeta.ConfigError, match="value_network is 'shared'; it must be separate"):
        RL2(optimizer=TRPO())


@pytest.mark.parametrize("bad", [{"max_kl": 0.0}, {"cg_iterations": 0}, {"backtrack": 1.0}])
def test_impossible_settings_are_refused(bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(jaxmeta.ConfigError, match=f"{name} is {value}"):
        TRPO(**bad)
