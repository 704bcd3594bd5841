"""Learning does not depend on the units of actions, observations and rewards."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import (
    GRU,
    MLP,
    PPO,
    RL2,
    ConfigError,
    EPOpt,
    GuidedMetaPolicySearch,
    InnerLoop,
    MetaSGD,
    PolicyMAML,
)
from jaxmeta.networks.actor_critic import (
    InputMoments,
    encode_input,
    first_input_moments,
    input_moments,
)
from jaxmeta.ops.moments import Moments
from jaxmeta.parts.policy_adaptation import blind_at_first
from jaxmeta_envs import BernoulliBandit, Box, PolicyInput, Trajectory
from tests.toy_families import Aim
from tests.toys import scan_updates

LEARNERS = {
    "rl2": RL2(num_tasks=16, memory=GRU(8), optimizer=PPO(epochs=2, minibatches=1)),
    "epopt": EPOpt(num_tasks=16, episodes_per_task=2, network=MLP((8,), "tanh")),
    "maml": PolicyMAML(num_tasks=4, shots=4, network=MLP((8,), "tanh")),
    # Units without bounds, which inputs of the wrong size would drive anywhere.
    "critic": PolicyMAML(
        num_tasks=4,
        shots=4,
        network=MLP((16,), "relu"),
        baseline=MLP((16,), "relu"),
        inner=InnerLoop(optimizer=MetaSGD(0.05, 0.2)),
        optimizer=PPO(epochs=1, minibatches=1),
    ),
    "gmps": GuidedMetaPolicySearch(
        num_tasks=4, shots=4, network=MLP((8,), "relu"), demonstrations=2, dagger=True
    ),
}
BOUNDS = [
    {"low": 0.0, "high": 1.0},
    {"low": 100.0, "high": 200.0},
    {"low": -0.01, "high": 0.01},
]


def returns(learner, family, updates=4, seeds=1):
    """Returns of a trial in training, in rewards of scale 1, ``[seeds, updates]``."""

    def one(key):
        init_key, key = jax.random.split(key)
        state = learner.init(family, init_key)
        keys = jax.random.split(key, updates)
        return scan_updates(learner, family, state, keys)[1]

    metrics = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), seeds))
    return np.asarray(metrics["return"]) / family.scale, metrics


@functools.cache
def plain_returns(learner):
    """Compiled once for all tests that compare with it."""
    return returns(learner, Aim())[0]


@pytest.mark.parametrize(
    ("name", "actions", "bounds"),
    [
        *(("rl2", "squashed", bounds) for bounds in BOUNDS),
        ("rl2", "clipped", BOUNDS[1]),
        ("epopt", "squashed", BOUNDS[1]),
        ("maml", "squashed", BOUNDS[1]),
        ("maml", "clipped", BOUNDS[2]),
    ],
    ids=str,
)
def test_the_bounds_of_actions_are_but_their_unit(name, actions, bounds):
    learner = dataclasses.replace(LEARNERS[name], actions=actions)
    plain = plain_returns(learner)
    assert np.ptp(plain) > 0.1  # it moves
    np.testing.assert_allclose(returns(learner, Aim(**bounds))[0], plain, rtol=0.02, atol=0.02)


def test_every_entry_has_its_own_bounds():
    learner = LEARNERS["rl2"]
    plain, _ = returns(learner, Aim(size=3))
    unequal = Aim((-1.0, 0.0, 100.0), (1.0, 0.01, 200.0), size=3)
    np.testing.assert_allclose(returns(learner, unequal)[0], plain, rtol=0.02, atol=0.02)


@functools.cache
def in_units(learner):
    """Returns of training and its metrics given stretch, offset and scale; compiled once."""

    def run(stretch, offset, scale):
        family = Aim(stretch=stretch, offset=offset, scale=scale)
        init_key, key = jax.random.split(jax.random.key(3))
        keys = jax.random.split(key, 4)
        metrics = scan_updates(learner, family, learner.init(family, init_key), keys)[1]
        return metrics["return"] / scale, metrics

    return jax.jit(run)


@pytest.mark.parametrize("name", LEARNERS)
def test_units_of_observations_and_rewards_do_not_matter(name):
    learned = in_units(LEARNERS[name])
    plain, _ = learned(1.0, 0.0, 1.0)
    assert np.ptp(plain) > 0.1  # it moves
    for units in ((1e3, 1e3, 1.0), (1e-3, 5.0, 1.0), (1.0, 1e3, 1e-3), (1.0, 0.0, 1e3)):
        scaled, metrics = learned(*units)
        np.testing.assert_allclose(scaled, plain, rtol=0.03, atol=0.03)
        assert all(np.isfinite(values).all() for values in metrics.values())


def test_raw_inputs_are_an_option():
    raw = dataclasses.replace(
        LEARNERS["rl2"], normalize_observations=False, normalize_rewards=False
    )
    family = Aim(offset=1000.0)
    params = jax.eval_shape(lambda key: raw.init(family, key), jax.random.key(0)).params
    assert "inputs" not in params
    assert "inputs" in LEARNERS["rl2"].init(family, jax.random.key(0)).params
    seen = PolicyInput(jnp.array([1000.0]), jnp.zeros(1), jnp.float32(0.0), *[jnp.array(False)] * 2)
    assert encode_input(family, seen, input_moments(params))[0] == 1000.0


def met(learner, family, state, key):
    """The observations of an update of a meta-learner of policies, ``[n]``, and what it adapted."""
    parts = 4 if isinstance(learner, GuidedMetaPolicySearch) else 3
    task_key, play_key, show_key, *_ = jax.random.split(key, parts)
    task_keys, play_keys = (jax.random.split(k, learner.num_tasks) for k in (task_key, play_key))
    params, adaptation = blind_at_first(state.params), learner._adaptation(family)
    tasks = jax.vmap(family.sample_task)(task_keys)
    played = jax.vmap(lambda t, k: adaptation.play(params, t, k))(tasks, play_keys)
    obs = [played.inner.inputs.obs, played.steps.inputs.obs]
    if parts == 4:
        args = tasks, jax.random.split(show_key, learner.num_tasks)
        show = lambda t, s, k: learner._show(family, t, ((), t), s, k)[0]  # noqa: E731
        shown = jax.vmap(show)(args[0], played.steps, args[1]).inputs.obs
        obs.append(shown[:, : learner.demonstrations * family.horizon])
    return jnp.concatenate([jnp.ravel(x) for x in obs]), played.adapted


@pytest.mark.parametrize("name", ["critic", "gmps"])
def test_moments_are_measured_before_and_after_adaptation_and_adapt_to_nothing(name):
    """Not in inner steps, nor by learned step sizes, nor in the outer loop."""
    learner, family = LEARNERS[name], Aim(stretch=3.0, offset=50.0)
    update = jax.jit(
        lambda s, k, i: (met(learner, family, s, k), learner.update(family, s, k, i)[0])
    )
    state, expected = learner.init(family, jax.random.key(0)), Moments.empty((1,))
    inner = learner.inner
    assert all("inputs" not in jax.tree_util.keystr(p) for p in paths(state.params.meta.rates))
    for i in range(3):
        (obs, adapted), new = update(state, jax.random.key(i), i)
        before, after = (s.params.meta.initial["inputs"].obs for s in (state, new))
        expected = expected.update(obs.mean(), obs.var(), 0.99, jnp.asarray(True))
        for one, other in zip(after, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3)
        if i > 0:
            for one, other in zip(adapted["inputs"].obs, before, strict=True):
                np.testing.assert_array_equal(one, jnp.stack([other] * 4))
        heads = [s.params.meta.initial["policy_head"]["params"]["Dense_0"] for s in (state, new)]
        # Nothing is learned from inputs of unknown scale.
        assert np.array_equal(heads[0]["kernel"], heads[1]["kernel"]) == (i == 0)
        state = new
    moved = inner._split(state.params.meta.initial)[0]
    assert not any("inputs" in jax.tree_util.keystr(path) for path in paths(moved))


def paths(tree):
    return [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def without_inputs(tree):
    return {name: leaf for name, leaf in tree.items() if name != "inputs"}


@pytest.mark.parametrize("name", ["critic", "gmps"])
def test_at_meta_test_a_policy_sees_by_the_moments_of_training(name):
    """It acts and adapts on far inputs as one without moments does on normalised ones."""
    learner, family = LEARNERS[name], Aim()
    raw = dataclasses.replace(learner, normalize_observations=False)
    state = learner.init(family, jax.random.key(0))
    trained = Moments(jnp.array([50.0]), jnp.array([9.0]), jnp.array([0.5]))
    params, plain = (
        state.params._replace(meta=state.params.meta._replace(initial=initial))
        for initial in (
            state.params.meta.initial | {"inputs": InputMoments(trained, None)},
            without_inputs(state.params.meta.initial),
        )
    )
    if plain.meta.rates:
        rates = without_inputs(plain.meta.rates)
        plain = plain._replace(meta=plain.meta._replace(rates=rates))
    seen = jax.random.normal(jax.random.key(1), (4, 5, 1))
    said = []
    for agent, of_agent, obs in (
        (learner, params, 50.0 + 3.0 * seen),
        (raw, plain, seen),
    ):
        policy = agent.policy(family)

        @jax.jit
        def twice(of_agent, obs, policy=policy):
            inputs = PolicyInput(obs, obs, obs[..., 0], *[jnp.zeros((4, 5), bool)] * 2)
            action = jnp.tanh(seen[::-1])
            nothing = jnp.zeros((4, 5), bool)
            rows = Trajectory(inputs, action, seen[..., 0], nothing, nothing, obs, ~nothing)
            fast = policy.begin(of_agent, jax.random.key(2))
            fast = policy.adapt(of_agent, fast, rows, jax.random.key(3))
            one = jax.tree.map(lambda x: x[0, 0], inputs)
            return policy.act_mode(of_agent, fast, one, jax.random.key(4))[0], fast.params

        said.append(twice(of_agent, obs))
    np.testing.assert_allclose(said[0][0], said[1][0], rtol=1e-3)
    np.testing.assert_array_equal(said[0][1].pop("inputs").obs.mean, trained.mean)
    first = plain.meta.initial
    ours, theirs, first = map(jax.tree.leaves, (said[0][1], said[1][1], first))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    moved = [np.max(np.abs(one - start)) for one, start in zip(ours, first, strict=True)]
    assert max(moved) > 1e-3


def test_the_linear_baseline_sees_what_the_policy_sees():
    adaptation = LEARNERS["maml"]._adaptation(Aim())
    obs, no = jax.random.normal(jax.random.key(1), (4, 5, 1)), jnp.zeros((4, 5), bool)
    trained = Moments(jnp.array([50.0]), jnp.array([9.0]), jnp.array([0.5]))

    @jax.jit
    def advantage(params, seen):
        inputs = PolicyInput(seen, seen, obs[..., 0], no, no)
        steps = Trajectory(inputs, seen, obs[..., 0], no, no, seen, ~no)
        return adaptation.advantages(Moments.empty(), params, steps)[1]

    far, moments = 50.0 + 3.0 * obs, {"inputs": InputMoments(trained, None)}
    expected = advantage({}, obs)
    np.testing.assert_allclose(advantage(moments, far), expected, atol=1e-3)
    assert np.max(np.abs(advantage({}, far) - expected)) > 0.1


def test_leaves_that_are_measured_do_not_count_as_those_that_adapt():
    learner = dataclasses.replace(LEARNERS["maml"], inner=InnerLoop(adapts="inputs"))
    with pytest.raises(ConfigError, match=r"adapts is 'inputs'.*found in one of policy/"):
        learner.check(Aim())


def test_input_moments_are_those_of_all_that_was_played():
    learner, family = LEARNERS["rl2"], Aim(stretch=3.0, offset=50.0)
    state = learner.init(family, jax.random.key(0))
    update = jax.jit(lambda s, k, step: learner.update(family, s, k, step))
    first, metrics = update(state, jax.random.key(1), 0)
    # Nothing is learned from inputs of unknown scale.
    for a, b in zip(
        jax.tree.leaves(state.opt_state), jax.tree.leaves(first.opt_state), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    reward = first.params["inputs"].reward
    assert float(reward.mean) == pytest.approx(float(metrics["return"]) / 10, rel=1e-4)
    second, _ = update(first, jax.random.key(2), 1)
    moments = second.params["inputs"].obs
    assert 45.0 < float(moments.mean[0]) < 55.0
    assert 0.5 < float(moments.std[0]) / 3.0 < 1.0
    assert float(moments.weight[0]) == pytest.approx(1 - 0.99**2)
    assert not np.array_equal(
        first.params["policy_head"]["params"]["log_std"],
        second.params["policy_head"]["params"]["log_std"],
    )


def test_what_is_seen_is_normalised_and_nothing_came_before_a_trial():
    family = Aim(100.0, 200.0)
    moments = InputMoments(
        Moments(jnp.array([50.0]), jnp.array([9.0]), jnp.ones(1)),
        Moments(jnp.float32(2.0), jnp.float32(16.0), jnp.float32(1.0)),
    )
    seen = PolicyInput(
        jnp.array([56.0]), jnp.array([175.0]), jnp.float32(6.0), jnp.array(False), jnp.array(False)
    )
    np.testing.assert_allclose(encode_input(family, seen, moments), [2.0, 0.5, 1.0, 0.0, 0.0])
    beyond = seen._replace(obs=jnp.array([500.0]), prev_action=jnp.array([1000.0]))
    np.testing.assert_allclose(encode_input(family, beyond, moments)[:2], [10.0, 1.0])
    start = seen._replace(
        prev_action=family.action_space.zero(),
        prev_reward=jnp.float32(0.0),
        episode_start=jnp.array(True),
    )
    np.testing.assert_allclose(encode_input(family, start, moments)[1:], [0.0, 0.0, 0.0, 1.0])
    unseen = first_input_moments(family, True, True)["inputs"]
    np.testing.assert_allclose(encode_input(family, seen, unseen)[0], 56.0)
    assert first_input_moments(BernoulliBandit(), True, False) == {}  # one-hot


def test_actions_at_the_bounds_are_counted():
    learner = dataclasses.replace(LEARNERS["rl2"], actions="clipped")
    metrics = returns(learner, Aim(), updates=1, seeds=4)[1]
    # Of a standard normal about the centre, all but the 68 % within one deviation.
    assert np.mean(metrics["action_at_bound"]) == pytest.approx(0.317, abs=0.04)
    squashed = returns(LEARNERS["rl2"], Aim(), updates=1)[1]
    assert np.max(squashed["action_at_bound"]) < 0.02


def test_an_unbounded_action_has_no_bound_to_be_at():
    @dataclasses.dataclass(frozen=True)
    class Free(Aim):
        @property
        def action_space(self):
            return Box(-np.inf, np.inf, (1,))

    assert "action_at_bound" not in returns(LEARNERS["rl2"], Free(), updates=1)[1]


@pytest.mark.parametrize("make", [RL2, EPOpt, PolicyMAML])
def test_other_distributions_of_actions_are_refused(make):
    with pytest.raises(ConfigError, match=r"actions is 'beta'.*squashed or clipped"):
        make(actions="beta")


@pytest.mark.slow
def test_ten_seeds_learn_alike_whatever_the_bounds():
    """None collapses at a bound, where the reward of clipped actions is flat."""
    learner = RL2(num_tasks=64, memory=GRU(32))
    ends = [
        returns(learner, Aim(**bounds), updates=400, seeds=10)[0][:, -10:].mean(axis=1)
        for bounds in ({}, *BOUNDS)
    ]
    assert np.min(ends) > 0.95 * np.max(ends)
    assert np.min(ends) > 8.5
