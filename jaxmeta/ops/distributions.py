"""Action distributions as plain pytrees: values in, values out, nothing hidden."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class Categorical(NamedTuple):
    """Choice among ``n`` actions; ``-inf`` logits are actions that cannot be taken.

    Attributes:
        logits: Unnormalised log-probabilities, ``[n]``.
    """

    logits: Array

    @property
    def log_probs(self) -> Array:
        return jax.nn.log_softmax(self.logits)

    def sample(self, key: Array) -> Array:
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def mode(self) -> Array:
        return jnp.argmax(self.logits).astype(jnp.int32)

    def log_prob(self, action: Array) -> Array:
        return self.log_probs[action]

    def entropy(self) -> Array:
        """Returns ``-Σ p log p``, in nats."""
        return -_expect(self.log_probs, self.log_probs)

    def kl(self, other: Categorical) -> Array:
        """Returns ``KL(self ‖ other)``."""
        return _expect(self.log_probs, self.log_probs - other.log_probs)


def _expect(log_probs: Array, values: Array) -> Array:
    # Impossible actions contribute 0; the inner where keeps their gradient finite.
    possible = log_probs > -jnp.inf
    return jnp.sum(jnp.exp(log_probs) * jnp.where(possible, values, 0.0))


class Normal(NamedTuple):
    """Independent normals, one per action dimension.

    Attributes:
        mean: ``[d]``.
        log_std: Natural logarithm of the standard deviations, ``[d]``.
    """

    mean: Array
    log_std: Array

    def sample(self, key: Array) -> Array:
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> Array:
        return self.mean

    def log_prob(self, action: Array) -> Array:
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * z**2 - self.log_std - _HALF_LOG_2PI)

    def entropy(self) -> Array:
        """Returns the differential entropy, in nats."""
        return jnp.sum(self.log_std + 0.5 + _HALF_LOG_2PI)

    def kl(self, other: Normal) -> Array:
        """Returns ``KL(self ‖ other)``."""
        ratio = jnp.exp(2.0 * (self.log_std - other.log_std))
        shift = ((self.mean - other.mean) * jnp.exp(-other.log_std)) ** 2
        return jnp.sum(0.5 * (ratio + shift - 1.0) + other.log_std - self.log_std)


Distribution = Categorical | Normal
