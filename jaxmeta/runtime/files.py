"""Writing files that are whole or not there, and what to say where that cannot be."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# What disks, mounts and their owners do to a program that is in order.
_OF_THE_MACHINE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG),
    *(errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENXIO, errno.ENODEV),
)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that a reader, or a crash, meets the old one or the new one.

    Raises:
        OSError: If that cannot be; it names the file, and the old one is still there.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:  # which of a write knows no name
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def reason(error: BaseException) -> str | None:
    """Returns in words what the machine refused; None if the error is none of the machine's.

    Libraries say it in errors of their own, with the system's words in them.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _OF_THE_MACHINE:
            return os.strerror(seen.errno)
        for number in () if isinstance(seen, OSError) else _OF_THE_MACHINE:
            if os.strerror(number) in str(seen):
                return os.strerror(number)
        seen = seen.__cause__
    return None


def describe_refusal(error: OSError) -> str | None:
    """Returns one sentence on a file that the machine refused; None as of `reason`."""
    why = reason(error)
    return None if why is None else f"{error.filename or 'the output'} cannot be written: {why}"


def write_or_warn(write: Callable[..., object], *place: Path) -> None:
    """Writes what was found, which must not be lost because the disk is full: then it warns."""
    try:
        write(*place)
    except OSError as error:
        warnings.warn(describe_refusal(error) or str(error), stacklevel=3)


def draw_or_warn(path: Path, draw: Callable[[], object]) -> list[Path]:
    """Draws a figure, and returns where; what it shows does not end with it: then it warns."""
    try:
        draw()
    except Exception as error:
        why = reason(error) or " ".join(str(error).split())
        warnings.warn(f"{path} could not be drawn: {why}", stacklevel=3)
        return []
    return [path]


def write_numbers(stem: Path, summary: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Writes a summary to ``<stem>.json`` and arrays, compressed, to ``<stem>.npz``."""
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    path = stem.with_name(f"{stem.name}.json")
    write_atomically(path, text)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(stem.with_name(f"{stem.name}.npz"), buffer.getvalue())
    return path
