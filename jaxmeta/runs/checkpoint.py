"""Checkpoints: the whole state on disk, complete or not there at all.

A checkpoint has two parts: what every one keeps, such as parameters, and what the newest one
alone does, such as a replay buffer (see `jaxmeta.placement`), which is deleted once there is a
newer one.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import shutil
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxmeta import placement
from jaxmeta.runtime.files import write_atomically
from jaxmeta_envs.core.errors import ConfigError

if TYPE_CHECKING:
    from orbax.checkpoint import CheckpointManager

SCHEMA = 2
_COUNTER = ".updates"  # that states of schema 1 held, as algorithms were not told it
_CHECKSUMS = "checksums.json"
_NEWEST = "newest"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read."""


class NotSaved(CheckpointError):
    """The machine refused to save the state, as a full disk does.

    Attributes:
        run_dir: The run.
        checkpoint: The newest whole checkpoint, from which `jaxmeta.resume` goes on; None if
            there is none, and it begins anew.
    """

    def __init__(self, run_dir: Path, why: str, checkpoint: Path | None) -> None:
        self.run_dir, self.checkpoint = run_dir, checkpoint
        kept = f"the newest whole checkpoint is {checkpoint}" if checkpoint else "nothing is saved"
        super().__init__(f"the run in {run_dir} cannot be saved: {why}; {kept}")


class Restored(NamedTuple):
    """A checkpoint that was read.

    Attributes:
        update: Updates done when it was written.
        seconds: Seconds of training until then.
        state: The state, placed as the target asked.
    """

    update: int
    seconds: float
    state: Any


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of a run, by the number of updates done.

    Saving is synchronous: when `save` returns, the checkpoint is on the disk, and only
    then are older ones deleted. What a killed process left half-written is not seen, and
    removed by the next writer. Close it, or use it in a ``with`` statement.

    Args:
        path: The directory.
        keep: How many of the newest checkpoints stay on the disk.
        read_only: Look only, as beside a process that trains.
    """

    def __init__(self, path: Path, keep: int, read_only: bool = False) -> None:
        self.path = path.resolve()  # orbax refuses relative paths, and late
        self._keep = keep
        self._read_only = read_only
        self._opened: CheckpointManager | None = None

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the directory; it may be used again."""
        if self._opened is not None:
            with _quiet():
                self._opened.close()
            self._opened = None

    def updates(self) -> list[int]:
        """Returns the updates that checkpoints exist of, ascending."""
        if not self.path.is_dir():
            return []
        with _quiet():
            return sorted(self._manager().all_steps())

    def save(self, update: int, kept: Any, seconds: float, newest: Any = None) -> Path:
        """Writes a checkpoint, then deletes what only the newest one has from older ones.

        Args:
            update: Updates done.
            kept: What every checkpoint has of the state, see `jaxmeta.placement.split`.
            seconds: Seconds of training so far.
            newest: What the newest one alone has.

        Returns:
            Its directory.

        Raises:
            CheckpointError: If one of this update, or a later one, is already there.
        """
        from orbax.checkpoint import args

        meta = {
            "schema": SCHEMA,
            "update": update,
            "seconds": seconds,
            "leaves": _describe(kept),
            "newest": _describe(newest),
        }
        items = {"state": args.StandardSave(kept), "meta": args.JsonSave(meta)}
        if jax.tree.leaves(newest):
            items[_NEWEST] = args.StandardSave(newest)
        with _quiet():
            written = self._manager().save(update, args=args.Composite(**items))
        if not written:
            raise CheckpointError(f"{self.path} already holds update {update} or a later one")
        path = self.path / str(update)
        write_atomically(path / _CHECKSUMS, json.dumps(_checksums(path)))
        for older in self.updates() if _NEWEST in items else ():
            if older != update:
                shutil.rmtree(self.path / str(older) / _NEWEST, ignore_errors=True)
        return path

    def newest_whole(self) -> Path | None:
        """Returns the newest checkpoint that is as it was written, where a `save` has failed."""
        gc.collect()  # or what orbax had begun ends with the interpreter, and complains
        with Checkpoints(self.path, self._keep, read_only=True) as written:
            for update in reversed(written.updates()):
                with contextlib.suppress(CheckpointError, OSError):
                    _verify(self.path / str(update))
                    return self.path / str(update)
        return None

    def restore(self, kept: Any, newest: Any = None) -> Restored | None:
        """Reads the newest checkpoint that can be read, and warns if that is not the newest.

        Unreadable ones stay where they are; see `set_aside_after`.

        Args:
            kept: What every checkpoint has of the state, as `jax.ShapeDtypeStruct` with
                shardings, or NumPy arrays.
            newest: Likewise what the newest one alone has; None leaves it unread, to look at
                what was learned rather than go on.

        Returns:
            None if there are no checkpoints.

        Raises:
            CheckpointError: If there are some and none can be read.
            ConfigError: If one holds a state of another structure.
        """
        problems = []
        for update in reversed(self.updates()):
            try:
                restored = self._read(update, kept, newest)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            if problems:
                warnings.warn(
                    f"{'; '.join(problems)}. Going on from update {update} instead.", stacklevel=2
                )
            return restored
        if problems:
            raise CheckpointError(f"no checkpoint can be read: {'; '.join(problems)}")
        return None

    def set_aside_after(self, update: int) -> None:
        """Moves checkpoints beyond ``update`` out of the way, as they could not be read."""
        beyond = [step for step in self.updates() if step > update]
        self.close()
        for step in beyond:
            place = self.path.with_name(f"{self.path.name}-unreadable")
            place.mkdir(exist_ok=True)
            count = len(list(place.glob(f"{step}-*")))
            os.replace(self.path / str(step), place / f"{step}-{count}")

    def _manager(self) -> CheckpointManager:
        if self._opened is None:
            import orbax.checkpoint as ocp

            # Of several processes this one alone is here: orbax must not wait for others.
            own = jax.process_index()
            alone = ocp.options.MultiprocessingOptions(
                primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
            )
            several = jax.process_count() > 1
            if several:
                self.path.mkdir(parents=True, exist_ok=True)  # orbax then refuses to make it
            options = ocp.CheckpointManagerOptions(
                create=not several,
                multiprocessing_options=alone if several else ocp.options.MultiprocessingOptions(),
                max_to_keep=None if self._read_only else self._keep,
                enable_async_checkpointing=False,
                cleanup_tmp_directories=not self._read_only,
                read_only=self._read_only,
            )
            self._opened = ocp.CheckpointManager(self.path, options=options)
        return self._opened

    def _read(self, update: int, kept: Any, newest: Any) -> Restored:
        from orbax.checkpoint import args

        path = self.path / str(update)
        _verify(path)
        try:
            with _quiet():
                item = args.Composite(meta=args.JsonRestore())
                meta = self._manager().restore(update, args=item)["meta"]
        except Exception as error:
            raise CheckpointError(f"{path} cannot be read ({type(error).__name__})") from error
        _check_schema(path, meta)
        _check_leaves(path, meta["leaves"], kept)
        items = {"state": args.StandardRestore(_as_written(meta, kept))}
        if jax.tree.leaves(newest):
            _check_leaves(path, meta["newest"], newest)
            if not (path / _NEWEST).is_dir():
                raise CheckpointError(f"{path} has no longer what only the newest checkpoint keeps")
            items[_NEWEST] = args.StandardRestore(newest)
        try:
            with _quiet():
                found = self._manager().restore(update, args=args.Composite(**items))
        except Exception as error:
            raise CheckpointError(f"{path} cannot be read ({type(error).__name__})") from error
        state = _like(kept, found["state"])
        state = placement.join(state, found[_NEWEST]) if _NEWEST in items else state
        return Restored(update, meta["seconds"], state)


def _describe(state: Any) -> dict[str, str]:
    """Returns dtype and shape of every leaf: orbax would cast a changed dtype silently."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}


def _check_schema(path: Path, meta: dict[str, Any]) -> None:
    schema = meta.get("schema")
    if schema not in range(1, SCHEMA + 1):
        raise ConfigError(f"{path} has schema {schema!r}; this jaxmeta reads 1 to {SCHEMA}")


def _as_written(meta: dict[str, Any], target: Any) -> Any:
    """Returns the target with what states had when the checkpoint was written."""
    if _COUNTER not in meta["leaves"] or _COUNTER in _describe(target):
        return target
    one = jax.tree.leaves(target.params)[0]
    counter = np.zeros(one.shape[:1], np.int32)  # by seeds
    if isinstance(one, jax.ShapeDtypeStruct):
        counter = jax.ShapeDtypeStruct(counter.shape, counter.dtype, sharding=one.sharding)
    return target._asdict() | {"updates": counter}


def _like(target: Any, found: Any) -> Any:
    """Returns a state that was read, as the target has it."""
    if isinstance(found, dict) and not isinstance(target, dict):
        return type(target)(**{name: found[name] for name in target._fields})
    return found


def _check_leaves(path: Path, found: dict[str, str], target: Any) -> None:
    wanted = _describe(target)
    if _COUNTER not in wanted:
        found = {name: leaf for name, leaf in found.items() if name != _COUNTER}
    if found == wanted:
        return
    name = next(name for name in (wanted | found) if found.get(name) != wanted.get(name))
    if _in_32_bits(found) == _in_32_bits(wanted):
        raise ConfigError(
            f"{path} was written with {_bits(found[name])} bits: {name} is {found[name]} there and "
            f"{wanted[name]} here; set JAX_ENABLE_X64 as it was then"
        )
    raise ConfigError(
        f"{path} holds the state of another version of the algorithm: {name} is "
        f"{found.get(name, 'missing')} there and {wanted.get(name, 'missing')} here"
    )


def _in_32_bits(leaves: dict[str, str]) -> dict[str, str]:
    return {name: leaf.replace("64[", "32[") for name, leaf in leaves.items()}


def _bits(leaf: str) -> str:
    return "64" if "64[" in leaf else "32"


def _checksums(path: Path) -> dict[str, int]:
    files = (file for file in sorted(path.rglob("*")) if file.is_file() and file.name != _CHECKSUMS)
    return {file.relative_to(path).as_posix(): zlib.crc32(file.read_bytes()) for file in files}


def _verify(path: Path) -> None:
    """Raises `CheckpointError` if a file is not as it was written.

    Looked at before orbax is, which reads some damaged files without complaint and leaves
    tasks behind at others. A process killed just after a save has written no checksums;
    then orbax's own word must do.
    """
    try:
        expected = json.loads((path / _CHECKSUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except ValueError as error:
        raise CheckpointError(f"{path / _CHECKSUMS} is damaged") from error
    found = _checksums(path)
    dropped = not (path / _NEWEST).is_dir()
    for name, checksum in expected.items():
        if dropped and name.startswith(f"{_NEWEST}/"):
            continue
        if name not in found:
            raise CheckpointError(f"{path / name} is missing")
        if found[name] != checksum:
            raise CheckpointError(f"{path / name} is damaged")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences absl, through which orbax logs kilobytes per call; problems still raise."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
