"""A feed-forward network that predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks.encoder import MLP
from jaxmeta.networks.initializers import orthogonal


class Regressor(NamedTuple):
    """A network as two pure functions.

    Attributes:
        init: ``key -> params``, ``{"body": ..., "head": ...}``.
        apply: ``(params, x [n, I]) -> y [n, O]``.
    """

    init: Callable[[Array], Any]
    apply: Callable[[Any, Array], Array]


def feedforward_regressor(input_size: int, output_size: int, body: MLP) -> Regressor:
    """Builds a network of hidden layers ``body`` and a linear head."""
    head = nn.Dense(output_size, kernel_init=orthogonal(1.0))

    def init(key: Array) -> dict:
        body_key, head_key = jax.random.split(key)
        features = jnp.zeros(body.output_size)
        return {"body": body.init(body_key, input_size), "head": head.init(head_key, features)}

    def apply(params: dict, x: Array) -> Array:
        return jnp.asarray(head.apply(params["head"], body.apply(params["body"], x)))

    return Regressor(init, apply)
