"""MAML on classes: the loss, the sizes and what is reported come from the family."""

import jax
import numpy as np
import pytest

import jaxmeta
from jaxmeta.algorithms.maml import MAML, Reptile
from jaxmeta.networks import MLP
from jaxmeta.parts.inner_loop import SGD, InnerLoop
from jaxmeta.testing import ToyClusters, check_algorithm
from tests.tiny_runs import untrained

TINY = {"num_tasks": 4, "shots": 2, "queries": 3, "network": MLP((4,), "tanh")}


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"outer": Reptile(), "inner": InnerLoop(steps=2), "learning_rate": 0.1},
        {"inner": InnerLoop(steps=3, minibatches=2)},
        {"inner": InnerLoop(steps=0)},
    ],
)
def test_maml_and_reptile_keep_the_contract_on_classes(parts):
    check_algorithm(MAML(**TINY, **parts), ToyClusters())


def test_a_step_sees_as_many_of_each_class_and_all_are_counted():
    family = ToyClusters(ways=5)
    algorithm = MAML(**TINY, outer=Reptile(), inner=InnerLoop(steps=3), learning_rate=0.1)
    support, query = algorithm._sample(family, jax.random.key(0))
    assert support.x.shape == (3, 10, 2)
    assert query.x.shape == (15, 2)
    for seen in np.asarray(support.y):
        np.testing.assert_array_equal(np.bincount(seen), [2] * 5)
    assert algorithm.env_steps_per_update(family) == 4 * 5 * (3 * 2 + 3)


def bayes_rate(centre):
    """Probability that Bayes' rule of one who knows the centres is right, float64 quadrature."""
    line = np.arange(-14.0, 14.0, 0.1)
    points = np.stack(np.meshgrid(line, line), axis=-1)[..., None, :]
    density = np.exp(-0.5 * np.sum((points - centre) ** 2, axis=-1)) / (2 * np.pi)
    return density.max(axis=-1).sum() * 0.1**2 / len(centre)


def test_maml_learns_to_tell_clusters_apart_and_is_no_better_than_bayes_rule(tmp_path):
    family = ToyClusters(ways=3, size=2, spread=3.0)
    algorithm = MAML(
        num_tasks=16,
        shots=5,
        network=MLP((32, 32), "relu"),
        inner=InnerLoop(steps=3, optimizer=SGD(0.1)),
        learning_rate=3e-3,
    )
    updates = 400
    config = jaxmeta.TrainConfig(
        algorithm=algorithm,
        tasks=family,
        total_env_steps=updates * algorithm.env_steps_per_update(family),
        updates_per_chunk=updates,
    )
    result = jaxmeta.train(config, progress=False)
    for name in ("accuracy", "accuracy_before"):
        assert name in result.metrics
    params = jax.tree.map(lambda x: x[0], result.params)
    model = algorithm.policy(family)

    def one(key):
        task_key, key = jax.random.split(key)
        task = family.sample_task(task_key, "test")
        support, query = family.sample_split(jax.random.split(key), task, 5, 50)
        carry = model.begin(params)
        before = model.predict(params, carry, query.x)
        for _ in range(3):
            carry = model.adapt(params, carry, support)
        after = model.predict(params, carry, query.x)
        return task, *(family.metrics(p, query.y)["accuracy"] for p in (before, after))

    tasks = 200
    task, before, after = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(7), tasks))
    rates = np.array([bayes_rate(c) for c in np.asarray(task.centre, np.float64)])
    error = np.std(after - rates) / np.sqrt(tasks)
    # Labels are dealt anew for every task: without adaptation nothing is known of them.
    assert np.mean(before) == pytest.approx(1 / 3, abs=0.06)
    assert np.mean(after) > 0.7
    assert np.mean(after - rates) < 3 * error
    # Judged by the share of queries beside its references.
    evaluation = jaxmeta.evaluate(result, num_tasks=100)
    shares = evaluation.returns[0].mean(axis=0)
    oracle, chance = (evaluation.references[name].mean() for name in ("oracle", "chance"))
    assert chance == pytest.approx(1 / 3, abs=0.02)
    assert shares[0] < chance + 0.1 < 0.7 < shares[-1] < oracle
    with pytest.raises(jaxmeta.ConfigError, match=r"tasks is ToyClusters.*have no picture"):
        jaxmeta.show(result, out=tmp_path)


def test_an_exported_classifier_adapts_and_predicts_as_the_library_does(tmp_path):
    family, algorithm = ToyClusters(), MAML(**TINY)
    result = untrained(algorithm, family, num_seeds=1)
    agent = jaxmeta.load_exported(jaxmeta.export(result, tmp_path / "agent"))
    params = jax.tree.map(lambda x: x[0], result.params)
    task_key, key = jax.random.split(jax.random.key(3))
    task = family.sample_task(task_key)
    support, query = family.sample_split(jax.random.split(key), task, 2, 4)
    model = result.policy
    adapted = jax.jit(model.adapt)(params, model.begin(params), support)
    ours = jax.jit(model.predict)(params, adapted, query.x)
    theirs = agent.predict(agent.adapt(agent.begin(), *support), query.x)
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)
