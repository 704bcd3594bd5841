"""A trained agent at work, and still adapting, in a Gymnasium environment.

Axes: L lanes (sub-environments of a vector environment, each a task of its own; one for a
single environment), N episodes per adaptation, T steps of an episode, E episodes.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxmeta.ops.trees import select
from jaxmeta.runs.choose import load_runs
from jaxmeta.streams import Stream, stream_key
from jaxmeta_envs.core.contracts import (
    AdaptivePolicy,
    PolicyInput,
    TaskFamily,
    Trajectory,
    as_task_family,
    no_adaptation,
)
from jaxmeta_envs.core.errors import ConfigError, require
from jaxmeta_envs.core.extras import import_extra
from jaxmeta_envs.core.spaces import Box, Discrete, as_array_space
from jaxmeta_envs.interop.gymnasium_spaces import is_like


class Played(NamedTuple):
    """What `GymnasiumPolicy.play` returns; a single environment has no axis L.

    Attributes:
        returns: Undiscounted return of each episode, float64 ``[L, E]``.
        lengths: Its steps, ``[L, E]``.
    """

    returns: np.ndarray
    lengths: np.ndarray


def as_gymnasium_policy(
    source: Any, env: Any, *, seed_index: int = 0, seed: int = 0, deterministic: bool = False
) -> GymnasiumPolicy:
    """Takes a trained agent to a Gymnasium environment, where it goes on adapting.

    Args:
        source: What `jaxmeta.train` returned, or the directory of a run.
        env: A Gymnasium environment or vector environment with observations and actions of
            the same kind and shape as the family the agent was trained on.
        seed_index: The training seed whose parameters act.
        seed: Of all that the agent draws.
        deterministic: Whether actions are the mode of their distribution instead of samples;
            see `GymnasiumPolicy`.

    Raises:
        ConfigError: If the agent does not act or has no mode, the spaces differ, the seed is
            none of the run's, or Gymnasium is not installed.
    """
    (result,) = load_runs(source)
    family, seeds = as_task_family(result.config.tasks, "tasks"), result.config.num_seeds
    require(0 <= seed_index < seeds, "seed_index", seed_index, f"from 0 to {seeds - 1}")
    params = jax.tree.map(lambda x: x[seed_index], result.params)
    return GymnasiumPolicy(result.policy, params, family, env, seed, deterministic)


class GymnasiumPolicy:
    """An adaptive policy with its memory of a Gymnasium environment.

    Either `play` does everything, or a loop of your own asks `act` what to do and tells
    `observe` what came of it; episodes are told apart by ``terminated`` and ``truncated``.
    What was learned is kept until `begin`. In a vector environment every lane is a task of
    its own, with a learner of its own; all three autoreset modes are understood.

    An agent that adapts by gradient steps collects ``episodes_per_adapt`` episodes and then
    takes a step. Its episodes have at most ``family.horizon`` steps, as in training.

    Args:
        policy: How to act and adapt.
        params: What it reads.
        family: Whose observations and actions the policy knows.
        env: The environment.
        seed: Of all that the policy draws.
        deterministic: Whether actions are the mode of their distribution instead of samples.
            An agent that adapts to whole episodes then learns nothing from them, as the mode
            explores nothing: it stays as it began.
    """

    def __init__(
        self,
        policy: AdaptivePolicy,
        params: Any,
        family: TaskFamily,
        env: Any,
        seed: int = 0,
        deterministic: bool = False,
    ) -> None:
        gymnasium = import_extra("gymnasium", "gymnasium", user="as_gymnasium_policy")
        if deterministic:
            known = policy.act_mode is not None
            require(known, "deterministic", True, "False, as the policy has no act_mode")
            policy = policy._replace(act=policy.act_mode or policy.act, adapt=no_adaptation)
        self.env, self.family, self.policy = env, family, policy
        kinds = (gymnasium.Env, gymnasium.vector.VectorEnv)
        require(isinstance(env, kinds), "env", env, "a Gymnasium environment, single or vector")
        self._vector = isinstance(env, gymnasium.vector.VectorEnv)
        self._mode = _autoreset_mode(gymnasium, env) if self._vector else None
        self._seen = as_array_space(
            family.observation_space, "family.observation_space", "a policy in Gymnasium"
        )
        for role in ("observation_space", "action_space"):
            theirs = getattr(env, f"single_{role}" if self._vector else role)
            ours = getattr(family, role)
            wanted = f"like {type(family).__name__}'s, {ours}"
            require(is_like(theirs, ours), f"env.{role}", theirs, wanted)
        self._lanes = int(env.num_envs) if self._vector else 1
        self._params, self._programs = params, _compile(policy)
        self._key, self._draws = stream_key(seed, Stream.GYMNASIUM), 0
        self._collects = policy.adapt is not no_adaptation
        self.begin()

    def begin(self) -> None:
        """Forgets what was learned; call it when the environment is about to be reset."""
        lanes, family = self._lanes, self.family
        self._carry = self._programs.begin(self._params, self._keys())
        self._base = self._carry  # what the episodes of one adaptation start from
        self._previous = _nothing_before(family, lanes)
        self._time: np.ndarray = np.zeros(lanes, int)
        self._episode = np.zeros(lanes, int)
        stored = self.policy.episodes_per_adapt if self._collects else 0
        self._rows = _no_rows(family, lanes, stored)
        self._acted: tuple[PolicyInput, np.ndarray] | None = None
        self._waits: np.ndarray = np.zeros(lanes, bool)  # the environment resets these lanes next
        self._rests: np.ndarray = np.zeros(lanes, bool)  # these lanes have played enough

    def act(self, obs: Any) -> Any:
        """Returns the action to take, in the form that ``env.step`` takes.

        Args:
            obs: What the environment shows, as it came from ``reset`` or ``step``.
        """
        space = self._seen
        # Copied, as some environments write the next observation into the same memory.
        seen = np.array(obs, space.dtype).reshape(self._lanes, *space.shape)
        inputs = self._previous._replace(obs=seen, episode_start=self._time == 0)
        live = ~(self._waits | self._rests)
        action, self._carry = self._programs.act(
            self._params, self._carry, inputs, live, self._keys()
        )
        action = np.array(action)
        self._acted = (inputs, action)
        continuous = isinstance(self.family.action_space, Box)
        if continuous:  # within what is played, whatever the agent was trained on
            limits = self.env.single_action_space if self._vector else self.env.action_space
            action = np.clip(action, limits.low, limits.high)
        if self._vector:
            return action
        return int(action[0]) if isinstance(self.family.action_space, Discrete) else action[0]

    def observe(
        self, obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any = None
    ) -> None:
        """Takes in what the last action led to, and adapts where enough episodes are over.

        Args:
            obs: As ``env.step`` returned it, like the rest.
            reward: The reward.
            terminated: Whether the decision process ended.
            truncated: Whether the clock ended the episode.
            info: Needed of a vector environment that resets in the same step, where it holds
                the final observations.

        Raises:
            ConfigError: If the agent adapts from whole episodes and this one is longer than
                the family's.
            RuntimeError: If `act` was not asked before.
        """
        if self._acted is None:
            raise RuntimeError("ask act for an action before observe")
        (inputs, action), self._acted = self._acted, None
        lanes, space = self._lanes, self._seen
        live = ~(self._waits | self._rests)
        reward = np.asarray(reward, np.float32).reshape(lanes)
        terminated = np.asarray(terminated, bool).reshape(lanes) & live
        truncated = np.asarray(truncated, bool).reshape(lanes) & live
        done = terminated | truncated
        if self._collects:
            after = np.array(obs, space.dtype).reshape(lanes, *space.shape)
            if self._mode == "SameStep" and done.any():
                after[done] = np.stack([np.asarray(x) for x in info["final_obs"][done]])
            row: list[Any] = [inputs, action, reward, terminated, truncated, after, live]
            self._store(live, Trajectory(*row))
        self._time = np.where(done, 0, self._time + live)
        self._remember(live, action, reward, done)
        self._waits = done if self._mode == "NextStep" else np.zeros(lanes, bool)
        if self.policy.episodes_per_adapt > 1 and done.any():
            self._carry = self._programs.restart(done, self._base, self._carry)
        if self._collects:
            self._episode += done
            for lane in np.flatnonzero(self._episode == self.policy.episodes_per_adapt):
                self._adapt(int(lane))

    def play(self, episodes: int, *, seed: int | None = None) -> Played:
        """Plays and adapts; goes on from what was learned before.

        Every lane plays this many episodes; one that is ready sooner waits for the others.

        Args:
            episodes: Episodes of each lane, E.
            seed: Handed to the first ``env.reset``.
        """
        require(episodes >= 1, "episodes", episodes, "at least 1")
        lanes, env = self._lanes, self.env
        returns = np.zeros((lanes, episodes + 1))  # the last column takes what is not played
        lengths = np.zeros((lanes, episodes + 1), int)
        count, rows = np.zeros(lanes, int), np.arange(lanes)
        self._abandon()
        self._rests[:] = False
        obs, _ = env.reset(seed=seed)
        while np.any(count < episodes):
            live = ~(self._waits | self._rests)
            obs, reward, terminated, truncated, info = env.step(self.act(obs))
            self.observe(obs, reward, terminated, truncated, info)
            column = np.where(live, count, episodes)
            returns[rows, column] += np.asarray(reward, float).reshape(lanes)
            lengths[rows, column] += 1
            ended = np.logical_or(terminated, truncated).reshape(lanes)
            count += ended & live
            self._rests = np.asarray(count >= episodes)
            if ended.any() and not np.all(self._rests):
                obs = self._reset_ended(obs, ended)
        self._waits[:], self._rests[:] = False, False
        returns, lengths = returns[:, :episodes], lengths[:, :episodes]
        return Played(returns, lengths) if self._vector else Played(returns[0], lengths[0])

    def _reset_ended(self, obs: Any, ended: np.ndarray) -> Any:
        """Resets what does not reset itself; returns the observations to go on from."""
        if not self._vector:
            return self.env.reset()[0]
        if self._mode == "Disabled":
            return self.env.reset(options={"reset_mask": ended})[0]
        return obs

    def _abandon(self) -> None:
        """Ends episodes that are under way, as their environment is about to be reset."""
        begun = self._time > 0
        if self.policy.episodes_per_adapt == 1:
            self._previous.prev_done[begun] = True
        else:
            self._carry = self._programs.restart(begun, self._base, self._carry)
            self._forget(begun)
        if self._collects:
            self._clear(begun, self._episode[begun])
        self._time[:], self._waits[:], self._acted = 0, False, None

    def _clear(self, *place: Any) -> None:
        """Marks rows as not played."""
        rows = self._rows
        for column in (rows.reward, rows.terminated, rows.truncated, rows.mask):
            column[place] = 0

    def _store(self, live: np.ndarray, row: Trajectory) -> None:
        """Writes a step of the live lanes to the episodes that they learn from."""
        horizon = self.family.horizon
        if np.any(self._time[live] >= horizon):
            raise ConfigError(
                f"env has an episode of more than {horizon} steps, the longest that the agent can "
                f"adapt from; end them with gymnasium.wrappers.TimeLimit(env, {horizon})"
            )
        lanes = np.flatnonzero(live)
        place = (lanes, self._episode[lanes], self._time[lanes])
        for column, value in zip(jax.tree.leaves(self._rows), jax.tree.leaves(row), strict=True):
            column[place] = value[lanes]

    def _remember(
        self, live: np.ndarray, action: np.ndarray, reward: np.ndarray, done: np.ndarray
    ) -> None:
        """Keeps what the policy is shown of this step at the next."""
        before = self._previous
        before.prev_action[live] = action[live]
        before.prev_reward[live] = reward[live]
        before.prev_done[live] = done[live]
        if self.policy.episodes_per_adapt > 1:
            self._forget(done)

    def _forget(self, lanes: np.ndarray) -> None:
        """Lets the next episode of these lanes begin with nothing before it."""
        for column in (
            self._previous.prev_action,
            self._previous.prev_reward,
            self._previous.prev_done,
        ):
            column[lanes] = 0

    def _adapt(self, lane: int) -> None:
        # Copied, as JAX may read NumPy's memory later than this line, when it is in use again.
        episodes = jax.tree.map(lambda x: x[lane].copy(), self._rows)
        key = self._keys()[lane]
        self._carry = self._programs.adapt(self._params, self._carry, lane, episodes, key)
        if self.policy.episodes_per_adapt > 1:
            this = np.arange(self._lanes) == lane
            self._base = self._programs.restart(this, self._carry, self._base)
        self._episode[lane] = 0
        self._clear(lane)

    def _keys(self) -> Array:
        self._draws += 1
        return _lane_keys(self._key, self._draws, self._lanes)


class _Programs(NamedTuple):
    """A policy's functions for all lanes at once, compiled.

    Attributes:
        begin: ``(params, keys [L]) -> carry [L]``.
        act: ``(params, carry [L], inputs [L], live [L], keys [L]) -> (action [L], carry)``; the
            carry of lanes that do not play stays as it is.
        adapt: ``(params, carry [L], lane, episodes [N, T], key) -> carry``, of one lane.
        restart: ``(lanes [L], base [L], carry [L]) -> carry``, the base where True.
    """

    begin: Any
    act: Any
    adapt: Any
    restart: Any


@functools.lru_cache(maxsize=32)
def _compile(policy: AdaptivePolicy) -> _Programs:
    def act(params: Any, carry: Any, inputs: PolicyInput, live: Array, keys: Array) -> tuple:
        def lane(carry: Any, inputs: PolicyInput, live: Array, key: Array) -> tuple:
            action, after = policy.act(params, carry, inputs, key)
            return action, select(live, after, carry)

        return jax.vmap(lane)(carry, inputs, live, keys)

    def adapt(params: Any, carry: Any, lane: Array, episodes: Trajectory, key: Array) -> Any:
        after = policy.adapt(params, jax.tree.map(lambda x: x[lane], carry), episodes, key)
        return jax.tree.map(lambda x, y: x.at[lane].set(y), carry, after)

    return _Programs(
        begin=jax.jit(jax.vmap(policy.begin, (None, 0))),
        act=jax.jit(act),
        adapt=jax.jit(adapt),
        restart=jax.jit(jax.vmap(select)),
    )


@functools.partial(jax.jit, static_argnums=2)
def _lane_keys(key: Array, draw: int, lanes: int) -> Array:
    return jax.random.split(jax.random.fold_in(key, draw), lanes)


def _nothing_before(family: TaskFamily, lanes: int) -> Any:
    """Returns the input of the first step of a task but for its observation."""
    action = np.asarray(family.action_space.zero())
    actions = np.repeat(action[None], lanes, axis=0)
    before: list[Any] = [None, actions, np.zeros(lanes, np.float32), np.zeros(lanes, bool), None]
    return PolicyInput(*before)


def _no_rows(family: TaskFamily, lanes: int, episodes: int) -> Any:
    """Returns empty episodes, NumPy leaves ``[L, N, T, ...]``."""
    lead = (lanes, episodes, family.horizon)

    def empty(space: Any) -> Any:
        return np.zeros((*lead, *space.shape), space.dtype)

    def flags() -> Any:
        return np.zeros(lead, bool)

    def numbers() -> Any:
        return np.zeros(lead, np.float32)

    obs, action = family.observation_space, family.action_space
    inputs = PolicyInput(empty(obs), empty(action), numbers(), flags(), flags())
    return Trajectory(inputs, empty(action), numbers(), flags(), flags(), empty(obs), flags())


def _autoreset_mode(gymnasium: Any, env: Any) -> str:
    """Returns "NextStep", "SameStep" or "Disabled"; the first where it is not said."""
    modes = gymnasium.vector.AutoresetMode
    return modes(env.metadata.get("autoreset_mode", modes.NEXT_STEP)).value
