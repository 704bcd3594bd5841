"""Bodies with unknown physical parameters."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.extras import import_extra
from jaxmeta_envs.core.physical import PhysicalFamily
from jaxmeta_envs.mujoco.bodies import BodyFamily, BodyState, load_model
from jaxmeta_envs.random.distributions import Distribution, TruncatedNormal, Uniform

Normal = tuple[float, float, float, float]
"""Mean, standard deviation, lower and upper end of a truncated normal distribution."""


class BodyTask(NamedTuple):
    """The physical parameters of a body, float32 scalars.

    Attributes:
        torso_mass: kg.
        ground_friction: Coefficient of sliding friction between the feet and the ground.
        joint_damping: Of the most lightly damped joint with a motor, N·m·s/rad.
        armature: Inertia of the rotor of every motor, kg·m².
    """

    torso_mass: Any
    ground_friction: Any
    joint_damping: Any
    armature: Any


class Constants(NamedTuple):
    """What MuJoCo derives from the masses, made ready to be derived anew, on the host.

    All are taken in the position of the model file.

    Attributes:
        inertia: Joint-space inertia matrix of Gymnasium's body without the parts that
            vary, float64 ``[V, V]``.
        torso_inertia: What Gymnasium's torso adds to it, ``[V, V]``.
        armature: What Gymnasium's motors add to its diagonal, ``[V]``.
        jacobians: Of every body's centre of mass and of its rotation, ``[2, N, 3, V]``.
    """

    inertia: np.ndarray
    torso_inertia: np.ndarray
    armature: np.ndarray
    jacobians: np.ndarray


@dataclass(frozen=True)
class RandomPhysics(BodyFamily[BodyTask], PhysicalFamily[BodyTask, BodyState]):
    """A body whose torso, feet and joints differ from task to task.

    Subclasses have a field of type `Normal` for every parameter. Each parameter multiplies
    what it stands for in Gymnasium's model, so that `nominal` is Gymnasium's body:

    - ``torso_mass``: mass and inertia of the torso, whose shape stays.
    - ``ground_friction``: MuJoCo takes the greater coefficient of the two that touch, and so
      all coefficients are multiplied, the ground's included: the parameter is that of the
      feet on the ground exactly. Bodies touch each other without friction.
    - ``joint_damping``: that of every joint with a motor. Where they differ, they keep their
      proportion.
    - ``armature``: that of every joint with a motor.

    What MuJoCo's compiler derives from masses and armature, which makes contacts softer or
    harder, is derived anew for every task.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "wide", "heavy", "light")
    nominal: ClassVar[BodyTask]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in BodyTask._fields:
            value = getattr(self, name)
            numbers = isinstance(value, tuple) and len(value) == 4
            numbers = numbers and all(math.isfinite(x) for x in value)
            require(
                numbers and value[1] > 0 and 0 < value[2] < value[3],
                f"{type(self).__name__}.{name}",
                value,
                "mean, standard deviation, lower and upper end of a truncated normal "
                "distribution, all finite, the last three above 0",
            )

    def distribution(self, split: str = "train") -> Distribution[BodyTask]:
        """Returns the distribution of the tasks of ``split``, a pytree of float32 scalars."""
        self.check_split(split)
        if split == "wide":
            return self.limits()
        normals: dict[str, Normal] = {name: getattr(self, name) for name in BodyTask._fields}
        _, _, low, high = normals["torso_mass"]
        if split == "heavy":
            normals["torso_mass"] = _stretch(normals["torso_mass"], high, 2 * high)
        elif split == "light":
            normals["torso_mass"] = _stretch(normals["torso_mass"], low / 2, low)
        columns = zip(*normals.values(), strict=True)
        return jax.tree.map(jnp.float32, TruncatedNormal(*(BodyTask(*x) for x in columns)))

    def nominal_task(self) -> BodyTask:
        return jax.tree.map(jnp.float32, self.nominal)

    def limits(self) -> Uniform[BodyTask]:
        """Returns the ranges of "wide"."""
        normals = [getattr(self, name) for name in BodyTask._fields]
        pairs = list(zip(normals, self.nominal, strict=True))
        low = BodyTask(*(min(normal[2] / 2, value) for normal, value in pairs))
        high = BodyTask(*(max(normal[3] * 2, value) for normal, value in pairs))
        return jax.tree.map(jnp.float32, Uniform(low, high))

    def model(self, task: BodyTask) -> Any:
        """Returns the ``mjx.Model`` of this task."""
        model = self.body.model()
        scale = BodyTask(*(x / value for x, value in zip(task, self.nominal, strict=True)))
        torso = _torso(self.body.file)
        of_joints, of_bodies = _inverse_weights(self.body.file, scale)
        return model.replace(
            body_mass=model.body_mass.at[torso].multiply(scale.torso_mass),
            body_inertia=model.body_inertia.at[torso].multiply(scale.torso_mass),
            geom_friction=model.geom_friction.at[:, 0].multiply(scale.ground_friction),
            dof_damping=model.dof_damping * scale.joint_damping,
            dof_armature=model.dof_armature * scale.armature,
            dof_invweight0=of_joints,
            body_invweight0=of_bodies,
        )

    def predict(self, obs: Array, action: Array, task: BodyTask) -> Array:
        """Returns the observation that follows ``obs`` after ``action``.

        The position along the ground, which is not observed, plays no part. A velocity that
        was clipped when it was observed is taken as it was clipped. Only forward-mode
        derivatives (``jax.jvp``, ``jax.jacfwd``) exist, as the solver of contact forces is a
        loop that ends when it has converged.
        """
        body, action = self.body, self.action_space.clip(action)
        return body.observe(body.advance(self.model(task), body.guess_state(obs), action))


def _stretch(normal: Normal, low: float, high: float) -> Normal:
    """Returns the distribution moved and stretched onto another interval."""
    mean, std, old_low, old_high = normal
    factor = (high - low) / (old_high - old_low)
    return low + (mean - old_low) * factor, std * factor, low, high


def _torso(file: str) -> int:
    return int(load_model(file).body("torso").id)


def _inverse_weights(file: str, scale: BodyTask) -> tuple[Array, Array]:
    """Returns ``dof_invweight0`` ``[V]`` and ``body_invweight0`` ``[N, 2]``.

    They are the diagonal of the inverse inertia matrix and, for every body, the mean
    acceleration of its centre (and of its rotation) along the force of 1 N that caused it.

    Args:
        file: The model file. Its joints are hinges and slides.
        scale: The parameters, as multiples of Gymnasium's.
    """
    constants = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), _constants(file))
    inertia = constants.inertia + scale.torso_mass * constants.torso_inertia
    inverse = jnp.linalg.inv(inertia + jnp.diag(scale.armature * constants.armature))
    jacobians = constants.jacobians
    of_bodies = jnp.einsum("knij,jl,knil->nk", jacobians, inverse, jacobians, precision="highest")
    return jnp.diag(inverse), of_bodies / 3


@functools.cache
def _constants(file: str) -> Constants:
    mujoco, model, torso = import_extra("mujoco", "mjx"), load_model(file), _torso(file)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    jacobians = np.zeros((2, model.nbody, 3, model.nv))
    # The ground, body 0, stays at zero: it does not move.
    for body in range(1, model.nbody):
        mujoco.mj_jacBodyCom(model, data, jacobians[0, body], jacobians[1, body], body)
    inertia = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, inertia)
    along, around = jacobians[:, torso]
    axes = data.ximat[torso].reshape(3, 3)
    rotational = axes @ np.diag(model.body_inertia[torso]) @ axes.T
    of_torso = model.body_mass[torso] * along.T @ along + around.T @ rotational @ around
    armature = np.array(model.dof_armature)
    return Constants(inertia - of_torso - np.diag(armature), of_torso, armature, jacobians)
