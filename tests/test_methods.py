"""Methods by the names of their papers, and the presets they start from."""

from dataclasses import replace

import pytest

import jaxmeta
from jaxmeta import MAML, MLP, PPO, RL2, InnerLoop, MetaSGD, PolicyMAML, TrainConfig
from jaxmeta.algorithms.maml import Reptile
from jaxmeta.analysis.pictures import show as showing
from jaxmeta.catalog.methods import METHODS, title_of
from jaxmeta.catalog.presets import PRESETS, preset
from jaxmeta.cli.listing import describe_catalogue, describe_training, train_usage
from jaxmeta.parts.estimators import EMAML
from jaxmeta_envs import BernoulliBandit, ConfigError
from jaxmeta_envs.regression.functions import Sinusoid
from tests.tiny_runs import untrained

FAMILIES = {"sinusoid": Sinusoid, "bernoulli-bandit": BernoulliBandit}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_an_algorithm_of_the_family_or_says_of_which_it_is(name, family):
    method = METHODS[name]
    made = method.supervised if family == "sinusoid" else method.policy
    if made is None:
        with pytest.raises(ConfigError, match=rf"family is .*; with {name} it must be one of the"):
            preset(name, family)
        return
    config = preset(name, family)  # which checks that they fit
    assert type(config.algorithm) is type(made)
    assert isinstance(config.tasks, FAMILIES[family])
    if (name, family) not in PRESETS:
        assert config.algorithm == made


def test_every_tuned_preset_is_found_by_its_names():
    for names, config in PRESETS.items():
        assert preset(*names) is config


def test_agents_are_called_by_their_method():
    for (name, family), config in PRESETS.items():
        if name in METHODS:
            assert title_of(config.algorithm) == METHODS[name].title, (name, family)
    for method in METHODS.values():
        for made in (method.supervised, method.policy):
            assert made is None or title_of(made) == method.title


@pytest.mark.parametrize(
    ("algorithm", "title"),
    [
        (RL2(), "RL2"),
        (MAML(outer=Reptile(), num_tasks=7), "Reptile"),
        (MAML(inner=InnerLoop(steps=3, adapts="head")), "ANIL"),
        (MAML(inner=InnerLoop(optimizer=MetaSGD(), adapts="head")), "MAML"),
        (PolicyMAML(), "MAML"),
        (PolicyMAML(optimizer=PPO(minibatches=1)), "MAML"),
        (PolicyMAML(optimizer=PPO(minibatches=1), kl_coef=0.1), "ProMP"),
        (PolicyMAML(optimizer=PPO(minibatches=1), kl_coef=0.1, estimator=EMAML()), "E-MAML"),
        (PolicyMAML(inner=InnerLoop(second_order_steps=0)), "First-order MAML"),
    ],
)
def test_so_are_configurations_made_by_hand(algorithm, title):
    assert title_of(algorithm) == title


def test_a_class_of_ones_own_keeps_its_name():
    class Mine(MAML):
        pass

    assert title_of(Mine(outer=Reptile())) == "Mine"


def test_what_people_see_says_the_method(tmp_path, monkeypatch):
    algorithm = MAML(num_tasks=2, shots=3, network=MLP((4,), "tanh"), outer=Reptile())
    result = untrained(algorithm, Sinusoid())
    evaluation = jaxmeta.evaluate(result, num_tasks=4)
    assert "Reptile on Sinusoid" in str(evaluation)
    assert "MAML" not in str(evaluation)
    compared = jaxmeta.compare([result, result], num_tasks=4)
    assert list(compared.runs) == ["Reptile", "Reptile (2)"]
    titles = []
    monkeypatch.setattr(showing, "write_still", lambda scene, title, path: titles.append(title))
    monkeypatch.setattr(showing, "write_animation", lambda scene, title, path: None)
    jaxmeta.show(result, num_tasks=1, out=tmp_path)
    assert titles == ["Reptile on Sinusoid"]
    assert describe_training(result.config).startswith("Trains Reptile on Sinusoid")


def test_an_older_evaluation_is_compared_under_the_name_of_the_method(tmp_path):
    algorithm = MAML(num_tasks=2, shots=3, network=MLP((4,), "tanh"), outer=Reptile())
    run_dir = tmp_path / "run"
    config = TrainConfig(algorithm, Sinusoid(), total_env_steps=1, run_dir=str(run_dir))
    result = jaxmeta.train(config, progress=False)
    saved = replace(jaxmeta.evaluate(result, num_tasks=4, save=False), agent="MAML")
    saved.save(run_dir)
    content = (run_dir / f"evaluation{saved.suffix}.json").read_bytes()
    compared = jaxmeta.compare([str(run_dir), result], num_tasks=4, labels=["a", "b"])
    assert [run.agent for run in compared.runs.values()] == ["Reptile", "Reptile"]
    assert (run_dir / f"evaluation{saved.suffix}.json").read_bytes() == content


def test_methods_differ_from_each_other():
    for kind in ("supervised", "policy"):
        made = [getattr(m, kind) for m in METHODS.values() if getattr(m, kind) is not None]
        assert len(set(made)) == len(made) >= 6


def test_names_of_methods_are_told_with_those_of_algorithms():
    assert "promp" in train_usage()
    catalogue = describe_catalogue()
    for name, method in METHODS.items():
        assert f"{name} " in catalogue
        assert method.summary in catalogue
    with pytest.raises(ConfigError, match=r"reptile.*did you mean reptile"):
        preset("reptil", "sinusoid")


@pytest.mark.parametrize("name", ["rl2", "epopt"])
def test_learners_that_act_refuse_tasks_to_predict(name):
    with pytest.raises(ConfigError, match="tasks is Sinusoid"):
        preset(name, "sinusoid")
