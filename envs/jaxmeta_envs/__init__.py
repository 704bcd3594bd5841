"""Task families: distributions over environments, the task an argument of every step."""

from jaxmeta_envs.acrobot import Acrobot, AcrobotTask
from jaxmeta_envs.bandits import BernoulliBandit, GaussianBandit
from jaxmeta_envs.base import (
    AdaptivePolicy,
    PolicyInput,
    Reference,
    TaskFamily,
    Timestep,
    Trajectory,
    random_reference,
)
from jaxmeta_envs.bodies import Body, BodyFamily
from jaxmeta_envs.body_physics import BodyTask
from jaxmeta_envs.cartpole import CartPole, CartPoleTask
from jaxmeta_envs.classic_control import ClassicControl
from jaxmeta_envs.composite_spaces import Dict, Tuple
from jaxmeta_envs.correlated_bandit import CorrelatedBandit
from jaxmeta_envs.errors import ConfigError
from jaxmeta_envs.gridworld import GridNavigation
from jaxmeta_envs.gymnax_adapter import GymnaxFamily, from_gymnax
from jaxmeta_envs.informative_bandit import InformativeBandit
from jaxmeta_envs.locomotion import HalfCheetah, Hopper
from jaxmeta_envs.locomotion_goals import (
    AntDirection,
    AntGoal,
    AntVelocity,
    HalfCheetahDirection,
    HalfCheetahVelocity,
)
from jaxmeta_envs.mountain_car import MountainCar, MountainCarTask
from jaxmeta_envs.pendulum import Pendulum, PendulumTask
from jaxmeta_envs.physical import PhysicalFamily
from jaxmeta_envs.physics import TruncatedNormal, Uniform
from jaxmeta_envs.point_navigation import (
    PointNavigation,
    PointNavigationCorners,
    SparsePointNavigation,
)
from jaxmeta_envs.regression import Polynomial, Sinusoid
from jaxmeta_envs.regression_control import RegressionControl
from jaxmeta_envs.restless_bandit import RestlessBandit
from jaxmeta_envs.score import ACCURACY, LOSS, RETURN, Score
from jaxmeta_envs.spaces import ArraySpace, Box, Discrete, MultiDiscrete, Space
from jaxmeta_envs.supervised import (
    AdaptiveModel,
    ClassificationFamily,
    Examples,
    FunctionFamily,
    SupervisedFamily,
)
from jaxmeta_envs.t_maze import TMaze
from jaxmeta_envs.tabular import TabularMDP
from jaxmeta_envs.two_step import TwoStep
from jaxmeta_envs.two_step_analysis import StayCounts, count_stays
from jaxmeta_envs.xland import XLandMiniGrid

__all__ = [
    "ACCURACY",
    "LOSS",
    "RETURN",
    "Acrobot",
    "AcrobotTask",
    "AdaptiveModel",
    "AdaptivePolicy",
    "AntDirection",
    "AntGoal",
    "AntVelocity",
    "ArraySpace",
    "BernoulliBandit",
    "Body",
    "BodyFamily",
    "BodyTask",
    "Box",
    "CartPole",
    "CartPoleTask",
    "ClassicControl",
    "ClassificationFamily",
    "ConfigError",
    "CorrelatedBandit",
    "Dict",
    "Discrete",
    "Examples",
    "FunctionFamily",
    "GaussianBandit",
    "GridNavigation",
    "GymnaxFamily",
    "HalfCheetah",
    "HalfCheetahDirection",
    "HalfCheetahVelocity",
    "Hopper",
    "InformativeBandit",
    "MountainCar",
    "MountainCarTask",
    "MultiDiscrete",
    "Pendulum",
    "PendulumTask",
    "PhysicalFamily",
    "PointNavigation",
    "PointNavigationCorners",
    "PolicyInput",
    "Polynomial",
    "Reference",
    "RegressionControl",
    "RestlessBandit",
    "Score",
    "Sinusoid",
    "Space",
    "SparsePointNavigation",
    "StayCounts",
    "SupervisedFamily",
    "TMaze",
    "TabularMDP",
    "TaskFamily",
    "Timestep",
    "Trajectory",
    "TruncatedNormal",
    "Tuple",
    "TwoStep",
    "Uniform",
    "XLandMiniGrid",
    "count_stays",
    "from_gymnax",
    "random_reference",
]
