import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import parallel
from jaxmeta.algorithms.maml import MAML, MetaGradient, Reptile
from jaxmeta.catalog.presets import preset
from jaxmeta.networks import MLP
from jaxmeta.parts.inner_loop import SGD, Adam, InnerLoop, MetaSGD
from jaxmeta.parts.risk import CVaR
from jaxmeta.parts.schedules import Schedule
from jaxmeta.testing import ToyRegression, check_algorithm
from jaxmeta_envs.bandits.independent import BernoulliBandit
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.regression.functions import Sinusoid
from tests.toys import scan_updates

TINY = {"num_tasks": 4, "shots": 3, "queries": 5, "network": MLP((4,), "tanh")}

PARTS = {
    "MAML": {},
    "first order": {"inner": InnerLoop(steps=2, second_order_steps=0)},
    "ANIL": {"inner": InnerLoop(adapts="head")},
    "Meta-SGD": {"inner": InnerLoop(optimizer=MetaSGD())},
    "Adam inside": {"inner": InnerLoop(steps=2, optimizer=Adam(), checkpoint=True)},
    "pretraining": {"inner": InnerLoop(steps=0)},
    "CVaR": {"risk": CVaR(0.5)},
    "Reptile": {"outer": Reptile(), "inner": InnerLoop(steps=2), "learning_rate": 0.1},
    "minibatches": {"inner": InnerLoop(steps=3, minibatches=2), "first_weights": "uniform"},
}


@pytest.mark.parametrize("name", [n for n in PARTS if n != "MAML"])
def test_its_relatives_keep_the_contract_of_an_algorithm(name):
    check_algorithm(MAML(**TINY, **PARTS[name]), ToyRegression())


def small(algorithm, seed=0):
    """Returns the algorithm's first state on sine waves, and what its update draws."""
    family = Sinusoid()
    state = algorithm.init(family, jax.random.key(seed))
    key = jax.random.key(seed + 1)
    drawn = jax.vmap(lambda k: algorithm._sample(family, k))(
        parallel.task_keys(key, algorithm.num_tasks)
    )
    return family, state, key, drawn


def objective(algorithm, family, drawn, share):
    network = algorithm._network(family)

    def loss(params, examples):
        return family.loss(network.apply(params, examples.x), examples.y)

    def of(meta):
        after = jax.vmap(lambda s, q: loss(algorithm.inner.run(meta, loss, s)[0], q))(*drawn)
        return jnp.sum(share * after)

    return of


@pytest.mark.parametrize("name", ["MAML", "ANIL", "Meta-SGD"])
def test_an_update_moves_against_the_finite_differences_of_the_loss_after_adaptation(name):
    with jax.enable_x64(True):
        algorithm = MAML(**TINY, **PARTS[name], learning_rate=1e-3)
        family, state, key, drawn = small(algorithm)
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (state.params, drawn))
        of = objective(algorithm, family, wide[1], jnp.full(4, 0.25))
        flat, unravel = jax.flatten_util.ravel_pytree(wide[0])
        rng = np.random.default_rng(0)
        gradient = jax.flatten_util.ravel_pytree(jax.grad(of)(wide[0]))[0]
        for _ in range(3):
            direction = rng.normal(size=flat.shape)
            ends = [of(unravel(flat + sign * 1e-5 * direction)) for sign in (1, -1)]
            slope = (ends[0] - ends[1]) / 2e-5
            assert float(gradient @ direction) == pytest.approx(float(slope), rel=1e-6)
    # The first step of Adam is the sign of the gradient: the update follows this very gradient.
    new, metrics = jax.jit(algorithm.update, static_argnums=0)(family, state, key, 0)
    move = jax.flatten_util.ravel_pytree(new.params)[0] - flat.astype(jnp.float32)
    clear = np.abs(gradient) > 1e-3
    np.testing.assert_allclose(move[clear], -1e-3 * np.sign(gradient[clear]), rtol=2e-2)
    assert metrics["outer_norm"] == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-3)


def test_a_batch_weighs_the_largest_losses_alone_under_cvar():
    algorithm = MAML(**TINY, risk=CVaR(0.25))
    family, state, key, drawn = small(algorithm)
    losses = [
        float(objective(algorithm, family, drawn, jnp.eye(4)[i])(state.params)) for i in range(4)
    ]
    share = jnp.eye(4)[int(np.argmax(losses))]
    gradient = jax.grad(objective(algorithm, family, drawn, share))(state.params)
    norm = np.linalg.norm(jax.flatten_util.ravel_pytree(gradient)[0])
    metrics = jax.jit(algorithm.update, static_argnums=0)(family, state, key, 0)[1]
    assert metrics["outer_norm"] == pytest.approx(float(norm), rel=1e-4)
    assert metrics["loss"] == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("minibatches", [None, 3, 2])
def test_reptile_goes_a_share_of_the_way_to_the_adapted_parameters(minibatches):
    inner = InnerLoop(steps=4, minibatches=minibatches)
    algorithm = MAML(**TINY, outer=Reptile(), inner=inner, learning_rate=0.25)
    family, state, key, (support, _) = small(algorithm)
    assert support.x.shape == (4, 4, 3, 1)
    sets = minibatches or 4  # by default every step sees new examples
    for seen in np.asarray(support.x):
        assert len(np.unique(seen)) == 3 * sets
        assert len(np.unique(seen[:sets])) == 3 * sets
    assert algorithm.env_steps_per_update(family) == 4 * (3 * sets + 5)
    network = algorithm._network(family)
    weights = jax.tree.map(np.asarray, state.params.initial)
    adapted = []
    for task in range(4):
        params = weights
        for step in range(4):
            x, y = support.x[task, step], support.y[task, step]
            grads = jax.grad(lambda p, x=x, y=y: jnp.mean((network.apply(p, x) - y) ** 2))(params)
            params = jax.tree.map(lambda p, g: p - 0.01 * g, params, grads)
        adapted.append(params)
    mean = jax.tree.map(lambda *x: np.mean(x, axis=0), *adapted)
    expected = jax.tree.map(lambda x, m: x + 0.25 * (m - x), weights, mean)
    new, _ = jax.jit(algorithm.update, static_argnums=0)(family, state, key, 0)
    for ours, theirs in zip(
        jax.tree.leaves(new.params.initial), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_examples_that_no_step_sees_are_not_counted():
    """Of pretraining the queries alone."""
    family = Sinusoid()
    assert MAML(inner=InnerLoop(steps=0)).env_steps_per_update(family) == 25 * 10
    reptile = {"outer": Reptile(), "learning_rate": 0.1}
    for settings, sets in (
        ({}, 1),
        ({"inner": InnerLoop(steps=3)}, 1),
        ({"inner": InnerLoop(steps=3, minibatches=2)}, 2),
        (reptile | {"inner": InnerLoop(steps=3)}, 3),
    ):
        assert MAML(**settings).env_steps_per_update(family) == 25 * (10 * sets + 10)


def test_the_preset_of_reptile_is_its_authors_demonstration():
    """Of 50 points on a grid, one task an iteration: five parts of ten, each seen once."""
    config = preset("reptile", "sinusoid")
    algorithm: MAML = config.algorithm
    assert config.total_env_steps == 30_000 * algorithm.env_steps_per_update(config.tasks)
    assert algorithm.inner.optimizer == SGD(0.02)
    assert (algorithm.learning_rate, algorithm.outer) == (Schedule(0.1, 0.0), Reptile())
    assert (algorithm.num_tasks, algorithm.shots, algorithm.policy(config.tasks).shots) == (
        1,
        10,
        10,
    )
    support, _ = algorithm._sample(config.tasks, jax.random.key(0))
    assert support.x.shape == (5, 10, 1)
    np.testing.assert_allclose(np.sort(support.x.ravel()), np.linspace(-5, 5, 50), atol=1e-5)
    weights = algorithm.init(config.tasks, jax.random.key(0)).params.initial
    layers = jax.tree.leaves(weights, is_leaf=lambda x: "kernel" in x)
    assert [layer["kernel"].shape for layer in layers] == [(1, 64), (64, 64), (64, 1)]
    for layer in layers:
        bound = layer["kernel"].shape[0] ** -0.5
        for leaf in layer.values():
            assert np.abs(leaf).max() <= bound
        assert layer["kernel"].std() == pytest.approx(bound / 3**0.5, rel=0.2)
    assert layers[0]["bias"].std() == pytest.approx(1 / 3**0.5, rel=0.2)


def test_it_adapts_at_test_time_as_in_training():
    algorithm = MAML(**TINY, inner=InnerLoop(steps=2, optimizer=SGD(0.05), extra_step_factor=0.5))
    family, state, _, (support, _) = small(algorithm)
    model, network = algorithm.policy(family), algorithm._network(family)

    def loss(params, examples):
        return family.loss(network.apply(params, examples.x), examples.y)

    one = jax.tree.map(lambda x: x[0], support)
    trained, _ = algorithm.inner.run(state.params, loss, one)
    carry = model.begin(state.params)
    for _ in range(2):
        before, carry = carry, model.adapt(state.params, carry, jax.tree.map(lambda x: x[0], one))
    for ours, theirs in zip(jax.tree.leaves(carry.params), jax.tree.leaves(trained), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    # A step beyond those of training is half as long.
    third = model.adapt(state.params, carry, jax.tree.map(lambda x: x[0], one))
    grads = jax.grad(loss)(carry.params, jax.tree.map(lambda x: x[0], one))
    for x, y, g in zip(*map(jax.tree.leaves, (third.params, carry.params, grads)), strict=True):
        np.testing.assert_allclose(x, y - 0.025 * g, rtol=1e-5, atol=1e-7)
    assert before.steps == 1
    assert third.steps == 3


def test_it_learns_to_fit_a_wave_in_one_step_where_pretraining_does_not():
    family = Sinusoid()

    def trained(inner):
        algorithm = MAML(num_tasks=16, network=MLP((24, 24)), inner=inner, learning_rate=3e-3)

        def run(key):
            state = algorithm.init(family, key)
            return scan_updates(algorithm, family, state, jax.random.split(key, 2000))[1]

        metrics = jax.jit(run)(jax.random.key(0))
        return {name: float(np.mean(metrics[name][-200:])) for name in ("loss", "loss_before")}

    maml, pretraining = (trained(InnerLoop(steps=s, optimizer=SGD(0.01))) for s in (1, 0))
    assert maml["loss"] < 1.3  # the mean over tasks, the best without examples, has 3.0
    assert 2.5 < maml["loss_before"] < 5.0
    assert pretraining["loss"] > 2.5


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"shots": 0}, "shots"),
        ({"queries": 0}, "queries"),
        ({"num_tasks": 0}, "num_tasks"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"first_weights": "zero"}, "first_weights is 'zero'; it must be he or uniform"),
        ({"outer": Reptile(), "inner": InnerLoop(steps=0)}, "inner.steps"),
        ({"outer": Reptile(), "risk": CVaR(0.5)}, "risk"),
        ({"risk": CVaR(0.01)}, "risk.fraction"),
    ],
)
def test_impossible_settings_are_refused(settings, field):
    with pytest.raises(ConfigError, match=field):
        MAML(**settings)


def test_parts_are_refused_that_do_not_fit():
    with pytest.raises(ConfigError, match="max_grad_norm"):
        MetaGradient(max_grad_norm=0.0)
    with pytest.raises(ConfigError, match="tasks"):
        MAML().check(BernoulliBandit())
    with pytest.raises(ConfigError, match=r"adapts.*head"):
        MAML(inner=InnerLoop(adapts="tail")).check(Sinusoid())
