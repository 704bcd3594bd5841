"""The short names of algorithms and task families, for the command line and config files."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from jaxmeta.algorithms.epopt import EPOpt
from jaxmeta.algorithms.gmps import GuidedMetaPolicySearch
from jaxmeta.algorithms.maml import MAML
from jaxmeta.algorithms.policy_maml import PolicyMAML
from jaxmeta.algorithms.rl2 import RL2
from jaxmeta.algorithms.sac import SAC
from jaxmeta.catalog import importing
from jaxmeta.contracts import Algorithm
from jaxmeta_envs.bandits.correlated import CorrelatedBandit
from jaxmeta_envs.bandits.independent import BernoulliBandit, GaussianBandit
from jaxmeta_envs.bandits.informative import InformativeBandit
from jaxmeta_envs.bandits.restless import RestlessBandit
from jaxmeta_envs.classic.acrobot import Acrobot
from jaxmeta_envs.classic.cartpole import CartPole
from jaxmeta_envs.classic.mountain_car import MountainCar
from jaxmeta_envs.classic.pendulum import Pendulum
from jaxmeta_envs.core.contracts import Family
from jaxmeta_envs.core.errors import ConfigError, closest, require
from jaxmeta_envs.grids.gridworld import GridNavigation
from jaxmeta_envs.interop.xland import XLandMiniGrid
from jaxmeta_envs.mujoco.goals import (
    AntDirection,
    AntGoal,
    AntVelocity,
    HalfCheetahDirection,
    HalfCheetahVelocity,
)
from jaxmeta_envs.mujoco.locomotion import HalfCheetah, Hopper
from jaxmeta_envs.points.navigation import (
    PointNavigation,
    PointNavigationCorners,
    SparsePointNavigation,
)
from jaxmeta_envs.regression.control import RegressionControl
from jaxmeta_envs.regression.functions import Polynomial, Sinusoid
from jaxmeta_envs.tabular.mdp import TabularMDP
from jaxmeta_envs.tabular.t_maze import TMaze
from jaxmeta_envs.tabular.two_step import TwoStep

ALGORITHMS: dict[str, type[Algorithm]] = {
    "rl2": RL2,
    "epopt": EPOpt,
    "maml": MAML,
    "policy-maml": PolicyMAML,
    "gmps": GuidedMetaPolicySearch,
    "sac": SAC,
}
"""Name of every known algorithm."""

FAMILIES: dict[str, type[Family]] = {
    "bernoulli-bandit": BernoulliBandit,
    "gaussian-bandit": GaussianBandit,
    "correlated-bandit": CorrelatedBandit,
    "informative-bandit": InformativeBandit,
    "restless-bandit": RestlessBandit,
    "two-step": TwoStep,
    "t-maze": TMaze,
    "tabular-mdp": TabularMDP,
    "grid-navigation": GridNavigation,
    "point-navigation": PointNavigation,
    "sparse-point-navigation": SparsePointNavigation,
    "point-navigation-corners": PointNavigationCorners,
    "cartpole": CartPole,
    "pendulum": Pendulum,
    "acrobot": Acrobot,
    "mountain-car": MountainCar,
    "hopper": Hopper,
    "half-cheetah": HalfCheetah,
    "half-cheetah-direction": HalfCheetahDirection,
    "half-cheetah-velocity": HalfCheetahVelocity,
    "ant-direction": AntDirection,
    "ant-velocity": AntVelocity,
    "ant-goal": AntGoal,
    "sinusoid": Sinusoid,
    "polynomial": Polynomial,
    "regression-control": RegressionControl,
    "xland": XLandMiniGrid,
}
"""Name of every known task family."""

# A file may be read by a process that registered nothing of its own, so only these names
# are written to files; see `builtin_name`.
_BUILTIN = {cls: name for name, cls in (ALGORITHMS | FAMILIES).items()}

Class = TypeVar("Class", bound=type)


def register_algorithm(name: str, cls: type[Algorithm]) -> None:
    """Makes an algorithm known under a short name, in this process.

    At the command line ``--import MODULE`` runs the module that calls this.

    Args:
        name: Lower-case words joined by hyphens.
        cls: A frozen dataclass.

    Raises:
        ConfigError: If the name is taken by another class, or this is no class of an algorithm.
    """
    _register(ALGORITHMS, name, cls, Algorithm)


def register_family(name: str, cls: type[Family]) -> None:
    """Makes a task family known under a short name; see `register_algorithm`."""
    _register(FAMILIES, name, cls, Family)


def find_algorithm(name: str, methods: Collection[str] = ()) -> type[Algorithm]:
    """Returns the algorithm of this name.

    Args:
        name: A registered name, that of an entry point ``jaxmeta.algorithms``, or
            ``module:Class``, which is imported.
        methods: Other names, to be listed too.

    Raises:
        ConfigError: If there is none, or it cannot be imported; it lists the names.
    """
    return _find(ALGORITHMS, "algorithm", name, Algorithm, methods)


def find_family(name: str) -> type[Family]:
    """Returns the task family of this name; see `find_algorithm`."""
    return _find(FAMILIES, "family", name, Family)


def algorithm_names() -> tuple[str, ...]:
    """Returns all names of algorithms, those that installed packages declare last."""
    return _names(ALGORITHMS, "algorithm")


def family_names() -> tuple[str, ...]:
    """Returns all names of task families, those that installed packages declare last."""
    return _names(FAMILIES, "family")


def builtin_name(cls: type) -> str | None:
    """Returns the name under which files mention a class of this library, or None."""
    return _BUILTIN.get(cls)


def _register(known: dict[str, Class], name: str, cls: Class, base: type) -> None:
    require(isinstance(name, str) and name != "", "name", name, "text")
    _check_class(name, cls, cls, base)
    # A module or a cell of a notebook may run again, and define the same class anew.
    paths = {(other.__module__, other.__qualname__) for other in (known.get(name, cls), cls)}
    require(len(paths) == 1, "name", name, f"one not yet taken by {known.get(name)}")
    known[name] = cls


def _names(known: dict[str, Class], field: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*known, *importing.entry_points(field)]))


def _find(
    known: dict[str, Class], field: str, name: str, base: type, others: Collection[str] = ()
) -> Class:
    if name in known:
        return known[name]
    if ":" in name:
        found = importing.find_named(field, name)
    elif name in importing.entry_points(field):
        found = importing.load_entry_point(field, name)
    else:
        names = sorted({*_names(known, field), *others})
        raise ConfigError(
            f"{field} is {name!r}; it must be one of {', '.join(names)}, or module:Class"
            f"{closest(name, names)}"
        )
    _check_class(field, name, found, base)
    return found


def _check_class(field: str, value: Any, cls: Any, base: type) -> None:
    text = f"a {base.__name__} class, a frozen dataclass"
    kind = isinstance(cls, type) and issubclass(cls, base)
    frozen = getattr(getattr(cls, "__dataclass_params__", None), "frozen", False)
    require(kind and frozen, field, value, text)
    lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
    require(not lacking, field, value, f"{text}, with all its methods: it lacks {lacking}")
