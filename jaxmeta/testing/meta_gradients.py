"""Meta-gradients of decision processes small enough to enumerate: the truth for estimators.

A policy is a table of logits θ ``[S, A]``. With j the expected reward per step of an episode of
T steps, its return over T, there are two meta-objectives of K inner steps of size α:

    I   j(θ_K),      θ_{k+1} = θ_k + α ∇j(θ_k)            the expectation is inside
    II  E[j(θ_K)],   θ_{k+1} = θ_k + α g(τ_k; θ_k)        the expectation is outside

where g(τ; θ) is the policy gradient of N episodes τ that the policy θ_k played. What reaches θ
through θ_K depends on the terms of ``∇²j`` that an estimator keeps (`jaxmeta.ops.surrogates`):

    I   (I + α H(θ_{K-1})) ... (I + α H(θ_0)) transposed, times ∇j(θ_K)
    II  the same with the second derivative of the surrogate of τ_k for H, in expectation, plus,
        with credit for sampling, Σ_k ∇log p(τ_k) j(θ_K)

I with all terms and II with `log_likelihood` and credit are the gradients of the objectives.

An algorithm does not climb the return itself: it fits a baseline to the N episodes and divides
advantages by their standard deviation. Of a batch both are constants, so II stays as it is, with
g as it is really taken; I then has a step of size α / σ, and that σ changes with θ is a term that
no second derivative of a surrogate contains.

Everything here is NumPy in float64 by explicit formulas: no automatic differentiation, nothing
random. Axes: S states, A actions, P = S·A parameters, T steps, M episodes that can happen, C
batches of N of them. Leading axes ``...`` of parameters are any.

Reference: Rothfuss et al. 2019, arXiv 1810.06784; Stadie et al. 2018, arXiv 1803.01118.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxmeta.testing.tiny_process import Terms, TinyProcess


class MetaGradient(NamedTuple):
    """A meta-objective and what is taken for its gradient.

    Attributes:
        value: Expected reward per step of an episode of T steps after adaptation, ``[...]``.
        gradient: Taken for its gradient, ``[..., P]``.
        length: Expected steps of such an episode if some end early, ``[...]``.
    """

    value: np.ndarray
    gradient: np.ndarray
    length: np.ndarray


@dataclass(frozen=True, eq=False)
class Adaptation:
    """Inner steps on one process, exactly.

    Attributes:
        process: The task.
        learning_rate: α.
        steps: K, the inner steps.
        baseline: Of the inner gradients, by time and state, ``[T, S]``.
        standardize: Whether the advantages of an inner step are shifted and scaled to mean 0
            and deviation 1 over the played steps of its episodes.
        ridge: In place of ``baseline``, `jaxmeta.LinearBaseline` with this regularisation,
            fitted to the episodes of each step, and to as many after adaptation. None: not.
    """

    process: TinyProcess
    learning_rate: float
    steps: int = 1
    baseline: np.ndarray | None = None
    standardize: bool = False
    ridge: float | None = None

    def inside(self, theta: np.ndarray, terms: Terms) -> MetaGradient:
        """Returns the meta-gradient of formulation I at θ ``[S, A]`` with the terms kept.

        With ``standardize`` the deviation counts as a constant: of the gradient of the value
        that is returned, what is kept lacks how it changes.
        """
        assert self.ridge is None, "without a batch there is nothing to fit a baseline to"
        process, jacobian = self.process, np.eye(theta.size)
        for _ in range(self.steps):
            baseline, scale = self.baseline, 1.0
            if self.standardize:
                advantage = process.advantage(self.baseline)
                weight = process.probability(theta)[:, None] * process.episodes.mask
                mean, scale = (x.item() for x in _moments(advantage, weight))
                baseline = mean + (0.0 if baseline is None else baseline)
                baseline = np.broadcast_to(baseline, (process.horizon, len(process.start)))
            kept = process.hessian_terms(theta, baseline).keep(terms)
            jacobian = jacobian + self.learning_rate / scale * kept @ jacobian
            ascent = process.gradient(theta).reshape(theta.shape) / scale
            theta = theta + self.learning_rate * ascent
        gradient = jacobian.T @ process.gradient(theta)
        return MetaGradient(process.value(theta), gradient, process.length(theta))

    def outside(
        self,
        theta: np.ndarray,
        terms: Terms,
        episodes: int,
        *,
        credit: bool = False,
        every: bool = False,
    ) -> MetaGradient:
        """Returns the expected meta-gradient of N sampled episodes per inner step.

        The gradient after adaptation is the exact one, which is the mean over episodes played
        after adaptation; with ``ridge`` the mean over N of them, less a baseline that knows
        them.

        Args:
            theta: Logits, ``[..., S, A]``.
            terms: Of the second derivative of the surrogate, which are kept.
            episodes: N.
            credit: Whether the sampled episodes are credited with the reward after them.
            every: Whether the reward of the episodes that are played for the steps counts as
                well: the value is a sum over steps of adaptation, the length the last's.
        """
        counts = batches(len(self.process.taken), episodes)
        return self._outside(theta, terms, counts, credit, every, 0)

    def _outside(
        self,
        theta: np.ndarray,
        terms: Terms,
        counts: np.ndarray,
        credit: bool,
        every: bool,
        step: int,
    ) -> MetaGradient:
        process = self.process
        weight = np.exp(np.log(process.probability(theta)) @ counts.T) * multiplicity(counts)
        shares = counts[:, :, None] * process.episodes.mask  # of the steps in each batch's mean
        shares = shares / shares.sum((1, 2), keepdims=True)
        advantage = self._advantage(counts)
        if step == self.steps:
            if self.ridge is None:
                gradient = process.gradient(theta)
            else:
                each = counts[:, :, None] * advantage / (counts[0].sum() * process.horizon)
                of_batches, _ = process.surrogate_derivatives(theta, "none", each)
                gradient = np.einsum("...c,...cp->...p", weight, of_batches)
            return MetaGradient(process.value(theta), gradient, process.length(theta))
        if self.standardize:
            mean, scale = _moments(advantage, shares)
            advantage = (advantage - mean) / (scale + 1e-8)
        ascent, curvature = process.surrogate_derivatives(theta, terms, shares * advantage)
        ascent = ascent.reshape(*ascent.shape[:-1], *theta.shape[-2:])
        adapted = theta[..., None, :, :] + self.learning_rate * ascent
        after = self._outside(adapted, terms, counts, credit, every, step + 1)
        through = np.einsum("...cpq,...cp->...cq", curvature, after.gradient)
        gradient = after.gradient + self.learning_rate * through
        if credit:
            score = np.einsum("cm,...mtp->...cp", counts, process.score(theta))
            gradient = gradient + score * after.value[..., None]
        value, length = (np.sum(weight * x, axis=-1) for x in (after.value, after.length))
        gradient = np.einsum("...c,...cp->...p", weight, gradient)
        if every:
            value = value + process.value(theta)
            gradient = gradient + process.gradient(theta)
        return MetaGradient(value, gradient, length)

    def _advantage(self, counts: np.ndarray) -> np.ndarray:
        """Returns the advantages of steps in each batch before they are scaled, ``[C, M, T]``."""
        process = self.process
        if self.ridge is None:
            return np.tile(process.advantage(self.baseline), (len(counts), 1, 1))
        episodes, returns = process.episodes, process.advantage()
        time = np.broadcast_to(np.arange(process.horizon) / 100.0, episodes.state.shape)
        state = np.eye(len(process.start))[episodes.state]
        powers = np.stack([time, time**2, time**3, np.ones_like(time)], -1)
        features = np.concatenate([state, state**2, powers], -1)
        shares = counts[:, :, None] * episodes.mask
        shares = shares / shares.sum((1, 2), keepdims=True)
        size = np.sqrt(np.einsum("cmt,mtf->cf", shares, features**2))
        scaled = features / np.maximum(size, 1e-6)[:, None, None, :]
        gram = np.einsum("cmt,cmtf,cmtg->cfg", shares, scaled, scaled)
        moment = np.einsum("cmt,cmtf,mt->cf", shares, scaled, returns)
        penalty = self.ridge * np.eye(features.shape[-1])
        weights = np.linalg.solve(gram + penalty, moment[..., None])[..., 0]
        return (returns - np.einsum("cmtf,cf->cmt", scaled, weights)) * episodes.mask


def _moments(x: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation over the last two axes, kept, under shares that sum to > 0."""
    total = shares.sum((-2, -1), keepdims=True)
    mean = np.sum(shares * x, (-2, -1), keepdims=True) / total
    variance = np.sum(shares * (x - mean) ** 2, (-2, -1), keepdims=True) / total
    return mean, np.sqrt(variance)


def batches(kinds: int, size: int) -> np.ndarray:
    """Returns all batches of episodes as how often each kind is in it, ``[C, M]``."""
    rows = []
    for chosen in itertools.combinations_with_replacement(range(kinds), size):
        found = Counter(chosen)
        rows.append([found[kind] for kind in range(kinds)])
    return np.array(rows)


def multiplicity(counts: np.ndarray) -> np.ndarray:
    """Returns in how many orders each batch can be played, ``[C]``."""
    factorial = np.vectorize(math.factorial, otypes=[float])
    return factorial(counts.sum(1)) / factorial(counts).prod(1)
