"""The pendulum swing-up with unknown physics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import jax

from jaxmeta_envs.classic.controllers import control_references
from jaxmeta_envs.classic.family import ClassicControl, System
from jaxmeta_envs.classic.pendulum_physics import (
    MAX_SPEED,
    MAX_TORQUE,
    STANDARD,
    SYSTEM,
    PendulumTask,
)
from jaxmeta_envs.classic.pendulum_references import design, swing_up
from jaxmeta_envs.core import drawings
from jaxmeta_envs.core.contracts import Reference, Trajectory
from jaxmeta_envs.core.spaces import Box


@dataclass(frozen=True)
class Pendulum(ClassicControl[PendulumTask]):
    """Pendulum-v1 with random gravity, mass and length.

    A rod hangs from a motor that is too weak to lift it in one go: it must be swung up and
    then balanced. It observes the cosine and sine of its angle from upright and its angular
    velocity (rad/s, at most 8); the action, ``[1]``, is the torque in [-2, 2] N m, 20 times
    a second. Every step costs angle² + 0.1 velocity² + 0.001 torque², of the state before
    it. Nothing ends an episode but the clock, which truncates it. Dynamics and reward are
    those of Gymnasium.

    The parameters are independent of each other and uniform, by default within a quarter of
    their value in Pendulum-v1. What moves depends on them only through gravity / length and
    mass · length²: observations tell two of the three, and all of them only once one is
    known, such as gravity by a narrow range.

    On 1,000 tasks the oracle earns -158 ± 6, the reference "fixed" -160 ± 6 and chance -1259:
    as on the cart-pole, training ranges ask for robustness more than for adaptation. On
    "wide" the two earn -645 ± 35 and -873 ± 32, on "heavy" -257 ± 12 and -412 ± 22, on
    "light" -103 ± 4 and -109 ± 4 (95 %).

    Splits:
        train, test: The given ranges.
        wide: Ranges that begin at half their lower end and go to twice their upper end.
        heavy: Masses between once and twice the upper end of their range.
        light: Masses between half and once the lower end of their range.

    Attributes:
        episode_length: Length of an episode.
        num_episodes: Episodes per trial.
        gravity: Lowest and highest gravity, m/s².
        mass: Lowest and highest mass, kg.
        length: Lowest and highest length, m.

    Reference:
        Packer et al. (2018), "Assessing generalization in deep reinforcement learning", for
        the ranges of mass and length.
    """

    system: ClassVar[System] = SYSTEM
    standard: ClassVar[PendulumTask] = STANDARD
    units: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"gravity": "m/s²", "mass": "kg", "length": "m"}
    )
    grows_with_mass: ClassVar[tuple[str, ...]] = ("mass",)

    gravity: tuple[float, float] = (7.5, 12.5)
    mass: tuple[float, float] = (0.75, 1.25)
    length: tuple[float, float] = (0.75, 1.25)

    @property
    def observation_space(self) -> Box:
        return Box(-MAX_SPEED, MAX_SPEED, (3,))

    @property
    def action_space(self) -> Box:
        return Box(-MAX_TORQUE, MAX_TORQUE, (1,))

    def draw(self, axes: Any, task: PendulumTask, played: Trajectory, until: int) -> None:
        length = float(task.length)

        def rod(obs: Any) -> list:
            return [(0.0, 0.0), (length * obs[1], length * obs[0])]

        drawings.poses(axes, jax.tree.map(lambda x: x[0], played), until, rod)
        axes.set_xlim(-1.2 * length, 1.2 * length)
        axes.set_ylim(-1.2 * length, 1.2 * length)
        axes.set_xlabel("metres")

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns "random", "oracle" and "fixed".

        The oracle swings the task's own pendulum up by its energy and catches it with its
        linear-quadratic regulator; "fixed" does so as if every pendulum were that of
        Pendulum-v1.
        """
        del num_episodes
        return control_references(self.action_space, design, swing_up, STANDARD)
