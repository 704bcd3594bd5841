"""The streams of random numbers: who draws from which, and that no two are one.

All that is random descends from ``jax.random.key(seed)``. ``fold_in(key, i)`` and
``split(key)[i]`` are the same key, so a small number folded into a key that is split elsewhere
draws what that split draws. Training has the two halves of ``split(key)``; every other stream
is a constant of its own, far above the number of keys that anything is split into.
"""

from __future__ import annotations

import enum

import jax
from jax import Array


class Stream(enum.IntEnum):
    """What draws from a seed beside training (the constants are the names in ASCII).

    Attributes:
        MONITOR: The evaluation while a run trains, and of a sweep: tuning by its curve must
            not touch the tasks that a run is judged on.
        EVALUATION: Held-out tasks and luck of `jaxmeta.evaluate`, `compare` and `show`, and of
            the classical algorithms that are put beside them.
        TUNING: Tasks on which the settings of classical algorithms are chosen.
        ROBUSTNESS: Robustness maps and the search for the worst case.
        TARGET: The hidden draw of a target.
        ROUNDS: What is watched of a target, and learned from it, round by round.
        GYMNASIUM: What an agent draws in a Gymnasium environment.
        LEARNING: The tasks on which `jaxmeta.testing.check_learning` scores.
    """

    MONITOR = 0x6D6F6E69
    EVALUATION = 0x6576616C
    TUNING = 0x74756E65
    ROBUSTNESS = 0x726F6275
    TARGET = 0x74617267
    ROUNDS = 0x726F756E
    GYMNASIUM = 0x67796D6E
    LEARNING = 0x6C726E67


BETWEEN = 0x6274776E
"""Folded into the key of a trial: the episodes that lie between the points of a curve."""


def stream_key(seed: int, stream: Stream) -> Array:
    """Returns the key of a stream of a seed."""
    return jax.random.fold_in(jax.random.key(seed), stream)


def init_key(key: Array) -> Array:
    """Returns the key of a run's first state, given that of its seed."""
    return jax.random.split(key)[0]


def update_key(key: Array, update: Array | int) -> Array:
    """Returns the key of an update, given that of the run's seed."""
    return jax.random.fold_in(jax.random.split(key)[1], update)
