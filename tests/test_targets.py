"""Targets, simulated and real, and the rounds in which a source is adapted to them."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import jaxmeta
from jaxmeta import MLP, RL2, EPOpt, Mean, SourceAdaptation, TrainConfig, adapt_source
from jaxmeta.sim_to_real.targets import make_target
from jaxmeta.training.rounds import Rounds, describe_round
from jaxmeta_envs import Acrobot, CartPole, Pendulum

FAMILY = CartPole(episode_length=50)
LEARNER = EPOpt(
    num_tasks=8,
    risk=Mean(),
    network=MLP((4,), "tanh"),
    round_updates=2,
    target_episodes=3,
    # Masses and force have no scale of their own: one must be known.
    adaptation=SourceAdaptation(num_particles=64, process_std=1e-3, free=("pole_mass", "force")),
)
CONFIG = TrainConfig(
    algorithm=LEARNER,
    tasks=FAMILY,
    total_env_steps=4 * 8 * 50,
    updates_per_chunk=2,
    num_seeds=2,
    eval_tasks=4,
    checkpoint_every=1,
    target="task:pole_mass=0.15,force=12",
)


@pytest.fixture(scope="module")
def player():
    policy = LEARNER.policy(FAMILY)
    return policy, LEARNER.init(FAMILY, jax.random.key(0)).params


@pytest.mark.parametrize("name", ["task:force=14", "gymnasium:CartPole-v1", "heavy"])
def test_what_is_watched_is_what_the_system_does(player, name):
    target = make_target(name, FAMILY, seed=3)
    transitions, returns = target.watch(*player, jax.random.key(1), episodes=3)
    rows = transitions.flat()
    mask = np.asarray(rows.mask)
    assert mask.shape == (3, 50)
    np.testing.assert_array_equal(mask.sum(1), returns)  # 1 for every step
    task = FAMILY.nominal_task() if target.truth is None else target.truth
    predict = jax.jit(jax.vmap(jax.vmap(FAMILY.predict, (0, 0, None)), (0, 0, None)))
    predicted = predict(rows.obs, rows.action, task)
    np.testing.assert_allclose(
        np.asarray(predicted)[mask], np.asarray(rows.next_obs)[mask], atol=1e-5
    )
    np.testing.assert_array_equal(
        np.asarray(rows.obs)[:, 1:][mask[:, 1:]], np.asarray(rows.next_obs)[:, :-1][mask[:, 1:]]
    )


@pytest.mark.parametrize(
    ("length", "target", "said"),
    [
        (50, "heavy", "at most 50 steps"),
        (50, "gymnasium:CartPole-v1", "the first 50 of an episode's 500 steps"),
        (500, "gymnasium:CartPole-v1", "at most 500 steps"),
    ],
)
def test_the_length_played_on_a_target_is_said(length, target, said):
    config = dataclasses.replace(CONFIG, tasks=CartPole(episode_length=length), target=target)
    values = {"target_return": np.float64(length)}
    line = describe_round(1, values, Rounds(config).played)
    assert line.startswith(f"round 1: {length} on the target in {said};")


def test_every_seed_has_a_hidden_draw_of_its_own():
    first, again, other = (make_target("heavy", FAMILY, seed=s).truth for s in (3, 3, 4))
    assert first == again
    assert first.cart_mass != other.cart_mass
    assert 2.0 <= float(first.cart_mass) <= 4.0


def test_the_named_parameters_change_and_the_others_are_standard():
    truth = make_target("task:pole_mass=0.15, force=12", FAMILY, seed=0).truth
    assert float(truth.pole_mass) == pytest.approx(0.15)
    assert float(truth.force) == 12.0
    assert float(truth.gravity) == pytest.approx(9.8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    return jaxmeta.train(dataclasses.replace(CONFIG, run_dir=str(path)), progress=False)


def test_a_run_meets_its_target_after_every_round(run):
    seen = run.adaptations
    np.testing.assert_array_equal(seen["update"], [2, 4])
    assert seen["target_return"].shape == (2, 2)
    np.testing.assert_allclose(seen["truth/force"], 12.0)
    for name in ("pole_mass", "force"):
        low, high = seen[f"posterior_low/{name}"], seen[f"posterior_high/{name}"]
        assert np.all((low <= seen[f"posterior_mean/{name}"]) & (high >= low))
    # The source of the later updates is the posterior; that of the first two is the family's.
    trained_on = run.metrics["source_mean/force"]
    np.testing.assert_allclose(trained_on[:2], 12.5, rtol=1e-3)
    met = seen["posterior_mean/force"]
    np.testing.assert_allclose(trained_on[2:], met[:1].repeat(2, 0), rtol=0.05)
    np.testing.assert_allclose(met[-1], 12.0, rtol=0.02)
    np.testing.assert_allclose(seen["posterior_mean/pole_mass"][-1], 0.15, rtol=0.1)


def test_what_a_run_learned_of_its_target_is_on_the_disk(run):
    lines = [json.loads(line) for line in (run.run_dir / "metrics.jsonl").read_text().splitlines()]
    met = [line["adaptation"] for line in lines if "adaptation" in line]
    assert len(met) == 2
    assert met[1]["target_return"] == run.adaptations["target_return"][1].tolist()
    loaded = jaxmeta.load(run.run_dir)
    np.testing.assert_array_equal(loaded.adaptations["ess"], run.adaptations["ess"])


def test_a_resumed_run_goes_on_with_the_adapted_source(run, tmp_path):
    short = dataclasses.replace(CONFIG, total_env_steps=2 * 8 * 50, run_dir=str(tmp_path / "r"))
    jaxmeta.train(short, progress=False)
    resumed = jaxmeta.resume(tmp_path / "r", total_env_steps=4 * 8 * 50, progress=False)
    for a, b in zip(jax.tree.leaves(resumed.state), jax.tree.leaves(run.state), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, values in run.adaptations.items():
        np.testing.assert_allclose(resumed.adaptations[name], values, rtol=1e-12)


REAL = {
    "CartPole-v1": (CartPole(), ("gravity", "pole_mass", "half_length", "force")),
    "Pendulum-v1": (Pendulum(), ("mass", "length")),
    "Acrobot-v1": (Acrobot(), None),
}


@pytest.mark.parametrize("name", REAL)
def test_the_parameters_of_real_environments_are_recovered(name):
    """From three episodes of a policy that has learned nothing."""
    family, free = REAL[name]
    learner = dataclasses.replace(LEARNER, network=MLP((8,), "tanh"))
    params = learner.init(family, jax.random.key(0)).params
    target = make_target(f"gymnasium:{name}", family, seed=0)
    watched = target.watch(learner.policy(family), params, jax.random.key(1), episodes=3)
    posterior = adapt_source(
        family,
        family.distribution("train"),
        watched.transitions,
        jax.random.key(2),
        adaptation=SourceAdaptation(process_std=1e-4, free=free),
    )
    assert posterior.temperature == 1.0
    for parameter, truth in family.standard._asdict().items():
        found = float(getattr(posterior.mean, parameter))
        assert found == pytest.approx(truth, rel=0.05), parameter


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "heavvy"}, r"target is 'heavvy'; .*did you mean heavy"),
        ({"target": "task:mass=1"}, r"task: with .*pole_mass"),
        ({"target": "task:force=much"}, "force must be a number"),
        ({"target": "task:force=1000"}, r"target force is 1000.*within the limits"),
        ({"target": "gymnasium:"}, "gymnasium:ENVIRONMENT"),
        ({"tasks": jaxmeta.TrainConfig().tasks}, "a family of physical parameters"),
        ({"algorithm": RL2(num_tasks=8)}, "RL2 cannot adapt"),
        ({"updates_per_chunk": 3}, r"updates_per_chunk is 3; .*round_updates=2"),
        ({"algorithm": dataclasses.replace(LEARNER, source="nominal")}, "source is 'nominal'"),
    ],
)
def test_impossible_targets_are_refused(change, message):
    with pytest.raises(jaxmeta.ConfigError, match=message):
        dataclasses.replace(CONFIG, **change)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CartPole-v99", "cannot be made"),
        ("Pendulum-v1", "observation_space is like CartPole"),
        ("not_imported:CartPole-v1", r"add --import not_imported, in Python import not_imported"),
    ],
)
def test_other_environments_are_refused_before_anything_is_written(tmp_path, name, message):
    config = dataclasses.replace(CONFIG, target=f"gymnasium:{name}", run_dir=str(tmp_path / "run"))
    with pytest.raises(jaxmeta.ConfigError, match=message):
        jaxmeta.train(config, progress=False)
    assert not (tmp_path / "run").exists()
