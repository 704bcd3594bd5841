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

    def update(self, mean: Array, variance: Array, rate: float | Array, seen: Array) -> Moments:
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

    def nearest_seen(self) -> Moments:
        """Returns moments ``[L]`` in which an entry that was never seen is like its neighbour.

        That is the nearest that was, the earlier of two; if there is none, all stay empty. A step
        of a trial that no trial has reached yet so has the value of one that was reached.
        """
        place = jnp.arange(self.weight.shape[0])
        distance = jnp.abs(place[:, None] - place[None])
        seen = (self.weight > 0)[None]
        nearest = jnp.argmin(jnp.where(seen, distance, len(place)), axis=1)
        nearest = jnp.where(jnp.any(seen), nearest, place)
        return Moments(self.mean[nearest], self.variance[nearest], self.weight[nearest])

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
