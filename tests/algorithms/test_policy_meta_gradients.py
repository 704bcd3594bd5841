"""Meta-gradients of the algorithm itself against exact ones, and planted defects.

The algorithm's own updates are repeated from one policy, a table of logits; the mean of their
gradients is compared with what an estimator must give in expectation, which is enumerated. A right
mean is refused with probability FALSE_ALARM: the dozen and more tests here, at other seeds, would
raise an alarm once in five hundred times. What is wrong must be refused a thousand times more
clearly.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import MLP, LinearBaseline
from jaxmeta.algorithms.policy_maml import PolicyMAML
from jaxmeta.parts.estimators import EMAML, LVC, DiCE, FirstOrder, LogLikelihood
from jaxmeta.parts.inner_loop import SGD, InnerLoop
from jaxmeta.parts.objective import PolicyObjective
from jaxmeta.testing.conformance import fast_jit
from jaxmeta.testing.meta_gradients import Adaptation
from jaxmeta.testing.tiny_family import TinyFamily, mean_p_value, sample_meta_gradients, tabular

FALSE_ALARM = 1e-4
FAMILY = TinyFamily(seeds=(1, 2), certain=True)
ENDING = dataclasses.replace(FAMILY, horizon=3, ends=True)
LOGITS = np.array([[0.3, -0.4], [-0.2, 0.6]])
VALUES = np.array([0.5, -0.3])
RATE, SHOTS, RIDGE = 2.0, 4, 0.1  # a large ridge: few episodes are fitted alike in float32

TERMS = {
    LogLikelihood: "log_likelihood",
    FirstOrder: "none",
    EMAML: "log_likelihood",
    DiCE: "dice",
    LVC: "likelihood_ratio",
}


class Case(NamedTuple):
    """How many inner steps; whether the baseline is fitted or a network's, which is fixed."""

    steps: int = 1
    fitted: bool = False
    family: TinyFamily = FAMILY


ONE, TWO, FITTED, ENDS = Case(), Case(2), Case(2, fitted=True), Case(family=ENDING)


def algorithm_of(estimator, case, inner=None, baseline=None):
    maml = PolicyMAML(
        num_tasks=64,
        shots=SHOTS,
        estimator=estimator(),
        inner=inner or InnerLoop(steps=case.steps, optimizer=SGD(RATE)),
        baseline=baseline or (LinearBaseline(RIDGE, RIDGE) if case.fitted else MLP()),
    )
    return tabular(maml, case.family)


def sampled(algorithm, case, repetitions=150):
    values = None if case.fitted else VALUES
    args = algorithm, case.family, LOGITS, jax.random.key(0), repetitions
    return sample_meta_gradients(*args, values=values, jit=fast_jit)


def exact(estimator, case):
    """The expected gradient of the reward per played step ``[S, A]``, and the expected return."""
    found, horizon = [], case.family.horizon
    for process in case.family.processes:
        baseline = None if case.fitted else np.tile(VALUES, (horizon, 1))
        ridge = RIDGE if case.fitted else None
        adaptation = Adaptation(process, RATE, case.steps, baseline, True, ridge)
        credit = estimator.credits_sampling
        found.append(adaptation.outside(LOGITS, TERMS[estimator], SHOTS, credit=credit))
    value, gradient, length = (
        np.mean([getattr(x, name) for x in found], axis=0)
        for name in ("value", "gradient", "length")
    )
    return gradient.reshape(LOGITS.shape) * horizon / length, value * horizon


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("estimator", "case"),
    [
        slow(LogLikelihood, ONE),
        slow(FirstOrder, ONE),
        slow(EMAML, ONE),
        slow(DiCE, ONE),
        slow(LVC, ONE),
        slow(LogLikelihood, TWO),
        slow(FirstOrder, TWO),
        slow(EMAML, TWO),
        slow(DiCE, TWO),
        (LVC, TWO),
        slow(EMAML, FITTED),
        slow(LVC, FITTED),
        (EMAML, ENDS),
        slow(DiCE, ENDS),
    ],
    ids=lambda x: x.__name__ if isinstance(x, type) else f"{x.steps}-{x.fitted}-{x.family.ends}",
)
def test_the_mean_meta_gradient_has_the_terms_that_its_estimator_keeps(estimator, case):
    """And no other estimator's: one in place of another is found."""
    found = sampled(algorithm_of(estimator, case), case)
    mean, value = exact(estimator, case)
    assert mean_p_value(found.gradient, mean) > FALSE_ALARM
    error = found.value.std() / len(found.value) ** 0.5
    assert abs(found.value.mean() - value) < 4 * error
    for other in TERMS:
        # A fitted baseline leaves nothing of the curvature that log-likelihood keeps.
        alike = {other, estimator} == {LogLikelihood, FirstOrder} and case.fitted
        if other is not estimator and not alike:
            wrong = mean_p_value(found.gradient, exact(other, case)[0])
            assert wrong < 1e-3 * FALSE_ALARM, other.__name__


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "steps"),
    [(FirstOrder, 1), (LogLikelihood, 1), (LVC, 1), (DiCE, 1), (DiCE, 2)],
)
def test_many_episodes_give_the_terms_of_the_expected_step(estimator, steps):
    """Of J(θ + α∇J(θ)), up to 1/N and with plain advantages: DiCE its very gradient."""
    algorithm = dataclasses.replace(
        algorithm_of(estimator, Case(steps)),
        num_tasks=32,
        shots=64,
        objective=PolicyObjective(standardize=False),
    )
    found = sampled(algorithm, ONE, 100)

    def limit(kind):
        baseline = np.tile(VALUES, (FAMILY.horizon, 1))
        labs = (Adaptation(p, RATE, steps, baseline) for p in FAMILY.processes)
        return np.mean([x.inside(LOGITS, TERMS[kind]).gradient.reshape(2, 2) for x in labs], 0)

    assert mean_p_value(found.gradient, limit(estimator)) > FALSE_ALARM
    for other in {FirstOrder, LogLikelihood, LVC, DiCE} - {estimator}:
        assert mean_p_value(found.gradient, limit(other)) < 1e-3 * FALSE_ALARM


@jax.custom_batching.custom_vmap
def averaged(x):
    return x


@averaged.def_vmap
def _averaged(size, batched, x):
    mean = jax.tree.map(lambda x: jnp.broadcast_to(jnp.mean(x, 0), x.shape), x)
    return mean, jax.tree.map(lambda _: True, x)


class OfAllTasks(SGD):
    """Planted: every task takes the mean of the gradients of all tasks."""

    def direction(self, rates, opt_state, grads):
        constant = jax.lax.stop_gradient(grads)
        mean = averaged(constant)
        grads = jax.tree.map(lambda g, c, m: g + m - c, grads, constant, mean)
        return super().direction(rates, opt_state, grads)


class NeverFitted(LinearBaseline):
    """Planted: the value of everything is 0."""

    def fitted_values(self, obs, time, returns, mask, total=None, groups=None):
        return jnp.zeros_like(returns)


class FittedToAll(LinearBaseline):
    """Planted: one value function for the episodes of all tasks."""

    def fitted_values(self, obs, time, returns, mask, total=None, groups=None):
        return super().fitted_values(obs, time, returns, mask, averaged)


DEFECTS = {
    "inner gradients averaged": (ONE, InnerLoop(optimizer=OfAllTasks(RATE)), None),
    "second step not followed": (TWO, InnerLoop(2, SGD(RATE), second_order_steps=1), None),
    "values never fitted": (FITTED, None, NeverFitted(RIDGE, RIDGE)),
    "values fitted to all tasks": (FITTED, None, FittedToAll(RIDGE, RIDGE)),
}


@pytest.mark.parametrize(
    "name",
    [n if n == "inner gradients averaged" else slow(n) for n in DEFECTS],
)
def test_a_planted_defect_is_found(name):
    case, inner, baseline = DEFECTS[name]
    found = sampled(algorithm_of(LVC, case, inner, baseline), case, 600)
    assert mean_p_value(found.gradient, exact(LVC, case)[0]) < 1e-3 * FALSE_ALARM


@pytest.mark.parametrize("estimator", [EMAML, slow(LVC)])
def test_the_reward_of_all_episodes_may_count_and_not_only_of_the_last(estimator):
    """Of each row directly, and of later rows as credit to the earlier; two steps, plain gains."""
    algorithm = algorithm_of(estimator, TWO)
    plain = PolicyObjective(episodes="all", standardize=False)
    found = sampled(dataclasses.replace(algorithm, objective=plain), TWO, 300)

    def mean(**settings):
        gradients = []
        for process in FAMILY.processes:
            adaptation = Adaptation(process, RATE, 2, np.tile(VALUES, (2, 1)), False)
            made = adaptation.outside(LOGITS, TERMS[estimator], SHOTS, **settings)
            gradients.append(made.gradient.reshape(LOGITS.shape))
        return np.mean(gradients, axis=0)

    credit = estimator.credits_sampling
    assert mean_p_value(found.gradient, mean(credit=credit, every=True)) > FALSE_ALARM
    for wrong in (mean(credit=credit), mean(credit=not credit, every=True)):
        assert mean_p_value(found.gradient, wrong) < 1e-3 * FALSE_ALARM
