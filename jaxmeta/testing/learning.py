"""Does an algorithm learn? Call `check_learning` from your own slow tests."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import numpy as np
from jax import Array

from jaxmeta.config import TrainConfig
from jaxmeta.contracts import Algorithm
from jaxmeta.engine import make_train
from jaxmeta.experience.play import play_adaptation
from jaxmeta.streams import Stream, stream_key
from jaxmeta.testing.conformance import ConformanceError
from jaxmeta.testing.probe_tasks import PROBE_TASKS, PredictReward, ProbeTask, StayOrLeave
from jaxmeta_envs.core.errors import ConfigError

PASSING_SCORE = 0.75
"""Share of the way from the failure to the best that a learner must go."""


def check_learning(
    algorithm: Algorithm,
    probes: Iterable[ProbeTask] = PROBE_TASKS,
    *,
    updates: int = 200,
    seed: int = 0,
) -> dict[str, float]:
    """Trains an algorithm on families with known answers, each with one way to fail.

    The number of episodes per trial must be left to the family.

    Probes that the algorithm's ``check`` rejects are left out; so are those about the value
    estimate if there is no metric ``value_explained``, and those about time limits if the
    algorithm's attribute ``bootstraps`` is False.

    Args:
        algorithm: The algorithm, with a small network and a learning rate for short runs.
        probes: What to train on.
        updates: Updates per probe.
        seed: Seed of all randomness.

    Returns:
        Score per probe, from about 0 (the failure) to 1 (the best possible).

    Raises:
        ConformanceError: At the first score below `PASSING_SCORE`, with what it tells.
    """
    scores = {}
    for probe in probes:
        if not _applies(algorithm, probe):
            continue
        score = _score(algorithm, probe, updates, seed)
        if score is None:
            continue
        name = type(probe).__name__
        if isinstance(probe, StayOrLeave):
            name += " (terminated)" if probe.finite_horizon else " (truncated)"
        if score < PASSING_SCORE:
            raise ConformanceError(
                name,
                f"after {updates} updates the score is {score:.2f}, so {probe.failure}",
                f"a learner scores at least {PASSING_SCORE} of 1",
            )
        scores[name] = score
    return scores


def _applies(algorithm: Algorithm, probe: ProbeTask) -> bool:
    if isinstance(probe, StayOrLeave) and not algorithm.bootstraps:
        return False
    try:
        algorithm.check(probe)
    except ConfigError:
        return False
    return True


def _score(algorithm: Algorithm, probe: ProbeTask, updates: int, seed: int) -> float | None:
    steps = updates * algorithm.env_steps_per_update(probe)
    config = TrainConfig(algorithm=algorithm, tasks=probe, total_env_steps=steps)
    state, metrics = jax.jit(make_train(config))(jax.random.key(seed))
    if isinstance(probe, PredictReward):
        explained = metrics.get("value_explained")
        return None if explained is None else float(np.mean(explained[-5:]))
    policy = algorithm.policy(probe)

    def meet(key: Array) -> Array:
        task_key, key = jax.random.split(key)
        task = probe.sample_task(task_key, "test")
        trial = play_adaptation(probe, policy, state.params, task, key, probe.episodes)
        return probe.marks(jax.tree.map(lambda x: x[:, 0], trial))

    keys = jax.random.split(stream_key(seed, Stream.LEARNING), 500)
    return float(np.mean(jax.jit(jax.vmap(meet))(keys)))
