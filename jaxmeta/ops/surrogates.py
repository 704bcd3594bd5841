"""Surrogates of a policy's expected return: what they say of its derivatives.

Of N episodes of T steps, played by a policy with parameters θ₀, each returns a scalar whose
gradient at θ = θ₀ is the same estimate of ``∇ E[R] / T``. They differ in their second
derivative, and so in what a meta-gradient through a policy-gradient step contains. Of

    ∇² E[R] = H1 + H2 + H12 + H12ᵀ
    H1  = E[Σ_t ∇log π_t ∇log π_tᵀ A_t]
    H2  = E[Σ_t ∇² log π_t A_t]
    H12 = E[Σ_t ∇log π_t ∇_θ A_tᵀ]    (A_t depends on θ through later actions)

`log_likelihood` keeps H2, `likelihood_ratio` H1 + H2, and `dice` all, at the price of variance.
A baseline that depends on the state moves weight between H1 and H2 and leaves their sum alone, so
it changes what `log_likelihood` keeps: with a softmax over logits the curvature ``∇² log π`` is the
same for all actions, and a perfect baseline leaves nothing.

If episodes end early, the number of played steps is random, and a mean over them is a ratio of
two estimates: exact as N grows; for any N what is exact is the mean times that number.

Axes: N episodes, T steps.

Reference: Rothfuss et al. 2019, arXiv 1810.06784 (the terms, and LVC); Foerster et al. 2018,
arXiv 1802.05098 (DiCE); Farquhar et al. 2019, arXiv 1909.10549 (DiCE with advantages).
"""

from __future__ import annotations

import chex
import jax.numpy as jnp
from jax import Array


def log_likelihood(log_prob: Array, behaviour: Array, advantage: Array, mask: Array) -> Array:
    """Returns the mean over played steps of ``log π(a_t | s_t) A_t``.

    Args:
        log_prob: Of the actions under the policy that is differentiated, ``[N, T]``.
        behaviour: The same under the policy that played, ``[N, T]``, a constant; not read
            here.
        advantage: ``[N, T]``, a constant.
        mask: Whether a step was played, ``[N, T]``.
    """
    _check(log_prob, behaviour, advantage, mask)
    return masked_mean(log_prob * advantage, mask)


def likelihood_ratio(log_prob: Array, behaviour: Array, advantage: Array, mask: Array) -> Array:
    """Returns the mean over played steps of ``π(a_t | s_t) / π₀(a_t | s_t) A_t``.

    Known as the low-variance-curvature estimator; arguments as in `log_likelihood`.
    """
    _check(log_prob, behaviour, advantage, mask)
    ratio = jnp.exp(jnp.where(mask, log_prob - behaviour, 0.0))
    return masked_mean(ratio * advantage, mask)


def dice(log_prob: Array, behaviour: Array, advantage: Array, mask: Array) -> Array:
    """Returns the mean over played steps of ``(□_{≤t} - □_{<t}) A_t``.

    ``□_{≤t}`` is the product of the likelihood ratios of an episode up to step t. Derivatives
    of all orders are unbiased if ``A_t`` is the return from t on minus a function of the
    state. Arguments as in `log_likelihood`.
    """
    _check(log_prob, behaviour, advantage, mask)
    log_ratio = jnp.where(mask, log_prob - behaviour, 0.0)
    upto = jnp.cumsum(log_ratio, axis=1)
    return masked_mean((jnp.exp(upto) - jnp.exp(upto - log_ratio)) * advantage, mask)


def sampling_credit(log_prob: Array, behaviour: Array, mask: Array, reward_after: Array) -> Array:
    """Returns ``Σ_n Σ_t log(π(a_t | s_t) / π₀(a_t | s_t)) R'``, to make large.

    The policy decides which episodes an inner step learns from, and they decide what is earned
    after it: ``∇ E_τ[R'(τ)] = E[Σ ∇log π(τ) R'(τ) + ∇R'(τ)]``. This is the first term; the
    second comes from differentiating a surrogate of the episodes after adaptation through the
    inner steps, with `log_likelihood` in them. Both are of the reward per step if that surrogate
    is a mean over steps, as those above are, and R' too; then they are added as they are.
    Hence the sum here: each episode has part in all of R', however many there are.

    With several inner steps there is one such term for each, of the episodes that it learns
    from and the policy that played them, whose parameters are differentiated through the steps
    before.

    Args:
        log_prob: Of the actions of the inner step under the policy that is differentiated,
            ``[N, T]``.
        behaviour: The same under the policy that played, ``[N, T]``, a constant.
        mask: Whether a step was played, ``[N, T]``.
        reward_after: R', the mean reward per step after all of adaptation, less a baseline that
            these episodes have no influence on (a mean over other tasks, say); a constant.
    """
    _check(log_prob, behaviour, mask)
    chex.assert_rank(reward_after, 0)
    return jnp.sum(jnp.where(mask, log_prob - behaviour, 0.0)) * reward_after


def masked_mean(x: Array, mask: Array) -> Array:
    """Returns the mean of ``x`` over what was played; arrays of one shape."""
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def standardize(x: Array, mask: Array) -> Array:
    """Shifts and scales ``x`` to mean 0 and deviation 1 over what was played."""
    centred = x - masked_mean(x, mask)
    return centred / (jnp.sqrt(masked_mean(centred**2, mask)) + 1e-8)


def _check(*arrays: Array) -> None:
    chex.assert_rank(arrays, 2)
    chex.assert_equal_shape(arrays)
