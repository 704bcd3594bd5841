"""The cart-pole with unknown physics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import jax

from jaxmeta_envs.classic.cartpole_physics import STANDARD, SYSTEM, CartPoleTask
from jaxmeta_envs.classic.cartpole_references import push_side, regulator_gain
from jaxmeta_envs.classic.controllers import control_references
from jaxmeta_envs.classic.family import ClassicControl, System
from jaxmeta_envs.core import drawings
from jaxmeta_envs.core.contracts import Reference, Trajectory
from jaxmeta_envs.core.spaces import Box, Discrete


@dataclass(frozen=True)
class CartPole(ClassicControl[CartPoleTask]):
    """CartPole-v1 with random gravity, masses, pole length and force.

    A pole stands on a cart that is pushed left (0) or right (1), 50 times a second. It
    observes position, velocity, angle and angular velocity (m, m/s, rad, rad/s). Every step
    is rewarded by 1, and the episode terminates when the pole leans more than 12° or the
    cart is more than 2.4 m away; the clock truncates it. Dynamics and
    reward are those of Gymnasium.

    The parameters are independent of each other and uniform, by default between half and
    twice their value in CartPole-v1. There the task asks for robustness more than for
    adaptation: of 500, the regulator of CartPole-v1 itself, the reference "fixed", earns
    498.4 ± 0.8 without adapting, and the oracle 500. On "wide" they earn 258 ± 7 and
    497 ± 1. Observations tell the masses and the force only up to a common factor.

    Splits:
        train, test: The given ranges.
        wide: Ranges that begin at half their lower end and go to twice their upper end.
        heavy: Masses between once and twice the upper end of their ranges.
        light: Masses between half and once the lower end of their ranges.

    Attributes:
        episode_length: Longest episode, which is also the highest return.
        num_episodes: Episodes per trial.
        gravity: Lowest and highest gravity, m/s².
        cart_mass: Lowest and highest mass of the cart, kg.
        pole_mass: Lowest and highest mass of the pole, kg.
        half_length: Lowest and highest half length of the pole, m.
        force: Lowest and highest force of a push, N.

    Reference:
        Barto, Sutton & Anderson (1983), "Neuronlike adaptive elements that can solve
        difficult learning control problems", for the cart-pole.
    """

    units: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "gravity": "m/s²",
            "cart_mass": "kg",
            "pole_mass": "kg",
            "half_length": "m",
            "force": "N",
        }
    )
    system: ClassVar[System] = SYSTEM
    standard: ClassVar[CartPoleTask] = STANDARD
    grows_with_mass: ClassVar[tuple[str, ...]] = ("cart_mass", "pole_mass")

    episode_length: int = 500
    gravity: tuple[float, float] = (4.9, 19.6)
    cart_mass: tuple[float, float] = (0.5, 2.0)
    pole_mass: tuple[float, float] = (0.05, 0.2)
    half_length: tuple[float, float] = (0.25, 1.0)
    force: tuple[float, float] = (5.0, 20.0)

    @property
    def observation_space(self) -> Box:
        return Box(-math.inf, math.inf, (4,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    def draw(self, axes: Any, task: CartPoleTask, played: Trajectory, until: int) -> None:
        length = 2.0 * float(task.half_length)

        def pole(obs: Any) -> list:
            tip = (obs[0] + length * math.sin(obs[2]), length * math.cos(obs[2]))
            return [(obs[0], 0.0), tip]

        drawings.poses(axes, jax.tree.map(lambda x: x[0], played), until, pole)
        axes.axhline(0.0, color="black", linewidth=0.8)
        axes.set_xlim(-2.6, 2.6)
        axes.set_ylim(-0.6, max(1.2, 1.1 * length))
        axes.set_xlabel("metres")

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns "random", "oracle" and "fixed".

        The oracle is the linear-quadratic regulator of the task's own parameters; "fixed"
        that of CartPole-v1, whatever the task. Both push with full force to the side that
        the regulator asks for.
        """
        del num_episodes
        return control_references(self.action_space, regulator_gain, push_side, STANDARD)
