"""Compiled programs kept on disk, so that a second start need not compile them again.

This is JAX's persistent compilation cache in a folder of the user's. JAX's own environment
variables rule it: ``JAX_ENABLE_COMPILATION_CACHE=false`` switches it off,
``JAX_COMPILATION_CACHE_DIR`` takes another folder, ``JAX_COMPILATION_CACHE_MAX_SIZE`` (bytes)
and ``JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS`` say how much is kept, and of what.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
import tempfile
import time
import warnings
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxmeta.runtime.files import reason

_MAX_BYTES = 1 << 30  # some thousand programs
_MIN_SECONDS = 0.0
_UNFINISHED_SECONDS = 60.0  # writing a program takes far less
_REFUSED = "Error writing persistent compilation cache entry"  # what JAX warns with, each time


def use_compilation_cache() -> None:
    """Lets JAX keep compiled programs in the user's cache folder.

    The folder is ``jaxmeta`` in ``$XDG_CACHE_HOME`` (``~/.cache``), in ``~/Library/Caches`` on
    macOS, in ``%LOCALAPPDATA%`` on Windows; in it there is one for every type of processor,
    because JAX does not tell programs for one from those for another. The least recently used
    programs go when there is more than a gibibyte.

    Whatever the user chose through JAX's settings stays as chosen, but for a folder that is a file.
    Where the folder cannot be
    written, programs are compiled as if there were no cache, and a warning says so. Call before
    anything compiles.
    """
    enabled = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    chosen = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if not enabled:
        return
    if chosen is not None:
        if Path(chosen).is_file():
            warnings.warn(_not_kept(Path(chosen), "it is a file"), stacklevel=2)
            jax.config.update("jax_compilation_cache_dir", None)
        return
    folder = _folder()
    if folder is None:
        return
    if (why := _refusal(folder)) is not None:
        warnings.warn(_not_kept(folder, why), stacklevel=2)
        return
    for name, value in (
        ("jax_compilation_cache_max_size", _MAX_BYTES),
        ("jax_persistent_cache_min_compile_time_secs", _MIN_SECONDS),
    ):
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    if jax.config.jax_compilation_cache_max_size >= 0:  # pyright: ignore[reportAttributeAccessIssue]
        _drop_unfinished(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))


def stop_after_refusal(warning: str) -> str | None:
    """Stops keeping programs where JAX could not write one, as on a full disk.

    Args:
        warning: What somebody warned of.

    Returns:
        One sentence; None if it was another warning.
    """
    if not warning.startswith(_REFUSED):
        return None
    folder = Path(jax.config.jax_compilation_cache_dir)  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    _drop_unfinished(folder, seconds=0.0)
    return _not_kept(folder, reason(Warning(warning)) or warning)


def _not_kept(folder: Path, why: str) -> str:
    return (
        f"compiled programs are not kept, as {folder} cannot be written: {why} "
        "(JAX_COMPILATION_CACHE_DIR names another place, JAX_ENABLE_COMPILATION_CACHE=false none)"
    )


def _folder() -> Path | None:
    """Returns where programs for this type of processor are kept; None if there is no home."""
    if sys.platform == "win32":
        chosen, usual = os.environ.get("LOCALAPPDATA"), "~/AppData/Local"
    elif sys.platform == "darwin":
        chosen, usual = None, "~/Library/Caches"
    else:
        chosen, usual = os.environ.get("XDG_CACHE_HOME"), "~/.cache"
    if not chosen or not Path(chosen).is_absolute():  # the XDG standard: ignore relative ones
        try:
            chosen = str(Path(usual).expanduser())
        except RuntimeError:
            return None
    return Path(chosen, "jaxmeta", _processor())


def _processor() -> str:
    """Returns a name for the instructions that this processor knows.

    A program for one processor may stop another with an illegal instruction, and homes are
    shared by the machines of a cluster.
    """
    known = [platform.processor()]
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
        kept = ("model name", "flags", "Features", "CPU implementer", "CPU part")
        known += [line for line in first.splitlines() if line.startswith(kept)]
    digest = hashlib.sha256("\n".join(known).encode()).hexdigest()
    return f"{platform.system()}-{platform.machine()}-{digest[:12]}".lower()


def _refusal(folder: Path) -> str | None:
    """Makes the folder, for its owner only, and says why no file can be put there; or None."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(4096))  # a full disk takes an empty file
    except OSError as error:
        return error.strerror or str(error)
    return None


def _drop_unfinished(folder: Path, seconds: float = _UNFINISHED_SECONDS) -> None:
    """Removes programs whose writing was cut short by the end of the process.

    JAX, where it bounds the size, writes a program and then the time of its last use. With the
    latter missing it would never write anything again.
    """
    with contextlib.suppress(OSError):
        for program in folder.glob("*-cache"):
            used = program.with_name(program.name.removesuffix("-cache") + "-atime")
            if used.exists() and used.stat().st_size == 8:
                continue
            if time.time() - program.stat().st_mtime >= seconds:
                program.unlink()
