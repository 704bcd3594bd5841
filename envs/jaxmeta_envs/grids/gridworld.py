"""Navigation to a hidden goal cell on a small grid.

The smallest task family that needs directed exploration: until the goal is found nothing
distinguishes one task from another, so what a policy is worth is how well it sweeps the
grid, and the best sweep is known exactly (`gridworld_solver`).
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

from jaxmeta_envs.core import drawings
from jaxmeta_envs.core.contracts import (
    Reference,
    TaskFamily,
    Timestep,
    Trajectory,
    random_reference,
)
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields
from jaxmeta_envs.core.spaces import Discrete
from jaxmeta_envs.grids.references import bayes_optimal, oracle, posterior_sampling
from jaxmeta_envs.grids.solver import MOVES, distances, goal_cells, optimal_plan

_LARGEST = 100  # cells of a side


class GridTask(NamedTuple):
    """One goal.

    Attributes:
        goal: Its cell ``y * size + x``, int32 scalar.
    """

    goal: Array


class GridState(NamedTuple):
    """Where an episode stands.

    Attributes:
        position: The agent's cell ``y * size + x``, int32 scalar.
        time: Steps played, int32 scalar.
    """

    position: Array
    time: Array


@dataclass(frozen=True)
class GridNavigation(TaskFamily[GridTask, GridState]):
    """A square grid with one goal cell that the agent does not see.

    The agent starts at cell (0, 0) and moves by the actions noop, up, right, down, left
    (0 to 4; up is +y, right is +x); a move into a wall leaves it where it is. It observes
    its own cell only, ``y * size + x``. The goal is uniform over all cells but the four
    next to the start: (0, 0), (0, 1), (1, 0) and (1, 1). A step is rewarded by the cell it
    leads to, ``goal_reward`` on the goal and ``step_reward`` elsewhere.

    The defaults are the published 5×5 task of 15 steps, but for goals that are held out: the
    goal ends nothing, the agent gathers +1 on it for as long as it stays, and the 15th step
    terminates. By `shortest_path` the goal ends the episode instead; see there.

    Splits:
        train, test: "test" draws from h goals, spread evenly over the rows, that "train" never
            draws: a fifth of all, 4 of the 21 on the 5×5 grid. With ``holdout=0``, the
            published protocol, both draw from all goals.
        far: The goals beyond the anti-diagonal, those at least ``size`` steps away,
            whether held out or not.

    Attributes:
        size: Side of the grid, at least 3.
        episode_length: Steps per episode; enough to reach the farthest corner.
        step_reward: Reward of a step that does not lead to the goal.
        goal_reward: Reward of a step that leads to the goal, or stays on it.
        goal_ends_episode: Whether reaching the goal terminates the episode. The clock is
            then no part of the task, and an episode that it stops is truncated.
        holdout: How many goals are kept for "test". None: a fifth; 0: none, as published, the
            only way for which the exact optimum is given.

    Reference:
        Zintgraf et al. (2020), "VariBAD: a very good method for Bayes-adaptive deep RL via
        meta-learning", section 5.1.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "far")

    size: int = 5
    episode_length: int = 15
    step_reward: float = -0.1
    goal_reward: float = 1.0
    goal_ends_episode: bool = False
    holdout: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        within = 3 <= self.size <= _LARGEST
        text = f"an integer from 3 to {_LARGEST}, as paths to all goals are computed"
        require(within, "GridNavigation.size", self.size, text)
        longest = 2 * (self.size - 1)
        require(
            self.episode_length >= longest,
            "GridNavigation.episode_length",
            self.episode_length,
            f"an integer of at least {longest}, the steps to the farthest corner",
        )
        require(
            math.isfinite(self.step_reward)
            and (self.step_reward < 0 or not self.goal_ends_episode),
            "GridNavigation.step_reward",
            self.step_reward,
            "a finite number, below 0 if the goal ends the episode",
        )
        # Otherwise the goal would be a place to avoid, and the references no optimum.
        worthwhile = self.goal_reward > self.step_reward or (
            self.goal_ends_episode and self.goal_reward == self.step_reward
        )
        require(
            math.isfinite(self.goal_reward) and worthwhile,
            "GridNavigation.goal_reward",
            self.goal_reward,
            f"a finite number above step_reward={self.step_reward} (or equal to it if the "
            "goal ends the episode)",
        )
        most = len(goal_cells(self.size)) - 1
        require(
            self.holdout is None or 0 <= self.holdout <= most,
            "GridNavigation.holdout",
            self.holdout,
            f"None or an integer between 0 and {most}",
        )

    @classmethod
    def shortest_path(
        cls, size: int = 5, episode_length: int | None = None, holdout: int | None = None
    ) -> GridNavigation:
        """Returns the n×n task of reaching the goal in as few steps as possible.

        Every step costs 1, the one that reaches the goal included, and the goal ends the
        episode: the return is minus the number of steps played. An episode stopped by the
        clock is truncated, not terminated.

        Args:
            size: Side n of the grid.
            episode_length: Longest episode. By default n², enough for one sweep over the
                whole grid.
            holdout: How many goals are kept for "test"; None: a fifth.
        """
        return cls(
            size=size,
            episode_length=size**2 if episode_length is None else episode_length,
            step_reward=-1.0,
            goal_reward=-1.0,
            goal_ends_episode=True,
            holdout=holdout,
        )

    @property
    def finite_horizon(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True unless the goal ends the episode."""
        return not self.goal_ends_episode

    @property
    def disjoint_splits(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True unless no goal is held out."""
        return self._num_held_out > 0

    @property
    def _num_held_out(self) -> int:
        if self.holdout is not None:
            return self.holdout
        return max(1, len(goal_cells(self.size)) // 5)

    @property
    def observation_space(self) -> Discrete:
        return Discrete(self.size**2)

    @property
    def action_space(self) -> Discrete:
        return Discrete(len(MOVES))

    @property
    def horizon(self) -> int:
        return self.episode_length

    @property
    def default_episodes(self) -> int:
        return 4

    def goals(self, split: str = "train") -> np.ndarray:
        """Returns the cells from which ``split`` draws the goal, int32 ``[G]``."""
        self.check_split(split)
        cells = goal_cells(self.size)
        if split == "far":
            return cells[distances(self.size, cells) >= self.size]
        number = self._num_held_out
        if number == 0:
            return cells
        # The middles of so many equal stretches of the row-by-row list.
        middles = (2 * np.arange(number) + 1) * len(cells) // (2 * number)
        held_out = np.isin(np.arange(len(cells)), middles)
        return cells[held_out if split == "test" else ~held_out]

    def sample_task(self, key: Array, split: str = "train") -> GridTask:
        cells = self.goals(split)
        return GridTask(goal=jnp.asarray(cells)[jax.random.randint(key, (), 0, len(cells))])

    def reset(self, key: Array, task: GridTask) -> tuple[GridState, Array]:
        del key, task
        start = jnp.zeros((), jnp.int32)
        return GridState(position=start, time=jnp.zeros((), jnp.int32)), start

    def step(
        self, key: Array, state: GridState, action: Array, task: GridTask
    ) -> tuple[GridState, Timestep]:
        del key
        move = jnp.asarray(MOVES, jnp.int32)[self.action_space.clip(action)]
        x = jnp.clip(state.position % self.size + move[0], 0, self.size - 1)
        y = jnp.clip(state.position // self.size + move[1], 0, self.size - 1)
        position = y * self.size + x
        time = state.time + 1
        at_goal = position == task.goal
        out_of_time = time >= self.episode_length
        if self.goal_ends_episode:
            terminated, truncated = at_goal, out_of_time & ~at_goal
        else:
            terminated, truncated = out_of_time, jnp.zeros_like(out_of_time)
        reward = jnp.where(at_goal, self.goal_reward, self.step_reward).astype(jnp.float32)
        return GridState(position, time), Timestep(position, reward, terminated, truncated)

    def draw(self, axes: Any, task: GridTask, played: Trajectory, until: int) -> None:
        def place(cells: Any) -> Any:
            return np.stack([cells % self.size, cells // self.size], axis=-1)

        drawings.paths(axes, played, until, place(np.asarray(task.goal)), place)
        edges = np.arange(self.size + 1) - 0.5
        axes.set_xticks(edges, [""] * len(edges))
        axes.set_yticks(edges, [""] * len(edges))
        axes.grid(linewidth=0.6)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(edges[0], edges[-1])

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns "random", "oracle", "posterior sampling" and, if solved, "bayes-optimal".

        The last is there where `optimal_plan` proves a plan for trials of
        ``num_episodes`` episodes. It and posterior sampling believe in all goals alike,
        held out or not: they know the grid, and not which split they are in.
        """
        references = {
            "random": random_reference(self.action_space),
            "oracle": oracle(self),
            "posterior sampling": posterior_sampling(self),
        }
        plan = optimal_plan(self.size, self.horizon, num_episodes, self._miss_step())
        if plan is not None:
            references["bayes-optimal"] = bayes_optimal(self, plan.actions)
        return references

    def optimal_returns(self, num_episodes: int) -> np.ndarray | None:
        """Expected return of each episode under the exact Bayes-optimal policy.

        On the published task, ``holdout=0``: 4 in the first episode, in whose 15 steps 14 of
        the 21 goals can be seen, and 232.5 / 21 = 11.0714 in every later one, which is what
        knowing the goal is worth; the seven goals left lie on one shortest path to the far
        corner.
        Where two policies are optimal they may share out the total differently over the
        episodes; what is returned belongs to the one in `references`.

        Returns:
            float64 ``[num_episodes]``. None if goals are held out, where the two splits have
            different optima, and for grids on which the search for a plan does not
            end within `MAX_EXPANSIONS` nodes: every horizon up to 5×5 is solved, and so
            is every grid whose horizon is long enough for a sweep.
        """
        plan = optimal_plan(self.size, self.horizon, num_episodes, self._miss_step())
        if plan is None or self._num_held_out > 0:
            return None
        shortest = distances(self.size, goal_cells(self.size))
        returns = np.empty(num_episodes)
        for episode in range(num_episodes):
            step = np.where(plan.episode == episode, plan.step, shortest)
            found = self._return_if_found(step.astype(np.float64))
            missed = self.horizon * self.step_reward
            returns[episode] = np.where(plan.episode <= episode, found, missed).mean()
        return returns

    def _return_if_found(self, step: np.ndarray) -> np.ndarray:
        """Return of an episode that gets to the goal at ``step``, and stays if it may."""
        on_goal = 1 if self.goal_ends_episode else self.horizon + 1 - step
        return (step - 1) * self.step_reward + on_goal * self.goal_reward

    def _miss_step(self) -> float:
        """The step at which finding the goal would be worth as little as not finding it.

        The return is linear in the step, so this is all that the solver needs to know of
        the rewards.
        """
        if self.goal_ends_episode:
            return self.horizon + 1 - self.goal_reward / self.step_reward
        return float(self.horizon + 1)
