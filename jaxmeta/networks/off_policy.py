"""Policies and critics that learn from stored steps; actions are in half ranges, see `unit_box`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta.networks.actor_critic import ValueHead
from jaxmeta.networks.encoder import MLP
from jaxmeta.networks.initializers import orthogonal
from jaxmeta.ops.distributions import SquashedNormal
from jaxmeta_envs.core.spaces import Box

LOG_STD = -20.0, 2.0
"""Bounds of the logarithm of a standard deviation, as in the code of SAC's authors."""


class GaussianActor(NamedTuple):
    """A policy as two pure functions.

    Attributes:
        init: ``key -> params``.
        apply: ``(params, features [F]) -> SquashedNormal`` over `unit_box`.
    """

    init: Callable[[Array], Any]
    apply: Callable[[Any, Array], SquashedNormal]


class Critics(NamedTuple):
    """Several independent estimates of what an action is worth, as two pure functions.

    Attributes:
        init: ``key -> params``, leaves ``[C, ...]``.
        apply: ``(params, features [F], action) -> values [C]``; the action is in half ranges.
    """

    init: Callable[[Array], Any]
    apply: Callable[[Any, Array, Array], Array]


def unit_box(space: Box) -> Box:
    """Returns the space of the same actions in half ranges from the centre of their bounds."""
    bound = np.where(space.bounded, 1.0, np.inf)
    return Box(tuple((-bound).ravel()), tuple(bound.ravel()), space.shape)


def gaussian_actor(features: int, space: Box, network: MLP) -> GaussianActor:
    """Builds a policy whose mean and deviation both depend on what it sees.

    Args:
        features: F, the length of what it sees.
        space: The action space.
        network: The hidden layers.
    """
    # Small weights: the first policy is nearly the same everywhere.
    head = nn.Dense(2 * space.flat_size, kernel_init=orthogonal(0.01))
    unit = unit_box(space)

    def init(key: Array) -> dict:
        body_key, head_key = jax.random.split(key)
        hidden = jnp.zeros(network.output_size)
        return {"body": network.init(body_key, features), "head": head.init(head_key, hidden)}

    def apply(params: dict, x: Array) -> SquashedNormal:
        out = jnp.asarray(head.apply(params["head"], network.apply(params["body"], x)))
        mean, log_std = out.reshape(2, *space.shape)
        return SquashedNormal(mean, jnp.clip(log_std, *LOG_STD), unit)

    return GaussianActor(init, apply)


def twin_critics(features: int, space: Box, network: MLP, number: int = 2) -> Critics:
    """Builds critics of states and continuous actions.

    Args:
        features: F, the length of what describes the state.
        space: The action space.
        network: The hidden layers of each.
        number: C.
    """
    head = ValueHead()

    def init_one(key: Array) -> dict:
        body_key, head_key = jax.random.split(key)
        body = network.init(body_key, features + space.flat_size)
        return {"body": body, "head": head.init(head_key, jnp.zeros(network.output_size))}

    def init(key: Array) -> Any:
        return jax.vmap(init_one)(jax.random.split(key, number))

    def apply(params: Any, x: Array, action: Array) -> Array:
        seen = jnp.concatenate([x, space.flatten(action)])

        def one(params: dict) -> Array:
            return jnp.asarray(head.apply(params["head"], network.apply(params["body"], seen)))

        return jax.vmap(one)(params)

    return Critics(init, apply)
