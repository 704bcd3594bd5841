"""Entropy and anchor terms of policies that adapt, against NumPy and finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.algorithms.policy_maml import MetaInputs, PolicyMAML
from jaxmeta.networks import MLP
from jaxmeta.parts.estimators import EMAML, LVC, LogLikelihood
from jaxmeta.parts.inner_loop import SGD, InnerLoop
from jaxmeta.parts.objective import PolicyObjective, prior_policy
from jaxmeta.parts.optimizers.contract import Batch
from jaxmeta.parts.optimizers.ppo import PPO
from jaxmeta.testing import ToyFamily, check_algorithm
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.core.spaces import Box, Discrete
from tests.policy_numpy import (
    dense_layers,
    entropy_and_kl,
    layers,
    log_probs,
    made_up_data,
    slopes,
    spoken,
)

WANTED = PolicyObjective(entropy_coef=0.3, anchor_coef=0.7, outer_anchor_coef=0.4)
TINY = PolicyMAML(
    num_tasks=4,
    shots=2,
    network=MLP((3,), "tanh"),
    actions="clipped",  # normals, as in the NumPy rewrite
    baseline=MLP((3,), "tanh"),
    optimizer=PPO(epochs=1, minibatches=2),
    inner=InnerLoop(steps=2, optimizer=SGD(0.2)),
    objective=WANTED,
    normalize_observations=False,
)


def numpy_loss(params, initial, data, wanted, continuous):
    """What an inner step descends, written again in NumPy, float64."""
    kept = np.asarray(data.mask)
    obs, action, behaviour, advantage, target = (
        np.asarray(x)[kept]
        for x in (data.inputs.obs, data.action, data.behaviour, data.advantage, data.target)
    )
    said = spoken(params, obs, continuous)
    if wanted.anchor == "initial":
        anchor = spoken(initial, obs, continuous)
    else:
        anchor = (np.zeros(len(obs)), 0.0) if continuous else np.full((len(obs), 3), -LOG_3)
    entropy, kl = entropy_and_kl(said, anchor, continuous)
    ratio = np.exp(log_probs(said, action, continuous) - behaviour)
    value = layers(dense_layers(params, "value"), obs)[:, 0]
    wished = ratio * advantage + wanted.entropy_coef * entropy - wanted.anchor_coef * kl
    return -wished.mean() + 0.5 * 0.5 * ((value - target) ** 2).mean()


LOG_3 = np.log(3.0)


@pytest.fixture
def wide():
    with jax.enable_x64(True):
        yield


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(
    ("continuous", "anchor"),
    [
        (False, "initial"),
        (True, "prior"),
        pytest.param(False, "prior", marks=pytest.mark.slow),
        pytest.param(True, "initial", marks=pytest.mark.slow),
    ],
)
def test_steps_follow_the_numpy_objective_and_its_finite_differences(continuous, anchor):
    """Two steps; at the second the policy differs from the one that adaptation began with."""
    wanted = dataclasses.replace(WANTED, anchor=anchor)
    algorithm, family = dataclasses.replace(TINY, objective=wanted), ToyFamily(continuous)
    rng = np.random.default_rng(0)
    adaptation = algorithm._adaptation(family)
    meta = algorithm.inner.init(
        jax.random.key(1),
        jax.tree.map(
            lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.5),
            adaptation.network.init(jax.random.key(0)),
        ),
    )
    data = [made_up_data(family, rng) for _ in range(2)]
    flat, unravel = jax.flatten_util.ravel_pytree(meta.initial)
    flat = np.asarray(flat)
    current = flat
    for rows in data:

        def loss(x, rows=rows):
            return numpy_loss(unravel(x), meta.initial, rows, wanted, continuous)

        ours = jax.jit(adaptation._loss(meta))(unravel(current), rows)
        np.testing.assert_allclose(ours, loss(current), rtol=1e-10)
        current = current - 0.2 * slopes(loss, current)
    adapted = jax.jit(adaptation.run)(meta, jax.tree.map(lambda *x: jnp.stack(x), *data))
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(adapted)[0], current, atol=1e-8)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(
    ("continuous", "estimator"),
    [
        (False, LVC()),
        (True, EMAML()),
        pytest.param(True, LogLikelihood(), marks=pytest.mark.slow),
    ],
)
def test_the_outer_objective_is_differentiated_through_the_steps(continuous, estimator):
    """The penalty of the outer loop, as a function of where adaptation begins."""
    algorithm, family = dataclasses.replace(TINY, estimator=estimator), ToyFamily(continuous)
    rng = np.random.default_rng(1)
    adaptation = algorithm._adaptation(family)
    initial = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.5),
        adaptation.network.init(jax.random.key(0)),
    )
    meta = algorithm.inner.init(jax.random.key(1), initial)
    inner = jax.tree.map(
        lambda *x: jnp.stack(x)[None], *(made_up_data(family, rng) for _ in range(2))
    )
    after = jax.tree.map(lambda x: x.reshape(1, 6, *x.shape[2:]), made_up_data(family, rng))
    before = jax.jit(jax.vmap(adaptation.inner_policies, (None, 0)))(meta, inner)
    inputs = MetaInputs(after.inputs, inner, before, jnp.ones((1, 2)), jnp.ones((1, 2)))
    zero = jnp.zeros((1, 6))
    batch = Batch(inputs, after.action, zero, zero, zero, after.mask, jnp.ones(1))
    penalty = algorithm._penalty(adaptation)

    flat, unravel = jax.flatten_util.ravel_pytree(meta)

    def outer(x):
        return penalty(unravel(x), batch)[0]

    gradient = np.asarray(jax.jit(jax.grad(outer))(flat))
    flat = np.asarray(flat)
    fast = jax.jit(outer)
    np.testing.assert_allclose(gradient, slopes(fast, flat), rtol=1e-6, atol=1e-8)
    if not estimator.credits_sampling:
        adapted = jax.jit(adaptation.run)(meta, jax.tree.map(lambda x: x[0], inner))
        obs = np.asarray(after.inputs.obs)[np.asarray(after.mask)]
        said, anchor = (spoken(p, obs, continuous) for p in (adapted, initial))
        kl = entropy_and_kl(said, anchor, continuous)[1].mean()
        np.testing.assert_allclose(fast(flat), 0.4 * kl, rtol=1e-10)
        assert kl > 1e-3


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("kept", [0, 1, None])
def test_the_policies_that_play_are_differentiated_through_the_steps_that_count(kept):
    """Of three steps the last ``kept``, as in what the steps lead to: no mixture of orders."""
    inner = InnerLoop(steps=3, optimizer=SGD(0.2), second_order_steps=kept)
    adaptation = dataclasses.replace(TINY, inner=inner)._adaptation(ToyFamily())
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda x: x + 0.5, adaptation.network.init(jax.random.key(0)))
    meta = inner.init(jax.random.key(1), jax.tree.map(jnp.float64, params))
    data = [made_up_data(adaptation.family, rng) for _ in range(3)]
    weights = jnp.asarray(rng.normal(size=(3, 2, 3)))

    def by_hand(initial):
        params, said = initial, []
        for k, rows in enumerate(data):
            said.append(adaptation.network.replay(params, rows.inputs, rows.mask)[0].log_probs)
            slope = jax.grad(adaptation._loss(meta._replace(initial=initial)))(params, rows)
            if kept is not None and k < 3 - kept:
                slope = jax.lax.stop_gradient(slope)
            params = jax.tree.map(lambda x, g: x - 0.2 * g, params, slope)
        return jnp.stack(said)

    def ours(initial):
        rows = jax.tree.map(lambda *x: jnp.stack(x), *data)
        return adaptation.inner_policies(meta._replace(initial=initial), rows).log_probs

    def slope(function):
        weighed = lambda x: jnp.sum(weights[..., None] * function(x)[..., :1])  # noqa: E731
        return jax.flatten_util.ravel_pytree(jax.jit(jax.grad(weighed))(meta.initial))[0]

    np.testing.assert_allclose(slope(ours), slope(by_hand), rtol=1e-9, atol=1e-12)


def test_an_anchor_where_adaptation_begins_does_not_pull_in_the_first_step():
    """And the prior does."""
    rng, family = np.random.default_rng(2), ToyFamily()
    moves = []
    for wanted in (
        PolicyObjective(),
        PolicyObjective(anchor_coef=5.0),
        PolicyObjective(anchor_coef=5.0, anchor="prior"),
    ):
        adaptation = dataclasses.replace(TINY, objective=wanted)._adaptation(family)
        params = jax.tree.map(lambda x: x + 0.5, adaptation.network.init(jax.random.key(0)))
        meta, data = TINY.inner.init(jax.random.key(1), params), made_up_data(family, rng)
        fast = jax.jit(adaptation._step)(meta, TINY.inner.begin(meta), data)
        moves.append(jax.flatten_util.ravel_pytree(fast.params)[0])
        rng = np.random.default_rng(2)
    np.testing.assert_allclose(moves[0], moves[1], atol=1e-6)
    assert np.max(np.abs(moves[0] - moves[2])) > 1e-3


def test_priors_know_nothing():
    uniform = prior_policy(Discrete(4), "squashed")
    np.testing.assert_allclose(np.exp(uniform.log_probs), 0.25, rtol=1e-6)
    space = Box(100.0, 101.0, (2,))
    normal = prior_policy(space, "clipped")
    np.testing.assert_array_equal(normal.mean, np.full(2, 100.5))
    np.testing.assert_allclose(np.exp(normal.log_std), 0.5, rtol=1e-6)
    squashed = prior_policy(space, "squashed")
    np.testing.assert_array_equal(squashed.mode(), np.full(2, 100.5))
    draws = jax.vmap(squashed.sample)(jax.random.split(jax.random.key(0), 4000))
    assert np.std(draws) == pytest.approx(0.5 * 0.628, abs=0.01)  # of tanh of a standard normal


@pytest.mark.slow
def test_an_actor_and_critic_with_all_terms_keep_the_contract_of_an_algorithm():
    check_algorithm(TINY)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"entropy_coef": -0.1}, r"entropy_coef is -0.1.*at least 0"),
        ({"anchor_coef": -1.0}, "anchor_coef is -1.0"),
        ({"outer_anchor_coef": -1.0}, "outer_anchor_coef is -1.0"),
        ({"anchor": "last"}, "anchor is 'last'.*initial, prior"),
    ],
)
def test_impossible_settings_are_refused(bad, message):
    with pytest.raises(ConfigError, match=message):
        PolicyObjective(**bad)


@pytest.mark.usefixtures("wide")
def test_the_inner_penalty_is_the_divergence_of_what_played_from_what_would_now():
    """Charged, of each task by its weight, and from the former to the latter: KL(played ‖ now)."""
    algorithm = dataclasses.replace(TINY, kl_coef=0.3, objective=PolicyObjective())
    adaptation, rng = algorithm._adaptation(ToyFamily()), np.random.default_rng(5)
    played, now = (
        algorithm.inner.init(
            jax.random.key(1),
            jax.tree.map(
                lambda x: jnp.asarray(rng.normal(size=x.shape)),
                adaptation.network.init(jax.random.key(0)),
            ),
        )
        for _ in range(2)
    )
    data = [made_up_data(adaptation.family, rng) for _ in range(2)]
    inner = jax.tree.map(lambda *x: jnp.stack(x)[None], *data)
    before = jax.vmap(adaptation.inner_policies, (None, 0))(played, inner)
    after = jax.tree.map(lambda x: x.reshape(1, 6, *x.shape[2:]), data[0])
    nothing = jnp.zeros((1, 2))
    inputs = MetaInputs(after.inputs, inner, before, nothing, nothing)
    zero = jnp.zeros((1, 6))
    batch = Batch(inputs, after.action, zero, zero, zero, after.mask, jnp.full(1, 2.0))
    found = algorithm._penalty(adaptation)(now, batch)

    one = dataclasses.replace(algorithm, inner=InnerLoop(steps=1, optimizer=SGD(0.2)))
    only = inputs._replace(
        inner=jax.tree.map(lambda x: x[:, :1], inner),
        before=jax.tree.map(lambda x: x[:, :1], before),
        credit=nothing[:, :1],
        gain_scale=nothing[:, :1],
    )
    found_one = one._penalty(one._adaptation(adaptation.family))(now, batch._replace(inputs=only))
    kept = np.asarray(data[0].mask)
    obs = np.asarray(data[0].inputs.obs)[kept]
    said = [spoken(x.initial, obs, False) for x in (played, now)]
    forward, reverse = (entropy_and_kl(*x, False)[1].mean() for x in (said, said[::-1]))
    assert abs(forward - reverse) > 0.1 * forward
    np.testing.assert_allclose(found_one, [2.0 * 0.3 * forward], rtol=1e-9)
    assert found[0] > found_one[0]  # the second step's comes on top
