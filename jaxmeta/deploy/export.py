"""Writing a trained agent as compiled programs and parameters that need JAX alone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export as jax_export

from jaxmeta.catalog import serialization
from jaxmeta.catalog.methods import title_of
from jaxmeta.deploy import load as exported
from jaxmeta.evaluation.programs import Named, Program, Tree
from jaxmeta.evaluation.protocols import protocol_of
from jaxmeta.runs.choose import load_runs
from jaxmeta.version import VERSION
from jaxmeta_envs.core.errors import ConfigError, require
from jaxmeta_envs.core.extras import import_extra

PLATFORMS = ("cpu", "cuda", "tpu")
_KNOWN = (*PLATFORMS, "rocm")


def export(
    source: Any, path: str | Path, *, seed_index: int = 0, platforms: Sequence[str] = PLATFORMS
) -> Path:
    """Writes a trained, adaptive agent to a directory that JAX alone can run.

    The directory holds a versioned StableHLO program for each function of the agent
    (``begin.jaxexport``, ``act.jaxexport``, ``adapt.jaxexport``, and ``act_mode.jaxexport`` if
    it says the mode of its actions; ``predict.jaxexport`` instead of ``act`` for supervised
    families), ``params.safetensors``, ``manifest.json``, the
    loader ``load.py`` (see `jaxmeta.deploy.load`) and ``flatbuffers.zip``, which the loader uses
    where that package is not installed.

    Args:
        source: What `jaxmeta.train` returned, or the directory of a run.
        path: A directory that does not exist yet, or is empty.
        seed_index: The training seed whose parameters are written.
        platforms: Where the programs are to run: some of cpu, cuda, rocm and tpu.

    Returns:
        The directory.

    Raises:
        ConfigError: If the run, the path, the seed or a platform is wrong, or a package of the
            extra ``export`` is missing; nothing is written then.
    """
    require(isinstance(path, str | os.PathLike), "path", path, "where to write the agent")
    path = Path(path).expanduser().absolute()
    _check_path(path)
    known = tuple(platforms)
    fitting = bool(known) and set(known) <= set(_KNOWN) and len(set(known)) == len(known)
    require(fitting, "platforms", known, f"some of {', '.join(_KNOWN)}, each once")
    for module in ("flatbuffers", "safetensors.numpy"):
        import_extra(module, "export", user="export")
    (result,) = load_runs(source)
    seeds = result.config.num_seeds
    require(0 <= seed_index < seeds, "seed_index", seed_index, f"from 0 to {seeds - 1}")
    files = _make_files(result, seed_index, known)
    _write(path, files)
    return path


def _make_files(result: Any, seed_index: int, platforms: tuple[str, ...]) -> dict[str, bytes]:
    """Returns the directory's files by name."""
    algorithm, family = result.config.algorithm, result.config.tasks
    params = jax.tree.map(lambda x: np.asarray(x)[seed_index], result.params)
    agent = protocol_of(algorithm, family).programs(params)
    tree = agent.params
    require(len(set(tree.names)) == len(tree.names), "params", tree.names, "of different names")
    named = dict(zip(tree.names, jax.tree.leaves(params), strict=True))
    blobs = {n: _compile(p, tree, agent.carry, platforms) for n, p in agent.programs.items()}
    manifest = {
        "format": exported.FORMAT,
        **agent.described,
        "platforms": list(platforms),
        "jaxmeta": VERSION,
        "jax": jax.__version__,
        "agent": title_of(algorithm),
        "algorithm": serialization.to_dict(algorithm),
        "tasks": serialization.to_dict(family),
        "env_steps": result.env_steps,
        "seed_index": seed_index,
        "params": _describe(zip(tree.names, tree.leaves, strict=True)),
        "carry": _describe(zip(agent.carry.names, agent.carry.leaves, strict=True)),
        "programs": {name: {"inputs": _describe(p.inputs)} for name, p in agent.programs.items()},
    }
    save = import_extra("safetensors.numpy", "export", user="export").save
    return {
        "manifest.json": (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode(),
        "params.safetensors": save({name: np.array(x, order="C") for name, x in named.items()}),
        **{f"{name}.jaxexport": blob for name, blob in blobs.items()},
        "load.py": Path(exported.__file__).read_bytes(),
        "flatbuffers.zip": _zip_flatbuffers(),
    }


def _compile(program: Program, params: Tree, carry: Tree, platforms: tuple[str, ...]) -> bytes:
    named = dict(zip(params.names, params.leaves, strict=True))
    held = carry.leaves if program.carry else []
    inputs = [shape for _, shape in program.inputs]
    to_export = jax_export.export(jax.jit(program.function), platforms=platforms)
    with _without_places():
        return bytes(to_export(named, held, inputs).serialize())


@contextlib.contextmanager
def _without_places() -> Iterator[None]:
    """Keeps the paths of this machine's source files out of programs."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _describe(arrays: Iterable[Named]) -> list[dict[str, Any]]:
    """Returns names, shapes and dtypes as JSON; a length that may vary is "n"."""
    return [
        {
            "name": name,
            "shape": [d if isinstance(d, int) else str(d) for d in array.shape],
            "dtype": str(array.dtype),
        }
        for name, array in arrays
    ]


def _zip_flatbuffers() -> bytes:
    """Returns the installed package as a file that Python imports from."""
    package = Path(import_extra("flatbuffers", "export", user="export").__file__).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.glob("*.py")):
            archive.write(file, f"flatbuffers/{file.name}")
    return buffer.getvalue()


def _check_path(path: Path) -> None:
    empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    require(empty, "path", str(path), "a directory that does not exist yet, or is empty")
    above = next(folder for folder in path.parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise ConfigError(f"path is {str(path)!r}; {above} cannot be written")


def _write(path: Path, files: dict[str, bytes]) -> None:
    """Writes a directory that is whole or not there."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        if path.exists():
            path.rmdir()  # empty, as was checked
        temporary.rename(path)
    except OSError as error:  # which would name the temporary place
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
