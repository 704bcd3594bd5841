"""Checks of numbers that public functions are handed."""

from __future__ import annotations

import numpy as np

from jaxmeta_envs.core.errors import require


def check_integer(name: str, value: int, least: int) -> None:
    """Raises `ConfigError` unless ``value`` is an integer of at least ``least``."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    require(whole and value >= least, name, value, f"an integer of at least {least}")


def check_seed(seed: int) -> None:
    """Raises `ConfigError` unless ``seed`` is one of `jax.random.key`."""
    check_integer("seed", seed, least=0)
    require(seed < 2**32, "seed", seed, "below 2**32")
