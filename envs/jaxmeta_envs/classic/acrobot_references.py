"""A controller of the acrobot, to compare with: pump energy in, looking ahead."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.classic.acrobot_physics import GRAVITY, AcrobotTask

# Steps that the controller looks ahead, three seconds: about one swing. With 6 steps the
# oracle takes 10 steps longer to the top; with 60, no less.
_LOOK_AHEAD = 15

# Any step saved on the way to the top counts for more than energy, which is below 1000 J.
_ENERGY_UNIT = 1000.0


def energy(obs: Array, task: AcrobotTask) -> Array:
    """Returns kinetic and potential energy, J; 0 at the height of the bar."""
    cosine_1, sine_1, cosine_2, sine_2, velocity_1, velocity_2 = obs
    centre_1, centre_2 = task.length_1 / 2, task.length_2 / 2
    own_1 = task.mass_1 * centre_1**2 + task.inertia
    own_2 = task.mass_2 * centre_2**2 + task.inertia
    carried = task.mass_2 * task.length_1**2
    coupling = task.mass_2 * task.length_1 * centre_2 * cosine_2
    both = velocity_1 + velocity_2
    kinetic = ((own_1 + carried) * velocity_1**2 + own_2 * both**2) / 2
    kinetic += coupling * velocity_1 * both
    upper = (task.mass_1 * centre_1 + task.mass_2 * task.length_1) * cosine_1
    lower = task.mass_2 * centre_2 * (cosine_1 * cosine_2 - sine_1 * sine_2)
    return kinetic - GRAVITY * (upper + lower)


def is_up(obs: Array) -> Array:
    """Whether the acrobot is where an episode ends."""
    cosine_1, sine_1, cosine_2, sine_2 = obs[:4]
    return -cosine_1 - (cosine_1 * cosine_2 - sine_1 * sine_2) > 1.0


def pump(obs: Array) -> Array:
    """Returns the torque, of full strength, that adds energy now: with the joint's motion."""
    return jnp.where(obs[5] >= 0, 2, 0).astype(jnp.int32)


def look_ahead(
    predict: Callable[[Array, Array, AcrobotTask], Array], task: AcrobotTask, obs: Array
) -> Array:
    """Returns the torque, of full strength either way, after which `pump` does best.

    `pump` alone is greedy: it is often worth a step against the motion to have the joint
    swing in time with the rest.

    Args:
        predict: The dynamics, ``(obs, action, task) -> obs``.
        task: The acrobot that the controller believes in.
        obs: The current observation.
    """

    def score(action: Array) -> Array:
        def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            obs, steps = carry
            up = is_up(obs)
            moved = predict(obs, pump(obs), task)
            return (jnp.where(up, obs, moved), steps + ~up), None

        start = (predict(obs, action, task), jnp.zeros((), jnp.int32))
        (last, steps), _ = jax.lax.scan(step, start, None, _LOOK_AHEAD)
        return energy(last, task) / _ENERGY_UNIT - steps

    actions = jnp.asarray([0, 2], jnp.int32)
    return actions[jnp.argmax(jax.vmap(score)(actions))]
