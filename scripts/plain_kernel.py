"""RL² on two families as one would write it by hand: the yardstick of ``benchmark.py``.

One file, batched arrays, automatic differentiation, no options: a GRU of H units with heads for
policy and value, trials under one scan, GAE along the trial, PPO on whole trials with Adam, the
environment written into the loop. The mathematics, sizes and counts are those of
``jaxmeta.RL2`` with its defaults; everything that makes a library is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

STATES, ACTIONS, STEPS = 10, 5, 10  # of the tabular decision process


def bandit(arms: int, tasks: int, key: Array) -> tuple:
    """Returns observation size, actions, reset and step for a batch of Bernoulli bandits."""
    chance = jax.random.uniform(key, (tasks, arms))

    def step(state: Array, action: Array, time: Array, key: Array) -> tuple[Array, Array, Array]:
        paid = jax.random.uniform(key, (tasks,)) < jnp.take_along_axis(
            chance, action[:, None], axis=1
        ).squeeze(1)
        return state, paid.astype(jnp.float32), jnp.ones(tasks, bool)

    return 1, arms, step


def tabular(tasks: int, key: Array) -> tuple:
    """The same for decision processes with normal rewards and Dirichlet transitions."""
    mean_key, move_key = jax.random.split(key)
    mean = 1.0 + jax.random.normal(mean_key, (tasks, STATES, ACTIONS))
    weights = jax.random.exponential(move_key, (tasks, STATES, ACTIONS, STATES))
    logits = jnp.log(weights / weights.sum(-1, keepdims=True))
    rows = jnp.arange(tasks)

    def step(state: Array, action: Array, time: Array, key: Array) -> tuple[Array, Array, Array]:
        noise_key, move_key = jax.random.split(key)
        reward = mean[rows, state, action] + jax.random.normal(noise_key, (tasks,))
        state = jax.random.categorical(move_key, logits[rows, state, action])
        done = jnp.broadcast_to(time % STEPS == STEPS - 1, (tasks,))
        return jnp.where(done, 0, state), reward, done

    return STATES, ACTIONS, step


def init(key: Array, inputs: int, hidden: int, actions: int) -> dict[str, Array]:
    """Returns parameters."""
    keys = jax.random.split(key, 3)
    return {
        "w": jax.random.normal(keys[0], (inputs, 3 * hidden)) / inputs**0.5,
        "u": jax.random.normal(keys[1], (hidden, 3 * hidden)) / hidden**0.5,
        "b": jnp.zeros(3 * hidden),
        "c": jnp.zeros(hidden),
        "policy": 0.01 * jax.random.normal(keys[2], (hidden, actions)),
        "policy_bias": jnp.zeros(actions),
        "value": jnp.zeros((hidden, 1)),
        "value_bias": jnp.zeros(1),
    }


def cell(p: dict[str, Array], h: Array, x: Array) -> Array:
    """One step of the GRU on a batch."""
    xr, xz, xn = jnp.split(x @ p["w"] + p["b"][None], 3, axis=-1)
    hr, hz, hn = jnp.split(h @ p["u"], 3, axis=-1)
    z = jax.nn.sigmoid(xz + hz)
    n = jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * (hn + p["c"][None]))
    return z * h + (1.0 - z) * n


def heads(p: dict[str, Array], h: Array) -> tuple[Array, Array]:
    """Logits and values."""
    axes = (None,) * (h.ndim - 1)
    logits = h @ p["policy"] + p["policy_bias"][axes]
    return logits, (h @ p["value"] + p["value_bias"][axes]).squeeze(-1)


def make(
    family: str, hidden: int, tasks: int, length: int, epochs: int = 4, minibatches: int = 4
) -> tuple[Callable[[Array], Any], Callable[..., Any], Callable[..., Any]]:
    """Returns ``init(key)``, ``rollout(params, key)`` and ``update(state, key)``."""

    def make_env(key: Array) -> tuple:
        return bandit(5, tasks, key) if family == "bernoulli-bandit" else tabular(tasks, key)

    sizes = make_env(jax.random.key(0))
    observations, actions = sizes[0], sizes[1]
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3, eps=1e-5))

    def encode(obs: Array, action: Array, reward: Array, done: Array) -> Array:
        parts = jax.nn.one_hot(obs, observations), jax.nn.one_hot(action, actions)
        flags = jnp.stack([reward, done.astype(jnp.float32), done.astype(jnp.float32)], axis=-1)
        return jnp.concatenate([*parts, flags], axis=-1)

    def rollout(params: dict[str, Array], key: Array) -> tuple[dict[str, Array], Array]:
        env_key, key = jax.random.split(key)
        _, _, step = make_env(env_key)

        def body(carry: tuple, row: tuple) -> tuple[tuple, dict[str, Array]]:
            state, h, action, reward, done = carry
            time, key = row
            act_key, env_key = jax.random.split(key)
            x = encode(state, action, reward, done)
            h = cell(params, h, x)
            logits, value = heads(params, h)
            action = jax.random.categorical(act_key, logits)
            log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)
            state, reward, done = step(state, action, time, env_key)
            out = {"x": x, "action": action, "log_prob": log_prob.squeeze(1), "value": value}
            return (state, h, action, reward, done), out | {"reward": reward}

        zero = jnp.zeros(tasks)
        start = (
            jnp.zeros(tasks, jnp.int32),
            jnp.zeros((tasks, hidden)),
            jnp.zeros(tasks, jnp.int32),
            zero,
            jnp.zeros(tasks, bool),
        )
        rows = jnp.arange(length), jax.random.split(key, length)
        carry, data = jax.lax.scan(body, start, rows)
        h = cell(params, carry[1], encode(carry[0], carry[2], carry[3], carry[4]))
        return data, heads(params, h)[1]

    def update(state: tuple, key: Array) -> tuple[tuple, Array]:
        params, opt_state, mean, std = state
        play_key, order_key = jax.random.split(key)
        data, beyond = rollout(params, play_key)
        values = jnp.concatenate([data["value"], beyond[None]]) * std + mean

        def gae(trace: Array, row: tuple) -> tuple[Array, Array]:
            reward, value, after = row
            trace = reward + 0.99 * after - value + 0.99 * 0.3 * trace
            return trace, trace

        rows = data["reward"], values[:-1], values[1:]
        advantage = jax.lax.scan(gae, jnp.zeros(tasks), rows, reverse=True)[1]
        target = advantage + values[:-1]
        mean, std = 0.9 * mean + 0.1 * target.mean(), 0.9 * std + 0.1 * target.std()
        data |= {
            "advantage": (advantage - advantage.mean()) / (advantage.std() + 1e-8),
            "target": (target - mean) / std,
        }
        parts = jax.tree.map(
            lambda a: jnp.moveaxis(a.reshape(length, -1, minibatches, *a.shape[2:]), 2, 0), data
        )

        def loss(params: dict[str, Array], part: dict[str, Array]) -> Array:
            def body(h: Array, x: Array) -> tuple[Array, Array]:
                h = cell(params, h, x)
                return h, h

            h0 = jnp.zeros((tasks // minibatches, hidden))
            logits, value = heads(params, jax.lax.scan(body, h0, part["x"])[1])
            log_probs = jax.nn.log_softmax(logits)
            log_prob = jnp.take_along_axis(log_probs, part["action"][..., None], 2).squeeze(2)
            ratio, gain = jnp.exp(log_prob - part["log_prob"]), part["advantage"]
            surrogate = jnp.minimum(ratio * gain, jnp.clip(ratio, 0.8, 1.2) * gain)
            entropy = -(jnp.exp(log_probs) * log_probs).sum(-1)
            error = 0.5 * (value - part["target"]) ** 2
            return jnp.mean(0.5 * error - surrogate - 0.01 * entropy)

        def step(carry: tuple, index: Array) -> tuple[tuple, None]:
            params, opt_state = carry
            grads = jax.grad(loss)(params, jax.tree.map(lambda a: a[index], parts))
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        orders = jax.vmap(lambda k: jax.random.permutation(k, minibatches))(
            jax.random.split(order_key, epochs)
        )
        (params, opt_state), _ = jax.lax.scan(step, (params, opt_state), orders.reshape(-1))
        return (params, opt_state, mean, std), data["reward"].sum(0).mean()

    def first(key: Array) -> tuple:
        params = init(key, observations + actions + 3, hidden, actions)
        return params, optimizer.init(params), jnp.float32(0.0), jnp.float32(1.0)

    return first, rollout, update
