"""Our spaces and Gymnasium's."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxmeta_envs.core.composite_spaces import Dict, Tuple
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.extras import import_extra
from jaxmeta_envs.core.spaces import Box, Discrete, MultiDiscrete, Space


def to_gymnasium(space: Space) -> Any:
    """Returns the Gymnasium space with the same values.

    Raises:
        ConfigError: If Gymnasium is not installed.
    """
    spaces = import_extra("gymnasium.spaces", "gymnasium", user="to_gymnasium")
    if isinstance(space, Discrete):
        return spaces.Discrete(space.n)
    if isinstance(space, MultiDiscrete):
        return spaces.MultiDiscrete(space.sizes, dtype=np.int32)
    if isinstance(space, Dict):
        return spaces.Dict({name: to_gymnasium(part) for name, part in space.named.items()})
    if isinstance(space, Tuple):
        return spaces.Tuple([to_gymnasium(part) for part in space.spaces])
    require(isinstance(space, Box), "space", space, "one that Gymnasium has")
    assert isinstance(space, Box)
    return spaces.Box(space.lowest, space.highest, space.shape, np.float32)


def is_like(theirs: Any, ours: Space) -> bool:
    """Whether values of a Gymnasium space can stand for ours; bounds of a Box may differ."""
    if type(theirs).__name__ != type(ours).__name__:
        return False
    if isinstance(ours, Discrete):
        return int(theirs.n) == ours.n and int(theirs.start) == 0
    if isinstance(ours, MultiDiscrete):
        from_zero = not np.any(theirs.start)
        return tuple(np.ravel(theirs.nvec)) == ours.sizes and from_zero
    if isinstance(ours, Dict):
        same = set(theirs.spaces) == set(ours.named)
        return same and all(is_like(theirs[name], part) for name, part in ours.named.items())
    if isinstance(ours, Tuple):
        same = len(theirs.spaces) == len(ours.spaces)
        return same and all(map(is_like, theirs.spaces, ours.spaces))
    return isinstance(ours, Box) and tuple(theirs.shape or ()) == ours.shape
