"""Running means and variances with exponential forgetting."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Moments(NamedTuple):
    """Exponentially weighted means and variances, bias-corrected, of arrays of one shape.

    Attributes:
        mean: Weighted mean of what was seen.
        variance: Weighted variance about that mean.
        weight: Total weight seen so far, ``1 - rate**n`` after n updates.
    """

    mean: Array
    variance: Array
    weight: Array

    @classmethod
    def empty(cls, shape: tuple[int, ...] = ()) -> Moments:
        zero = jnp.zeros(shape, jnp.float32)
        return cls(zero, zero, zero)

    def update(self, mean: Array, variance: Array, rate: float, seen: Array) -> Moments:
        """Forgets by ``rate`` and adds a batch with this mean and variance.

        The first batch is taken as it is; later ones count ``1 - rate``. Where nothing was
        ``seen`` everything stays as it is.
        """
        weight = jnp.where(seen, rate * self.weight + (1.0 - rate), self.weight)
        share = jnp.where(seen, (1.0 - rate) / jnp.maximum(weight, 1.0 - rate), 0.0)
        # Variances are mixed about the new mean, which stays accurate far from zero.
        new_mean = self.mean + share * (mean - self.mean)
        spread = share * (1.0 - share) * (mean - self.mean) ** 2
        new_variance = (1.0 - share) * self.variance + share * variance + spread
        return Moments(new_mean, new_variance, weight)

    @property
    def std(self) -> Array:
        """Standard deviation, at least what float32 tells apart at the mean's distance.

        So that what is constant stays finite, and what is small, in any unit, does not vanish.
        """
        return jnp.sqrt(jnp.maximum(self.variance, (1e-5 * self.mean) ** 2 + 1e-24))

    def normalize(self, x: Array) -> Array:
        return (x - self.mean) / self.std

    def denormalize(self, x: Array) -> Array:
        return x * self.std + self.mean
