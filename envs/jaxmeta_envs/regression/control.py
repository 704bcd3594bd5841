"""Regression as control: a learner that is told how wrong it is, and not what is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.contracts import (
    AdaptivePolicy,
    PolicyInput,
    Reference,
    TaskFamily,
    Timestep,
    random_reference,
)
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields, check_least
from jaxmeta_envs.core.spaces import Box
from jaxmeta_envs.core.supervised import Predictor
from jaxmeta_envs.regression.functions import Polynomial, PolynomialTask, Sinusoid, SinusoidTask


class RegressionState(NamedTuple):
    """Where an episode stands.

    Attributes:
        x: The input to be labelled, float32 ``[1]``.
        y: Its label, float32 ``[1]``; hidden.
        time: Steps played, int32 scalar.
    """

    x: Array
    y: Array
    time: Array


@dataclass(frozen=True)
class RegressionControl(TaskFamily[PolynomialTask | SinusoidTask, RegressionState]):
    """A regression task to act in: the action is a prediction, and pays minus its squared error.

    At each of T steps the observation is an input x_t, drawn anew whatever was done; the
    action a_t is the prediction of the hidden function f at x_t, a number without bounds, and

        r_t = -(a_t - y_t)²,    y_t = f(x_t) + noise.

    The label is never shown. The last step terminates the episode: T is part of the task.

    Nothing that is done changes what comes next, so that a discount of 0 suits: whatever a
    later step pays is noise to the action. Without examples the best is to predict the mean over
    tasks, which is 0 for polynomials: that pays ``-scale²``, -4, per step. A learner of the
    label itself would be done after as many inputs as there are coefficients; here a gradient
    or a memory has to find them by trying.

    Splits: those of the regression family.

    Attributes:
        regression: Where the functions, the inputs and the noise are from.
        num_inputs: T.
        num_episodes: Episodes per trial.
    """

    finite_horizon: ClassVar[bool] = True

    regression: Polynomial | Sinusoid = field(default_factory=Polynomial)
    num_inputs: int = 10
    num_episodes: int = 10

    def __post_init__(self) -> None:
        check_fields(self)
        known = isinstance(self.regression, Polynomial | Sinusoid)
        require(known, "regression", self.regression, "a Polynomial or a Sinusoid")
        check_least(self, num_inputs=1, num_episodes=1)

    @property
    def splits(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.regression.splits

    @property
    def disjoint_splits(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.regression.disjoint_splits

    @property
    def observation_space(self) -> Box:
        return self.regression.input_space

    @property
    def action_space(self) -> Box:
        return self.regression.label_space

    @property
    def horizon(self) -> int:
        return self.num_inputs

    @property
    def default_episodes(self) -> int:
        return self.num_episodes

    def sample_task(self, key: Array, split: str = "train") -> PolynomialTask | SinusoidTask:
        return self.regression.sample_task(key, split)

    def reset(
        self, key: Array, task: PolynomialTask | SinusoidTask
    ) -> tuple[RegressionState, Array]:
        state = self._present(key, task, jnp.int32(0))
        return state, state.x

    def step(
        self,
        key: Array,
        state: RegressionState,
        action: Array,
        task: PolynomialTask | SinusoidTask,
    ) -> tuple[RegressionState, Timestep]:
        reward = -self.regression.loss(action, state.y)
        state = self._present(key, task, state.time + 1)
        done = state.time >= self.horizon
        return state, Timestep(state.x, reward, done, jnp.zeros_like(done))

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns "random", which draws from [-1, 1], and the predictors of the regression family.

        These are "oracle", which is told the function, "zero", and for waves "mean", the best
        without adapting.
        """
        del num_episodes
        predictors = {name: _follow(name, p) for name, p in self.regression.references().items()}
        return {"random": random_reference(self.action_space)} | predictors

    def _present(self, key: Array, task: Any, time: Array) -> RegressionState:
        examples = self.regression.sample_examples(key, task, 1)
        return RegressionState(examples.x[0], examples.y[0], time)


def _follow(name: str, predictor: Predictor) -> Reference:
    """Returns the policy whose action is a prediction; only the oracle is told the task."""
    told = name == "oracle"

    def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any]:
        del key
        task = params[1] if told else None
        return predictor(task, inputs.obs[None])[0], carry

    policy = AdaptivePolicy(begin=lambda params, key: (), act=act)
    return Reference(policy, told_task=told)
