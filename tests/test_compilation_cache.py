"""Compiled programs are kept in the user's cache folder, and found there by the next process."""

import os
import re
import subprocess
import sys

import jax
import pytest

from jaxmeta import cli
from jaxmeta.runtime import compilation_cache

PROGRAM = """
import jax, jax.numpy as jnp
from jaxmeta.runtime.compilation_cache import use_compilation_cache
use_compilation_cache()
seen = []
jax.monitoring.register_event_listener(lambda name, **_: seen.append(name))
print(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.arange(3.0)))
print(seen.count("/jax/compilation_cache/cache_hits"))
"""


def start(folder, says="", **environment):
    """Runs the program in a new process; returns its result and how often it hit the cache.

    Args:
        folder: Where the cache is.
        says: A pattern of what it warns of; usually it must not warn.
        **environment: Further variables.
    """
    usual = {k: v for k, v in os.environ.items() if "CACHE" not in k}
    places = {"XDG_CACHE_HOME": str(folder), "HOME": str(folder), "LOCALAPPDATA": str(folder)}
    done = subprocess.run(
        [sys.executable, "-W", "default" if says else "error", "-c", PROGRAM],
        env=usual | places | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(says, done.stderr) if says else done.stderr == ""
    result, hits = done.stdout.splitlines()
    return result, int(hits)


def programs(folder):
    return sorted(path.name for path in folder.rglob("*-cache"))


def test_a_second_process_need_not_compile(tmp_path):
    first, hits = start(tmp_path)
    assert hits == 0
    kept = programs(tmp_path)
    assert kept
    second, hits = start(tmp_path)
    assert (second, hits) == (first, len(kept))
    assert programs(tmp_path) == kept


def test_jax_switches_it_off_and_moves_it(tmp_path):
    start(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")
    assert not programs(tmp_path)
    chosen = tmp_path / "chosen"
    start(
        tmp_path / "home",
        JAX_COMPILATION_CACHE_DIR=str(chosen),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    assert programs(chosen)
    assert not programs(tmp_path / "home")


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    says = "compiled programs are not kept, as .*jaxmeta.* cannot be written: Not a directory"
    assert start(blocked, says)[1] == 0


def test_after_one_refusal_of_the_disk_nothing_is_tried_again(tmp_path):
    """JAX would warn of every program, and then of what is left of the first."""
    (tmp_path / "cut-cache").write_bytes(b"prog")
    refused = "Error writing persistent compilation cache entry for 'jit_run': OSError: [Errno 28] "
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        said = compilation_cache.stop_after_refusal(refused + "No space left on device")
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert f"not kept, as {tmp_path} cannot be written: No space left on device (" in said
    assert not programs(tmp_path)
    assert compilation_cache.stop_after_refusal("the run began on 64 cpu devices") is None


def test_a_file_in_place_of_a_folder_is_told_and_nothing_kept(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    says = "compiled programs are not kept, as .*file cannot be written: it is a file"
    _, hits = start(tmp_path, says, JAX_COMPILATION_CACHE_DIR=str(file))
    assert hits == 0
    assert programs(tmp_path) == []
    assert file.read_text() == ""


def test_a_program_that_was_not_written_to_the_end_is_dropped(tmp_path):
    for name in ("whole", "cut"):
        program = tmp_path / f"{name}-cache"
        program.write_bytes(b"program")
        os.utime(program, (0, 0))
    (tmp_path / "whole-atime").write_bytes(bytes(8))
    (tmp_path / "cut-atime").write_bytes(b"")
    compilation_cache._drop_unfinished(tmp_path)
    assert programs(tmp_path) == ["whole-cache"]


@pytest.mark.parametrize(
    "command", ["train", "sweep", "resume", "evaluate", "compare", "robustness"]
)
def test_commands_that_compile_use_it(command, monkeypatch):
    class Used(Exception):
        pass

    def use():
        raise Used

    monkeypatch.setattr(compilation_cache, "use_compilation_cache", use)
    names = ["rl2", "bernoulli-bandit"] if command in ("train", "sweep") else []
    with pytest.raises(Used):
        cli.COMMANDS[command].run(names)
