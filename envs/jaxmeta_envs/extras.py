"""Packages that only some task families need."""

from __future__ import annotations

import importlib
from typing import Any

import jax

from jaxmeta_envs.errors import ConfigError


def import_extra(module: str, extra: str) -> Any:
    """Imports a module of an optional package, when a family is first used.

    Args:
        module: The module.
        extra: The extra of this distribution that installs it.

    Raises:
        ConfigError: If it cannot be imported.
    """
    try:
        # Such packages make arrays when imported, which must not become part of a program
        # that is being traced.
        with jax.ensure_compile_time_eval():
            return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ConfigError(
            f"this task family needs {name}, which cannot be imported ({error}); "
            f'install it with: pip install "jaxmeta[{extra}]"'
        ) from error
