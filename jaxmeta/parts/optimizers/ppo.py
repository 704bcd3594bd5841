"""Proximal policy optimisation as a part: improves any policy on a batch of trials."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from jaxmeta.parts.optimizers.contract import (
    Batch,
    MinibatchAdam,
    Penalty,
    PolicyOptimizer,
    Replay,
    Terms,
    penalty_term,
    policy_terms,
    weigh,
)
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import INFINITE, check_fields


def clipped_surrogate(log_ratio: Array, advantage: Array, clip: float) -> Array:
    """Returns ``min(ρA, clip(ρ, 1 - ε, 1 + ε)A)`` with ``ρ = exp(log_ratio)``, to maximise."""
    ratio = jnp.exp(log_ratio)
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)


@dataclass(frozen=True)
class PPO(PolicyOptimizer):
    """Clipped-ratio policy optimisation with Adam over minibatches of whole trials.

    Attributes:
        clip: ε of the clipped ratio.
        epochs: Passes over the batch.
        minibatches: Gradient steps per pass; divides the tasks of each device.
        value_coef: Weight of the value loss (half squared error on normalised targets).
        max_grad_norm: Bound on the global norm of the gradient; ``math.inf`` for none.
        max_kl: Early stopping: no further gradient step on a batch once a minibatch shows
            a mean KL divergence, from the policy that acted, above this; None never stops.

    Reference: Schulman et al. 2017, arXiv 1707.06347.
    Differs from the paper: minibatches are whole trials, with full back-propagation
    through time.
    """

    clip: float = 0.2
    epochs: int = 4
    minibatches: int = 4
    value_coef: float = 0.5
    max_grad_norm: float = field(default=1.0, metadata=INFINITE)
    max_kl: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        require(0.0 < self.clip < 1.0, "clip", self.clip, "a number between 0 and 1")
        require(self.value_coef >= 0, "value_coef", self.value_coef, "at least 0")
        require(self.max_kl is None or self.max_kl > 0, "max_kl", self.max_kl, "above 0, or None")
        self._descent()  # checks the rest

    @property
    def task_multiple(self) -> int:
        return self.minibatches

    @property
    def activation_share(self) -> float:
        return 1.0 / self.minibatches

    def without_value(self) -> PPO:
        return replace(self, value_coef=0.0)

    def init(self, params: Any) -> optax.OptState:
        return self._descent().init(params)

    def improve(
        self,
        replay: Replay,
        params: Any,
        opt_state: optax.OptState,
        batch: Batch,
        key: Array,
        learning_rate: Array,
        entropy_coef: Array,
        penalty: Penalty | None = None,
    ) -> tuple[Any, optax.OptState, dict[str, Array]]:
        """Takes up to ``epochs * minibatches`` gradient steps.

        Returns:
            Parameters, optimiser state, and the mean over the steps taken of
            ``policy_loss``, ``value_loss``, ``entropy`` (nats per step), ``approx_kl``
            (of the new policy from the one that acted), ``clip_fraction`` and
            ``grad_norm`` (before clipping), with ``steps_taken``, a share.
        """

        def terms(params: Any, part: Batch) -> Terms:
            distributions, values = replay(params, part.inputs, part.mask)
            terms = policy_terms(distributions, part)
            log_ratio = terms.pop("log_ratio")
            beyond = jnp.abs(jnp.expm1(log_ratio)) > self.clip
            terms |= {
                "policy_loss": -clipped_surrogate(log_ratio, part.advantage, self.clip),
                "clip_fraction": jnp.asarray(beyond, jnp.float32),
            }
            unweighted = {"value_loss": 0.5 * (values - part.target) ** 2}
            return weigh(terms, part) | unweighted | penalty_term(penalty, params, part)

        def loss(means: Terms) -> Array:
            loss = means["policy_loss"] + self.value_coef * means["value_loss"]
            return loss - entropy_coef * means["entropy"] + means.get("penalty", 0.0)

        return self._descent().minimize(
            terms, loss, params, opt_state, batch, key, learning_rate, self.max_kl
        )

    def _descent(self) -> MinibatchAdam:
        return MinibatchAdam(self.epochs, self.minibatches, self.max_grad_norm)
