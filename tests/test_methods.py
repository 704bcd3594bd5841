"""Methods by the names of their papers, and the presets they start from."""

import pytest

from jaxmeta.catalogue import describe_catalogue, train_usage
from jaxmeta.methods import METHODS
from jaxmeta.presets import PRESETS, preset
from jaxmeta_envs import BernoulliBandit, ConfigError
from jaxmeta_envs.regression import Sinusoid

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
