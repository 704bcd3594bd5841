"""What is subtracted from returns: the value estimate of on-policy learners, as a part.

Axes: E episodes of one task, T steps of an episode, B tasks of this device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmeta.networks import MLP, ActorCritic
from jaxmeta.ops.moments import Moments
from jaxmeta.parts.episodes import values_beyond
from jaxmeta.parts.optimizers.contract import Batch, PolicyOptimizer
from jaxmeta_envs.core.contracts import TaskFamily, Trajectory


class Actor(NamedTuple):
    """Whose episodes are judged.

    Attributes:
        family: Says what an observation is.
        network: The policy, and the value network if there is one.
        params: What it played with.
        moments: Running moments of the value network's targets, scalars.
    """

    family: TaskFamily
    network: ActorCritic
    params: Any
    moments: Moments


class Estimate(NamedTuple):
    """Values in reward units.

    Attributes:
        value: Of the steps, ``[E, T]``.
        beyond: Of what comes after each episode's last step, ``[E]``; 0 if that is not told from
            an end.
    """

    value: Array
    beyond: Array


class Baseline(ABC):
    """A value estimate; a frozen dataclass of its settings.

    Either the policy optimiser trains it, as a network beside the policy (`layers`), or it is
    fitted by itself: `refit` once per update, for those that judge with what earlier updates
    taught it, and `fitted` for those that judge the very episodes that it is fitted to.
    """

    @property
    def layers(self) -> MLP | None:
        """Layers of the network beside the policy that estimates values; None if there is none."""
        return None

    @property
    @abstractmethod
    def bootstraps(self) -> bool:
        """Whether a time limit is told from a termination, by a value beyond it."""

    def init(self, obs_size: int) -> Any:
        """Returns what is learned apart from the network's parameters, before any update."""
        del obs_size
        return ()

    @abstractmethod
    def estimate(self, actor: Actor, learned: Any, steps: Trajectory, output: Array) -> Estimate:
        """Judges episodes by what earlier ones taught.

        Args:
            actor: Played them.
            learned: From `init` or `refit`.
            steps: Leaves ``[E, T, ...]``.
            output: What the network said of values while acting, ``[E, T]``; 0 without `layers`.
        """

    @abstractmethod
    def fitted(self, actor: Actor, steps: Trajectory, discount: Array | float) -> Estimate:
        """Judges episodes ``[E, T]``, by a fit to them unless a network knows better."""

    def refit(
        self,
        family: TaskFamily,
        params: Any,
        learned: Any,
        steps: Trajectory,
        tasks: Array,
        discount: Array | float,
    ) -> Any:
        """Returns what is learned, after an update.

        Args:
            family: The task family.
            params: What the policy of the next update reads: says how it sees observations.
            learned: From before.
            steps: Leaves ``[B, E, T, ...]``, of this device.
            tasks: Numbers of its tasks among those of all devices, ``[B]`` int32.
            discount: γ.
        """
        del family, params, steps, tasks, discount
        return learned

    def told(self, optimizer: PolicyOptimizer) -> PolicyOptimizer:
        """Returns the optimiser, told whether there is a value network for it to train."""
        return optimizer if self.layers else optimizer.without_value()

    def targets(self, batch: Batch) -> Batch:
        """Returns a batch whose value targets are 0 where no value network is to have them."""
        return batch if self.layers else batch._replace(target=jnp.zeros_like(batch.target))

    @property
    def units(self) -> int:
        """Units of the value network, whose activations back-propagation keeps."""
        return sum(self.layers.sizes) if self.layers else 0


@dataclass(frozen=True)
class _ValueNetwork(Baseline):
    """A network beside the policy, trained with it by the policy optimiser.

    Attributes:
        network: Its layers.
    """

    network: MLP

    @property
    def layers(self) -> MLP:
        return self.network

    @property
    def bootstraps(self) -> bool:
        return True

    def estimate(self, actor: Actor, learned: Any, steps: Trajectory, output: Array) -> Estimate:
        del learned
        return self._in_reward_units(actor, steps, output)

    def fitted(self, actor: Actor, steps: Trajectory, discount: Array | float) -> Estimate:
        del discount
        output = actor.network.replay(actor.params, steps.inputs, steps.mask).value
        return self._in_reward_units(actor, steps, output)

    def _in_reward_units(self, actor: Actor, steps: Trajectory, output: Array) -> Estimate:
        beyond = values_beyond(actor.network, actor.params, steps)
        return Estimate(*map(actor.moments.denormalize, (output, beyond)))


def as_baseline(part: Baseline | MLP) -> Baseline:
    """Returns the baseline that a field holds: layers alone are those of a `_ValueNetwork`."""
    return _ValueNetwork(part) if isinstance(part, MLP) else part
