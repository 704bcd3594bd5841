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
from jaxmeta_envs.cartpole import CartPole, CartPoleTask
from jaxmeta_envs.errors import ConfigError
from jaxmeta_envs.gridworld import GridNavigation
from jaxmeta_envs.gymnax_adapter import GymnaxFamily, from_gymnax
from jaxmeta_envs.physics import TruncatedNormal, Uniform
from jaxmeta_envs.spaces import Box, Discrete, Space
from jaxmeta_envs.tabular import TabularMDP
from jaxmeta_envs.xland import XLandMiniGrid

__all__ = [
    "AdaptivePolicy",
    "BernoulliBandit",
    "Box",
    "CartPole",
    "CartPoleTask",
    "ConfigError",
    "Discrete",
    "GaussianBandit",
    "GridNavigation",
    "GymnaxFamily",
    "PolicyInput",
    "Reference",
    "Space",
    "TabularMDP",
    "TaskFamily",
    "Timestep",
    "Trajectory",
    "TruncatedNormal",
    "Uniform",
    "XLandMiniGrid",
    "from_gymnax",
]
