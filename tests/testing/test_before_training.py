"""What `train` refuses before it compiles: families whose defects are cheap to see."""

import itertools
import random
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import ConfigError, TrainConfig
from jaxmeta.algorithms.rl2 import RL2
from jaxmeta.catalog.registry import FAMILIES
from jaxmeta.networks import GRU
from jaxmeta.testing import (
    ConformanceError,
    ToyFamily,
    ToyRegression,
    before_training,
    check_before_training,
    check_task_family,
)
from jaxmeta.testing.toys import ToyTask
from jaxmeta_envs.core.supervised import Examples
from jaxmeta_envs.mujoco.bodies import BodyFamily

CASES = []


def refused(saying):
    def register(cls):
        CASES.append(pytest.param(cls(), saying, id=cls.__name__))
        return cls

    return register


@dataclass(frozen=True)
class Altered(ToyFamily):
    def step(self, key, state, action, task):
        state, timestep = super().step(key, state, action, task)
        return state, self.alter(timestep)


@refused(r"\[episode ends\] 8 episodes go on beyond horizon=3")
@dataclass(frozen=True)
class NeverEnds(Altered):
    def alter(self, timestep):
        return timestep._replace(truncated=jnp.asarray(False))


class HiddenState(NamedTuple):
    task: ToyTask
    inner: Any


@refused(r"\[task is an argument\] neither reset nor step reads the task")
@dataclass(frozen=True)
class RedrawsItsTask(ToyFamily):
    def reset(self, key, task):
        task_key, key = jax.random.split(key)
        task = self.sample_task(task_key)
        state, obs = super().reset(key, task)
        return HiddenState(task, state), obs

    def step(self, key, state, action, task):
        inner, timestep = super().step(key, state.inner, action, state.task)
        return state._replace(inner=inner), timestep


@refused(r"\[purity\] sample_task draws from np\.random, which happens once")
@dataclass(frozen=True)
class NumpyTasks(ToyFamily):
    def sample_task(self, key, split="train"):
        self.check_split(split)
        return ToyTask(jnp.asarray(np.random.normal(size=3), jnp.float32))  # noqa: NPY002


@refused(r"\[purity\] reset draws from random, which happens once")
@dataclass(frozen=True)
class PythonStarts(ToyFamily):
    def reset(self, key, task):
        state, obs = super().reset(key, task)
        return state, obs + 0.0 * random.random()


@refused(r"\[purity\] sample_task is another function every time")
@dataclass(frozen=True)
class FreshGenerator(ToyFamily):
    def sample_task(self, key, split="train"):
        self.check_split(split)
        return ToyTask(jnp.asarray(np.random.default_rng().normal(size=3), jnp.float32))


COUNTER = itertools.count()


@refused(r"\[purity\] step is another function every time")
@dataclass(frozen=True)
class Counts(Altered):
    def alter(self, timestep):
        return timestep._replace(reward=timestep.reward + 0.1 * next(COUNTER))


@refused(r"\[rewards\] 24 of 24 rewards are not finite: the first is nan")
@dataclass(frozen=True)
class NanRewards(Altered):
    def alter(self, timestep):
        return timestep._replace(reward=timestep.reward + jnp.nan)


@refused(r"\[shapes\] reward is float32\[1\], not float32\[\]")
@dataclass(frozen=True)
class RewardsOfShapeOne(Altered):
    def alter(self, timestep):
        return timestep._replace(reward=timestep.reward[None])


@refused(r"\[shapes\] the observation after step is int32\[2\], not float32\[2\]")
@dataclass(frozen=True)
class IntegerObservations(Altered):
    def alter(self, timestep):
        return timestep._replace(obs=timestep.obs.astype(jnp.int32))


@refused(r"\[splits\] task of split 'test'\.payoff changes from float32\[3\] to float32\[4\]")
@dataclass(frozen=True)
class OtherShapeInTest(ToyFamily):
    def sample_task(self, key, split="train"):
        task = super().sample_task(key, split)
        return ToyTask(jnp.append(task.payoff, 0.0)) if split == "test" else task


@refused(r"\[examples\] labels of the support are float32\[8\], not float32\[8, 1\]")
@dataclass(frozen=True)
class FlatLabels(ToyRegression):
    def sample_examples(self, key, task, num):
        x, y = super().sample_examples(key, task, num)
        return Examples(x, y[:, 0])


@refused(r"\[purity\] sample_split draws from np\.random")
@dataclass(frozen=True)
class NumpyNoise(ToyRegression):
    def sample_examples(self, key, task, num):
        x, y = super().sample_examples(key, task, num)
        return Examples(x, y + np.random.normal())  # noqa: NPY002


@pytest.mark.parametrize(("family", "saying"), CASES)
def test_a_broken_family_is_refused_with_the_sentence_of_its_check(family, saying):
    name = type(family).__name__
    with pytest.raises(ConfigError, match=rf"tasks is a {name} that .*{saying}.*check=False"):
        check_before_training(family)


def config_of(family, **fields):
    learner = RL2(num_tasks=8, memory=GRU(4))
    small = {"total_env_steps": 1, "updates_per_chunk": 1}
    return TrainConfig(algorithm=learner, tasks=family, **small, **fields)


def test_training_and_sweeps_ask_unless_they_are_told_not_to(tmp_path):
    config = config_of(NeverEnds(), run_dir=str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="go on beyond horizon"):
        jaxmeta.train(config, progress=False)
    with pytest.raises(ConfigError, match="go on beyond horizon"):
        jaxmeta.sweep(config, learning_rate=[1e-3, 2e-3], progress=False)
    assert not list(tmp_path.iterdir())
    result = jaxmeta.train(config_of(NeverEnds(), check=False), progress=False)
    assert np.isfinite(result.metrics["return"]).all()


def test_nan_rewards_are_named_by_the_whole_check_too():
    with pytest.raises(ConformanceError, match=r"\[rewards\].* are not finite: the first is nan"):
        check_task_family(NanRewards())


# The simulator takes long to trace.
MARKS = {name: pytest.mark.slow for name, kind in FAMILIES.items() if issubclass(kind, BodyFamily)}


@pytest.mark.parametrize("name", [pytest.param(n, marks=MARKS.get(n, ())) for n in FAMILIES])
def test_registered_families_pass(name):
    family = FAMILIES[name]()
    try:
        family.check_installed()
    except ConfigError as error:
        pytest.skip(str(error))
    before_training._check(family)


def test_registered_families_are_not_asked(monkeypatch):
    monkeypatch.setattr(before_training, "_check", lambda family: pytest.fail("asked"))
    check_before_training(FAMILIES["cartpole"]())


def test_a_task_that_is_the_only_one_need_not_be_read():
    @dataclass(frozen=True)
    class OneTask(ToyFamily):
        def sample_task(self, key, split="train"):
            self.check_split(split)
            return ToyTask(jnp.arange(3.0))

        def step(self, key, state, action, task):
            return super().step(key, state, action, ToyTask(jnp.arange(3.0)))

    check_before_training(OneTask())
