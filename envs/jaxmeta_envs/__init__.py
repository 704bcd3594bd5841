"""Task families: distributions over environments, the task an argument of every step."""

from jaxmeta_envs.base import (
    AdaptivePolicy,
    PolicyInput,
    Reference,
    TaskFamily,
    Timestep,
    Trajectory,
)
from jaxmeta_envs.errors import ConfigError
from jaxmeta_envs.spaces import Box, Discrete, Space

__all__ = [
    "AdaptivePolicy",
    "Box",
    "ConfigError",
    "Discrete",
    "PolicyInput",
    "Reference",
    "Space",
    "TaskFamily",
    "Timestep",
    "Trajectory",
]
