"""A point that moves on the plane towards a goal it does not see."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core import drawings
from jaxmeta_envs.core.contracts import (
    Reference,
    TimedFamily,
    Timestep,
    Trajectory,
    random_reference,
    still_reference,
)
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields, check_least
from jaxmeta_envs.core.spaces import Box
from jaxmeta_envs.points.references import oracle, pacing, search, trilateration
from jaxmeta_envs.random.sampling import between_squares

_CORNERS = np.asarray([(-1, -1), (1, -1), (-1, 1), (1, 1)], np.float32)


class PointTask(NamedTuple):
    """One goal.

    Attributes:
        goal: Its position, float32 ``[2]``.
    """

    goal: Array


class PointState(NamedTuple):
    """Where an episode stands.

    Attributes:
        position: The point's position, float32 ``[2]``.
        time: Steps played, int32 scalar.
    """

    position: Array
    time: Array


@dataclass(frozen=True)
class PointFamily(TimedFamily[PointTask, PointState]):
    """A point on the plane; subclasses say where goals lie and what is rewarded.

    The observation is the position. An action is the move, each coordinate clipped to
    ±`reach`.

    Attributes:
        episode_length: Longest episode, in steps; the clock truncates it.
        num_episodes: Episodes per trial.
        reward: One of `rewards`.
    """

    reach: ClassVar[float] = 0.1
    rewards: ClassVar[tuple[str, ...]]

    episode_length: int = 100
    num_episodes: int = 4
    reward: str = "distance"

    def __post_init__(self) -> None:
        check_fields(self)
        check_least(self, episode_length=1, num_episodes=1)
        allowed = f"one of {', '.join(self.rewards)}"
        known = self.reward in self.rewards
        require(known, f"{type(self).__name__}.reward", self.reward, allowed)

    @abc.abstractmethod
    def pay(self, before: Array, after: Array, goal: Array) -> Array:
        """Returns the reward of a move, float32 scalar."""

    def start(self, key: Array) -> Array:
        """Draws the position in which an episode begins: the origin, unless overridden."""
        del key
        return jnp.zeros(2, jnp.float32)

    def arrived(self, position: Array, goal: Array) -> Array:
        """Whether the episode terminates at ``position``: never, unless overridden."""
        del position, goal
        return jnp.zeros((), bool)

    @property
    def observation_space(self) -> Box:
        return Box(-math.inf, math.inf, (2,))

    @property
    def action_space(self) -> Box:
        return Box(-self.reach, self.reach, (2,))

    def draw(self, axes: Any, task: PointTask, played: Trajectory, until: int) -> None:
        drawings.paths(axes, played, until, np.asarray(task.goal), np.asarray)

    def reset(self, key: Array, task: PointTask) -> tuple[PointState, Array]:
        del task
        position = self.start(key)
        return PointState(position, jnp.zeros((), jnp.int32)), position

    def step(
        self, key: Array, state: PointState, action: Array, task: PointTask
    ) -> tuple[PointState, Timestep]:
        del key
        position = state.position + self.action_space.clip(action)
        time = state.time + 1
        reward = self.pay(state.position, position, task.goal).astype(jnp.float32)
        terminated = self.arrived(position, task.goal)
        truncated = (time >= self.horizon) & ~terminated
        return PointState(position, time), Timestep(position, reward, terminated, truncated)


@dataclass(frozen=True)
class PointNavigation(PointFamily):
    """MAML's 2D navigation: a point that is told, step by step, how far its goal is.

    The goal is uniform in a square of side 1 around the start. Every step costs the distance
    that is left after it. The episode terminates where both coordinates are less than 0.01
    from the goal's.

    Who stands still earns -100 · 0.3826 = -38.3 (the mean distance is (√2 + ln(1 + √2)) / 6),
    who is told the goal -0.506. The paper's curve (its Table 4) is -40.4, -11.7, -3.3 and -3.2
    after 0 to 3 updates; its policies add noise to their actions to the end. An agent that
    remembers can do better: three distances are enough to know the goal, and "trilateration"
    earns -1.5 in the first episode.

    Splits:
        train, test: The same square.
        far: The goal is uniform in a square of twice the side, outside of the first one.

    Attributes:
        episode_length: Longest episode, in steps.
        num_episodes: Episodes per trial: 4, as many as the paper's curve has points.
        reward: "distance" is minus the distance, as in the released code, with which the
            published numbers were made: they fit it (standing still gives -38, the paper's
            policy before its first update -40). "squared" is minus its square, as the
            paper's text says: standing still then gives -100 / 6.
        side: Side of the square.

    Reference:
        Finn et al. (2017), "Model-agnostic meta-learning for fast adaptation of deep
        networks", section 5.3.
        Differs from the released code, whose policies act in units of 0.1 (a wrapper scales
        their actions): here an action is the move itself.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "far")
    rewards: ClassVar[tuple[str, ...]] = ("distance", "squared")

    reward: Literal["distance", "squared"] = "distance"
    side: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        valid = math.isfinite(self.side) and self.side > 0
        require(valid, "PointNavigation.side", self.side, "a finite number above 0")

    def sample_task(self, key: Array, split: str = "train") -> PointTask:
        self.check_split(split)
        half = self.side / 2
        if split != "far":
            return PointTask(jax.random.uniform(key, (2,), jnp.float32, -half, half))
        return PointTask(between_squares(key, half, 2 * half))

    def pay(self, before: Array, after: Array, goal: Array) -> Array:
        del before
        squared = jnp.sum((after - goal) ** 2)
        return -squared if self.reward == "squared" else -jnp.sqrt(squared)

    def arrived(self, position: Array, goal: Array) -> Array:
        return jnp.all(jnp.abs(position - goal) < 0.01)

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns "random", "oracle", "still" and "trilateration".

        The oracle moves as far towards the goal as it may, in both coordinates at once: at
        every step it is as near as can be, so that nobody does better.
        """
        del num_episodes
        return {
            "random": random_reference(self.action_space),
            "oracle": oracle(self),
            "still": still_reference(self.action_space),
            "trilateration": trilateration(self),
        }


@dataclass(frozen=True)
class SparsePointNavigation(PointFamily):
    """PEARL's sparse point robot: a goal on a half circle, felt only from nearby.

    The goal lies on the upper half of the unit circle around the start. Within `radius` of it
    a step earns 1 minus the distance, elsewhere nothing. Nothing terminates an episode. Told
    the goal one earns 13.4 in an episode, searching for it 3.5 in the first and 11.3 in the
    second.

    Splits:
        train, test: Of `num_goals` equispaced angles between 0 and π, ``holdout``, spread
            evenly, are drawn by "test" only, the others by "train" only: 20 and 80 in the
            published task. With ``num_goals=None`` both draw any angle, as VariBAD's code does.
        lower: Any angle of the other half of the circle.

    Attributes:
        episode_length: Steps of an episode.
        num_episodes: Episodes per trial: 20, as in PEARL's evaluation, which acts on the
            prior in the first five.
        reward: "sparse", with which PEARL adapts and is judged; or "distance", minus the
            distance wherever the point is, with which it is trained.
        radius: Distance to the goal from which on it is felt.
        num_goals: Number of goals on the half circle, both its ends included, or None for
            all angles.
        holdout: How many of them are kept for "test"; without meaning if `num_goals` is None.

    Reference:
        Rakelly et al. (2019), "Efficient off-policy meta-reinforcement learning via
        probabilistic context variables", section 6.3.
        Differs from the released code, which draws by chance which goals are held out and
        whose policies act in units of 0.1 (a wrapper scales their actions): here an action is
        the move itself.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "lower")
    rewards: ClassVar[tuple[str, ...]] = ("sparse", "distance")

    episode_length: int = 20
    num_episodes: int = 20
    reward: Literal["sparse", "distance"] = "sparse"
    radius: float = 0.2
    num_goals: int | None = 100
    holdout: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        within = math.isfinite(self.radius) and 0 < self.radius <= 1
        require(within, "SparsePointNavigation.radius", self.radius, "a number in (0, 1]")
        if self.num_goals is not None:
            check_least(self, num_goals=2)
            name, most = f"{type(self).__name__}.holdout", self.num_goals - 1
            require(0 <= self.holdout <= most, name, self.holdout, f"an integer in [0, {most}]")

    @property
    def disjoint_splits(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True unless there are finitely many goals and none is held out."""
        return self.num_goals is None or self.holdout > 0

    def angles(self, split: str = "train") -> np.ndarray:
        """Returns the angles from which ``split`` draws, where they are finitely many.

        Returns:
            float64 ``[G]``, rad.

        Raises:
            ConfigError: If ``split`` is unknown or draws any angle.
        """
        self.check_split(split)
        finite = self.num_goals is not None and split != "lower"
        require(finite, "split", split, "one whose goals are finitely many")
        angles = np.linspace(0.0, math.pi, self.num_goals or 0)
        if self.holdout == 0:
            return angles
        # The middles of ``holdout`` equal stretches.
        middles = (2 * np.arange(self.holdout) + 1) * len(angles) // (2 * self.holdout)
        held_out = np.isin(np.arange(len(angles)), middles)
        return angles[held_out if split == "test" else ~held_out]

    def sample_task(self, key: Array, split: str = "train") -> PointTask:
        self.check_split(split)
        if split == "lower" or self.num_goals is None:
            low = math.pi if split == "lower" else 0.0
            angle = jax.random.uniform(key, (), jnp.float32, low, low + math.pi)
        else:
            angles = jnp.asarray(self.angles(split), jnp.float32)
            angle = angles[jax.random.randint(key, (), 0, len(angles))]
        return PointTask(jnp.stack([jnp.cos(angle), jnp.sin(angle)]))

    def pay(self, before: Array, after: Array, goal: Array) -> Array:
        del before
        distance = jnp.linalg.norm(after - goal)
        if self.reward == "distance":
            return -distance
        return jnp.where(distance <= self.radius, 1.0 - distance, 0.0)

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns "random", "oracle" and "search", which knows the half circle.

        The oracle is as near to the goal at every step as can be: nobody does better. The
        search visits the nearest goal that is still possible, held out or not, the one with
        the smallest angle from the start; what it feels, or does not feel, excludes goals.
        Of a continuum of goals it knows 1000.
        """
        del num_episodes
        number = self.num_goals or 1000
        angles = np.linspace(0.0, math.pi, number)
        goals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        exact = self.num_goals is not None
        return {
            "random": random_reference(self.action_space),
            "oracle": oracle(self),
            "search": search(self, goals, 1e-4 if exact else math.pi / number),
        }


@dataclass(frozen=True)
class PointNavigationCorners(PointFamily):
    """ProMP's point mass: four corners, one of them the goal, felt in its quarter only.

    The goal is one of (±2, ±2). An episode begins anywhere in a square of side 0.4 around the
    origin; moves are clipped to ±0.2. A step is rewarded by the progress that it makes towards
    the goal, in distance, if it ends in the goal's quarter of the plane (no corner is nearer)
    and not within `quiet` of the origin, in the sum of its coordinates' sizes; else by
    nothing. Nothing terminates an episode.

    There are four tasks and no more: "test" draws the same ones as "train", and what is
    measured on it is how fast an agent finds out which of its tasks it is in.

    The sparse reward has a loophole: the way out of the goal's quarter, or back to the origin,
    costs nothing, and the way in pays each time. Straight to the goal a step earns 0.28 for as
    long as there is progress to make, 2.6 in all; "pacing" to and fro earns half of that per
    step for the whole episode, 15 in all.

    Splits:
        train, test: The corners (±2, ±2).
        far: The corners (±3, ±3).

    Attributes:
        episode_length: Steps of an episode.
        num_episodes: Episodes per trial: 4, one before and one after each of the paper's three
            adaptation steps (the released script makes one).
        reward: "sparse", or minus the "distance" to the goal or that "squared", which the
            released code has as dense rewards.
        quiet: Size of the region around the origin where nothing is rewarded, in the sparse
            reward.

    Reference:
        Rothfuss et al. (2019), "ProMP: proximal meta-policy search", appendix;
        ``MetaPointEnvCorner`` of the released code.
        Differs from the released code, whose policies act in units of 0.2 (a wrapper
        scales their actions): here an action is the move itself.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "far")
    disjoint_splits: ClassVar[bool] = False
    rewards: ClassVar[tuple[str, ...]] = ("sparse", "distance", "squared")
    reach: ClassVar[float] = 0.2

    reward: Literal["sparse", "distance", "squared"] = "sparse"
    quiet: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        valid = math.isfinite(self.quiet) and self.quiet >= 0
        require(valid, "PointNavigationCorners.quiet", self.quiet, "a number of at least 0")

    def sample_task(self, key: Array, split: str = "train") -> PointTask:
        self.check_split(split)
        size = 3.0 if split == "far" else 2.0
        return PointTask(size * jnp.asarray(_CORNERS)[jax.random.randint(key, (), 0, 4)])

    def start(self, key: Array) -> Array:
        return jax.random.uniform(key, (2,), jnp.float32, -0.2, 0.2)

    def pay(self, before: Array, after: Array, goal: Array) -> Array:
        distance = jnp.linalg.norm(after - goal)
        if self.reward != "sparse":
            return -distance if self.reward == "distance" else -(distance**2)
        loud = jnp.sum(jnp.abs(after)) >= self.quiet
        nearest = jnp.all(after * goal >= 0)  # on the border two corners are
        progress = jnp.linalg.norm(before - goal) - distance
        return jnp.where(loud & nearest, progress, 0.0)

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns "random", "oracle", "search" and, for the sparse reward, "pacing".

        The oracle goes straight to the goal. The search does not know which corner it is: it
        goes to the nearest one that is still possible, and learns on leaving the quiet region
        whether it is right. "pacing", told the goal, uses the loophole.
        """
        del num_episodes
        references = {
            "random": random_reference(self.action_space),
            "oracle": oracle(self),
            "search": search(self, 2.0 * _CORNERS, 1e-3),
        }
        if self.reward == "sparse" and 0.3 < self.quiet < 0.7:
            references["pacing"] = pacing(self)
        return references
