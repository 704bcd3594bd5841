"""Proximal policy optimisation as a part: improves any policy on a batch of trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxmeta import parallel
from jaxmeta.ops.distributions import Distribution
from jaxmeta_envs.base import PolicyInput
from jaxmeta_envs.errors import require

Replay = Callable[[Any, PolicyInput, Array], tuple[Distribution, Array]]
"""``(params, inputs [L], mask [L]) -> (distributions [L], values [L])`` over one trial."""


class Batch(NamedTuple):
    """Trials to learn from, leaves ``[B, L, ...]``: B tasks of this device, L steps.

    Attributes:
        inputs: What the policy saw.
        action: What it did.
        log_prob: Log-probability it gave to that.
        advantage: Advantage of it, normalised.
        target: Target of the value estimate, in the units of the value output.
        mask: Whether the step was played.
    """

    inputs: PolicyInput
    action: Array
    log_prob: Array
    advantage: Array
    target: Array
    mask: Array


def clipped_surrogate(log_ratio: Array, advantage: Array, clip: float) -> Array:
    """Returns ``min(ρA, clip(ρ, 1 - ε, 1 + ε)A)`` with ``ρ = exp(log_ratio)``, to maximise."""
    ratio = jnp.exp(log_ratio)
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)


@dataclass(frozen=True)
class PPO:
    """Clipped-ratio policy optimisation with Adam over minibatches of whole trials.

    Minibatch m holds the trials whose index is m modulo ``minibatches``: trials are
    exchangeable, so nothing is gained by shuffling them, and the same minibatches arise
    on any number of devices. Their order is drawn anew every epoch.

    Attributes:
        clip: ε of the clipped ratio.
        epochs: Passes over the batch.
        minibatches: Gradient steps per pass; divides the tasks of each device.
        value_coef: Weight of the value loss (half squared error on normalised targets).
        max_grad_norm: Bound on the global norm of the gradient.

    Reference: Schulman et al. 2017, arXiv 1707.06347.
    Differs from the paper: minibatches are whole trials, with full back-propagation
    through time.
    """

    clip: float = 0.2
    epochs: int = 4
    minibatches: int = 4
    value_coef: float = 0.5
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        require(0.0 < self.clip < 1.0, "clip", self.clip, "a number between 0 and 1")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.minibatches >= 1, "minibatches", self.minibatches, "at least 1")
        require(self.value_coef >= 0, "value_coef", self.value_coef, "at least 0")
        require(self.max_grad_norm > 0, "max_grad_norm", self.max_grad_norm, "above 0")

    def init(self, params: Any) -> optax.OptState:
        """Returns the optimiser's first state."""
        return self._transform().init(params)

    def improve(
        self,
        replay: Replay,
        params: Any,
        opt_state: optax.OptState,
        batch: Batch,
        key: Array,
        learning_rate: Array,
        entropy_coef: Array,
    ) -> tuple[Any, optax.OptState, dict[str, Array]]:
        """Takes ``epochs * minibatches`` gradient steps.

        Returns:
            Parameters, optimiser state, and the mean over gradient steps of
            ``policy_loss``, ``value_loss``, ``entropy`` (nats per step), ``approx_kl``
            (of the new policy from the one that acted), ``clip_fraction`` and
            ``grad_norm`` (before clipping).
        """
        minibatches = jax.tree.map(self._partition, batch)
        steps = parallel.sum_over_devices(jnp.sum(minibatches.mask, axis=(1, 2), dtype=jnp.float32))

        def loss(params: Any, minibatch: Batch, steps: Array) -> tuple[Array, dict[str, Array]]:
            sums = jax.vmap(lambda trial: self._trial_terms(replay, params, trial))(minibatch)
            terms = jax.tree.map(lambda x: jnp.sum(x) / steps, sums)
            total = terms["policy_loss"] + self.value_coef * terms["value_loss"]
            return total - entropy_coef * terms["entropy"], terms

        def step(carry: tuple, index: Array) -> tuple[tuple, dict[str, Array]]:
            params, opt_state = carry
            minibatch, count = jax.tree.map(lambda x: x[index], (minibatches, steps))
            # Each device differentiates its own trials; one reduction then adds them up.
            grads, terms = parallel.sum_over_devices(
                jax.grad(loss, has_aux=True)(params, minibatch, count)
            )
            updates, opt_state = self._transform().update(grads, opt_state)
            params = jax.tree.map(lambda p, u: p - learning_rate * u, params, updates)
            return (params, opt_state), terms | {"grad_norm": optax.tree.norm(grads)}

        orders = jax.vmap(lambda k: jax.random.permutation(k, self.minibatches))(
            jax.random.split(key, self.epochs)
        )
        (params, opt_state), terms = jax.lax.scan(step, (params, opt_state), orders.reshape(-1))
        return params, opt_state, jax.tree.map(jnp.mean, terms)

    def _transform(self) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(self.max_grad_norm), optax.scale_by_adam(eps=1e-5)
        )

    def _partition(self, x: Array) -> Array:
        """``[B, ...] -> [minibatches, B / minibatches, ...]``, index modulo first."""
        split = x.reshape(-1, self.minibatches, *x.shape[1:])
        return jnp.swapaxes(split, 0, 1)

    def _trial_terms(self, replay: Replay, params: Any, trial: Batch) -> dict[str, Array]:
        """Sums of the loss terms over one trial's played steps."""
        distributions, values = replay(params, trial.inputs, trial.mask)
        log_prob = jax.vmap(lambda d, a: d.log_prob(a))(distributions, trial.action)
        log_ratio = jnp.where(trial.mask, log_prob - trial.log_prob, 0.0)
        terms = {
            "policy_loss": -clipped_surrogate(log_ratio, trial.advantage, self.clip),
            "value_loss": 0.5 * (values - trial.target) ** 2,
            "entropy": jax.vmap(lambda d: d.entropy())(distributions),
            # Schulman's estimator: unbiased, and never negative.
            "approx_kl": jnp.expm1(log_ratio) - log_ratio,
            "clip_fraction": jnp.asarray(jnp.abs(jnp.expm1(log_ratio)) > self.clip, jnp.float32),
        }
        return {name: jnp.sum(jnp.where(trial.mask, x, 0.0)) for name, x in terms.items()}
