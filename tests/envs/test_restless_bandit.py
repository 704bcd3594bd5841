import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.experience.play import play_adaptation
from jaxmeta_envs.bandits.restless import RestlessBandit, RestlessTask
from jaxmeta_envs.bandits.restless_references import (
    bayes_filter,
    delta_rule,
    reflect,
    walk_transition,
)
from jaxmeta_envs.core.contracts import PolicyInput
from jaxmeta_envs.core.errors import ConfigError

FAMILY = RestlessBandit(30, 0.05, 0.3)
# Each policy is its own program, and compiling them is nearly all the time spent here.
FAST_COMPILE = {"xla_backend_optimization_level": 0}


def play(family, reference, num_trials, split="train"):
    """Total rewards ``[num_trials]``; policies meet the same tasks."""
    policy, params, told_task, _ = reference

    def trial(key):
        task_key, play_key = jax.random.split(key)
        task = family.sample_task(task_key, split)
        read = (params, task) if told_task else params
        return play_adaptation(family, policy, read, task, play_key, 1).reward.sum()

    run = jax.jit(jax.vmap(trial), compiler_options=FAST_COMPILE)
    return np.asarray(run(jax.random.split(jax.random.key(0), num_trials)))


def walk(start, steps):
    """The walk again, in float64: one step at a time, bouncing off the bounds."""
    probs = [start]
    for step in steps:
        p = probs[-1] + step
        while not 0.0 <= p <= 1.0:
            p = -p if p < 0.0 else 2.0 - p
        probs.append(p)
    return np.array(probs)


# The walk.


def test_reflecting_bounces_off_both_bounds():
    x = jnp.array([0.0, 0.3, 1.0, 1.2, 1.9, 2.0, 2.3, -0.1, -1.4, -2.0])
    expected = [0.0, 0.3, 1.0, 0.8, 0.1, 0.0, 0.3, 0.1, 0.6, 0.0]
    assert reflect(x) == pytest.approx(expected, abs=1e-6)


def test_folding_an_unbounded_walk_is_bouncing_up_to_the_signs_of_its_steps():
    # On a mirrored copy a step goes the other way, which its distribution does not notice.
    rng = np.random.default_rng(0)
    noise, start, volatility = rng.normal(size=40), 0.7, 0.4
    task = RestlessTask(*(jnp.asarray(x, jnp.float32) for x in (start, volatility, noise)))
    probs = np.asarray(task.probs)
    unbounded = start + volatility * np.concatenate([[0.0], np.cumsum(noise)[:-1]])
    mirrored = np.where(np.floor(unbounded).astype(int) % 2 == 0, 1.0, -1.0)
    steps = volatility * noise[:-1] * mirrored[:-1]
    assert probs == pytest.approx(walk(start, steps), abs=1e-5)


@functools.cache
def tasks():
    """Tasks of every split, and their walks, in one program."""
    keys = jax.random.split(jax.random.key(2), 4000)

    def sample(key):
        drawn = {split: FAMILY.sample_task(key, split) for split in FAMILY.splits}
        return {split: (task, task.probs) for split, task in drawn.items()}

    run = jax.jit(jax.vmap(sample), compiler_options=FAST_COMPILE)
    return jax.tree.map(np.asarray, run(keys))


@pytest.mark.parametrize(
    ("split", "volatilities"),
    [
        ("train", (0.05, 0.3)),
        ("test", (0.05, 0.3)),
        ("low", (0.05,)),
        ("high", (0.3,)),
        ("extreme", (0.6,)),
    ],
)
def test_every_split_has_its_volatilities_equally_often(split, volatilities):
    found, counts = np.unique(tasks()[split][0].volatility, return_counts=True)
    assert found == pytest.approx(volatilities)
    assert np.all(np.abs(counts - 4000 / len(found)) < 4 * math.sqrt(1000))


def test_the_probability_stays_uniform_and_moves_by_the_volatility():
    task, probs = tasks()["train"]
    for t in (0, 5, 29):
        quarters = np.histogram(probs[:, t], bins=4, range=(0.0, 1.0))[0]
        assert np.all(np.abs(quarters - 1000) < 4.5 * math.sqrt(4000 * 0.25 * 0.75))
    low = task.volatility < 0.1
    inside = low & (np.abs(probs[:, 0] - 0.5) < 0.25)  # five steps from the bounds
    step = (probs[:, 1] - probs[:, 0])[inside]
    assert step.std() == pytest.approx(0.05, rel=4.5 / math.sqrt(2 * inside.sum()))


def test_each_arm_pays_the_current_probability_and_the_clock_terminates():
    family = RestlessBandit(3, 0.1, 0.1)
    task = RestlessTask(jnp.float32(0.2), jnp.float32(0.1), jnp.array([8.0, 4.0, 0.0]))
    assert task.probs == pytest.approx([0.2, 1.0, 0.6], abs=1e-6)

    def rewards(key, arm):
        def step(state, key):
            state, timestep = family.step(key, state, arm, task)
            return state, (timestep.reward, timestep.terminated, timestep.truncated)

        state, _ = family.reset(key, task)
        return jax.lax.scan(step, state, jax.random.split(key, 3))[1]

    keys = jax.random.split(jax.random.key(0), 2000)
    run = jax.jit(jax.vmap(rewards, in_axes=(0, None)), compiler_options=FAST_COMPILE)
    by_arm = [run(keys, jnp.int32(arm)) for arm in (-1, 0, 1, 2)]
    means = [np.asarray(steps[0]).mean(axis=0) for steps in by_arm]
    assert np.array_equal(means[0], means[1])  # out of bounds is clipped
    assert np.array_equal(means[2], means[3])
    assert means[1] == pytest.approx([0.2, 1.0, 0.6], abs=0.05)  # 4.5 standard errors
    assert means[2] == pytest.approx([0.8, 0.0, 0.4], abs=0.05)
    assert np.array_equal(by_arm[0][1][0], [False, False, True])
    assert not np.any(by_arm[0][2])


# The filter.


def best_of_all_policies(p, transition, num_pulls):
    """Values of the best policy, and of the one that pulls what pays more next, float64.

    Every choice after every history of arms and rewards, for a walk over cells.
    """

    def value(belief, pulls_left):
        if pulls_left == 0:
            return 0.0, 0.0
        options = []
        for first in (p, 1.0 - p):  # how the cells pay by either arm
            best = greedy = belief @ first
            for likelihood in (first, 1.0 - first):
                chance = belief @ likelihood
                after = value(belief * likelihood / chance @ transition, pulls_left - 1)
                best += chance * after[0]
                greedy += chance * after[1]
            options.append((best, greedy))
        now = int(belief @ p < 0.5)
        return max(option[0] for option in options), options[now][1]

    return value(np.full(len(p), 1.0 / len(p)), num_pulls)


def test_to_pull_the_arm_that_pays_more_next_is_the_best_of_all_policies():
    p = (np.arange(4) + 0.5) / 4
    best, greedy = best_of_all_policies(p, walk_transition(0.2, 4), 6)
    assert greedy == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(("volatility", "num_cells"), [(0.02, 100), (0.3, 20), (1.5, 10)])
def test_a_step_of_the_grid_keeps_uniform_beliefs_uniform(volatility, num_cells):
    transition = walk_transition(volatility, num_cells)
    assert transition.sum(axis=0) == pytest.approx(np.ones(num_cells), abs=1e-9)
    assert transition.sum(axis=1) == pytest.approx(np.ones(num_cells), abs=1e-12)


def filtered_mean(reference, arms, rewards):
    """Mean of p that the filter predicts after these pulls."""
    policy, params, *_ = reference
    belief = policy.begin(params, jax.random.key(0))
    act = jax.jit(policy.act)
    for t in range(len(arms) + 1):
        inputs = PolicyInput(
            obs=jnp.int32(0),
            prev_action=jnp.int32(arms[t - 1] if t else 0),
            prev_reward=jnp.float32(rewards[t - 1] if t else 0.0),
            prev_done=jnp.asarray(False),
            episode_start=jnp.asarray(t == 0),
        )
        _, belief = act(params, belief, inputs, jax.random.key(t))
    assert belief.sum() == pytest.approx(1.0, abs=1e-5)
    return float(jnp.sum(belief * params.p[None])), np.asarray(belief.sum(axis=1))


def test_the_filter_agrees_with_weighting_many_walks():
    arms, rewards = [0, 0, 1, 1, 0, 1, 0], [1, 1, 0, 1, 1, 0, 0]
    mean, volatility = filtered_mean(bayes_filter(0.05, 0.3), arms, rewards)

    rng = np.random.default_rng(1)
    num_walks = 200_000
    fast = rng.random(num_walks) < 0.5
    p, weight = rng.random(num_walks), np.ones(num_walks)
    for arm, reward in zip(arms, rewards, strict=True):
        pays = p if arm == 0 else 1.0 - p
        weight *= pays if reward else 1.0 - pays
        p = np.abs((p + np.where(fast, 0.3, 0.05) * rng.normal(size=num_walks) + 1.0) % 2.0 - 1.0)
    weight /= weight.sum()
    for mine, theirs in ((mean, p), (volatility[1], fast)):
        expected = weight @ theirs
        error = math.sqrt(weight**2 @ (theirs - expected) ** 2)
        assert error < 0.003
        assert abs(mine - expected) < 4.5 * error


def test_a_finer_grid_changes_no_prediction():
    arms, rewards = [0, 1, 0, 0, 1, 0], [1, 0, 1, 1, 1, 0]
    means = [
        filtered_mean(bayes_filter(0.05, 0.3, num_cells=n), arms, rewards)[0] for n in (40, 160)
    ]
    assert means[0] == pytest.approx(means[1], abs=2e-4)


def test_policies_forget_at_the_start_of_an_episode():
    for reference in (bayes_filter(0.05, 0.3), delta_rule()):
        policy, params, *_ = reference
        start = policy.begin(params, jax.random.key(0))
        moved = jax.tree.map(lambda x: x.at[..., -1].add(0.3) if x.ndim else x + 0.3, start)
        inputs = PolicyInput(
            *(jnp.int32(0), jnp.int32(1), jnp.float32(1.0), jnp.asarray(True), jnp.asarray(True))
        )
        _, carry = policy.act(params, moved, inputs, jax.random.key(1))
        assert np.array_equal(carry, start)


def test_the_delta_rule_moves_by_its_rate_towards_the_outcome():
    policy, params, *_ = delta_rule(0.5)
    inputs = PolicyInput(
        *(jnp.int32(0), jnp.int32(1), jnp.float32(0.0), jnp.asarray(False), jnp.asarray(False))
    )
    action, p = policy.act(params, jnp.float32(0.5), inputs, jax.random.key(0))
    assert (action, p) == (0, 0.75)  # a failure of the second arm speaks for the first


def test_references_are_ordered_and_the_oracle_earns_three_quarters():
    references = FAMILY.references(1)
    assert set(references) == {"random", "oracle", "delta-rule", "bayes-filter"}
    learned = ("oracle", "delta-rule", "bayes-filter")
    totals = {name: play(FAMILY, references[name], 1500) for name in learned}
    error = totals["oracle"].std() / math.sqrt(1500)
    assert abs(totals["oracle"].mean() - 0.75 * 30) < 4 * error
    for better, worse in (("oracle", "bayes-filter"), ("bayes-filter", "delta-rule")):
        gap = totals[better] - totals[worse]
        assert gap.mean() > -2 * gap.std() / math.sqrt(1500), (better, worse)
    gap = totals["delta-rule"] - 0.5 * 30  # what random pulls earn
    assert gap.mean() > 4 * gap.std() / math.sqrt(1500)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RestlessBandit(0), "RestlessBandit.num_pulls is 0"),
        (lambda: RestlessBandit(low_volatility=0.001), "low_volatility is 0.001; .* 0.005 and 1"),
        (lambda: RestlessBandit(high_volatility=0.01), "high_volatility is 0.01; .* 0.02 and 1"),
        (lambda: RestlessBandit(high_volatility=math.nan), "high_volatility is nan"),
        (lambda: FAMILY.sample_task(jax.random.key(0), "fast"), "split is 'fast'"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
