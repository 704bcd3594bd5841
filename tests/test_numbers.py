"""Every number of every configuration is checked, whatever it is."""

import dataclasses
import importlib
import inspect
import math
import pkgutil
import typing
from typing import Any

import numpy as np
import pytest

import jaxmeta
import jaxmeta_envs
from jaxmeta import MLP, PPO, RL2, Schedule, TrainConfig
from jaxmeta_envs import BernoulliBandit, ConfigError, Pendulum

# What may be below 0 has a meaning there.
NEGATIVE = {
    "GRU.update_bias",
    "LSTM.forget_bias",
    "GaussianBandit.prior_mean",
    "TabularMDP.prior_mean",
    "GridNavigation.step_reward",
    "InformativeBandit.other_reward",
    "SAC.target_entropy",
}
INFINITE = {"PPO.max_grad_norm", "TRPO.max_grad_norm", "MinibatchAdam.max_grad_norm"}


def _modules():
    for package in (jaxmeta, jaxmeta_envs):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            try:
                yield importlib.import_module(found.name)
            except ImportError:  # of an extra that is not installed
                continue


def _configurations() -> dict[str, Any]:
    """Every public dataclass of the library that can be made without arguments."""
    made = {}
    for module in _modules():
        for name, cls in vars(module).items():
            here = inspect.isclass(cls) and cls.__module__ == module.__name__
            hidden = name.startswith("_") or inspect.isabstract(cls) or "options" in module.__name__
            if not (here and dataclasses.is_dataclass(cls)) or hidden:
                continue
            needed = [
                f
                for f in dataclasses.fields(cls)
                if f.init
                and f.default is dataclasses.MISSING
                and f.default_factory is dataclasses.MISSING
            ]
            if not needed:
                made[name] = cls()
    return made


CONFIGURATIONS = _configurations()


def _fields():
    for name, part in CONFIGURATIONS.items():
        hints = typing.get_type_hints(type(part))
        for field in dataclasses.fields(part):
            hint = hints[field.name]
            if {int, float} & {hint, *typing.get_args(hint)}:
                yield f"{name}.{field.name}"


FIELDS = list(_fields())


def test_the_scan_sees_what_there_is():
    assert {"RL2", "EPOpt", "MAML", "PolicyMAML", "GuidedMetaPolicySearch"} <= set(CONFIGURATIONS)
    assert {"TrainConfig", "InnerLoop", "PPO", "GRU", "CVaR", "TMaze"} <= set(CONFIGURATIONS)
    assert len(FIELDS) > 150


@pytest.mark.parametrize("field", FIELDS)
def test_a_number_that_is_none_is_refused_in_one_sentence(field):
    kind, name = field.split(".")
    part = CONFIGURATIONS[kind]

    def refused(value: object) -> bool:
        try:
            dataclasses.replace(part, **{name: value})
        except ConfigError as error:
            text = str(error)
            assert name in text, text
            assert "must be" in text, text
            assert "\n" not in text, text
            return True
        return False

    assert all(refused(x) for x in (math.nan, -math.inf, 1e30, -1e30, "x", True, np.float32("nan")))
    assert refused(math.inf) == (field not in INFINITE)
    if field not in NEGATIVE:
        assert refused(-1)
    zero = refused(0)  # either way, but never another error
    assert zero in (True, False)


def test_integers_are_whole_and_fit():
    for value in (1.5, 2**31, "3"):
        with pytest.raises(ConfigError, match="num_tasks"):
            RL2(num_tasks=value)  # type: ignore[arg-type]
    ppo = PPO(minibatches=np.int64(4))  # type: ignore[arg-type]
    made = RL2(num_tasks=1e2, optimizer=ppo)  # type: ignore[arg-type]
    assert (type(made.num_tasks), type(ppo.minibatches)) == (int, int)
    assert made == RL2(num_tasks=100, optimizer=PPO(minibatches=4))
    many = TrainConfig(total_env_steps=1e12, seed=2**32 - 1)  # type: ignore[arg-type]
    assert many.total_env_steps == 10**12
    with pytest.raises(ConfigError, match="total_env_steps is 1e"):
        TrainConfig(total_env_steps=1e30)  # type: ignore[arg-type]


def test_tuples_are_checked_entry_by_entry():
    assert MLP([64.0, np.int32(8)]) == MLP((64, 8))  # type: ignore[arg-type]
    for sizes in ((64, math.inf), (8, 1.5), (True,), ("a",), 64):
        with pytest.raises(ConfigError, match="sizes"):
            MLP(sizes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="mass"):
        Pendulum(mass=(1.0, math.nan))


def test_schedules_are_checked_where_they_go():
    for ends in ((math.nan, 0.0), (0.1, math.inf), (-0.1, 0.0), (0.1, -1.0)):
        with pytest.raises(ConfigError):
            RL2(entropy_coef=Schedule(*ends))
    with pytest.raises(ConfigError, match="entropy_coef"):
        RL2(entropy_coef=Schedule(-0.1, 0.0))


@dataclasses.dataclass(frozen=True)
class Mine(BernoulliBandit):
    luck: float = 0.5


@dataclasses.dataclass(frozen=True)
class Holder(BernoulliBandit):
    mine: Mine = dataclasses.field(default_factory=Mine)


def test_a_users_own_parts_are_checked_too():
    with pytest.raises(ConfigError, match="luck is nan"):
        TrainConfig(tasks=Holder(mine=Mine(luck=math.nan)))
