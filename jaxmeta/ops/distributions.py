"""Action distributions as plain pytrees: values in, values out, nothing hidden."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.spaces import Box

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_LARGEST_TANH = 1.0 - 1e-6


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


class MultiCategorical(NamedTuple):
    """Independent choices, one per entry of an action.

    Attributes:
        parts: The distribution of each entry.
    """

    parts: tuple[Categorical, ...]

    def sample(self, key: Array) -> Array:
        keys = jax.random.split(key, len(self.parts))
        return jnp.stack([part.sample(k) for part, k in zip(self.parts, keys, strict=True)])

    def mode(self) -> Array:
        return jnp.stack([part.mode() for part in self.parts])

    def log_prob(self, action: Array) -> Array:
        each = [part.log_prob(action[i]) for i, part in enumerate(self.parts)]
        return jnp.sum(jnp.stack(each))

    def entropy(self) -> Array:
        """Returns the sum of the entropies, in nats."""
        return jnp.sum(jnp.stack([part.entropy() for part in self.parts]))

    def kl(self, other: MultiCategorical) -> Array:
        """Returns ``KL(self ‖ other)``, the sum over entries."""
        pairs = zip(self.parts, other.parts, strict=True)
        return jnp.sum(jnp.stack([ours.kl(theirs) for ours, theirs in pairs]))


class Normal(NamedTuple):
    """Independent normals, one per action dimension.

    Attributes:
        mean: Of any shape.
        log_std: Natural logarithm of the standard deviations, of the same shape.
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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SquashedNormal:
    """Independent normals, squashed into the bounds of a space.

    With ``u ~ N(mean, std²)``, the action of an entry with bounds is ``centre + half_range
    tanh(u)``; of one without it is ``centre + u``.

    Attributes:
        mean: Of u, of the space's shape.
        log_std: Natural logarithm of the standard deviations of u, likewise.
        space: The bounds.
    """

    mean: Array
    log_std: Array
    space: Box = field(metadata={"static": True})

    @property
    def normal(self) -> Normal:
        """The distribution of u."""
        return Normal(self.mean, self.log_std)

    def sample(self, key: Array) -> Array:
        return self._squash(self.normal.sample(key))

    def at(self, noise: Array) -> tuple[Array, Array]:
        """Returns the action of standard normal noise, and its log-probability.

        Both can be differentiated in mean and deviation (the noise stays as it is), and the
        latter is exact where float32 no longer tells the action from a bound.
        """
        u = self.mean + jnp.exp(self.log_std) * noise
        of_u = jnp.sum(-0.5 * noise**2 - self.log_std - _HALF_LOG_2PI)
        return self._squash(u), of_u - jnp.sum(self._log_slope(u))

    def mode(self) -> Array:
        """Returns the action of the most probable u, which is also the median action."""
        return self._squash(self.mean)

    def log_prob(self, action: Array) -> Array:
        x = self.space.to_unit(action)
        # Beyond, float32 no longer tells tanh(u) from 1; the ratio of two policies stays finite.
        inside = jnp.arctanh(jnp.clip(x, -_LARGEST_TANH, _LARGEST_TANH))
        u = jnp.where(self.space.bounded, inside, x)
        return self.normal.log_prob(u) - jnp.sum(self._log_slope(u))

    def entropy(self) -> Array:
        """Returns the differential entropy, in nats, by Gauss-Hermite quadrature."""
        nodes, weights = _gauss_hermite()
        slopes = jax.vmap(lambda z: self._log_slope(self.mean + jnp.exp(self.log_std) * z))(nodes)
        return self.normal.entropy() + jnp.tensordot(weights, slopes, 1).sum()

    def kl(self, other: SquashedNormal) -> Array:
        """Returns ``KL(self ‖ other)``, which squashing leaves as it is."""
        return self.normal.kl(other.normal)

    def _squash(self, u: Array) -> Array:
        action = self.space.from_unit(jnp.where(self.space.bounded, jnp.tanh(u), u))
        # Rounding may lead a hair beyond a bound; an infinite range has nothing to be cut to.
        return jnp.where(self.space.bounded, self.space.clip(action), action)

    def _log_slope(self, u: Array) -> Array:
        """Returns the logarithm of the derivative of the action in u."""
        slope = 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))  # log(1 - tanh²), stable
        return jnp.where(self.space.bounded, slope, 0.0) + jnp.log(self.space.half_range)


@functools.cache
def _gauss_hermite() -> tuple[np.ndarray, np.ndarray]:
    """Returns nodes and weights of means over a standard normal, float32."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(16)
    return nodes.astype(np.float32), (weights / weights.sum()).astype(np.float32)


Distribution = Categorical | MultiCategorical | Normal | SquashedNormal
