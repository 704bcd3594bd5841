"""What a learner is judged by on a family of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxmeta_envs.core.errors import ConfigError, require


@dataclass(frozen=True)
class Score:
    """What a learner is judged by, and which way is better.

    As text (``str``, an f-string) it is its name.

    Attributes:
        name: Its key in the metrics of training, and its name in files, tables and figures.
        higher_is_better: Whether more of it is better; else less is.
        unit: Unit of its values in figures, such as ``"share"``; empty for none.
    """

    name: str
    higher_is_better: bool
    unit: str = ""

    def __post_init__(self) -> None:
        named = isinstance(self.name, str) and self.name != ""
        require(named, "score.name", self.name, "a name, such as accuracy")
        known = isinstance(self.higher_is_better, bool)
        require(known, "score.higher_is_better", self.higher_is_better, "True or False")
        require(isinstance(self.unit, str), "score.unit", self.unit, "a unit, or empty for none")

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1: times this, all values are to be maximised."""
        return 1 if self.higher_is_better else -1

    def __str__(self) -> str:
        return self.name


RETURN = Score("return", higher_is_better=True)
"""The undiscounted sum of rewards."""

LOSS = Score("loss", higher_is_better=False)
"""A family's loss on examples that the learner did not adapt to."""

ACCURACY = Score("accuracy", higher_is_better=True, unit="share")
"""The share of examples whose label is predicted."""


def as_score(score: Any) -> Score:
    """Returns a score, given it or one of the names ``"return"`` and ``"loss"``.

    Raises:
        ConfigError: If it is neither.
    """
    if isinstance(score, Score):
        return score
    for known in (RETURN, LOSS):
        if isinstance(score, str) and score == known.name:
            return known
    example = score if isinstance(score, str) and score else "accuracy"
    raise ConfigError(
        f"score is {score!r}; it must be a Score, which says which way is better, such as "
        f'Score("{example}", higher_is_better=True)'
    )
