"""Rounds of training: train, meet the target, adapt, go on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.config import TrainConfig
from jaxmeta.runtime import hosts
from jaxmeta.sim_to_real.targets import make_target
from jaxmeta.streams import Stream, stream_key


class Rounds:
    """What happens on the host between two stretches of training, if there is a target.

    Every random number depends on the seed and the update alone, so that a resumed run
    goes on as it would have.

    Args:
        config: The run; its target is made here.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._policy = config.algorithm.policy(config.tasks)
        self._learner: Any = config.algorithm  # if there is a target, one that adapts to it
        self._seeds = range(config.seed, config.seed + config.num_seeds)
        family: Any = config.tasks
        text = config.target
        self._targets = [] if text is None else [make_target(text, family, s) for s in self._seeds]

    @property
    def played(self) -> str:
        """How long episodes on the target are: a return of 200 may be all there is."""
        family: Any = self._config.tasks
        horizon = family.horizon
        own = self._targets[0].own_steps
        if own is not None and own > horizon:
            return f"the first {horizon:,} of an episode's {own:,} steps"
        return f"at most {horizon:,} steps"

    def due(self, update: int) -> bool:
        """Whether a round ends with this update."""
        return bool(self._targets) and update > 0 and update % self._learner.round_updates == 0

    def meet(self, state: Any, update: int) -> tuple[Any, dict[str, np.ndarray]]:
        """Plays every seed's policy on its target and lets the algorithm learn from it.

        Args:
            state: State with a leading seeds axis.
            update: Updates done.

        Returns:
            The new state, where the old one was, and values ``[S]``: the mean return on the
            target, what the algorithm says of its adaptation, and the target's parameters
            as ``truth/NAME`` where they are known.
        """
        states, values, copy = [], [], hosts.own_copy(state)
        for index in range(len(self._seeds)):
            one = jax.tree.map(lambda x: x[index], copy)  # noqa: B023
            one, measured = self._meet_one(one, index, update)
            states.append(one)
            values.append(measured)
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), stacked, state)
        return placed, {name: np.asarray([v[name] for v in values]) for name in values[0]}

    def _meet_one(self, state: Any, index: int, update: int) -> tuple[Any, dict[str, float]]:
        algorithm, family = self._learner, self._config.tasks
        target = self._targets[index]
        key = stream_key(self._seeds[index], Stream.ROUNDS)
        watch_key, meet_key = jax.random.split(jax.random.fold_in(key, update))
        episodes = algorithm.target_episodes
        watched = target.watch(self._policy, state.params, watch_key, episodes)
        state, measured = algorithm.meet(family, state, watched.transitions, meet_key)
        values = {"target_return": float(watched.returns.mean())}
        values |= {name: float(value) for name, value in measured.items()}
        if target.truth is not None:
            values |= {f"truth/{n}": float(v) for n, v in target.truth._asdict().items()}
        return state, values


def describe_round(number: int, values: dict[str, np.ndarray], played: str) -> str:
    """Returns one line on a round, of the mean over seeds, for people.

    Args:
        number: Counted from 1.
        values: What `Rounds.meet` measured.
        played: See `Rounds.played`.
    """
    means = {name: float(np.mean(v)) for name, v in values.items()}
    prefix = "posterior_std/"
    # What was known all along is not worth telling.
    names = [n.removeprefix(prefix) for n, x in means.items() if n.startswith(prefix) and x > 0]
    intervals = (
        f"{n} {means[f'posterior_mean/{n}']:.4g} "
        f"[{means[f'posterior_low/{n}']:.4g}, {means[f'posterior_high/{n}']:.4g}]"
        for n in names
    )
    reached = f"{means['target_return']:.4g} on the target in {played}"
    return f"round {number}: {reached}; {', '.join(intervals)}"
