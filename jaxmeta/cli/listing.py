"""What the library offers, as text for the command line."""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from jaxmeta.catalog.methods import METHODS, title_of
from jaxmeta.catalog.presets import PRESETS, of_defaults
from jaxmeta.catalog.registry import algorithm_names, family_names, find_algorithm, find_family
from jaxmeta.config import TrainConfig
from jaxmeta.sweeps.grid import sweepable
from jaxmeta_envs.core.contracts import Family
from jaxmeta_envs.core.errors import ConfigError


def summary(cls: type) -> str:
    """Returns the first sentence of a class's docstring, on one line."""
    paragraph = (inspect.getdoc(cls) or "").split("\n\n")[0]
    return " ".join(paragraph.split())


def describe_catalogue(columns: int = 1000) -> str:
    """Returns the names that ``jaxmeta train`` knows, and what comes with them.

    Args:
        columns: Of the terminal, on which lines are to end at words.
    """
    algorithms = [name for name in algorithm_names() if name not in METHODS]
    width = max(map(len, (*algorithms, *METHODS, *family_names())))
    lines = ["Algorithms"]
    named = functools.partial(_named, width=width, columns=columns)
    for name in algorithms:
        lines += named(name, _found(find_algorithm, name)[1])
    lines += ["", "Methods: MAML with certain parts"]
    for name, method in METHODS.items():
        lines += named(name, method.summary)
    lines += ["", "Task families"]
    for name in family_names():
        cls, said = _found(find_family, name)
        lines += named(name, said)
        for label, words in (_details(name, cls) if cls else {}).items():
            indent = " " * _indent(width, columns)
            lines += textwrap.wrap(
                f"{label}: {', '.join(words) or 'none'}",
                width=min(columns, 100),
                initial_indent=indent,
                subsequent_indent=f"{indent}  ",
            )
    return "\n".join(lines)


def _indent(width: int, columns: int) -> int:
    """Returns where what is said of a name begins: beside it, or below if that is narrow."""
    return width + 4 if columns >= 2 * (width + 4) else 4


def _named(name: str, said: str, width: int, columns: int) -> list[str]:
    """Returns a name and what it is, in as many lines as it takes."""
    indent = _indent(width, columns)
    beside = indent > 4
    first = f"  {name:<{width}}  " if beside else " " * indent
    told = textwrap.wrap(
        said, columns, initial_indent=first, subsequent_indent=" " * indent, break_on_hyphens=False
    )
    return told if beside else [f"  {name}", *told]


def _found(find: Callable[[str], type], name: str) -> tuple[Any, str]:
    """Returns a class and what it is; None and why, if an installed package cannot be imported."""
    try:
        cls = find(name)
    except ConfigError as error:
        return None, str(error)
    return cls, summary(cls)


def describe_training(config: TrainConfig) -> str:
    """Returns what ``jaxmeta train`` does with this algorithm and this family."""
    algorithm, family = type(config.algorithm), type(config.tasks)
    return (
        f"Trains {title_of(config.algorithm)} on {family.__name__}, "
        "by default with the preset shown.\n\n"
        f"{algorithm.__name__}: {summary(algorithm)}\n\n{family.__name__}: {summary(family)}\n\n"
        "Options of the parts listed below as subcommands may be given at once; to see them, or to "
        "choose another part, name it: algorithm.memory:lstm --help. One of your own in mine.py is "
        "algorithm.memory:mine:MyMemory."
    )


def describe_sweep(config: TrainConfig) -> str:
    """Returns what ``jaxmeta sweep`` does with this algorithm and this family."""
    return (
        f"Trains {title_of(config.algorithm)} on {type(config.tasks).__name__} with every "
        "combination of some numbers, side by side in one program, and ranks them by what they "
        "reach on held-out tasks. The same command with the same --run-dir goes on with a sweep "
        f"that was stopped.\n\nWhat can be varied: {', '.join(sweepable(config.algorithm))}.\n\n"
        "All other options are those of jaxmeta train."
    )


def train_usage(command: str = "train") -> str:
    """Returns the help of ``jaxmeta train`` before algorithm and family are known."""
    return f"""\
usage: jaxmeta {command} ALGORITHM FAMILY [OPTIONS]

ALGORITHM: {", ".join(dict.fromkeys([*algorithm_names(), *METHODS]))}
FAMILY:    {", ".join(family_names())}

A class of your own goes by module:Class, such as mine:MyFamily for one in mine.py, or by a name
that a module registers: --import mine.

The options are the fields of the algorithm, the family and the run:

  jaxmeta {command} rl2 bernoulli-bandit --help

jaxmeta list says what the names stand for. A setting that may be a schedule takes a number
or INITIAL:FINAL[:UPDATES][:SHAPE]; 0.001:0 falls to 0 over the whole run. Shapes are linear,
cosine and step."""


def _split(tasks: Family, split: str) -> str:
    repeated = split == "test" and not tasks.disjoint_splits
    return f"{split} (its tasks also occur in training)" if repeated else split


def _details(name: str, cls: type[Family]) -> dict[str, list[str]]:
    tasks = of_defaults("family", name, cls)
    return {
        "splits": [_split(tasks, split) for split in tasks.splits],
        "references": list(tasks.reference_names()),
        "tuned presets": [algorithm for algorithm, of in PRESETS if of == name],
    }
