"""A toy family of classes whose best classifier is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields
from jaxmeta_envs.core.spaces import Box
from jaxmeta_envs.core.supervised import ClassificationFamily, Predictor


class Clusters(NamedTuple):
    """The classes of a task.

    Attributes:
        centre: float32 ``[N, d]``.
    """

    centre: Array


@dataclass(frozen=True)
class ToyClusters(ClassificationFamily[Clusters]):
    """Normal clusters of variance 1 around centres that are normal themselves.

    Attributes:
        ways: N.
        size: d, entries of an input.
        spread: Standard deviation of each entry of a centre.
    """

    ways: int = 3
    size: int = 2
    spread: float = 3.0

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.ways >= 2, "ways", self.ways, "at least 2")
        require(self.size >= 1, "size", self.size, "at least 1")
        require(self.spread >= 0, "spread", self.spread, "at least 0")

    @property
    def input_space(self) -> Box:
        return Box(-math.inf, math.inf, (self.size,))

    def sample_classes(self, key: Array, split: str) -> Clusters:
        del split
        return Clusters(self.spread * jax.random.normal(key, (self.ways, self.size)))

    def sample_class_split(
        self, support_key: Array, query_key: Array, of: Clusters, shots: int, queries: int
    ) -> tuple[Array, Array]:
        def draw(key: Array, num: int) -> Array:
            return of.centre[None] + jax.random.normal(key, (num, self.size))

        return draw(support_key, shots), draw(query_key, queries)

    def references(self) -> Mapping[str, Predictor]:
        """Returns "oracle", Bayes' rule of one who knows the centres, and "chance"."""
        return {"oracle": _bayes, **super().references()}


def _bayes(task: Clusters, x: Array) -> Array:
    """Returns log-probabilities of the classes up to a constant, ``[n, N]``."""
    return -0.5 * jnp.sum((x[:, None] - task.centre[None]) ** 2, axis=-1)
