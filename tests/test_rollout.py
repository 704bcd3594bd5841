"""What a policy sees, what is stored, and what crosses an episode boundary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.experience.play import play_adaptation, play_trial
from jaxmeta_envs import AdaptivePolicy
from tests.toy_families import Counter, CounterTask

FAMILY = Counter(horizon=4)
EPISODES = 3


def act(params, carry, inputs, key):
    """Counts its calls; the action is the count modulo 3."""
    return (carry % 3).astype(jnp.int32), carry + 1, carry


@pytest.fixture(scope="module")
def play():
    return jax.jit(
        lambda length: play_trial(
            FAMILY,
            act,
            None,
            jnp.int32(0),
            CounterTask(length, jnp.float32(0.5)),
            jax.random.key(0),
            EPISODES,
        )
    )


def by_hand(length):
    """Plays the counter in plain Python; one dict per played row."""
    rows, calls, previous = [], 0, (0, 0.0, False)
    for episode in range(EPISODES):
        for time in range(FAMILY.horizon):
            action = calls % 3
            reward = 0.5 + time + 1 + action / 100
            early, clock = time + 1 >= length, time + 1 >= FAMILY.horizon
            rows.append(
                {
                    "row": (episode, time),
                    "obs": time,
                    "previous": previous,
                    "start": time == 0,
                    "action": action,
                    "reward": reward,
                    "terminated": early,
                    "truncated": clock and not early,
                }
            )
            calls += 1
            previous = (action, reward, early or clock)
            if early or clock:
                break
    return rows, calls, previous


@pytest.mark.parametrize("length", [1, 2, 4, 9])
def test_every_stored_step_is_the_one_played_by_hand(play, length):
    trial = play(jnp.int32(length))
    rows, calls, (action, reward, _) = by_hand(length)
    steps = trial.trajectory
    mask = np.zeros((EPISODES, FAMILY.horizon), bool)
    for row in rows:
        at = row["row"]
        mask[at] = True
        assert steps.inputs.obs[at] == row["obs"]
        assert steps.inputs.prev_action[at] == row["previous"][0]
        assert steps.inputs.prev_reward[at] == pytest.approx(row["previous"][1])
        assert steps.inputs.prev_done[at] == row["previous"][2]
        assert steps.inputs.episode_start[at] == row["start"]
        assert steps.action[at] == row["action"]
        assert steps.reward[at] == pytest.approx(row["reward"])
        assert steps.terminated[at] == row["terminated"]
        assert steps.truncated[at] == row["truncated"]
        assert steps.next_obs[at] == row["obs"] + 1
    np.testing.assert_array_equal(steps.mask, mask)
    for unplayed in (steps.reward, steps.terminated, steps.truncated):
        np.testing.assert_array_equal(np.asarray(unplayed)[~mask], 0)
    assert trial.carry == calls, "rows that are not played must not touch the memory"
    assert trial.final.obs == rows[-1]["obs"] + 1
    assert trial.final.prev_action == action
    assert trial.final.prev_reward == pytest.approx(reward)
    assert not trial.final.episode_start


def adaptive(episodes_per_adapt):
    """Carries the number of adaptations and of episodes seen; acts by the first."""
    return AdaptivePolicy(
        begin=lambda params, key: (jnp.int32(0), jnp.int32(0)),
        act=lambda params, carry, inputs, key: (carry[0], carry),
        adapt=lambda params, carry, episodes, key: (
            carry[0] + 1,
            carry[1] + episodes.mask.shape[0],
        ),
        episodes_per_adapt=episodes_per_adapt,
    )


@pytest.mark.parametrize("episodes", [1, 5])
def test_row_k_is_played_after_k_adaptations(episodes):
    task = CounterTask(jnp.int32(2), jnp.float32(0.0))
    steps = play_adaptation(FAMILY, adaptive(episodes), None, task, jax.random.key(0), 3)
    assert steps.action.shape == (3, episodes, FAMILY.horizon)
    np.testing.assert_array_equal(steps.action[:, :, 0], np.arange(3)[:, None].repeat(episodes, 1))


def test_parallel_episodes_of_one_adaptation_differ_in_their_randomness():
    policy = AdaptivePolicy(
        begin=lambda params, key: (),
        act=lambda params, carry, inputs, key: (FAMILY.action_space.sample(key), carry),
        episodes_per_adapt=16,
    )
    task = CounterTask(jnp.int32(9), jnp.float32(0.0))
    steps = play_adaptation(FAMILY, policy, None, task, jax.random.key(0), 1)
    assert len(np.unique(steps.action[0], axis=0)) > 10
