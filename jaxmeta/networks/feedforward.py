"""A policy without memory, and a value network beside it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks.actor_critic import (
    Actions,
    ActorCritic,
    ActorCriticOutput,
    PolicyHead,
    ValueHead,
    first_input_moments,
    input_moments,
    seen_observation,
)
from jaxmeta.networks.encoder import MLP
from jaxmeta_envs.core.contracts import PolicyInput, TaskFamily


def feedforward_actor_critic(
    family: TaskFamily,
    policy: MLP,
    value: MLP | None,
    initial_std: float = 1.0,
    actions: Actions = "squashed",
    normalize_observations: bool = True,
) -> ActorCritic:
    """Builds a policy that sees the current observation and nothing else.

    Its carry is empty. ``replay`` has no time axis to unroll: all steps are one batch.

    Args:
        family: Gives the spaces.
        policy: Layers of the policy.
        value: Layers of the value network; without it every value is 0.
        initial_std: First standard deviation of continuous actions, in half ranges.
        actions: How they are distributed.
        normalize_observations: Whether parameters have moments of observations, under
            ``"inputs"``, and what is seen is normalised by them; see `InputMoments`.
    """
    policy_head = PolicyHead(family.action_space, actions, initial_std)
    value_head = ValueHead()
    seen = family.observation_space.flat_size

    def init(key: Array) -> dict:
        keys = jax.random.split(key, 4)
        params = {
            "policy": policy.init(keys[0], seen),
            "policy_head": policy_head.init(keys[1], jnp.zeros(policy.output_size)),
        } | first_input_moments(family, normalize_observations, False)
        if value:
            params["value"] = value.init(keys[2], seen)
            params["value_head"] = value_head.init(keys[3], jnp.zeros(value.output_size))
        return params

    def output(params: dict, inputs: PolicyInput) -> ActorCriticOutput:
        moments = input_moments(params).obs
        obs = seen_observation(family.observation_space, inputs.obs, moments)
        features = policy.apply(params["policy"], obs)
        distribution: Any = policy_head.apply(params["policy_head"], features)
        if value is None:
            return ActorCriticOutput(distribution, jnp.float32(0.0))
        worth: Any = value_head.apply(params["value_head"], value.apply(params["value"], obs))
        return ActorCriticOutput(distribution, worth)

    def step(params: dict, carry: Any, inputs: PolicyInput) -> tuple[Any, ActorCriticOutput]:
        return carry, output(params, inputs)

    def replay(params: dict, inputs: PolicyInput, played: Array) -> ActorCriticOutput:
        del played
        return jax.vmap(jax.vmap(lambda row: output(params, row)))(inputs)

    return ActorCritic(init=init, begin=lambda params: (), step=step, replay=replay)
