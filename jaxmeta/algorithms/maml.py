"""Meta-learning of where gradient descent starts: MAML and its kin, for supervised tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxmeta import parallel
from jaxmeta.contracts import Algorithm
from jaxmeta.networks import MLP, FirstWeights, Regressor, feedforward_regressor
from jaxmeta.ops.trees import num_bytes
from jaxmeta.parts.inner_loop import Fast, InnerLoop, MetaParams
from jaxmeta.parts.risk import Mean, Risk
from jaxmeta.parts.schedules import Schedule, check_positive, value_at
from jaxmeta_envs.core.contracts import Family
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields
from jaxmeta_envs.core.supervised import AdaptiveModel, Examples, SupervisedFamily


@dataclass(frozen=True)
class MetaGradient:
    """Adam on the gradient of the loss after adaptation, taken through the adaptation.

    Attributes:
        max_grad_norm: Bound on the global norm of the meta-gradient; None for none.

    Reference: Finn et al. 2017, arXiv 1703.03400.
    """

    max_grad_norm: float | None = 10.0

    def __post_init__(self) -> None:
        check_fields(self)
        bound = self.max_grad_norm
        require(bound is None or bound > 0, "max_grad_norm", bound, "above 0, or None")


@dataclass(frozen=True)
class Reptile:
    """Moves the initial parameters towards the adapted ones, ``φ ← φ + ε mean(φ_K - φ)``.

    In training every inner step sees new examples of its task, unless ``inner.minibatches``
    says how many parts a fixed set of them has. ε is the learning rate of the algorithm; one
    task per update is the serial form.

    Reference: Nichol et al. 2018, arXiv 1803.02999.
    """


class MAMLState(NamedTuple):
    """What the next update needs.

    Attributes:
        params: The meta-parameters.
        opt_state: State of Adam; empty for Reptile.
    """

    params: MetaParams
    opt_state: Any


@dataclass(frozen=True)
class MAML(Algorithm[SupervisedFamily, MAMLState]):
    """Learns an initialisation from which a few gradient steps fit a new task.

    An update draws tasks, adapts to ``shots`` examples of each by the inner loop, and
    improves the initialisation θ by what the adapted parameters do on other examples::

        θ'_i = θ - α ∇L_i(θ; support)        (K times)
        minimise  Σ_i L_i(θ'_i; query)

    Parts give its relatives: ``inner=InnerLoop(second_order_steps=0)`` is first-order MAML,
    ``InnerLoop(adapts="head")`` ANIL, ``InnerLoop(optimizer=MetaSGD())`` Meta-SGD,
    ``InnerLoop(steps=0)`` pretraining on all tasks together, and ``outer=Reptile()`` Reptile.

    Attributes:
        num_tasks: Tasks per update, over all devices.
        shots: Examples of a task, or of each of its classes, that a gradient step sees. All
            steps see the same, unless ``inner.minibatches`` or `Reptile` has more of them.
        queries: Other examples, or of each class, that the adapted parameters are judged on.
        network: Hidden layers.
        first_weights: ``"he"``: normal, scaled by the inputs of a unit, with biases of 0.
            ``"uniform"``: weights and biases uniform up to one over the root of the inputs, as
            PyTorch has them; without biases, tanh units of one input are all odd functions.
        inner: How it adapts.
        outer: How the initialisation learns from that.
        learning_rate: Step size of the outer loop, constant or a schedule over updates.
        risk: Which tasks count: all, or those with the largest losses.

    Reference: Finn et al. 2017, arXiv 1703.03400.
    Differs from the paper: how the weights begin.
    """

    num_tasks: int = 25
    shots: int = 10
    queries: int = 10
    network: MLP = field(default_factory=lambda: MLP((40, 40), "relu"))
    first_weights: FirstWeights = "he"
    inner: InnerLoop = field(default_factory=InnerLoop)
    outer: MetaGradient | Reptile = field(default_factory=MetaGradient)
    learning_rate: float | Schedule = 1e-3
    risk: Risk = field(default_factory=Mean)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("num_tasks", "shots", "queries"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        known = get_args(FirstWeights)
        require(
            self.first_weights in known, "first_weights", self.first_weights, " or ".join(known)
        )
        check_positive(self.learning_rate, "learning_rate")
        self.risk.check(self.num_tasks)
        if isinstance(self.outer, Reptile):
            require(self.inner.steps >= 1, "inner.steps", self.inner.steps, "at least 1 in Reptile")
            text = "Mean() in Reptile, which has no loss to weigh"
            require(isinstance(self.risk, Mean), "risk", self.risk, text)

    def check(self, family: Family) -> None:
        text = "a SupervisedFamily for MAML; PolicyMAML is for tasks to act in"
        require(isinstance(family, SupervisedFamily), "tasks", family, text)
        assert isinstance(family, SupervisedFamily)
        self.inner.check(self._network(family).init)

    def trial_episodes(self, family: Family) -> int:
        """Rows of the adaptation curve in training: one per step, and one before."""
        del family
        return self.inner.steps + 1

    def env_steps_per_update(self, family: SupervisedFamily) -> int:
        """Examples that one update sees."""
        shots = self._support_sets * self.shots + self.queries
        return self.num_tasks * shots * family.examples_per_shot

    def init(self, family: SupervisedFamily, key: Array) -> MAMLState:
        network_key, rates_key = jax.random.split(key)
        params = self.inner.init(rates_key, self._network(family).init(network_key))
        return MAMLState(params, self._init_outer(params))

    def policy(self, family: SupervisedFamily) -> AdaptiveModel:
        network = self._network(family)

        def loss(params: Any, examples: Examples) -> Array:
            return family.loss(network.apply(params, examples.x), examples.y)

        def adapt(params: MetaParams, fast: Fast, support: Examples) -> Fast:
            return self.inner.step(params, fast, loss, support)[0]

        return AdaptiveModel(
            begin=self.inner.begin,
            predict=lambda params, fast, x: network.apply(fast.params, x),
            adapt=adapt,
            shots=self.shots,
        )

    def update(
        self, family: SupervisedFamily, state: MAMLState, key: Array, step: Array
    ) -> tuple[MAMLState, dict[str, Array]]:
        network = self._network(family)
        support, query = jax.vmap(lambda key: self._sample(family, key))(
            parallel.task_keys(key, self.num_tasks)
        )

        def loss(params: Any, examples: Examples) -> Array:
            return family.loss(network.apply(params, examples.x), examples.y)

        def judge(params: Any, examples: Examples) -> dict[str, Array]:
            predicted = network.apply(params, examples.x)
            value = family.loss(predicted, examples.y)
            return {"loss": value, **family.metrics(predicted, examples.y)}

        def adapt(meta: MetaParams, support: Examples) -> Any:
            return self.inner.run(meta, loss, support)[0]

        before = jax.vmap(lambda examples: judge(state.params.initial, examples))(query)
        rate = value_at(self.learning_rate, step)
        if isinstance(self.outer, Reptile):
            adapted = jax.vmap(lambda examples: adapt(state.params, examples))(support)
            after = jax.vmap(judge)(adapted, query)
            move = jax.tree.map(lambda a, x: a - x[None], adapted, state.params.initial)
            move = parallel.mean_over_tasks(move)
            initial = jax.tree.map(lambda x, m: x + rate * m, state.params.initial, move)
            params, opt_state = state.params._replace(initial=initial), state.opt_state
            norm = optax.tree.norm(move)
        else:

            def objective(meta: MetaParams) -> tuple[Array, dict[str, Array]]:
                after = jax.vmap(lambda s, q: judge(adapt(meta, s), q))(support, query)
                losses = after["loss"]
                # A return is to be high, a loss to be low.
                of_all = parallel.gather_tasks(-jax.lax.stop_gradient(losses))
                weights = self.risk.weights(of_all, step)
                share = parallel.own_tasks(weights) / jnp.sum(weights)
                return jnp.sum(share * losses), after

            # Each device differentiates its own tasks; one reduction then adds them up.
            grads, after = jax.grad(objective, has_aux=True)(state.params)
            grads = parallel.sum_over_devices(grads)
            move, opt_state = self._transform().update(grads, state.opt_state)
            params = jax.tree.map(lambda x, m: x - rate * m, state.params, move)
            norm = optax.tree.norm(grads)
        before = {f"{name}_before": value for name, value in before.items()}
        metrics = parallel.mean_over_tasks(after | before)
        metrics |= {"outer_norm": norm, "learning_rate": rate}
        return MAMLState(params, opt_state), metrics

    def memory_bytes(self, family: SupervisedFamily, num_tasks: int) -> int:
        """Bytes of one update: state, and what the inner loop keeps for back-propagation."""
        state = jax.eval_shape(lambda: self.init(family, jax.random.key(0)))
        kept = self.inner.steps if self.inner.second_order_steps is None else 1
        kept = 1 if isinstance(self.outer, Reptile) else max(kept, 1)
        # A step keeps parameters and gradients, and of each unit input, output and two tangents.
        examples = (self.shots + self.queries) * family.examples_per_shot
        units = 4 * sum(self.network.sizes) * examples
        per_task = kept * (2 * num_bytes(state.params) + 4 * units)
        return int(3 * num_bytes(state) + num_tasks * per_task)

    @property
    def _support_sets(self) -> int:
        """How many times the examples of one step a task has."""
        if self.inner.steps == 0:
            return 0
        fresh = self.inner.steps if isinstance(self.outer, Reptile) else 1
        return self.inner.minibatches or fresh

    def _sample(self, family: SupervisedFamily, key: Array) -> tuple[Examples, Examples]:
        """Draws a task; returns the support of every inner step ``[K, n]``, and queries."""
        keys = jax.random.split(key, 3)
        task, sets = family.sample_task(keys[0]), self._support_sets
        # At least one, of which no step sees anything if there are no steps.
        support, query = family.sample_split(
            keys[1:], task, max(sets, 1) * self.shots, self.queries
        )
        if self.inner.minibatches:
            return self.inner.deal(jax.random.fold_in(keys[1], 1), support, sets), query
        support = jax.tree.map(lambda x: x.reshape(max(sets, 1), -1, *x.shape[1:]), support)
        steps = self.inner.steps
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (steps, *x.shape[1:])), support), query

    def _network(self, family: SupervisedFamily) -> Regressor:
        """Returns the network, from inputs to predictions."""
        space = family.input_space
        network = feedforward_regressor(
            space.flat_size, family.label_space.flat_size, self.network, self.first_weights
        )

        def apply(params: Any, x: Array) -> Array:
            return network.apply(params, jax.vmap(space.flatten)(x))

        return Regressor(network.init, apply)

    def _init_outer(self, params: MetaParams) -> Any:
        return () if isinstance(self.outer, Reptile) else self._transform().init(params)

    def _transform(self) -> optax.GradientTransformation:
        assert isinstance(self.outer, MetaGradient)
        bound = self.outer.max_grad_norm
        clip = optax.identity() if bound is None else optax.clip_by_global_norm(bound)
        return optax.chain(clip, optax.scale_by_adam())
