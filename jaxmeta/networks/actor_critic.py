"""A recurrent actor and critic over what an adaptive agent sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks.encoder import MLP
from jaxmeta.networks.initializers import orthogonal
from jaxmeta.networks.memory import Memory, unroll_truncated
from jaxmeta.ops.distributions import Categorical, Distribution, Normal
from jaxmeta.ops.trees import select
from jaxmeta_envs.base import PolicyInput, TaskFamily
from jaxmeta_envs.spaces import Discrete, Space


class ActorCriticOutput(NamedTuple):
    """What the network says about one input.

    Attributes:
        distribution: Over actions.
        value: Value estimate, in the units of the value normaliser.
    """

    distribution: Distribution
    value: Array


class ActorCritic(NamedTuple):
    """A network as three pure functions.

    Attributes:
        init: ``key -> params``.
        begin: ``params -> carry`` at trial start.
        step: ``(params, carry, PolicyInput) -> (carry, ActorCriticOutput)``.
        replay: ``(params, inputs [B, L], played [B, L]) -> ActorCriticOutput [B, L]``: what
            ``step`` says along B stored trials, from trial start.
    """

    init: Callable[[Array], Any]
    begin: Callable[[Any], Any]
    step: Callable[[Any, Any, PolicyInput], tuple[Any, ActorCriticOutput]]
    replay: Callable[[Any, PolicyInput, Array], ActorCriticOutput]


def encode_input(family: TaskFamily, inputs: PolicyInput, observe_reward: bool = True) -> Array:
    """Concatenates what the agent sees to one vector, ``[input_size(family)]``.

    ``[obs, previous action, previous reward, previous done, episode start]`` with discrete
    values one-hot; the reward is the raw scalar, or 0 if it is not observed.
    """
    reward = inputs.prev_reward if observe_reward else jnp.zeros_like(inputs.prev_reward)
    flags = jnp.stack([reward, inputs.prev_done, inputs.episode_start]).astype(jnp.float32)
    obs = family.observation_space.flatten(inputs.obs)
    action = family.action_space.flatten(inputs.prev_action)
    return jnp.concatenate([obs, action, flags])


def input_size(family: TaskFamily) -> int:
    """Length of the vector that `encode_input` makes."""
    return family.observation_space.flat_size + family.action_space.flat_size + 3


def at_trial_start(family: TaskFamily, inputs: PolicyInput) -> PolicyInput:
    """Returns the input as it would be if nothing had happened before it."""
    return inputs._replace(
        prev_action=family.action_space.zero(),
        prev_reward=jnp.zeros_like(inputs.prev_reward),
        prev_done=jnp.zeros_like(inputs.prev_done),
    )


class PolicyHead(nn.Module):
    """From features to a distribution over actions.

    Attributes:
        action_space: What actions are.
        unit: Unit of continuous actions: parameters are of actions divided by it.
        initial_std: Standard deviation of the first continuous actions, in such units.
    """

    action_space: Space
    unit: float = 1.0
    initial_std: float = 1.0

    @nn.compact
    def __call__(self, x: Array) -> Distribution:
        # Small weights: the first policy is nearly uniform whatever the memory holds.
        size = self.action_space.flat_size
        out = nn.Dense(size, kernel_init=orthogonal(0.01))(x)
        if isinstance(self.action_space, Discrete):
            return Categorical(out)
        begin = nn.initializers.constant(math.log(self.initial_std))
        log_std = self.param("log_std", begin, (size,), jnp.float32)
        shape = self.action_space.shape
        mean, log_std = out.reshape(shape), log_std.reshape(shape)
        return Normal(self.unit * mean, math.log(self.unit) + log_std)


class ValueHead(nn.Module):
    """From features to a value estimate, a scalar."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(1, kernel_init=orthogonal(1.0))(x)[0]


def recurrent_actor_critic(
    family: TaskFamily,
    memory: Memory,
    encoder: MLP | None = None,
    value_network: Literal["shared", "separate"] = "shared",
    observe_reward: bool = True,
    memory_reset: Literal["trial", "episode"] = "trial",
    bptt_steps: int | None = None,
    checkpoint: bool = False,
) -> ActorCritic:
    """Builds the recurrent policy and value network of RL².

    Args:
        family: Gives the spaces.
        memory: The recurrent memory.
        encoder: Layers in front of the memory, if any.
        value_network: ``"shared"`` reads the value from the policy's memory, ``"separate"``
            gives it encoder and memory of its own.
        observe_reward: Whether the previous reward is part of the input.
        memory_reset: ``"trial"`` keeps the memory across the episodes of a trial,
            ``"episode"`` empties it at every episode start, and hides what the step before
            brought: every episode looks like the first of a trial.
        bptt_steps: Steps of the segments whose borders no gradient crosses in ``replay``;
            None for none.
        checkpoint: Whether ``replay`` trades time for memory, see `Memory.unroll`.
    """
    policy_head, value_head = PolicyHead(family.action_space), ValueHead()
    names = ("policy", "value") if value_network == "separate" else ("policy",)
    seen = input_size(family)
    features_size = encoder.output_size if encoder else seen

    def init(key: Array) -> dict:
        memory_key, policy_key, value_key = jax.random.split(key, 3)
        keys = jax.random.split(memory_key, len(names))
        features = jnp.zeros(memory.output_size)
        params = {
            "memory": {n: memory.init(k, features_size) for n, k in zip(names, keys, strict=True)},
            "policy_head": policy_head.init(policy_key, features),
            "value_head": value_head.init(value_key, features),
        }
        if encoder:
            encoder_keys = [jax.random.fold_in(k, 1) for k in keys]
            params["encoder"] = {
                n: encoder.init(k, seen) for n, k in zip(names, encoder_keys, strict=True)
            }
        return params

    def begin(params: dict) -> dict:
        del params
        return {name: memory.initial_carry(features_size) for name in names}

    def features(params: dict, name: str, inputs: PolicyInput) -> Array:
        x = encode_input(family, inputs, observe_reward)
        return encoder.apply(params["encoder"][name], x) if encoder else x

    def heads(params: dict, features: dict[str, Array]) -> ActorCriticOutput:
        distribution: Any = policy_head.apply(params["policy_head"], features["policy"])
        value: Any = value_head.apply(params["value_head"], features[names[-1]])
        return ActorCriticOutput(distribution, value)

    def step(params: dict, carry: dict, inputs: PolicyInput) -> tuple[dict, ActorCriticOutput]:
        if memory_reset == "episode":
            start = inputs.episode_start
            inputs = select(start, at_trial_start(family, inputs), inputs)
            carry = select(start, begin(params), carry)
        new_carry, out = {}, {}
        for name in names:
            x = features(params, name, inputs)
            new_carry[name], out[name] = memory.step(params["memory"][name], carry[name], x)
        return new_carry, heads(params, out)

    def unroll(params: dict, inputs: PolicyInput, played: Array) -> ActorCriticOutput:
        carry, out = _tiled(begin(params), played.shape[1]), {}
        for name in names:
            xs = jax.vmap(jax.vmap(lambda row, name=name: features(params, name, row)))(inputs)
            args = params["memory"][name], carry[name], xs, played
            if bptt_steps is None:
                out[name] = memory.unroll(*args, checkpoint)[1]
            else:
                out[name] = unroll_truncated(memory, *args, bptt_steps, checkpoint)
        return jax.vmap(jax.vmap(lambda x: heads(params, x)))(out)

    def unroll_resetting(params: dict, inputs: PolicyInput, played: Array) -> ActorCriticOutput:
        def row_step(carry: dict, row: tuple) -> tuple[dict, ActorCriticOutput]:
            new_carry, output = jax.vmap(step, (None, 0, 0))(params, carry, row[0])
            return jax.vmap(select)(row[1], new_carry, carry), output

        return jax.lax.scan(row_step, _tiled(begin(params), played.shape[1]), (inputs, played))[1]

    def replay(params: dict, inputs: PolicyInput, played: Array) -> ActorCriticOutput:
        run = unroll if memory_reset == "trial" else unroll_resetting
        return _swapped(run(params, *_swapped((inputs, played))))

    return ActorCritic(init, begin, step, replay)


def _swapped(tree: Any) -> Any:
    """``[B, L, ...] <-> [L, B, ...]``."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


def _tiled(tree: Any, size: int) -> Any:
    """``[...] -> [size, ...]``."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *jnp.shape(x))), tree)
