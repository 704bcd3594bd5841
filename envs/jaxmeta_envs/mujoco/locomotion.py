"""Hopper and half-cheetah with unknown physics.

Differs from Gymnasium's environments: the simulator is MJX in float32, and actions out of
bounds are clipped before they are paid for. One step from the same state differs in velocities
by about 1e-4 (m/s, rad/s) or less in 99 of 100 cases. The hopper stays within 5e-4 for a hundred
steps of random actions; the cheetah's contacts amplify every rounding, in Gymnasium's engine
too, so that after fifty steps it is elsewhere.

MJX is made for accelerators. On one CPU core, with 128 tasks, the hopper makes some 2,700 steps
a second and the cheetah 4,400, whether parameters differ between tasks or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.mujoco.bodies import Body, BodyState
from jaxmeta_envs.mujoco.physics import BodyTask, Normal, RandomPhysics

HOPPER = Body(
    file="hopper.xml",
    frame_skip=4,
    num_positions=6,
    num_velocities=6,
    num_actions=3,
    noise=5e-3,
    velocity_limit=10.0,
)
HALF_CHEETAH = Body(
    file="half_cheetah.xml",
    frame_skip=5,
    num_positions=9,
    num_velocities=9,
    num_actions=6,
    noise=0.1,
    normal_velocities=True,
)


@dataclass(frozen=True)
class Hopper(RandomPhysics):
    """Hopper-v5 with random torso mass, friction, damping and armature, on MuJoCo MJX.

    A torso on one leg hops forward, 125 actions a second, each a torque at hip, knee and
    ankle. It observes height, the four angles and all six velocities (m, rad, m/s, rad/s),
    the latter clipped to ±10. Every step is rewarded by the speed forward (m/s), by 1 while
    the hopper is healthy, and costs 0.001 times the squared action. Healthy means: torso
    above 0.7 m, leaning by less than 0.2 rad, and no coordinate beyond ±100; else the
    episode terminates. The clock truncates it.

    The parameters are independent of each other, each normal within bounds. How a
    parameter enters the model is said at `RandomPhysics`. Gymnasium's own are 3.665, 2, 1, 1.

    Splits:
        train, test: The given distributions.
        wide: Uniform between half the lower and twice the upper bounds.
        heavy: The torso's distribution stretched to between once and twice its upper bound.
        light: The torso's distribution stretched to between half and once its lower bound.

    Attributes:
        episode_length: Longest episode, in steps.
        num_episodes: Episodes per trial: 1, as EPOpt's policies are judged without adapting.
        torso_mass: Mean, standard deviation, lower and upper bound, kg.
        ground_friction: The same for the friction of the foot on the ground.
        joint_damping: The same for the damping of every joint, N·m·s/rad.
        armature: The same for the rotor inertia of every motor, kg·m².

    Reference:
        Rajeswaran et al. (2017), "EPOpt: learning robust neural network policies using
        model ensembles", Table 1. Unconfirmed: the distributions were taken from secondary
        notes, and neither the table nor how the parameters entered the model was at hand.
        The authors' later code, robustRL, changes mass and shape of the torso together;
        here the shape stays.
    """

    body: ClassVar[Body] = HOPPER
    nominal: ClassVar[BodyTask] = BodyTask(3.6651914, 2.0, 1.0, 1.0)

    torso_mass: Normal = (6.0, 1.5, 3.0, 9.0)
    ground_friction: Normal = (2.0, 0.25, 1.5, 2.5)
    joint_damping: Normal = (2.5, 1.0, 1.0, 4.0)
    armature: Normal = (1.0, 0.25, 0.5, 1.5)

    def outcome(
        self, before: BodyState, after: BodyState, action: Array, task: BodyTask
    ) -> tuple[Array, Array]:
        del task
        speed = (after.positions[0] - before.positions[0]) / self.body.step_seconds
        height, angle = after.positions[1], after.positions[2]
        state = jnp.concatenate([after.positions[2:], after.velocities])
        healthy = (height > 0.7) & (jnp.abs(angle) < 0.2) & jnp.all(jnp.abs(state) < 100.0)
        return speed + healthy - 1e-3 * jnp.sum(action**2), ~healthy


@dataclass(frozen=True)
class HalfCheetah(RandomPhysics):
    """HalfCheetah-v5 with random torso mass, friction, damping and armature, on MuJoCo MJX.

    A planar animal with two legs runs forward, 20 actions a second, each six torques. It
    observes height, the seven angles and all nine velocities (m, rad, m/s, rad/s). Every
    step is rewarded by the speed forward (m/s) and costs 0.1 times the squared action.
    Nothing terminates an episode; the clock truncates it.

    The parameters are independent of each other, each normal within bounds. How a
    parameter enters the model is said at `RandomPhysics`. Gymnasium's own are 6.25, 0.4,
    1.5, 0.1: its joints are damped by 1.5 (front foot) to 6 (back thigh), and the parameter
    is the damping of the front foot, to which the others keep their proportion.

    Splits:
        train, test: The given distributions.
        wide: Uniform between half the lower and twice the upper bounds.
        heavy: The torso's distribution stretched to between once and twice its upper bound.
        light: The torso's distribution stretched to between half and once its lower bound.

    Attributes:
        episode_length: Longest episode, in steps.
        num_episodes: Episodes per trial: 1, as EPOpt's policies are judged without adapting.
        torso_mass: Mean, standard deviation, lower and upper bound, kg.
        ground_friction: The same for the friction on the ground.
        joint_damping: The same for the damping of the front foot's joint, N·m·s/rad.
        armature: The same for the rotor inertia of every motor, kg·m².

    Reference:
        Rajeswaran et al. (2017), "EPOpt: learning robust neural network policies using
        model ensembles", Table 1. Unconfirmed, in the same way as that of `Hopper`; that a
        damping of 1.5 means the front foot's is a guess, from Gymnasium's own value.
    """

    body: ClassVar[Body] = HALF_CHEETAH
    nominal: ClassVar[BodyTask] = BodyTask(6.2502093, 0.4, 1.5, 0.1)

    torso_mass: Normal = (6.0, 1.5, 3.0, 9.0)
    ground_friction: Normal = (0.5, 0.1, 0.3, 0.7)
    joint_damping: Normal = (1.5, 0.5, 0.5, 2.5)
    armature: Normal = (0.125, 0.04, 0.05, 0.2)

    def outcome(
        self, before: BodyState, after: BodyState, action: Array, task: BodyTask
    ) -> tuple[Array, Array]:
        del task
        speed = (after.positions[0] - before.positions[0]) / self.body.step_seconds
        return speed - 0.1 * jnp.sum(action**2), jnp.zeros((), bool)
