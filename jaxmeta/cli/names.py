"""The two names that training begins with, and all that there are."""

from __future__ import annotations

import itertools
import shutil

from jaxmeta.cli.output import BAD_INPUT, OK, complain

HELP = ("-h", "--help")


def training_names(command: str, arguments: list[str]) -> tuple[str, str] | None:
    """Returns algorithm and family; None if the help was asked for instead, and printed."""
    from jaxmeta.cli.listing import train_usage
    from jaxmeta_envs.core.errors import ConfigError

    names = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    if len(names) >= 2:
        return names[0], names[1]
    if set(arguments) & set(HELP):
        print(train_usage(command))
        return None
    usage = f"jaxmeta {command} ALGORITHM FAMILY [OPTIONS]"
    raise ConfigError(f"{command} needs two names first: {usage}")


def list_command(arguments: list[str]) -> int:
    """Lists algorithms, task families, splits and references."""
    from jaxmeta.cli.listing import describe_catalogue
    from jaxmeta.cli.options import ListOptions
    from jaxmeta.cli.parsing import parse_options

    if arguments and not arguments[0].startswith("-"):
        return complain(f"list takes no arguments, not {' '.join(arguments)}", BAD_INPUT)
    parse_options(ListOptions, arguments, command="jaxmeta list")
    print(describe_catalogue(shutil.get_terminal_size((1000, 24)).columns))
    return OK
