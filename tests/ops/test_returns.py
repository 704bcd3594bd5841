"""Advantages against a float64 rewrite of the definition and hand-computed cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.ops.returns import generalized_advantages


def by_definition(reward, value, discount, end, bootstrap, mask, lambda_):
    """Sums the discounted residuals forward, one start at a time, in float64."""
    played = np.flatnonzero(mask)
    advantage = np.zeros(len(reward))
    for i, start in enumerate(played):
        weight = 1.0
        for j in range(i, len(played)):
            t = played[j]
            after = bootstrap[t] if end[t] else (value[played[j + 1]] if j + 1 < len(played) else 0)
            advantage[start] += weight * (reward[t] + discount[t] * after - value[t])
            if end[t]:
                break
            weight *= discount[t] * lambda_
    return advantage


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 1.0])
def test_advantages_equal_their_definition_with_ends_and_gaps(lambda_):
    rng = np.random.default_rng(0)
    compute = jax.jit(generalized_advantages, static_argnames="lambda_")
    for _ in range(5):
        length = 12
        mask = rng.random(length) < 0.7
        mask[0] = True
        end = (rng.random(length) < 0.2) & mask
        end[np.flatnonzero(mask)[-1]] = True
        discount = np.where(end & (rng.random(length) < 0.5), 0.0, 0.9)
        reward, value, bootstrap = rng.normal(size=(3, length))
        expected = by_definition(reward, value, discount, end, bootstrap, mask, lambda_)
        arrays = [jnp.asarray(x, jnp.float32) for x in (reward, value, discount)]
        got = compute(
            *arrays, jnp.asarray(end), jnp.float32(bootstrap), jnp.asarray(mask), lambda_=lambda_
        )
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def test_a_time_limit_bootstraps_and_a_termination_does_not():
    ones = jnp.ones(1)
    kwargs = {
        "reward": ones,
        "value": 2.0 * ones,
        "end": ones == 1,
        "bootstrap": 10.0 * ones,
        "mask": ones == 1,
        "lambda_": 0.5,
    }
    truncated = generalized_advantages(discount=0.9 * ones, **kwargs)
    terminated = generalized_advantages(discount=0.0 * ones, **kwargs)
    np.testing.assert_allclose(truncated, [1.0 + 9.0 - 2.0])
    np.testing.assert_allclose(terminated, [1.0 - 2.0])


def test_steps_that_were_not_played_change_nothing():
    reward, value = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.1, -0.2])
    bootstrap, discount = jnp.zeros(3), jnp.full(3, 0.9)
    end, mask = jnp.array([False, False, True]), jnp.ones(3, bool)
    whole = generalized_advantages(reward, value, discount, end, bootstrap, mask, 0.7)

    def with_gaps(x, filler):
        return jnp.stack([x[0], filler, x[1], x[2], filler])

    gappy = generalized_advantages(
        *(with_gaps(x, jnp.float32(99.0)) for x in (reward, value, discount)),
        with_gaps(end, jnp.asarray(True)),
        with_gaps(bootstrap, jnp.float32(99.0)),
        with_gaps(mask, jnp.asarray(False)),
        0.7,
    )
    np.testing.assert_allclose(gappy, with_gaps(whole, jnp.float32(0.0)), rtol=1e-6)


def test_arrays_of_unequal_length_are_refused():
    with pytest.raises(AssertionError):
        generalized_advantages(*[jnp.zeros(3)] * 5, jnp.zeros(4), 0.5)
