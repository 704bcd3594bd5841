"""Playing one task for a few steps at a time: episodes go on from update to update.

On-policy learners play whole trials, see `jaxmeta.experience.play`; what learns from stored
experience plays a little, learns a little, and goes on where it stood. Everything here is
un-batched; callers ``vmap`` over tasks.

Axes: T steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.experience.play import Act
from jaxmeta.ops.trees import narrow, select
from jaxmeta_envs.core.contracts import PolicyInput, TaskFamily, Trajectory


class Playing(NamedTuple):
    """Where the play of a task stands between two steps.

    Attributes:
        state: Of the environment.
        inputs: What the policy sees next.
        carry: The policy's carry, which episodes do not empty.
        total: Reward of the running episode so far, float32.
        last: Return of the last episode that ended, float32; 0 if none has.
        episodes: Episodes that ended, int32.
    """

    state: Any
    inputs: PolicyInput
    carry: Any
    total: Array
    last: Array
    episodes: Array

    @property
    def score(self) -> Array:
        """Return of the last episode that ended; of the running one so far if none has."""
        return jnp.where(self.episodes > 0, self.last, self.total)


def begin_playing(family: TaskFamily, task: Any, carry: Any, key: Array) -> Playing:
    """Starts the first episode of a task.

    Args:
        family: The task family.
        task: The task.
        carry: The policy's carry at the start.
        key: Typed PRNG key.
    """
    state, obs = family.reset(key, task)
    inputs = PolicyInput(
        obs=narrow(obs),
        prev_action=family.action_space.zero(),
        prev_reward=jnp.float32(0.0),
        prev_done=jnp.asarray(False),
        episode_start=jnp.asarray(True),
    )
    return Playing(state, inputs, carry, jnp.float32(0.0), jnp.float32(0.0), jnp.int32(0))


def play_on(
    family: TaskFamily,
    act: Act,
    params: Any,
    playing: Playing,
    task: Any,
    key: Array,
    num_steps: int,
) -> tuple[Playing, Trajectory]:
    """Plays ``num_steps`` steps; where an episode ends the next one begins.

    Args:
        family: The task family.
        act: How to act; its extras are not kept.
        params: Handed to ``act``.
        playing: Where play stands.
        task: The task.
        key: Typed PRNG key.
        num_steps: T.

    Returns:
        Where play stands then, and the steps, leaves ``[T, ...]``: all were played, and
        ``next_obs`` of an episode's last step is that episode's last observation.
    """

    def step(playing: Playing, key: Array) -> tuple[Playing, Trajectory]:
        act_key, step_key, reset_key = jax.random.split(key, 3)
        action, carry, _ = act(params, playing.carry, playing.inputs, act_key)
        action = narrow(action)
        state, timestep = family.step(step_key, playing.state, action, task)
        next_obs, reward = narrow(timestep.obs), timestep.reward.astype(jnp.float32)
        done = timestep.terminated | timestep.truncated
        row = Trajectory(
            inputs=playing.inputs,
            action=action,
            reward=reward,
            terminated=timestep.terminated,
            truncated=timestep.truncated,
            next_obs=next_obs,
            mask=jnp.asarray(True),
        )
        first_state, first_obs = family.reset(reset_key, task)
        state, obs = select(done, (first_state, narrow(first_obs)), (state, next_obs))
        total = playing.total + reward
        after = Playing(
            state=state,
            inputs=PolicyInput(obs, action, reward, done, episode_start=done),
            carry=carry,
            total=jnp.where(done, 0.0, total),
            last=jnp.where(done, total, playing.last),
            episodes=playing.episodes + done,
        )
        return after, row

    return jax.lax.scan(step, playing, jax.random.split(key, num_steps))
