"""Checks of an algorithm's adaptive policy. Axes: B tasks, D draws of parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta.experience.play import play_adaptation
from jaxmeta.testing.algorithm_probes import AlgorithmProbe
from jaxmeta.testing.conformance import (
    check,
    expect,
    expect_same_shapes,
    fast_jit,
    plain,
    shapes,
)
from jaxmeta.testing.probes import other_actions
from jaxmeta.testing.toys import ToyFamily
from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, TaskFamily, Trajectory
from jaxmeta_envs.core.spaces import Box
from jaxmeta_envs.core.supervised import AdaptiveModel, SupervisedFamily

_TASKS, _STEPS, _DRAWS = 16, 2, 32


def first_input(family: TaskFamily) -> PolicyInput:
    """Returns the input at trial start, with an observation of zeros."""
    return PolicyInput(
        obs=family.observation_space.zero(),
        prev_action=family.action_space.zero(),
        prev_reward=jnp.float32(0.0),
        prev_done=jnp.asarray(False),
        episode_start=jnp.asarray(True),
    )


def acts(probe: AlgorithmProbe) -> bool:
    """Whether the learner is one that acts, rather than one that predicts."""
    return isinstance(probe.algorithm.policy(probe.family), AdaptivePolicy)


@check(
    "model",
    "a learner that predicts keeps the structure, shapes and dtypes of its carry, predicts "
    "vectors [n, flat_size] of the label space, and adapts to what it sees",
)
def model(probe: AlgorithmProbe) -> None:
    """Begins, predicts, adapts and predicts again, on one task."""
    if acts(probe):
        return
    family, params = probe.family, probe.loud(probe.state).params
    learner = probe.algorithm.policy(family)
    assert isinstance(family, SupervisedFamily)
    assert isinstance(learner, AdaptiveModel)
    task_key, key = jax.random.split(probe.key("model"))
    task = family.sample_task(task_key)
    support, _ = family.sample_split(jax.random.split(key), task, learner.shots, 1)

    def run(params: Any) -> tuple[Any, Any, Array, Array]:
        carry = learner.begin(params)
        adapted = learner.adapt(params, carry, support)
        before, after = (learner.predict(params, c, support.x) for c in (carry, adapted))
        return carry, adapted, before, after

    carry, adapted, before, after = fast_jit(run)(params)
    expect_same_shapes("the carry, by adapt,", carry, adapted)
    found, size = shapes(after), family.label_space.flat_size
    wanted = f"float32{[support.x.shape[0], size]}"
    expect(found == wanted, f"a prediction is {found}, not {wanted}")
    expect(np.any(plain(before) != plain(after)), "adapting changes no prediction")


@check(
    "policy shapes",
    "begin gives the carry, act and adapt keep its structure, shapes and dtypes, and act gives "
    "an action of the action space",
)
def policy_shapes(probe: AlgorithmProbe) -> None:
    """The carry can be carried by a scan, found without running anything."""
    if not acts(probe):
        return
    family, key = probe.family, probe.key("policy shapes")
    policy, params = probe.algorithm.policy(family), probe.state.params
    carry = jax.eval_shape(policy.begin, params, key)
    inputs = first_input(family)
    action, acted = jax.eval_shape(policy.act, params, carry, inputs, key)
    expect_same_shapes("the carry, by act,", carry, acted)
    space = family.action_space
    wanted = shapes(space.abstract)
    expect(shapes(action) == wanted, f"an action is {shapes(action)}, not {wanted}")
    flag, number = jnp.asarray(False), jnp.float32(0.0)
    row = Trajectory(inputs, space.zero(), number, flag, flag, inputs.obs, flag)
    axes = (policy.episodes_per_adapt, family.horizon)
    episodes = jax.tree.map(lambda x: jnp.zeros((*axes, *x.shape), x.dtype), row)
    adapted = jax.eval_shape(policy.adapt, params, carry, episodes, key)
    expect_same_shapes("the carry, by adapt,", carry, adapted)


@check("policy key reuse", "a key is used once: split it for every further draw")
def policy_key_reuse(probe: AlgorithmProbe) -> None:
    """JAX's own key-reuse checker over begin and act."""
    if not acts(probe):
        return
    policy = probe.algorithm.policy(probe.family)

    def act(params: Any, begin_key: Array, key: Array) -> Any:
        carry = policy.begin(params, begin_key)
        return policy.act(params, carry, first_input(probe.family), key)

    keys = tuple(jax.random.split(probe.key("policy key reuse")))
    with jax.debug_key_reuse(True):
        fast_jit(act)(probe.state.params, *keys)


@check(
    "policy play",
    "a policy plays trials under vmap over tasks, within the action space, each task as if it "
    "were the only one",
)
def policy_play(probe: AlgorithmProbe) -> None:
    """Plays and adapts on several tasks at once, then again in other company."""
    if not acts(probe):
        return
    family, params = probe.family, probe.loud(probe.state).params
    policy = probe.algorithm.policy(family)

    def play(task: Any, key: Array) -> Trajectory:
        return play_adaptation(family, policy, params, task, key, _STEPS)

    program = fast_jit(jax.vmap(play))
    task_key, play_key = jax.random.split(probe.key("policy play"))
    tasks = jax.vmap(family.sample_task)(jax.random.split(task_key, _TASKS))
    keys = jax.random.split(play_key, _TASKS)
    played = jax.tree.map(plain, program(tasks, keys))
    actions, space = played.action[played.mask], family.action_space
    inside = np.isfinite(actions)
    if not isinstance(space, Box):
        inside = (actions >= space.lowest) & (actions <= space.highest)
    expect(np.all(inside), f"actions range from {actions.min()} to {actions.max()}, not in {space}")
    expect(np.all(np.isfinite(played.reward)), "a reward is not finite")
    kept = _TASKS // 2
    company = jnp.minimum(jnp.arange(_TASKS), kept)
    others = jax.tree.map(lambda x: x[company], (tasks, keys))
    again = jax.tree.map(plain, program(*others))
    alone = jax.tree.map(lambda a, b: np.allclose(a[:kept], b[:kept], 1e-5, 1e-6), played, again)
    expect(all(jax.tree.leaves(alone)), "a trial changed when the other tasks of the batch did")


@check(
    "previous step",
    "the previous action and reward that act receives are those of the step before, and if "
    "they matter they matter at once",
)
def previous_step(probe: AlgorithmProbe) -> None:
    """What a policy hears of the last step must not reach it one step late."""
    if not acts(probe):
        return
    toy = ToyFamily(continuous=True)
    # Real actions show the smallest effect; discrete ones only some.
    family = toy if probe.accepts(toy) else probe.family
    first = probe.state if family == probe.family else probe.init(family)
    draws = [probe.loud(first, draw).params for draw in range(_DRAWS)]
    params = jax.tree.map(lambda *x: jnp.stack(x), *draws)
    keys = jax.random.split(probe.key("previous step"), _DRAWS)
    zero = family.action_space.zero()
    other = other_actions(family.action_space, zero[None], probe.key("other action"))[0]
    program = fast_jit(jax.vmap(_three_actions(probe, family), in_axes=(0, 0, None, None)))
    base = plain(program(params, keys, zero, jnp.float32(0.0)))
    for name, heard in (
        ("reward", (zero, jnp.float32(1.0))),
        ("action", (other, jnp.float32(0.0))),
    ):
        unlike = plain(program(params, keys, *heard)) != base
        now, later = np.any(unlike[:, 1]), np.any(unlike[:, 2])
        expect(
            now or not later,
            f"another previous {name} at step t does not change what the policy does at step "
            "t, but at step t + 1",
        )


def _three_actions(probe: AlgorithmProbe, family: TaskFamily) -> Any:
    """Three steps that differ in what the policy hears before the second."""
    policy = probe.algorithm.policy(family)

    def act(params: Any, key: Array, prev_action: Array, prev_reward: Array) -> Array:
        begin_key, *keys = jax.random.split(key, 4)
        start = first_input(family)
        after = start._replace(episode_start=jnp.asarray(False))
        heard = after._replace(prev_action=prev_action, prev_reward=prev_reward)
        carry, actions = policy.begin(params, begin_key), []
        for inputs, step_key in zip((start, heard, after), keys, strict=True):
            action, carry = policy.act(params, carry, inputs, step_key)
            actions.append(action)
        return jnp.stack(actions)

    return act


POLICY_CHECKS = (model, policy_shapes, policy_key_reuse, policy_play, previous_step)
