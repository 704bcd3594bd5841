"""Task families: distributions over environments, the task an argument of every step."""

from jaxmeta_envs.bandits.correlated import CorrelatedBandit
from jaxmeta_envs.bandits.independent import BernoulliBandit, GaussianBandit
from jaxmeta_envs.bandits.informative import InformativeBandit
from jaxmeta_envs.bandits.restless import RestlessBandit
from jaxmeta_envs.classic.acrobot import Acrobot, AcrobotTask
from jaxmeta_envs.classic.cartpole import CartPole, CartPoleTask
from jaxmeta_envs.classic.family import ClassicControl
from jaxmeta_envs.classic.mountain_car import MountainCar, MountainCarTask
from jaxmeta_envs.classic.pendulum import Pendulum, PendulumTask
from jaxmeta_envs.core.composite_spaces import Dict, Tuple
from jaxmeta_envs.core.contracts import (
    AdaptivePolicy,
    PolicyInput,
    Reference,
    TaskFamily,
    Timestep,
    Trajectory,
    random_reference,
)
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.core.physical import PhysicalFamily
from jaxmeta_envs.core.score import ACCURACY, LOSS, RETURN, Score
from jaxmeta_envs.core.spaces import ArraySpace, Box, Discrete, MultiDiscrete, Space
from jaxmeta_envs.core.supervised import (
    AdaptiveModel,
    ClassificationFamily,
    Examples,
    FunctionFamily,
    SupervisedFamily,
)
from jaxmeta_envs.grids.gridworld import GridNavigation
from jaxmeta_envs.interop.gymnax import GymnaxFamily, from_gymnax
from jaxmeta_envs.interop.xland import XLandMiniGrid
from jaxmeta_envs.mujoco.bodies import Body, BodyFamily
from jaxmeta_envs.mujoco.goals import (
    AntDirection,
    AntGoal,
    AntVelocity,
    HalfCheetahDirection,
    HalfCheetahVelocity,
)
from jaxmeta_envs.mujoco.locomotion import HalfCheetah, Hopper
from jaxmeta_envs.mujoco.physics import BodyTask
from jaxmeta_envs.points.navigation import (
    PointNavigation,
    PointNavigationCorners,
    SparsePointNavigation,
)
from jaxmeta_envs.random.distributions import TruncatedNormal, Uniform
from jaxmeta_envs.regression.control import RegressionControl
from jaxmeta_envs.regression.functions import Polynomial, Sinusoid
from jaxmeta_envs.tabular.mdp import TabularMDP
from jaxmeta_envs.tabular.t_maze import TMaze
from jaxmeta_envs.tabular.two_step import TwoStep
from jaxmeta_envs.tabular.two_step_analysis import StayCounts, count_stays

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
