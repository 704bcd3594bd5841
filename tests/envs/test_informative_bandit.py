import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.experience.play import play_adaptation
from jaxmeta_envs.bandits.informative import InformativeBandit, InformativeTask
from jaxmeta_envs.core.errors import ConfigError

FAMILY = InformativeBandit()


def payout(family, arm, target):
    if arm == family.num_candidates:
        return Fraction(family.hint_scale) * (target + 1)
    return Fraction(family.target_reward if arm == target else family.other_reward)


def best_of_all_policies(family, num_pulls):
    """Value of the best policy: every choice after every history, in rationals.

    What a history leaves open is the set of targets that agree with it.
    """

    def value(targets, pulls_left):
        if pulls_left == 0:
            return Fraction(0)
        options = []
        for arm in range(family.num_candidates + 1):
            outcomes = {}
            for target in targets:
                outcomes.setdefault(payout(family, arm, target), []).append(target)
            options.append(
                sum(
                    Fraction(len(left), len(targets)) * (reward + value(left, pulls_left - 1))
                    for reward, left in outcomes.items()
                )
            )
        return max(options)

    return value(list(range(family.num_candidates)), num_pulls)


SMALL = [
    (InformativeBandit(3, 4), 3),
    (InformativeBandit(3, 1), 1),  # nothing to be done with a hint
    (InformativeBandit(6, 3), 0),
    (InformativeBandit(3, 3, target_reward=2.0, other_reward=1.5, hint_scale=0.01), 3),
    (InformativeBandit(4, 4, target_reward=4.0, other_reward=3.5, hint_scale=1.0), 3),
    (InformativeBandit(4, 2, target_reward=4.0, other_reward=-1.0, hint_scale=1.0), 0),
    (InformativeBandit(2, 4, target_reward=1.0, other_reward=0.5, hint_scale=0.5), None),
]


@pytest.mark.parametrize(("family", "tries"), SMALL)
def test_the_optimum_is_the_best_of_all_policies_in_rationals(family, tries):
    returns = family.optimal_returns(family.num_pulls)
    assert returns.dtype == np.float64
    assert returns.shape == (family.num_pulls,)
    assert returns.sum() == pytest.approx(float(best_of_all_policies(family, family.num_pulls)))
    if tries is not None:
        assert family.references(family.num_pulls)["bayes-optimal"].params == tries


def test_the_optimum_of_the_published_task_asks_first_and_then_knows():
    assert FAMILY.optimal_returns(5) == pytest.approx([0.55, 5.0, 5.0, 5.0, 5.0], abs=1e-12)


def test_without_the_hint_the_best_is_eleven_and_a_third():
    # Met at pull t with chance 1/10: 1.1 before, 5 from then on.
    exact = 5 * 1.1 + 3.9 * sum(range(1, 6)) / 10
    assert exact == pytest.approx(11.35)
    assert play_all_targets(FAMILY, "search").mean(axis=0).sum() == pytest.approx(exact, abs=1e-5)


def play_all_targets(family, name):
    """Rewards ``[N, n]`` on every task once; the policies are deterministic."""
    policy, params, told_task, _ = family.references(family.num_pulls)[name]

    def trial(target):
        task = InformativeTask(target)
        read = (params, task) if told_task else params
        key = jax.random.key(0)
        return play_adaptation(family, policy, read, task, key, family.num_pulls).reward[:, 0, 0]

    return np.asarray(jax.jit(jax.vmap(trial))(jnp.arange(family.num_candidates)))


@pytest.mark.parametrize("family", [FAMILY, *(family for family, _ in SMALL[2:5])])
def test_the_optimal_policy_earns_the_optimum_at_every_pull(family):
    rewards = play_all_targets(family, "bayes-optimal")
    assert rewards.mean(axis=0) == pytest.approx(family.optimal_returns(family.num_pulls))


def test_the_oracle_earns_the_target_at_every_pull():
    assert np.all(play_all_targets(FAMILY, "oracle") == 5.0)


def test_every_arm_pays_what_the_paper_says():
    keys = jax.random.split(jax.random.key(0), 12)
    task = InformativeTask(jnp.int32(1))
    state, _ = FAMILY.reset(keys[0], task)
    rewards = [
        float(FAMILY.step(key, state, jnp.int32(arm), task)[1].reward)
        for arm, key in enumerate(keys)
    ]
    assert rewards[:2] == pytest.approx([1.1, 5.0])
    assert rewards[2:10] == pytest.approx([1.1] * 8)
    assert rewards[10:] == pytest.approx([0.2, 0.2])  # the last is out of bounds, and clipped


def test_targets_are_uniform_over_the_candidates():
    keys = jax.random.split(jax.random.key(0), 5000)
    targets = np.asarray(jax.vmap(lambda key: FAMILY.sample_task(key).target)(keys))
    counts = np.bincount(targets, minlength=10)
    assert len(counts) == 10
    assert np.all(np.abs(counts - 500) < 4.5 * math.sqrt(5000 * 0.1 * 0.9))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: InformativeBandit(1), "num_candidates is 1; it must be an integer of at least 2"),
        (lambda: InformativeBandit(num_pulls=0), "num_pulls is 0"),
        (lambda: InformativeBandit(target_reward=math.inf), "target_reward is inf"),
        (lambda: InformativeBandit(other_reward=5.0), "other_reward is 5.0"),
        (lambda: InformativeBandit(hint_scale=0.6), "hint_scale is 0.6; .* at most 0.5"),
        (lambda: FAMILY.references(0), "num_episodes is 0"),
        (lambda: FAMILY.optimal_returns(0), "num_episodes is 0"),
        (lambda: FAMILY.sample_task(jax.random.key(0), "far"), "split is 'far'"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
