import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxmeta
from jaxmeta import SourceAdaptation, Transitions, adapt_source
from jaxmeta.catalog.serialization import from_dict, to_dict
from jaxmeta.experience.play import play_adaptation
from jaxmeta.sim_to_real import adaptation as source_adaptation
from jaxmeta.sim_to_real import model as source_model
from jaxmeta_envs import CartPole, ConfigError
from jaxmeta_envs.random.distributions import TruncatedNormal, Uniform
from tests.source_toys import Drift, DriftTask, Pendulum, PendulumTask, numbers, watch
from tests.toys import ToyFamily

DRIFT, PENDULUM, CARTPOLE = Drift(), Pendulum(), CartPole()
SPEED = SourceAdaptation(process_std=0.3, free=("speed",))
TARGET = numbers(DriftTask(2.5, 0.7))
RUNS = 32


def drift_data(steps=12):
    return watch(DRIFT, TARGET, jax.random.key(5), steps=steps, process_std=0.3)


def normal_evidence(data, mean, std, known_wind=0.7, noise=0.3):
    """Closed forms for ``speed ~ N(mean, std²)``: posterior mean and std, log-evidence."""
    action = np.asarray(data.action, np.float64)[:, 0]
    residual = np.asarray(data.next_obs - data.obs, np.float64)[:, 0] - known_wind
    precision = 1 / std**2 + np.sum(action**2) / noise**2
    center = (mean / std**2 + np.sum(action * residual) / noise**2) / precision
    covariance = noise**2 * np.eye(len(action)) + std**2 * np.outer(action, action)
    evidence = stats.multivariate_normal(mean * action, covariance).logpdf(residual)
    return center, precision**-0.5, evidence


def many(data, adaptation, source=None, known=TARGET, runs=RUNS):
    """Adapts from the same data with many keys."""
    source = DRIFT.distribution() if source is None else source
    settings = {"known": known, "adaptation": adaptation}
    adapt = jax.jit(jax.vmap(lambda key: adapt_source(DRIFT, source, data, key, **settings)))
    return adapt(jax.random.split(jax.random.key(0), runs))


def near(values, exact, most):
    """Whether an estimate is exact but for chance, and the chance small."""
    values = np.asarray(values, np.float64)
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - exact) < 4 * error + 1e-6, (values.mean(), exact, error)
    assert values.std() < most, values.std()


def test_the_posterior_of_a_linear_system_is_the_closed_form():
    data = drift_data()
    mean, std, evidence = normal_evidence(data, 1.0, 1.0)
    posterior = many(data, dataclasses.replace(SPEED, doubt=0.0, num_particles=512))
    assert np.all(posterior.temperature == 1)
    near(posterior.mean.speed, mean, 0.15 * std)
    near(posterior.std.speed, std, 0.1 * std)
    near(np.exp(posterior.log_evidence - evidence), 1.0, 0.3)
    near(posterior.low.speed, mean - 1.96 * std, 0.3 * std)
    near(posterior.high.speed, mean + 1.96 * std, 0.3 * std)


def test_doubt_mixes_the_source_with_a_uniform():
    """A target 5 standard deviations off: nearly all of the posterior comes from doubt."""
    data = drift_data()
    source = TruncatedNormal(
        numbers(DriftTask(-1.0, 0.0)), numbers(DriftTask(0.7, 1.0)), *DRIFT.limits()
    )
    mean, _, sure = normal_evidence(data, -1.0, 0.7)
    # A normal that is flat over where the likelihood is, with the uniform's density there.
    wide_mean, _, wide = normal_evidence(data, 0.0, 1e3)
    doubtful = wide + np.log(1e3 * np.sqrt(2 * np.pi) / 40.0)
    evidence = np.logaddexp(np.log(0.7) + sure, np.log(0.3) + doubtful)
    weight = np.exp(np.log(0.3) + doubtful - evidence)
    assert 0.5 < weight < 1
    adaptation = dataclasses.replace(SPEED, doubt=0.3, num_particles=1024)
    posterior = many(data, adaptation, source)
    near(np.exp(posterior.log_evidence - evidence), 1.0, 0.4)
    near(posterior.mean.speed, weight * wide_mean + (1 - weight) * mean, 0.1)


def test_noisy_readings_of_a_linear_system_give_the_closed_form():
    """With noise of readings alone the residuals are differences of consecutive errors."""
    data = watch(DRIFT, TARGET, jax.random.key(2), steps=12, observation_std=0.2)
    adaptation = SourceAdaptation(
        process_std=0.1, observation_std=0.2, free=("speed",), doubt=0.0, num_particles=512
    )
    action = np.asarray(data.action, np.float64)[:, 0]
    residual = np.asarray(data.next_obs - data.obs, np.float64)[:, 0] - 0.7
    noise = 0.1**2 * np.eye(12) + 0.2**2 * (2 * np.eye(12) - np.eye(12, k=1) - np.eye(12, k=-1))
    whitened = np.linalg.solve(noise, action)
    precision = 1.0 + whitened @ action
    posterior = many(data, adaptation)
    near(posterior.mean.speed, (1.0 + whitened @ residual) / precision, 0.15 * precision**-0.5)
    near(posterior.std.speed, precision**-0.5, 0.1 * precision**-0.5)
    covariance = noise + np.outer(action, action)
    evidence = stats.multivariate_normal(action, covariance).logpdf(residual)
    near(np.exp(posterior.log_evidence - evidence), 1.0, 0.3)


def test_the_summary_is_that_of_the_particles():
    posterior = adapt_source(DRIFT, DRIFT.distribution(), drift_data(), jax.random.key(0))
    log_weights = np.asarray(posterior.log_weights, np.float64)
    weights = np.exp(log_weights) / np.sum(np.exp(log_weights))
    np.testing.assert_allclose(np.exp(log_weights).sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(posterior.ess, 1 / (256 * np.sum(weights**2)), rtol=1e-4)
    for name in DriftTask._fields:
        x = np.asarray(getattr(posterior.particles, name), np.float64)
        mean = weights @ x
        std = np.sqrt(weights @ (x - mean) ** 2)
        np.testing.assert_allclose(getattr(posterior.mean, name), mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(getattr(posterior.std, name), std, rtol=1e-3)
        order = np.argsort(x)
        middles = np.cumsum(weights[order]) - weights[order] / 2
        for end, level in (("low", 0.025), ("high", 0.975)):
            want = np.interp(level, middles, x[order])
            np.testing.assert_allclose(getattr(getattr(posterior, end), name), want, atol=1e-4)
        np.testing.assert_allclose(getattr(posterior.source.mean, name), mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(getattr(posterior.source.std, name), max(std, 0.4), rtol=1e-3)
    assert (posterior.source.low, posterior.source.high) == DRIFT.limits()


def cartpole_source(mean, std, low, high):
    """The standard cart-pole, of whose pole the mass is to be found."""
    box = CARTPOLE.limits()
    everywhere = jax.tree.map(lambda a, b: 0.1 * (b - a), *box)
    return TruncatedNormal(
        CARTPOLE.nominal_task()._replace(pole_mass=jnp.float32(mean)),
        everywhere._replace(pole_mass=jnp.float32(std)),
        box.low._replace(pole_mass=jnp.float32(low)),
        box.high._replace(pole_mass=jnp.float32(high)),
    )


def cartpole_data(pole_mass):
    """Three episodes of random pushes, about 70 steps in all."""
    target = CARTPOLE.nominal_task()._replace(pole_mass=jnp.float32(pole_mass))
    reference = CARTPOLE.references(1)["random"]
    play = jax.jit(lambda key: play_adaptation(CARTPOLE, reference.policy, (), target, key, 3))
    return Transitions.from_trajectory(play(jax.random.key(1)))


@pytest.mark.parametrize(
    ("truth", "source"),
    [(0.14, (0.1, 0.02, 0.05, 0.2)), (0.2, (0.1, 0.02, 0.08, 0.12))],
    ids=["two standard deviations off", "outside of the support"],
)
def test_three_episodes_tell_the_mass_of_a_pole(truth, source):
    data = cartpole_data(truth)
    assert 40 < data.mask.sum() < 200
    adaptation = SourceAdaptation(process_std=1e-3, free=("pole_mass",))
    posterior = adapt_source(
        CARTPOLE, cartpole_source(*source), data, jax.random.key(0), adaptation=adaptation
    )
    assert posterior.temperature == 1
    assert abs(posterior.mean.pole_mass / truth - 1) < 0.02
    assert posterior.low.pole_mass < truth < posterior.high.pole_mass
    assert posterior.std.pole_mass < 0.02 * truth
    assert posterior.mean.gravity == jnp.float32(9.8)


def test_without_doubt_a_target_outside_of_the_support_is_not_found():
    adaptation = SourceAdaptation(process_std=1e-3, free=("pole_mass",), doubt=0.0)
    source = cartpole_source(0.1, 0.02, 0.08, 0.12)
    posterior = adapt_source(
        CARTPOLE, source, cartpole_data(0.2), jax.random.key(0), adaptation=adaptation
    )
    assert 0.115 < posterior.mean.pole_mass <= 0.12


def test_credible_intervals_cover_the_truth():
    """Two parameters, noisy readings, 200 targets in one program."""
    noise = {"process_std": 0.005, "observation_std": 0.03}
    adaptation = SourceAdaptation(**noise, num_particles=128)
    source = PENDULUM.distribution()

    def one(key):
        task_key, watch_key, key = jax.random.split(key, 3)
        target = source.sample(task_key)
        data = watch(PENDULUM, target, watch_key, steps=25, **noise)
        return target, adapt_source(PENDULUM, source, data, key, adaptation=adaptation)

    keys = jax.random.split(jax.random.key(0), 200)
    target, posterior = jax.jit(jax.vmap(one))(keys)
    assert np.all(posterior.temperature == 1)
    for name in PendulumTask._fields:
        truth, low, high = (getattr(x, name) for x in (target, posterior.low, posterior.high))
        assert 0.90 <= np.mean((low <= truth) & (truth <= high)) <= 0.99, name


def test_the_figures_that_are_reported_are_good_ones():
    """From `scripts/reproduce/source_adaptation.py`, which takes a minute or two."""
    path = Path(__file__).parent.parent / "results" / "source_adaptation" / "cartpole.json"
    figures = json.loads(path.read_text())
    assert figures["targets"] == 200
    for name in ("pole_mass", "half_length"):
        assert 0.90 <= figures["coverage"][name]["covered"] <= 0.99
    assert all(case["largest_relative_error"] < 0.02 for case in figures["errors"].values())


def test_within_jit_and_vmap_it_is_the_same_as_by_itself():
    keys = jax.random.split(jax.random.key(3), 3)
    sources = jax.vmap(lambda shift: jax.tree.map(lambda x: x + shift, DRIFT.distribution()))(
        jnp.asarray([0.0, 0.1, 0.2])
    )
    data = drift_data()
    together = jax.jit(
        jax.vmap(lambda source, key: adapt_source(DRIFT, source, data, key, adaptation=SPEED))
    )(sources, keys)
    for i in range(3):
        source = jax.tree.map(lambda x, i=i: x[i], sources)
        alone = adapt_source(DRIFT, source, data, keys[i], adaptation=SPEED)
        np.testing.assert_allclose(together.mean.speed[i], alone.mean.speed, rtol=1e-3)
        np.testing.assert_allclose(together.log_evidence[i], alone.log_evidence, rtol=1e-3)


def test_equal_settings_share_one_compilation():
    data, source = drift_data(), DRIFT.distribution()
    settings = {"process_std": 0.123, "free": ("speed",), "max_stages": 7}
    before = source_adaptation._adapt._cache_size()
    for seed in range(3):
        adaptation = SourceAdaptation(**settings)
        posterior = adapt_source(Drift(), source, data, jax.random.key(seed), adaptation=adaptation)
        source = posterior.source
    assert source_adaptation._adapt._cache_size() == before + 1


def test_axes_in_front_are_episodes_and_what_is_masked_means_nothing():
    data = drift_data(12)
    mask = np.ones((2, 2, 4), bool)
    mask[1, 1] = False

    def fold(x):
        rows = np.concatenate([np.asarray(x), np.full_like(x[:4], np.nan)])
        return jnp.asarray(rows.reshape(2, 2, 4, 1))

    folded = Transitions(fold(data.obs), fold(data.action), fold(data.next_obs), jnp.asarray(mask))
    source, key = DRIFT.distribution(), jax.random.key(0)
    one, other = (adapt_source(DRIFT, source, x, key, adaptation=SPEED) for x in (data, folded))
    np.testing.assert_allclose(other.log_evidence, one.log_evidence, rtol=1e-4)
    np.testing.assert_allclose(other.mean.speed, one.mean.speed, rtol=1e-3)


def test_a_uniform_is_a_source_too():
    data = drift_data()
    box = Uniform(numbers(DriftTask(0.0, -5.0)), numbers(DriftTask(5.0, 5.0)))
    mean, std, _ = normal_evidence(data, 0.0, 1e3)
    posterior = many(data, dataclasses.replace(SPEED, num_particles=512), box)
    near(posterior.mean.speed, mean, 0.15 * std)
    near(posterior.std.speed, std, 0.1 * std)


def test_what_is_known_stays_and_is_the_narrowest_in_the_new_source():
    posterior = adapt_source(
        DRIFT, DRIFT.distribution(), drift_data(), jax.random.key(0), known=TARGET, adaptation=SPEED
    )
    wind = TARGET.wind
    assert posterior.mean.wind == posterior.low.wind == posterior.high.wind == wind
    assert posterior.std.wind == 0
    assert np.all(posterior.particles.wind == wind)
    assert posterior.source.mean.wind == wind
    np.testing.assert_allclose(posterior.source.std.wind, 0.01 * 40)


def test_a_part_of_the_transitions_gives_a_wider_posterior_of_the_same_target():
    data = drift_data(400)
    full = many(data, SPEED, runs=4)
    part = many(data, dataclasses.replace(SPEED, max_transitions=40), runs=4)
    ratio = np.mean(part.std.speed) / np.mean(full.std.speed)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.25)
    assert np.all(np.abs(part.mean.speed - 2.5) < 4 * part.std.speed)


@pytest.mark.parametrize("size", [None, 1, 5, 6, 8, 20])
def test_a_part_has_no_transition_twice_and_none_that_is_masked_while_others_are_left(size):
    mask = np.asarray([True, False, True, True, False, True, True, True])
    data = Transitions(*(jnp.arange(8),) * 3, jnp.asarray(mask))
    part = source_model._subset(data, size, jax.random.key(0))
    drawn = np.asarray(part.obs)
    assert len(set(drawn)) == len(drawn) == min(size or 8, 8)
    assert part.mask.sum() == min(size or 8, 6)
    np.testing.assert_array_equal(part.mask, mask[drawn])


def test_a_cap_on_the_stages_is_reported():
    data = drift_data(400)
    adaptation = dataclasses.replace(SPEED, max_stages=2)
    posterior = adapt_source(
        DRIFT, DRIFT.distribution(), data, jax.random.key(0), adaptation=adaptation
    )
    assert 0 < posterior.temperature < 1


def test_data_that_nothing_explains_leave_the_prior_and_say_so():
    """Inside of jit values cannot be checked; a NaN there must not look like knowledge."""
    data = drift_data()
    broken = data._replace(next_obs=data.next_obs.at[3].set(jnp.nan))
    adapt = jax.jit(lambda data: adapt_source(DRIFT, DRIFT.distribution(), data, jax.random.key(0)))
    posterior = adapt(broken)
    assert posterior.temperature == 0
    assert posterior.log_evidence == -np.inf
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(posterior.source))


def test_the_settings_come_back_from_their_json():
    for adaptation in (
        SourceAdaptation(),
        SourceAdaptation((0.1, 0.2), (0.0, 0.3), ("a", "b"), max_transitions=None),
        SourceAdaptation(max_transitions=7),
    ):
        back = from_dict(json.loads(json.dumps(to_dict(adaptation))))
        assert back == adaptation
        assert hash(back) == hash(adaptation)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("process_std", -0.1),
        ("process_std", float("nan")),
        ("process_std", ()),
        ("observation_std", (0.1, float("inf"))),
        ("free", ()),
        ("free", ("speed", "speed")),
        ("free", "speed"),
        ("num_particles", 15),
        ("doubt", 1.1),
        ("min_std", 0.0),
        ("ess_share", 1.0),
        ("moves", 0),
        ("max_stages", 0),
        ("max_transitions", 0),
    ],
)
def test_a_bad_setting_is_named(field, value):
    with pytest.raises(
        ConfigError, match=rf"^(SourceAdaptation\.)?{field}(\[.\])? is .*; it must be "
    ):
        SourceAdaptation(**{field: value})


def test_a_filter_needs_whole_episodes():
    with pytest.raises(ConfigError, match="max_transitions is 5; it must be None"):
        SourceAdaptation(observation_std=0.1, max_transitions=5)


GOOD = jax.tree.map(np.asarray, drift_data(4))
NORMAL = DRIFT.distribution()
BAD = {
    r"transitions is 'tuple'; it must be of type Transitions": {"data": tuple(GOOD)},
    r"transitions\.obs is 'of shape \(4, 2\)'": {"data": GOOD._replace(obs=np.zeros((4, 2)))},
    r"transitions\.next_obs is 'of shape \(3, 1\)'": {
        "data": GOOD._replace(next_obs=np.zeros((3, 1)))
    },
    r"transitions\.action is 'of shape \(4,\)'": {"data": GOOD._replace(action=np.zeros(4))},
    r"transitions\.action is 'of type int32'": {
        "data": GOOD._replace(action=np.zeros((4, 1), np.int32))
    },
    r"transitions\.mask is 'of type float32'": {"data": GOOD._replace(mask=np.ones(4, np.float32))},
    r"transitions\.mask is 'of shape \(\)'": {"data": GOOD._replace(mask=np.asarray(True))},
    r"transitions is \(0,\)": {"data": jax.tree.map(lambda x: x[:0], GOOD)},
    r"transitions\.mask is 'False everywhere'": {"data": GOOD._replace(mask=np.zeros(4, bool))},
    r"transitions\.next_obs\[1, 0\] is nan; it must be finite": {
        "data": GOOD._replace(next_obs=np.asarray([[0.0], [np.nan], [0.0], [0.0]]))
    },
    r"source is .*; it must be a TruncatedNormal or a Uniform": {"source": 3.0},
    r"source\.mean is .*; it must be a task of speed, wind": {
        "source": NORMAL._replace(mean=numbers(PendulumTask(1.0, 1.0)))
    },
    r"source\.std\.wind is 0\.0; it must be above 0": {
        "source": NORMAL._replace(std=numbers(DriftTask(1.0, 0.0)))
    },
    r"source\.low\.speed is 20\.0; it must be below": {"source": NORMAL._replace(low=NORMAL.high)},
    r"source\.mean\.speed is nan": {"source": NORMAL._replace(mean=DriftTask(np.nan, 0.0))},
    r"source\.mean\.speed is 'of shape \(3,\)'": {
        "source": NORMAL._replace(mean=DriftTask(np.zeros(3), 0.0))
    },
    r"known is .*; it must be a task of speed, wind": {"known": numbers(PendulumTask(1.0, 1.0))},
    r"known\.wind is inf": {"known": DriftTask(0.0, np.inf)},
    r"process_std is \(0\.1, 0\.1\); it must be a number or a tuple of 1": {
        "adaptation": SourceAdaptation((0.1, 0.1))
    },
    r"process_std is 0\.0; it must be above 0": {"adaptation": SourceAdaptation(0.0)},
    r"free is \('mass',\); it must be None or of speed, wind": {
        "adaptation": SourceAdaptation(free=("mass",))
    },
    r"family is .*; it must be a PhysicalFamily": {"family": ToyFamily()},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named_before_anything_is_compiled(message):
    inputs = {"family": DRIFT, "source": NORMAL, "data": GOOD, "adaptation": SPEED} | BAD[message]
    family, source, data = (inputs.pop(name) for name in ("family", "source", "data"))
    before = source_adaptation._adapt._cache_size()
    with pytest.raises(ConfigError, match=message):
        adapt_source(family, source, data, jax.random.key(0), **inputs)
    assert source_adaptation._adapt._cache_size() == before


def test_shapes_are_checked_inside_of_jit_too():
    adapt = jax.jit(lambda data: jaxmeta.adapt_source(DRIFT, NORMAL, data, jax.random.key(0)))
    with pytest.raises(ConfigError, match=r"transitions\.obs is 'of shape \(4, 2\)'"):
        adapt(GOOD._replace(obs=np.zeros((4, 2))))


def test_the_prior_is_the_source_with_a_uniform_part():
    """Against scipy's truncated normal, and by the draws that come with it."""
    mean, std, doubt = np.array([0.3, 0.9]), np.array([0.05, 0.2]), 0.25
    source = TruncatedNormal(*map(jnp.float32, (mean, std, [0.0, 0.0], [1.0, 1.0])))
    settings = SourceAdaptation(doubt=doubt, num_particles=4000)
    log_prior, drawn = source_model.make_prior(source, settings, jax.random.key(0))
    x = np.random.default_rng(0).uniform(size=(50, 2))
    exact = stats.truncnorm(-mean / std, (1 - mean) / std, mean, std)
    expected = np.log((1 - doubt) * exact.pdf(x).prod(1) + doubt)
    np.testing.assert_allclose(jax.vmap(log_prior)(jnp.float32(x)), expected, atol=1e-3)
    assert log_prior(jnp.array([0.3, 1.1])) == -jnp.inf
    centre = (1 - doubt) * exact.mean() + doubt * 0.5
    np.testing.assert_allclose(drawn.mean(0), centre, atol=0.015)
