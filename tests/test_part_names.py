"""Names of built-in parts in files, and files of earlier versions."""

import importlib
import inspect
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta.catalog import registry
from jaxmeta.catalog.part_names import OLD_NAMES, PLACES, part_name
from jaxmeta.catalog.presets import PRESETS
from jaxmeta.catalog.serialization import SCHEMA, from_dict, renamed, to_dict
from jaxmeta.networks import Encoder, Memory
from jaxmeta.parts.estimators import MetaGradientEstimator
from jaxmeta.parts.experts import Expert
from jaxmeta.parts.inner_loop import InnerOptimizer
from jaxmeta.parts.optimizers.contract import PolicyOptimizer
from jaxmeta.parts.risk import Risk
from jaxmeta_envs import PolicyInput
from jaxmeta_envs.core.errors import ConfigError
from tests.toys import ToyLearner

FIXTURES = Path(__file__).parent / "fixtures"


def found(place):
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def test_every_name_is_of_one_class_and_no_other_is_called_so():
    classes = [found(place) for place in PLACES.values()]
    assert [part_name(cls) for cls in classes] == list(PLACES)
    assert not PLACES.keys() & (registry.ALGORITHMS | registry.FAMILIES).keys()


def below(cls):
    return {cls}.union(*map(below, cls.__subclasses__()))


def test_no_built_in_part_is_without_a_name():
    bases = (Memory, Encoder, Risk, PolicyOptimizer, InnerOptimizer, MetaGradientEstimator, Expert)
    for module in PLACES.values():
        found(module)
    for base in bases:
        ours = [cls for cls in below(base) if cls.__module__.startswith("jaxmeta.")]
        ours = [
            cls for cls in ours if not (inspect.isabstract(cls) or ".testing" in cls.__module__)
        ]
        named = [part_name(cls) for cls in ours if cls is not base]
        assert named, base
        assert None not in named, ours


def kinds(data):
    if isinstance(data, list):
        return {kind for item in data for kind in kinds(item)}
    if not isinstance(data, dict):
        return set()
    inside = {kind for value in data.values() for kind in kinds(value)}
    return inside | ({data["kind"]} if "kind" in data else set())


def test_no_preset_names_a_module_of_this_library():
    written = kinds([json.loads(json.dumps(to_dict(config))) for config in PRESETS.values()])
    assert {"train-config", "rl2", "gru", "ppo", "mean", "lvc"} <= written
    assert not {kind for kind in written if ":" in kind}
    assert kinds(to_dict(ToyLearner())) == {"tests.toys:ToyLearner"}  # a user's class


def test_old_names_are_read_as_the_classes_they_were():
    for old, name in OLD_NAMES.items():
        written = {"kind": old, "inside": [{"kind": old}]}
        assert renamed(written) == {"kind": name, "inside": [{"kind": name}]}
        assert found(PLACES[name]).__name__ == old.split(":")[1]
    config = jaxmeta.TrainConfig()
    old = {name: place for place, name in OLD_NAMES.items()}

    def aged(data):
        if not isinstance(data, dict):
            return data
        fields = {name: aged(value) for name, value in data.items()}
        return fields | {"kind": old.get(data["kind"], data["kind"])}

    written = aged(to_dict(config)) | {"schema": 3}
    assert written["algorithm"]["memory"]["kind"] == "jaxmeta.networks.memory:GRU"
    assert from_dict(written) == config


def test_a_name_that_is_nearly_right_is_pointed_out():
    data = to_dict(jaxmeta.TrainConfig())
    data["algorithm"]["memory"]["kind"] = "gruu"
    with pytest.raises(ConfigError, match=r"memory\.kind is 'gruu'.*did you mean gru"):
        from_dict(data)


@pytest.fixture
def old_run(tmp_path):
    """A run of schema 3: two updates, written before parts had names; and its parameters' sums."""
    path = tmp_path / "run"
    shutil.copytree(FIXTURES / "run_schema_3", path)
    return path


SUMS = [0.004069788, 9.332347, 0.37521359, 0.23442835, 0.03940399, 2.00735, 0.002469204, 7.7365375]
SUMS += [6.1776104, 1.5518243e-05, 0.027451932, 0.001224433, 1.4100946]


def test_a_run_of_an_earlier_version_is_loaded_evaluated_and_resumed(old_run):
    kept = json.loads((old_run / "config.json").read_text())["config"]
    assert kept["schema"] < SCHEMA
    assert "jaxmeta.networks.encoder:MLP" in kinds(kept)
    run = jaxmeta.load(old_run)
    assert run.config.algorithm.memory == jaxmeta.GRU(2)
    assert run.config.algorithm.risk == jaxmeta.CVaR(0.5)
    sums = [float(np.abs(np.asarray(x)).sum()) for x in jax.tree.leaves(run.params)]
    assert sums == pytest.approx(SUMS, rel=1e-5)
    played = jaxmeta.evaluate(run, num_tasks=4, save=False)
    assert np.isfinite(played.returns).all()
    further = jaxmeta.resume(old_run, total_env_steps=72, progress=False)
    assert further.env_steps == 72
    written = json.loads((old_run / "config.json").read_text())["config"]
    assert from_dict(written).total_env_steps == 72


def test_an_agent_that_an_earlier_version_exported_acts():
    agent = jaxmeta.load_exported(FIXTURES / "agent_schema_3")
    assert kinds(agent.manifest["algorithm"]) >= {"jaxmeta.networks.memory:GRU"}
    carry, first = agent.begin(jax.random.key(0)), jnp.bool_(True)
    seen = PolicyInput(jnp.int32(0), jnp.int32(0), jnp.float32(0), ~first, first)
    action, carry = agent.act(carry, seen, jax.random.key(1))
    assert int(action) in (0, 1)
