"""The credit of E-MAML for what was sampled: against enumeration, for few tasks and any measure."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import CVaR, Mean, parallel
from jaxmeta.algorithms.policy_maml import _credit, _lengths
from jaxmeta.parts.estimators import EMAML, LogLikelihood
from jaxmeta.testing.conformance import fast_jit
from jaxmeta.testing.meta_gradients import Adaptation, batches, multiplicity
from jaxmeta.testing.tiny_family import mean_p_value, sample_meta_gradients
from jaxmeta.testing.tiny_process import TinyProcess
from tests.algorithms.test_policy_meta_gradients import (
    FALSE_ALARM,
    FAMILY,
    LOGITS,
    ONE,
    RATE,
    VALUES,
    algorithm_of,
)

SHOTS = 2


class Discounted(TinyProcess):
    """Inner steps discount; what is made large does not."""

    def advantage(self, baseline=None):
        to_go = self.episodes.reward @ np.array([[1.0, 0.0], [0.5, 1.0]])
        return to_go - baseline[np.arange(2), self.episodes.state]


class DiscountedThroughout(Discounted):
    """What is made large discounts as well, from the first step of an episode."""

    def value(self, theta):
        return self.probability(theta) @ (self.episodes.reward @ [1.0, 0.5]) / self.horizon


def enumerated(process, shots=SHOTS):
    """Batches of one inner step: their chance, score ``[C, P]``, and the logits they lead to."""
    counts = batches(len(process.taken), shots)
    chance = np.exp(counts @ np.log(process.probability(LOGITS))) * multiplicity(counts)
    score = np.einsum("cm,mtp->cp", counts, process.score(LOGITS))
    shares = np.repeat(counts[:, :, None], process.horizon, 2) / (shots * process.horizon)
    advantage = process.advantage(np.tile(VALUES, (process.horizon, 1)))[None]
    mean = np.sum(shares * advantage, (1, 2), keepdims=True)
    scale = np.sqrt(np.sum(shares * (advantage - mean) ** 2, (1, 2), keepdims=True))
    weight = shares * (advantage - mean) / (scale + 1e-8)
    ascent, _ = process.surrogate_derivatives(LOGITS, "log_likelihood", weight)
    return chance, score, LOGITS + RATE * ascent.reshape(-1, *LOGITS.shape)


def of_mean(process):
    """The credit of one task, by the library's own enumeration."""
    adaptation = Adaptation(process, RATE, 1, np.tile(VALUES, (2, 1)), True)
    both = (adaptation.outside(LOGITS, "log_likelihood", SHOTS, credit=c) for c in (True, False))
    with_credit, without = (x.gradient.reshape(LOGITS.shape) for x in both)
    return with_credit - without


def sampled(num_tasks, repetitions, **settings):
    """What credit adds to the gradients of updates that are otherwise alike."""
    found = []
    for estimator in (EMAML, LogLikelihood):
        algorithm = dataclasses.replace(
            algorithm_of(estimator, ONE), num_tasks=num_tasks, shots=SHOTS, **settings
        )
        args = algorithm, FAMILY, LOGITS, jax.random.key(0), repetitions
        found.append(sample_meta_gradients(*args, values=VALUES, jit=fast_jit).gradient)
    return found[0] - found[1]


@pytest.mark.parametrize("num_tasks", [1, 2, 4])
def test_the_expected_credit_of_few_tasks_is_that_of_many(num_tasks):
    """All combinations of one episode each: the others are the baseline, the task itself not."""
    process = FAMILY.processes[0]
    chance, score, adapted = enumerated(process, shots=1)
    worth = process.value(adapted)
    rows = np.array(list(itertools.product(range(len(chance)), repeat=num_tasks)))
    nothing = jnp.zeros((num_tasks, 1))
    with jax.enable_x64(True):
        of_row = jax.vmap(lambda x: _credit(x, jnp.ones(num_tasks), nothing))
        credit = np.asarray(of_row(worth[rows]))
    found = np.mean(score[rows] * credit, axis=1)
    found = np.einsum("r,rp->p", chance[rows].prod(1), found)
    np.testing.assert_allclose(found, (chance * worth) @ score, rtol=1e-6)


def test_the_baseline_is_of_the_tasks_of_all_devices():
    worth = jnp.arange(4.0) ** 2
    settings = jnp.ones(4), jnp.zeros((4, 2))
    alone = _credit(worth, *settings)

    def spread(worth):
        parts = map(parallel.own_tasks, (worth, *settings))
        return jnp.stack([parallel.gather_tasks(x) for x in _credit(*parts).T], 1)

    devices = jax.devices()[:2]
    found = jax.jit(parallel.shard_update(spread, devices))(worth)
    np.testing.assert_allclose(found, alone, rtol=1e-6)
    np.testing.assert_allclose(alone[:, 0], worth - (worth.sum() - worth) / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("num_tasks", "repetitions"),
    [(1, 2500), (2, 4000), pytest.param(4, 4000, marks=pytest.mark.slow)],
)
def test_the_credit_of_an_update_with_few_tasks_is_whole(num_tasks, repetitions):
    """And not the (B - 1) / B of it that a baseline with the task itself leaves."""
    found, want = sampled(num_tasks, repetitions), np.mean([*map(of_mean, FAMILY.processes)], 0)
    assert mean_p_value(found, want) > FALSE_ALARM
    assert mean_p_value(found, want * (num_tasks - 1) / num_tasks) < 1e-3 * FALSE_ALARM


def test_the_credit_is_of_the_undiscounted_return_whatever_the_discount():
    """Only the inner steps, and the advantages after them, look less far ahead."""
    found = sampled(64, 500, discount=0.5)
    want, *wrong = (
        np.mean([of_mean(kind(**vars_of(p))) for p in FAMILY.processes], 0)
        for kind in (Discounted, DiscountedThroughout, TinyProcess)
    )
    assert mean_p_value(found, want) > FALSE_ALARM
    for other in wrong:
        assert mean_p_value(found, other) < 1e-3 * FALSE_ALARM


def vars_of(process):
    return {x.name: getattr(process, x.name) for x in dataclasses.fields(process)}


def cvar_credit(fraction):
    """The gradient of CVaR over tasks and what is sampled in them, but for what follows it."""
    rows = []
    for process in FAMILY.processes:
        chance, score, adapted = enumerated(process)
        after = batches(len(process.taken), SHOTS)
        returns = after @ process.episodes.reward.sum(1) / SHOTS
        of_after = np.exp(np.log(process.probability(adapted)) @ after.T) * multiplicity(after)
        joint = chance[:, None] * of_after / len(FAMILY.processes)
        rows.append((joint, np.broadcast_to(returns, joint.shape), score))
    flat = [np.concatenate([x[i].ravel() for x in rows]) for i in (0, 1)]
    order = np.argsort(flat[1])
    quantile = flat[1][order][np.searchsorted(np.cumsum(flat[0][order]), fraction)]
    total = sum(
        np.einsum("cr,cp->p", joint * np.minimum(returns, quantile), score)
        for joint, returns, score in rows
    )
    return total.reshape(LOGITS.shape) / fraction / FAMILY.horizon


def test_a_task_is_worth_what_it_adds_to_the_risk_measure():
    """Of CVaR that is ``min(R, VaR) / ε``; tasks above it are not without influence."""
    np.testing.assert_allclose(
        cvar_credit(1.0), np.mean([*map(of_mean, FAMILY.processes)], 0), rtol=1e-9
    )
    found, want = sampled(64, 300, risk=CVaR(0.3)), cvar_credit(0.3)
    assert mean_p_value(found, want) > FALSE_ALARM
    for wrong in (cvar_credit(1.0), 0.0 * want):
        assert mean_p_value(found, wrong) < 1e-3 * FALSE_ALARM


def test_what_was_earned_up_to_a_step_is_no_credit_to_it():
    """Of the mean over tasks, what comes later is; of two tasks, less that of the other."""
    earned, last = jnp.asarray([[1.0, 2.0], [5.0, 7.0]]), jnp.asarray([4.0, 6.0])
    total = last + earned.sum(1)
    worth = Mean().influence(total, jnp.int32(0))
    later = np.asarray([[6.0, 4.0], [13.0, 6.0]])
    np.testing.assert_allclose(_credit(worth, jnp.ones(2), earned), later - later[::-1])


def test_numbers_of_tasks_are_brought_to_the_units_of_a_mean_over_all_steps():
    """Two tasks with episodes of 4 and 2 steps after adaptation, of 3 and 1 before it."""
    after, inner = (
        jnp.arange(4)[None, None] < jnp.array(n)[:, None, None] for n in ([4, 2], [3, 1])
    )
    for share in ([1.0, 1.0], [2.0, 0.0]):
        share = np.array(share)
        per_task, of_inner = _lengths(inner[:, None], after, jnp.asarray(share))
        # The optimiser's mean counts the tasks 4 : 2, and has the mean kept length below it.
        found = np.array([4.0, 2.0]) * per_task / 6.0
        np.testing.assert_allclose(found, 0.5 / np.mean(share * [4.0, 2.0]) * np.ones(2), rtol=1e-6)
        np.testing.assert_allclose(of_inner[:, 0], [3 / 4, 1 / 2], rtol=1e-6)
