"""From the words after a command to its options."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import TypeVar

import tyro

from jaxmeta.cli.choices import by_present_names, parts_registry
from jaxmeta.cli.complaints import Given, sentence
from jaxmeta.cli.reading import Unread, numbers_registry
from jaxmeta_envs.core.errors import ConfigError

Options = TypeVar("Options")


def parse_options(
    kind: type[Options],
    arguments: Sequence[str],
    *,
    command: str,
    description: str | None = None,
    default: Options | None = None,
) -> Options:
    """Builds a dataclass from command-line arguments.

    Args:
        kind: The dataclass.
        arguments: What follows the command.
        command: What the user typed to get here, for the messages.
        description: Text above the options; None takes the docstring of ``kind``.
        default: Values of the options that are not given; its parts also decide which
            concrete classes the options are those of.

    Raises:
        ConfigError: If a value is out of range, or an argument is unknown, missing or cannot be
            read.
        SystemExit: If help was asked for.
    """
    complaint, unread = io.StringIO(), list[Unread]()
    arguments = by_present_names(arguments)
    given = Given(command, arguments, unread)
    try:
        with (
            numbers_registry(unread),
            parts_registry(),
            contextlib.redirect_stderr(complaint),
            warnings.catch_warnings(),
        ):
            # tyro warns of a default that is none of the choices, such as a part of a user's own.
            warnings.filterwarnings("ignore", ".*does not match any type in Union")
            # Nor need a user's algorithm say which families and which state it is of.
            warnings.filterwarnings("ignore", "Could not resolve type parameter")
            return tyro.cli(
                kind,
                args=arguments,
                prog=command,
                description=description,
                default=tyro.MISSING_NONPROP if default is None else default,
                config=(
                    # Options may follow the choice of an alternative in any order.
                    tyro.conf.CascadeSubcommandArgs,
                    # Comments in the source are for its readers.
                    tyro.conf.HelptextFromCommentsOff,
                ),
            )
    except SystemExit as stop:
        # tyro frames what validation says; here every bad value gets the same sentence.
        if (error := _config_error_behind(stop)) is not None:
            raise error from None
        if stop.code in (0, None):
            raise
        raise ConfigError(sentence(complaint.getvalue(), given)) from None


def _config_error_behind(error: BaseException | None) -> ConfigError | None:
    while error is not None and not isinstance(error, ConfigError):
        error = error.__cause__ or error.__context__
    return error
