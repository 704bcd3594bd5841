"""Steps that go on from call to call, against a family whose every step is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.experience.stepping import begin_playing, play_on
from jaxmeta.parts.off_policy import Experience
from tests.toy_families import Counter, CounterTask

TASK = CounterTask(jnp.int32(3), jnp.float32(0.5))


def count(params, carry, inputs, key):
    """Plays 0, 1, 2, 0, ... and so many times as it was asked."""
    return jnp.asarray(carry % 3, jnp.int32), carry + 1, ()


def played(family, calls, task=TASK):
    playing = begin_playing(family, task, jnp.int32(0), jax.random.key(0))
    rows, standing = [], []
    for number, key in zip(calls, jax.random.split(jax.random.key(1), len(calls)), strict=True):
        playing, steps = play_on(family, count, (), playing, task, key, number)
        rows.append(steps)
        standing.append(playing)
    return standing, jax.tree.map(lambda *x: np.concatenate(x), *rows)


@pytest.mark.parametrize("calls", [(7,), (2, 5), (1,) * 7])
def test_episodes_end_begin_and_go_on_wherever_a_call_ends(calls):
    standing, steps = played(Counter(horizon=10), calls)
    np.testing.assert_array_equal(steps.inputs.obs[:, 0], [0, 1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(steps.next_obs[:, 0], [1, 2, 3, 1, 2, 3, 1])
    np.testing.assert_array_equal(steps.terminated, [0, 0, 1, 0, 0, 1, 0])
    assert not steps.truncated.any()
    assert steps.mask.all()
    np.testing.assert_array_equal(steps.action, [0, 1, 2, 0, 1, 2, 0])
    reward = 0.5 + np.array([1, 2, 3, 1, 2, 3, 1]) + np.array([0, 1, 2, 0, 1, 2, 0]) / 100
    np.testing.assert_allclose(steps.reward, reward, rtol=1e-6)
    # What was before an episode is still seen in it, as in a trial.
    before = steps.inputs
    np.testing.assert_array_equal(before.episode_start, [1, 0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(before.prev_done, [0, 0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(before.prev_action[1:], steps.action[:-1])
    np.testing.assert_array_equal(before.prev_reward[1:], steps.reward[:-1])
    last = standing[-1]
    assert int(last.episodes) == 2
    assert float(last.total) == pytest.approx(1.5)
    assert float(last.score) == pytest.approx(reward[3:6].sum())


def test_before_an_episode_has_ended_the_score_is_what_was_paid_so_far():
    standing, steps = played(Counter(horizon=10), (1, 1, 1))
    assert [int(s.episodes) for s in standing] == [0, 0, 1]
    np.testing.assert_allclose([s.score for s in standing], np.cumsum(steps.reward), rtol=1e-6)


def test_a_clock_truncates_and_what_is_stored_says_that_it_did_not_end_there():
    _, steps = played(Counter(horizon=2), (5,))
    np.testing.assert_array_equal(steps.truncated, [0, 1, 0, 1, 0])
    stored = Experience.of(steps)
    assert not stored.terminated.any()
    np.testing.assert_array_equal(stored.obs[:, 0], [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(stored.next_obs[:, 0], [1, 2, 1, 2, 1])


def test_an_example_has_the_shapes_of_what_is_stored():
    _, steps = played(Counter(), (1,))
    stored = jax.tree.map(lambda x: x[0], Experience.of(steps))
    example = Experience.example(Counter())
    for a, b in zip(jax.tree.leaves(example), jax.tree.leaves(stored), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
