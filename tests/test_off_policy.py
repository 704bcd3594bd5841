"""Losses of soft actor-critic against float64 rewrites, finite differences and a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, stats

from jaxmeta.networks import MLP, gaussian_actor, twin_critics
from jaxmeta.networks.off_policy import unit_box
from jaxmeta.ops.distributions import SquashedNormal
from jaxmeta.parts.off_policy import critic_loss, follow, policy_loss, soft_target, temperature_loss
from jaxmeta.parts.soft_learner import Minibatch, SoftSettings, first_learner, soft_step
from jaxmeta_envs import Box

SPACE = Box((-2.0, 0.0), (2.0, 1.0), (2,))
LAYERS = MLP((5, 4), "tanh")
FEATURES, ROWS = 3, 6
ALPHA, GAMMA, TAU, ENTROPY, RATE = 0.3, 0.9, 0.1, -1.5, 1e-3


def noisy(tree, key):
    """Biases start at 0 and the actor's head near it; move all so that a lost term shows."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    moved = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return structure.unflatten(moved)


def setting():
    keys = jax.random.split(jax.random.key(0), 10)
    actor = gaussian_actor(FEATURES, SPACE, LAYERS)
    critics = twin_critics(FEATURES, SPACE, LAYERS)
    learner = first_learner(
        noisy(actor.init(keys[0]), keys[1]), noisy(critics.init(keys[2]), keys[3]), ALPHA
    )
    learner = learner._replace(targets=noisy(learner.critics, keys[4]))
    batch = Minibatch(
        features=jax.random.normal(keys[5], (ROWS, FEATURES)),
        action=jax.random.uniform(keys[6], (ROWS, 2), minval=-1.0),
        reward=jax.random.normal(keys[7], (ROWS,)),
        terminated=jnp.array([True, False, False, True, False, False]),
        next_features=jax.random.normal(keys[8], (ROWS, FEATURES)),
        noise=jax.random.normal(keys[9], (ROWS, 2, 2)),
    )
    return actor, critics, learner, batch


def layers(params, x, head):
    p = jax.tree.map(np.float64, params)
    for name in ("Dense_0", "Dense_1"):
        layer = p["body"]["params"][name]
        x = np.tanh(x @ layer["kernel"] + layer["bias"])
    p = p["head"]["params"]
    p = p.get(head, p)
    return x @ p["kernel"] + p["bias"]


def policy64(params, x, noise):
    """Actions in half ranges and their log-densities, by the change of variables."""
    mean, log_std = np.split(layers(params, x, None), 2, axis=-1)
    u = mean + np.exp(log_std) * noise
    normal = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
    return np.tanh(u), (normal - np.log1p(-(np.tanh(u) ** 2))).sum(-1)


def critics64(params, x, action):
    one = [jax.tree.map(lambda p, i=i: p[i], params) for i in (0, 1)]
    seen = np.concatenate([x, action], -1)
    return np.stack([layers(p, seen, "Dense_0")[..., 0] for p in one], -1)


def losses64(learner, batch):
    """Mean losses of critics and policy, and the entropy; float64."""
    b = jax.tree.map(np.float64, batch)
    after, log_after = policy64(learner.actor, b.next_features, b.noise[:, 0])
    beyond = critics64(learner.targets, b.next_features, after).min(-1) - ALPHA * log_after
    y = b.reward + GAMMA * (1 - b.terminated) * beyond
    judged = 0.5 * ((critics64(learner.critics, b.features, b.action) - y[:, None]) ** 2).sum(-1)
    action, log_prob = policy64(learner.actor, b.features, b.noise[:, 1])
    acted = ALPHA * log_prob - critics64(learner.critics, b.features, action).min(-1)
    return judged.mean(), acted.mean(), -log_prob.mean()


def step(settings_of=(), **changes):
    actor, critics, learner, batch = setting()
    rates = tuple(jnp.float32(RATE) for _ in range(3))
    settings = SoftSettings(ROWS, jnp.float32(GAMMA), TAU, ENTROPY, rates)
    settings = settings._replace(**dict(settings_of))
    batch = batch._replace(**changes)
    return (
        learner,
        batch,
        *jax.jit(lambda learner, batch: soft_step(actor, critics, settings, learner, batch))(
            learner, batch
        ),
    )


def test_losses_of_a_step_are_those_of_the_float64_rewrite():
    learner, batch, after, metrics = step()
    # Policy and temperature come after the critics, whose step they see.
    critic, _, entropy = losses64(learner, batch)
    _, policy, _ = losses64(learner._replace(critics=after.critics), batch)
    assert float(metrics["critic_loss"]) == pytest.approx(critic, rel=1e-5)
    assert float(metrics["actor_loss"]) == pytest.approx(policy, rel=1e-4)
    assert float(metrics["entropy"]) == pytest.approx(entropy, rel=1e-5)
    q = critics64(learner.critics, np.float64(batch.features), np.float64(batch.action))
    assert float(metrics["q"]) == pytest.approx(q.mean(), rel=1e-5)


def first_gradient(state):
    """The gradient of Adam's first step: a tenth of it is in the first moment."""
    return jax.tree.map(lambda m: np.float64(m) / 0.1, state.mu)


def finite_difference(loss, params, direction, size=1e-4):
    def at(t):
        return loss(jax.tree.map(lambda p, d: np.float64(p) + t * d, params, direction))

    return (at(size) - at(-size)) / (2 * size)


@pytest.mark.parametrize("part", ["critics", "actor"])
def test_gradients_are_finite_differences_of_the_rewrite(part):
    learner, batch, after, _ = step()
    policy_state, _, critic_state = after.opt_states
    state = critic_state if part == "critics" else policy_state
    grad, params = first_gradient(state), getattr(learner, part)
    # The policy's step sees the critics after theirs.
    frozen = learner if part == "critics" else learner._replace(critics=after.critics)

    def loss(moved):
        return losses64(frozen._replace(**{part: moved}), batch)[part == "actor"]

    for seed in range(3):
        direction = jax.tree.map(
            np.float64, noisy(jax.tree.map(jnp.zeros_like, params), jax.random.key(seed))
        )
        along = sum(
            float(np.sum(g * d))
            for g, d in zip(jax.tree.leaves(grad), jax.tree.leaves(direction), strict=True)
        )
        assert along == pytest.approx(finite_difference(loss, params, direction), rel=1e-4)


def test_the_temperature_rises_where_the_entropy_is_below_its_target():
    learner, _, after, metrics = step()
    missing = ENTROPY - float(metrics["entropy"])
    gradient = float(after.opt_states[1].mu) / 0.1
    assert gradient == pytest.approx(-missing, rel=1e-4)
    assert np.sign(float(after.log_alpha - learner.log_alpha)) == np.sign(missing)
    _, _, up, _ = step({"target_entropy": 100.0})
    _, _, down, _ = step({"target_entropy": -100.0})
    assert down.log_alpha < learner.log_alpha < up.log_alpha
    rates = jnp.float32(RATE), None, jnp.float32(RATE)
    _, _, fixed, _ = step({"learning_rates": rates})
    assert fixed.log_alpha == learner.log_alpha


def test_truncation_bootstraps_and_termination_does_not():
    q, log_prob = jnp.array([3.0, 5.0]), jnp.float32(-0.5)
    target = jax.jit(lambda ended: soft_target(1.0, ended, q, log_prob, 0.2, 0.9))
    assert float(target(jnp.asarray(False))) == pytest.approx(1.0 + 0.9 * (3.0 + 0.1))
    assert float(target(jnp.asarray(True))) == 1.0


def test_nothing_is_learned_through_the_target_nor_through_the_temperature_by_the_policy():
    q, log_prob = jnp.array([3.0, 5.0]), jnp.float32(-0.5)
    through = jax.grad(lambda q: soft_target(1.0, False, q, log_prob, 0.2, 0.9))(q)
    np.testing.assert_array_equal(through, 0.0)
    assert float(jax.grad(lambda a: policy_loss(q, log_prob, a))(0.2)) == 0.0
    of_policy = jax.grad(lambda x: temperature_loss(jnp.float32(0.1), x, -1.0))(log_prob)
    assert float(of_policy) == 0.0
    assert float(critic_loss(q, jnp.float32(2.0))) == 0.5 * (1.0 + 9.0)


def test_moving_copies_go_their_share_of_the_way():
    learner, _, after, _ = step()
    expected = jax.tree.map(lambda t, c: 0.9 * t + 0.1 * c, learner.targets, after.critics)
    for a, b in zip(jax.tree.leaves(after.targets), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert float(follow(jnp.float32(1.0), jnp.float32(3.0), 1.0)) == 3.0


def test_a_policy_speaks_in_half_ranges_within_the_bounds_of_the_networks():
    space = Box((-2.0, 0.0, -1.0), (2.0, np.inf, 1e-3), (3,))
    unit = unit_box(space)
    assert unit == Box((-1.0, -np.inf, -1.0), (1.0, np.inf, 1.0), (3,))
    actor = gaussian_actor(4, space, MLP((8,), "tanh"))
    params = actor.init(jax.random.key(0))
    loud = jax.tree.map(lambda x: 300.0 * (x + 1.0), params)
    distribution = actor.apply(loud, jnp.ones(4))
    assert distribution.space == unit
    assert np.all(np.abs(distribution.log_std) <= 20.0)
    assert np.max(distribution.log_std) == 2.0
    quiet = loud | {"head": jax.tree.map(lambda x: -x, loud["head"])}
    assert np.min(actor.apply(quiet, jnp.ones(4)).log_std) == -20.0


def test_an_action_of_noise_has_its_density_and_keeps_its_gradient_at_the_bounds():
    d = SquashedNormal(jnp.array([0.3, -1.0]), jnp.array([-0.5, 0.2]), SPACE)
    action, log_prob = d.at(jnp.array([0.7, -1.1]))
    assert float(log_prob) == pytest.approx(float(d.log_prob(action)), rel=1e-4)
    far = SquashedNormal(jnp.array([30.0, 0.0]), d.log_std, SPACE)
    action, log_prob = far.at(jnp.zeros(2))
    assert float(action[0]) == 2.0
    slope = jax.grad(lambda m: SquashedNormal(m, d.log_std, SPACE).at(jnp.zeros(2))[1])(far.mean)
    # Far out the density of tanh(u) falls by a factor e² with every unit of u.
    assert float(slope[0]) == pytest.approx(2.0, rel=1e-5)
    assert np.isfinite(log_prob)


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_on_a_bandit_the_policy_comes_near_exp_of_value_over_temperature(alpha):
    """One step, reward -2 (a - 0.4)²: the soft-optimal density is known up to a constant."""
    space = Box(-1.0, 1.0, (1,))
    actor, critics = gaussian_actor(1, space, MLP((16,))), twin_critics(1, space, MLP((32, 32)))
    keys = jax.random.split(jax.random.key(1), 3)
    learner = first_learner(actor.init(keys[0]), critics.init(keys[1]), alpha)
    rate = jnp.float32(3e-3)
    settings = SoftSettings(128, jnp.float32(0.9), 0.01, -1.0, (rate, None, rate))

    def one(learner, key):
        action_key, noise_key = jax.random.split(key)
        action = jax.random.uniform(action_key, (128, 1), minval=-1.0)
        seen, ended = jnp.ones((128, 1)), jnp.ones(128, bool)
        reward = -2.0 * (action[:, 0] - 0.4) ** 2
        noise = jax.random.normal(noise_key, (128, 2, 1))
        batch = Minibatch(seen, action, reward, ended, seen, noise)
        return soft_step(actor, critics, settings, learner, batch)

    learner, _ = jax.jit(lambda s, k: jax.lax.scan(one, s, k))(
        learner, jax.random.split(keys[2], 1500)
    )
    distribution = actor.apply(learner.actor, jnp.ones(1))

    def density(a):
        return np.exp(-2.0 * (a - 0.4) ** 2 / alpha)

    mass = integrate.quad(density, -1, 1)[0]
    actions = np.linspace(-0.999, 0.999, 2001, dtype=np.float32)
    log_prob = np.asarray(jax.vmap(distribution.log_prob)(actions[:, None]), np.float64)
    weights = np.exp(log_prob) * (actions[1] - actions[0])
    exact = np.log(density(actions.astype(np.float64)) / mass)

    def divergence(mean, log_std):
        """From the exact density, of the squashed normal with these parameters."""
        u = np.arctanh(actions.astype(np.float64))
        log_prob = stats.norm(mean, np.exp(log_std)).logpdf(u) - np.log1p(-(np.tanh(u) ** 2))
        return np.sum(np.exp(log_prob) * (log_prob - exact)) * (actions[1] - actions[0])

    best = optimize.minimize(lambda x: divergence(*x), [0.4, -0.7], method="Nelder-Mead").fun
    learned = np.sum(weights * (log_prob - exact))
    assert best - 1e-3 < learned < best + 0.02
    # One that takes α for half of what it is, is further away than that.
    other = exact * 2 - np.log(np.sum(np.exp(exact * 2)) * (actions[1] - actions[0]))
    assert np.sum(weights * (log_prob - other)) > learned + 0.05
