"""Gradient steps of soft actor-critic on minibatches of features, whatever made these.

Axes: N steps of this device's share of a minibatch, C critics.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxmeta import parallel
from jaxmeta.networks import Critics, GaussianActor
from jaxmeta.parts.off_policy import critic_loss, follow, policy_loss, soft_target, temperature_loss

SOFT_METRICS = ("critic_loss", "q", "actor_loss", "entropy")
"""What `soft_step` measures."""

_ADAM = optax.scale_by_adam()


class Minibatch(NamedTuple):
    """Steps to learn from, leaves ``[N, ...]``.

    Attributes:
        features: What the networks see before a step, ``[N, F]``.
        action: What was done, in half ranges.
        reward: What it paid, scaled.
        terminated: Whether it ended the decision process.
        next_features: What the networks see after it, ``[N, F]``.
        noise: Standard normal, for the actions to be drawn after the step and anew before it,
            ``[N, 2, *action.shape[1:]]``.
    """

    features: Array
    action: Array
    reward: Array
    terminated: Array
    next_features: Array
    noise: Array


class SoftLearner(NamedTuple):
    """What a gradient step changes.

    Attributes:
        actor: Parameters of the policy.
        critics: Of the critics, leaves ``[C, ...]``.
        targets: Their moving copies.
        log_alpha: Logarithm of the temperature.
        opt_states: Adam's states of policy, temperature and critics.
    """

    actor: Any
    critics: Any
    targets: Any
    log_alpha: Array
    opt_states: tuple[Any, Any, Any]


class SoftSettings(NamedTuple):
    """The numbers of a gradient step.

    Attributes:
        batch_size: Steps in a minibatch, over all devices.
        discount: γ.
        tau: How far the moving copies go.
        target_entropy: 𝓗, nats.
        learning_rates: Of policy, temperature and critics; None for what stays as it is.
    """

    batch_size: int
    discount: Array
    tau: float
    target_entropy: float
    learning_rates: tuple[Array, Array | None, Array]


def first_learner(actor: Any, critics: Any, temperature: float) -> SoftLearner:
    """Returns what learning begins with, given the first parameters."""
    log_alpha = jnp.log(jnp.float32(temperature))
    opt_states = _ADAM.init(actor), _ADAM.init(log_alpha), _ADAM.init(critics)
    return SoftLearner(actor, critics, critics, log_alpha, opt_states)


def soft_step(
    actor: GaussianActor,
    critics: Critics,
    settings: SoftSettings,
    learner: SoftLearner,
    batch: Minibatch,
) -> tuple[SoftLearner, dict[str, Array]]:
    """Takes a step of the critics, then of policy and temperature, then of the moving copies.

    Args:
        actor: The policy.
        critics: The critics.
        settings: The numbers.
        learner: Where to start.
        batch: This device's share.

    Returns:
        The learner, and metrics: ``critic_loss`` and ``q`` (of what was done, the mean of the
        critics) before the step of the critics, and after it ``actor_loss`` and ``entropy``, an
        estimate in nats of the density of actions in half ranges.
    """
    policy_state, alpha_state, critic_state = learner.opt_states
    policy_rate, alpha_rate, critic_rate = settings.learning_rates
    alpha, share = jnp.exp(learner.log_alpha), 1.0 / settings.batch_size

    def target(row: Minibatch) -> Array:
        action, log_prob = actor.apply(learner.actor, row.next_features).at(row.noise[0])
        next_q = critics.apply(learner.targets, row.next_features, action)
        of_row = row.reward, row.terminated, next_q, log_prob
        return soft_target(*of_row, alpha, settings.discount)

    def judged(params: Any, row: Minibatch, y: Array) -> tuple[Array, dict[str, Array]]:
        q = critics.apply(params, row.features, row.action)
        loss = critic_loss(q, y)
        return loss, {"critic_loss": loss, "q": jnp.mean(q)}

    def acted(params: tuple, row: Minibatch) -> tuple[Array, dict[str, Array]]:
        action, log_prob = actor.apply(params[0], row.features).at(row.noise[1])
        loss = policy_loss(critics.apply(learner.critics, row.features, action), log_prob, alpha)
        total = loss + temperature_loss(params[1], log_prob, settings.target_entropy)
        return total, {"actor_loss": loss, "entropy": -log_prob}

    y = jax.vmap(target)(batch)
    grads, metrics = _gradient(judged, share, learner.critics, batch, y)
    moved, critic_state = _descend(grads, critic_state, learner.critics, critic_rate)
    learner = learner._replace(critics=moved, targets=follow(learner.targets, moved, settings.tau))

    both = learner.actor, learner.log_alpha
    grads, of_policy = _gradient(acted, share, both, batch)
    policy, policy_state = _descend(grads[0], policy_state, learner.actor, policy_rate)
    log_alpha = learner.log_alpha
    if alpha_rate is not None:
        log_alpha, alpha_state = _descend(grads[1], alpha_state, log_alpha, alpha_rate)
    learner = learner._replace(
        actor=policy, log_alpha=log_alpha, opt_states=(policy_state, alpha_state, critic_state)
    )
    return learner, metrics | of_policy


def _gradient(loss: Any, share: float, params: Any, *rows: Any) -> tuple[Any, dict[str, Array]]:
    """Returns the gradient of a loss of single steps, and its metrics, both mean over the batch.

    ``loss`` is ``(params, *row) -> (loss, metrics)``.
    """

    def total(params: Any) -> tuple[Array, dict[str, Array]]:
        of_rows = jax.vmap(loss, (None, *[0] * len(rows)))(params, *rows)
        summed, metrics = jax.tree.map(lambda x: share * jnp.sum(x), of_rows)
        return summed, metrics

    return parallel.sum_over_devices(jax.grad(total, has_aux=True)(params))


def _descend(grads: Any, state: Any, params: Any, rate: Array) -> tuple[Any, Any]:
    updates, state = _ADAM.update(grads, state)
    return jax.tree.map(lambda p, u: p - rate * u, params, updates), state
