"""Kills training at random moments and checks that resuming loses nothing.

``python -m tests.kill_driver DIRECTORY KILLS SEED`` imports everything once and forks a
child per life of a run, before any backend is initialised, because a fresh interpreter for
each would take most of the time. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from jaxmeta.config import TrainConfig
from jaxmeta.evaluation import evaluate as evaluation
from jaxmeta.training.train import TrainingInterrupted, resume, train
from tests.toys import ToyFamily, ToyLearner

CHUNKS = 25
CONFIG = TrainConfig(
    algorithm=ToyLearner(size=64),
    tasks=ToyFamily(),
    num_seeds=2,
    total_env_steps=CHUNKS * 2 * 4,
    updates_per_chunk=2,
    eval_every=4,
    checkpoint_every=1,
    keep_checkpoints=2,
)


def quick_evaluation(config, params, num_tasks):
    return {"eval/return": np.asarray(params["w"]).sum(axis=1)}


def live(run_dir: Path) -> None:
    """Starts the run or goes on with it, to its end."""
    if (run_dir / "config.json").exists():
        result = resume(run_dir, progress=False)
    else:
        result = train(replace(CONFIG, run_dir=str(run_dir)), progress=False)
    np.savez(run_dir / "end.npz", w=np.asarray(result.params["w"]), **result.metrics)


def fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except TrainingInterrupted as interrupted:
        code = 128 + interrupted.signum
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_until_it_trains(pid: int, run_dir: Path) -> None:
    """Waits for a new line of metrics, or for the process to end."""
    log = run_dir / "metrics.jsonl"
    size = log.stat().st_size if log.exists() else 0
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if log.exists() and log.stat().st_size > size:
            return
        if log.exists():
            size = min(size, log.stat().st_size)  # resuming drops lines
        time.sleep(0.001)


def kill_at_random(run_dir: Path, rng: random.Random) -> int:
    pid = fork(lambda: live(run_dir))
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0.0, 2.0))  # while starting
    else:
        wait_until_it_trains(pid, run_dir)
        time.sleep(rng.uniform(0.0, 0.5))  # while training and saving
    os.kill(pid, signal.SIGKILL)
    return exit_code(pid)


def content(run_dir: Path) -> dict:
    """What a run left, without the times."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    arrays = {name: value.tobytes() for name, value in np.load(run_dir / "end.npz").items()}
    return {"lines": lines, **arrays}


def main(root: Path, kills: int, seed: int) -> dict:
    evaluation.quick_evaluation = quick_evaluation
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(root / "cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    early = [name for name in ("orbax", "tensorboardX", "matplotlib") if name in sys.modules]
    backend = jax._src.xla_bridge.backends_are_initialized()
    import orbax.checkpoint  # noqa: F401, once for all children

    assert exit_code(fork(lambda: live(root / "reference"))) == 0
    expected = content(root / "reference")
    rng, done, equal, runs = random.Random(seed), 0, [], 0
    while done < kills:
        run_dir = root / f"run{runs}"
        runs += 1
        while done < kills and not (run_dir / "end.npz").exists():
            done += kill_at_random(run_dir, rng) == -signal.SIGKILL
        pid = fork(lambda run_dir=run_dir: live(run_dir))
        assert exit_code(pid) == 0
        equal.append(content(run_dir) == expected)
    run_dir = root / "term"
    pid = fork(lambda: live(run_dir))
    wait_until_it_trains(pid, run_dir)
    os.kill(pid, signal.SIGTERM)
    term_code, term_done = exit_code(pid), (run_dir / "end.npz").exists()
    assert exit_code(fork(lambda: live(run_dir))) == 0
    return {
        "early_imports": early,
        "early_backend": backend,
        "kills": done,
        "equal": equal,
        "term_code": term_code,
        "term_finished": term_done,
        "term_equal": content(run_dir) == expected,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
