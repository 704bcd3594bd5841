"""The mountain car with unknown engine and gravity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs import drawings
from jaxmeta_envs.base import Reference, Trajectory
from jaxmeta_envs.controllers import control_references
from jaxmeta_envs.gymnax_adapter import find_environment
from jaxmeta_envs.gymnax_physics import GymnaxPhysics
from jaxmeta_envs.mountain_car_references import design, rock
from jaxmeta_envs.spaces import Box


class MountainCarTask(NamedTuple):
    """The physical parameters of a mountain car, float32 scalars.

    The track has no units but its own: one step is the unit of time.

    Attributes:
        power: Acceleration by the engine at full throttle: its force over the car's mass.
        gravity: Acceleration where the slope is steepest.
    """

    power: Any
    gravity: Any


STANDARD = MountainCarTask(power=0.0015, gravity=0.0025)
"""The parameters of MountainCarContinuous-v0."""


class WalledTrack(NamedTuple):
    """gymnax's mountain car with a wall that stops it.

    gymnax holds the car at the left end of the track but lets it keep its speed, with which
    the engine then has to deal; in Gymnasium the wall takes it.

    Attributes:
        env: gymnax's environment.
    """

    env: Any

    @property
    def default_params(self) -> Any:
        return self.env.default_params

    @property
    def supports_transition_gradients(self) -> bool:
        return self.env.supports_transition_gradients

    def with_transition_gradients(self) -> WalledTrack:
        """Returns the same environment, differentiable."""
        return WalledTrack(self.env.with_transition_gradients())

    def reset_env(self, key: Array, params: Any) -> tuple[Array, Any]:
        return self.env.reset_env(key, params)

    def step_env(self, key: Array, state: Any, action: Array, params: Any) -> tuple[Any, ...]:
        _, state, *others = self.env.step_env(key, state, action, params)
        stopped = (state.position <= params.min_position) & (state.velocity < 0)
        state = state.replace(velocity=jnp.where(stopped, 0.0, state.velocity))
        return (self.env.get_obs(state), state, *others)


@dataclass(frozen=True)
class MountainCar(GymnaxPhysics[MountainCarTask]):
    """MountainCarContinuous-v0 with random engine power and gravity.

    A car in a valley must get up to the flag on the right with an engine that is weaker
    than gravity: it has to rock back and forth. It observes position and velocity; the
    action, ``[1]``, is the throttle in [-1, 1]. A step costs 0.1 throttle², and the flag,
    which terminates the episode, is rewarded by 100; the clock truncates it.

    Dynamics and reward are those of gymnax, but for its left wall, and equal to those of
    Gymnasium, but that a throttle out of bounds is clipped before it is paid for, too.

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

    standard: ClassVar[MountainCarTask] = STANDARD
    falls_with_mass: ClassVar[tuple[str, ...]] = ("power",)

    episode_length: int = 999
    power: tuple[float, float] = (0.001, 0.002)
    gravity: tuple[float, float] = (0.0015, 0.0035)

    @property
    def observation_space(self) -> Box:
        return Box(-1.2, 0.6, (2,))

    @property
    def action_space(self) -> Box:
        return Box(-1.0, 1.0, (1,))

    def environment(self) -> Any:
        return WalledTrack(find_environment("MountainCarContinuous-v0"))

    def env_params(self, task: MountainCarTask) -> Any:
        return self.environment().default_params.replace(
            power=task.power, gravity=task.gravity, max_steps_in_episode=self.horizon
        )

    def env_state(self, obs: Array) -> Mapping[str, Array]:
        return {"position": obs[0], "velocity": obs[1]}

    def draw(self, axes: Any, task: MountainCarTask, played: Trajectory, until: int) -> None:
        del task

        def place(position: np.ndarray) -> np.ndarray:
            return np.stack([position, 0.45 * np.sin(3.0 * position) + 0.55], axis=-1)

        track = place(np.linspace(-1.2, 0.6, 100))
        axes.plot(track[:, 0], track[:, 1], color=drawings.FAINT, linewidth=1.0)
        flag = place(np.array(0.45))
        drawings.paths(axes, played, until, flag, lambda obs: place(obs[:, 0]))

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns "random", "oracle" and "fixed".

        The oracle opens the throttle in proportion to the velocity, just so far that the
        swing of the task's own car grows to the flag in time; "fixed" does so as if every
        car were that of MountainCarContinuous-v0.
        """
        del num_episodes
        return control_references(self.action_space, design, rock, STANDARD)
