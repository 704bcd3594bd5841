"""A recurrent actor and critic over what an adaptive agent sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks.initializers import orthogonal
from jaxmeta.networks.memory import GRU
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
    """

    init: Callable[[Array], Any]
    begin: Callable[[Any], Any]
    step: Callable[[Any, Any, PolicyInput], tuple[Any, ActorCriticOutput]]


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


class _PolicyHead(nn.Module):
    action_space: Space

    @nn.compact
    def __call__(self, x: Array) -> Distribution:
        # Small weights: the first policy is nearly uniform whatever the memory holds.
        size = self.action_space.flat_size
        out = nn.Dense(size, kernel_init=orthogonal(0.01))(x)
        if isinstance(self.action_space, Discrete):
            return Categorical(out)
        log_std = self.param("log_std", nn.initializers.zeros, (size,))
        shape = self.action_space.shape
        return Normal(out.reshape(shape), log_std.reshape(shape))


class _ValueHead(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(1, kernel_init=orthogonal(1.0))(x)[0]


def recurrent_actor_critic(
    family: TaskFamily,
    memory: GRU,
    value_network: Literal["shared", "separate"] = "shared",
    observe_reward: bool = True,
    memory_reset: Literal["trial", "episode"] = "trial",
) -> ActorCritic:
    """Builds the recurrent policy and value network of RL².

    Args:
        family: Gives the spaces.
        memory: The recurrent memory.
        value_network: ``"shared"`` reads the value from the policy's memory, ``"separate"``
            gives it a memory of its own.
        observe_reward: Whether the previous reward is part of the input.
        memory_reset: ``"trial"`` keeps the memory across the episodes of a trial,
            ``"episode"`` empties it at every episode start, and hides what the step before
            brought: every episode looks like the first of a trial.
    """
    policy_head, value_head = _PolicyHead(family.action_space), _ValueHead()
    memories = {"policy": memory} | ({"value": memory} if value_network == "separate" else {})

    def init(key: Array) -> dict:
        memory_key, policy_key, value_key = jax.random.split(key, 3)
        keys = jax.random.split(memory_key, len(memories))
        features = jnp.zeros(memory.output_size)
        return {
            "memory": {
                name: part.init(k, input_size(family))
                for (name, part), k in zip(memories.items(), keys, strict=True)
            },
            "policy_head": policy_head.init(policy_key, features),
            "value_head": value_head.init(value_key, features),
        }

    def begin(params: dict) -> dict:
        del params
        return {name: part.initial_carry() for name, part in memories.items()}

    def step(params: dict, carry: dict, inputs: PolicyInput) -> tuple[dict, ActorCriticOutput]:
        if memory_reset == "episode":
            start = inputs.episode_start
            inputs = select(start, at_trial_start(family, inputs), inputs)
            carry = select(start, begin(params), carry)
        x = encode_input(family, inputs, observe_reward)
        new_carry, features = {}, {}
        for name, part in memories.items():
            new_carry[name], features[name] = part.step(params["memory"][name], carry[name], x)
        distribution: Any = policy_head.apply(params["policy_head"], features["policy"])
        value: Any = value_head.apply(
            params["value_head"], features.get("value", features["policy"])
        )
        return new_carry, ActorCriticOutput(distribution, value)

    return ActorCritic(init, begin, step)
