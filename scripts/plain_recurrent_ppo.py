"""Recurrent PPO on CartPole-v1 in one JAX file, as it is usually published.

The yardstick of ``benchmark.py --families cartpole``: flax modules, ``nn.scan`` over the steps
with a memory that ``done`` empties, gymnax's own environment with its reset inside the step,
GAE, minibatches of shuffled environments, optax. Network, epochs, minibatches and sizes are those
that ``RL2`` is measured with; nothing else was made faster or slower than usual.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
import optax
from jax import Array

GAMMA, LAMBDA, CLIP = 0.99, 0.95, 0.2
ENTROPY, VALUE, GRAD_NORM, LEARNING_RATE = 0.01, 0.5, 1.0, 1e-3


class Step(NamedTuple):
    """What is stored of a step of all environments, ``[B, ...]``."""

    start: Array
    obs: Array
    action: Array
    reward: Array
    done: Array
    log_prob: Array
    value: Array


class ResettingGRU(nn.Module):
    """A GRU along time, ``[T, B, ...]``, emptied where an episode starts."""

    hidden: int

    @functools.partial(
        nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False}
    )
    @nn.compact
    def __call__(self, h: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        x, start = row
        h = jnp.where(start[:, None], jnp.zeros_like(h), h)
        return nn.GRUCell(self.hidden)(h, x)


class Network(nn.Module):
    """Memory, policy and value."""

    hidden: int
    actions: int

    @nn.compact
    def __call__(self, h: Array, obs: Array, start: Array) -> tuple[Array, Array, Array]:
        h, features = ResettingGRU(self.hidden)(h, (obs, start))
        logits = nn.Dense(self.actions, kernel_init=nn.initializers.orthogonal(0.01))(features)
        value = nn.Dense(1, kernel_init=nn.initializers.orthogonal(1.0))(features)
        return h, logits, value.squeeze(-1)


def make(
    hidden: int, envs: int, length: int, epochs: int = 4, minibatches: int = 4
) -> tuple[Callable[[Array], Any], Callable[..., Any]]:
    """Returns ``init(key)`` and ``update(state, key)``, which plays and learns."""
    env, env_params = gymnax.make("CartPole-v1")
    network: Any = Network(hidden, env.num_actions)
    optimizer = optax.chain(
        optax.clip_by_global_norm(GRAD_NORM), optax.adam(LEARNING_RATE, eps=1e-5)
    )

    def init(key: Array) -> tuple:
        net_key, env_key = jax.random.split(key)
        obs, env_state = jax.vmap(env.reset, (0, None))(jax.random.split(env_key, envs), env_params)
        h, start = jnp.zeros((envs, hidden)), jnp.ones(envs, bool)
        params = network.init(net_key, h, obs[None], start[None])
        return params, optimizer.init(params), env_state, obs, start, h

    def play(params: Any, loop: tuple, key: Array) -> tuple[tuple, Step]:
        env_state, obs, start, h = loop
        act_key, env_key = jax.random.split(key)
        h, logits, value = network.apply(params, h, obs[None], start[None])
        action = jax.random.categorical(act_key, logits[0])
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits[0]), action[:, None], 1)[:, 0]
        keys = jax.random.split(env_key, envs)
        new_obs, env_state, reward, terminated, truncated, _ = jax.vmap(env.step, (0, 0, 0, None))(
            keys, env_state, action, env_params
        )
        done = terminated | truncated
        step = Step(start, obs, action, reward, done, log_prob, value[0])
        return (env_state, new_obs, done, h), step

    def advantages(steps: Step, last_value: Array) -> Array:
        def backwards(after: tuple, step: Step) -> tuple[tuple, Array]:
            advantage, value = after
            going = 1.0 - step.done
            delta = step.reward + GAMMA * going * value - step.value
            advantage = delta + GAMMA * LAMBDA * going * advantage
            return (advantage, step.value), advantage

        start = jnp.zeros_like(last_value), last_value
        return jax.lax.scan(backwards, start, steps, reverse=True)[1]

    def loss(params: Any, h: Array, steps: Step, advantage: Array) -> Array:
        _, logits, value = network.apply(params, h, steps.obs, steps.start)
        log_probs = jax.nn.log_softmax(logits)
        log_prob = jnp.take_along_axis(log_probs, steps.action[..., None], 2)[..., 0]
        target, ratio = advantage + steps.value, jnp.exp(log_prob - steps.log_prob)
        clipped_value = steps.value + jnp.clip(value - steps.value, -CLIP, CLIP)
        error = 0.5 * jnp.maximum((value - target) ** 2, (clipped_value - target) ** 2)
        gain = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        surrogate = jnp.minimum(ratio * gain, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * gain)
        entropy = -(jnp.exp(log_probs) * log_probs).sum(-1)
        return jnp.mean(VALUE * error - surrogate - ENTROPY * entropy)

    def update(state: tuple, key: Array) -> tuple[tuple, Array]:
        params, opt_state, *loop = state
        play_key, order_key = jax.random.split(key)
        h0 = loop[-1]
        loop, steps = jax.lax.scan(
            functools.partial(play, params), tuple(loop), jax.random.split(play_key, length)
        )
        _, obs, start, h = loop
        last_value = network.apply(params, h, obs[None], start[None])[2][0]
        advantage = advantages(steps, last_value)

        def epoch(carry: tuple, key: Array) -> tuple[tuple, None]:
            order = jax.random.permutation(key, envs)

            def partition(x: Array, axis: int) -> Array:
                x = jnp.take(x, order, axis=axis)
                shape = (*x.shape[:axis], minibatches, -1, *x.shape[axis + 1 :])
                return jnp.moveaxis(x.reshape(shape), axis, 0)

            parts = (
                partition(h0, 0),
                *jax.tree.map(lambda x: partition(x, 1), (steps, advantage)),
            )

            def step(carry: tuple, part: tuple) -> tuple[tuple, None]:
                params, opt_state = carry
                grads = jax.grad(loss)(params, *part)
                updates, opt_state = optimizer.update(grads, opt_state, params)
                return (optax.apply_updates(params, updates), opt_state), None

            return jax.lax.scan(step, carry, parts)

        learned, _ = jax.lax.scan(epoch, (params, opt_state), jax.random.split(order_key, epochs))
        # An episode ends where done: the mean length of those that ended.
        length_of_episodes = steps.reward.sum() / jnp.maximum(steps.done.sum(), 1)
        return (*learned, *loop), length_of_episodes

    return init, update
