"""A feed-forward network that predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks.encoder import MLP

FirstWeights = Literal["he", "uniform"]
"""How a network begins, see `feedforward_regressor`."""


class Regressor(NamedTuple):
    """A network as two pure functions.

    Attributes:
        init: ``key -> params``, ``{"body": ..., "head": ...}``.
        apply: ``(params, x [n, I]) -> y [n, O]``.
    """

    init: Callable[[Array], Any]
    apply: Callable[[Any, Array], Array]


def feedforward_regressor(
    input_size: int, output_size: int, body: MLP, weights: FirstWeights = "he"
) -> Regressor:
    """Builds a network of hidden layers ``body`` and a linear head.

    Args:
        input_size: I.
        output_size: O.
        body: The hidden layers.
        weights: How it begins. ``"he"``: normal, scaled by the number of inputs of a unit (He et
            al. 2015, arXiv 1502.01852), with biases of 0: few inputs then reach all units, where
            orthogonal weights would share one unit of length among them, and first-order
            meta-gradients find good features. ``"uniform"``: weights and biases between plus and
            minus one over the root of that number, PyTorch's default.
    """
    head = nn.Dense(output_size, kernel_init=nn.initializers.lecun_normal())

    def init(key: Array) -> dict:
        body_key, head_key = jax.random.split(key)
        features = jnp.zeros(body.output_size)
        hidden = body.init(body_key, input_size, nn.initializers.he_normal())
        params = {"body": hidden, "head": head.init(head_key, features)}
        return params if weights == "he" else _uniform(key, params)

    def apply(params: dict, x: Array) -> Array:
        return jnp.asarray(head.apply(params["head"], body.apply(params["body"], x)))

    return Regressor(init, apply)


def _uniform(key: Array, params: dict) -> dict:
    """Returns the parameters of linear layers drawn anew, see `feedforward_regressor`."""
    layers, structure = jax.tree.flatten(params, is_leaf=lambda x: "kernel" in x)

    def draw(key: Array, layer: dict) -> dict:
        bound = layer["kernel"].shape[0] ** -0.5
        keys = dict(zip(layer, jax.random.split(key, len(layer)), strict=True))
        return {
            name: jax.random.uniform(keys[name], x.shape, x.dtype, -bound, bound)
            for name, x in layer.items()
        }

    keys = jax.random.split(key, len(layers))
    return structure.unflatten(map(draw, keys, layers))
