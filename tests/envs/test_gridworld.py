import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.experience.play import play_adaptation
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.grids.gridworld import GridNavigation, GridState, GridTask
from jaxmeta_envs.grids.solver import distances, goal_cells, optimal_plan

PUBLISHED = GridNavigation(holdout=0)
SMALL = GridNavigation(holdout=0, size=4, episode_length=6)
RACE = GridNavigation.shortest_path(4, episode_length=8, holdout=0)


@functools.cache
def play(family, name, num_episodes=4, repeats=1):
    """Plays a reference on every goal; leaves [G, repeats, E, T, ...] in NumPy."""
    reference = family.references(num_episodes)[name]

    def one(goal, key):
        task = GridTask(goal)
        params = (reference.params, task) if reference.told_task else reference.params
        return play_adaptation(family, reference.policy, params, task, key, num_episodes)

    goals = jnp.asarray(family.goals())
    keys = jax.random.split(jax.random.key(3), (len(goals), repeats))
    played = jax.jit(jax.vmap(jax.vmap(one, (None, 0))))(goals, keys)
    return jax.tree.map(lambda x: np.asarray(x[:, :, :, 0]), played)


def returns(trajectory):
    """Return of each episode, float64 [G, repeats, E]."""
    return trajectory.reward.astype(np.float64).sum(-1)


def shortest(family):
    return distances(family.size, goal_cells(family.size))


def walk(size, cell, action):
    """The moves again, in plain Python."""
    x, y = cell % size, cell // size
    dx, dy = {0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (0, -1), 4: (-1, 0)}[action]
    if 0 <= x + dx < size and 0 <= y + dy < size:
        x, y = x + dx, y + dy
    return y * size + x


# What the family is


def test_defaults_are_the_published_protocol():
    assert PUBLISHED.goals("train").tolist() == PUBLISHED.goals("test").tolist()
    assert len(PUBLISHED.goals()) == 21
    assert set(range(25)) - set(PUBLISHED.goals().tolist()) == {0, 1, 5, 6}
    assert (PUBLISHED.horizon, PUBLISHED.default_episodes) == (15, 4)
    assert (PUBLISHED.observation_space.n, PUBLISHED.action_space.n) == (25, 5)
    assert PUBLISHED.finite_horizon


def test_equal_families_are_equal_keys():
    assert hash(GridNavigation(holdout=0, size=5)) == hash(PUBLISHED)
    assert GridNavigation(holdout=0, size=5) == PUBLISHED != GridNavigation(holdout=0, size=6)
    assert dataclasses.replace(PUBLISHED, size=4, episode_length=6) == SMALL


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("size", {"size": 2}),
        ("episode_length", {"episode_length": 7}),
        ("goal_reward", {"goal_reward": -0.1}),
        ("goal_reward", {"goal_reward": float("nan")}),
        ("goal_reward", {"goal_reward": -2.0, "step_reward": -1.0, "goal_ends_episode": True}),
        ("step_reward", {"step_reward": 0.0, "goal_ends_episode": True}),
        ("step_reward", {"step_reward": float("inf")}),
        ("holdout", {"holdout": 21}),
        ("holdout", {"holdout": -1}),
    ],
)
def test_bad_fields_are_refused_by_name(field, changes):
    with pytest.raises(ConfigError, match=f"GridNavigation.{field}"):
        GridNavigation(**changes)


def test_unknown_splits_are_refused():
    with pytest.raises(ConfigError, match="split"):
        PUBLISHED.sample_task(jax.random.key(0), "validation")


@pytest.mark.parametrize("holdout", [1, 5, 20])
def test_held_out_goals_are_drawn_by_test_only(holdout):
    family = GridNavigation(holdout=holdout)
    train, test = set(family.goals("train").tolist()), set(family.goals("test").tolist())
    assert len(test) == holdout
    assert not train & test
    assert train | test == set(PUBLISHED.goals().tolist())
    assert family.goals("far").tolist() == PUBLISHED.goals("far").tolist()
    assert family.optimal_returns(4) is None


@pytest.mark.parametrize(("size", "number"), [(3, 1), (4, 2), (5, 4), (8, 12)])
def test_a_fifth_of_the_goals_is_held_out_by_default(size, number):
    family = GridNavigation(size=size)
    assert len(family.goals("test")) == number
    assert not set(family.goals("train").tolist()) & set(family.goals("test").tolist())
    assert (
        GridNavigation.shortest_path(size).goals("test").tolist() == family.goals("test").tolist()
    )
    assert family.optimal_returns(2) is None


def test_held_out_goals_are_spread_over_the_rows():
    rows = GridNavigation(holdout=5).goals("test") // 5
    assert rows.tolist() == [0, 2, 2, 3, 4]


def test_far_goals_lie_beyond_the_antidiagonal():
    steps = sorted(distances(5, PUBLISHED.goals("far")).tolist())
    assert steps == [5] * 4 + [6] * 3 + [7] * 2 + [8]


@pytest.mark.parametrize("split", ["train", "test", "far"])
def test_tasks_are_drawn_evenly_from_the_goals_of_their_split(split):
    family = GridNavigation(holdout=6)
    keys = jax.random.split(jax.random.key(0), 3000)
    drawn = np.asarray(jax.vmap(lambda key: family.sample_task(key, split).goal)(keys))
    cells, counts = np.unique(drawn, return_counts=True)
    assert cells.tolist() == sorted(family.goals(split).tolist())
    expected = 3000 / len(cells)
    assert np.abs(counts - expected).max() < 4.5 * expected**0.5


# One step


def test_every_action_moves_as_named_and_walls_hold():
    cells, actions = np.divmod(np.arange(25 * 7), 7)
    actions = actions - 1  # one below and one above the bounds: clipped
    states = GridState(jnp.asarray(cells, jnp.int32), jnp.zeros(len(cells), jnp.int32))
    task = GridTask(jnp.int32(24))
    step = jax.vmap(lambda state, action: PUBLISHED.step(jax.random.key(0), state, action, task))
    after, timestep = step(states, jnp.asarray(actions))
    expected = [walk(5, c, min(max(a, 0), 4)) for c, a in zip(cells, actions, strict=True)]
    assert after.position.tolist() == timestep.obs.tolist() == expected
    np.testing.assert_allclose(timestep.reward, np.where(np.equal(expected, 24), 1.0, -0.1))
    assert timestep.reward.dtype == jnp.float32


@pytest.mark.parametrize("time", [0, 13, 14])
def test_the_last_step_terminates_and_the_goal_does_not(time):
    state = GridState(jnp.int32(2), jnp.int32(time))
    _, timestep = PUBLISHED.step(jax.random.key(0), state, 0, GridTask(jnp.int32(2)))
    assert bool(timestep.terminated) == (time == 14)
    assert not timestep.truncated


@pytest.mark.parametrize(
    ("time", "goal", "terminated", "truncated"),
    [(0, 2, True, False), (0, 3, False, False), (7, 2, True, False), (7, 3, False, True)],
)
def test_where_the_goal_ends_the_episode_the_clock_truncates(time, goal, terminated, truncated):
    assert not RACE.finite_horizon
    state = GridState(jnp.int32(2), jnp.int32(time))
    _, timestep = RACE.step(jax.random.key(0), state, 0, GridTask(jnp.int32(goal)))
    assert (bool(timestep.terminated), bool(timestep.truncated)) == (terminated, truncated)
    assert timestep.reward == -1


# Reference policies


def test_oracle_returns_are_the_closed_form():
    d = shortest(PUBLISHED)
    expected = (16 - d) - 0.1 * (d - 1)
    played = returns(play(PUBLISHED, "oracle"))
    np.testing.assert_allclose(played, np.tile(expected[:, None, None], (1, 1, 4)), atol=1e-5)
    np.testing.assert_allclose(expected.mean(), 232.5 / 21)


def test_random_returns_agree_with_the_markov_chain():
    chain = np.zeros((25, 25))
    for cell in range(25):
        for action in range(5):
            chain[cell, walk(5, cell, action)] += 0.2
    at = np.eye(25)[0]
    occupied = np.zeros(25)
    for _ in range(15):
        at = at @ chain
        occupied += at
    expected = (1.1 * occupied - 1.5)[PUBLISHED.goals()].mean()
    played = returns(play(PUBLISHED, "random", repeats=100))
    assert abs(played.mean() - expected) < 4 * played.std() / played.size**0.5


def path_of(size, target, horizon):
    """Cells of the way to ``target``, x first, then resting there."""
    x, y, cells = 0, 0, []
    for _ in range(horizon):
        if x < target % size:
            x += 1
        elif y < target // size:
            y += 1
        cells.append(y * size + x)
    return cells


def test_posterior_sampling_starts_by_walking_to_a_goal_of_the_prior():
    goals = PUBLISHED.goals().tolist()
    gained = [
        [sum(1.0 if c == goal else -0.1 for c in path_of(5, target, 15)) for target in goals]
        for goal in goals
    ]
    played = returns(play(PUBLISHED, "posterior sampling", repeats=100))[:, :, 0]
    error = (np.var(gained, axis=1).mean() / played.size) ** 0.5
    assert abs(played.mean() - np.mean(gained)) < 4 * error


@pytest.mark.parametrize("family", [PUBLISHED, RACE], ids=["stay", "race"])
def test_posterior_sampling_never_sets_out_for_a_cell_it_has_seen_empty(family):
    played = play(family, "posterior sampling", repeats=100)
    cells = np.where(played.mask, played.next_obs, -1)
    for goal, trials in zip(family.goals(), cells, strict=True):
        for trial in trials:
            seen = set()
            for episode in trial:
                steps = episode[episode >= 0]
                last = steps[-1]
                if goal in seen:
                    distance = goal % family.size + goal // family.size
                    assert last == goal
                    assert (steps != goal).sum() == distance - 1
                else:
                    assert last not in seen
                seen |= set(steps.tolist())


def test_once_found_the_goal_is_never_lost():
    for name in ("posterior sampling", "bayes-optimal"):
        played = returns(play(PUBLISHED, name, repeats=100 if name[0] == "p" else 1))
        visited = (play(PUBLISHED, name, repeats=played.shape[1]).reward > 0).any(-1)
        best = np.broadcast_to((16.1 - 1.1 * shortest(PUBLISHED))[:, None, None], played.shape)
        before = np.cumsum(visited, axis=-1)[:, :, :-1] > 0
        np.testing.assert_allclose(played[:, :, 1:][before], best[:, :, 1:][before], atol=1e-5)


# Episodes that end at the goal


def test_rows_after_the_goal_are_masked():
    played = play(RACE, "random", repeats=100)
    length = played.mask.sum(-1)
    np.testing.assert_array_equal(played.mask, np.arange(8) < length[..., None])
    np.testing.assert_array_equal(returns(played), -length)
    assert not played.terminated[~played.mask].any()
    assert not played.truncated[~played.mask].any()
    assert (length < 8).any()
    assert (length == 8).any()


def test_an_episode_ends_exactly_once_by_goal_or_clock():
    played = play(RACE, "random", repeats=100)
    np.testing.assert_array_equal((played.terminated | played.truncated).sum(-1), 1)
    at_goal = played.next_obs == RACE.goals()[:, None, None, None]
    np.testing.assert_array_equal(played.terminated, at_goal & played.mask)
    assert (played.mask.sum(-1)[played.truncated.any(-1)] == 8).all()


def test_the_oracle_of_a_race_takes_as_many_steps_as_the_goal_is_away():
    np.testing.assert_array_equal(
        returns(play(RACE, "oracle")), -np.tile(shortest(RACE)[:, None, None], (1, 1, 4))
    )


# The exact optimum


def bayes_adaptive_value(family, num_episodes):
    """Total value of a trial by dynamic programming over beliefs: no plan, no structure."""
    size, horizon = family.size, family.horizon
    everything = frozenset(family.goals().tolist())

    @functools.cache
    def value(episode, time, cell, belief):
        if episode == num_episodes:
            return 0.0
        if time == horizon:
            return value(episode + 1, 0, 0, belief)
        totals = []
        for action in range(5):
            after = walk(size, cell, action)
            total = 0.0
            hit = belief & {after}
            miss = belief - {after}
            if hit and family.goal_ends_episode:
                total += family.goal_reward + value(episode + 1, 0, 0, hit)
            elif hit:
                total += family.goal_reward + value(episode, time + 1, after, hit)
            total /= len(belief)
            if miss:
                share = len(miss) / len(belief)
                total += share * (family.step_reward + value(episode, time + 1, after, miss))
            totals.append(total)
        return max(totals)

    return value(0, 0, 0, everything)


@pytest.mark.parametrize(
    ("family", "num_episodes"),
    [
        (GridNavigation(holdout=0, size=3, episode_length=4), 1),
        (GridNavigation(holdout=0, size=3, episode_length=4), 3),
        (GridNavigation(holdout=0, size=3, episode_length=5, step_reward=0.0, goal_reward=0.5), 2),
        (GridNavigation(holdout=0, size=3, episode_length=8), 2),
        (GridNavigation.shortest_path(3, 4, holdout=0), 3),
        (GridNavigation.shortest_path(3, holdout=0), 2),
        (dataclasses.replace(GridNavigation.shortest_path(3, 4, holdout=0), goal_reward=5.0), 2),
        (SMALL, 2),
        (RACE, 2),
    ],
)
def test_the_plan_is_worth_the_optimum_over_all_adaptive_policies(family, num_episodes):
    exact = bayes_adaptive_value(family, num_episodes)
    np.testing.assert_allclose(family.optimal_returns(num_episodes).sum(), exact, rtol=1e-12)


def test_optimal_returns_of_the_published_task():
    optimum = PUBLISHED.optimal_returns(4)
    assert optimum.dtype == np.float64
    np.testing.assert_allclose(optimum, [4.0] + [232.5 / 21] * 3, rtol=1e-12)
    np.testing.assert_allclose(PUBLISHED.optimal_returns(1), [4.0], rtol=1e-12)


@pytest.mark.parametrize(
    "family",
    [PUBLISHED, SMALL, RACE, GridNavigation(holdout=0, size=3, episode_length=4)],
    ids=["published", "small", "race", "tiny"],
)
def test_playing_the_plan_on_every_goal_attains_the_optimum_exactly(family):
    attained = returns(play(family, "bayes-optimal")).mean((0, 1))
    np.testing.assert_allclose(attained, family.optimal_returns(4), atol=1e-5)


def test_only_the_oracle_does_better_than_the_optimum():
    total = PUBLISHED.optimal_returns(4).sum()
    for name in ("random", "posterior sampling"):
        assert returns(play(PUBLISHED, name, repeats=100)).mean((0, 1)).sum() < total
    assert returns(play(PUBLISHED, "oracle")).mean((0, 1)).sum() > total


def test_a_plan_walks_where_it_says_it_does():
    plan = optimal_plan(5, 9, 3, 10.0)
    goals = goal_cells(5).tolist()
    found = {}
    for episode, actions in enumerate(plan.actions.tolist()):
        cell = 0
        for step, action in enumerate(actions, 1):
            cell = walk(5, cell, action)
            found.setdefault(cell, (episode, step))
    expected = [found.get(goal, (3, 0)) for goal in goals]
    assert list(zip(plan.episode.tolist(), plan.step.tolist(), strict=True)) == expected


def test_goals_beyond_the_reach_of_a_trial_are_planned_as_never_found():
    plan = optimal_plan(5, 8, 1, 9.0)
    assert (plan.episode == 1).sum() == 21 - 7
    family = GridNavigation(holdout=0, episode_length=8)
    seen = plan.step[plan.episode == 0]
    expected = (np.sum(9 - seen - 0.1 * (seen - 1)) - 0.8 * 14) / 21
    np.testing.assert_allclose(family.optimal_returns(1), [expected])


def test_a_search_too_long_is_given_up_and_leaves_no_reference(monkeypatch):
    family = GridNavigation(holdout=0, size=6)
    cheap = functools.partial(optimal_plan, max_expansions=500)
    monkeypatch.setattr("jaxmeta_envs.grids.gridworld.optimal_plan", cheap)
    assert family.optimal_returns(4) is None
    assert set(family.references(4)) == {"random", "oracle", "posterior sampling"}


def test_grids_with_room_for_a_sweep_are_solved_at_any_size():
    d = distances(8, goal_cells(8))
    optimum = GridNavigation.shortest_path(8, holdout=0).optimal_returns(2)
    # The sweep sees a new goal at every step from the second on.
    np.testing.assert_allclose(optimum, [-np.arange(2, 62).mean(), -d.mean()])
