"""Writing files that are whole or not there."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that a reader, or a crash, meets the old one or the new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_numbers(stem: Path, summary: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a summary to ``<stem>.json`` and arrays, compressed, to ``<stem>.npz``."""
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    write_atomically(stem.with_name(f"{stem.name}.json"), text)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(stem.with_name(f"{stem.name}.npz"), buffer.getvalue())
