"""Task families: distributions over environments, the task an argument of every step."""

from jaxmeta_envs.bandits import BernoulliBandit, GaussianBandit
from jaxmeta_envs.base import (
    AdaptivePolicy,
    PolicyInput,
    Reference,
    TaskFamily,
    Timestep,
    Trajectory,
)
from jaxmeta_envs.correlated_bandit import CorrelatedBandit
from jaxmeta_envs.errors import ConfigError
from jaxmeta_envs.gridworld import GridNavigation
from jaxmeta_envs.informative_bandit import InformativeBandit
from jaxmeta_envs.restless_bandit import RestlessBandit
from jaxmeta_envs.spaces import Box, Discrete, Space
from jaxmeta_envs.tabular import TabularMDP
from jaxmeta_envs.two_step import TwoStep
from jaxmeta_envs.two_step_analysis import StayCounts, count_stays

__all__ = [
    "AdaptivePolicy",
    "BernoulliBandit",
    "Box",
    "ConfigError",
    "CorrelatedBandit",
    "Discrete",
    "GaussianBandit",
    "GridNavigation",
    "InformativeBandit",
    "PolicyInput",
    "Reference",
    "RestlessBandit",
    "Space",
    "StayCounts",
    "TabularMDP",
    "TaskFamily",
    "Timestep",
    "Trajectory",
    "TwoStep",
    "count_stays",
]
