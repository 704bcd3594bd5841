"""The inner loop by itself: NumPy, finite differences, and Taylor coefficients on quadratics."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxmeta import MLP
from jaxmeta.networks import feedforward_regressor
from jaxmeta.parts.inner_loop import SGD, Adam, InnerLoop, MetaSGD
from jaxmeta.testing.conformance import fast_jit
from jaxmeta_envs import ConfigError
from jaxmeta_envs.regression.functions import Polynomial, Sinusoid


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def line_loss(params, data):
    x, y = data
    error = x @ params["body"]["w"] + params["head"]["b"] - y
    return jnp.mean(error**2)


def line_gradient(w, b, x, y):
    error = x @ w + b - y
    return 2 * x.T @ error / len(y), 2 * error.mean()


def line(seed=0, steps=4):
    rng = np.random.default_rng(seed)
    params = {"body": {"w": rng.normal(size=3)}, "head": {"b": rng.normal()}}
    return params, (rng.normal(size=(steps, 5, 3)), rng.normal(size=(steps, 5)))


def descend(optimizer, rates):
    """The same steps in NumPy; returns parameters and the losses before each step."""
    params, (xs, ys) = line()
    theta = np.append(params["body"]["w"], params["head"]["b"])
    mean, square, losses = np.zeros(4), np.zeros(4), []
    for k, (x, y) in enumerate(zip(xs, ys, strict=True), 1):
        losses.append(np.mean((x @ theta[:3] + theta[3] - y) ** 2))
        gradient = np.append(*line_gradient(theta[:3], theta[3], x, y))
        if isinstance(optimizer, Adam):
            mean = optimizer.b1 * mean + (1 - optimizer.b1) * gradient
            square = optimizer.b2 * square + (1 - optimizer.b2) * gradient**2
            scale = np.sqrt(square / (1 - optimizer.b2**k) + 1e-8)
            gradient = mean / (1 - optimizer.b1**k) / scale
        theta = theta - rates * gradient
    return theta, losses


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("optimizer", [SGD(0.1), MetaSGD(0.05, 0.3), Adam(0.1, b1=0.5, b2=0.9)])
def test_steps_are_those_of_a_plain_rewrite(float64, optimizer, checkpoint):
    params, data = jax.tree.map(jnp.asarray, line())
    inner = InnerLoop(steps=4, optimizer=optimizer, checkpoint=checkpoint)
    meta = inner.init(jax.random.key(0), params)
    rates = ravel_pytree(meta.rates)[0] if meta.rates else optimizer.learning_rate
    adapted, losses = inner.run(meta, line_loss, data)
    theta, expected = descend(optimizer, np.asarray(rates))
    np.testing.assert_allclose(ravel_pytree(adapted)[0], theta, rtol=1e-10)
    np.testing.assert_allclose(losses, expected, rtol=1e-10)


def test_the_state_of_adam_is_carried_from_step_to_step_and_begun_anew_for_a_task(float64):
    params, data = jax.tree.map(jnp.asarray, line())
    inner = InnerLoop(steps=4, optimizer=Adam(0.1, b1=0.5))
    meta = inner.init(jax.random.key(0), params)
    fast = inner.begin(meta)
    for k in range(4):
        fast, _ = inner.step(meta, fast, line_loss, jax.tree.map(lambda x, k=k: x[k], data))
    adapted, _ = inner.run(meta, line_loss, data)
    np.testing.assert_allclose(*(ravel_pytree(x)[0] for x in (fast.params, adapted)), rtol=1e-12)
    assert fast.steps == 4
    fresh, first = (jax.tree.leaves(inner.begin(meta).opt_state), jax.tree.leaves(fast.opt_state))
    assert any(np.any(a != b) for a, b in zip(fresh, first, strict=True))


def test_learned_rates_begin_in_their_range_one_for_each_parameter_that_adapts():
    params = {"body": {"w": jnp.zeros((40, 50))}, "head": {"b": jnp.zeros(50)}}
    rates = InnerLoop(optimizer=MetaSGD(0.1, 0.2)).init(jax.random.key(0), params).rates
    assert jax.tree.map(jnp.shape, rates) == jax.tree.map(jnp.shape, params)
    drawn = np.concatenate([np.ravel(x) for x in jax.tree.leaves(rates)])
    assert drawn.min() >= 0.1
    assert drawn.max() <= 0.2
    assert drawn.std() == pytest.approx(0.1 / 12**0.5, rel=0.1)
    assert len(np.unique(drawn)) > 2000
    only = InnerLoop(optimizer=MetaSGD(), adapts="head").init(jax.random.key(0), params).rates
    assert [x.shape for x in jax.tree.leaves(only)] == [(50,)]


def test_only_what_the_filter_finds_adapts_and_all_of_it_is_learned(float64):
    params, data = jax.tree.map(jnp.asarray, line())
    inner = InnerLoop(steps=4, optimizer=SGD(0.1), adapts="^head/b$")

    def after(params):
        meta = inner.init(jax.random.key(0), params)
        adapted, _ = inner.run(meta, line_loss, data)
        return line_loss(adapted, jax.tree.map(lambda x: x[0], data)), adapted

    gradient, adapted = jax.grad(after, has_aux=True)(params)
    np.testing.assert_array_equal(adapted["body"]["w"], params["body"]["w"])
    w, b = (np.asarray(params[part][name]) for part, name in (("body", "w"), ("head", "b")))
    for x, y in zip(*data, strict=True):
        b = b - 0.1 * line_gradient(w, b, np.asarray(x), np.asarray(y))[1]
    assert adapted["head"]["b"] == pytest.approx(b, rel=1e-12)
    assert np.all(np.asarray(gradient["body"]["w"]) != 0.0)


def test_without_steps_nothing_adapts():
    params, data = jax.tree.map(jnp.float32, line(steps=0))
    inner = InnerLoop(steps=0)
    adapted, losses = inner.run(inner.init(jax.random.key(0), params), line_loss, data)
    np.testing.assert_array_equal(adapted["body"]["w"], params["body"]["w"])
    assert losses.shape == (0,)


def test_steps_beyond_those_of_training_are_scaled():
    params, (xs, ys) = jax.tree.map(jnp.float32, line())
    inner = InnerLoop(steps=1, optimizer=SGD(0.1), extra_step_factor=0.25)
    meta = inner.init(jax.random.key(0), params)
    first, _ = inner.step(meta, inner.begin(meta), line_loss, (xs[0], ys[0]))
    second, _ = inner.step(meta, first, line_loss, (xs[1], ys[1]))
    for now, then, rate in ((first.params, params, 0.1), (second.params, first.params, 0.025)):
        k = 0 if rate == 0.1 else 1
        slope = jax.grad(line_loss)(then, (xs[k], ys[k]))
        for a, b, g in zip(*map(jax.tree.leaves, (now, then, slope)), strict=True):
            np.testing.assert_allclose(a, b - rate * g, rtol=1e-5)


# Quadratic losses, L_i(θ) = (θ - c_i)ᵀ H_i (θ - c_i) / 2, on which everything has a closed form.


def quadratics(count, seed=0):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(count, 3, 3))
    return roots @ roots.transpose(0, 2, 1) / 3, rng.normal(size=(count, 3)), rng.normal(size=3)


def quadratic_loss(params, data):
    hessian, centre = data
    off = params["x"] - centre
    return 0.5 * off @ hessian @ off


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("kept", [None, 0, 1, 2, 7, 9])
def test_the_last_steps_are_differentiated_through_and_no_others(float64, kept, checkpoint):
    """With seven steps, more than are unrolled."""
    hessian, centre, at = quadratics(8)
    inner = InnerLoop(7, SGD(0.3), second_order_steps=kept, checkpoint=checkpoint)
    theta, jacobian = at, np.eye(3)
    for k in range(7):
        theta = theta - 0.3 * hessian[k] @ (theta - centre[k])
        if kept is None or k >= 7 - kept:
            jacobian = (np.eye(3) - 0.3 * hessian[k]) @ jacobian
    expected = jacobian.T @ hessian[7] @ (theta - centre[7])

    def after(params):
        meta = inner.init(jax.random.key(0), params)
        adapted, _ = inner.run(meta, quadratic_loss, (hessian[:7], centre[:7]))
        return quadratic_loss(adapted, (hessian[7], centre[7]))

    gradient = jax.grad(after)({"x": jnp.asarray(at)})["x"]
    np.testing.assert_allclose(gradient, expected, rtol=1e-10)


def expected_gradient(kind, steps, rate):
    """Of three losses every step draws one, and so does the outer gradient of MAML."""
    hessian, centre, at = map(jnp.asarray, quadratics(3))
    kept = 0 if kind == "FOMAML" else None
    inner_steps = steps if kind == "Reptile" else steps - 1
    inner = InnerLoop(inner_steps, SGD(rate), second_order_steps=kept)

    def adapt(params, rows):
        meta = inner.init(jax.random.key(0), params)
        return inner.run(meta, quadratic_loss, (hessian[rows], centre[rows]))[0]

    def after(params, rows):
        return quadratic_loss(adapt(params, rows[:-1]), (hessian[rows[-1]], centre[rows[-1]]))

    def gradient(rows):
        if kind == "Reptile":
            return (at - adapt({"x": at}, rows)["x"]) / rate
        return jax.grad(after)({"x": at}, rows)["x"]

    drawn = jnp.asarray(list(itertools.product(range(3), repeat=steps)))
    return jnp.mean(jax.vmap(gradient)(drawn), axis=0)


def taylor(kind, steps):
    """The first two Taylor coefficients in α of a learner's expected gradient, ``[2, 3]``.

    It is a polynomial in α: its coefficients follow from as many values as it has.
    """
    count = 2 * steps - 1
    rates = 0.1 + 0.8 * np.arange(count) / count
    values = fast_jit(lambda: [expected_gradient(kind, steps, float(r)) for r in rates])()
    return np.linalg.solve(np.vander(rates, increasing=True), np.stack(values))[:2]


@pytest.mark.parametrize("steps", [2, 3])
@pytest.mark.parametrize("kind", ["MAML", "FOMAML", "Reptile"])
def test_learners_agree_with_their_taylor_coefficients(float64, kind, steps):
    """Nichol et al. 2018, section 5.1: k gradients, of which one is the outer one of MAML."""
    hessian, centre, at = quadratics(3)
    slopes = np.einsum("ipq,iq->ip", hessian, at - centre)
    average, inner = slopes.mean(0), hessian.mean(0) @ slopes.mean(0)
    first, second = {
        "MAML": (1, 2 * (steps - 1)),
        "FOMAML": (1, steps - 1),
        "Reptile": (steps, steps * (steps - 1) / 2),
    }[kind]
    found = taylor(kind, steps)
    np.testing.assert_allclose(found[0], first * average, rtol=1e-8)
    np.testing.assert_allclose(found[1], -second * inner, rtol=1e-7)


@pytest.mark.parametrize(
    "inner",
    [
        InnerLoop(steps=3, optimizer=SGD(0.05), checkpoint=True),
        InnerLoop(steps=2, optimizer=MetaSGD(0.01, 0.05), adapts="head"),
        InnerLoop(steps=2, optimizer=Adam(0.02, b1=0.5)),
    ],
    ids=["SGD", "Meta-SGD, head", "Adam"],
)
@pytest.mark.parametrize("family", [Sinusoid(), Polynomial(steps=0.5)], ids=["sine", "polynomial"])
def test_meta_gradients_equal_finite_differences(float64, family, inner):
    network = feedforward_regressor(1, 1, MLP((6,), "tanh"))
    keys = jax.random.split(jax.random.key(3), 4)
    task = family.sample_task(keys[0])
    wide = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float64), tree)  # noqa: E731
    query, examples = (wide(family.sample_examples(k, task, 5)) for k in keys[1:3])
    support = jax.tree.map(lambda x: jnp.stack([x] * inner.steps), examples)

    def loss(params, examples):
        return family.loss(network.apply(params, examples.x), examples.y)

    meta = wide(inner.init(keys[3], network.init(keys[3])))
    flat, unravel = ravel_pytree(meta)

    def after(flat):
        meta = unravel(flat)
        return loss(inner.run(meta, loss, support)[0], query)

    directions = np.random.default_rng(0).normal(size=(3, flat.size))

    @fast_jit
    def both(flat):
        ends = [jax.vmap(lambda d, s=s: after(flat + s * 1e-5 * d))(directions) for s in (1, -1)]
        return directions @ jax.grad(after)(flat), (ends[0] - ends[1]) / 2e-5

    np.testing.assert_allclose(*both(flat), rtol=1e-6)


@pytest.mark.parametrize(
    ("part", "settings", "says"),
    [
        (InnerLoop, {"steps": -1}, "steps is -1; it must be at least 0"),
        (InnerLoop, {"second_order_steps": -1}, "second_order_steps is -1"),
        (InnerLoop, {"minibatches": 0}, "minibatches is 0; it must be at least 1, or None"),
        (InnerLoop, {"extra_step_factor": 0.0}, "extra_step_factor is 0.0; it must be above 0"),
        (InnerLoop, {"adapts": "("}, "adapts is '\\('; it must be a regular expression"),
        (SGD, {"learning_rate": 0.0}, "learning_rate is 0.0; it must be above 0"),
        (MetaSGD, {"lowest": 0.0}, "lowest is 0.0; it must be above 0"),
        (MetaSGD, {"lowest": 0.2, "highest": 0.1}, "highest is 0.1; it must be at least 0.2"),
        (Adam, {"learning_rate": -1.0}, "learning_rate is -1.0"),
        (Adam, {"b2": 1.0}, r"b2 is 1.0; it must be in \[0, 1\)"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_impossible_settings_are_refused(part, settings, says):
    with pytest.raises(ConfigError, match=says):
        part(**settings)


def test_a_filter_that_finds_nothing_is_refused_with_what_there_is():
    params = {"body": {"w": 0.0}, "head": {"b": 0.0}}
    with pytest.raises(ConfigError, match="adapts is 'tail'; it must be found in one of body/w"):
        InnerLoop(adapts="tail").check(lambda key: params)
    InnerLoop(adapts="head").check(lambda key: params)


@pytest.mark.parametrize("steps", [3, 4, 8])
def test_minibatches_go_through_a_fixed_set_pass_by_pass(steps):
    inner = InnerLoop(steps=steps, minibatches=4)
    examples = {"x": jnp.arange(20.0), "y": jnp.arange(20)}
    dealt = jax.vmap(lambda key: inner.deal(key, examples, 4))(
        jax.random.split(jax.random.key(0), 50)
    )
    np.testing.assert_array_equal(dealt["x"], dealt["y"])
    assert dealt["x"].shape == (50, steps, 5)
    rows = np.asarray(dealt["y"]).reshape(50, -1)
    for first in range(0, rows.shape[1], 20):
        passed = np.sort(rows[:, first : first + 20], axis=1)
        assert np.all(np.diff(passed) > 0), "none twice in a pass"
    firsts = np.bincount(rows[:, :5].ravel(), minlength=20)
    assert firsts.min() > 0, "any example may be in the first part"
    if steps == 8:
        parts = np.sort(rows.reshape(50, 8, 5), axis=2)
        assert np.mean(np.all(parts[:, 0] == parts[:, 4], axis=1)) < 0.1, "parted anew"
