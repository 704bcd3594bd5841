import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxmeta.experience.play import play_adaptation
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.random.sampling import sample_dirichlet
from jaxmeta_envs.tabular.mdp import TabularMDP, TabularState, TabularTask
from jaxmeta_envs.tabular.planning import nothing_seen, observe, optimal_q
from jaxmeta_envs.tabular.references import greedy, psrl

FAMILY = TabularMDP()
TASKS = 2000


@functools.cache
def tasks():
    return jax.jit(jax.vmap(FAMILY.sample_task))(jax.random.split(jax.random.key(0), TASKS))


def play_policy(reference, key, num_tasks=TASKS, first_of_ties=False):
    """Plays a reference on the first tasks for 10 episodes; leaves [B, E, T, ...]."""
    policy = reference.policy
    if first_of_ties:
        policy = policy._replace(act=act_on_the_first_of_equals)

    def one(task, key):
        params = (reference.params, task) if reference.told_task else reference.params
        return play_adaptation(FAMILY, policy, params, task, key, 10)

    played = jax.vmap(one)(
        jax.tree.map(lambda x: x[:num_tasks], tasks()), jax.random.split(key, num_tasks)
    )
    return jax.tree.map(lambda x: x[:, :, 0], played)


@functools.cache
def play(name):
    """Plays the random policy or the oracle."""
    run = jax.jit(lambda key: play_policy(FAMILY.references(10)[name], key))
    return jax.tree.map(np.asarray, run(jax.random.key(len(name))))


@functools.cache
def play_prior(build, num_tasks=TASKS, first_of_ties=False):
    """Plays an algorithm that believes in a prior mean of 0, and of 1: one compilation."""

    def run(prior_mean, key):
        return play_policy(build(FAMILY, prior_mean), key, num_tasks, first_of_ties)

    keys = jax.random.split(jax.random.key(4), 2)
    played = jax.jit(jax.vmap(run))(jnp.array([0.0, 1.0]), keys)
    return [jax.tree.map(lambda x, i=i: np.asarray(x[i]), played) for i in range(2)]


def act_on_the_first_of_equals(params, carry, inputs, key):
    step = jnp.where(inputs.episode_start, 0, carry.step)
    return jnp.argmax(carry.q[step, inputs.obs]), carry._replace(step=step + 1)


def value_iteration(reward_mean, transition, horizon):
    """Backward induction again, in float64; leading axes allowed."""
    q = np.zeros((horizon, *reward_mean.shape))
    value = np.zeros(reward_mean.shape[:-1])
    for h in reversed(range(horizon)):
        q[h] = reward_mean + np.matvec(transition, value[..., None, :])
        value = q[h].max(-1)
    return q


@functools.cache
def exact_optimum():
    """Expected return of an episode of each known process, float64 [B]."""
    reward_mean = np.asarray(tasks().reward_mean, np.float64)
    transition = np.asarray(jax.vmap(lambda task: task.transition)(tasks()), np.float64)
    return value_iteration(reward_mean, transition, 10)[0, :, 0].max(-1)


def mean_and_error(x):
    return x.mean(), x.std() / len(x) ** 0.5


# What the family is


def test_defaults_are_the_published_protocol():
    assert (FAMILY.observation_space.n, FAMILY.action_space.n) == (10, 5)
    assert (FAMILY.horizon, FAMILY.default_episodes) == (10, 10)
    assert FAMILY.finite_horizon
    assert FAMILY.optimal_returns(10) is None
    assert list(FAMILY.references(10)) == [
        "random", "oracle", "greedy", "psrl", "beb", "greedy (mu0=0)", "psrl (mu0=0)",
    ]  # fmt: skip


def test_a_prior_of_mean_zero_has_no_second_set_of_references():
    names = TabularMDP(prior_mean=0.0).references(10)
    assert list(names) == ["random", "oracle", "greedy", "psrl", "beb"]


def test_references_believe_in_the_mean_that_they_name():
    for name, reference in FAMILY.references(10).items():
        if "greedy" in name:
            planned = reference.policy.begin(reference.params, jax.random.key(0)).q
            np.testing.assert_allclose(planned[-1], 0.0 if "mu0=0" in name else 1.0)


def test_equal_families_are_equal_keys():
    assert TabularMDP(num_states=10) == FAMILY != TabularMDP(num_states=9)
    assert hash(TabularMDP(num_states=10)) == hash(FAMILY)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TabularMDP)])
def test_bad_fields_are_refused_by_name(name):
    bad = float("nan") if name == "prior_mean" else 0
    with pytest.raises(ConfigError, match=f"TabularMDP.{name}"):
        TabularMDP(**{name: bad})


def test_unknown_splits_are_refused():
    with pytest.raises(ConfigError, match="split"):
        FAMILY.sample_task(jax.random.key(0), "validation")


def test_tasks_follow_the_prior():
    mean, error = mean_and_error(np.asarray(tasks().reward_mean, np.float64).ravel())
    assert abs(mean - 1) < 4 * error
    assert abs(error * (TASKS * 50) ** 0.5 - 1) < 0.01
    transition = np.asarray(jax.vmap(lambda task: task.transition)(tasks()))
    assert transition.shape == (TASKS, 10, 5, 10)
    assert (transition >= 0).all()
    np.testing.assert_allclose(transition.sum(-1), 1, atol=1e-5)
    # Moments of a flat Dirichlet: E p = 1/S, E sum p² = 2 / (S + 1).
    np.testing.assert_allclose(transition.mean((0, 1, 2)), 0.1, atol=0.002)
    np.testing.assert_allclose((transition**2).sum(-1).mean(), 2 / 11, atol=0.001)


def test_held_out_tasks_follow_the_same_prior():
    key = jax.random.key(2)
    train, test = FAMILY.sample_task(key, "train"), FAMILY.sample_task(key, "test")
    np.testing.assert_array_equal(train.reward_mean, test.reward_mean)
    np.testing.assert_array_equal(train.cumulative, test.cumulative)


@pytest.mark.parametrize(
    ("split", "reward", "purity"),
    [("sparse-transitions", 1, 1.1 / 2), ("low-reward", -1, 2 / 11)],
)
def test_shifts_move_what_they_name_and_nothing_else(split, reward, purity):
    keys = jax.random.split(jax.random.key(7), 200)
    task = jax.jit(jax.vmap(lambda key: FAMILY.sample_task(key, split)))(keys)
    transition = np.asarray(jax.vmap(lambda task: task.transition)(task))
    # E sum p² = (a + 1) / (S a + 1) for Dirichlet(a).
    np.testing.assert_allclose((transition**2).sum(-1).mean(), purity, rtol=0.03)
    np.testing.assert_allclose(task.reward_mean.mean(), reward, atol=0.05)


def test_transitions_survive_the_way_to_sums_and_back():
    transition = np.random.default_rng(0).dirichlet(np.ones(4), (4, 2)).astype(np.float32)
    task = TabularTask.from_transition(jnp.zeros((4, 2)), jnp.asarray(transition))
    np.testing.assert_allclose(task.transition, transition, atol=2e-7)


@pytest.mark.parametrize("alpha", [(0.2, 0.5, 2.0), (1.0, 1.0, 1.0), (1.0, 4.0, 30.0)])
def test_dirichlet_draws_have_beta_marginals(alpha):
    wide = jnp.tile(jnp.asarray(alpha)[None], (20_000, 1))
    drawn = np.asarray(jax.jit(sample_dirichlet)(jax.random.key(5), wide), np.float64)
    np.testing.assert_allclose(drawn.sum(-1), 1, atol=1e-5)
    for entry in range(3):
        marginal = scipy.stats.beta(alpha[entry], sum(alpha) - alpha[entry])
        assert scipy.stats.kstest(drawn[:, entry], marginal.cdf).pvalue > 1e-3


# One step


def test_steps_follow_the_task():
    task = jax.tree.map(lambda x: x[0], tasks())
    state = TabularState(jnp.int32(3), jnp.int32(0))
    keys = jax.random.split(jax.random.key(0), 40_000)
    after, timestep = jax.jit(jax.vmap(lambda key: FAMILY.step(key, state, 2, task)))(keys)
    np.testing.assert_array_equal(after.position, timestep.obs)
    frequency = np.bincount(timestep.obs, minlength=10) / 40_000
    p = np.asarray(task.transition[3, 2])
    assert (np.abs(frequency - p) < 4 * np.sqrt(p * (1 - p) / 40_000) + 1e-6).all()
    noise = np.asarray(timestep.reward - task.reward_mean[3, 2], np.float64)
    assert abs(noise.mean()) < 4 / 200
    assert abs(noise.var() - 1) < 4 * (2 / 40_000) ** 0.5
    # The two draws of a step come from one call: they must still be independent.
    correlation = np.corrcoef(noise, timestep.obs)[0, 1]
    assert abs(correlation) < 4 / 200


@pytest.mark.parametrize(("given", "played"), [(-1, 0), (5, 4)])
def test_actions_out_of_bounds_are_clipped(given, played):
    task = jax.tree.map(lambda x: x[0], tasks())
    state = TabularState(jnp.int32(3), jnp.int32(0))
    key = jax.random.key(0)
    assert FAMILY.step(key, state, given, task) == FAMILY.step(key, state, played, task)


def test_episodes_start_in_state_zero_and_the_last_step_terminates():
    played = play("random")
    assert (played.inputs.obs[:, :, 0] == 0).all()
    assert played.mask.all()
    assert not played.truncated.any()
    np.testing.assert_array_equal(
        played.terminated, np.broadcast_to(np.arange(10) == 9, played.terminated.shape)
    )


# Planning and learning


def test_planning_agrees_with_value_iteration_in_float64():
    task = jax.tree.map(lambda x: x[:50], tasks())
    planned = jax.jit(jax.vmap(lambda t: optimal_q(t.reward_mean, t.transition, 10)))(task)
    transition = jax.vmap(lambda t: t.transition)(task)
    exact = value_iteration(
        np.asarray(task.reward_mean, np.float64), np.asarray(transition, np.float64), 10
    )
    np.testing.assert_allclose(np.swapaxes(planned, 0, 1), exact, rtol=1e-5, atol=1e-5)


def test_planning_agrees_with_a_chain_solved_by_hand():
    # Action 0 stays and pays 1; action 1 moves on and pays 0; the last state pays 3.
    reward = jnp.array([[1.0, 0.0], [1.0, 0.0], [3.0, 3.0]])
    transition = np.zeros((3, 2, 3), np.float32)
    transition[[0, 1, 2], 0, [0, 1, 2]] = 1
    transition[[0, 1, 2], 1, [1, 2, 2]] = 1
    q = optimal_q(reward, jnp.asarray(transition), 3)
    np.testing.assert_allclose(q[:, 0], [[3.0, 3.0], [2.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(q[:, 1], [[4.0, 6.0], [2.0, 3.0], [1.0, 0.0]])


def test_the_oracle_earns_the_value_of_each_process():
    surplus = play("oracle").reward.astype(np.float64).sum(-1).mean(-1) - exact_optimum()
    mean, error = mean_and_error(surplus)
    assert abs(mean) < 4 * error


def test_the_optimum_per_episode_is_the_known_one():
    mean, error = mean_and_error(exact_optimum())
    assert abs(mean - 21.837) < 4 * (error**2 + 0.016**2) ** 0.5


def test_untried_actions_are_chosen_evenly():
    first = play_prior(greedy)[1].action[:, 0, 0]
    assert np.abs(np.bincount(first, minlength=5) - TASKS / 5).max() < 4.5 * (TASKS / 5) ** 0.5


def test_greedy_does_what_is_best_for_the_posterior_mean():
    played = jax.tree.map(lambda x: x[:20], play_prior(greedy)[1])
    for task in range(20):
        visits, rewards = np.zeros((10, 5)), np.zeros((10, 5))
        counts = np.ones((10, 5, 10))
        for episode in range(10):
            reward_mean = (1 + rewards) / (1 + visits)
            q = value_iteration(reward_mean, counts / counts.sum(-1, keepdims=True), 10)
            for t in range(10):
                row = jax.tree.map(lambda x: x[task, episode, t], played)  # noqa: B023
                state = row.inputs.obs
                assert q[t, state, row.action] >= q[t, state].max() - 1e-3
                visits[state, row.action] += 1
                rewards[state, row.action] += row.reward
                counts[state, row.action, row.next_obs] += t < 9


@pytest.mark.parametrize(("count_last", "transitions"), [(False, 9), (True, 10)])
def test_the_last_transition_of_an_episode_counts_only_if_asked(count_last, transitions):
    episode = jax.tree.map(lambda x: x[0, :1], play("random"))
    seen = observe(nothing_seen(10, 5), episode, count_last)
    assert seen.visits.sum() == 10
    assert seen.transitions.sum() == transitions
    np.testing.assert_allclose(seen.reward_sum.sum(), episode.reward.sum(), rtol=1e-5)


def test_rows_that_were_not_played_teach_nothing():
    episode = jax.tree.map(lambda x: x[0, :2], play("random"))
    cut = episode._replace(mask=np.array([[True] * 4 + [False] * 6, [False] * 10]))
    seen = observe(nothing_seen(10, 5), cut)
    assert seen.visits.sum() == seen.transitions.sum() == 4
    np.testing.assert_allclose(seen.reward_sum.sum(), episode.reward[0, :4].sum(), rtol=1e-5)


def test_sampled_processes_follow_the_posterior():
    family = TabularMDP(num_states=2, num_actions=1, episode_length=2, prior_std=2.0)
    policy, params, *_ = psrl(family, prior_mean=3.0)
    rewards, stays = np.array([1.0, 2.0, 6.0, 1.5]), 3
    # Four episodes of one step in state 0, of which three stay; the clock ends none.
    steps = jax.tree.map(
        lambda x: jnp.asarray(x[0, :4, :1]),
        play("random"),
    )
    steps = steps._replace(
        inputs=steps.inputs._replace(obs=jnp.zeros((4, 1), jnp.int32)),
        action=jnp.zeros((4, 1), jnp.int32),
        reward=jnp.asarray(rewards, jnp.float32)[:, None],
        next_obs=jnp.array([[0], [0], [1], [0]]),
    )

    def draw(key):
        begin_key, adapt_key = jax.random.split(key)
        return policy.adapt(params, policy.begin(params, begin_key), steps, adapt_key).q

    q = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(0), 4000)), np.float64)
    # With one step to go the value is the sampled reward itself.
    precision = 1 / 4 + len(rewards)
    mean = (3.0 / 4 + rewards.sum()) / precision
    sampled = q[:, 1, 0, 0]
    assert abs(sampled.mean() - mean) < 4 * (1 / precision / 4000) ** 0.5
    np.testing.assert_allclose(sampled.var(), 1 / precision, rtol=0.1)
    np.testing.assert_allclose(q[:, 1, 1, 0].var(), 4.0, rtol=0.1)
    # With two to go it adds p r0 + (1 - p) r1, from which p is read off.
    p = (q[:, 0, 0, 0] - sampled - q[:, 1, 1, 0]) / (sampled - q[:, 1, 1, 0])
    clear = np.abs(sampled - q[:, 1, 1, 0]) > 0.05
    expected = (1 + stays) / (2 + len(rewards))
    error = (expected * (1 - expected) / (3 + len(rewards)) / clear.sum()) ** 0.5
    assert abs(p[clear].mean() - expected) < 4 * error


def agrees(played, total, standard_error):
    mean, error = mean_and_error(played.reward.astype(np.float64).sum((1, 2)))
    return abs(mean - total) < 3 * (error**2 + standard_error**2) ** 0.5


def test_totals_over_ten_episodes_agree_with_table_2():
    assert agrees(play("random"), 100.1, 0.6)
    assert agrees(play("oracle"), 217.8, 0.4)
    assert agrees(play_prior(greedy)[0], 136.3, 0.9)
    assert agrees(play_prior(psrl, 800)[0], 137.9, 0.9)
    assert agrees(play_prior(psrl, 800)[1], 133.6, 0.8)


def test_greedy_with_the_true_prior_earns_what_a_program_in_numpy_earns():
    assert agrees(play_prior(greedy)[1], 154.8, 0.4)


def test_breaking_ties_by_index_costs_greedy_four_to_eight_points():
    by_index = play_prior(greedy, TASKS, True)
    assert agrees(by_index[0], 129.9, 0.45)
    assert agrees(by_index[1], 149.8, 0.4)


def test_learning_pays_off_over_the_episodes():
    by_episode = play_prior(greedy)[1].reward.sum(-1).mean(0)
    assert abs(by_episode[0] - 10) < 1
    assert by_episode[-1] > by_episode[4] > by_episode[1] > by_episode[0]
    assert by_episode[-1] < exact_optimum().mean()
