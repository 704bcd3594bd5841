"""The policy optimiser against hand-made steps."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import jaxmeta
from jaxmeta.ops.distributions import Categorical
from jaxmeta.parts.optimizers.contract import Batch, MinibatchAdam
from jaxmeta.parts.optimizers.ppo import PPO, clipped_surrogate
from jaxmeta_envs import PolicyInput

TASKS, LENGTH = 8, 3


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.5, 2.0, 2.4, 0.0),  # already raised enough: no more to gain
        (0.5, 2.0, 1.0, 1.0),  # fell although it was good: full gradient
        (1.5, -2.0, -3.0, -3.0),
        (0.5, -2.0, -1.6, 0.0),
    ],
)
def test_the_clipped_surrogate_and_its_slope(ratio, advantage, expected, slope):
    value, grad = jax.value_and_grad(clipped_surrogate)(jnp.log(ratio), advantage, 0.2)
    assert value == pytest.approx(expected, rel=1e-5)
    assert grad == pytest.approx(slope, rel=1e-5)  # d/d log ρ = ρ A


def replay(params, inputs, mask):
    """A memoryless policy and value, linear in a one-number observation."""
    logits = inputs.obs[..., None] * params["w"][None, None, :] + params["b"][None, None, :]
    return Categorical(logits), inputs.obs * params["v"]


def make_batch(seed=0):
    rng = np.random.default_rng(seed)
    params = {"w": jnp.array([0.3, -0.2]), "b": jnp.array([0.1, 0.0]), "v": jnp.float32(0.5)}
    obs = jnp.float32(rng.normal(size=(TASKS, LENGTH)))
    flags = jnp.zeros((TASKS, LENGTH), bool)
    action = jnp.int32(rng.integers(2, size=(TASKS, LENGTH)))
    inputs = PolicyInput(obs, action, obs, flags, flags)
    mask = jnp.asarray(rng.random((TASKS, LENGTH)) < 0.8)
    distributions, _ = replay(params, inputs, mask)
    log_prob = jax.vmap(jax.vmap(lambda d, a: d.log_prob(a)))(distributions, action)
    advantage, target = jnp.float32(rng.normal(size=(2, TASKS, LENGTH)))
    weight = jnp.ones(TASKS)
    return params, Batch(inputs, action, log_prob, advantage, target, mask, weight)


def improve(ppo, params, batch, learning_rate, entropy_coef):
    step = jax.jit(lambda *args: ppo.improve(replay, *args))
    key, rate = jax.random.key(0), jnp.float32(learning_rate)
    return step(params, ppo.init(params), batch, key, rate, jnp.float32(entropy_coef))


def objective(theta, batch, value_coef, entropy_coef):
    """Policy gradient, value regression and entropy over the played steps, in float64."""
    b, v, w = theta[:2], theta[2], theta[3:]
    terms = []
    for i, t in zip(*np.nonzero(batch.mask), strict=True):
        obs = np.float64(batch.inputs.obs[i, t])
        logits = obs * w + b
        log_p = logits - np.log(np.exp(logits).sum())
        ratio = np.exp(log_p[batch.action[i, t]] - np.float64(batch.log_prob[i, t]))
        entropy = -np.sum(np.exp(log_p) * log_p)
        error = 0.5 * (obs * v - np.float64(batch.target[i, t])) ** 2
        gain = ratio * np.float64(batch.advantage[i, t]) + entropy_coef * entropy
        terms.append(value_coef * error - np.float64(batch.weight[i]) * gain)
    return np.mean(terms)


@pytest.mark.parametrize("weighted", [False, True])
def test_one_step_is_adam_on_the_surrogate(weighted):
    params, batch = make_batch()
    if weighted:
        batch = batch._replace(weight=jnp.linspace(0.0, 2.0, TASKS))
    ppo = PPO(epochs=1, minibatches=1, max_grad_norm=1e9, value_coef=0.7)
    new, _, metrics = improve(ppo, params, batch, 0.01, 0.3)

    theta, unravel = ravel_pytree(params)
    theta, batch = np.float64(theta), jax.tree.map(np.asarray, batch)
    bumps = 1e-5 * np.eye(len(theta))
    difference = [
        objective(theta + e, batch, 0.7, 0.3) - objective(theta - e, batch, 0.7, 0.3) for e in bumps
    ]
    grad = np.array(difference) / 2e-5
    # Adam's first step is the learning rate along the sign, softened by its epsilon.
    expected = unravel(jnp.float32(theta - 0.01 * grad / (np.abs(grad) + 1e-5)))
    for name in params:
        np.testing.assert_allclose(new[name], expected[name], rtol=1e-4, atol=1e-6)
    assert metrics["grad_norm"] == pytest.approx(np.linalg.norm(grad), rel=1e-4)
    assert metrics["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["clip_fraction"] == 0.0


def test_the_gradient_norm_is_bounded():
    params, batch = make_batch()
    batch = batch._replace(target=1e4 * batch.target)
    ppo = PPO(epochs=1, minibatches=1, max_grad_norm=1e-3)
    _, opt_state, metrics = improve(ppo, params, batch, 0.01, 0.0)
    assert metrics["grad_norm"] > 100.0
    # Adam's first moment after one step is a tenth of the clipped gradient.
    moment = optax.tree.norm(opt_state[1].mu)
    assert moment == pytest.approx(1e-4, rel=1e-3)
    free = PPO(epochs=1, minibatches=1, max_grad_norm=math.inf)
    _, opt_state, metrics = improve(free, params, batch, 0.01, 0.0)
    moment = optax.tree.norm(opt_state[1].mu)
    assert moment == pytest.approx(0.1 * float(metrics["grad_norm"]), rel=1e-3), "nothing is cut"


def test_every_trial_is_in_exactly_one_minibatch():
    seen = []
    descent = MinibatchAdam(epochs=1, minibatches=4, max_grad_norm=1.0)
    parts = np.asarray(descent._partition(jnp.arange(TASKS)))
    for m, part in enumerate(parts):
        assert all(i % 4 == m for i in part)
        seen += part.tolist()
    assert sorted(seen) == list(range(TASKS))


def test_the_ratio_stays_near_the_clip():
    params, batch = make_batch()
    ppo = PPO(clip=0.1, epochs=200, minibatches=2, value_coef=0.0)
    new, _, _ = improve(ppo, params, batch, 0.003, 0.0)
    distributions, _ = replay(new, batch.inputs, batch.mask)
    log_prob = jax.vmap(jax.vmap(lambda d, a: d.log_prob(a)))(distributions, batch.action)
    gain = np.asarray(jnp.exp(log_prob - batch.log_prob) * batch.advantage)[np.asarray(batch.mask)]
    before = np.asarray(batch.advantage)[np.asarray(batch.mask)]
    assert gain.mean() > before.mean() + 0.02, "it must improve"
    ratio = np.asarray(jnp.exp(log_prob - batch.log_prob))[np.asarray(batch.mask)]
    assert np.median(np.abs(ratio - 1.0)) < 0.2, "and not run away on the same data"


def test_early_stopping_ends_the_steps_on_a_batch():
    params, batch = make_batch()
    steps = {"epochs": 20, "minibatches": 2, "value_coef": 0.0}
    free, _, metrics = improve(PPO(**steps), params, batch, 0.01, 0.0)
    assert metrics["steps_taken"] == 1.0
    held, _, stopped = improve(PPO(**steps, max_kl=1e-3), params, batch, 0.01, 0.0)
    assert 0.0 < stopped["steps_taken"] < 1.0
    assert stopped["approx_kl"] <= 1e-3 < metrics["approx_kl"]

    def moved(new):
        return max(float(jnp.abs(new[name] - params[name]).max()) for name in params)

    # Adam moves a parameter by the learning rate per step, so the steps can be counted.
    assert moved(held) <= 0.011 * stopped["steps_taken"] * 40
    assert moved(free) > 2 * moved(held)


@pytest.mark.parametrize(
    "bad",
    [{"clip": 0.0}, {"epochs": 0}, {"minibatches": 0}, {"max_grad_norm": 0.0}, {"max_kl": 0.0}],
)
def test_impossible_settings_are_refused(bad):
    name = next(iter(bad))
    with pytest.raises(jaxmeta.ConfigError, match=f"{name} is 0"):
        PPO(**bad)
