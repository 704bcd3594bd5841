"""Checks of what happens in an episode: values, tasks, rewards, ends."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta.testing.conformance import check, expect, plain
from jaxmeta.testing.probes import FamilyProbe, Play, other_actions
from jaxmeta_envs.core.composite_spaces import Dict, Tuple
from jaxmeta_envs.core.spaces import ArraySpace, Box, Discrete, Space

_ROUNDS = 8


@check("rewards", "rewards are finite")
def finite_rewards(probe: FamilyProbe) -> None:
    """No reward of random rollouts is NaN or infinite."""
    paid = probe.base.timesteps.reward[probe.base.mask]
    odd = paid[~np.isfinite(paid)]
    first = odd[0] if odd.size else None
    expect(odd.size == 0, f"{odd.size} of {paid.size} rewards are not finite: the first is {first}")


@check("values", "observations lie in the observation space")
def values(probe: FamilyProbe) -> None:
    """Observations of random rollouts are what the space promises."""
    play = probe.base
    later = jax.tree.map(lambda x: x[play.mask], play.timesteps.obs)
    seen = jax.tree.map(lambda *x: np.concatenate(x), play.first_obs, later)
    _expect_inside(probe.family.observation_space, seen)


def _expect_inside(space: Space, seen: Any) -> None:
    """Raises unless values with an axis in front are of a space, to rounding."""
    if isinstance(space, Dict):
        for name, part in space.named.items():
            _expect_inside(part, seen[name])
    elif isinstance(space, Tuple):
        for part, value in zip(space.spaces, seen, strict=True):
            _expect_inside(part, value)
    else:
        assert isinstance(space, ArraySpace)
        expect(np.all(np.isfinite(seen)), "an observation is not finite")
        low, high = space.lowest, space.highest
        sizes = np.abs([bound[np.isfinite(bound)].max(initial=0.0) for bound in (low, high)])
        slack = 1e-5 * max(1.0, *sizes) if isinstance(space, Box) else 0.0
        outside = (seen < low - slack) | (seen > high + slack)
        span = f"observations go from {seen.min()} to {seen.max()}"
        expect(not outside.any(), f"{span}, outside {space}")


@check("clipped actions", "actions out of bounds are clipped")
def clipped_actions(probe: FamilyProbe) -> None:
    """An action beyond a bound acts like the bound."""
    space = probe.family.action_space
    for bound, beyond in zip((space.lowest, space.highest), (-3, 3), strict=True):
        if np.isfinite(bound).all():
            inside = jnp.broadcast_to(bound.astype(probe.actions.dtype), probe.actions.shape)
            plays = (probe.play(probe.tasks, x) for x in (inside, inside + beyond))
            unlike = next(plays).differs(next(plays)).mean()
            where, at = (np.unique(x).tolist() for x in (bound + beyond, bound))
            text = f"action {where} does not act like {at} in {unlike:.0%} of rollouts"
            expect(unlike == 0, text)


@check(
    "task is an argument",
    "every leaf of the task has an effect through the task argument; reset draws no task and "
    "the state hides none",
)
def task_is_argument(probe: FamilyProbe) -> None:
    """Another task's leaf, under the same keys and actions, must change something."""
    paths, structure = jax.tree.flatten_with_path(probe.tasks)
    leaves = [leaf for _, leaf in paths]
    for index, (path, leaf) in enumerate(paths):
        name = jax.tree_util.keystr(path)
        # A partner with another value, so that finite task sets are tried on every task.
        other = jnp.roll(leaf, 1, axis=0)
        if name in probe.inert_leaves or np.array_equal(plain(leaf), plain(other)):
            continue
        swapped = jax.tree.unflatten(structure, [*leaves[:index], other, *leaves[index + 1 :]])
        played = probe.play(swapped, probe.actions)
        expect(
            np.any(probe.base.differs(played)),
            f"replacing task leaf {name} by another task's changes no observation, reward or "
            f"end in {probe.num_rollouts} rollouts",
        )
        _expect_not_hidden(probe, name, leaf, swapped)


def _expect_not_hidden(probe: FamilyProbe, name: str, leaf: Array, swapped: Any) -> None:
    """Finds a task that reset copies to the state, from where step reads it."""
    late = probe.play(swapped, probe.actions, reset_tasks=probe.tasks)
    if np.any(probe.base.differs(late)):
        return
    wanted = np.concatenate([plain(leaf)] * (probe.num_rollouts // probe.num_tasks))
    last = dict(jax.tree.leaves_with_path(probe.base.last))
    for path, start in jax.tree.leaves_with_path(probe.base.start):
        # A start position is a copy too, but does not stay one.
        copied = all(np.array_equal(wanted, x) for x in (start, last[path]))
        where = jax.tree_util.keystr(path)
        expect(not copied, f"step ignores task leaf {name} and reads state leaf {where} instead")


@check(
    "reward timing",
    "Timestep.reward is the reward of the action just taken (pass reward_of_state=True if it "
    "is paid for the state that the action found)",
)
def reward_timing(probe: FamilyProbe) -> None:
    """Two rollouts that differ in one action differ in that step's reward, if ever."""
    family = probe.family
    if probe.reward_of_state or family.action_space == Discrete(1):
        return
    now = after = 0
    for key in jax.random.split(probe.key("other actions"), _ROUNDS):
        immediate, late = _effects_of_one_action(probe, key)
        now, after = now + immediate, after + late
        if now > 0:
            return
    text = (
        f"another action at step t changed the reward of step t in 0 and of step t + 1 in {after}"
    )
    expect(family.horizon > 1, "the reward of the only step does not depend on the action")
    # Rewards may be so sparse that a few late changes come before the first immediate one.
    expect(after < 8, f"{text} of {_ROUNDS * probe.num_rollouts} rollouts")


def _effects_of_one_action(probe: FamilyProbe, key: Array) -> tuple[int, int]:
    """Counts rollouts where one other action changes its own reward, and the next one."""
    family, rows = probe.family, np.arange(probe.num_rollouts)
    times = rows % max(1, family.horizon - 1)
    # Early steps count most: later ones may lie beyond an episode's end.
    times = np.where(rows // probe.num_tasks % 2 == 0, times, np.minimum(times, 1))
    others = other_actions(family.action_space, probe.actions[rows, times], key)
    played = probe.play(probe.tasks, probe.actions.at[rows, times].set(others))
    late = _reward_changes(probe.base, played, times + 1) if family.horizon > 1 else 0
    return _reward_changes(probe.base, played, times), late


def _reward_changes(a: Play, b: Play, times: np.ndarray) -> int:
    rows = np.arange(len(times))
    changed = a.timesteps.reward[rows, times] != b.timesteps.reward[rows, times]
    return int(np.sum(changed & a.mask[rows, times] & b.mask[rows, times]))


@check(
    "episode ends",
    "the step that reaches the horizon is terminated if finite_horizon, else truncated unless "
    "the process ended there; never both, and no episode is longer",
)
def episode_ends(probe: FamilyProbe) -> None:
    """The clock's end is told apart from the process's end."""
    play, family = probe.base, probe.family
    terminated, truncated = play.timesteps.terminated, play.timesteps.truncated
    both = np.sum(terminated & truncated & play.mask)
    expect(both == 0, f"{both} steps are both terminated and truncated")
    at_clock = play.mask[:, -1]
    ended = (terminated | truncated)[at_clock, -1]
    expect(np.all(ended), f"{np.sum(~ended)} episodes go on beyond horizon={family.horizon}")
    if family.finite_horizon:
        cut = np.sum(truncated & play.mask)
        expect(cut == 0, f"finite_horizon is True and {cut} episodes were truncated")
    elif np.any(at_clock):
        expect(
            np.any(truncated[at_clock, -1]),
            f"finite_horizon is False and all {at_clock.sum()} episodes that reached the "
            "horizon were terminated there",
        )


@check("step never resets", "step never resets itself: what it returns belongs to the old episode")
def step_never_resets(probe: FamilyProbe) -> None:
    """No part of the state jumps back to its value at reset exactly when an episode ends.

    A clock is such a part. Without one, a reset inside step cannot be told from an episode
    that ends where it began, and is not found.
    """
    play = probe.base
    under_way = play.mask & ~play.done
    if not (np.any(under_way) and np.any(play.done)):
        return
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(play.start)]
    for name, back in zip(names, play.back_at_start, strict=True):
        jumps = np.all(back[play.done]) and not np.any(back[under_way])
        expect(
            not jumps, f"state leaf {name} is back at its value after reset when an episode ends"
        )


DYNAMICS_CHECKS = (
    finite_rewards,
    values,
    episode_ends,
    task_is_argument,
    reward_timing,
    clipped_actions,
    step_never_resets,
)
