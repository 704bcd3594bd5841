"""Bayesian adaptation of a source distribution to a system that was watched.

The second half of EPOpt, and of use by itself: which physical parameters explain what a real
system did, and from which distribution to train next.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxmeta.experience.transitions import Transitions, check_transitions
from jaxmeta.ops import particles as weighted
from jaxmeta.ops.tempering import Tempered, tempered_particles
from jaxmeta.sim_to_real.model import Unknowns, make_log_likelihood, make_prior
from jaxmeta.sim_to_real.settings import SourceAdaptation
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.physical import PhysicalFamily
from jaxmeta_envs.random.distributions import Distribution, TruncatedNormal, Uniform

_LEVELS = (0.025, 0.975)


class SourcePosterior(NamedTuple):
    """What is known of a system's parameters after watching it.

    Attributes:
        source: The new source distribution: mean and standard deviation of the posterior,
            the latter not below the floor, within the family's limits.
        particles: Parameters, a task with leaves ``[N]``.
        log_weights: Logarithms of their weights, which sum to 1, ``[N]``.
        mean: Posterior mean of every parameter, a task of scalars, like the next three.
        std: Posterior standard deviation.
        low: Lower end of the central 95 % credible interval.
        high: Its upper end.
        ess: Effective sample size of the weights as a share of N.
        log_evidence: Logarithm of the density of the data under the prior, nats.
        temperature: 1; less if ``max_stages`` came first. The particles then follow
            ``prior * likelihood^temperature``, wider than the posterior. 0 if no particle
            could be what was watched.
        acceptance: Share of the last Metropolis moves that were accepted; at 0 the particles
            are not to be trusted.
    """

    source: TruncatedNormal[Any]
    particles: Any
    log_weights: Array
    mean: Any
    std: Any
    low: Any
    high: Any
    ess: Array
    log_evidence: Array
    temperature: Array
    acceptance: Array


def adapt_source(
    family: PhysicalFamily,
    source: Distribution[Any],
    transitions: Transitions,
    key: Array,
    *,
    known: Any = None,
    adaptation: SourceAdaptation = SourceAdaptation(),  # noqa: B008 (frozen)
) -> SourcePosterior:
    """Infers the parameters of a system from transitions, and fits the next source to them.

    With p the parameters, and s the observations::

        prior       π(p) = (1 - doubt) source(p) + doubt Uniform(p; family.limits())
        likelihood  L(p) = Π_t N(s_{t+1}; family.predict(s_t, a_t, p), process_std²)
        posterior   ∝ π(p) L(p)
        new source  TruncatedNormal(mean, max(std, min_std * width); family.limits())

    where readings are noisy (``observation_std``) L is that of a Kalman filter, see
    `jaxmeta.ops.transitions`. The posterior of a nearly deterministic simulator is
    orders of magnitude narrower than the prior, so that plain importance weights collapse
    onto one particle: the particles move there by stages, see `jaxmeta.ops.tempering`.

    The prior is zero outside the limits. The uniform part lets a target be found that the
    source excludes, as a truncated source does; a target outside the *limits* is not found,
    and piles the posterior up at a bound. Mean and standard deviation of the new source are
    those of the normal before truncation, so near a bound its own mean lies a little inside
    of the posterior's.

    Pure and traceable: it may stand inside ``jit``, and ``vmap`` over sources, transitions
    and keys gives each its own posterior. Called by itself it is compiled, once per
    family, settings and shapes. For round after round pass ``posterior.source`` with *new*
    transitions: with those of earlier rounds again it would count them twice.

    Args:
        family: Simulators, with ``predict``. Actions beyond its action space are clipped, as
            its ``step`` clips them.
        source: Where parameters were thought to be; `TruncatedNormal` or `Uniform`, a task
            of scalars per field.
        transitions: What the system did; `Transitions.from_trajectory` makes them of
            episodes played in simulation.
        key: Typed PRNG key.
        known: A task with the values of those parameters that are not ``free``; None takes
            the family's nominal ones. In the new source they have these means and the
            least standard deviation.
        adaptation: Settings; hashable.

    Raises:
        ConfigError: If shapes or names are not the family's, nothing was watched, a value is
            not finite, or a distribution is none. Values are checked where they are known
            already, outside of ``jit``.

    Reference: Rajeswaran et al. 2017, arXiv 1610.01283, section 3.3.
    Differs from the paper: tempered stages in place of one set of importance weights over
    samples from the prior; the share of ``doubt``; noise of readings; the floor ``min_std``.
    """
    require(isinstance(family, PhysicalFamily), "family", family, "a PhysicalFamily")
    adaptation.check(family)
    check_transitions(family, transitions)
    _check_source(family, source)
    known = family.nominal_task() if known is None else known
    _check_task(family, "known", known)
    return _adapt(family, source, transitions, key, known, adaptation)


@functools.partial(jax.jit, static_argnames=("family", "adaptation"))
def _adapt(
    family: PhysicalFamily,
    source: Distribution[Any],
    transitions: Transitions,
    key: Array,
    known: Any,
    adaptation: SourceAdaptation,
) -> SourcePosterior:
    limits = family.limits()
    names = adaptation.free or family.parameter_names()
    unknowns = Unknowns.within(limits, names, known)
    prior_key, subset_key, temper_key = jax.random.split(key, 3)
    log_prior, x = make_prior(unknowns.scale(source), adaptation, prior_key)
    log_likelihood = make_log_likelihood(family, unknowns, transitions, adaptation, subset_key)
    tempered = tempered_particles(
        temper_key,
        x,
        log_prior,
        log_likelihood,
        ess_share=adaptation.ess_share,
        moves=adaptation.moves,
        max_stages=adaptation.max_stages,
    )
    return _summarize(unknowns, limits, tempered, adaptation.min_std)


def _summarize(
    unknowns: Unknowns, limits: Uniform[Any], tempered: Tempered, min_std: float
) -> SourcePosterior:
    x, log_weights = tempered.particles, tempered.log_weights
    mean, std = weighted.weighted_moments(x, log_weights)
    low, high = (
        jax.vmap(weighted.weighted_quantile, (1, None, None))(x, log_weights, level)
        for level in _LEVELS
    )
    mean, low, high = (unknowns.task(point) for point in (mean, low, high))
    nothing = jax.tree.map(jnp.zeros_like, mean)
    std = unknowns.fill(nothing, std * unknowns.width)
    spread = jax.tree.map(lambda s, a, b: jnp.maximum(s, min_std * (b - a)), std, *limits)
    return SourcePosterior(
        source=TruncatedNormal(mean, spread, *limits),
        particles=jax.vmap(unknowns.task)(x),
        log_weights=log_weights,
        mean=mean,
        std=std,
        low=low,
        high=high,
        ess=weighted.effective_share(log_weights),
        log_evidence=tempered.log_evidence,
        temperature=tempered.temperature,
        acceptance=tempered.acceptance,
    )


def _check_source(family: PhysicalFamily, source: Distribution[Any]) -> None:
    kind = isinstance(source, TruncatedNormal | Uniform)
    require(kind, "source", source, "a TruncatedNormal or a Uniform")
    for name, task in source._asdict().items():
        bound = name in ("low", "high") and isinstance(source, TruncatedNormal)
        _check_task(family, f"source.{name}", task, may_be_infinite=bound)
    for name in family.parameter_names():
        values = {field: getattr(task, name) for field, task in source._asdict().items()}
        if any(isinstance(value, Tracer) for value in values.values()):
            continue
        # As NumPy's: inside of ``jit`` JAX would trace even what is known.
        values = {field: float(np.asarray(value)) for field, value in values.items()}
        require(values["low"] < values["high"], f"source.low.{name}", values["low"], "below high")
        if "std" in values:
            require(values["std"] > 0, f"source.std.{name}", values["std"], "above 0")


def _check_task(
    family: PhysicalFamily, field: str, task: Any, *, may_be_infinite: bool = False
) -> None:
    names = family.parameter_names()
    require(getattr(task, "_fields", None) == names, field, task, f"a task of {', '.join(names)}")
    for name in names:
        value = getattr(task, name)
        require(np.shape(value) == (), f"{field}.{name}", f"of shape {np.shape(value)}", "a scalar")
        if not isinstance(value, Tracer):
            number = float(np.asarray(value))
            good = not math.isnan(number) if may_be_infinite else math.isfinite(number)
            require(good, f"{field}.{name}", number, "a finite number")
