"""The references of a family, played by the protocol of the agent that they stand beside."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from jaxmeta.rollout import Protocol
from jaxmeta_envs.base import Family, Reference, TaskFamily
from jaxmeta_envs.supervised import AdaptiveModel, Predictor, SupervisedFamily

OF_PRIOR = " (for the training prior)"
"""Behind the name of a reference that believes in the training tasks, on other tasks."""


def play_references(
    play: Callable[..., np.ndarray],
    family: Family,
    experience: np.ndarray,
    episodes: int = 1,
    split: str = "test",
) -> dict[str, np.ndarray]:
    """Plays the references; returns what they earn after each amount of experience.

    Those of supervised families adapt to nothing: all rows of theirs are alike.

    Args:
        play: `jaxmeta.player.play_tasks` with its keywords bound.
        family: The task family.
        experience: Episodes of experience, increasing, ``[K]``.
        episodes: N, episodes that a point is the mean of, as for the agent. They all begin
            with what so much experience has taught, and teach nothing themselves.
        split: Where the tasks are from. On a shifted one the name of a reference that knows
            the distribution of training ends in `OF_PRIOR`.

    Returns:
        Name to returns ``[B, K]``.
    """
    returns = {}
    if isinstance(family, SupervisedFamily):
        for name, model in _predictors(family).items():
            losses = play(model, (), family, 1, told_task=True)
            returns[name] = np.repeat(losses, len(experience), axis=1)
        return returns
    assert isinstance(family, TaskFamily)
    for name, reference in _references(family, int(experience[-1]) + 1).items():
        policy, told = reference.policy, reference.told_task
        together = max(episodes, policy.episodes_per_adapt)
        points = Protocol(tuple(experience.tolist()), together)
        shown = shown_name(name, reference, split)
        returns[shown] = play(policy, reference.params, family, points, told_task=told)
    return returns


def shown_name(name: str, reference: Reference, split: str) -> str:
    """Returns a reference's name, and where it needs saying what it is optimal for."""
    of_prior = reference.knows_prior and is_shift(split)
    return f"{name}{OF_PRIOR}" if of_prior else name


def is_shift(split: str) -> bool:
    """Returns whether a split has another distribution than training."""
    return split not in ("train", "test")


@functools.lru_cache(maxsize=32)
def _references(family: TaskFamily, num_episodes: int) -> dict[str, Reference]:
    return dict(family.references(num_episodes))


@functools.lru_cache(maxsize=32)
def _predictors(family: SupervisedFamily) -> dict[str, AdaptiveModel]:
    """Returns the references as models that do not adapt."""

    def model(predict: Predictor) -> AdaptiveModel:
        return AdaptiveModel(
            begin=lambda given: (),
            predict=lambda given, carry, x: predict(given[1], x),  # given: (params, task)
            adapt=lambda given, carry, support: carry,
            shots=1,
        )

    return {name: model(predict) for name, predict in family.references().items()}
