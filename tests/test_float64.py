"""Where JAX may use 64 bits, jaxmeta goes on with 32, as if it might not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import GRU, PPO, RL2, TrainConfig
from jaxmeta.catalog.registry import FAMILIES
from jaxmeta.experience.play import play_adaptation
from jaxmeta_envs import BernoulliBandit
from jaxmeta_envs.core.contracts import AdaptivePolicy, TaskFamily
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.mujoco.bodies import BodyFamily
from tests.tiny_runs import RUNS


def wide_leaves(function):
    """Names of what ``function(key)`` returns in 64 bits where JAX may use them."""
    with jax.enable_x64(True):
        returned = jax.eval_shape(function, jax.random.key(0))
    leaves = jax.tree.leaves_with_path(returned)
    return [jax.tree_util.keystr(path) for path, x in leaves if x.dtype in ("float64", "int64")]


@pytest.mark.parametrize("name", RUNS)
def test_an_algorithm_learns_and_acts_in_32_bits(name):
    algorithm, family = RUNS[name].algorithm, RUNS[name].tasks

    def learn(key):
        state = algorithm.init(family, key)
        new_state, _ = algorithm.update(family, state, key, jnp.int32(0))
        policy = algorithm.policy(family)
        if not isinstance(policy, AdaptivePolicy):
            return state, new_state
        task = family.sample_task(key)
        return state, new_state, play_adaptation(family, policy, state.params, task, key, 2)

    assert wide_leaves(learn) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_of_32_bits_and_its_references_play(name):
    family = FAMILIES[name]()
    try:
        family.check_installed()
    except ConfigError as error:
        pytest.skip(str(error))
    # The simulator takes long to trace: each of its two integrators once, and no references.
    body = isinstance(family, BodyFamily)
    steps = not body or name in ("hopper", "half-cheetah")
    references = {} if body or not isinstance(family, TaskFamily) else family.references(2)

    def live(key):
        tasks = {split: family.sample_task(key, split) for split in family.splits}
        task = tasks["train"]
        if not isinstance(family, TaskFamily):
            return tasks, family.sample_examples(key, task, 3)
        state, obs = family.reset(key, task)
        played = [family.step(key, state, family.action_space.sample(key), task)[1]] * steps
        for policy, params, told_task, _ in references.values():
            read = (params, task) if told_task else params
            played.append(play_adaptation(family, policy, read, task, key, 2))
        return tasks, obs, played

    assert wide_leaves(live) == []


def test_training_and_evaluation_run_where_64_bits_are_allowed():
    algorithm = RL2(num_tasks=4, memory=GRU(4), optimizer=PPO(epochs=1, minibatches=2))
    config = TrainConfig(
        algorithm=algorithm, tasks=BernoulliBandit(3, 4), total_env_steps=1, updates_per_chunk=1
    )
    with jax.enable_x64(True):
        result = jaxmeta.train(config, progress=False)
        evaluation = jaxmeta.evaluate(result, num_tasks=4, references=False, save=False)
    assert np.all(np.isfinite(evaluation.returns))
    assert {x.dtype.itemsize for x in jax.tree.leaves(result.state.params)} == {4}
