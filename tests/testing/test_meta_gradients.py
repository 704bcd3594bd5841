"""The laboratory of meta-gradients: itself, then what the estimators of the library give in it."""

import dataclasses

import numpy as np
import pytest

from jaxmeta.testing.meta_gradients import Adaptation, TinyProcess

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


def test_with_many_episodes_both_formulations_agree():
    """The difference falls as 1/N, term by term."""
    adaptation = Adaptation(TinyProcess.draw(1), RATE)
    for terms in ("none", "log_likelihood", "likelihood_ratio", "dice"):
        limit = adaptation.inside(THETA, terms).gradient
        gaps = [adaptation.outside(THETA, terms, n).gradient - limit for n in (4, 8)]
        near, nearer = (np.linalg.norm(gap) for gap in gaps)
        assert 1.8 < near / nearer < 2.2, terms
