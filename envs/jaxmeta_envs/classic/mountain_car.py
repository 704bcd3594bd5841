"""The mountain car with unknown engine and gravity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from jaxmeta_envs.classic.controllers import control_references
from jaxmeta_envs.classic.family import ClassicControl, System
from jaxmeta_envs.classic.mountain_car_physics import (
    FLAG,
    LEFT_END,
    RIGHT_END,
    STANDARD,
    SYSTEM,
    MountainCarTask,
)
from jaxmeta_envs.classic.mountain_car_references import design, rock
from jaxmeta_envs.core import drawings
from jaxmeta_envs.core.contracts import Reference, Trajectory
from jaxmeta_envs.core.spaces import Box


@dataclass(frozen=True)
class MountainCar(ClassicControl[MountainCarTask]):
    """MountainCarContinuous-v0 with random engine power and gravity.

    A car in a valley must get up to the flag on the right with an engine that is weaker
    than gravity: it has to rock back and forth. It observes position and velocity; the
    action, ``[1]``, is the throttle in [-1, 1]. A step costs 0.1 throttle², and the flag,
    which terminates the episode, is rewarded by 100; the clock truncates it.

    Dynamics and reward are those of Gymnasium, but that a throttle out of bounds is clipped
    before it is paid for, too.

    The parameters are independent of each other and uniform. The speed is at most 0.07: to
    arrive, a car needs about ``power > 0.68 gravity - 0.0025``, which all cars of "train"
    fulfil and some of the weak ones under the strongest gravity of "wide" do not. On 1,000
    tasks the oracle earns 98.76 ± 0.03 and always arrives, the reference "fixed" 87.1 ± 2.0
    (88.5 % arrive) and chance -32.4; on "wide" the two earn 74.8 ± 3.7 and 48.0 ± 3.3, on
    "heavy" 95.5 ± 0.4 and 3.6 ± 1.5, on "light" 99.6 and 99.3 (95 %).

    Splits:
        train, test: The given ranges.
        wide: Ranges that begin at half their lower end and go to twice their upper end.
        heavy: Cars of up to twice the largest mass with the same engines: power between
            half and once the lower end of its range. The mass does not matter to gravity.
        light: Cars from half the smallest mass on: power between once and twice the upper
            end of its range.

    Attributes:
        episode_length: Longest episode.
        num_episodes: Episodes per trial.
        power: Lowest and highest acceleration by the engine.
        gravity: Lowest and highest acceleration by gravity.

    Reference:
        Moore (1990), "Efficient memory-based learning for robot control", for the problem.
    """

    system: ClassVar[System] = SYSTEM
    standard: ClassVar[MountainCarTask] = STANDARD
    falls_with_mass: ClassVar[tuple[str, ...]] = ("power",)

    episode_length: int = 999
    power: tuple[float, float] = (0.001, 0.002)
    gravity: tuple[float, float] = (0.0015, 0.0035)

    @property
    def observation_space(self) -> Box:
        return Box(LEFT_END, RIGHT_END, (2,))

    @property
    def action_space(self) -> Box:
        return Box(-1.0, 1.0, (1,))

    def draw(self, axes: Any, task: MountainCarTask, played: Trajectory, until: int) -> None:
        del task

        def place(position: np.ndarray) -> np.ndarray:
            return np.stack([position, 0.45 * np.sin(3.0 * position) + 0.55], axis=-1)

        track = place(np.linspace(LEFT_END, RIGHT_END, 100))
        axes.plot(track[:, 0], track[:, 1], color=drawings.FAINT, linewidth=1.0)
        flag = place(np.array(FLAG))
        drawings.paths(axes, played, until, flag, lambda obs: place(obs[:, 0]))

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns "random", "oracle" and "fixed".

        The oracle opens the throttle in proportion to the velocity, just so far that the
        swing of the task's own car grows to the flag in time; "fixed" does so as if every
        car were that of MountainCarContinuous-v0.
        """
        del num_episodes
        return control_references(self.action_space, design, rock, STANDARD)
