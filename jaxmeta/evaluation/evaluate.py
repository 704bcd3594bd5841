"""Evaluation on held-out tasks: how well, and how fast, a policy adapts.

Axes: S training seeds, B held-out tasks, K rows of the adaptation curve. Task i of an
evaluation and every random number played on it depend on the evaluation's key and on i
alone: all seeds and all references meet the same tasks with the same luck, and neither
the batch size nor the number of devices changes what they meet.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import Array

from jaxmeta.evaluation.player import BATCH, play_tasks
from jaxmeta.evaluation.protocol import Protocol, is_shift
from jaxmeta.evaluation.protocols import protocol_for, protocol_of
from jaxmeta.evaluation.references import play_references
from jaxmeta.evaluation.result import NUM_TASKS, Evaluation
from jaxmeta.runs.choose import agent_name, check_source
from jaxmeta.runs.result import TrainResult, load
from jaxmeta.runtime.arguments import check_integer, check_seed
from jaxmeta.runtime.files import write_or_warn
from jaxmeta.streams import Stream, stream_key
from jaxmeta_envs.core.contracts import AdaptivePolicy, Family, TaskFamily
from jaxmeta_envs.core.errors import require

if TYPE_CHECKING:
    from jaxmeta.config import TrainConfig

__all__ = ["Evaluation", "evaluate", "evaluate_policy", "evaluation_key", "quick_evaluation"]


_MOST_RETURNS = 100_000_000  # of a seed, 400 MB


def evaluation_key(seed: int) -> Array:
    """Returns the key that `evaluate` uses for ``seed``, apart from all keys of training."""
    return stream_key(seed, Stream.EVALUATION)


def evaluate(
    source: TrainResult | str | Path,
    *,
    episodes: int | None = None,
    shots: int | None = None,
    split: str = "test",
    num_tasks: int = NUM_TASKS,
    seed: int = 0,
    deterministic: bool = False,
    episodes_per_point: int | None = None,
    references: bool = True,
    save: bool = True,
    batch: int = BATCH,
) -> Evaluation:
    """Measures how a trained agent adapts to held-out tasks, beside its references.

    The references of a family play by the protocol of the agent. If it adapts to N > 1
    episodes at a time, row k of all is the mean of N episodes, all of which begin with what
    k N episodes of experience have taught, with the same luck for all policies; and there
    is no optimum to compare with: the exact one is of agents that adapt after every
    episode. Nor is there one for a shifted split, whose distribution differs from the one
    the optimum is computed for. There the names of references that believe in the
    distribution of training say so.

    Actions are sampled, as in training, or with ``deterministic`` the mode of their
    distribution. An agent that adapts to whole episodes (`MAML`, say) goes on sampling those
    that it learns from, as the mode explores nothing; those that are measured start like
    them and are played beside them. References are played as they are.

    On supervised tasks row k is the loss, or what else the family is judged by, after k
    gradient steps on one set of ``shots`` examples; the references are predictors.

    Args:
        source: What `jaxmeta.training.train.train` returned, or the directory of a run.
        episodes: K, rows of the curve; more than in training is allowed. One row is an
            episode, or for an agent that adapts to N at a time, one step of adaptation.
            None: as in training.
        shots: What one step of adaptation sees: episodes, or examples. None: as in training.
            Only for learners that adapt by steps.
        split: Where the tasks are from, one of the family's ``splits``.
        num_tasks: Held-out tasks, B.
        seed: Seed of the tasks and of all that is played on them.
        deterministic: Whether the agent takes the mode of its action's distribution instead
            of a sample.
        episodes_per_point: N, episodes of which a row is the mean, for the agent and for its
            references. None: as many as the agent adapts to at a time, which is the least.
        references: Whether the family's references play too.
        save: Whether to write files into the run's directory, if it has one; see
            `Evaluation.save`. Where they cannot be written, a warning says so.
        batch: Tasks played at a time; bounds the memory.

    Raises:
        ConfigError: If an argument is out of range, before anything is compiled.
    """
    check_source(source)
    result = load(source) if isinstance(source, str | Path) else source
    algorithm, family = result.config.algorithm, result.config.tasks
    check_seed(seed)
    trained = protocol_of(algorithm, family)
    rows = len(trained.experience) if episodes is None else episodes
    check_playable(family, split, num_tasks, rows, batch)
    wanted: dict[str, Any] = {"episodes": episodes_per_point, "deterministic": deterministic}
    protocol = trained.asked(agent_name(algorithm), rows=rows, shots=shots, **wanted)
    evaluation = measure(
        result,
        protocol,
        split=split,
        num_tasks=num_tasks,
        seed=seed,
        references=references,
        batch=batch,
    )
    if save and result.run_dir is not None:
        write_or_warn(evaluation.save, result.run_dir)
    return evaluation


def measure(
    result: TrainResult,
    protocol: Protocol,
    *,
    split: str,
    num_tasks: int,
    seed: int,
    references: bool,
    batch: int,
) -> Evaluation:
    """Plays a trained agent, and its references, by a protocol; see `evaluate`."""
    key = evaluation_key(seed)
    play = functools.partial(play_tasks, key=key, num_tasks=num_tasks, split=split, batch=batch)
    returns = _play_seeds(play, protocol, result.params)
    return replace(
        unplayed(result, protocol, split=split, num_tasks=num_tasks, seed=seed),
        returns=returns,
        references=play_references(play, protocol, split) if references else {},
        optimal=protocol.optimum(split),
    )


def unplayed(
    result: TrainResult, protocol: Protocol, *, split: str, num_tasks: int, seed: int
) -> Evaluation:
    """Returns an evaluation that lacks nothing but its numbers, which are NaN."""
    algorithm, family = result.config.algorithm, result.config.tasks
    trained = protocol_of(algorithm, family)
    seeds = jax.tree.leaves(result.params)[0].shape[0]
    shape = (seeds, num_tasks, len(protocol.experience))
    return Evaluation(
        returns=np.broadcast_to(np.float32(np.nan), shape),
        split=split,
        agent=agent_name(algorithm),
        family=type(family).__name__,
        seed=seed,
        episodes_per_adapt=protocol.together,
        episodes_per_point=protocol.episodes,
        deterministic=protocol.deterministic,
        new_tasks=has_new_tasks(family, split),
        trained_rows=len(trained.experience),
        env_steps=result.env_steps,
        score=family.score,
        headline=protocol.headline,
        shots=protocol.shots,
        own_shots=None if protocol.seen == trained.seen else protocol.seen,
    )


def evaluate_policy(
    policy: AdaptivePolicy,
    params: Any,
    family: TaskFamily,
    *,
    key: Array,
    num_tasks: int = NUM_TASKS,
    episodes: int = 1,
    split: str = "test",
    told_task: bool = False,
    deterministic: bool = False,
    episodes_per_point: int | None = None,
    batch: int = BATCH,
) -> np.ndarray:
    """Plays any adaptive policy on tasks of a family.

    Compiled once per policy, family and shapes. Policies are compared by the identity of
    their functions, so keep the policy rather than make it anew for every call.

    Args:
        policy: The policy.
        params: What it reads.
        family: The task family.
        key: Typed PRNG key; `evaluation_key` makes the one that `evaluate` uses.
        num_tasks: B.
        episodes: K, rows of the curve: episodes, or for a policy that adapts to several at
            a time, steps of adaptation.
        split: Where the tasks are from.
        told_task: Whether the policy receives ``(params, task)`` in place of ``params``.
        deterministic: Whether it acts by its ``act_mode``, see `evaluate`.
        episodes_per_point: N, episodes of which a row is the mean. None: as many as the
            policy adapts to at a time, which is the least.
        batch: Tasks played at a time; bounds the memory and does not change the results
            (but for the rounding of matrix products).

    Returns:
        Undiscounted returns, float32 ``[B, K]``; with N > 1 the mean of N episodes.

    Raises:
        ConfigError: If an argument is out of range, before anything is compiled.
    """
    check_playable(family, split, num_tasks, episodes, batch)
    wanted: dict[str, Any] = {"episodes": episodes_per_point, "deterministic": deterministic}
    protocol = protocol_for(policy, family).asked("the policy", rows=episodes, **wanted)
    return play_tasks(
        protocol,
        params,
        told_task=told_task,
        key=key,
        num_tasks=num_tasks,
        split=split,
        batch=batch,
    )


def quick_evaluation(config: TrainConfig, params: Any, num_tasks: int) -> dict[str, np.ndarray]:
    """Evaluates the agent alone, for the curve that is drawn while it trains.

    Actions are sampled. Its tasks are held out from training and from `evaluate`, and the
    same at every call.

    Args:
        config: The run.
        params: Parameters with a leading seeds axis.
        num_tasks: B.

    Returns:
        ``"eval/return_first"`` and ``"eval/return_last"`` (of the first and last row of a
        trial as long as in training) and ``"eval/return"`` (of its rows together, or for a
        learner that adapts by steps, of the last one), float64 ``[S]``. They are named
        after the family's score, on supervised tasks loss or accuracy, say.
    """
    algorithm, family = config.algorithm, config.tasks
    check_playable(family, "test", num_tasks, 1, BATCH)
    play = functools.partial(
        play_tasks, key=monitor_key(), num_tasks=num_tasks, split="test", batch=BATCH
    )
    protocol = protocol_of(algorithm, family)
    curves = _play_seeds(play, protocol, params).mean(axis=1, dtype=np.float64)
    name, scores = f"eval/{family.score}", protocol.headline_of(curves)
    return {name: scores, f"{name}_first": curves[:, 0], f"{name}_last": curves[:, -1]}


def monitor_key() -> Array:
    """Returns the key of `quick_evaluation`, apart from those of training and of `evaluate`."""
    return stream_key(0, Stream.MONITOR)


def _play_seeds(play: Callable[..., np.ndarray], protocol: Protocol, params: Any) -> np.ndarray:
    """Plays every member of parameters with a leading seeds axis; ``[S, B, K]``."""
    seeds = jax.tree.leaves(params)[0].shape[0]
    return np.stack([play(protocol, params, member=s) for s in range(seeds)])


def check_playable(family: Family, split: str, num_tasks: int, episodes: int, batch: int) -> None:
    """Raises `ConfigError` if an argument of an evaluation is out of range."""
    family.check_split(split)
    check_integer("num_tasks", num_tasks, least=1)
    check_integer("episodes", episodes, least=1)
    check_integer("batch", batch, least=1)
    require(episodes <= _MOST_RETURNS, "episodes", episodes, f"at most {_MOST_RETURNS:,}")
    most = _MOST_RETURNS // episodes
    text = f"at most {most:,} where each has {episodes:,} rows"
    require(num_tasks <= most, "num_tasks", num_tasks, text)


def has_new_tasks(family: Family, split: str) -> bool:
    """Returns whether tasks of a split are known to be others than those of training."""
    return split != "train" and (is_shift(split) or family.disjoint_splits)
