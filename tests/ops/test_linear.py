"""Linear systems against float64 solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.ops.linear import conjugate_gradients

ROOT = np.random.default_rng(0).normal(size=(6, 6))
MATRIX = ROOT @ ROOT.T / 6 + np.eye(6)
TARGET = np.arange(1.0, 7.0)


def solve(iterations, tolerance=1e-6):
    matrix, calls = jnp.float32(MATRIX), []

    def product(tree):
        x = matrix @ jnp.concatenate([tree["a"], tree["b"]])
        jax.debug.callback(lambda: calls.append(1))
        return {"a": x[:2], "b": x[2:]}

    target = jnp.float32(TARGET)
    tree = {"a": target[:2], "b": target[2:]}
    x, residual = conjugate_gradients(product, tree, iterations, tolerance)
    jax.effects_barrier()
    return *(np.concatenate([t["a"], t["b"]]) for t in (x, residual)), len(calls)


def test_as_many_iterations_as_unknowns_solve_the_system():
    x, residual, calls = solve(6)
    np.testing.assert_allclose(x, np.linalg.solve(MATRIX, TARGET), rtol=1e-4)
    np.testing.assert_allclose(residual, 0.0, atol=1e-3)
    assert calls <= 6


@pytest.mark.parametrize("iterations", [1, 3])
def test_each_iteration_minimises_over_a_larger_krylov_space(iterations):
    """Against the minimum of x'Ax/2 - b'x over b, Ab, ..., in float64."""
    x, residual, calls = solve(iterations)
    basis = np.stack([np.linalg.matrix_power(MATRIX, i) @ TARGET for i in range(iterations)], 1)
    best = basis @ np.linalg.solve(basis.T @ MATRIX @ basis, basis.T @ TARGET)
    np.testing.assert_allclose(x, best, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(residual, TARGET - MATRIX @ best, rtol=1e-3, atol=1e-3)
    assert calls == iterations


def test_it_ends_when_the_residual_is_small():
    assert solve(6, tolerance=0.9)[2] < 3
