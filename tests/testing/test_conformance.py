"""Every registered family and algorithm keeps its contract: new ones need no new test."""

import dataclasses

import pytest

from jaxmeta.catalog.registry import ALGORITHMS, FAMILIES
from jaxmeta.networks import GRU, MLP
from jaxmeta.parts.optimizers.ppo import PPO
from jaxmeta.parts.risk import CVaR
from jaxmeta.testing import check_algorithm, check_supervised_family, check_task_family
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.core.supervised import SupervisedFamily
from jaxmeta_envs.grids.gridworld import GridNavigation

VARIANTS = [
    pytest.param(GridNavigation.shortest_path(3), id="shortest-path"),
    pytest.param(GridNavigation(holdout=5), id="held-out-goals", marks=pytest.mark.slow),
]

ELSEWHERE = {
    "hopper": "test_bodies.py",
    "half-cheetah": "test_bodies.py",
    "half-cheetah-direction": "test_locomotion_goals.py",
    "half-cheetah-velocity": "test_locomotion_goals.py",
    "ant-direction": "test_locomotion_goals.py",
    "ant-velocity": "test_locomotion_goals.py",
    "ant-goal": "test_locomotion_goals.py",
}
"""Where families are checked that are too slow here."""

TINY = {
    "num_tasks": 8,
    "shots": 3,
    "episodes_per_trial": 2,
    "memory": GRU(4),
    "optimizer": PPO(epochs=1, minibatches=1),
    "network": MLP((4,), "tanh"),
    "risk": CVaR(0.5),
    "steps": 2,
    "batch_size": 16,
    "capacity": 16,
    "warmup_steps": 16,
    "gradient_steps": 2,
}
"""Values for fields of these names and kinds; algorithms without such fields keep their own."""


def tiny(algorithm):
    """Returns the algorithm with small settings wherever a field of that kind has one."""
    default = algorithm()
    settings = {
        field.name: TINY[field.name]
        for field in dataclasses.fields(default)
        if field.name in TINY and fits(getattr(default, field.name), TINY[field.name])
    }
    return dataclasses.replace(default, **settings)


def fits(default, value):
    return default is None or isinstance(default, type(value))


@pytest.mark.parametrize("name", FAMILIES)
def test_registered_family_conforms(name):
    if name in ELSEWHERE:
        pytest.skip(f"{name}: see {ELSEWHERE[name]}")
    family = FAMILIES[name]()
    try:
        family.check_installed()
    except ConfigError as error:
        pytest.skip(str(error))
    check = check_supervised_family if isinstance(family, SupervisedFamily) else check_task_family
    check(family)


@pytest.mark.parametrize("family", VARIANTS)
def test_variant_of_a_family_conforms(family):
    check_task_family(family)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_registered_algorithm_conforms(name):
    check_algorithm(tiny(ALGORITHMS[name]))
