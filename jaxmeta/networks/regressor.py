"""A feed-forward network that predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks.encoder import MLP


class Regressor(NamedTuple):
    """A network as two pure functions.

    Attributes:
        init: ``key -> params``, ``{"body": ..., "head": ...}``.
        apply: ``(params, x [n, I]) -> y [n, O]``.
    """

    init: Callable[[Array], Any]
    apply: Callable[[Any, Array], Array]


def feedforward_regressor(input_size: int, output_size: int, body: MLP) -> Regressor:
    """Builds a network of hidden layers ``body`` and a linear head.

    Weights are scaled by the number of inputs of a unit (He et al. 2015, arXiv 1502.01852):
    few inputs then reach all units, where orthogonal weights would share one unit of length
    among them, and first-order meta-gradients find good features.
    """
    head = nn.Dense(output_size, kernel_init=nn.initializers.lecun_normal())

    def init(key: Array) -> dict:
        body_key, head_key = jax.random.split(key)
        features = jnp.zeros(body.output_size)
        hidden = body.init(body_key, input_size, nn.initializers.he_normal())
        return {"body": hidden, "head": head.init(head_key, features)}

    def apply(params: dict, x: Array) -> Array:
        return jnp.asarray(head.apply(params["head"], body.apply(params["body"], x)))

    return Regressor(init, apply)
