"""Prior and likelihood of physical parameters, over a cube that their limits make.

Axes: k free parameters, N particles, M transitions, E episodes, T steps.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.experience.transitions import Transitions
from jaxmeta.ops.tempering import LogDensity
from jaxmeta.ops.transitions import filtered_log_likelihood, transition_log_likelihood
from jaxmeta.sim_to_real.settings import SourceAdaptation
from jaxmeta_envs.core.physical import PhysicalFamily
from jaxmeta_envs.random.distributions import Distribution, Uniform


class Unknowns(NamedTuple):
    """The free parameters, mapped to the unit cube by the family's limits.

    Attributes:
        names: k names.
        known: The task that the other parameters are taken from.
        low: Lower limits of the free ones, ``[k]``.
        width: Their upper limits less the lower ones, ``[k]``.
    """

    names: tuple[str, ...]
    known: Any
    low: Array
    width: Array

    @classmethod
    def within(cls, limits: Uniform[Any], names: tuple[str, ...], known: Any) -> Unknowns:
        low, high = (_pick(end, names) for end in limits)
        return cls(names, known, low, high - low)

    def task(self, x: Array) -> Any:
        """Returns the task at a point of the cube ``[k]``."""
        return self.fill(self.known, self.low + self.width * x)

    def fill(self, task: Any, values: Array) -> Any:
        """Returns ``task`` with its free parameters replaced by ``values [k]``."""
        replaced = task._replace(**dict(zip(self.names, values, strict=True)))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), replaced)

    def scale(self, source: Distribution[Any]) -> Distribution[Array]:
        """Returns the distribution of the free parameters over the cube, leaves ``[k]``."""
        fields = {name: _pick(task, self.names) for name, task in source._asdict().items()}
        return type(source)(
            **{
                name: (x if name == "std" else x - self.low) / self.width
                for name, x in fields.items()
            }
        )


def _pick(task: Any, names: tuple[str, ...]) -> Array:
    return jnp.stack([jnp.asarray(getattr(task, name), jnp.float32) for name in names])


def make_prior(
    source: Distribution[Array], adaptation: SourceAdaptation, key: Array
) -> tuple[LogDensity, Array]:
    """Returns the prior's log-density over the unit cube and draws of it, ``[N, k]``."""
    n, doubt = adaptation.num_particles, adaptation.doubt
    k = jax.tree.leaves(source)[0].shape[0]
    log_trust, log_doubt = (math.log(w) if w > 0 else -math.inf for w in (1.0 - doubt, doubt))

    def log_prior(x: Array) -> Array:
        # Over the cube the density of the uniform part is 1.
        log_density = jnp.logaddexp(log_trust + source.log_prob(x), log_doubt)
        return jnp.where(_in_cube(x), log_density, -jnp.inf)

    offset_key, doubt_key, source_key = jax.random.split(key, 3)
    trusted = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n, k)), source).sample(source_key)
    doubted = jax.random.uniform(doubt_key, (n, k))
    # As many of either as they should be, but for rounding, which is left to chance.
    index = (jnp.arange(n) + jax.random.uniform(offset_key)) / n
    return log_prior, jnp.where((index < doubt)[:, None], doubted, trusted)


def make_log_likelihood(
    family: PhysicalFamily,
    unknowns: Unknowns,
    transitions: Transitions,
    adaptation: SourceAdaptation,
    key: Array,
) -> LogDensity:
    """Returns the log-likelihood over the cube; ``-inf`` outside, where nothing is simulated."""
    process, reading = adaptation.noise(family.observation_space.flat_size)
    data = transitions.flat()
    if not adaptation.filtered:
        data = jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), data)
        data = _subset(data, adaptation.max_transitions, key)

    def log_likelihood(x: Array) -> Array:
        task = unknowns.task(jnp.clip(x, 0.0, 1.0))

        def predict(obs: Array, action: Array) -> Array:
            return family.predict(obs, family.action_space.clip(action), task)

        if adaptation.filtered:

            def episode(row: Transitions) -> Array:
                return filtered_log_likelihood(
                    predict, row.obs, row.action, row.next_obs, row.mask, process, reading
                )

            total = jnp.sum(jax.vmap(episode)(data))
        else:
            total = transition_log_likelihood(predict, *data, process)
        return jnp.where(_in_cube(x), total, -jnp.inf)

    return log_likelihood


def _subset(data: Transitions, size: int | None, key: Array) -> Transitions:
    """Draws ``size`` of the transitions ``[M, ...]`` that were played, without replacement."""
    if size is None or size >= data.mask.shape[0]:
        return data
    order = jnp.where(data.mask, jax.random.uniform(key, data.mask.shape), -1.0)
    chosen = jax.lax.top_k(order, size)[1]
    return jax.tree.map(lambda leaf: leaf[chosen], data)


def _in_cube(x: Array) -> Array:
    return jnp.all((x >= 0.0) & (x <= 1.0))
