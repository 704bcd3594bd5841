"""The classical algorithms of decision processes, against NumPy and against table 2."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from jaxmeta.evaluation.evaluate import evaluate_policy
from jaxmeta_envs import ConfigError, PolicyInput, TabularMDP, Trajectory
from jaxmeta_envs.tabular import references as rules
from jaxmeta_envs.tabular.planning import sample_process

SMALL = TabularMDP(
    num_states=3, num_actions=2, episode_length=4, prior_mean=0.5, prior_std=0.7, dirichlet=0.4
)
EPISODES = 5


@functools.cache
def experience():
    """Random states, actions, rewards and next states, [EPISODES, 4]."""
    rng = np.random.default_rng(0)
    shape = (EPISODES, 4)
    # The last pair of state and action is never met.
    met = rng.integers(0, 5, shape)
    return met // 2, met % 2, rng.normal(size=shape), rng.integers(0, 3, shape)


def planned(reference):
    """Values that a reference plans with once it has seen the experience, [4, 3, 2]."""
    state, action, reward, next_state = map(jnp.asarray, experience())
    last = jnp.broadcast_to(jnp.arange(4) == 3, state.shape)
    episodes = Trajectory(
        inputs=PolicyInput(state, *[jnp.zeros(state.shape)] * 4),
        action=action,
        reward=reward.astype(jnp.float32),
        terminated=last,
        truncated=jnp.zeros_like(last),
        next_obs=next_state,
        mask=jnp.ones_like(last),
    )
    policy, params, *_ = reference
    begin_key, key = jax.random.split(jax.random.key(0))
    return policy.adapt(params, policy.begin(params, begin_key), episodes, key), key


def statistics():
    """Visits, sums of rewards and counts of next states, without an episode's last."""
    visits, rewards, counts = np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((3, 2, 3))
    for episode in zip(*experience(), strict=True):
        for t, (s, a, r, n) in enumerate(zip(*episode, strict=True)):
            visits[s, a] += 1
            rewards[s, a] += r
            counts[s, a, n] += t < 3
    return visits, rewards, counts


def posterior_mean(prior_mean, prior_weight=1.0):
    visits, rewards, counts = statistics()
    precision = prior_weight / 0.7**2
    reward = (precision * prior_mean + rewards) / (precision + visits)
    counts = counts + prior_weight * 0.4
    return reward, counts / counts.sum(-1, keepdims=True)


def solve(reward, transition, expect=np.dot):
    """Backward induction by loops; ``expect(p, value)`` may depend on state and action."""
    q, value = np.zeros((4, 3, 2)), np.zeros(3)
    for h in reversed(range(4)):
        for s in range(3):
            for a in range(2):
                q[h, s, a] = reward[s, a] + expect(transition[s, a], value)
        value = q[h].max(-1)
    return q


def agree(reference, q):
    np.testing.assert_allclose(planned(reference)[0].q, q, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mean", "weight"), [(0.5, 1.0), (2.0, 1.0), (0.0, rules.NO_PRIOR)])
def test_greedy_plans_for_the_posterior_mean_of_the_prior_it_is_given(mean, weight):
    reference = rules.greedy(SMALL, mean, prior_weight=weight)
    agree(reference, solve(*posterior_mean(mean, weight)))


def test_beb_as_published_adds_beta_over_one_plus_the_visits():
    reward, transition = posterior_mean(0.5)
    beta = 2 * 4**2 * 0.03
    agree(rules.beb(SMALL, 0.03), solve(reward + beta / (1 + statistics()[0]), transition))


def test_beb_of_the_rl2_paper_pays_for_every_step_that_is_left():
    reward, transition = posterior_mean(0.0)
    visits, _, counts = statistics()
    beta = 2 * 4**2 * 0.01
    now = 1 / (1 + 1 / 0.7**2 + visits)
    later = beta * 4 / (1 + 3 * 0.4 + counts.sum(-1))
    q, value = np.zeros((4, 3, 2)), np.zeros(3)
    for left in range(4):
        q[3 - left] = reward + now + later * left + np.einsum("sat,t->sa", transition, value)
        value = q[3 - left].max(-1)
    agree(rules.beb(SMALL, 0.01, 0.0, bonus="value"), q)


def test_beb_is_greedy_with_a_higher_prior_mean_if_the_prior_is_worth_one_reward():
    family = TabularMDP(num_states=3, num_actions=2, episode_length=4)
    beta = 2 * 4**2 * 0.05
    raised = planned(rules.greedy(family, 1 + beta))[0].q
    np.testing.assert_allclose(planned(rules.beb(family, 0.05))[0].q, raised, rtol=1e-5)


def best_in_ball(p, width, value):
    """Maximum of p·value over the simplex within a 1-norm of p, by linear programming."""
    states = len(p)
    eye, none = np.eye(states), np.zeros((1, states))
    # Variables: the new p, and the size of each change.
    bounds_of_change = np.block([[eye, -eye], [-eye, -eye], [none, np.ones((1, states))]])
    found = linprog(
        np.concatenate([-value, np.zeros(states)]),
        A_ub=bounds_of_change,
        b_ub=np.concatenate([p, -p, [width]]),
        A_eq=np.concatenate([np.ones(states), np.zeros(states)])[None],
        b_eq=[1.0],
    )
    return -found.fun


@pytest.mark.parametrize("scaling", [0.01, 0.1, 1.0])
def test_ucrl2_plans_for_the_best_process_within_its_bounds(scaling):
    reward, transition = posterior_mean(0.0, rules.NO_PRIOR)
    visits, _, counts = statistics()
    log = math.log(2 * 3 * 2 * (EPISODES + 2) / 0.05)  # the episode to come is number 6
    reward = reward + scaling * np.sqrt(4 * log / np.maximum(visits, 1))
    width = scaling * np.sqrt(4 * 3 * log / np.maximum(counts.sum(-1), 1))
    inputs = np.concatenate([transition, width[..., None]], axis=-1)
    q = solve(reward, inputs, lambda row, value: best_in_ball(row[:-1], row[-1], value))
    agree(rules.ucrl2(SMALL, scaling, 0.0), q)


def test_ucrl2_without_bounds_is_greedy_without_a_prior():
    greedy = rules.greedy(SMALL, 0.0, prior_weight=rules.NO_PRIOR)
    agree(rules.ucrl2(SMALL, 0.0, 0.0), np.asarray(planned(greedy)[0].q))


def test_opsrl_takes_the_largest_value_over_the_processes_it_draws():
    counts = (1, 2, 5)
    prior = rules.opsrl(SMALL).params.prior
    # One program plans with every number of draws.
    carry, keys = jax.jit(jax.vmap(lambda n: planned(rules.opsrl(SMALL, n))))(jnp.array(counts))
    posterior = jax.tree.map(lambda x: x[0], carry.posterior)
    keys = jax.vmap(lambda i: jax.random.fold_in(keys[0], i))(jnp.arange(5))
    drawn = jax.jit(jax.vmap(sample_process, (0, None, None)))(keys, prior, posterior)
    solved = [solve(*(np.asarray(x[i], np.float64) for x in drawn)) for i in range(5)]
    for q, n in zip(carry.q, counts, strict=True):
        np.testing.assert_allclose(q, np.max(solved[:n], axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_epsilon_greedy_draws_any_action_with_probability_epsilon(epsilon):
    reference = rules.epsilon_greedy(SMALL, epsilon)
    carry, _ = planned(reference)
    inputs = PolicyInput(jnp.int32(1), *[jnp.zeros(())] * 3, jnp.asarray(True))
    keys = jax.random.split(jax.random.key(1), 4000)
    actions, after = jax.vmap(
        lambda key: reference.policy.act(reference.params, carry, inputs, key)
    )(keys)
    assert (after.step == 1).all()
    best = int(jnp.argmax(carry.q[0, 1]))
    expected = 1 - epsilon / 2
    error = math.sqrt(expected * (1 - expected) / 4000)
    assert abs(float((actions == best).mean()) - expected) <= 4 * error


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: rules.epsilon_greedy(SMALL, 1.5), "epsilon"),
        (lambda: rules.opsrl(SMALL, 0), "num_samples"),
        (lambda: rules.ucrl2(SMALL, -1.0), "scaling"),
        (lambda: rules.beb(SMALL, math.nan), "scaling"),
        (lambda: rules.beb(SMALL, bonus="both"), "bonus"),
    ],
)
def test_bad_settings_are_refused_by_name(build, name):
    with pytest.raises(ConfigError, match=name):
        build()


# Table 2 of the RL² paper. The settings are those that do best on training tasks; the
# standard errors of the paper's own figures are taken to be ours.

FAMILY = TabularMDP()


def totals(reference, episodes, num_tasks):
    policy, params, *_ = reference
    key = jax.random.key(episodes)
    played = evaluate_policy(
        policy, params, FAMILY, key=key, num_tasks=num_tasks, episodes=episodes, batch=512
    )
    total = played.sum(axis=1, dtype=np.float64)
    return total.mean(), total.std(ddof=1) / math.sqrt(num_tasks)


NO_PRIOR = {"prior_mean": 0.0, "prior_weight": rules.NO_PRIOR}


@pytest.mark.parametrize(
    ("reference", "total"),
    [
        pytest.param(rules.ucrl2(FAMILY, 10**-0.4, 0.0), 146.6, id="ucrl2"),
        pytest.param(rules.beb(FAMILY, 10**-2.8, 0.0, bonus="value"), 150.2, id="beb"),
        pytest.param(rules.epsilon_greedy(FAMILY, 0.1, **NO_PRIOR), 132.8, id="epsilon-greedy"),
        pytest.param(rules.greedy(FAMILY, **NO_PRIOR), 134.8, id="greedy"),
    ],
)
def test_ten_episodes_earn_what_the_rl2_paper_reports(reference, total):
    mean, error = totals(reference, 10, 1000)
    assert abs(mean - total) < 3 * math.sqrt(2) * error


@pytest.mark.parametrize(
    ("reference", "total", "their_error", "num_tasks"),
    [
        pytest.param(rules.opsrl(FAMILY, 20, 0.0), 143.5, 0.8, 200, id="opsrl"),
        pytest.param(rules.epsilon_greedy(FAMILY, 0.1, 0.0), 137.5, 0.8, 1000, id="epsilon"),
        pytest.param(rules.epsilon_greedy(FAMILY, 0.1), 146.9, 0.8, 1000, id="epsilon-true-prior"),
    ],
)
def test_ten_episodes_earn_the_recomputed_figures(reference, total, their_error, num_tasks):
    mean, error = totals(reference, 10, num_tasks)
    assert abs(mean - total) < 3 * math.hypot(error, their_error)


def test_with_the_true_prior_beb_comes_level_with_the_learner_of_table_2():
    mean, error = totals(rules.beb(FAMILY), 10, 1000)
    assert abs(mean - 156.2) < 3 * math.sqrt(2) * error
    assert mean - 150.2 > 3 * error


@pytest.mark.slow  # two minutes in all on two cores, half of it OPSRL
@pytest.mark.parametrize(
    ("reference", "total"),
    [
        pytest.param(rules.ucrl2(FAMILY, 10**-0.4, 0.0), 424.1, id="ucrl2"),
        pytest.param(rules.beb(FAMILY, 10**-2.8, 0.0, bonus="value"), 427.8, id="beb"),
        pytest.param(rules.epsilon_greedy(FAMILY, 0.1, **NO_PRIOR), 377.3, id="epsilon-greedy"),
        pytest.param(rules.greedy(FAMILY, **NO_PRIOR), 368.8, id="greedy"),
        pytest.param(rules.opsrl(FAMILY, 6, 0.0), 425.2, id="opsrl"),
        pytest.param(rules.opsrl(FAMILY, 6), 412.9, id="opsrl-true-prior"),
    ],
)
def test_twenty_five_episodes_earn_what_is_reported(reference, total):
    mean, error = totals(reference, 25, 1000)
    assert abs(mean - total) < 3 * math.sqrt(2) * error
