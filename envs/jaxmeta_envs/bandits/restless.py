"""Two arms whose payout drifts, slowly in some tasks and fast in others.

Axes: T pulls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.bandits.restless_references import bayes_filter, delta_rule, oracle, reflect
from jaxmeta_envs.core import drawings
from jaxmeta_envs.core.contracts import (
    Reference,
    TaskFamily,
    Timestep,
    Trajectory,
    random_reference,
)
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields, check_least
from jaxmeta_envs.core.spaces import Discrete


class RestlessTask(NamedTuple):
    """One walk of the payout probability.

    Attributes:
        start: Where it starts, in [0, 1], float32 scalar.
        volatility: Standard deviation of its steps, float32 scalar.
        noise: Steps in units of the volatility, one after each pull, float32 ``[T]``.
    """

    start: Array
    volatility: Array
    noise: Array

    @property
    def probs(self) -> Array:
        """Probability that the first arm pays, at each pull, ``[T]``."""
        steps = self.volatility * jnp.cumsum(self.noise)[:-1]
        return reflect(self.start + jnp.concatenate([jnp.zeros(1, steps.dtype), steps]))


class RestlessState(NamedTuple):
    """Where an episode stands.

    Attributes:
        position: Where the walk would be without the bounds, float32 scalar.
        time: Pulls made, int32 scalar.
    """

    position: Array
    time: Array


@dataclass(frozen=True)
class RestlessBandit(TaskFamily[RestlessTask, RestlessState]):
    r"""Two arms that pay 1 with probabilities p and 1 - p, where p walks within [0, 1].

    The first p is uniform. After every pull it makes a step, and is reflected at 0 and 1:

    .. math:: p_{t+1} = \mathrm{reflect}(p_t + \sigma \epsilon_t), \quad
        \epsilon_t \sim N(0, 1).

    The volatility σ is ``low`` or ``high``, equally likely, and is the same for a whole
    task. The agent sees neither p nor σ: how fast it should forget is to be learned from
    the rewards.

    An episode is all T pulls, and the published protocol has one episode per task. The walk
    belongs to the task, so that an oracle can be told it: a second episode of the same task
    walks the same way again.

    Told p, an agent earns 3/4 per pull. The exact optimum is not known as a number; the
    reference "bayes-filter" attains it up to a grid (see there): 68.5 in 100 pulls (standard
    error 0.1), 0.5 more than the best fixed learning rate.

    Splits:
        train, test: As above.
        low, high: One volatility only.
        extreme: Twice the high volatility.

    Differs from the paper: there too p₁ + p₂ = 1, episodes have 100 pulls, and p changes
    slowly in some and fast in others; its volatilities and what it does at the bounds are
    not known to us, and are chosen here.

    Attributes:
        num_pulls: T.
        low_volatility: The smaller σ, from 0.005 to 1.
        high_volatility: The larger σ, at most 1.

    Reference:
        Wang et al. (2016), "Learning to reinforcement learn", section 3.1.3; the contrast
        of volatilities is that of Behrens et al. (2007), "Learning the value of information
        in an uncertain world".
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "low", "high", "extreme")
    finite_horizon: ClassVar[bool] = True

    num_pulls: int = 100
    low_volatility: float = 0.02
    high_volatility: float = 0.2

    def __post_init__(self) -> None:
        check_fields(self)
        check_least(self, num_pulls=1)
        # Below, the grid of the filter would have to be finer than is quick.
        for name, least in (("low_volatility", 0.005), ("high_volatility", self.low_volatility)):
            value = getattr(self, name)
            require(
                math.isfinite(value) and least <= value <= 1.0,
                f"RestlessBandit.{name}",
                value,
                f"a number between {least} and 1",
            )

    @property
    def observation_space(self) -> Discrete:
        return Discrete(1)

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    @property
    def horizon(self) -> int:
        return self.num_pulls

    @property
    def default_episodes(self) -> int:
        return 1

    def sample_task(self, key: Array, split: str = "train") -> RestlessTask:
        self.check_split(split)
        start_key, volatility_key, noise_key = jax.random.split(key, 3)
        low, high = {
            "low": (self.low_volatility, self.low_volatility),
            "high": (self.high_volatility, self.high_volatility),
            "extreme": (2.0 * self.high_volatility, 2.0 * self.high_volatility),
        }.get(split, (self.low_volatility, self.high_volatility))
        volatility = jnp.where(jax.random.bernoulli(volatility_key), high, low)
        return RestlessTask(
            start=jax.random.uniform(start_key, (), jnp.float32),
            volatility=volatility.astype(jnp.float32),
            noise=jax.random.normal(noise_key, (self.num_pulls,), jnp.float32),
        )

    def reset(self, key: Array, task: RestlessTask) -> tuple[RestlessState, Array]:
        del key
        return RestlessState(task.start, jnp.zeros((), jnp.int32)), jnp.zeros((), jnp.int32)

    def step(
        self, key: Array, state: RestlessState, action: Array, task: RestlessTask
    ) -> tuple[RestlessState, Timestep]:
        first = reflect(state.position)
        prob = jnp.where(action <= 0, first, 1.0 - first)
        position = state.position + task.volatility * task.noise[state.time]
        time = state.time + 1
        return RestlessState(position, time), Timestep(
            obs=jnp.zeros((), jnp.int32),
            reward=jax.random.bernoulli(key, prob).astype(jnp.float32),
            terminated=time >= self.num_pulls,
            truncated=jnp.asarray(False),
        )

    def draw(self, axes: Any, task: RestlessTask, played: Trajectory, until: int) -> None:
        drawings.walk(axes, jax.tree.map(lambda x: x[0], played), until, np.asarray(task.probs))

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns random, oracle, delta-rule and bayes-filter, all of which forget at reset."""
        del num_episodes
        return {
            "random": random_reference(self.action_space),
            "oracle": oracle(),
            "delta-rule": delta_rule(),
            "bayes-filter": bayes_filter(self.low_volatility, self.high_volatility),
        }
