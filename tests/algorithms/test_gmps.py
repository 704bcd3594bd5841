"""Guided meta-policy search: experts, the weighted inner step, the imitation, learning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.algorithms.epopt import EPOpt
from jaxmeta.algorithms.experts import TrainedExperts
from jaxmeta.algorithms.gmps import Guided, GuidedMetaPolicySearch
from jaxmeta.config import TrainConfig
from jaxmeta.engine import make_train
from jaxmeta.networks import MLP
from jaxmeta.parts.estimators import EMAML, LVC, DiCE, LogLikelihood
from jaxmeta.parts.experts import OracleExpert, Shown, demonstrate, relabel
from jaxmeta.parts.inner_loop import SGD, InnerLoop, MetaSGD
from jaxmeta.parts.objective import PolicyObjective
from jaxmeta.parts.optimizers.contract import MinibatchAdam
from jaxmeta.parts.optimizers.ppo import PPO
from jaxmeta.parts.risk import CVaR, Mean
from jaxmeta.testing import ToyFamily, check_algorithm
from jaxmeta.testing.policies import first_input
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.points.navigation import PointNavigation
from jaxmeta_envs.regression.functions import Sinusoid
from tests.policy_numpy import log_probs, made_up_data, slopes, spoken
from tests.toy_families import Counter

TINY = GuidedMetaPolicySearch(
    num_tasks=4,
    shots=2,
    network=MLP((3,), "tanh"),
    inner=InnerLoop(steps=2, optimizer=SGD(0.2)),
    demonstrations=2,
    optimizer=MinibatchAdam(2, 2, 1.0),
)
POINT = PointNavigation(episode_length=6)
SMALL_EXPERTS = TrainedExperts(
    num_tasks=4,
    updates=40,
    learner=EPOpt(
        num_tasks=16,
        risk=Mean(),
        network=MLP((4,), "tanh"),
        baseline=MLP((4,), "tanh"),
        optimizer=PPO(minibatches=2),
        learning_rate=0.02,
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [{"dagger": True, "risk": CVaR(0.5)}, {"inner": InnerLoop(optimizer=MetaSGD())}],
    ids=["DAgger, CVaR", "Meta-SGD"],
)
def test_it_keeps_the_contract_of_an_algorithm(parts):
    check_algorithm(dataclasses.replace(TINY, **parts))


@pytest.mark.slow
def test_with_trained_experts_it_keeps_the_contract_of_an_algorithm():
    """But that an update draws from the tasks that have an expert, and no new ones."""
    experts = dataclasses.replace(SMALL_EXPERTS, updates=2)
    check_algorithm(dataclasses.replace(TINY, expert=experts), skip=["own draws"])


@pytest.mark.parametrize("estimator", [LVC(), DiCE()], ids=repr)
def test_old_episodes_are_weighted_to_those_of_the_new_policy(estimator):
    """With one step per episode all that can happen is enumerated: no episode is missing."""
    chances, advantage = np.asarray([0.5, 0.25, 0.25]), np.asarray([1.0, -2.0, 0.5])
    algorithm = dataclasses.replace(TINY, shots=4, estimator=estimator)
    adaptation = algorithm._adaptation(ToyFamily(length=1))
    params = adaptation.network.init(jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.3 * jnp.arange(x.size).reshape(x.shape), params)
    action = jnp.asarray([[0], [0], [1], [2]])
    inputs = jax.tree.map(lambda x: jnp.stack([x[None]] * 4), first_input(ToyFamily()))
    data = made_up_data(ToyFamily(), np.random.default_rng(0))._replace(
        inputs=inputs,
        action=action,
        behaviour=jnp.log(jnp.asarray(chances))[action],
        advantage=jnp.asarray(advantage)[action],
        mask=jnp.ones((4, 1), bool),
    )

    def expected(params):
        distribution = adaptation.network.step(params, (), first_input(ToyFamily()))[1].distribution
        return -jnp.sum(jnp.exp(distribution.log_probs) * jnp.asarray(advantage))

    meta = algorithm.inner.init(jax.random.key(1), params)
    ours = jax.jit(jax.grad(adaptation._loss(meta)))(params, data)
    for one, other in zip(
        jax.tree.leaves(ours), jax.tree.leaves(jax.grad(expected)(params)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    unweighted = dataclasses.replace(algorithm, estimator=LogLikelihood())._adaptation(ToyFamily())
    biased = jax.jit(jax.grad(unweighted._loss(meta)))(params, data)
    bias = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), ours, biased)
    assert max(jax.tree.leaves(bias)) > 0.05


@pytest.mark.parametrize("continuous", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_imitation_is_differentiated_through_the_adaptation(continuous):
    """Its value against NumPy, its gradient against finite differences, float64."""
    with jax.enable_x64(True):
        family, rng = ToyFamily(continuous), np.random.default_rng(3)
        algorithm = dataclasses.replace(TINY, expert_std=0.3, normalize_observations=False)
        adaptation = algorithm._adaptation(family)
        initial = jax.tree.map(
            lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.5),
            adaptation.network.init(jax.random.key(0)),
        )
        meta = algorithm.inner.init(jax.random.key(1), initial)
        inner = jax.tree.map(
            lambda *x: jnp.stack(x)[None], *(made_up_data(family, rng) for _ in range(2))
        )
        after = jax.tree.map(lambda x: x.reshape(1, 6, *x.shape[2:]), made_up_data(family, rng))
        part = Guided(inner, after.inputs, after.action, after.mask, jnp.asarray([2.0]))

        def loss(flat):
            terms = algorithm._terms(adaptation, unravel(flat), part)
            return jnp.sum(jnp.where(part.mask, terms["clone_loss"], 0.0)) / 5

        flat, unravel = jax.flatten_util.ravel_pytree(meta)
        gradient, fast, flat = jax.jit(jax.grad(loss))(flat), jax.jit(loss), np.asarray(flat)
        np.testing.assert_allclose(gradient, slopes(fast, flat), rtol=1e-6, atol=1e-8)
        adapted = jax.jit(adaptation.run)(meta, jax.tree.map(lambda x: x[0], inner))
        kept = np.asarray(after.mask)
        said = spoken(adapted, np.asarray(after.inputs.obs)[kept], continuous)
        expected = -log_probs(said, np.asarray(after.action)[kept], continuous)
        if continuous:  # a noise of 0.3 around the expert's action
            expected = expected + 0.5 * 0.3**2 / np.exp(2 * said[1])
        np.testing.assert_allclose(fast(flat), 2.0 * expected.mean(), rtol=1e-9)


def test_weights_of_tasks_keep_the_mean_over_steps_at_one():
    algorithm = dataclasses.replace(TINY, risk=CVaR(0.5))
    mask = jnp.asarray([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]], bool)
    data = made_up_data(ToyFamily(), np.random.default_rng(0))
    weights = algorithm.risk.weights(jnp.asarray([5.0, 1.0, 2.0, 9.0]), jnp.int32(0))
    batch = algorithm._batch(data, Shown(data.inputs, data.action, mask), weights)
    assert np.sum(batch.weight[:, None] * mask) == pytest.approx(9.0)
    np.testing.assert_allclose(batch.weight, [0.0, 3.0, 3.0, 0.0], rtol=1e-6)


def oracle_of(family, key):
    expert = OracleExpert()
    task, knowledge = expert.draw(family, (), key)
    return task, expert.policy(family), knowledge


def test_an_expert_shows_the_straight_way_to_its_goal():
    task, expert, knowledge = oracle_of(POINT, jax.random.key(3))
    shown, returns = demonstrate(POINT, expert, knowledge, task, jax.random.key(1), 2)
    position, total = np.zeros(2), 0.0
    for step in range(6):
        np.testing.assert_allclose(shown.inputs.obs[1, step], position, atol=1e-6)
        move = np.clip(np.asarray(task.goal) - position, -0.1, 0.1)
        np.testing.assert_allclose(shown.action[1, step], move, atol=1e-6)
        position = position + move
        total -= np.linalg.norm(position - np.asarray(task.goal))
    assert returns == pytest.approx(total, rel=1e-5)
    assert shown.mask.shape == (2, 6)


def test_an_expert_says_what_it_would_have_done_where_another_went():
    task, expert, knowledge = oracle_of(POINT, jax.random.key(3))
    _, stranger, other = oracle_of(POINT, jax.random.key(4))
    strange, _ = demonstrate(POINT, stranger, other, task, jax.random.key(1), 2)
    played = _Played(strange.inputs, strange.mask)
    labelled = relabel(POINT, expert, knowledge, played, jax.random.key(2))
    expected = np.clip(np.asarray(task.goal) - np.asarray(strange.inputs.obs), -0.1, 0.1)
    np.testing.assert_allclose(labelled.action, expected, atol=1e-6)
    assert np.max(np.abs(np.asarray(labelled.action) - np.asarray(strange.action))) > 0.05
    np.testing.assert_array_equal(labelled.mask, strange.mask)


@dataclasses.dataclass(frozen=True)
class _Played:
    inputs: object
    mask: object


@pytest.mark.slow
def test_experts_are_trained_on_a_task_each():
    family = ToyFamily()
    learned = jax.jit(lambda key: SMALL_EXPERTS.init(family, key))(jax.random.key(0))
    best = 3 * np.max(learned.tasks.payoff, axis=1)
    assert np.all(learned.returns > best - 0.4)
    policy = SMALL_EXPERTS.policy(family)
    for draw in range(4):
        task, params = SMALL_EXPERTS.draw(family, learned, jax.random.key(draw))
        keys = jax.random.split(jax.random.key(9), 50)
        actions = jax.vmap(lambda k, p=params: policy.act(p, {}, first_input(family), k)[0])(keys)
        assert np.mean(actions == np.argmax(task.payoff)) > 0.8


def test_it_learns_to_do_after_adaptation_what_the_expert_does():
    """Three actions of unknown worth, three steps: 0 without adapting, 2.5 if told the task."""
    learner = GuidedMetaPolicySearch(
        num_tasks=16,
        shots=10,
        network=MLP((8,), "tanh"),
        inner=InnerLoop(optimizer=SGD(2.0)),
        learning_rate=0.02,
    )
    family = ToyFamily()
    steps = 60 * learner.env_steps_per_update(family)
    config = TrainConfig(algorithm=learner, tasks=family, total_env_steps=steps)
    _, metrics = jax.jit(make_train(config))(jax.random.key(0))
    last = {name: float(np.mean(x[-10:])) for name, x in metrics.items()}
    assert last["return"] > last["return_before"] + 1.3
    assert last["return"] > 0.65 * last["return_expert"]
    assert last["clone_loss"] < 0.75 * float(np.mean(metrics["clone_loss"][:3]))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_tasks": 5}, "num_tasks is 5.*multiple of 2"),
        ({"shots": 0}, "shots is 0"),
        ({"demonstrations": 0}, "demonstrations is 0"),
        ({"inner": InnerLoop(steps=0)}, r"inner\.steps is 0"),
        ({"inner": InnerLoop(minibatches=2)}, r"inner\.minibatches is 2.*None"),
        ({"estimator": EMAML()}, "estimator is EMAML.*credit"),
        ({"objective": PolicyObjective(outer_anchor_coef=1.0)}, "inner loop alone"),
        ({"objective": PolicyObjective(episodes="all")}, "inner loop alone"),
        ({"expert_std": -1.0}, "expert_std is -1.0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"discount": 1.5}, "discount is 1.5"),
    ],
)
def test_impossible_settings_are_refused(bad, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TINY, **bad)


def test_families_without_an_expert_are_refused():
    with pytest.raises(ConfigError, match=r'Counter has no reference policy "oracle".*Trained'):
        TINY.check(Counter())
    dataclasses.replace(TINY, expert=SMALL_EXPERTS).check(Counter())
    with pytest.raises(ConfigError, match="GuidedMetaPolicySearch is for a TaskFamily"):
        TINY.check(Sinusoid())
    for name in ("num_tasks", "updates"):
        with pytest.raises(ConfigError, match=f"expert.{name} is 0"):
            TrainedExperts(**{name: 0})
