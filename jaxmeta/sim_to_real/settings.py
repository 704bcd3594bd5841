"""The settings of `jaxmeta.adapt_source`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields, check_least
from jaxmeta_envs.core.physical import PhysicalFamily
from jaxmeta_envs.core.spaces import Box


@dataclass(frozen=True)
class SourceAdaptation:
    """How `adapt_source` infers parameters.

    Standard deviations of noise have the units of the observation: one number for all of its
    coordinates or a tuple with one for each.

    Attributes:
        process_std: Noise of a transition itself, and with it the error that the simulator
            is trusted to make in one step. The posterior's width is proportional to it.
        observation_std: Noise of a reading. Above 0 a Kalman filter follows every episode
            for every particle; at 0 the transitions are scored in parallel.
        free: Names of the parameters to infer; None infers all. The others count as known.
        num_particles: N.
        doubt: Weight of the uniform distribution over the family's limits in the prior.
            Where the source itself has no density, this is what finds the target.
        min_std: Least standard deviation of the new source, as a share of the width of the
            family's limits. The default keeps some robustness to what no parameter
            explains: a hundredth of what was thought possible.
        ess_share: Effective sample size that a stage of tempering falls to, as a share of N.
        moves: Metropolis moves per stage. A stage costs as many likelihoods per particle.
        max_stages: Cap on the number of stages; 10 to 40 are usual.
        max_transitions: If given, the likelihood uses so many transitions, drawn without
            replacement, for simulators that are expensive. The posterior is then an honest
            one of fewer data, hence wider. Not together with ``observation_std``. Of use too
            beyond some 10⁶ numbers observed, whose sum in float32 is off by about a nat.
    """

    process_std: float | tuple[float, ...] = 0.01
    observation_std: float | tuple[float, ...] = 0.0
    free: tuple[str, ...] | None = None
    num_particles: int = 256
    doubt: float = 0.1
    min_std: float = 0.01
    ess_share: float = 0.5
    moves: int = 5
    max_stages: int = 100
    max_transitions: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("process_std", "observation_std"):
            value = getattr(self, name)
            good = all(x >= 0 for x in _as_tuple(value))
            require(
                good and value != (), name, value, "one finite number of at least 0, or a tuple"
            )
        check_least(self, num_particles=16, moves=1, max_stages=1, max_transitions=1)
        if self.max_transitions is not None:
            require(
                not self.filtered,
                "max_transitions",
                self.max_transitions,
                "None where observation_std is above 0: a filter needs whole episodes",
            )
        share = 0 <= self.doubt <= 1
        require(share, "doubt", self.doubt, "a number in [0, 1]")
        share = 0 < self.min_std <= 1
        require(share, "min_std", self.min_std, "a number above 0 and at most 1")
        share = 0 < self.ess_share < 1
        require(share, "ess_share", self.ess_share, "a number between 0 and 1")
        names = self.free is None or (
            isinstance(self.free, tuple) and 0 < len(self.free) == len(set(self.free))
        )
        require(names, "free", self.free, "None or a tuple of different names")

    @property
    def filtered(self) -> bool:
        """Whether readings are noisy."""
        return any(x > 0 for x in _as_tuple(self.observation_std))

    def noise(self, size: int) -> tuple[Array, Array]:
        """Returns ``process_std`` and ``observation_std`` as float32 ``[size]``."""
        process, observation = (
            jnp.broadcast_to(jnp.asarray(x, jnp.float32), (size,))
            for x in (self.process_std, self.observation_std)
        )
        return process, observation

    def check(self, family: PhysicalFamily) -> None:
        """Raises `ConfigError` unless these settings suit ``family``."""
        space = family.observation_space
        vector = isinstance(space, Box) and len(space.shape) == 1
        require(vector, "family.observation_space", space, "a Box of one axis")
        size = (space.flat_size,)
        for name in ("process_std", "observation_std"):
            value = getattr(self, name)
            fits = not isinstance(value, tuple) or len(value) == size[0]
            require(fits, name, value, f"a number or a tuple of {size[0]}, as an observation has")
        pair = np.broadcast_arrays(self.process_std, self.observation_std, np.zeros(size))[:2]
        require(
            bool(np.all(np.maximum(*pair) > 0)),
            "process_std",
            self.process_std,
            "above 0 in every coordinate where observation_std is 0",
        )
        known = family.parameter_names()
        for name in self.free or ():
            require(name in known, "free", self.free, f"None or of {', '.join(known)}")


def _as_tuple(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)
