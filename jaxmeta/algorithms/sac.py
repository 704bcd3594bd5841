"""Soft actor-critic over one or several tasks, with a replay buffer for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta import parallel
from jaxmeta.contracts import Algorithm, check_acts
from jaxmeta.experience.buffer import Replay, add, draw_places, empty_replay, items_at
from jaxmeta.experience.play import Act
from jaxmeta.experience.stepping import Playing, begin_playing, play_on
from jaxmeta.networks import (
    MLP,
    Critics,
    GaussianActor,
    InputMoments,
    first_input_moments,
    gaussian_actor,
    input_moments,
    seen_observation,
    twin_critics,
)
from jaxmeta.ops.trees import num_bytes
from jaxmeta.parts.off_policy import Experience
from jaxmeta.parts.schedules import Schedule, check_positive, check_share, value_at
from jaxmeta.parts.soft_learner import (
    SOFT_METRICS,
    Minibatch,
    SoftLearner,
    SoftSettings,
    first_learner,
    soft_step,
)
from jaxmeta.parts.sources import check_source, draw_task
from jaxmeta.placement import WHOLE, Placement
from jaxmeta_envs.core.contracts import AdaptivePolicy, Family, PolicyInput, TaskFamily, Trajectory
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields, check_least
from jaxmeta_envs.core.spaces import Box


class SACState(NamedTuple):
    """What the next update needs. B tasks.

    Attributes:
        params: Of the policy, under ``"actor"``, and the moments of what it sees.
        critics: Of the critics, leaves ``[2, ...]``.
        targets: Their moving copies.
        log_alpha: Logarithm of the temperature.
        opt_states: Adam's states of policy, temperature and critics.
        tasks: The tasks, leaves ``[B, ...]``.
        playing: Where the play of each stands, leaves ``[B, ...]``.
        replay: What was experienced in each, leaves ``[B, ...]``.
    """

    params: Any
    critics: Any
    targets: Any
    log_alpha: Array
    opt_states: tuple[Any, Any, Any]
    tasks: Any
    playing: Playing
    replay: Replay

    @property
    def learner(self) -> SoftLearner:
        """What a gradient step changes."""
        actor, opt_states = self.params["actor"], self.opt_states
        return SoftLearner(actor, self.critics, self.targets, self.log_alpha, opt_states)


@dataclass(frozen=True)
class SAC(Algorithm[TaskFamily, SACState]):
    """Soft actor-critic: off-policy learning of a policy that stays as random as it can afford.

    An update plays ``steps`` steps of every task, whose episodes go on from update to update, puts
    them into a replay buffer of each task, and takes ``gradient_steps`` steps on minibatches drawn
    from all buffers in equal shares. Twin critics learn the soft Bellman target, the policy
    follows ``exp(Q / α)``, and α keeps its entropy at ``target_entropy`` unless ``temperature``
    fixes it; see `jaxmeta.parts.off_policy`.

    One policy serves all tasks: it sees the observation only and does not adapt. The tasks are
    drawn once, by ``init``, and kept, for what a buffer holds must stay true of its task. With
    ``source="nominal"`` all are the family's standard simulator: ``num_tasks`` copies of
    Pendulum-v1, say, which is what single-task results are reported on and what the presets do.

    Attributes:
        num_tasks: Tasks whose experience is kept, over all devices.
        source: What they are drawn from: a split of the family, or ``nominal``, its standard
            parameters alone.
        steps: Steps of each task per update.
        gradient_steps: Gradient steps per update.
        batch_size: Steps in a minibatch, over all tasks: a multiple of ``num_tasks``.
        capacity: Steps of each task that are kept; the oldest make room.
        warmup_steps: Steps, over all tasks, before the policy acts: they are uniform over the
            action space, and nothing is learned until they are stored.
        network: Hidden layers of the policy.
        critic_network: Hidden layers of each critic.
        learning_rate: Step size of Adam for the policy, constant or a schedule over updates.
        critic_learning_rate: Likewise, for the critics.
        temperature_learning_rate: Likewise, for the logarithm of the temperature.
        temperature: α, the worth of a nat of entropy, in scaled reward; None learns it.
        initial_temperature: Where learning it starts.
        target_entropy: Nats that it keeps, of the density of actions in half ranges; None for
            minus the number of entries of an action.
        discount: γ, per step, constant or a schedule over updates.
        tau: How far the critics' moving copies go towards them with each gradient step.
        reward_scale: What rewards are multiplied by before anything is learned from them.
        noise_correlation: Correlation of the noise of one step's action with that of the next;
            each by itself is distributed as without. Above 0 exploration is persistent, which
            systems need that answer to a steady push only. Evaluations draw every action anew.
        normalize_observations: Whether observations that are not one-hot are seen with mean 0 and
            deviation 1, by moments of all that was played.

    Reference: Haarnoja et al. 2018, arXiv 1812.05905.
    Differs from the released code: an update plays several steps before it learns from them, in
    the same proportion; observations are normalised.
    """

    num_tasks: int = 1
    source: str = "train"
    steps: int = 32
    gradient_steps: int = 32
    batch_size: int = 256
    capacity: int = 100_000
    warmup_steps: int = 1000
    network: MLP = field(default_factory=lambda: MLP((256, 256), "relu"))
    critic_network: MLP = field(default_factory=lambda: MLP((256, 256), "relu"))
    learning_rate: float | Schedule = 3e-4
    critic_learning_rate: float | Schedule = 3e-4
    temperature_learning_rate: float | Schedule = 3e-4
    temperature: float | None = None
    initial_temperature: float = 1.0
    target_entropy: float | None = None
    discount: float | Schedule = 0.99
    tau: float = 0.005
    reward_scale: float = 1.0
    noise_correlation: float = 0.0
    normalize_observations: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_least(self, num_tasks=1, steps=1, gradient_steps=1, batch_size=1)
        tasks, size = self.num_tasks, self.batch_size
        shares = f"a multiple of num_tasks={tasks}, which give equal shares"
        require(size % tasks == 0, "batch_size", size, shares)
        text = f"at least steps={self.steps}, which are stored at once"
        require(self.capacity >= self.steps, "capacity", self.capacity, text)
        text = f"at least batch_size={size}: so many are to be there before any is learned from"
        require(self.warmup_steps >= size, "warmup_steps", self.warmup_steps, text)
        room = f"of {self.capacity * tasks:,} steps in all, at least batch_size={size}"
        require(self.capacity * tasks >= size, "capacity", self.capacity, room)
        rates = ("learning_rate", "critic_learning_rate", "temperature_learning_rate")
        for name in (*rates, "initial_temperature", "reward_scale"):
            check_positive(getattr(self, name), name)
        alpha = self.temperature
        require(alpha is None or alpha > 0, "temperature", alpha, "above 0, or None to learn it")
        for name in ("discount", "tau"):
            check_share(getattr(self, name), name)
        rho = self.noise_correlation
        require(0.0 <= rho < 1.0, "noise_correlation", rho, "at least 0 and below 1")

    @property
    def keeps_tasks(self) -> bool:
        return True

    def check(self, family: Family) -> None:
        acting = check_acts(self, family)
        space = acting.action_space
        text = "a Box: SAC is for continuous actions"
        require(isinstance(space, Box), "tasks.action_space", space, text)
        check_source(self.source, acting)

    def trial_episodes(self, family: TaskFamily) -> int:
        del family
        return 1

    def env_steps_per_update(self, family: TaskFamily) -> int:
        del family
        return self.num_tasks * self.steps

    def placement(self, family: TaskFamily) -> Any:
        del family
        spread, newest = Placement(over_tasks=True), Placement(over_tasks=True, newest_only=True)
        places: Any = dict.fromkeys(SACState._fields, WHOLE)
        return SACState(**(places | {"tasks": spread, "playing": newest, "replay": newest}))

    def init(self, family: TaskFamily, key: Array) -> SACState:
        actor_key, critic_key, task_key, play_key = jax.random.split(key, 4)
        actor, critics, space = self._networks(family)
        begun = first_learner(
            actor.init(actor_key), critics.init(critic_key), self._first_temperature
        )
        params = first_input_moments(family, self.normalize_observations, False)

        def begin(task: Any, key: Array) -> Playing:
            noise_key, reset_key = jax.random.split(key)
            noise = jax.random.normal(noise_key, space.shape, jnp.float32)
            return begin_playing(family, task, noise, reset_key)

        task_keys = parallel.task_keys(task_key, self.num_tasks)
        tasks = jax.vmap(lambda key: draw_task(family, self.source, key))(task_keys)
        playing = jax.vmap(begin)(tasks, parallel.task_keys(play_key, self.num_tasks))
        nothing = empty_replay(Experience.example(family), self.capacity)
        replay = jax.vmap(lambda _: nothing)
        return SACState(
            params={"actor": begun.actor} | params,
            critics=begun.critics,
            targets=begun.targets,
            log_alpha=begun.log_alpha,
            opt_states=begun.opt_states,
            tasks=tasks,
            playing=playing,
            replay=replay(task_keys),
        )

    def policy(self, family: TaskFamily) -> AdaptivePolicy:
        actor, _, space = self._networks(family)

        def act(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any]:
            distribution = actor.apply(params["actor"], _seen(family, params, inputs.obs))
            return _in_bounds(space, distribution.sample(key)), carry

        def act_mode(params: Any, carry: Any, inputs: PolicyInput, key: Array) -> tuple[Array, Any]:
            del key
            distribution = actor.apply(params["actor"], _seen(family, params, inputs.obs))
            return _in_bounds(space, distribution.mode()), carry

        return AdaptivePolicy(lambda params, key: (), act, act_mode=act_mode)

    def update(
        self, family: TaskFamily, state: SACState, key: Array, step: Array
    ) -> tuple[SACState, dict[str, Array]]:
        play_key, learn_key = jax.random.split(key)
        warming = -(-self.warmup_steps // self.env_steps_per_update(family))  # updates
        act = self._explore(family, step < warming)

        def play(playing: Playing, task: Any, key: Array) -> tuple[Playing, Trajectory]:
            return play_on(family, act, state.params, playing, task, key, self.steps)

        play_keys = parallel.task_keys(play_key, self.num_tasks)
        playing, steps = jax.vmap(play)(state.playing, state.tasks, play_keys)
        replay = jax.vmap(add)(state.replay, Experience.of(steps))
        params = self._watch(family, state.params, steps, step)

        def learn() -> tuple[SoftLearner, dict[str, Array]]:
            drawn = self._draw(family, params, replay, learn_key)
            return self._learn(family, state.learner, drawn, step)

        def wait() -> tuple[SoftLearner, dict[str, Array]]:
            return state.learner, dict.fromkeys(SOFT_METRICS, jnp.float32(0.0))

        learner, metrics = jax.lax.cond(step + 1 >= warming, learn, wait)
        metrics |= parallel.mean_over_tasks(
            {"return": playing.score, "episodes": playing.episodes.astype(jnp.float32)}
        )
        metrics |= {"alpha": jnp.exp(learner.log_alpha)}
        new = state._replace(
            params=params | {"actor": learner.actor},
            critics=learner.critics,
            targets=learner.targets,
            log_alpha=learner.log_alpha,
            opt_states=learner.opt_states,
            playing=playing,
            replay=replay,
        )
        return new, metrics

    def memory_bytes(self, family: TaskFamily, num_tasks: int) -> int:
        """Bytes of one update: replay, networks, and what a gradient step of them keeps."""
        state = jax.eval_shape(lambda: self.init(family, jax.random.key(0)))
        stored = num_bytes((state.tasks, state.playing, state.replay))
        whole = num_bytes(state) - stored
        features, action = family.observation_space.flat_size, family.action_space.flat_size
        drawn = self.gradient_steps * (2 * features + 3 * action + 3)
        # Back-propagation keeps the input and the output of every activation.
        units = 2 * (sum(self.network.sizes) + 2 * sum(self.critic_network.sizes))
        learned = 4 * self.batch_size * (drawn + units)
        return 3 * whole + (stored + learned) * num_tasks // self.num_tasks

    @property
    def _first_temperature(self) -> float:
        return self.initial_temperature if self.temperature is None else self.temperature

    def _networks(self, family: TaskFamily) -> tuple[GaussianActor, Critics, Box]:
        features, space = family.observation_space.flat_size, family.action_space
        assert isinstance(space, Box)
        actor = gaussian_actor(features, space, self.network)
        return actor, twin_critics(features, space, self.critic_network), space

    def _explore(self, family: TaskFamily, at_random: Array) -> Act:
        """Returns how to act; the carry is the standard normal noise of the step before."""
        actor, _, space = self._networks(family)
        rho = self.noise_correlation

        def act(params: Any, noise: Array, inputs: PolicyInput, key: Array) -> tuple:
            fresh = jax.random.normal(key, space.shape, jnp.float32)
            noise = rho * noise + (1.0 - rho**2) ** 0.5 * fresh
            distribution = actor.apply(params["actor"], _seen(family, params, inputs.obs))
            uniform = jax.lax.erf(noise / 2.0**0.5)  # in [-1, 1]
            action = jnp.where(at_random, uniform, distribution.at(noise)[0])
            return _in_bounds(space, action), noise, ()

        return act

    def _watch(self, family: TaskFamily, params: Any, steps: Trajectory, step: Array) -> Any:
        """Returns the parameters with moments that have seen these steps, ``[B, T]``, too."""
        moments = input_moments(params).obs
        if moments is None:
            return params
        x = jax.vmap(jax.vmap(family.observation_space.flatten))(steps.inputs.obs)
        mean = jnp.mean(parallel.mean_over_tasks(x), axis=0)
        variance = jnp.mean(parallel.mean_over_tasks((x - mean[None, None]) ** 2), axis=0)
        # All steps so far weigh alike, as in a buffer that forgets none.
        rate = step / (step + 1.0)
        moments = moments.update(mean, variance, rate, jnp.asarray(True))
        return params | {"inputs": InputMoments(moments, None)}

    def _draw(self, family: TaskFamily, params: Any, replay: Replay, key: Array) -> Minibatch:
        """Returns the minibatches of an update, leaves ``[gradient steps, N, ...]``."""
        space = family.action_space
        assert isinstance(space, Box)
        rows = self.gradient_steps, self.batch_size // self.num_tasks

        def of_task(replay: Replay, key: Array) -> Minibatch:
            place_key, noise_key = jax.random.split(key)
            stored = items_at(replay, draw_places(replay, place_key, rows))
            see = jax.vmap(jax.vmap(lambda obs: _seen(family, params, obs)))
            return Minibatch(
                features=see(stored.obs),
                action=space.to_unit(stored.action),
                reward=self.reward_scale * stored.reward,
                terminated=stored.terminated,
                next_features=see(stored.next_obs),
                noise=jax.random.normal(noise_key, (*rows, 2, *space.shape), jnp.float32),
            )

        drawn = jax.vmap(of_task)(replay, parallel.task_keys(key, self.num_tasks))

        def together(x: Array) -> Array:
            """``[B, G, n, ...] -> [G, B n, ...]``."""
            return jnp.swapaxes(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])

        return jax.tree.map(together, drawn)

    def _learn(
        self, family: TaskFamily, learner: SoftLearner, drawn: Minibatch, step: Array
    ) -> tuple[SoftLearner, dict[str, Array]]:
        """Returns the learner after a step on each minibatch, and the means of their metrics."""
        actor, critics, space = self._networks(family)
        of_alpha = value_at(self.temperature_learning_rate, step)
        settings = SoftSettings(
            batch_size=self.batch_size,
            discount=value_at(self.discount, step),
            tau=self.tau,
            target_entropy=-space.flat_size if self.target_entropy is None else self.target_entropy,
            learning_rates=(
                value_at(self.learning_rate, step),
                of_alpha if self.temperature is None else None,
                value_at(self.critic_learning_rate, step),
            ),
        )
        learner, metrics = jax.lax.scan(
            lambda learner, batch: soft_step(actor, critics, settings, learner, batch),
            learner,
            drawn,
        )
        return learner, jax.tree.map(jnp.mean, metrics)


def _seen(family: TaskFamily, params: Any, obs: Any) -> Array:
    """Returns an observation as the networks see it, ``[F]``."""
    return seen_observation(family.observation_space, obs, input_moments(params).obs)


def _in_bounds(space: Box, action: Array) -> Array:
    """Returns an action in half ranges in the units of its space, within its bounds."""
    return space.clip(space.from_unit(action))
