"""What improves a policy on a batch of trials, and what such improvers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxmeta import parallel
from jaxmeta.ops.distributions import Distribution
from jaxmeta.ops.trees import select
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import INFINITE, check_fields

Replay = Callable[[Any, Any, Array], tuple[Distribution, Array]]
"""``(params, inputs [B, L], mask [B, L]) -> (distributions [B, L], values [B, L])``."""

Penalty = Callable[[Any, Any], Array]
"""``(params, batch) -> losses [B]`` of trials besides that of their actions, weighed already."""

Terms = dict[str, Array]
"""Named quantities of steps ``[B, L]``, or their means."""


class Batch(NamedTuple):
    """Trials to learn from, leaves ``[B, L, ...]``: B tasks of this device, L steps.

    Attributes:
        inputs: What the policy saw, and whatever else ``replay`` reads.
        action: What it did.
        log_prob: Log-probability it gave to that.
        advantage: Advantage of it, normalised.
        target: Target of the value estimate, in the units of the value output.
        mask: Whether the step was played.
        weight: Of the trial in the policy's objective, ``[B]``, such that the mean over all
            played steps is 1. The value is fitted to all trials alike.
    """

    inputs: Any
    action: Array
    log_prob: Array
    advantage: Array
    target: Array
    mask: Array
    weight: Array


class Trials(Protocol):
    """Anything to learn from with leaves ``[B, ...]``, of which ``mask`` is ``[B, L]``."""

    @property
    def mask(self) -> Array: ...


Part = TypeVar("Part", bound=Trials)


class PolicyOptimizer(ABC):
    """Improves any policy on a batch of trials; a frozen dataclass of its hyperparameters."""

    @property
    @abstractmethod
    def task_multiple(self) -> int:
        """What the number of tasks of each device must be a multiple of."""

    @property
    @abstractmethod
    def activation_share(self) -> float:
        """Memory of back-propagation, as a share of that of one gradient of all trials."""

    @property
    def needs_separate_value(self) -> bool:
        """Whether policy and value must not share parameters."""
        return False

    @abstractmethod
    def without_value(self) -> PolicyOptimizer:
        """Returns this optimiser for a policy whose value is estimated elsewhere."""

    @abstractmethod
    def init(self, params: Any) -> Any:
        """Returns the optimiser's first state."""

    @abstractmethod
    def improve(
        self,
        replay: Replay,
        params: Any,
        opt_state: Any,
        batch: Batch,
        key: Array,
        learning_rate: Array,
        entropy_coef: Array,
        penalty: Penalty | None = None,
    ) -> tuple[Any, Any, dict[str, Array]]:
        """Returns new parameters, the optimiser's state, and metrics with fixed keys.

        Args:
            replay: What the policy says of stored trials.
            params: Where to start.
            opt_state: The optimiser's state.
            batch: The trials.
            key: Of what is random.
            learning_rate: Step size, if the optimiser has use for one.
            entropy_coef: Weight of the entropy bonus.
            penalty: More to add to the loss, per trial; the metric ``penalty`` reports it.
        """


@dataclass(frozen=True)
class MinibatchAdam:
    """Adam over minibatches of whole trials.

    Minibatch m holds the trials whose index is m modulo ``minibatches``: trials are
    exchangeable, so nothing is gained by shuffling them, and the same minibatches arise
    on any number of devices. Their order is drawn anew every epoch.

    Attributes:
        epochs: Passes over the batch.
        minibatches: Gradient steps per pass; divides the tasks of each device.
        max_grad_norm: Bound on the global norm of the gradient; ``math.inf`` for none.
    """

    epochs: int
    minibatches: int
    max_grad_norm: float = field(metadata=INFINITE)

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.minibatches >= 1, "minibatches", self.minibatches, "at least 1")
        require(self.max_grad_norm > 0, "max_grad_norm", self.max_grad_norm, "above 0")

    def init(self, params: Any) -> optax.OptState:
        """Returns the first state."""
        return self._transform().init(params)

    def minimize(
        self,
        terms: Callable[[Any, Part], Terms],
        weigh: Callable[[Terms], Array],
        params: Any,
        opt_state: optax.OptState,
        batch: Part,
        key: Array,
        learning_rate: Array,
        max_kl: float | None = None,
    ) -> tuple[Any, optax.OptState, Terms]:
        """Takes ``epochs * minibatches`` steps down the weighed mean of the terms.

        Args:
            terms: ``(params, minibatch) -> terms [B, L]``.
            weigh: Loss, linear in the terms' means over played steps.
            params: Where to start.
            opt_state: State of Adam.
            batch: The trials.
            key: Of the order of the minibatches.
            learning_rate: Step size.
            max_kl: No further step is taken once the term ``approx_kl`` of a minibatch
                exceeds this.

        Returns:
            Parameters, state, and the means over the steps taken of all terms and of
            ``grad_norm`` (before clipping), with ``steps_taken``, a share.
        """
        parts = jax.tree.map(self._partition, batch)
        counts = parallel.sum_over_devices(jnp.sum(parts.mask, axis=(1, 2), dtype=jnp.float32))

        def loss(params: Any, part: Part, count: Array) -> tuple[Array, Terms]:
            means = mean_terms(terms(params, part), part.mask, count)
            return weigh(means), means

        def step(carry: tuple, index: Array) -> tuple[tuple, tuple[Terms, Array]]:
            params, opt_state, going = carry
            part, count = jax.tree.map(lambda x: x[index], (parts, counts))
            # Each device differentiates its own trials; one reduction then adds them up.
            grads, means = parallel.sum_over_devices(
                jax.grad(loss, has_aux=True)(params, part, count)
            )
            if max_kl is not None:
                going &= means["approx_kl"] <= max_kl
            updates, new_state = self._transform().update(grads, opt_state)
            new_params = jax.tree.map(lambda p, u: p - learning_rate * u, params, updates)
            if max_kl is not None:
                new_params, new_state = select(going, (new_params, new_state), (params, opt_state))
            means |= {"grad_norm": optax.tree.norm(grads)}
            return (new_params, new_state, going), (means, going)

        orders = jax.vmap(lambda k: jax.random.permutation(k, self.minibatches))(
            jax.random.split(key, self.epochs)
        )
        start = params, opt_state, jnp.asarray(True)
        (params, opt_state, _), (means, taken) = jax.lax.scan(step, start, orders.reshape(-1))
        share = jnp.mean(taken, dtype=jnp.float32)
        taken = taken.at[0].set(True)  # where none was taken, the first tells why
        means = jax.tree.map(lambda x: jnp.sum(x * taken) / jnp.sum(taken), means)
        return params, opt_state, means | {"steps_taken": share}

    def _transform(self) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(self.max_grad_norm), optax.scale_by_adam(eps=1e-5)
        )

    def _partition(self, x: Array) -> Array:
        """``[B, ...] -> [minibatches, B / minibatches, ...]``, index modulo first."""
        split = x.reshape(-1, self.minibatches, *x.shape[1:])
        return jnp.swapaxes(split, 0, 1)


def check_num_tasks(num_tasks: int, multiple: int) -> None:
    """Raises `ConfigError` unless the tasks of an update can be parted into minibatches."""
    text = f"a positive multiple of {multiple}, the minibatches of optimizer"
    require(num_tasks >= 1 and num_tasks % multiple == 0, "num_tasks", num_tasks, text)


def policy_terms(distributions: Distribution, batch: Batch) -> Terms:
    """Returns ``log_ratio``, ``entropy`` (nats) and ``approx_kl`` of steps, ``[B, L]``.

    ``approx_kl`` is Schulman's estimator of the KL divergence of the policy from the one
    that acted: unbiased, and never negative.
    """
    log_prob = each_step(lambda d, a: d.log_prob(a))(distributions, batch.action)
    log_ratio = jnp.where(batch.mask, log_prob - batch.log_prob, 0.0)
    return {
        "log_ratio": log_ratio,
        "entropy": each_step(lambda d: d.entropy())(distributions),
        "approx_kl": jnp.expm1(log_ratio) - log_ratio,
    }


def weigh(terms: Terms, batch: Batch) -> Terms:
    """Multiplies the terms of each trial by its weight."""
    return {name: batch.weight[:, None] * x for name, x in terms.items()}


def each_step(function: Callable[..., Any]) -> Callable[..., Any]:
    """Maps over the axes ``[B, L]`` of a batch."""
    return jax.vmap(jax.vmap(function))


def penalty_term(penalty: Penalty | None, params: Any, batch: Batch) -> Terms:
    """Returns the term ``penalty`` of steps, ``[B, L]``, if there is one."""
    if penalty is None:
        return {}
    return {"penalty": jnp.broadcast_to(penalty(params, batch)[:, None], batch.mask.shape)}


def mean_terms(terms: Terms, mask: Array, count: Array) -> Terms:
    """Returns this device's share of the terms' means over the played steps.

    Args:
        terms: ``[B, L]``.
        mask: ``[B, L]``, whether a step was played.
        count: Steps played, over all devices.
    """
    return {name: jnp.sum(jnp.where(mask, x, 0.0)) / count for name, x in terms.items()}
