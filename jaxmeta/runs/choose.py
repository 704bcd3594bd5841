"""The trained agents that a command is given: loaded, named, and where the result may go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxmeta.runs.result import load
from jaxmeta_envs.core.errors import ConfigError, require


def load_runs(sources: Any, least: int = 1) -> list[Any]:
    """Returns the results of training, those given as a directory loaded.

    Args:
        sources: What `jaxmeta.training.train.train` returned or the directory of a run, or a
            sequence of them.
        least: How many there must be.

    Raises:
        ConfigError: If there are fewer, or a directory holds no run.
    """
    several = as_list(sources)
    shown = [str(source) if isinstance(source, str | Path) else "a result" for source in several]
    require(len(several) >= least, "runs", shown, f"at least {('one', 'two')[least - 1]}")
    for source in several:
        check_source(source)
    return [load(source) if isinstance(source, str | Path) else source for source in several]


def as_list(sources: Any) -> list[Any]:
    """Returns a list of runs, given one or several: a result of training is itself a tuple."""
    if isinstance(sources, str | Path) or hasattr(sources, "config"):
        return [sources]
    require(isinstance(sources, Iterable), "runs", sources, "results of training or directories")
    return list(sources)


def check_source(source: Any) -> None:
    """Raises `ConfigError` unless ``source`` is a result of training, or a path."""
    text = "what train returned, or the directory of a run"
    result = hasattr(source, "config") and hasattr(source, "params")
    good = isinstance(source, str | Path) or result
    require(good, "source", source, text)


def choose_labels(results: Sequence[Any], labels: Sequence[str] | None) -> list[str]:
    """Returns a name for every run, no two alike: by default those of the directories."""
    names: list[str] = []
    if labels is not None:
        fitting = len(labels) == len(results) and len(set(labels)) == len(labels)
        require(fitting, "labels", tuple(labels), f"{len(results)} different names, one per run")
        return list(labels)
    for depth in (1, 2):  # the directory, and what it lies in
        names = [_name(result, depth) for result in results]
        if len(set(names)) == len(names):
            return names
    counts = [names[:i].count(name) for i, name in enumerate(names)]
    return [f"{name} ({n + 1})" if n else name for name, n in zip(names, counts, strict=True)]


def _name(result: Any, depth: int) -> str:
    if result.run_dir is None:
        return agent_name(result.config.algorithm)
    return "/".join(Path(result.run_dir).parts[-depth:])


def agent_name(algorithm: Any) -> str:
    """Returns what tables and figures call an agent, see `jaxmeta.catalog.methods.title_of`."""
    from jaxmeta.catalog.methods import title_of  # networks, which take a while to import

    return title_of(algorithm)


def picture_place(out: str | Path, name: str) -> Path:
    """Returns the PNG that a user means; other files go beside it, under its name.

    Args:
        out: The PNG, or a directory, which need not be there yet.
        name: What it is called in a directory.

    Raises:
        ConfigError: If ``out`` is neither, or it cannot be written.
    """
    path = Path(out).expanduser()
    folder = path.is_dir() or not path.suffix
    text = "the name of a PNG, such as map.png, or a directory"
    require(folder or path.suffix == ".png", "out", str(path), text)
    above = path if path.is_dir() else path.parent
    if not (above.is_dir() and os.access(above, os.W_OK)):
        said = "cannot be written; name another place with out, or save nothing"
        raise ConfigError(f"{above} {said}")
    return path / name if folder else path
