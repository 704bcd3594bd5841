"""Points on the plane against float64 rewrites, integrals and closed forms."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.experience.play import play_adaptation
from jaxmeta.testing import check_task_family
from jaxmeta.testing.conformance import fast_jit
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.points.navigation import (
    PointNavigation,
    PointNavigationCorners,
    PointState,
    PointTask,
    SparsePointNavigation,
)

PLANE, SPARSE, CORNERS = PointNavigation(), SparsePointNavigation(), PointNavigationCorners()
SQUARED = PointNavigation(reward="squared")
VARIANTS = (
    SQUARED,
    SparsePointNavigation(num_goals=None),
    SparsePointNavigation(reward="distance"),
    PointNavigationCorners(reward="squared", episode_length=20),
)
DISTANCE_IN_SQUARE = (math.sqrt(2) + math.log(1 + math.sqrt(2))) / 6
TASKS = 500


def drawn(family, split="train", number=TASKS):
    keys = jax.random.split(jax.random.key(1), number)
    return fast_jit(jax.vmap(lambda key: family.sample_task(key, split)))(keys)


@functools.cache
def play(family, name, num_episodes=2, split="test"):
    """Plays a reference on drawn tasks; goals ``[B, 2]`` and leaves ``[B, E, T, ...]``."""
    reference = family.references(num_episodes)[name]

    def one(task, key):
        params = (reference.params, task) if reference.told_task else reference.params
        return play_adaptation(family, reference.policy, params, task, key, num_episodes)

    tasks, keys = drawn(family, split), jax.random.split(jax.random.key(2), TASKS)
    played = fast_jit(jax.vmap(one))(tasks, keys)
    played = jax.tree.map(lambda x: np.asarray(x[:, :, 0]), played)
    return np.asarray(tasks.goal, np.float64), played


def returns(trajectory):
    return trajectory.reward.astype(np.float64).sum(-1)


def near(values, expected):
    """Whether the mean of independent values is as expected, up to chance."""
    return abs(np.mean(values) - expected) < 4 * np.std(values) / math.sqrt(len(values)) + 1e-9


def one_step(family, position, action, goal, time=0):
    state = PointState(jnp.asarray(position, jnp.float32), jnp.int32(time))
    task = PointTask(jnp.asarray(goal, jnp.float32))
    return family.step(jax.random.key(0), state, jnp.asarray(action, jnp.float32), task)[1]


def straight(position, goals, reach, steps):
    """Positions of one who goes to the goal at full speed, float64 ``[..., T, 2]``."""
    path = []
    for _ in range(steps):
        position = position + np.clip(goals - position, -reach, reach)
        path.append(position)
    return np.stack(path, axis=-2)


# What the families are


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (PointNavigation, "reward", "dense"),
        (PointNavigation, "side", 0.0),
        (PointNavigation, "side", math.inf),
        (PointNavigation, "episode_length", 0),
        (PointNavigation, "num_episodes", 1.5),
        (SparsePointNavigation, "reward", "squared"),
        (SparsePointNavigation, "radius", 0.0),
        (SparsePointNavigation, "num_goals", 1),
        (SparsePointNavigation, "holdout", 100),
        (PointNavigationCorners, "reward", "progress"),
        (PointNavigationCorners, "quiet", -0.1),
    ],
)
def test_bad_fields_are_refused_by_name(make, field, value):
    with pytest.raises(ConfigError, match=rf"{make.__name__}\.{field} is {value!r}; it must be"):
        make(**{field: value})


def test_defaults_are_the_published_protocols():
    assert (PLANE.horizon, PLANE.reward, PLANE.action_space.high) == (100, "distance", 0.1)
    assert (SPARSE.horizon, SPARSE.default_episodes, SPARSE.action_space.high) == (20, 20, 0.1)
    assert (len(SPARSE.angles("train")), len(SPARSE.angles("test"))) == (80, 20)
    assert (CORNERS.horizon, CORNERS.reward, CORNERS.action_space.high) == (100, "sparse", 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("family", VARIANTS, ids=lambda family: type(family).__name__)
def test_variants_conform(family):
    check_task_family(family)


# Goals


def test_goals_fill_the_square_evenly():
    goals = np.asarray(drawn(PLANE, number=4000).goal)
    counts = np.histogram2d(*goals.T, bins=4, range=[[-0.5, 0.5]] * 2)[0]
    assert counts.sum() == 4000
    assert np.abs(counts - 250).max() < 4.5 * math.sqrt(250)


def test_far_goals_fill_the_frame_evenly():
    goals = np.asarray(drawn(PLANE, "far", number=6000).goal)
    counts = np.histogram2d(*goals.T, bins=4, range=[[-1, 1]] * 2)[0]
    assert counts.sum() == 6000
    assert counts[1:3, 1:3].sum() == 0
    outside = counts[np.abs(np.indices((4, 4)) - 1.5).max(0) > 1]
    assert np.abs(outside - 500).max() < 4.5 * math.sqrt(500)


def test_held_out_goals_on_the_half_circle_are_drawn_by_test_only():
    train, test = (np.asarray(drawn(SPARSE, split).goal) for split in ("train", "test"))
    angles = [np.unique(np.round(np.abs(np.arctan2(*x.T[::-1])), 4)) for x in (train, test)]
    assert [len(x) for x in angles] == [80, 20]
    assert not set(angles[0]) & set(angles[1])
    np.testing.assert_allclose(
        np.sort(np.concatenate(angles)), np.linspace(0, math.pi, 100), atol=1e-3
    )
    with pytest.raises(ConfigError, match="split"):
        SPARSE.angles("lower")


@pytest.mark.parametrize(("split", "sign"), [("train", 1), ("test", 1), ("lower", -1)])
def test_without_a_number_goals_are_anywhere_on_the_half_circle(split, sign):
    goals = np.asarray(drawn(SparsePointNavigation(num_goals=None), split).goal)
    np.testing.assert_allclose(np.linalg.norm(goals, axis=1), 1, rtol=1e-6)
    assert (sign * goals[:, 1] >= -1e-6).all()
    assert len(np.unique(goals[:, 0])) > 0.99 * TASKS
    angles = np.arccos(goals[:, 0])
    assert near(angles, math.pi / 2)
    assert near(angles**2, math.pi**2 / 3)


@pytest.mark.parametrize(("split", "size"), [("train", 2), ("test", 2), ("far", 3)])
def test_there_are_four_corners(split, size):
    goals, counts = np.unique(np.asarray(drawn(CORNERS, split).goal), axis=0, return_counts=True)
    assert sorted(map(tuple, goals)) == [(x, y) for x in (-size, size) for y in (-size, size)]
    assert np.abs(counts - TASKS / 4).max() < 4 * math.sqrt(TASKS / 4)


# One step


def test_the_plane_pays_the_distance_that_is_left():
    step = one_step(PLANE, [0, 0], [0.3, -0.05], [0.4, 0.35])
    np.testing.assert_allclose(step.obs, [0.1, -0.05])
    np.testing.assert_allclose(step.reward, -0.5, rtol=1e-6)
    squared = one_step(SQUARED, [0, 0], [0.3, -0.05], [0.4, 0.35])
    np.testing.assert_allclose(squared.reward, -0.25, rtol=1e-6)


@pytest.mark.parametrize(
    ("goal", "time", "terminated", "truncated"),
    [
        ([0.009, -0.009], 0, True, False),
        ([0.009, -0.011], 0, False, False),
        ([0.0, 0.0], 99, True, False),
        ([0.3, 0.0], 99, False, True),
        ([0.3, 0.0], 98, False, False),
    ],
)
def test_the_goal_terminates_and_the_clock_truncates(goal, time, terminated, truncated):
    step = one_step(PLANE, [0, 0], [0, 0], goal, time)
    assert (bool(step.terminated), bool(step.truncated)) == (terminated, truncated)


@pytest.mark.parametrize(("distance", "reward"), [(0.0, 1), (0.15, 0.85), (0.21, 0), (1.0, 0)])
def test_the_half_circle_pays_near_the_goal_only(distance, reward):
    step = one_step(SPARSE, [0, 1 - distance], [0, 0], [0, 1])
    np.testing.assert_allclose(step.reward, reward, atol=1e-6)
    assert not step.terminated
    dense = one_step(SparsePointNavigation(reward="distance"), [0, 1 - distance], [0, 0], [0, 1])
    np.testing.assert_allclose(dense.reward, -distance, atol=1e-6)


def corner_reward(before, after, goal):
    """The published reward once more, by distances to all corners."""
    corners = [np.array([x, y]) for x in (-2, 2) for y in (-2, 2)]
    if np.abs(after).sum() < 0.5:
        return 0.0
    left = np.linalg.norm(after - goal)
    if left > min(np.linalg.norm(after - corner) for corner in corners):
        return 0.0
    return np.linalg.norm(before - goal) - left


def test_corners_pay_progress_in_the_goals_quarter_only():
    rng = np.random.default_rng(0)
    before, actions = rng.uniform(-1, 1, (400, 2)), rng.uniform(-0.4, 0.4, (400, 2))
    goals = 2.0 * rng.choice([-1, 1], (400, 2))
    after = before + np.clip(actions, -0.2, 0.2)
    expected = [corner_reward(*row) for row in zip(before, after, goals, strict=True)]
    step = jax.vmap(functools.partial(one_step, CORNERS))(before, actions, goals)
    np.testing.assert_allclose(step.obs, after, atol=1e-6)
    np.testing.assert_allclose(step.reward, expected, atol=1e-6)
    zero = np.equal(expected, 0)
    assert zero.any()
    assert not zero.all()


# Reference policies of the plane


def test_standing_still_costs_the_mean_distance():
    goals, played = play(PLANE, "still")
    here = np.abs(goals).max(1) < 0.01
    distance = np.linalg.norm(goals, axis=1)
    expected = -np.where(here, 1, 100) * distance
    np.testing.assert_allclose(returns(played)[:, 0], expected, rtol=1e-5)
    assert near(expected, -100 * DISTANCE_IN_SQUARE)
    assert near(returns(play(SQUARED, "still")[1])[:, 0], -100 / 6)


@pytest.mark.parametrize("family", [PLANE, SQUARED], ids=["distance", "squared"])
def test_the_oracle_of_the_plane_earns_its_integral(family):
    power = 2 if family.reward == "squared" else 1

    def exact(goals):
        path = straight(np.zeros(2), goals, 0.1, 6)
        left = goals[..., None, :] - path
        over = np.abs(left).max(-1) < 0.01
        alive = np.cumsum(over, axis=-1) - over == 0
        return -(np.linalg.norm(left, axis=-1) ** power * alive).sum(-1)

    goals, played = play(family, "oracle")
    np.testing.assert_allclose(returns(played), np.tile(exact(goals)[:, None], 2), atol=1e-4)
    middles = (np.arange(400) + 0.5) / 800
    mean = exact(np.stack(np.meshgrid(middles, middles), -1)).mean()
    np.testing.assert_allclose(mean, -0.5061 if power == 1 else -2 / 15, atol=2e-4)
    assert near(returns(played)[:, 0], mean)


@pytest.mark.parametrize("family", [PLANE, SQUARED], ids=["distance", "squared"])
@pytest.mark.parametrize("split", ["test", "far"])
def test_three_distances_are_enough_to_know_the_goal(family, split):
    _, told = play(family, "oracle", 2, split)
    _, found = play(family, "trilateration", 2, split)
    np.testing.assert_allclose(returns(found)[:, 1], returns(told)[:, 1], atol=2e-2)
    # At worst it goes one step the wrong way, after a detour by two.
    assert (found.mask[:, 0].sum(-1) <= told.mask[:, 0].sum(-1) + 4).all()
    assert found.terminated[:, 0].any(-1).all()


# Reference policies of the half circle


def test_the_oracle_of_the_half_circle_earns_the_sum_over_its_path():
    goals, played = play(SPARSE, "oracle")
    path = straight(np.zeros(2), goals, 0.1, 20)
    distance = np.linalg.norm(goals[:, None] - path, axis=-1)
    expected = np.where(distance <= 0.2, 1 - distance, 0).sum(-1)
    np.testing.assert_allclose(returns(played)[:, 0], expected, atol=1e-4)


@pytest.mark.parametrize("num_goals", [100, None])
def test_the_search_finds_every_goal_within_three_episodes(num_goals):
    family = SparsePointNavigation(num_goals=num_goals)
    found = returns(play(family, "search", 4)[1])
    told = returns(play(family, "oracle", 4)[1])
    # Of a continuum it knows 1000 goals, and may exclude the nearest of them by rounding.
    assert np.quantile(told[:, 3] - found[:, 3], 0.98) < 0.1
    assert (found[:, 3] > told[:, 3] - (1e-3 if num_goals else 1)).all()
    assert (found[:, 0] > 0).mean() > 0.3
    # What was felt once is not lost.
    assert (np.diff(found > 0, axis=1).astype(int) >= 0).all()


# Reference policies of the corners


def test_the_oracle_of_the_corners_earns_what_is_left_when_it_is_first_paid():
    goals, played = play(CORNERS, "oracle")
    start = played.inputs.obs[:, :, 0].astype(np.float64)
    path = straight(start, goals[:, None], 0.2, 100)
    before = np.concatenate([start[:, :, None], path[:, :, :-1]], axis=2)
    expected = np.asarray(
        [
            [
                sum(corner_reward(*move, goal) for move in zip(*episode, strict=True))
                for episode in zip(*task, strict=True)
            ]
            for *task, goal in zip(before[:50], path[:50], goals[:50], strict=True)
        ]
    )
    np.testing.assert_allclose(returns(played)[:50], expected, atol=1e-4)
    assert (np.abs(expected - 2.6) < 0.3).all()


def test_the_search_learns_the_corner_on_leaving_the_quiet_region():
    told, found = (returns(play(CORNERS, name)[1]) for name in ("oracle", "search"))
    np.testing.assert_allclose(found[:, 1], told[:, 1], atol=1e-4)
    assert (found[:, 0] > 2).all()
    assert found[:, 0].mean() < told[:, 0].mean()


def test_the_sparse_reward_of_the_corners_has_a_loophole():
    _, played = play(CORNERS, "pacing")
    # Two steps at most to the turning point; then 0.2 · √2 for every second step, and the way
    # from (0.15, 0.15) to (2, 2).
    least = 44 * 0.2 * math.sqrt(2) + 1.85 * math.sqrt(2) - 1e-3
    assert (returns(played) >= least).all()
    assert "pacing" not in PointNavigationCorners(reward="distance").references(1)


def test_nobody_told_nothing_finds_the_way():
    chance = {family: returns(play(family, "random")[1]).mean() for family in (PLANE, SPARSE)}
    assert chance[PLANE] < -100 * DISTANCE_IN_SQUARE - 10
    assert chance[SPARSE] < 0.1
