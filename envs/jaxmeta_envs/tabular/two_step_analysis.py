"""Is it model-based? Stay probabilities in the two-step task.

An agent that only repeats what was rewarded stays after a reward, whatever the transition.
One that knows the transitions stays after a reward by a common one and after a failure by a
rare one, and changes otherwise: reward and transition interact.

Axes: R rounds.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.contracts import Trajectory


class StayCounts(NamedTuple):
    """How often an agent repeated its first-stage action, by what the round before it was.

    Rows are its transition, common and rare; columns its outcome, rewarded and not. Counts
    of episodes can be added before probabilities are taken.

    Attributes:
        stays: Rounds in which the action was repeated, float32 ``[2, 2]``.
        rounds: All such rounds, float32 ``[2, 2]``.
    """

    stays: Array
    rounds: Array

    @property
    def probability(self) -> Array:
        """Probability to stay, ``[2, 2]``; NaN where there was no such round."""
        return self.stays / self.rounds

    @property
    def reward_effect(self) -> Array:
        """How much likelier a stay is after a reward, the mean of both transitions."""
        p = self.probability
        return 0.5 * (p[0, 0] - p[0, 1] + p[1, 0] - p[1, 1])

    @property
    def interaction(self) -> Array:
        """How much larger that effect is by common transitions than by rare ones.

        0 for model-free behaviour, up to 2 for model-based.
        """
        p = self.probability
        return (p[0, 0] - p[0, 1]) - (p[1, 0] - p[1, 1])


def count_stays(episode: Trajectory) -> StayCounts:
    """Counts the stays of one episode of `TwoStep`.

    A transition is common if it led to the second-stage state of the action's own number,
    as in every split but "reversed", whose rows are to be read the other way round.

    Args:
        episode: Leaves ``[2 R, ...]``.

    Reference:
        Daw et al. (2011), "Model-based influences on humans' choices and striatal
        prediction errors", figure 2.
    """
    choice = episode.action.reshape(-1, 2)[:, 0]
    reached = episode.inputs.obs.reshape(-1, 2)[:, 1] - 1
    unrewarded = episode.reward.reshape(-1, 2)[:, 1] < 0.5
    rare = reached != choice

    row = rare[:-1, None] == jnp.array([[False, True]])  # [R - 1, 2]
    column = unrewarded[:-1, None] == jnp.array([[False, True]])
    kind = (row[:, :, None] & column[:, None, :]).astype(jnp.float32)
    stay = (choice[1:] == choice[:-1]).astype(jnp.float32)
    return StayCounts(jnp.einsum("r,rij->ij", stay, kind), kind.sum(axis=0))
