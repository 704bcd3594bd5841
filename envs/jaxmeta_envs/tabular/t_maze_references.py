"""Policies for the T-maze: told, blind to the cue, and counting what the cue was worth.

Whether cue and paying arm agreed in an episode is seen at its end, whichever arm was chosen,
for one of the two pays: if the chosen one did not, the other would have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, Reference, Trajectory

if TYPE_CHECKING:
    from jaxmeta_envs.tabular.t_maze import TMazeTask


class _Memory(NamedTuple):
    """What a policy keeps.

    Attributes:
        cue: This episode's cue, int32 scalar.
        lead: Episodes in which cue and paying arm agreed, less the others, int32 scalar.
    """

    cue: Array
    lead: Array


def _begin(params: Any, key: Array) -> _Memory:
    del params, key
    return _Memory(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def _seen_cue(carry: _Memory, inputs: PolicyInput) -> Array:
    return jnp.where(inputs.obs < 2, inputs.obs, carry.cue)


def _act_told(
    params: tuple[Any, TMazeTask], carry: _Memory, inputs: PolicyInput, key: Array
) -> tuple[Array, _Memory]:
    del key
    cue = _seen_cue(carry, inputs)
    return jnp.where(params[1].inverted == 0, cue, 1 - cue), carry._replace(cue=cue)


_ORACLE = AdaptivePolicy(_begin, _act_told)


def oracle() -> Reference:
    """The arm that the cue speaks for, told what it means."""
    return Reference(_ORACLE, told_task=True)


def _act_blindly(
    params: Any, carry: _Memory, inputs: PolicyInput, key: Array
) -> tuple[Array, _Memory]:
    del params, inputs, key
    return jnp.zeros((), jnp.int32), carry


_BLIND = AdaptivePolicy(_begin, _act_blindly)


def ignore_cue() -> Reference:
    """Always the same arm, which pays in half of the episodes."""
    return Reference(_BLIND)


def _act_by_lead(
    params: Any, carry: _Memory, inputs: PolicyInput, key: Array
) -> tuple[Array, _Memory]:
    del params, key
    cue = _seen_cue(carry, inputs)
    return jnp.where(carry.lead >= 0, cue, 1 - cue), carry._replace(cue=cue)


def _count(params: Array, carry: _Memory, episodes: Trajectory, key: Array) -> _Memory:
    del key
    paid = episodes.reward[0, -1] > 0.5
    agreed = paid == (episodes.action[0, -1] == carry.cue)
    return carry._replace(lead=params * carry.lead + jnp.where(agreed, 1, -1))


_BY_LEAD = AdaptivePolicy(_begin, _act_by_lead, _count)
"""Follows the cue if the lead is for it, or even. Parameter 0 forgets all but one episode."""


def repeat_last() -> Reference:
    """Follows the cue if it agreed with the paying arm in the episode before, else opposes it.

    In other words: does again with the cue what was rewarded, and changes over if nothing was.
    """
    return Reference(_BY_LEAD, jnp.zeros((), jnp.int32))


def count_agreements() -> Reference:
    """Follows the cue if it mostly agreed with the paying arm so far, else opposes it.

    It is Bayes-optimal: both meanings of the cue are equally likely at first and every
    episode weighs the same, so that the likelier one is that of the majority.
    """
    return Reference(_BY_LEAD, jnp.ones((), jnp.int32), knows_prior=True)
