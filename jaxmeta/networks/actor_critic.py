"""A recurrent actor and critic over what an adaptive agent sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta.networks.encoder import Encoder
from jaxmeta.networks.initializers import orthogonal
from jaxmeta.networks.memories.recurrent import Memory, unroll_truncated
from jaxmeta.ops.distributions import (
    Categorical,
    Distribution,
    MultiCategorical,
    Normal,
    SquashedNormal,
)
from jaxmeta.ops.moments import Moments
from jaxmeta.ops.trees import select
from jaxmeta_envs.core.contracts import PolicyInput, TaskFamily
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.spaces import ArraySpace, Box, MultiDiscrete, Space

_LARGEST_INPUT = 10.0  # deviations; an outlier is not to drown the rest


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


class InputMoments(NamedTuple):
    """What inputs are normalised by; with the parameters, but not learned by gradients.

    Attributes:
        obs: Running moments of each entry of an observation, ``[o]``, of which those that are
            not one-hot are read; None if it is not normalised.
        reward: Of rewards, scalars; None likewise.
    """

    obs: Moments | None
    reward: Moments | None


def first_input_moments(
    family: TaskFamily, normalize_observations: bool, normalize_rewards: bool
) -> dict[str, InputMoments]:
    """Returns what to add to the parameters: moments that leave inputs as they are, or nothing.

    One-hot observations are as they should be, and are never normalised: without a real number
    in them there are no moments.
    """
    space = family.observation_space
    of_obs = normalize_observations and bool(space.real.any())
    if not of_obs and not normalize_rewards:
        return {}
    obs = Moments.empty((space.flat_size,)) if of_obs else None
    return {"inputs": InputMoments(obs, Moments.empty() if normalize_rewards else None)}


def input_moments(params: Mapping[str, Any]) -> InputMoments:
    """Returns the moments that are with a network's parameters."""
    return params.get("inputs", InputMoments(None, None))


def normalized(x: Array, moments: Moments | None) -> Array:
    """Returns ``x`` with mean 0 and deviation 1, within ±10; without moments, ``x``."""
    if moments is None:
        return x
    moments = jax.lax.stop_gradient(moments)
    seen = jnp.clip(moments.normalize(x), -_LARGEST_INPUT, _LARGEST_INPUT)
    return jnp.where(moments.weight > 0, seen, x)


def seen_observation(space: Space, obs: Any, moments: Moments | None) -> Array:
    """Returns an observation as a vector ``[flat_size]``, its real numbers normalised."""
    flat = space.flatten(obs)
    if moments is None or space.real.all():
        return normalized(flat, moments)
    return jnp.where(space.real, normalized(flat, moments), flat)


def encode_input(
    family: TaskFamily,
    inputs: PolicyInput,
    moments: InputMoments,
    observe_reward: bool = True,
) -> Array:
    """Concatenates what the agent sees to one vector, ``[input_size(family)]``.

    ``[obs, previous action, previous reward, previous done, episode start]`` with discrete
    values one-hot, continuous actions in half ranges from their centre, within ±1, and
    observation and reward normalised if there are moments. At trial start the previous
    action, unless it is discrete, and the previous reward are 0, and so is a reward that is
    not observed.
    """
    first = inputs.episode_start & ~inputs.prev_done
    reward = normalized(inputs.prev_reward, moments.reward)
    reward = jnp.where(first | (not observe_reward), 0.0, reward)
    flags = jnp.stack([reward, inputs.prev_done, inputs.episode_start]).astype(jnp.float32)
    obs = seen_observation(family.observation_space, inputs.obs, moments.obs)
    action, space = inputs.prev_action, family.action_space
    if isinstance(space, Box):
        action = space.to_unit(space.clip(action))
    return jnp.concatenate([obs, space.flatten(action), flags])


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


Actions = Literal["squashed", "clipped"]
"""How continuous actions are distributed, see `PolicyHead`."""


class PolicyHead(nn.Module):
    """From features to a distribution over actions.

    Continuous actions are told in half ranges from the centre of their bounds, entry by entry,
    so that a network learns alike whatever the bounds. ``squashed``: `SquashedNormal`, which
    never leaves them. ``clipped``: `Normal`, of which the environment clips what is beyond them.

    Attributes:
        action_space: What actions are; several integers are drawn independently.
        actions: How continuous ones are distributed.
        initial_std: Their first standard deviation, in half ranges; if squashed, before that.
    """

    action_space: ArraySpace
    actions: Actions = "squashed"
    initial_std: float = 1.0

    @nn.compact
    def __call__(self, x: Array) -> Distribution:
        # Small weights: the first policy is nearly uniform whatever the memory holds.
        space = self.action_space
        out = nn.Dense(space.flat_size, kernel_init=orthogonal(0.01))(x)
        if not isinstance(space, Box):
            return discrete_policy(space, out)
        begin = nn.initializers.constant(math.log(self.initial_std))
        log_std = self.param("log_std", begin, (space.flat_size,), jnp.float32)
        mean, log_std = out.reshape(space.shape), log_std.reshape(space.shape)
        return continuous_policy(space, self.actions, mean, log_std)


def continuous_policy(space: Box, actions: Actions, mean: Array, log_std: Array) -> Distribution:
    """Returns a distribution over a space given mean and deviation in its units."""
    if actions == "squashed":
        return SquashedNormal(mean, log_std, space)
    return Normal(space.from_unit(mean), jnp.log(space.half_range) + log_std)


def discrete_policy(space: ArraySpace, logits: Array) -> Distribution:
    """Returns the distribution over integers of logits ``[flat_size]``."""
    if isinstance(space, MultiDiscrete):
        ends = np.cumsum(space.sizes)[:-1].tolist()
        return MultiCategorical(tuple(map(Categorical, jnp.split(logits, ends))))
    return Categorical(logits)


def check_actions(actions: str) -> None:
    """Raises `ConfigError` unless ``actions`` is one of `Actions`."""
    require(actions in get_args(Actions), "actions", actions, " or ".join(get_args(Actions)))


class ValueHead(nn.Module):
    """From features to a value estimate, a scalar."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(1, kernel_init=orthogonal(1.0))(x)[0]


def recurrent_actor_critic(
    family: TaskFamily,
    memory: Memory,
    encoder: Encoder | None = None,
    value_network: Literal["shared", "separate"] = "shared",
    observe_reward: bool = True,
    memory_reset: Literal["trial", "episode"] = "trial",
    bptt_steps: int | None = None,
    checkpoint: bool = False,
    actions: Actions = "squashed",
    normalize_observations: bool = True,
    normalize_rewards: bool = True,
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
        actions: How continuous actions are distributed.
        normalize_observations: Whether parameters have moments of observations, under
            ``"inputs"``, and what is seen is normalised by them; see `InputMoments`.
        normalize_rewards: Likewise, of the previous reward.
    """
    policy_head, value_head = PolicyHead(family.action_space, actions), ValueHead()
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
        } | first_input_moments(family, normalize_observations, normalize_rewards)
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
        x = encode_input(family, inputs, input_moments(params), observe_reward)
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
