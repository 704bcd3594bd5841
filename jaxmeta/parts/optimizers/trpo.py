"""Trust-region policy optimisation as a part: improves any policy on a batch of trials."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxmeta import parallel
from jaxmeta.ops.distributions import Distribution
from jaxmeta.ops.linear import conjugate_gradients
from jaxmeta.ops.trees import add_scaled, select
from jaxmeta.parts.optimizers.contract import (
    Batch,
    MinibatchAdam,
    Penalty,
    PolicyOptimizer,
    Replay,
    Terms,
    each_step,
    mean_terms,
    penalty_term,
    policy_terms,
    weigh,
)
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import INFINITE, check_fields


@dataclass(frozen=True)
class TRPO(PolicyOptimizer):
    """The natural gradient step that a bound on the KL divergence allows.

    With L the surrogate ``E[ρ A] + entropy bonus``, g its gradient and H the Hessian of
    ``E[KL(π_old ‖ π)]``, both over the whole batch::

        s = (H + damping I)⁻¹ g          by conjugate gradients
        θ ← θ + βʲ sqrt(2 max_kl / sᵀ H s) s

    with the smallest j at which L rises and the divergence is at most ``max_kl``; if there
    is none the policy stays. Products with H are exact. The
    value network is fitted by Adam and must not share parameters with the policy.

    Attributes:
        max_kl: Bound on the mean KL divergence of an update, nats per step.
        cg_iterations: Steps of conjugate gradients.
        damping: Added to the diagonal of H.
        backtrack: β, the factor of the line search.
        line_search_steps: Candidates of the line search.
        value_epochs: Passes over the batch that fit the value network; with 0 it stays.
        value_minibatches: Gradient steps per pass; divides the tasks of each device.
        max_grad_norm: Bound on the global norm of the value network's gradient; ``math.inf`` for
            none.
        task_by_task: Replay one task after the other rather than all at once: what a task
            needs then stays in a core's cache. For replays of many steps side by side, as
            `PolicyMAML`'s on a CPU; others it slows down.

    Reference: Schulman et al. 2015, arXiv 1502.05477.
    Differs from the paper: H from the whole batch rather than a subsample; the value network
    is a second recurrent network with the learning rate of the algorithm.
    """

    max_kl: float = 0.01
    cg_iterations: int = 10
    damping: float = 0.01
    backtrack: float = 0.5
    line_search_steps: int = 10
    value_epochs: int = 4
    value_minibatches: int = 4
    max_grad_norm: float = field(default=1.0, metadata=INFINITE)
    task_by_task: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.max_kl > 0, "max_kl", self.max_kl, "above 0")
        require(self.damping >= 0, "damping", self.damping, "at least 0")
        require(0 < self.backtrack < 1, "backtrack", self.backtrack, "a number between 0 and 1")
        require(self.value_epochs >= 0, "value_epochs", self.value_epochs, "at least 0")
        for name in ("cg_iterations", "line_search_steps", "value_minibatches"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.max_grad_norm > 0, "max_grad_norm", self.max_grad_norm, "above 0")

    @property
    def task_multiple(self) -> int:
        return self.value_minibatches

    @property
    def activation_share(self) -> float:
        return 2.0  # a gradient is itself differentiated

    @property
    def needs_separate_value(self) -> bool:
        return True

    def without_value(self) -> TRPO:
        return replace(self, value_epochs=0, value_minibatches=1)

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
        """Takes one natural gradient step of the policy and fits the value.

        Returns:
            Parameters, optimiser state, and ``policy_loss``, ``entropy`` (nats per step)
            and ``kl`` (from the policy that acted) after the step, ``step_size``, a
            share of the longest step (0 if the line search failed), ``grad_norm`` of the
            policy, and ``value_loss``, the mean while it was fitted.
        """
        params, metrics = self._step(replay, params, batch, entropy_coef, penalty)
        if self.value_epochs == 0:
            return params, opt_state, metrics | {"value_loss": jnp.float32(0.0)}

        def terms(params: Any, part: Batch) -> Terms:
            _, values = replay(params, part.inputs, part.mask)
            return {"value_loss": 0.5 * (values - part.target) ** 2}

        params, opt_state, fitted = self._descent().minimize(
            terms, lambda means: means["value_loss"], params, opt_state, batch, key, learning_rate
        )
        return params, opt_state, metrics | {"value_loss": fitted["value_loss"]}

    def _step(
        self,
        replay: Replay,
        params: Any,
        batch: Batch,
        entropy_coef: Array,
        penalty: Penalty | None,
    ) -> tuple[Any, dict[str, Array]]:
        count = parallel.sum_over_devices(jnp.sum(batch.mask, dtype=jnp.float32))

        def say(params: Any) -> Distribution:
            if not self.task_by_task:
                return replay(params, batch.inputs, batch.mask)[0]

            def one(task: Any) -> Distribution:
                said = replay(params, *jax.tree.map(lambda x: x[None], task))[0]
                return jax.tree.map(lambda x: x[0], said)

            return jax.lax.map(one, (batch.inputs, batch.mask))

        # One linearisation serves the gradient and all products with the Hessian. Its forward
        # product is the reverse of the reverse: memories have no forward mode of their own.
        before, pull = jax.vjp(say, params)
        _, reverse = jax.vjp(lambda slopes: pull(slopes)[0], jax.tree.map(jnp.zeros_like, before))

        def push(vector: Any) -> Distribution:
            return reverse(vector)[0]

        def means(distributions: Distribution, params: Any) -> Terms:
            """This device's share of the means."""
            terms = policy_terms(distributions, batch)
            terms = {
                "policy_loss": -jnp.exp(terms["log_ratio"]) * batch.advantage,
                "entropy": terms["entropy"],
                "kl": each_step(lambda old, new: old.kl(new))(before, distributions),
            }
            terms = weigh(terms, batch) | penalty_term(penalty, params, batch)
            return mean_terms(terms, batch.mask, count)

        def loss(terms: Terms) -> Array:
            loss = terms["policy_loss"] - entropy_coef * terms["entropy"]
            return loss + terms.get("penalty", 0.0)

        def with_terms(distributions: Distribution, params: Any) -> tuple[Array, Terms]:
            terms = means(distributions, params)
            return loss(terms), terms

        def divergence_gradient(distributions: Distribution) -> Distribution:
            return jax.grad(lambda d: means(d, params)["kl"])(distributions)

        def hessian_product(vector: Any) -> Any:
            # The divergence is flat where it begins: of its Hessian only J' H_d J is left,
            # with J the Jacobian of what the policy says and H_d the Hessian in that.
            bent = jax.jvp(divergence_gradient, (before,), (push(vector),))[1]
            return parallel.sum_over_devices(pull(bent)[0])

        def damped_product(vector: Any) -> Any:
            return add_scaled(hessian_product(vector), self.damping, vector)

        (said, direct), start = jax.grad(with_terms, argnums=(0, 1), has_aux=True)(before, params)
        grad, start = parallel.sum_over_devices((add_scaled(direct, 1.0, pull(said)[0]), start))
        target = jax.tree.map(jnp.negative, grad)
        direction, residual = conjugate_gradients(damped_product, target, self.cg_iterations)
        # sᵀ H s, of which conjugate gradients know (H + damping I) s = target - residual.
        curvature = optax.tree.vdot(direction, add_scaled(target, -1.0, residual))
        curvature -= self.damping * optax.tree.vdot(direction, direction)
        longest = jnp.sqrt(2.0 * self.max_kl / jnp.maximum(curvature, 1e-12))

        def candidate(search: tuple) -> tuple:
            j, _, _ = search
            share = jnp.asarray(self.backtrack, jnp.float32) ** j
            new = add_scaled(params, share * longest, direction)
            terms = parallel.sum_over_devices(means(say(new), new))
            good = (loss(terms) < loss(start)) & (terms["kl"] <= self.max_kl)
            return select(good, (j + 1, share, terms), (j + 1, jnp.float32(0.0), start))

        def searching(search: tuple) -> Array:
            j, share, _ = search
            return (share == 0.0) & (j < self.line_search_steps)

        nothing = jnp.int32(0), jnp.float32(0.0), start
        _, share, terms = jax.lax.while_loop(searching, candidate, nothing)
        metrics = terms | {"step_size": share, "grad_norm": optax.tree.norm(grad)}
        return add_scaled(params, share * longest, direction), metrics

    def _descent(self) -> MinibatchAdam:
        return MinibatchAdam(max(self.value_epochs, 1), self.value_minibatches, self.max_grad_norm)
