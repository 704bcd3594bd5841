"""Logged transitions of one system, simulated or real, and what must hold of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxmeta_envs.core.contracts import TaskFamily, Trajectory
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.spaces import as_array_space


class Transitions(NamedTuple):
    """What a system did, step by step.

    A row of T steps is one episode, in order; where readings are noisy ``obs[t + 1]`` is the
    same reading as ``next_obs[t]``. Axes in front of T are episodes, however many.

    Attributes:
        obs: Observations before the steps, ``[..., T, d]``.
        action: Actions, ``[..., T]`` if discrete, else ``[..., T, a]``.
        next_obs: Observations after the steps, ``[..., T, d]``.
        mask: Which steps were really played, bool ``[..., T]``; the contents of others mean
            nothing.
    """

    obs: Array
    action: Array
    next_obs: Array
    mask: Array

    @classmethod
    def from_trajectory(cls, trajectory: Trajectory) -> Transitions:
        """Returns the transitions of played episodes, leaves ``[..., T, ...]``."""
        return cls(trajectory.inputs.obs, trajectory.action, trajectory.next_obs, trajectory.mask)

    def flat(self) -> Transitions:
        """Returns them with all axes in front of T made one, ``[E, T, ...]``, as JAX arrays."""
        lead = np.ndim(self.mask) - 1

        def flatten(x: Any, dtype: Any) -> Array:
            x = jnp.asarray(x, dtype)
            return x.reshape((-1, *x.shape[lead:]))

        action = jnp.asarray(self.action)
        continuous = jnp.issubdtype(action.dtype, jnp.floating)
        return Transitions(
            obs=flatten(self.obs, jnp.float32),
            action=flatten(action, jnp.float32 if continuous else jnp.int32),
            next_obs=flatten(self.next_obs, jnp.float32),
            mask=flatten(self.mask, bool),
        )


def check_transitions(family: TaskFamily, transitions: Transitions) -> None:
    """Raises `ConfigError` unless the transitions can be those of a target of ``family``.

    Shapes are always looked at, values only where they are known already, outside of ``jit``.
    """
    kind = isinstance(transitions, Transitions)
    require(kind, "transitions", type(transitions).__name__, "of type Transitions")
    lead = _check_shapes(family, transitions)
    require(int(np.prod(lead)) >= 1, "transitions", lead, "of at least one step")
    mask = transitions.mask
    if isinstance(mask, Tracer):
        return
    mask = np.asarray(mask)
    require(bool(mask.any()), "transitions.mask", "False everywhere", "True at some step")
    for name in ("obs", "action", "next_obs"):
        x = getattr(transitions, name)
        if isinstance(x, Tracer):
            continue
        wrong = ~np.isfinite(np.asarray(x)) & mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            value = float(np.asarray(x)[place])
            require(False, f"transitions.{name}{list(place)}", value, "finite where mask is True")


def _check_shapes(family: TaskFamily, transitions: Transitions) -> tuple[int, ...]:
    """Returns the axes in front of an observation's, ``(..., T)``."""
    obs = as_array_space(family.observation_space, "observation_space", "transitions")
    action = family.action_space
    shapes = {name: np.shape(x) for name, x in transitions._asdict().items()}
    lead = shapes["mask"]
    require(len(lead) >= 1, "transitions.mask", f"of shape {lead}", "of shape [..., T]")
    wanted = {"obs": obs.shape, "action": action.shape, "next_obs": obs.shape}
    for name, shape in wanted.items():
        want = (*lead, *shape)
        require(
            shapes[name] == want,
            f"transitions.{name}",
            f"of shape {shapes[name]}",
            f"of shape {want}, the mask's with that of the family's space",
        )
    kind = jnp.result_type(transitions.mask)
    require(kind == jnp.bool_, "transitions.mask", f"of type {kind}", "of type bool")
    whole, kind = jnp.issubdtype(action.dtype, jnp.integer), jnp.result_type(transitions.action)
    fits = jnp.issubdtype(kind, jnp.integer) if whole else jnp.issubdtype(kind, jnp.floating)
    wanted_kind = "of an integer type" if whole else "of a floating-point type"
    require(bool(fits), "transitions.action", f"of type {kind}", wanted_kind)
    return lead
