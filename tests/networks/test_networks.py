"""The recurrent cell against a float64 rewrite, and what the agent is shown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta.networks import GRU, recurrent_actor_critic
from jaxmeta.networks.actor_critic import (
    InputMoments,
    encode_input,
    first_input_moments,
    input_size,
    normalized,
    seen_observation,
)
from jaxmeta.networks.initializers import orthogonal
from jaxmeta.ops.moments import Moments
from jaxmeta_envs import PolicyInput
from jaxmeta_envs.bandits.independent import BernoulliBandit
from tests.toy_families import Counter, Target
from tests.toy_spaces import DONE, MIXED, SEEN, AnySpaces

FAMILY = BernoulliBandit(num_arms=3, num_pulls=4)
RAW = InputMoments(None, None)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def test_the_gru_is_the_one_in_its_docstring():
    memory = GRU(hidden_size=5)
    params = memory.init(jax.random.key(0), 4)
    # Biases start at zero or a constant; move everything so that a lost term shows.
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(1), p.shape), params)
    h, x = jax.random.normal(jax.random.key(2), (5,)), jax.random.normal(jax.random.key(3), (4,))
    carry, features = memory.step(params, h, x)

    p = jax.tree.map(np.float64, params["params"])
    wr, wz, wn = np.split(p["input_kernel"], 3, axis=1)
    ur, uz, un = np.split(p["hidden_kernel"], 3, axis=1)
    br, bz, bn = np.split(p["bias"], 3)
    h64, x64 = np.float64(h), np.float64(x)
    r, z = sigmoid(x64 @ wr + h64 @ ur + br), sigmoid(x64 @ wz + h64 @ uz + bz)
    n = np.tanh(x64 @ wn + bn + r * (h64 @ un + p["hidden_bias"]))
    np.testing.assert_allclose(carry, z * h64 + (1 - z) * n, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(carry, features)


def test_every_gate_starts_with_an_orthogonal_recurrent_matrix():
    u = GRU(6).init(jax.random.key(0), 2)["params"]["hidden_kernel"]
    for gate in np.split(np.asarray(u), 3, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(6), atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (3, 50), (50, 1)])
def test_orthogonal_matrices_are_orthogonal(shape):
    w = np.float64(orthogonal(2.0)(jax.random.key(0), shape)) / 2.0
    short = w @ w.T if shape[0] <= shape[1] else w.T @ w
    np.testing.assert_allclose(short, np.eye(min(shape)), atol=1e-6)


def test_initialisation_calls_no_factorisation():
    """Batched LAPACK calls can deadlock on several host devices, see `orthogonal`."""
    network = recurrent_actor_critic(FAMILY, GRU(4), value_network="separate")
    program = jax.jit(jax.vmap(network.init)).lower(jax.random.split(jax.random.key(0), 2))
    assert "lapack" not in program.as_text()


def test_the_update_bias_lets_gradients_reach_back():
    def reach(update_bias):
        memory = GRU(32, update_bias)
        params = memory.init(jax.random.key(0), 3)
        xs = jax.random.normal(jax.random.key(1), (20, 3))

        def last(h):
            return jax.lax.scan(lambda h, x: memory.step(params, h, x), h, xs)[0].sum()

        return jnp.linalg.norm(jax.grad(last)(memory.initial_carry(3)))

    assert reach(1.0) > 5 * reach(0.0)


def test_the_agent_sees_observation_action_reward_and_flags():
    inputs = PolicyInput(
        jnp.int32(0), jnp.int32(2), jnp.float32(0.5), jnp.asarray(True), jnp.asarray(False)
    )
    seen = encode_input(FAMILY, inputs, RAW)
    np.testing.assert_array_equal(seen, [1.0, 0.0, 0.0, 1.0, 0.5, 1.0, 0.0])
    assert len(seen) == input_size(FAMILY)
    blind = encode_input(FAMILY, inputs, RAW, observe_reward=False)
    np.testing.assert_array_equal(blind, [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0])


def test_only_real_numbers_of_a_mixed_observation_are_normalised():
    real = MIXED.real
    moments = Moments(jnp.full(MIXED.flat_size, 2.0), jnp.full(MIXED.flat_size, 9.0), jnp.ones(()))
    obs = MIXED.sample(jax.random.key(0))
    flat, seen = MIXED.flatten(obs), seen_observation(MIXED, obs, moments)
    np.testing.assert_array_equal(seen[~real], flat[~real])
    np.testing.assert_array_equal(seen[real], normalized(flat, moments)[real])
    assert np.all(seen[real] != flat[real])
    assert first_input_moments(AnySpaces(MIXED, DONE["vector"]), True, False)["inputs"].obs
    for name in ("discrete", "multi-discrete"):
        assert not first_input_moments(AnySpaces(SEEN[name], DONE["vector"]), True, False)


def test_the_agent_sees_each_of_several_integers_that_it_did():
    family = AnySpaces(SEEN["discrete"], DONE["multi-discrete"])
    did, no = jnp.array([1, 2], jnp.int32), jnp.asarray(False)
    inputs = PolicyInput(jnp.int32(0), did, jnp.float32(0.0), no, no)
    np.testing.assert_array_equal(
        encode_input(family, inputs, RAW), [1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0]
    )


def test_without_moments_observations_are_passed_as_they_are():
    family = Counter()
    inputs = PolicyInput(
        jnp.array([3.0]), jnp.int32(1), jnp.float32(0.0), jnp.asarray(False), jnp.asarray(True)
    )
    np.testing.assert_array_equal(encode_input(family, inputs, RAW), [3, 0, 1, 0, 0, 0, 1])
    assert input_size(Target()) == 1 + 1 + 3


@pytest.mark.parametrize("value_network", ["shared", "separate"])
def test_the_first_policy_is_nearly_uniform(value_network):
    network = recurrent_actor_critic(FAMILY, GRU(16), value_network=value_network)
    params = network.init(jax.random.key(0))
    inputs = PolicyInput(
        jnp.int32(0), jnp.int32(1), jnp.float32(1.0), jnp.asarray(True), jnp.asarray(True)
    )
    _, output = network.step(params, network.begin(params), inputs)
    np.testing.assert_allclose(np.exp(output.distribution.log_probs), 1 / 3, atol=0.01)


def test_separate_networks_share_nothing():
    network = recurrent_actor_critic(FAMILY, GRU(4), value_network="separate")
    params = network.init(jax.random.key(0))
    inputs = PolicyInput(
        jnp.int32(0), jnp.int32(1), jnp.float32(1.0), jnp.asarray(True), jnp.asarray(True)
    )
    value_grads = jax.grad(lambda p: network.step(p, network.begin(p), inputs)[1].value)(params)
    touched = jax.tree.map(lambda g: bool(jnp.any(g != 0)), value_grads)
    assert not any(jax.tree.leaves(touched["memory"]["policy"]))
    assert any(jax.tree.leaves(touched["memory"]["value"]))


def test_memory_reset_at_episode_start_forgets():
    network = recurrent_actor_critic(FAMILY, GRU(4), memory_reset="episode")
    params = network.init(jax.random.key(0))
    for start in (True, False):
        inputs = PolicyInput(
            jnp.int32(0), jnp.int32(1), jnp.float32(1.0), jnp.asarray(True), jnp.asarray(start)
        )
        fresh, _ = network.step(params, network.begin(params), inputs)
        filled, _ = network.step(params, {"policy": jnp.ones(4)}, inputs)
        assert bool(jnp.all(fresh["policy"] == filled["policy"])) == start
        other, _ = network.step(
            params, network.begin(params), inputs._replace(prev_reward=jnp.float32(0.0))
        )
        assert bool(jnp.all(fresh["policy"] == other["policy"])) == start


def test_an_empty_memory_is_refused():
    with pytest.raises(jaxmeta.ConfigError, match="hidden_size is 0"):
        GRU(0)
