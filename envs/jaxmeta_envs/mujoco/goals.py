"""Half-cheetah and ant with a direction, a speed or a place to reach that they are not told.

Differs from Gymnasium's environments: the simulator is MJX in float32 (see
`jaxmeta_envs.mujoco.locomotion` for by how much the cheetah differs), rewards are those of the
papers, and actions out of bounds are clipped before they are paid for. The ant's velocities after
one step are the same within 1e-4 (m/s, rad/s) unless a leg on the ground is within 30° of the
vertical: MJX then lines up the pyramid of its friction with the world's axes, and MuJoCo with the
leg, so that they differ by 0.1 in half of such cases and by as much as 1.

On one CPU core, with 64 tasks, the ant makes some 700 steps a second.

Differs from MAML's released code, which uses rllab's model files: there the cheetah acts 100
times a second and not 20, and the ant 50 times. An episode of 200 steps lasts 2 s (cheetah) or
4 s (ant) there and 10 s here, and the paper's returns cannot be compared with those here. Its
velocity is that of the whole body's centre of mass at the end of a step; here, as in the code of
ProMP, PEARL and VariBAD, it is how far the torso moved in the step. For the ant they, and
Gymnasium, look up where MuJoCo saw the torso last, which is within the step: by random actions
their velocity differs by 0.05 m/s at most.

Differs from all of them: an ant's contact forces cost nothing and are not observed. MJX does not
compute them in a step. In Gymnasium's Ant-v5 they cost 0.0009 a step on average, and never more
than 0.009, over 20 episodes of random actions, as they are clipped.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.contracts import Reference, Task, random_reference, still_reference
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.mujoco.bodies import Body, BodyFamily, BodyState
from jaxmeta_envs.mujoco.locomotion import HALF_CHEETAH
from jaxmeta_envs.random.sampling import between_circles, between_squares, on_circle

ANT = Body(
    file="ant.xml",
    frame_skip=5,
    num_positions=15,
    num_velocities=14,
    num_actions=8,
    noise=0.1,
    normal_velocities=True,
    hidden=2,
)


class DirectionTask(NamedTuple):
    """Where to run.

    Attributes:
        direction: Of the cheetah 1 for forward and -1 for backward, float32 scalar; of the
            ant a unit vector on the ground, float32 ``[2]``.
    """

    direction: Array


class VelocityTask(NamedTuple):
    """How fast to run.

    Attributes:
        velocity: Along the first axis, m/s, float32 scalar.
    """

    velocity: Array


class PlaceTask(NamedTuple):
    """Where to go.

    Attributes:
        goal: A point on the ground, m, float32 ``[2]``.
    """

    goal: Array


class Terms(NamedTuple):
    """What is paid besides the goal.

    Attributes:
        action_cost: Weight of the squared action.
        bonus: Paid at every step.
        lowest: The episode terminates if the torso is lower than this, m, or higher than 1 m,
            or if a number is not finite; None: nothing terminates it.
    """

    action_cost: float
    bonus: float = 0.0
    lowest: float | None = None


_CHEETAH = Terms(action_cost=0.05)
_ANT = {
    "maml": Terms(action_cost=0.005, bonus=0.05, lowest=0.2),
    "promp": Terms(action_cost=0.5, bonus=1.0, lowest=0.0),
    "pearl": Terms(action_cost=0.5, bonus=1.0, lowest=0.2),
}
_ANT_PLACE = {
    "promp": Terms(action_cost=0.1),
    "maml": Terms(action_cost=0.005, bonus=4.05, lowest=0.2),
}


@dataclass(frozen=True)
class LocomotionGoal(BodyFamily[Task]):
    """A body that is rewarded for reaching a goal; subclasses say which.

    Attributes:
        episode_length: Longest episode, in steps; the clock truncates it.
        num_episodes: Episodes per trial: 2, as VariBAD has it. A learner that takes gradient
            steps plays as many as it asks for.
    """

    episode_length: int = 200
    num_episodes: int = 2

    @property
    @abc.abstractmethod
    def terms(self) -> Terms:
        """What is paid besides the goal."""

    @abc.abstractmethod
    def merit(self, before: BodyState, after: BodyState, task: Task) -> Array:
        """Returns what a step is worth for the goal, float32 scalar."""

    def velocity(self, before: BodyState, after: BodyState, axes: int) -> Array:
        """Returns the torso's mean velocity along the first ``axes`` axes in a step, m/s."""
        moved = after.positions[:axes] - before.positions[:axes]
        return moved / self.body.step_seconds

    def outcome(
        self, before: BodyState, after: BodyState, action: Array, task: Task
    ) -> tuple[Array, Array]:
        terms = self.terms
        reward = self.merit(before, after, task) - terms.action_cost * jnp.sum(action**2)
        terminated = jnp.zeros((), bool)
        if terms.lowest is not None:
            height = after.positions[2]
            state = jnp.concatenate([after.positions, after.velocities])
            upright = (terms.lowest <= height) & (height <= 1.0)
            terminated = ~(upright & jnp.all(jnp.isfinite(state)))
        return reward + terms.bonus, terminated

    def references(self, num_episodes: int) -> Mapping[str, Reference]:
        """Returns "random" and "still", which leaves all motors off. Nobody is told the goal."""
        del num_episodes
        space = self.action_space
        return {"random": random_reference(space), "still": still_reference(space)}

    def _require_one_of(self, name: str, *allowed: str) -> None:
        value = getattr(self, name)
        words = f"one of {', '.join(allowed)}"
        require(value in allowed, f"{type(self).__name__}.{name}", value, words)


@dataclass(frozen=True)
class HalfCheetahDirection(LocomotionGoal[DirectionTask]):
    """The half-cheetah that is to run forward or backward.

    Every step is rewarded by the speed in the task's direction (m/s) and costs 0.05 times the
    squared action. Nothing terminates an episode. Body and observation are those of
    `jaxmeta_envs.HalfCheetah`.

    There are two tasks and no more: "test" draws the same ones as "train", and what is
    measured on it is how fast an agent finds out in which of them it is.

    Attributes:
        episode_length: Steps of an episode: 200 in MAML, PEARL and VariBAD, 100 in ProMP.
        num_episodes: Episodes per trial.

    Reference:
        Finn et al. (2017), "Model-agnostic meta-learning for fast adaptation of deep
        networks", section 5.3; `jaxmeta_envs.mujoco.goals` says what differs.
    """

    body: ClassVar[Body] = HALF_CHEETAH
    disjoint_splits: ClassVar[bool] = False

    @property
    def terms(self) -> Terms:
        return _CHEETAH

    def sample_task(self, key: Array, split: str = "train") -> DirectionTask:
        self.check_split(split)
        return DirectionTask(jax.random.rademacher(key, (), jnp.float32))

    def merit(self, before: BodyState, after: BodyState, task: DirectionTask) -> Array:
        return task.direction * self.velocity(before, after, 1)[0]


@dataclass(frozen=True)
class HalfCheetahVelocity(LocomotionGoal[VelocityTask]):
    """The half-cheetah that is to run at a given speed.

    Every step costs the difference between its speed and the task's (m/s), and 0.05 times the
    squared action. Nothing terminates an episode. Body and observation are those of
    `jaxmeta_envs.HalfCheetah`. A cheetah at rest loses the mean of all speeds at every step:
    -200 in an episode of 200 steps of MAML's tasks.

    Splits:
        train, test: Speeds uniform between 0 and the highest.
        far: Uniform between the highest and one and a half of it.

    Attributes:
        episode_length: Steps of an episode.
        num_episodes: Episodes per trial.
        velocities: The highest speed: "maml" is 2 m/s, "promp" 3 m/s, which PEARL and
            VariBAD use as well.

    Reference:
        Finn et al. (2017), "Model-agnostic meta-learning for fast adaptation of deep
        networks", section 5.3; `jaxmeta_envs.mujoco.goals` says what differs.
    """

    body: ClassVar[Body] = HALF_CHEETAH
    splits: ClassVar[tuple[str, ...]] = ("train", "test", "far")

    velocities: Literal["maml", "promp"] = "maml"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_one_of("velocities", "maml", "promp")

    @property
    def terms(self) -> Terms:
        return _CHEETAH

    def sample_task(self, key: Array, split: str = "train") -> VelocityTask:
        self.check_split(split)
        return _draw_velocity(key, split, 2.0 if self.velocities == "maml" else 3.0)

    def merit(self, before: BodyState, after: BodyState, task: VelocityTask) -> Array:
        return -jnp.abs(self.velocity(before, after, 1)[0] - task.velocity)


@dataclass(frozen=True)
class AntDirection(LocomotionGoal[DirectionTask]):
    """The ant that is to run in a given direction.

    Four legs of two joints carry a ball, 20 actions a second, each eight torques. It observes
    height, the quaternion of its orientation, eight angles and all fourteen velocities (m,
    rad, m/s, rad/s), but not where it is. Every step is rewarded by the speed in the task's
    direction (m/s) and by a bonus for being alive, and costs a share of the squared action.
    The episode terminates when the torso is too low or above 1 m.

    Where `directions` is not "any" there are two tasks and no more, and "test" draws the same
    ones as "train".

    Splits:
        train, test: The given directions.
        sideways: Left or right, (0, ±1): a shift unless `directions` is "any".

    Attributes:
        episode_length: Longest episode, in steps.
        num_episodes: Episodes per trial.
        directions: "forward-backward" is (±1, 0), as in MAML and in ProMP's
            ``AntRandDirecEnv``; "any" all around, as in ProMP's ``AntRandDirec2DEnv`` and,
            with no more than two of them, in PEARL's code as released; "one-radian" is an
            angle of 1 or -1 rad, as in VariBAD's code, which takes the cosine and sine of
            ±1.
        reward: "maml": 0.05 for being alive, torso above 0.2 m, and 0.005 times the squared
            action; "pearl": 1, 0.2 m and 0.5, which VariBAD uses as well; "promp": the
            same, but the torso may be as low as 0 m.

    Reference:
        Finn et al. (2017), "Model-agnostic meta-learning for fast adaptation of deep
        networks", section 5.3; Rothfuss et al. (2019), "ProMP"; Rakelly et al. (2019),
        "PEARL"; Zintgraf et al. (2020), "VariBAD"; `jaxmeta_envs.mujoco.goals` says what
        differs.
    """

    body: ClassVar[Body] = ANT
    splits: ClassVar[tuple[str, ...]] = ("train", "test", "sideways")

    directions: Literal["forward-backward", "any", "one-radian"] = "forward-backward"
    reward: Literal["maml", "promp", "pearl"] = "maml"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_one_of("directions", "forward-backward", "any", "one-radian")
        self._require_one_of("reward", *_ANT)

    @property
    def disjoint_splits(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True if there is a continuum of directions, not just two."""
        return self.directions == "any"

    @property
    def terms(self) -> Terms:
        return _ANT[self.reward]

    def sample_task(self, key: Array, split: str = "train") -> DirectionTask:
        self.check_split(split)
        if split != "sideways" and self.directions == "any":
            angle = jax.random.uniform(key, (), jnp.float32, -jnp.pi, jnp.pi)
            return DirectionTask(on_circle(angle))
        sign = jax.random.rademacher(key, (), jnp.float32)
        if split == "sideways":
            return DirectionTask(sign * jnp.asarray([0.0, 1.0], jnp.float32))
        if self.directions == "one-radian":
            return DirectionTask(on_circle(sign))
        return DirectionTask(sign * jnp.asarray([1.0, 0.0], jnp.float32))

    def merit(self, before: BodyState, after: BodyState, task: DirectionTask) -> Array:
        return self.velocity(before, after, 2) @ task.direction


@dataclass(frozen=True)
class AntVelocity(LocomotionGoal[VelocityTask]):
    """The ant that is to run forward at a given speed.

    Every step is rewarded by 1 less the difference between its speed and the task's (m/s)
    and by 0.05, and costs 0.005 times the squared action. The episode terminates when the torso
    is below 0.2 or above 1 m. Body and observation are those of `AntDirection`.

    Splits:
        train, test: Speeds uniform between 0 and 3 m/s.
        far: Uniform between 3 and 4.5 m/s.

    Attributes:
        episode_length: Longest episode, in steps.
        num_episodes: Episodes per trial.

    Reference:
        Finn et al. (2017), "Model-agnostic meta-learning for fast adaptation of deep
        networks", section 5.3; `jaxmeta_envs.mujoco.goals` says what differs.
    """

    body: ClassVar[Body] = ANT
    splits: ClassVar[tuple[str, ...]] = ("train", "test", "far")

    @property
    def terms(self) -> Terms:
        return _ANT["maml"]._replace(bonus=1.05)

    def sample_task(self, key: Array, split: str = "train") -> VelocityTask:
        self.check_split(split)
        return _draw_velocity(key, split, 3.0)

    def merit(self, before: BodyState, after: BodyState, task: VelocityTask) -> Array:
        return -jnp.abs(self.velocity(before, after, 1)[0] - task.velocity)


@dataclass(frozen=True)
class AntGoal(LocomotionGoal[PlaceTask]):
    """The ant that is to go to a given place.

    Every step costs the distance from there, the sum of that along both axes (m). Other than
    the ants that run it observes where it is, before all else.

    Splits:
        train, test: Places uniform in the disc or the square.
        far: Uniform outside of it, in one of twice the size.

    Attributes:
        episode_length: Longest episode, in steps.
        num_episodes: Episodes per trial.
        goals: "disc" is a disc around the start, as in ProMP, PEARL and VariBAD; "square" a
            square, as in MAML's code, whose paper has no such task.
        radius: Of the disc, or half the side of the square, m.
        reward: "promp": 0.1 times the squared action is paid, and nothing terminates an
            episode; PEARL and VariBAD use it as well. "maml", as in its code: 4.05 are earned,
            0.005 times the squared action is paid, and the episode terminates when the torso
            is below 0.2 or above 1 m.

    Reference:
        Rothfuss et al. (2019), "ProMP: proximal meta-policy search", appendix, and
        ``AntRandGoalEnv`` of the released code; `jaxmeta_envs.mujoco.goals` says what
        differs.
    """

    body: ClassVar[Body] = dataclasses.replace(ANT, hidden=0)
    splits: ClassVar[tuple[str, ...]] = ("train", "test", "far")

    goals: Literal["disc", "square"] = "disc"
    radius: float = 3.0
    reward: Literal["promp", "maml"] = "promp"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_one_of("goals", "disc", "square")
        self._require_one_of("reward", *_ANT_PLACE)
        valid = 0 < self.radius < float("inf")
        require(valid, "AntGoal.radius", self.radius, "a finite number above 0")

    @property
    def terms(self) -> Terms:
        return _ANT_PLACE[self.reward]

    def sample_task(self, key: Array, split: str = "train") -> PlaceTask:
        self.check_split(split)
        low, high = (self.radius, 2 * self.radius) if split == "far" else (0.0, self.radius)
        draw = between_circles if self.goals == "disc" else between_squares
        return PlaceTask(draw(key, low, high))

    def merit(self, before: BodyState, after: BodyState, task: PlaceTask) -> Array:
        del before
        return -jnp.sum(jnp.abs(after.positions[:2] - task.goal))


def _draw_velocity(key: Array, split: str, highest: float) -> VelocityTask:
    low, high = (highest, 1.5 * highest) if split == "far" else (0.0, highest)
    return VelocityTask(jax.random.uniform(key, (), jnp.float32, low, high))
