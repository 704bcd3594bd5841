"""Every planted defect in a task family is found by the check that is meant to find it."""

import itertools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.testing import (
    FAMILY_CHECKS,
    ConformanceError,
    FamilyProbe,
    ToyFamily,
    check_task_family,
)
from jaxmeta.testing.toys import ToyTask
from jaxmeta_envs import AdaptivePolicy, Box, Reference, TaskFamily
from jaxmeta_envs.core.contracts import random_reference

CHECKS = {check.name: check for check in FAMILY_CHECKS}
CASES = []


def breaks(name, saying, *args, **kwargs):
    """Registers a defective family with the check that must find it and what it must say."""

    def register(cls):
        CASES.append(pytest.param(cls(*args, **kwargs), name, saying, id=cls.__name__))
        return cls

    return register


@breaks("family value", "weights holds an array")
@dataclass(frozen=True)
class ArrayField(ToyFamily):
    weights: Any = field(default_factory=lambda: np.ones(3))


@breaks("family value", "names cannot be hashed")
@dataclass(frozen=True)
class ListField(ToyFamily):
    names: list = field(default_factory=list)


class Plain:
    pass


@breaks("family value", "a deep copy of EqualByIdentity is not equal")
@dataclass(frozen=True)
class EqualByIdentity(ToyFamily):
    part: Plain = field(default_factory=Plain)


@breaks("family value", "eq=False")
@dataclass(frozen=True, eq=False)
class WithoutEquality(ToyFamily):
    scale: float = 1.0


@breaks("family value", "scale is left out of comparisons")
@dataclass(frozen=True)
class FieldNotCompared(ToyFamily):
    scale: float = field(default=1.0, compare=False)


@breaks("family value", "not frozen")
@dataclass
class NotFrozen(TaskFamily):
    sample_task = reset = step = observation_space = action_space = None
    horizon = default_episodes = 1


@breaks("family properties", "default_episodes")
@dataclass(frozen=True)
class NoEpisodes(ToyFamily):
    @property
    def default_episodes(self):
        return 0


@dataclass(frozen=True)
class Altered(ToyFamily):
    """Changes what reset or step returns."""

    def reset(self, key, task):
        state, obs = super().reset(key, task)
        return state, self.alter_obs(obs)

    def step(self, key, state, action, task):
        old = state
        state, timestep = super().step(key, state, action, task)
        return self.alter_step(old, state, timestep._replace(obs=self.alter_obs(timestep.obs)))

    def alter_obs(self, obs):
        return obs

    def alter_step(self, old, state, timestep):
        return state, timestep


@breaks("shapes", "observation after step is float16[2]")
@dataclass(frozen=True)
class ObservationChangesDtype(Altered):
    def alter_step(self, old, state, timestep):
        return state, timestep._replace(obs=timestep.obs.astype(jnp.float16))


@breaks("shapes", "observation after reset is float32[2], not float32[3]")
@dataclass(frozen=True)
class ObservationOfAnotherSpace(Altered):
    @property
    def observation_space(self):
        return Box(-1.0, 1.0, (3,))


@breaks("shapes", "state.time changes from int32[] to float32[]")
@dataclass(frozen=True)
class StateChangesDtype(Altered):
    def alter_step(self, old, state, timestep):
        return state._replace(time=state.time * 1.0), timestep


@breaks("shapes", "reward is int32[]")
@dataclass(frozen=True)
class IntegerReward(Altered):
    def alter_step(self, old, state, timestep):
        return state, timestep._replace(reward=jnp.int32(timestep.reward))


@breaks("shapes", "truncated is int32[]")
@dataclass(frozen=True)
class IntegerFlag(Altered):
    def alter_step(self, old, state, timestep):
        return state, timestep._replace(truncated=timestep.truncated.astype(jnp.int32))


@breaks("values", "outside Box")
@dataclass(frozen=True)
class ObservationOutOfBounds(Altered):
    def alter_obs(self, obs):
        return 2.0 * obs


class HiddenState(NamedTuple):
    task: ToyTask
    inner: Any


@dataclass(frozen=True)
class Hidden(ToyFamily):
    """Step reads the task that reset put into the state."""

    def reset(self, key, task):
        state, obs = super().reset(key, task)
        return HiddenState(self.choose(key, task), state), obs

    def step(self, key, state, action, task):
        inner, timestep = super().step(key, state.inner, action, state.task)
        return state._replace(inner=inner), timestep


@breaks("task is an argument", "replacing task leaf .payoff")
@dataclass(frozen=True)
class TaskRedrawnInReset(Hidden):
    def choose(self, key, task):
        return ToyTask(jax.random.normal(key, (3,)))


@breaks("task is an argument", "reads state leaf .task.payoff")
@dataclass(frozen=True)
class TaskHiddenInState(Hidden):
    def choose(self, key, task):
        return task


class WiderTask(NamedTuple):
    payoff: Any
    friction: Any


@breaks("task is an argument", "replacing task leaf .friction")
@dataclass(frozen=True)
class InertLeaf(ToyFamily):
    def sample_task(self, key, split="train"):
        pay_key, friction_key = jax.random.split(key)
        payoff = super().sample_task(pay_key, split).payoff
        return WiderTask(payoff, jax.random.uniform(friction_key))


@breaks("key reuse", "KeyReuseError")
@dataclass(frozen=True)
class KeyUsedTwice(ToyFamily):
    def sample_task(self, key, split="train"):
        task = super().sample_task(key, split)
        return ToyTask(task.payoff + jax.random.uniform(key))


@breaks("task randomness", "gave the same task")
@dataclass(frozen=True)
class OneTask(ToyFamily):
    def sample_task(self, key, split="train"):
        return super().sample_task(jax.random.key(0), split)


@breaks("task randomness", "all entries of task leaf .payoff are equal")
@dataclass(frozen=True)
class OneKeyForAllArms(ToyFamily):
    def sample_task(self, key, split="train"):
        self.check_split(split)
        return ToyTask(jax.vmap(lambda _: jax.random.normal(key))(jnp.arange(3)))


@breaks("task randomness", ".payoff and .friction are equal")
@dataclass(frozen=True)
class OneKeyForTwoLeaves(ToyFamily):
    def sample_task(self, key, split="train"):
        self.check_split(split)
        keys = [jax.random.fold_in(key, 0), jax.random.fold_in(key, 0)]
        return WiderTask(*(jax.random.normal(k, (3,)) for k in keys))


COUNTER = itertools.count()


@breaks("purity", "two different results")
@dataclass(frozen=True)
class PythonSideState(Altered):
    def alter_step(self, old, state, timestep):
        return state, timestep._replace(reward=timestep.reward + next(COUNTER))


class PendingState(NamedTuple):
    inner: Any
    reward: Any


@breaks("reward timing", "of step t in 0 and of step t + 1 in")
@dataclass(frozen=True)
class RewardOneStepLate(ToyFamily):
    def reset(self, key, task):
        state, obs = super().reset(key, task)
        return PendingState(state, jnp.float32(0.0)), obs

    def step(self, key, state, action, task):
        inner, timestep = super().step(key, state.inner, action, task)
        return PendingState(inner, timestep.reward), timestep._replace(reward=state.reward)


@breaks("reward timing", "only step does not depend on the action", length=1)
@dataclass(frozen=True)
class RewardForNothing(ToyFamily):
    def step(self, key, state, action, task):
        return super().step(key, state, jnp.zeros_like(action), task)


@breaks("episode ends", "all 128 episodes that reached the horizon were terminated")
@dataclass(frozen=True)
class TimeLimitTerminates(Altered):
    def alter_step(self, old, state, timestep):
        end = timestep.truncated
        return state, timestep._replace(terminated=end, truncated=jnp.zeros_like(end))


@breaks("episode ends", "finite_horizon is True and 128 episodes were truncated")
@dataclass(frozen=True)
class HorizonTruncates(Altered):
    @property
    def finite_horizon(self):
        return True


@breaks("episode ends", "both terminated and truncated")
@dataclass(frozen=True)
class BothFlags(Altered):
    def alter_step(self, old, state, timestep):
        return state, timestep._replace(terminated=timestep.truncated)


@breaks("episode ends", "go on beyond horizon=3")
@dataclass(frozen=True)
class NeverEnds(Altered):
    def alter_step(self, old, state, timestep):
        return state, timestep._replace(truncated=jnp.asarray(False))


@breaks("step never resets", ".time is back")
@dataclass(frozen=True)
class ResetsItself(Altered):
    def alter_step(self, old, state, timestep):
        end = timestep.truncated
        state = state._replace(time=jnp.where(end, 0, state.time))
        return state, timestep._replace(obs=jnp.where(end, 0.0, timestep.obs))


@breaks("clipped actions", "does not act like", continuous=True)
@dataclass(frozen=True)
class ActionsNotClipped(ToyFamily):
    def step(self, key, state, action, task):
        state, timestep = super().step(key, state, action, task)
        return state, timestep._replace(reward=timestep.reward - 0.1 * action[0] ** 2)


@breaks("splits", "unknown split is accepted")
@dataclass(frozen=True)
class AnySplit(ToyFamily):
    def sample_task(self, key, split="train"):
        return super().sample_task(key)


@dataclass(frozen=True)
class FarSplit(ToyFamily):
    splits = ("train", "test", "far")

    def sample_task(self, key, split="train"):
        task = super().sample_task(key, split)
        return self.far(task) if split == "far" else task


@breaks("splits", "changes from float32[16, 3] to float32[16, 4]")
@dataclass(frozen=True)
class SplitOfAnotherShape(FarSplit):
    def far(self, task):
        return ToyTask(jnp.append(task.payoff, 0.0))


@breaks("splits", "leaf .payoff of split 'far' is not finite")
@dataclass(frozen=True)
class SplitNotFinite(FarSplit):
    def far(self, task):
        return ToyTask(jnp.log(task.payoff))


def best_arm(sign):
    def act(params, carry, inputs, key):
        return jnp.argmax(sign * params[1].payoff).astype(jnp.int32), carry

    return Reference(AdaptivePolicy(lambda params, key: (), act), told_task=True)


@dataclass(frozen=True)
class WithReferences(ToyFamily):
    def references(self, num_episodes):
        return super().references(num_episodes) | self.more()


@breaks("references", "without 'random'")
@dataclass(frozen=True)
class NoRandom(ToyFamily):
    def references(self, num_episodes):
        return {"oracle": best_arm(1)}


@breaks("references", "the oracle earns -")
@dataclass(frozen=True)
class OracleChoosesTheWorst(WithReferences):
    def more(self):
        return {"oracle": best_arm(-1)}


@breaks("references", "plays actions outside Discrete(n=3)")
@dataclass(frozen=True)
class ReferenceOutOfBounds(WithReferences):
    def more(self):
        policy = random_reference(self.action_space).policy
        act = lambda *args: (policy.act(*args)[0] + 1, args[1])  # noqa: E731
        return {"off by one": Reference(policy._replace(act=act))}


@breaks("references", "'bayes-optimal' earns")
@dataclass(frozen=True)
class OptimumNotAttained(WithReferences):
    def more(self):
        return {"bayes-optimal": random_reference(self.action_space)}

    def optimal_returns(self, num_episodes):
        return np.full(num_episodes, 1.0)


@breaks("references", "more than the optimum")
@dataclass(frozen=True)
class OptimumExceeded(ToyFamily):
    def optimal_returns(self, num_episodes):
        return np.full(num_episodes, -1.0)


@pytest.mark.parametrize(("family", "name", "saying"), CASES)
def test_planted_defect_is_found_by_its_check(family, name, saying):
    with pytest.raises(ConformanceError) as caught:
        CHECKS[name](FamilyProbe(family))
    assert caught.value.check == name
    assert str(caught.value).startswith(f"[{name}] ")
    assert saying in str(caught.value)
    assert "The contract: " in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name", "saying"), CASES)
def test_planted_defect_fails_no_earlier_check(family, name, saying):
    with pytest.raises(ConformanceError) as caught:
        check_task_family(family)
    assert caught.value.check == name


@dataclass(frozen=True)
class PaidForState(RewardOneStepLate):
    reward_of_state = True


def test_families_may_declare_that_they_pay_for_states():
    probe = FamilyProbe(RewardOneStepLate(), reward_of_state=True)
    CHECKS["reward timing"](probe)
    every_other = [name for name in CHECKS if name not in ("family value", "reward timing")]
    check_task_family(PaidForState(), skip=every_other)


def test_inert_leaves_can_be_allowed():
    probe = FamilyProbe(InertLeaf(), inert_leaves=(".friction",))
    CHECKS["task is an argument"](probe)


def test_unknown_check_cannot_be_skipped():
    with pytest.raises(ValueError, match="skip has \\['typo'\\]"):
        check_task_family(ToyFamily(), skip=["typo"])


@pytest.mark.parametrize(("continuous", "terminates"), [(False, False), (True, True)])
def test_the_toy_itself_conforms(continuous, terminates):
    check_task_family(ToyFamily(continuous, terminates))
