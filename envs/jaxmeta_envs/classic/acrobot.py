"""The acrobot with unknown physics."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import numpy as np

from jaxmeta_envs.classic.acrobot_physics import MAX_SPEEDS, STANDARD, SYSTEM, AcrobotTask
from jaxmeta_envs.classic.acrobot_references import look_ahead
from jaxmeta_envs.classic.controllers import control_references
from jaxmeta_envs.classic.family import ClassicControl, System
from jaxmeta_envs.core import drawings
from jaxmeta_envs.core.contracts import Reference, Trajectory
from jaxmeta_envs.core.spaces import Box, Discrete


@dataclass(frozen=True)
class Acrobot(ClassicControl[AcrobotTask]):
    """Acrobot-v1 with random lengths, masses and moment of inertia.

    Two links hang from a bar, with a motor only at the joint between them: to swing up, they
    must be set in motion together. It observes cosine and sine of the upper link's angle
    from the vertical, of the lower link's angle from the upper one, and both angular
    velocities (rad/s, at most 4π and 9π). An action is a torque of -1, 0 or 1 N m, five
    times a second. Every step costs 1 but the last, which terminates the episode: there the
    sum of the two links' heights, each in lengths of its own, is above 1. The clock
    truncates it.

    Dynamics and reward are those of Gymnasium, which keeps centres of mass and lengths apart:
    here the centres follow the lengths, and that of the lower link acts through its centre of
    mass alone. The moment of inertia is a parameter of its own: it follows neither length nor
    mass, and "heavy" and "light" leave it alone.

    The parameters are independent of each other and uniform, by default within a quarter of
    their value in Acrobot-v1; observations tell all of them. On 400 tasks the oracle earns
    -70.2 ± 1.5, the reference "fixed" -86.0 ± 2.3 and chance -498; on "wide" the two earn
    -149 ± 8 and -251 ± 15, on "heavy" -101 ± 2 and -190 ± 9, on "light" -57 ± 2 and
    -66 ± 3 (95 %).

    Splits:
        train, test: The given ranges.
        wide: Ranges that begin at half their lower end and go to twice their upper end.
        heavy: Masses between once and twice the upper end of their ranges.
        light: Masses between half and once the lower end of their ranges.

    Attributes:
        episode_length: Longest episode.
        num_episodes: Episodes per trial.
        length_1: Lowest and highest length of the upper link, m.
        length_2: Lowest and highest length of the lower link, m.
        mass_1: Lowest and highest mass of the upper link, kg.
        mass_2: Lowest and highest mass of the lower link, kg.
        inertia: Lowest and highest moment of inertia of each link, kg m².

    Reference:
        Sutton (1996), "Generalization in reinforcement learning: successful examples using
        sparse coarse coding", for the problem. Packer et al. (2018), "Assessing
        generalization in deep reinforcement learning", for the ranges.
    """

    system: ClassVar[System] = SYSTEM
    standard: ClassVar[AcrobotTask] = STANDARD
    units: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"length_1": "m", "length_2": "m", "mass_1": "kg", "mass_2": "kg", "inertia": "kg m²"}
    )
    grows_with_mass: ClassVar[tuple[str, ...]] = ("mass_1", "mass_2")

    episode_length: int = 500
    length_1: tuple[float, float] = (0.75, 1.25)
    length_2: tuple[float, float] = (0.75, 1.25)
    mass_1: tuple[float, float] = (0.75, 1.25)
    mass_2: tuple[float, float] = (0.75, 1.25)
    inertia: tuple[float, float] = (0.75, 1.25)

    @property
    def observation_space(self) -> Box:
        return Box(-max(MAX_SPEEDS), max(MAX_SPEEDS), (6,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(3)

    def draw(self, axes: Any, task: AcrobotTask, played: Trajectory, until: int) -> None:
        lengths = np.array([task.length_1, task.length_2], np.float64)

        def links(obs: Any) -> np.ndarray:
            angles = np.cumsum(np.arctan2(obs[[1, 3]], obs[[0, 2]]))  # from hanging down
            bones = lengths[:, None] * np.stack([np.sin(angles), -np.cos(angles)], axis=1)
            return np.concatenate([np.zeros((1, 2)), np.cumsum(bones, axis=0)])

        drawings.poses(axes, jax.tree.map(lambda x: x[0], played), until, links)
        reach = 1.1 * lengths.sum()
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.set_xlabel("metres")

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns "random", "oracle" and "fixed".

        The oracle simulates the task's own acrobot three seconds ahead to see which torque
        brings it up soonest, or else gives it most energy; "fixed" simulates that of
        Acrobot-v1, whatever the task. Both simulate 32 steps for every one that they play.
        """
        del num_episodes
        control = functools.partial(look_ahead, self.predict)
        return control_references(self.action_space, lambda task: task, control, STANDARD)
