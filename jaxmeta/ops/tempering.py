"""Tempered sequential Monte Carlo: from a prior to a posterior far narrower than it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from jaxmeta.ops import particles as weighted

_GOOD_ACCEPTANCE = 0.3  # between the best of one coordinate, 0.44, and of many, 0.23

LogDensity = Callable[[Array], Array]
"""``[k] -> scalar``; ``-inf`` where it is impossible."""


class Tempered(NamedTuple):
    """Where tempering arrived.

    Attributes:
        particles: ``[N, k]``.
        log_weights: ``[N]``, normalised.
        log_evidence: Logarithm of ``∫ prior L^temperature``, scalar.
        temperature: 1 if the end was reached, less if ``max_stages`` came first, 0 if no
            particle was possible.
        acceptance: Share of the last stage's Metropolis moves that were accepted.
    """

    particles: Array
    log_weights: Array
    log_evidence: Array
    temperature: Array
    acceptance: Array


class _Cloud(NamedTuple):
    """Particles ``[N, k]`` with their log-densities ``[N]``."""

    x: Array
    log_prior: Array
    log_likelihood: Array


class _Progress(NamedTuple):
    """What one stage hands to the next."""

    cloud: _Cloud
    log_weights: Array
    log_evidence: Array
    temperature: Array
    log_scale: Array
    acceptance: Array
    stage: Array


def tempered_particles(
    key: Array,
    x: Array,
    log_prior: LogDensity,
    log_likelihood: LogDensity,
    *,
    ess_share: float = 0.5,
    moves: int = 5,
    max_stages: int = 100,
) -> Tempered:
    """Moves draws from a prior to the posterior through ``prior * L^temperature``.

    Every stage

    1. raises the temperature until the effective sample size falls to ``ess_share``, or to
       1, and weights the particles by ``L^increment``; the evidence gains ``log mean``;
    2. resamples systematically, unless the temperature is 1: then the weights stay;
    3. moves every particle ``moves`` times by random-walk Metropolis with the covariance
       of the weighted particles, scaled to accept about 0.3 of the proposals.

    Args:
        key: Typed PRNG key.
        x: Draws from the prior, ``[N, k]``; those of ``L = 0`` are impossible.
        log_prior: Log-density of the prior; ``-inf`` rejects a move.
        log_likelihood: Log-likelihood; NaN counts as impossible.
        ess_share: Effective sample size to fall to, a share of N.
        moves: Metropolis moves per stage.
        max_stages: Cap on the number of stages.

    Reference: Del Moral, Doucet & Jasra 2006, "Sequential Monte Carlo samplers".
    """
    chex.assert_rank(x, 2)
    n, k = x.shape

    def locate(x: Array) -> _Cloud:
        likelihood = jax.vmap(log_likelihood)(x)
        return _Cloud(
            x, jax.vmap(log_prior)(x), jnp.where(jnp.isnan(likelihood), -jnp.inf, likelihood)
        )

    def stage(progress: _Progress) -> _Progress:
        resample_key, move_key = jax.random.split(jax.random.fold_in(key, progress.stage))
        temperature, log_weights, gain = _reweight(progress, ess_share)
        steps = _root_covariance(progress.cloud.x, log_weights)
        cloud, log_weights = _resample(resample_key, progress.cloud, log_weights, temperature < 1.0)
        cloud, log_scale, acceptance = _metropolis(
            move_key, cloud, steps, progress.log_scale, temperature, locate, moves
        )
        evidence = progress.log_evidence + gain
        return _Progress(
            cloud, log_weights, evidence, temperature, log_scale, acceptance, progress.stage + 1
        )

    zero = jnp.float32(0.0)
    start = _Progress(
        locate(x),
        jnp.full(n, -math.log(n), jnp.float32),
        log_evidence=zero,
        temperature=zero,
        log_scale=jnp.float32(math.log(2.38 / math.sqrt(k))),
        acceptance=zero,
        stage=jnp.int32(0),
    )

    def unfinished(progress: _Progress) -> Array:
        hopeful = progress.log_evidence > -jnp.inf
        return (progress.temperature < 1.0) & (progress.stage < max_stages) & hopeful

    end = jax.lax.while_loop(unfinished, stage, start)
    return Tempered(end.cloud.x, end.log_weights, end.log_evidence, end.temperature, end.acceptance)


def _reweight(progress: _Progress, ess_share: float) -> tuple[Array, Array, Array]:
    """Returns the next temperature, normalised log-weights and the gain in log-evidence."""
    log_likelihood, left = progress.cloud.log_likelihood, 1.0 - progress.temperature
    increment = weighted.next_increment(log_likelihood, left, ess_share)
    temperature = jnp.where(increment >= left, 1.0, progress.temperature + increment)
    # All stages but the last resample: the weights so far are equal.
    raw = weighted.temper(log_likelihood, increment)
    gain = logsumexp(raw) - math.log(raw.shape[0])
    possible = jnp.any(raw > -jnp.inf)
    return temperature, weighted.normalize(jnp.where(possible, raw, 0.0)), gain


def _root_covariance(x: Array, log_weights: Array) -> Array:
    """Returns R ``[k, k]`` with ``Rᵀ R`` the particles' weighted covariance.

    From the QR decomposition of the particles themselves: their covariance, whose condition
    number is the square, has in float32 no Cholesky factor where parameters trade off.
    """
    mean, _ = weighted.weighted_moments(x, log_weights)
    return jnp.linalg.qr(jnp.exp(0.5 * log_weights)[:, None] * (x - mean[None]), mode="r")


def _resample(
    key: Array, cloud: _Cloud, log_weights: Array, collapsed: Array
) -> tuple[_Cloud, Array]:
    n = log_weights.shape[0]
    survivors = weighted.systematic_indices(jax.random.uniform(key), log_weights)
    indices = jnp.where(collapsed, survivors, jnp.arange(n))
    cloud = jax.tree.map(lambda leaf: leaf[indices], cloud)
    return cloud, jnp.where(collapsed, jnp.full(n, -math.log(n)), log_weights)


def _metropolis(
    key: Array,
    cloud: _Cloud,
    steps: Array,
    log_scale: Array,
    temperature: Array,
    locate: Callable[[Array], _Cloud],
    moves: int,
) -> tuple[_Cloud, Array, Array]:
    """Returns the moved particles, the adapted log-scale and the share of accepted moves."""

    def target(cloud: _Cloud) -> Array:
        return cloud.log_prior + weighted.temper(cloud.log_likelihood, temperature)

    def move(carry: tuple[_Cloud, Array], chance: tuple) -> tuple[tuple[_Cloud, Array], Array]:
        (cloud, log_scale), (noise, log_uniform) = carry, chance
        jump = jnp.exp(log_scale) * jnp.matmul(noise, steps, precision="highest")
        proposal = locate(cloud.x + jump)
        here = target(cloud)
        # Without a weight, what is impossible has nothing to gain by moving.
        log_ratio = jnp.where(here > -jnp.inf, target(proposal) - here, -jnp.inf)
        accepted = log_uniform < log_ratio

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(jnp.expand_dims(accepted, tuple(range(1, new.ndim))), new, old)

        rate = jnp.mean(accepted)
        cloud = jax.tree.map(choose, proposal, cloud)
        return (cloud, log_scale + rate - _GOOD_ACCEPTANCE), rate

    step_key, accept_key = jax.random.split(key)
    noise = jax.random.normal(step_key, (moves, *cloud.x.shape))
    log_uniform = -jax.random.exponential(accept_key, noise.shape[:2])
    (cloud, log_scale), rates = jax.lax.scan(move, (cloud, log_scale), (noise, log_uniform))
    return cloud, log_scale, jnp.mean(rates)
