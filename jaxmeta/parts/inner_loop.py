"""The inner loop: gradient descent on one task, differentiable in where it starts.

Everything here is un-batched; callers ``vmap`` over tasks. K is the number of steps.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxmeta.networks import InputMoments
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields

Loss = Callable[[Any, Any], Array]
"""``(params, data) -> loss``, a scalar to make small."""

_MOST_UNROLLED = 5  # steps; beyond, compile time grows and nothing is gained


class MetaParams(NamedTuple):
    """What a gradient-based meta-learner learns.

    Attributes:
        initial: Network parameters that adaptation starts from.
        rates: Learned step sizes, see `MetaSGD`; else empty.
    """

    initial: Any
    rates: Any


class Fast(NamedTuple):
    """Where adaptation to a task has got to.

    Attributes:
        params: All network parameters.
        opt_state: State of the inner optimiser.
        steps: Steps taken, int32.
    """

    params: Any
    opt_state: Any
    steps: Array


class InnerOptimizer(ABC):
    """Turns a gradient into a step; a frozen dataclass of its settings."""

    def init(self, key: Array, params: Any) -> Any:
        """Returns the first of what is meta-learned of the optimiser itself; often nothing."""
        del key, params
        return ()

    @abstractmethod
    def begin(self, params: Any) -> Any:
        """Returns the state at the beginning of a task."""

    @abstractmethod
    def direction(self, rates: Any, opt_state: Any, grads: Any) -> tuple[Any, Any]:
        """Returns what to subtract from the parameters, and the next state."""


@dataclass(frozen=True)
class SGD(InnerOptimizer):
    """Gradient descent, ``θ ← θ - α ∇L(θ)``.

    Attributes:
        learning_rate: α.
    """

    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")

    def begin(self, params: Any) -> Any:
        del params
        return ()

    def direction(self, rates: Any, opt_state: Any, grads: Any) -> tuple[Any, Any]:
        del rates
        return jax.tree.map(lambda g: self.learning_rate * g, grads), opt_state


@dataclass(frozen=True)
class MetaSGD(InnerOptimizer):
    """Gradient descent with a learned step size per parameter, ``θ ← θ - α ∘ ∇L(θ)``.

    Attributes:
        lowest: Lower end of the step sizes that learning begins with, drawn uniformly.
        highest: Upper end.

    Reference: Li et al. 2017, arXiv 1707.09835.
    """

    lowest: float = 0.005
    highest: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.lowest > 0, "lowest", self.lowest, "above 0")
        require(self.highest >= self.lowest, "highest", self.highest, f"at least {self.lowest}")

    def init(self, key: Array, params: Any) -> Any:
        leaves, structure = jax.tree.flatten(params)
        keys = jax.random.split(key, len(leaves))
        drawn = [
            jax.random.uniform(k, x.shape, x.dtype, self.lowest, self.highest)
            for k, x in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, drawn)

    def begin(self, params: Any) -> Any:
        del params
        return ()

    def direction(self, rates: Any, opt_state: Any, grads: Any) -> tuple[Any, Any]:
        return jax.tree.map(jnp.multiply, rates, grads), opt_state


@dataclass(frozen=True)
class Adam(InnerOptimizer):
    """Adam, begun anew for every task.

    Attributes:
        learning_rate: Step size.
        b1: Decay of the mean of gradients; 0 for none, as in Reptile.
        b2: Decay of the mean of squared gradients.
    """

    learning_rate: float = 1e-3
    b1: float = 0.0
    b2: float = 0.999

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        for name in ("b1", "b2"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")

    def begin(self, params: Any) -> Any:
        return self._transform().init(params)

    def direction(self, rates: Any, opt_state: Any, grads: Any) -> tuple[Any, Any]:
        del rates
        updates, opt_state = self._transform().update(grads, opt_state)
        return jax.tree.map(lambda u: self.learning_rate * u, updates), opt_state

    def _transform(self) -> optax.GradientTransformation:
        # Below the root, so that the derivative of a step stays finite where a gradient is 0.
        return optax.scale_by_adam(self.b1, self.b2, eps=0.0, eps_root=1e-8)


@dataclass(frozen=True)
class InnerLoop:
    """How a learner adapts to a task.

    The steps are differentiated through by whoever differentiates the adapted parameters.
    Second-order MAML does so in full; with ``second_order_steps=0`` every gradient counts as
    a constant, which is first-order MAML, and in between only the last steps are
    differentiated, which bounds time and memory over many steps.

    Attributes:
        steps: Gradient steps on a task in training; 0 trains on all tasks together.
        optimizer: What a gradient becomes.
        adapts: Regular expression, searched for in the path of a leaf such as
            ``head/params/kernel``: the leaves that adapt. The others are learned in the
            outer loop only. Empty: all. ANIL is ``"head"``.
        second_order_steps: How many of the last steps are differentiated through; None all.
        checkpoint: Compute a step again when it is differentiated, instead of keeping what
            it computed: less memory for many steps.
        extra_step_factor: At evaluation, factor of the steps after those of training.
        minibatches: In training a task has so many times the examples that a step sees, a fixed
            set. A step sees one part of it, and after so many steps the set is parted anew. None:
            whatever the learner's outer part is made for, see there.

    Reference: Finn et al. 2017, arXiv 1703.03400; Raghu et al. 2020, arXiv 1909.09157 (ANIL).
    """

    steps: int = 1
    optimizer: InnerOptimizer = field(default_factory=SGD)
    adapts: str = ""
    second_order_steps: int | None = None
    checkpoint: bool = False
    extra_step_factor: float = 1.0
    minibatches: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.steps >= 0, "steps", self.steps, "at least 0")
        kept = self.second_order_steps
        require(kept is None or kept >= 0, "second_order_steps", kept, "at least 0, or None")
        parts = self.minibatches
        require(parts is None or parts >= 1, "minibatches", parts, "at least 1, or None")
        factor = self.extra_step_factor
        require(factor > 0, "extra_step_factor", factor, "above 0")
        try:
            re.compile(self.adapts)
        except re.error as error:
            require(False, "adapts", self.adapts, f"a regular expression ({error})")

    def check(self, init: Callable[[Array], Any]) -> None:
        """Raises `ConfigError` if no leaf of ``init(key)``, the network's parameters, adapts."""
        if not self.adapts:  # all of them do
            return
        # A key made outside would start the backend, before there is a device for every core.
        params = jax.eval_shape(lambda: init(jax.random.key(0)))
        leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_measured)
        names = [_name(path) for path, leaf in leaves if not _is_measured(leaf)]
        found = any(re.search(self.adapts, name) for name in names)
        require(found, "adapts", self.adapts, f"found in one of {', '.join(names)}")

    def init(self, key: Array, params: Any) -> MetaParams:
        """Returns the first meta-parameters around network parameters."""
        return MetaParams(params, self.optimizer.init(key, self._split(params)[0]))

    def deal(self, key: Array, examples: Any, parts: int) -> Any:
        """Returns what each step sees of a fixed set, in passes over parts that are drawn anew.

        Args:
            key: Of the parts.
            examples: Leaves ``[parts * n, ...]``.
            parts: Into how many the set is parted.

        Returns:
            Leaves ``[K, n, ...]``.
        """
        count = jax.tree.leaves(examples)[0].shape[0]
        passes = -(-self.steps // parts)
        keys = jax.random.split(key, passes)
        orders = jax.vmap(lambda key: jax.random.permutation(key, count))(keys)
        rows = orders.reshape(passes * parts, count // parts)[: self.steps]
        return jax.tree.map(lambda x: x[rows], examples)

    def begin(self, meta: MetaParams) -> Fast:
        """Returns where adaptation to a new task begins."""
        adapted, _ = self._split(meta.initial)
        return Fast(meta.initial, self.optimizer.begin(adapted), jnp.int32(0))

    def step(
        self, meta: MetaParams, fast: Fast, loss: Loss, data: Any, *, second_order: bool = True
    ) -> tuple[Fast, Array]:
        """Takes one step down the loss.

        Args:
            meta: Gives learned step sizes.
            fast: Where to start.
            loss: To make small.
            data: What ``loss`` reads.
            second_order: Whether the gradient itself may be differentiated.

        Returns:
            Where it ends, and the loss before the step.
        """
        adapted, fixed = self._split(fast.params)
        value, grads = jax.value_and_grad(lambda x: loss(_merge(x, fixed), data))(adapted)
        if not second_order:
            grads = jax.lax.stop_gradient(grads)
        move, opt_state = self.optimizer.direction(meta.rates, fast.opt_state, grads)
        factor = jnp.where(fast.steps < self.steps, 1.0, self.extra_step_factor)
        adapted = jax.tree.map(lambda x, m: x - factor.astype(x.dtype) * m, adapted, move)
        return Fast(_merge(adapted, fixed), opt_state, fast.steps + 1), value

    def run(self, meta: MetaParams, loss: Loss, data: Any) -> tuple[Any, Array]:
        """Takes the steps of training.

        Args:
            meta: Where to start.
            loss: To make small.
            data: What ``loss`` reads at each step, leaves ``[K, ...]``.

        Returns:
            Adapted network parameters, and the loss before each step, ``[K]``.
        """
        params, (losses, _) = self.follow(meta, loss, data, lambda params, data: ())
        return params, losses

    def follow(
        self, meta: MetaParams, loss: Loss, data: Any, look: Callable[[Any, Any], Any]
    ) -> tuple[Any, tuple[Array, Any]]:
        """Takes the steps of training, looking before each of them.

        Args:
            meta: Where to start.
            loss: To make small.
            data: What ``loss`` and ``look`` read at each step, leaves ``[K, ...]``.
            look: ``(params, data) -> anything``, differentiated through the steps like what
                follows them.

        Returns:
            Adapted network parameters; the losses ``[K]`` and what was looked at before each
            step, leaves ``[K, ...]``.
        """

        def steps(fast: Fast, data: Any, second_order: bool) -> tuple[Fast, tuple[Array, Any]]:
            def body(fast: Fast, data: Any) -> tuple[Fast, tuple[Array, Any]]:
                seen = look(fast.params, data)
                fast, value = self.step(meta, fast, loss, data, second_order=second_order)
                return fast, (value, seen)

            count = jax.tree.leaves(data)[0].shape[0]
            body = jax.checkpoint(body) if self.checkpoint else body
            if count > _MOST_UNROLLED:
                return jax.lax.scan(body, fast, data)
            # Not an unrolled scan: under vmap its carry has a tasks axis from the start, and
            # the first step would multiply by one copy per task of weights that all share.
            found = []
            for k in range(count):
                fast, one = body(fast, jax.tree.map(lambda x, k=k: x[k], data))
                found.append(one)
            return fast, jax.tree.map(lambda *x: jnp.stack(x), *found)

        fast = self.begin(meta)
        if self.steps == 0:
            return fast.params, (jnp.zeros(0, jnp.float32), ())
        kept = self.steps if self.second_order_steps is None else self.second_order_steps
        first = max(self.steps - kept, 0)
        parts = []
        for part, second_order in ((slice(first), False), (slice(first, None), True)):
            rows = jax.tree.map(lambda x, part=part: x[part], data)
            if jax.tree.leaves(rows)[0].shape[0]:
                fast, found = steps(fast, rows, second_order)
                parts.append(found)
        return fast.params, jax.tree.map(lambda *x: jnp.concatenate(x), *parts)

    def _split(self, params: Any) -> tuple[Any, Any]:
        """Returns the leaves that adapt and the others, each with None for the rest.

        Moments of inputs are measured, and never adapt.
        """

        def part(adapts: bool) -> Any:
            def keep(path: tuple, x: Any) -> Any:
                found = not _is_measured(x) and bool(re.search(self.adapts, _name(path)))
                return x if found == adapts else None

            return jax.tree_util.tree_map_with_path(keep, params, is_leaf=_is_measured)

        return part(True), part(False)


def _merge(adapted: Any, fixed: Any) -> Any:
    return jax.tree.map(
        lambda a, b: b if a is None else a, adapted, fixed, is_leaf=lambda x: x is None
    )


def _is_measured(x: Any) -> bool:
    return isinstance(x, InputMoments)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
