"""MAML of policies: its contract, adaptation, learning, refusals."""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import MLP, PPO, TRPO, CVaR
from jaxmeta.algorithms.policy_maml import PolicyMAML
from jaxmeta.experience.play import play_adaptation
from jaxmeta.ops.moments import Moments
from jaxmeta.parts.estimators import EMAML, LVC, DiCE, FirstOrder, LogLikelihood
from jaxmeta.parts.inner_loop import SGD, InnerLoop
from jaxmeta.parts.objective import PolicyObjective
from jaxmeta.testing import check_algorithm
from jaxmeta.testing.conformance import fast_jit
from jaxmeta.testing.tiny_family import tabular_state
from jaxmeta_envs import BernoulliBandit, ConfigError, Discrete, TaskFamily, Timestep, Trajectory
from jaxmeta_envs.core.contracts import PolicyInput
from jaxmeta_envs.regression.functions import Sinusoid
from tests.algorithms.test_policy_meta_gradients import (
    FAMILY,
    FITTED,
    LOGITS,
    ONE,
    RATE,
    RIDGE,
    SHOTS,
    VALUES,
    OfAllTasks,
    algorithm_of,
    exact,
)
from tests.toys import scan_updates

TINY = PolicyMAML(num_tasks=4, shots=2, network=MLP((4,), "tanh"))

PARTS = {
    "MAML": {"estimator": LogLikelihood()},
    "ProMP": {"estimator": LVC(), "optimizer": PPO(epochs=2, minibatches=2), "kl_coef": 0.1},
    "E-MAML": {"estimator": EMAML(), "inner": InnerLoop(steps=2, optimizer=SGD(0.1))},
    "DiCE, value network": {
        "estimator": DiCE(),
        "baseline": MLP((4,)),
        "optimizer": PPO(epochs=1, minibatches=1),
    },
    "value network, TRPO": {"baseline": MLP((4,)), "optimizer": TRPO(value_minibatches=2)},
    "first order, CVaR": {"estimator": FirstOrder(), "risk": CVaR(0.5)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_its_relatives_keep_the_contract_of_an_algorithm(name):
    """As the default does, with all registered algorithms, in tests/testing."""
    check_algorithm(dataclasses.replace(TINY, **PARTS[name]))


def played(process, rows):
    """Listed episodes of a process as the algorithm stores them, leaves ``[N, T, ...]``."""
    state, action, reward, mask, _ = (jnp.asarray(x[rows]) for x in process.episodes)
    nothing = jnp.zeros(mask.shape, bool)
    seen = PolicyInput(state, action, reward.astype(jnp.float32), nothing, nothing)
    return Trajectory(seen, action, seen.prev_reward, nothing, nothing, state, mask)


def climbed(process, rows, logits, rate):
    """Logits after a step on these episodes: least squares and the policy gradient in NumPy."""
    state, action, reward, _, _ = (x[rows] for x in process.episodes)
    returns = np.cumsum(reward[:, ::-1], axis=1)[:, ::-1].ravel()
    time = np.tile(np.arange(process.horizon) / 100, len(rows))[:, None]
    one_hot = np.eye(2)[state.ravel()]
    features = np.hstack([one_hot, one_hot, time, time**2, time**3, time**0])
    scaled = features / np.maximum(np.sqrt((features**2).mean(0)), 1e-6)
    # Ridge regression as plain least squares, with a row for the size of every weight.
    penalty = np.sqrt(RIDGE * len(returns)) * np.eye(8)
    weights = np.linalg.lstsq(
        np.vstack([scaled, penalty]), np.append(returns, np.zeros(8)), rcond=None
    )[0]
    advantage = returns - scaled @ weights
    advantage = (advantage - advantage.mean()) / advantage.std()
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    score = np.eye(2)[action.ravel()] - chance[state.ravel()]
    ascent = np.einsum("n,ns,na->sa", advantage, one_hot, score) / len(returns)
    return logits + rate * ascent


def stacked(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def test_evaluation_adapts_to_the_episodes_of_a_task_and_beyond_the_steps_of_training():
    """Two tasks side by side, each with a baseline of its own; the third step is half as long."""
    inner = InnerLoop(steps=2, optimizer=SGD(RATE), extra_step_factor=0.5)
    algorithm = algorithm_of(LVC, FITTED, inner)
    state = tabular_state(algorithm, FAMILY, LOGITS)
    policy = algorithm.policy(FAMILY)
    assert policy.episodes_per_adapt == SHOTS
    rng = np.random.default_rng(0)
    rows = rng.integers(4, size=(3, 2, SHOTS))

    @fast_jit
    def adapted(episodes):
        def one(episodes):
            def step(fast, episodes):
                fast = policy.adapt(state.params, fast, episodes, jax.random.key(0))
                return fast, fast.params["policy_head"]["params"]["Dense_0"]["kernel"]

            begin = policy.begin(state.params, jax.random.key(0))
            return jax.lax.scan(step, begin, episodes)[1]

        return jax.vmap(one)(episodes)

    sets = [[played(p, rows[k, i]) for k in range(3)] for i, p in enumerate(FAMILY.processes)]
    found = adapted(stacked(map(stacked, sets)))
    for i, process in enumerate(FAMILY.processes):
        logits = LOGITS
        for k, rate in enumerate((RATE, RATE, RATE / 2)):
            logits = climbed(process, rows[k, i], logits, rate)
            np.testing.assert_allclose(found[i, k], logits, atol=1e-4)


def test_returns_of_evaluation_are_those_that_adaptation_earns():
    """Exactly, in expectation, as the return in training is above."""
    algorithm = algorithm_of(LVC, ONE)
    state = tabular_state(algorithm, FAMILY, LOGITS, VALUES)
    policy = algorithm.policy(FAMILY)

    def returns(key):
        task_key, key = jax.random.split(key)
        task = FAMILY.sample_task(task_key, "test")
        reward = play_adaptation(FAMILY, policy, state.params, task, key, 2).reward
        return jnp.mean(jnp.sum(reward, axis=2), axis=1)

    found = np.float64(fast_jit(jax.vmap(returns))(jax.random.split(jax.random.key(0), 20_000)))
    before = np.mean([p.value(LOGITS) for p in FAMILY.processes]) * FAMILY.horizon
    error = found.std(axis=0) / len(found) ** 0.5
    assert np.all(np.abs(found.mean(axis=0) - [before, exact(LVC, ONE)[1]]) < 4 * error)
    assert exact(LVC, ONE)[1] > before + 0.1


@pytest.mark.slow
def test_the_trust_region_climbs_the_gradient_that_is_exact_above():
    """Both optimisers report the norm of the gradient of one loss, the credit included."""
    algorithm = algorithm_of(EMAML, FITTED)
    state = tabular_state(algorithm, FAMILY, LOGITS)
    norms = []
    for optimizer in (algorithm.optimizer, TRPO()):
        chosen = dataclasses.replace(algorithm, optimizer=optimizer)
        start = state._replace(opt_state=chosen.init(FAMILY, jax.random.key(0)).opt_state)
        update = fast_jit(lambda state, key, chosen=chosen: chosen.update(FAMILY, state, key, 0))
        norms.append(float(update(start, jax.random.key(1))[1]["grad_norm"]))
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.slow
def test_the_divergence_penalty_keeps_the_first_policy_near_the_one_that_played():
    def moved(kl_coef):
        algorithm = dataclasses.replace(
            algorithm_of(LVC, ONE), kl_coef=kl_coef, optimizer=PPO(epochs=20, minibatches=1)
        )
        state = algorithm.init(FAMILY, jax.random.key(0))
        algorithm = dataclasses.replace(algorithm, learning_rate=0.1)
        update = fast_jit(lambda state, key: algorithm.update(FAMILY, state, key, 0))
        new, metrics = update(state, jax.random.key(1))
        policy = algorithm.policy(FAMILY)
        assert np.isfinite(metrics["policy_loss"])
        assert ("penalty" in metrics) == (kl_coef > 0)
        return chances(policy, state, new)

    def chances(policy, *states):
        nothing = jnp.float32(0.0), jnp.asarray(False), jnp.asarray(True)
        seen = PolicyInput(jnp.int32(0), jnp.int32(0), *nothing)
        keys = jax.random.split(jax.random.key(2), 4000)

        def act(params, key):
            return policy.act(params, policy.begin(params, key), seen, key)[0]

        means = [float(np.mean(jax.vmap(act, (None, 0))(s.params, keys))) for s in states]
        return abs(means[1] - means[0])

    assert moved(0.0) > 0.15
    assert moved(100.0) < 0.05


@pytest.mark.parametrize("over", ["batch", "task"])
def test_advantages_are_standardised_over_all_tasks_or_each_by_itself(over):
    """Two tasks, of which one pays ten times as much: their scores in the outer gradient."""
    family = TwoScales()
    seen = []

    class Looking(PPO):
        def improve(self, replay, params, opt_state, batch, *args, **kwargs):
            seen.append(batch)
            return super().improve(replay, params, opt_state, batch, *args, **kwargs)

    algorithm = PolicyMAML(
        num_tasks=8,
        shots=6,
        network=MLP((3,), "tanh"),
        optimizer=Looking(epochs=1, minibatches=1),
        standardize_over=over,
    )

    def update(key):
        algorithm.update(family, algorithm.init(family, key), key, jnp.int32(0))
        return seen[-1]

    batch = fast_jit(update)(jax.random.key(0))
    advantage, size = np.asarray(batch.advantage), np.asarray(batch.inputs.inputs.obs)[:, 0]
    assert {*size.tolist()} == {0, 1}
    assert batch.mask.all()
    deviation = advantage.std(1)
    if over == "task":
        np.testing.assert_allclose(advantage.mean(1), 0.0, atol=1e-5)
        np.testing.assert_allclose(deviation, 1.0, rtol=1e-3)
    else:
        np.testing.assert_allclose([advantage.mean(), advantage.std()], [0.0, 1.0], atol=1e-3)
        assert deviation[size == 1].min() > 3 * deviation[size == 0].max()


def test_the_outer_loop_learns_from_the_episodes_and_values_after_adaptation():
    """Not from those that adaptation learned from; targets are in units of the new moments."""
    seen = []

    class Looking(PPO):
        def improve(self, replay, params, opt_state, batch, *args, **kwargs):
            seen.append(batch)
            return super().improve(replay, params, opt_state, batch, *args, **kwargs)

    family = FAMILY
    algorithm = dataclasses.replace(
        TINY,
        baseline=MLP((4,), "tanh"),
        inner=InnerLoop(optimizer=SGD(3.0)),
        optimizer=Looking(epochs=1, minibatches=1),
        gae_lambda=0.5,
    )
    key = jax.random.key(5)
    start = algorithm.init(family, key)
    moments = Moments(*map(jnp.float32, (2.0, 9.0, 0.5)))
    start = start._replace(params=start.params._replace(value_moments=moments))
    first = start.params.meta.initial

    def both(key):
        task_key, play_key, _ = jax.random.split(key, 3)
        tasks = jax.vmap(family.sample_task)(jax.random.split(task_key, 4))
        adaptation = algorithm._adaptation(family)
        met = jax.vmap(lambda t, k: adaptation.play(start.params, t, k))(
            tasks, jax.random.split(play_key, 4)
        )
        worth = [
            jax.vmap(lambda p, s: adaptation.advantages(moments, p, s))(params, met.steps)
            for params in (met.adapted, jax.tree.map(lambda x: x[None].repeat(4, 0), first))
        ]
        new, _ = algorithm.update(family, start, key, jnp.int32(0))
        return met, worth, new.params.value_moments, seen[-1]

    met, worth, new, batch = jax.tree.map(np.asarray, fast_jit(both)(key))
    np.testing.assert_array_equal(batch.action, met.steps.action.reshape(4, -1))
    np.testing.assert_array_equal(batch.inputs.inner.action[:, 0], met.inner.action[:, 0])
    assert np.any(batch.action != met.inner.action[:, 0].reshape(4, -1))
    np.testing.assert_allclose(batch.log_prob, met.log_prob.reshape(4, -1), rtol=1e-5)
    (value, advantage), (_, of_first) = ((v.reshape(4, -1), a.reshape(4, -1)) for v, a in worth)
    standard = (advantage - advantage.mean()) / advantage.std()
    np.testing.assert_allclose(batch.advantage, standard, atol=1e-4)
    assert np.max(np.abs(standard - (of_first - of_first.mean()) / of_first.std())) > 1e-3
    target = value + advantage
    np.testing.assert_allclose(batch.target, (target - new.mean) / new.variance**0.5, rtol=1e-3)
    assert abs(new.mean - 2.0) > 0.05


def test_values_are_fitted_to_nothing_while_the_scale_of_returns_is_unknown():
    """Else the targets of the first update would be returns over a deviation of 0."""
    algorithm = dataclasses.replace(TINY, baseline=MLP((4,), "relu"))
    state = algorithm.init(FAMILY, jax.random.key(0))
    task = FAMILY.sample_task(jax.random.key(1))

    @fast_jit
    def targets(moments):
        params = state.params._replace(value_moments=moments)
        return algorithm._adaptation(FAMILY).play(params, task, jax.random.key(2)).inner.target

    np.testing.assert_array_equal(targets(Moments.empty()), 0.0)
    one, two = (targets(Moments(*map(jnp.float32, (0.0, v, 0.1)))) for v in (1.0, 4.0))
    np.testing.assert_allclose(one, 2.0 * two, rtol=1e-5)
    assert np.abs(one).max() > 0.1


class OneArmTask(NamedTuple):
    arm: jax.Array


@dataclass(frozen=True)
class OneArmPays(TaskFamily[OneArmTask, tuple]):
    """Of six arms one of the first three pays 1: a third without adaptation, 1 with."""

    horizon: int = 1
    finite_horizon = True

    @property
    def observation_space(self):
        return Discrete(1)

    @property
    def action_space(self):
        return Discrete(6)

    @property
    def default_episodes(self):
        return 2

    def sample_task(self, key, split="train"):
        return OneArmTask(jax.random.randint(key, (), 0, 3))

    def reset(self, key, task):
        return (), jnp.int32(0)

    def step(self, key, state, action, task):
        reward = (action == task.arm).astype(jnp.float32)
        return (), Timestep(jnp.int32(0), reward, jnp.asarray(True), jnp.asarray(False))


@dataclass(frozen=True)
class TwoScales(OneArmPays):
    """The same with three arms of which one pays 1, or 10 in tasks that are seen to."""

    @property
    def observation_space(self):
        return Discrete(2)

    @property
    def action_space(self):
        return Discrete(3)

    def reset(self, key, task):
        return (), task.arm % 2

    def step(self, key, state, action, task):
        scale = jnp.where(task.arm % 2 == 1, 10.0, 1.0)
        reward = scale * (action == task.arm)
        return (), Timestep(task.arm % 2, reward, jnp.asarray(True), jnp.asarray(False))


def learned(**changes):
    settings = {
        "num_tasks": 24,
        "shots": 12,
        "network": MLP((8,), "tanh"),
        "inner": InnerLoop(optimizer=SGD(1.0)),
        "optimizer": TRPO(max_kl=0.05),
    }
    algorithm, family = PolicyMAML(**(settings | changes)), OneArmPays()

    def run(key):
        state = algorithm.init(family, key)
        return scan_updates(algorithm, family, state, jax.random.split(key, 60))[1]

    metrics = fast_jit(run)(jax.random.key(0))
    return {name: np.mean(metrics[name][-10:]) for name in ("return_before", "return")}


def test_it_learns_to_find_the_arm_that_pays():
    found = learned()
    assert found["return"] > 0.8
    assert 0.2 < found["return_before"] < 0.45


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    [{"inner": InnerLoop(optimizer=OfAllTasks(1.0))}, {"optimizer": TRPO(max_kl=1e-8)}],
    ids=["inner gradients averaged", "initial parameters stay"],
)
def test_a_broken_learner_does_not_find_it(broken):
    assert learned(**broken)["return"] < 0.6


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"shots": 0}, "shots is 0; it must be at least 1"),
        ({"inner": InnerLoop(steps=0)}, "inner.steps is 0; it must be at least 1"),
        ({"inner": InnerLoop(minibatches=2)}, "inner.minibatches is 2; it must be None"),
        ({"num_tasks": 6, "optimizer": PPO(minibatches=4)}, "num_tasks is 6; .* multiple of 4"),
        ({"num_tasks": 0}, "num_tasks is 0; it must be a positive multiple"),
        ({"kl_coef": -1.0}, "kl_coef is -1.0; it must be at least 0"),
        ({"standardize_over": "step"}, "standardize_over is 'step'; it must be batch or task"),
        ({"standardize_over": "task", "estimator": EMAML()}, "standardize_over is 'task'.*EMAML"),
        (
            {"standardize_over": "task", "objective": PolicyObjective(episodes="all")},
            "standardize_over is 'task'.*all episodes",
        ),
        ({"value_coef": -1.0}, "value_coef is -1.0; it must be at least 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"discount": 1.5}, "discount is 1.5"),
        ({"gae_lambda": -0.1}, "gae_lambda is -0.1"),
        ({"value_decay": 2.0}, "value_decay is 2.0"),
        ({"risk": CVaR(0.01)}, "risk.fraction is 0.01"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_impossible_settings_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        PolicyMAML(**settings)


def test_tasks_and_parts_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"tasks is Sinusoid.*PolicyMAML is for a TaskFamily"):
        PolicyMAML().check(Sinusoid())
    with pytest.raises(ConfigError, match=r"adapts is 'tail'.*policy_head"):
        PolicyMAML(inner=InnerLoop(adapts="tail")).check(BernoulliBandit())
