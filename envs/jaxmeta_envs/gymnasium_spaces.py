"""Our spaces and Gymnasium's."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxmeta_envs.extras import import_extra
from jaxmeta_envs.spaces import Discrete, Space


def to_gymnasium(space: Space) -> Any:
    """Returns the Gymnasium space with the same values.

    Raises:
        ConfigError: If Gymnasium is not installed.
    """
    spaces = import_extra("gymnasium.spaces", "gymnasium", user="to_gymnasium")
    if isinstance(space, Discrete):
        return spaces.Discrete(space.n)
    return spaces.Box(space.lowest, space.highest, space.shape, np.float32)


def is_like(theirs: Any, ours: Space) -> bool:
    """Whether values of a Gymnasium space can stand for ours; bounds may differ."""
    discrete = type(theirs).__name__ == "Discrete"
    if discrete != isinstance(ours, Discrete) or tuple(theirs.shape or ()) != ours.shape:
        return False
    if isinstance(ours, Discrete):
        return int(theirs.n) == ours.n and int(theirs.start) == 0
    return True
