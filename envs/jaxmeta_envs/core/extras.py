"""Packages that only some parts need."""

from __future__ import annotations

import importlib
from typing import Any

import jax

from jaxmeta_envs.core.errors import ConfigError


def import_extra(module: str, extra: str, user: str = "this task family") -> Any:
    """Imports a module of an optional package, when what needs it is first used.

    Args:
        module: The module.
        extra: The extra of this distribution that installs it.
        user: What needs it, for the message.

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
            f"{user} needs {name}, which cannot be imported ({error}); "
            f'install it with: pip install "jaxmeta[{extra}]"'
        ) from error
