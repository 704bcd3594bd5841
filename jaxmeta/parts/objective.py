"""What a policy is to have: reward of which episodes, entropy, and nearness to an anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import jax.numpy as jnp

from jaxmeta.networks import Actions, continuous_policy, discrete_policy
from jaxmeta.ops.distributions import Distribution
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields
from jaxmeta_envs.core.spaces import ArraySpace, Box

Anchor = Literal["initial", "prior"]
"""A policy to stay near to, see `PolicyObjective`."""

Episodes = Literal["adapted", "all"]
"""Whose reward counts in the outer loop, see `PolicyObjective`."""


@dataclass(frozen=True)
class PolicyObjective:
    """What policies are to maximise: reward, entropy and nearness to an anchor.

    A policy π with the advantages A of its actions is worth, per step,

        J(π) = E[A] + c_e H(π) - c_a KL(π ‖ anchor)

    in the states that were visited. Every coefficient of 0 leaves its term out.

    Attributes:
        episodes: Whose reward counts in the outer loop: ``"adapted"`` that of the episodes
            after K steps, as in MAML; ``"all"`` also that of those that are played for the
            steps, as where exploration has its price (bandits).
        standardize: Whether advantages of an inner step have mean 0 and deviation 1 over its
            episodes; else they are in units of reward. Of one step in one episode, nothing
            would be left.
        entropy_coef: c_e of the inner loop; the outer loop's is a field of the algorithm.
        anchor_coef: c_a of the inner loop.
        outer_anchor_coef: c_a of the adapted policy in the outer loop.
        anchor: ``"initial"`` is the policy that adaptation begins with, so that nothing pulls
            in the first step, and those after are pulled back. ``"prior"`` knows nothing:
            uniform, or with continuous actions as the first policy has them: around the
            centre of their bounds, with a standard deviation of half their range (if
            squashed, before that).
    """

    episodes: Episodes = "adapted"
    standardize: bool = True
    entropy_coef: float = 0.0
    anchor_coef: float = 0.0
    outer_anchor_coef: float = 0.0
    anchor: Anchor = "initial"

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("entropy_coef", "anchor_coef", "outer_anchor_coef"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name, known in (("anchor", get_args(Anchor)), ("episodes", get_args(Episodes))):
            value = getattr(self, name)
            require(value in known, name, value, f"one of {', '.join(known)}")


def prior_policy(action_space: ArraySpace, actions: Actions) -> Distribution:
    """Returns the policy that knows nothing, see `PolicyObjective`."""
    if not isinstance(action_space, Box):
        return discrete_policy(action_space, jnp.zeros(action_space.flat_size, jnp.float32))
    zeros = jnp.zeros(action_space.shape, jnp.float32)
    return continuous_policy(action_space, actions, zeros, zeros)
