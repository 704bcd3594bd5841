"""Policies to compare with on the plane: told the goal, or finding it by what they earn.

Axes: G goals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, Reference, Trajectory

if TYPE_CHECKING:
    from jaxmeta_envs.points.navigation import PointFamily, PointNavigation, PointNavigationCorners


def oracle(family: PointFamily) -> Reference:
    """Returns the policy that is told the goal and moves towards it at full speed."""

    def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any]:
        del key
        return family.action_space.clip(params[1].goal - inputs.obs), carry

    policy = AdaptivePolicy(begin=lambda params, key: (), act=act)
    return Reference(policy, told_task=True)


def _distances(goals: Array, position: Array) -> Array:
    """Returns how far ``position`` is from every goal, ``[G]``."""
    return jnp.linalg.norm(goals - position[None], axis=1)


class _Belief(NamedTuple):
    """Carry of the search: which goals are still possible, bool ``[G]``; where it was."""

    possible: Array
    position: Array


def search(family: PointFamily, goals: np.ndarray, tolerance: float) -> Reference:
    """Returns the policy that goes to the nearest goal that is still possible.

    A goal is excluded when it does not explain a reward. Among goals equally near the first
    is chosen.

    Args:
        family: The task family.
        goals: All goals, ``[G, 2]``.
        tolerance: By how much an explained reward may differ.
    """

    def exclude(params: Any, belief: _Belief, after: Array, reward: Array) -> Array:
        pay = jax.vmap(lambda goal: family.pay(belief.position, after, goal))(params)
        possible = belief.possible & (jnp.abs(pay - reward) <= tolerance)
        # Goals of another kind than those that are known may leave none.
        return jnp.where(possible.any(), possible, belief.possible)

    def begin(params: Any, key: Array) -> _Belief:
        del key
        return _Belief(jnp.ones(len(params), bool), jnp.zeros(2, jnp.float32))

    def act(params: Any, carry: _Belief, inputs: PolicyInput, key: Array) -> tuple[Array, _Belief]:
        del key
        # At an episode's start the position says nothing of the reward, see ``adapt``.
        known = exclude(params, carry, inputs.obs, inputs.prev_reward)
        possible = jnp.where(inputs.episode_start, carry.possible, known)
        # Equally near are those that differ by rounding.
        distance = _distances(params, inputs.obs) + 1e-5 * jnp.arange(
            len(params), dtype=jnp.float32
        )
        goal = params[jnp.argmin(jnp.where(possible, distance, jnp.inf))]
        return family.action_space.clip(goal - inputs.obs), _Belief(possible, inputs.obs)

    def adapt(params: Any, carry: _Belief, episodes: Trajectory, key: Array) -> _Belief:
        del key
        last = jnp.sum(episodes.mask[0]) - 1
        possible = exclude(params, carry, episodes.next_obs[0, last], episodes.reward[0, last])
        return carry._replace(possible=possible)

    known = jnp.asarray(goals, jnp.float32)
    return Reference(AdaptivePolicy(begin, act, adapt), params=known, knows_prior=True)


class _Fix(NamedTuple):
    """Carry of the trilateration.

    Attributes:
        measurements: Distances measured so far, up to 3, int32 scalar.
        distance: The first of them.
        goals: The two goals that explain the first two, ``[2, 2]``.
        misfit: By how much each fails to explain the later ones, ``[2]``.
    """

    measurements: Array
    distance: Array
    goals: Array
    misfit: Array


def trilateration(family: PointNavigation) -> Reference:
    """Returns the policy that finds the goal by three distances, and keeps it.

    It measures after a move to the right and after one up. The two circles meet in two points,
    to the left and to the right; it sets out for the left one, which is inside of the square in
    any case, and turns round if the next reward tells it to.
    """
    a = family.reach

    def begin(params: Any, key: Array) -> _Fix:
        del params, key
        return _Fix(
            jnp.zeros((), jnp.int32),
            jnp.zeros((), jnp.float32),
            jnp.zeros((2, 2), jnp.float32),
            jnp.zeros(2, jnp.float32),
        )

    def act(params: Any, carry: _Fix, inputs: PolicyInput, key: Array) -> tuple[Array, _Fix]:
        del params, key
        distance = -inputs.prev_reward
        if family.reward == "squared":
            distance = jnp.sqrt(distance)
        # An episode that ended before two measurements were made is to be begun anew.
        count = jnp.where(inputs.episode_start & (carry.measurements < 3), 0, carry.measurements)
        first = jnp.where(count == 1, distance, carry.distance)
        # From (a, 0) and (a, a): the difference of the squares is linear in the height.
        height = (first**2 - distance**2 + a**2) / (2 * a)
        side = jnp.sqrt(jnp.maximum(first**2 - height**2, 0.0))
        found = jnp.stack([jnp.stack([a - side, height]), jnp.stack([a + side, height])])
        goals = jnp.where(count == 2, found, carry.goals)
        missed = jnp.abs(_distances(goals, inputs.obs) - distance)
        later = (count >= 3) & ~inputs.episode_start
        misfit = carry.misfit + jnp.where(later, missed, 0.0)
        towards = family.action_space.clip(goals[jnp.argmin(misfit)] - inputs.obs)
        right, up = jnp.asarray([[a, 0.0], [0.0, a]], jnp.float32)
        action = jnp.where(count == 0, right, jnp.where(count == 1, up, towards))
        return action, _Fix(jnp.minimum(count + 1, 3), first, goals, misfit)

    return Reference(AdaptivePolicy(begin, act))


def pacing(family: PointNavigationCorners) -> Reference:
    """Returns the policy that is told the corner and earns progress again and again.

    From (0.15, 0.15), mirrored into the goal's quarter, it goes to (0.35, 0.35), which is
    rewarded, and back into the quiet region, which costs nothing. It leaves for the corner as
    soon as the steps left are just enough.
    """
    reach = family.reach

    def act(params: Any, time: Array, inputs: PolicyInput, key: Array) -> tuple[Array, Array]:
        del key
        goal = params[1].goal
        time = jnp.where(inputs.episode_start, 0, time)
        way = jnp.sign(goal)
        left = family.episode_length - time
        # From the outer turning point it goes back only if that pays.
        needed = jnp.ceil(jnp.max(jnp.abs(goal - inputs.obs)) / reach - 1e-4)
        outer = jnp.sum(inputs.obs * way) >= family.quiet
        inner = jnp.all(jnp.abs(inputs.obs - 0.15 * way) < 0.01)
        target = jnp.where(inner, 0.35, 0.15) * way
        leave = left <= needed + jnp.where(outer, 1, 0)
        target = jnp.where(leave, goal, target)
        return family.action_space.clip(target - inputs.obs), time + 1

    begin_at = jnp.zeros((), jnp.int32)
    policy = AdaptivePolicy(begin=lambda params, key: begin_at, act=act)
    return Reference(policy, told_task=True)
