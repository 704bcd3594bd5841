"""The laboratory of meta-gradients, by itself."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from jaxmeta.testing import check_task_family
from jaxmeta.testing.meta_gradients import Adaptation, TinyProcess
from jaxmeta.testing.tiny_family import TinyFamily, mean_p_value

THETA = np.array([[0.3, -0.4], [-0.2, 0.6]])
RATE = 2.0


def finite_differences(function, at, step=1e-5):
    """The derivative of ``function`` in each coordinate of ``at``, ``[P, ...]``."""
    moves = step * np.eye(at.size).reshape(-1, *at.shape)
    return np.stack([(function(at + m) - function(at - m)) / (2 * step) for m in moves])


@pytest.mark.parametrize("ends", [False, True], ids=["fixed length", "early ends"])
def test_the_enumeration_is_complete_and_differentiates_right(ends):
    process = TinyProcess.draw(1, horizon=3)
    if ends:
        process = dataclasses.replace(process, stops=np.array([[0, 0], [0, 1]], bool))
    process = dataclasses.replace(process, start=np.array([0.3, 0.7]))
    assert np.sum(process.probability(THETA)) == pytest.approx(1.0, abs=1e-14)
    value = process.start @ process.state_values(THETA)[0] / process.horizon  # by another way
    assert process.value(THETA) == pytest.approx(value, abs=1e-14)
    slope = finite_differences(process.value, THETA)
    np.testing.assert_allclose(process.gradient(THETA), slope, atol=1e-9)
    hessian = finite_differences(process.gradient, THETA)
    np.testing.assert_allclose(process.hessian_terms(THETA).keep("dice"), hessian, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_objectives_differentiate_to_what_is_called_exact(steps):
    """Formulation I keeps all terms; formulation II log-likelihood and the credit."""
    process = TinyProcess.draw(1)
    adaptation = Adaptation(process, RATE, steps, baseline=np.array([[0.5, -0.3]] * 2))
    slope = finite_differences(lambda x: adaptation.inside(x, "dice").value, THETA)
    np.testing.assert_allclose(adaptation.inside(THETA, "dice").gradient, slope, atol=1e-9)
    for episodes in (1, 2):

        def outside(theta, episodes=episodes):
            return adaptation.outside(theta, "log_likelihood", episodes, credit=True)

        slope = finite_differences(lambda x: outside(x).value, THETA)
        np.testing.assert_allclose(outside(THETA).gradient, slope, atol=1e-9)


def test_standardised_advantages_differentiate_to_what_is_called_exact():
    """Of a batch the deviation is a constant: formulation II stays exact."""
    process = TinyProcess.draw(1, horizon=3, certain=True, ends=True)
    adaptation = Adaptation(process, RATE, 2, np.array([[0.5, -0.3]] * 3), standardize=True)

    def outside(theta):
        return adaptation.outside(theta, "log_likelihood", 3, credit=True)

    slope = finite_differences(lambda x: outside(x).value, THETA)
    np.testing.assert_allclose(outside(THETA).gradient, slope, atol=1e-9)


def test_a_baseline_fitted_with_a_huge_ridge_is_none():
    process = TinyProcess.draw(1, horizon=3, certain=True, ends=True)
    plain, fitted = (
        Adaptation(process, RATE, ridge=r).outside(THETA, "dice", 3) for r in (None, 1e12)
    )
    for ours, theirs in zip(plain, fitted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize("standardize", [False, True])
def test_with_many_episodes_both_formulations_agree(standardize):
    """The difference falls as 1/N, term by term."""
    process = TinyProcess.draw(1, certain=standardize)
    adaptation = Adaptation(process, RATE, standardize=standardize)
    sizes = (16, 32) if standardize else (4, 8)
    for terms in ("none", "log_likelihood", "likelihood_ratio", "dice"):
        limit = adaptation.inside(THETA, terms).gradient
        gaps = [adaptation.outside(THETA, terms, n).gradient - limit for n in sizes]
        near, nearer = (np.linalg.norm(gap) for gap in gaps)
        assert 1.8 < near / nearer < 2.2, terms


@pytest.mark.slow
def test_tiny_processes_are_a_task_family():
    check_task_family(TinyFamily(seeds=(1, 2), horizon=3, ends=True))


def test_the_test_of_a_mean_raises_false_alarms_as_often_as_it_says():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(4, 4))
    draws = rng.normal(size=(2000, 30, 4)) @ spread + 1.0
    values = [mean_p_value(x.reshape(30, 2, 2), np.ones((2, 2))) for x in draws]
    assert scipy.stats.kstest(values, "uniform").pvalue > 1e-3
    off = np.array([[1.0, 3.0], [1.0, 1.0]])
    assert np.median([mean_p_value(x.reshape(30, 2, 2), off) for x in draws]) < 0.1
