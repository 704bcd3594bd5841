"""The references of a family, played by the protocol of the agent that they stand beside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxmeta.evaluation.protocol import Protocol


def play_references(
    play: Callable[..., np.ndarray], protocol: Protocol, split: str = "test"
) -> dict[str, np.ndarray]:
    """Plays the references; returns what they earn at every point of a protocol.

    Those that adapt to nothing earn the same at all of them.

    Args:
        play: `jaxmeta.evaluation.player.play_tasks` with its keywords bound.
        protocol: Of the agent.
        split: Where the tasks are from.

    Returns:
        Name to scores ``[B, K]``.
    """
    found = {}
    for name, (own, params, told_task) in protocol.references(split).items():
        scores = play(own, params, told_task=told_task)
        found[name] = np.repeat(scores, len(protocol.experience) // scores.shape[1], axis=1)
    return found
