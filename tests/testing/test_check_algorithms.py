"""Every planted defect in an algorithm is found by the check that is meant to find it."""

import itertools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import parallel
from jaxmeta.algorithms.rl2 import RL2
from jaxmeta.networks import GRU
from jaxmeta.ops.distributions import Distribution
from jaxmeta.parts.optimizers.ppo import PPO
from jaxmeta.testing import (
    ALGORITHM_CHECKS,
    AlgorithmProbe,
    ConformanceError,
    check_algorithm,
)
from jaxmeta_envs import ConfigError, Discrete

CHECKS = {check.name: check for check in ALGORITHM_CHECKS}
CASES = []


@dataclass(frozen=True)
class Tiny(RL2):
    num_tasks: int = 8
    memory: GRU = field(default_factory=lambda: GRU(4))
    optimizer: PPO = field(default_factory=lambda: PPO(epochs=1, minibatches=1))


def breaks(name, saying):
    """Registers a defective algorithm with the check that must find it and what it must say."""

    def register(cls):
        CASES.append(pytest.param(cls(), name, saying, id=cls.__name__))
        return cls

    return register


class Meddling:
    """A family whose methods an algorithm has changed behind its back."""

    def __init__(self, family, **methods):
        self.family = family
        self.__dict__.update(methods)

    def __getattr__(self, name):
        return getattr(self.family, name)


@breaks("algorithm value", "weights holds an array")
@dataclass(frozen=True)
class ArrayField(Tiny):
    weights: Any = field(default_factory=lambda: np.ones(3))


@dataclass(frozen=True)
class Altered(Tiny):
    """Changes what update returns."""

    def update(self, family, state, key, step):
        return self.alter(*super().update(family, state, key, step))


@breaks("update shapes", "value_moments.mean changes from float32")
@dataclass(frozen=True)
class StateChangesDtype(Altered):
    def alter(self, state, metrics):
        mean = state.value_moments.mean.astype(jnp.float16)
        return state._replace(value_moments=state.value_moments._replace(mean=mean)), metrics


@breaks("metrics", "without 'return'")
@dataclass(frozen=True)
class NoReturn(Altered):
    def alter(self, state, metrics):
        return state, {name: x for name, x in metrics.items() if name != "return"}


@breaks("metrics", "not a float32 scalar")
@dataclass(frozen=True)
class IntegerMetric(Altered):
    def alter(self, state, metrics):
        return state, metrics | {"updates": jnp.int32(1)}


@breaks("metrics", "not a float32 scalar")
@dataclass(frozen=True)
class NestedMetrics(Altered):
    def alter(self, state, metrics):
        return state, metrics | {"losses": {"value": metrics["value_loss"]}}


@breaks("metrics", "ratio is not finite")
@dataclass(frozen=True)
class MetricNotFinite(Altered):
    def alter(self, state, metrics):
        return state, metrics | {
            "ratio": metrics["return"] / (metrics["return"] - metrics["return"])
        }


COUNTER = itertools.count()


@breaks("metrics", "are there in some updates only")
@dataclass(frozen=True)
class ChangingMetrics(Altered):
    def alter(self, state, metrics):
        return state, metrics | {f"extra_{next(COUNTER)}": metrics["return"]}


@breaks("scan and vmap", "NotImplementedError")
@dataclass(frozen=True)
class NoVmap(Altered):
    def alter(self, state, metrics):
        mean = state.value_moments.mean
        mean = jax.pure_callback(lambda x: x, jax.typeof(mean), mean, vmap_method=None)
        return state._replace(value_moments=state.value_moments._replace(mean=mean)), metrics


@breaks("update keys", "three different keys gave the return")
@dataclass(frozen=True)
class ConstantKey(Tiny):
    def update(self, family, state, key, step):
        return super().update(family, state, jax.random.key(0), step)


@breaks("own draws", "sample_task got the same key in two updates")
@dataclass(frozen=True)
class ConstantTaskKey(Tiny):
    def update(self, family, state, key, step):
        def sample_task(key, split="train"):
            return family.sample_task(jax.random.key(0), split)

        return super().update(Meddling(family, sample_task=sample_task), state, key, step)


@breaks("own draws", "1 tasks were drawn for num_tasks=8")
@dataclass(frozen=True)
class OneTaskForAll(Tiny):
    def update(self, family, state, key, step):
        def sample_task(_, split="train"):
            return family.sample_task(jax.random.fold_in(key, 1), split)

        return super().update(Meddling(family, sample_task=sample_task), state, key, step)


@breaks("own draws", "one key went to step and to step in one update")
@dataclass(frozen=True)
class OneKeyForAllSteps(Tiny):
    def update(self, family, state, key, at):
        def step(key, state, action, task):
            return family.step(jax.random.key(0), state, action, task)

        return super().update(Meddling(family, step=step), state, key, at)


class Frozen(NamedTuple):
    """A distribution that draws the same action always."""

    drawn_from: Distribution

    def sample(self, key):
        return self.drawn_from.sample(jax.random.key(0))

    def log_prob(self, action):
        return self.drawn_from.log_prob(action)


@breaks("own draws", "first actions of episodes are the same under two update keys")
@dataclass(frozen=True)
class ConstantNoise(Tiny):
    def _play(self, family, network, *args):
        def step(*inputs):
            carry, output = network.step(*inputs)
            return carry, output._replace(distribution=Frozen(output.distribution))

        return super()._play(family, network._replace(step=step), *args)


@breaks("own draws", "env_steps_per_update is 49")
@dataclass(frozen=True)
class WrongStepCount(Tiny):
    def env_steps_per_update(self, family):
        return super().env_steps_per_update(family) + 1


class LeakyState(NamedTuple):
    params: Any
    opt_state: Any
    value_moments: Any
    memory: Any


@breaks("memory between updates", "after different first updates")
@dataclass(frozen=True)
class LeakyMemory(Tiny):
    """Starts trials from a memory that the last update left in the state."""

    def init(self, family, key):
        state = super().init(family, key)
        return LeakyState(*state, self._network(family).begin(state.params))

    def update(self, family, state, key, step):
        new, metrics = super().update(family, state, key, step)
        memory = jax.tree.map(lambda x: jnp.full_like(x, metrics["return"]), state.memory)
        return LeakyState(*new, memory), metrics

    def _play(self, family, network, state, *args):
        leaky = network._replace(begin=lambda params: state.memory)
        return super()._play(family, leaky, state, *args)


@breaks("time limits", "whether the clock or the process ended")
@dataclass(frozen=True)
class TimeLimitsTerminate(Tiny):
    def update(self, family, state, key, at):
        def step(*args):
            state, timestep = family.step(*args)
            ended = timestep.terminated | timestep.truncated
            return state, timestep._replace(terminated=ended, truncated=jnp.zeros_like(ended))

        return super().update(Meddling(family, step=step), state, key, at)


@breaks("task shares", "both play the same tasks")
@dataclass(frozen=True)
class EveryDevicePlaysAll(Tiny):
    def update(self, family, state, key, step):
        with parallel._sharing(1):
            return super().update(family, state, key, step)


@breaks("both action kinds", "AttributeError")
@dataclass(frozen=True)
class OnlyDiscrete(Tiny):
    def update(self, family, state, key, step):
        assert family.action_space.n >= 1
        return super().update(family, state, key, step)


@dataclass(frozen=True)
class AlteredPolicy(Tiny):
    """Changes what the policy does in act."""

    def policy(self, family):
        policy = super().policy(family)

        def act(params, carry, inputs, key):
            return self.alter(family, policy.act, params, carry, inputs, key)

        return policy._replace(act=act)


@breaks("policy shapes", "the carry, by act,['policy'] changes from float32[4] to float16[4]")
@dataclass(frozen=True)
class CarryChangesDtype(AlteredPolicy):
    def alter(self, family, act, params, carry, inputs, key):
        action, carry = act(params, carry, inputs, key)
        return action, jax.tree.map(lambda x: x.astype(jnp.float16), carry)


@breaks("policy shapes", "the carry, by adapt, changes its structure")
@dataclass(frozen=True)
class AdaptChangesStructure(Tiny):
    def policy(self, family):
        policy = super().policy(family)
        return policy._replace(adapt=lambda params, carry, episodes, key: (carry, episodes.reward))


@breaks("policy shapes", "an action is float32[], not int32[]")
@dataclass(frozen=True)
class FloatAction(AlteredPolicy):
    def alter(self, family, act, params, carry, inputs, key):
        action, carry = act(params, carry, inputs, key)
        return action * 1.0, carry


@breaks("policy key reuse", "KeyReuseError")
@dataclass(frozen=True)
class PolicyReusesKey(AlteredPolicy):
    def alter(self, family, act, params, carry, inputs, key):
        _, carry = act(params, carry, inputs, key)
        return family.action_space.sample(key), carry


@breaks("policy play", "not in Discrete(n=3)")
@dataclass(frozen=True)
class ActionOutOfBounds(AlteredPolicy):
    def alter(self, family, act, params, carry, inputs, key):
        action, carry = act(params, carry, inputs, key)
        return action + 1, carry


@jax.custom_batching.custom_vmap
def mean_of_batch(x):
    return x


@mean_of_batch.def_vmap
def _(axis_size, in_batched, x):
    return jnp.broadcast_to(jnp.mean(x, axis=0), x.shape), True


@breaks("policy play", "other tasks of the batch")
@dataclass(frozen=True)
class BatchStatistics(AlteredPolicy):
    def alter(self, family, act, params, carry, inputs, key):
        reward = inputs.prev_reward - mean_of_batch(inputs.prev_reward)
        return act(params, carry, inputs._replace(prev_reward=reward), key)


class LateCarry(NamedTuple):
    inner: Any
    reward: Any


@breaks("previous step", "another previous reward at step t")
@dataclass(frozen=True)
class RewardOneStepLate(Tiny):
    def policy(self, family):
        policy = super().policy(family)

        def act(params, carry, inputs, key):
            late = inputs._replace(prev_reward=carry.reward)
            action, inner = policy.act(params, carry.inner, late, key)
            return action, LateCarry(inner, inputs.prev_reward)

        def begin(*args):
            return LateCarry(policy.begin(*args), jnp.float32(0.0))

        return policy._replace(begin=begin, act=act)


@pytest.mark.parametrize(("algorithm", "name", "saying"), CASES)
def test_planted_defect_is_found_by_its_check(algorithm, name, saying):
    with pytest.raises(ConformanceError) as caught:
        CHECKS[name](AlgorithmProbe(algorithm))
    assert caught.value.check == name
    assert str(caught.value).startswith(f"[{name}] ")
    assert saying in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "name", "saying"), CASES)
def test_planted_defect_fails_no_earlier_check(algorithm, name, saying):
    with pytest.raises(ConformanceError) as caught:
        check_algorithm(algorithm)
    assert caught.value.check == name


@dataclass(frozen=True)
class NoBootstrap(TimeLimitsTerminate):
    bootstraps = False


def test_algorithms_may_declare_that_they_do_not_bootstrap():
    every_other = [name for name in CHECKS if name not in ("algorithm value", "time limits")]
    check_algorithm(NoBootstrap(), skip=every_other)


@dataclass(frozen=True)
class BlindToRewards(Tiny):
    observe_reward: bool = False


def test_policies_that_ignore_rewards_while_acting_are_exempt():
    CHECKS["previous step"](AlgorithmProbe(BlindToRewards()))


@dataclass(frozen=True)
class RejectsContinuous(OnlyDiscrete):
    def check(self, family):
        if not isinstance(family.action_space, Discrete):
            raise ConfigError("discrete actions only")


def test_toys_that_an_algorithm_rejects_are_left_out():
    probe = AlgorithmProbe(RejectsContinuous())
    for name in ("both action kinds", "previous step", "own draws"):
        CHECKS[name](probe)
