import contextlib
import copy
import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from jaxmeta import MAML, RL2, EPOpt, GuidedMetaPolicySearch, PolicyMAML
from jaxmeta.catalog import registry, serialization
from jaxmeta.catalog.serialization import SCHEMA, from_dict, to_dict
from jaxmeta.config import TrainConfig
from jaxmeta_envs import BernoulliBandit, PointNavigation, Sinusoid
from jaxmeta_envs.core import annotations
from jaxmeta_envs.core.errors import ConfigError
from tests.toys import ToyFamily, ToyLearner


@dataclass(frozen=True)
class Inner:
    values: tuple[float, ...] = ()
    pair: tuple[int, str] = (1, "a")


@dataclass(frozen=True)
class Outer:
    needed: int
    rate: float | Inner = 0.1
    mode: Literal["a", "b"] = "a"
    flag: bool = False
    parts: tuple[Inner, ...] = ()
    name: str | None = None


def through_text(config):
    return from_dict(json.loads(json.dumps(to_dict(config), allow_nan=False)))


@pytest.mark.parametrize(
    "config",
    [
        *(cls() for cls in (registry.ALGORITHMS | registry.FAMILIES).values()),
        TrainConfig(),
        TrainConfig(algorithm=ToyLearner(size=7), tasks=ToyFamily(), run_dir="x", devices=2),
        Outer(3, math.inf, "b", True, (Inner((0.1, -math.inf), (2, "é")), Inner()), "n"),
        Outer(0, Inner((1e-300, 1 / 3)), name=None),
    ],
    ids=lambda config: type(config).__name__,
)
def test_a_config_comes_back_equal_from_its_json(config):
    back = through_text(config)
    assert back == config
    assert type(back) is type(config)
    assert hash(back) == hash(config)


def test_a_class_of_the_library_is_written_by_its_short_name_and_others_by_their_module():
    assert to_dict(TrainConfig())["algorithm"]["kind"] == "rl2"
    assert to_dict(TrainConfig())["tasks"]["kind"] == "bernoulli-bandit"
    assert to_dict(ToyLearner())["kind"] == "tests.toys:ToyLearner"


def test_numpy_numbers_are_written_as_plain_ones():
    data = to_dict(Outer(np.int64(3), np.float32(0.5)))
    assert data["needed"] == 3
    assert type(data["needed"]) is int
    assert type(data["rate"]) is float


def test_a_field_that_is_missing_is_not_guessed():
    data = to_dict(TrainConfig(RL2(gae_lambda=0.7), BernoulliBandit()))
    del data["algorithm"]["gae_lambda"]
    message = r"config\.algorithm\.gae_lambda is missing; its default today, 0\.95, need not be"
    with pytest.raises(ConfigError, match=message):
        from_dict(data)
    data["algorithm"]["gae_lambda"] = 0.7
    del data["algorithm"]["memory"]
    with pytest.raises(ConfigError, match=r"memory is missing; its default today, GRU\("):
        from_dict(data)


@pytest.mark.parametrize(
    ("config", "age"),
    [
        (TrainConfig(), 1),
        (TrainConfig(MAML(), Sinusoid()), 2),
        (TrainConfig(MAML(), Sinusoid()), 1),
    ],
)
def test_only_the_fields_that_a_version_lacked_may_be_missing(config, age):
    data = to_dict(config) | {"schema": age}
    for path in paths(data):
        lacking = copy.deepcopy(data)
        *outer, name = path
        part = lacking
        for step in outer:
            part = part[step]
        del part[name]
        kind = part["kind"]
        known = any(name in serialization._BEFORE[v].get(kind, {}) for v in range(age, SCHEMA))
        with contextlib.nullcontext() if known else pytest.raises(ConfigError, match=name):
            from_dict(lacking)


def paths(data):
    for name, value in data.items():
        if name not in ("schema", "kind"):
            yield (name,)
            if isinstance(value, dict) and value["kind"] != "float":
                yield from ((name, *inner) for inner in paths(value))


def test_every_field_that_older_files_lack_is_one_of_today_and_fits_it():
    for kinds in serialization._BEFORE.values():
        for kind, missing in kinds.items():
            cls = serialization._find_class(kind, "config")
            hints = annotations.hints_of(cls)
            for name, value in missing.items():
                assert annotations.fits(serialization._decode(value, name), hints[name]), name


CELLS = sorted((Path(__file__).parent.parent / "results").rglob("*.json"))


def configs(data):
    """Yields all configurations of runs in a file of results."""
    if isinstance(data, dict):
        if "schema" in data and "kind" in data:
            yield data
        else:
            data = list(data.values())
    if isinstance(data, list):
        for item in data:
            yield from configs(item)


def test_every_configuration_among_the_results_is_read():
    found = [config for path in CELLS for config in configs(json.loads(path.read_text()))]
    assert len(found) > 30
    kinds = {type(from_dict(config)) for config in found}
    assert TrainConfig in kinds


def changed(**changes):
    data = to_dict(Outer(3)) | changes
    return {name: value for name, value in data.items() if value is not dataclasses.MISSING}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mod": "a"}, r"config\.mod is not a field of Outer.*needed, rate.*did you mean mode"),
        ({"needed": 1.5}, r"config\.needed is 1\.5; it must be of type int"),
        ({"needed": True}, r"config\.needed is True; it must be of type int"),
        ({"needed": dataclasses.MISSING}, r"config\.needed is missing, and has no default"),
        ({"flag": 1}, r"config\.flag is 1; it must be of type bool"),
        ({"mode": "c"}, r"config\.mode is 'c'; it must be of type Literal\['a', 'b'\]"),
        ({"rate": "fast"}, r"config\.rate is 'fast'; it must be of type float \| .*Inner"),
        ({"parts": [1]}, r"config\.parts is \(1,\); it must be of type tuple"),
        ({"parts": [{"kind": "nope"}]}, r"config\.parts\[0\]\.kind is 'nope'.*one of .*rl2"),
        ({"kind": "rl3"}, r"config\.kind is 'rl3'.*did you mean rl2"),
        ({"kind": "no.such:Thing"}, r"'no\.such:Thing', and no module no\.such is imported"),
        ({"kind": "__main__:Mine"}, r"script or notebook.*define it before loading"),
        ({"kind": "os:getcwd"}, r"it must be one of .* of a dataclass"),
        ({"kind": ""}, r"config\.kind is ''; it must be the name of a class"),
        ({"kind": None}, r"config\.kind is None; it must be the name of a class"),
        ({"schema": 99}, r"schema is 99; it must be 1 or 2"),
        ({"rate": {"kind": "float", "value": "big"}}, r"config\.rate is 'big'; it must be inf"),
    ],
)
def test_bad_data_is_refused_with_the_field_the_value_and_what_is_allowed(changes, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(changed(**changes))


def test_what_a_dataclass_itself_refuses_is_said():
    data = to_dict(TrainConfig()) | {"num_seeds": 0}
    with pytest.raises(ConfigError, match="num_seeds is 0; it must be at least 1"):
        from_dict(data)


def test_what_cannot_be_found_again_is_not_written():
    @dataclass(frozen=True)
    class Local:
        pass

    with pytest.raises(ConfigError, match=r"Outer\.rate is of class .*Local.* top of a module"):
        to_dict(Outer(1, Local()))
    with pytest.raises(ConfigError, match=r"Outer\.rate is <built-in function len>"):
        to_dict(Outer(1, len))


def test_a_registered_name_is_found_and_cannot_be_taken_twice(monkeypatch):
    monkeypatch.setattr(registry, "ALGORITHMS", dict(registry.ALGORITHMS))
    monkeypatch.setattr(registry, "FAMILIES", dict(registry.FAMILIES))
    registry.register_algorithm("toy", ToyLearner)
    registry.register_algorithm("toy", ToyLearner)
    registry.register_family("toy", ToyFamily)
    assert registry.find_algorithm("toy") is ToyLearner
    assert registry.find_family("toy") is ToyFamily
    with pytest.raises(ConfigError, match="not yet taken"):
        registry.register_algorithm("rl2", ToyLearner)
    with pytest.raises(ConfigError, match="a Family class"):
        registry.register_family("learner", ToyLearner)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"algorithm is 'rl-2'; it must be one of .*rl2"):
        registry.find_algorithm("rl-2")
    with pytest.raises(ConfigError, match="did you mean bernoulli-bandit"):
        registry.find_family("bernouli-bandit")


@pytest.mark.parametrize(
    ("make", "schemas"), [(EPOpt, [1]), (PolicyMAML, [1, 2]), (GuidedMetaPolicySearch, [1, 2])]
)
def test_inputs_were_not_normalised_before_there_was_a_field_for_it(make, schemas):
    written = to_dict(TrainConfig(make(), PointNavigation()))
    del written["algorithm"]["normalize_observations"]
    for schema in schemas:
        assert from_dict(written | {"schema": schema}).algorithm.normalize_observations is False
    with pytest.raises(ConfigError, match="normalize_observations"):
        from_dict(written | {"schema": max(schemas) + 1})
    assert make().normalize_observations is True


def test_a_file_from_before_a_field_existed_means_what_was_done_then():
    written = to_dict(TrainConfig(RL2(), BernoulliBandit()))
    new = ("actions", "normalize_observations", "normalize_rewards")
    for name in new:
        del written["algorithm"][name]
    read = from_dict(written | {"schema": 1}).algorithm
    assert [getattr(read, name) for name in new] == ["clipped", False, False]
    with pytest.raises(ConfigError, match="actions is missing"):
        from_dict(written)
