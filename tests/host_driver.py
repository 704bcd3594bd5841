"""One process of a run of several, for tests.

``python -m tests.host_driver PORT PROCESSES ID RUN_DIR VERB NAME [SIGNAL UPDATE]``: VERB is
``train`` or ``resume``, NAME one of `RUNS`. If told so, it sends itself a signal after that many
updates. Prints what it has learned, or what stopped it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from typing import Any

import jax
import numpy as np

import jaxmeta
from jaxmeta.config import TrainConfig
from jaxmeta.runs.result import TrainResult
from jaxmeta.runtime import hosts
from jaxmeta.training.loop import ChunkInfo
from jaxmeta.training.train import TrainingInterrupted
from tests import tiny_runs
from tests.toys import Remembering, ToyFamily, ToyLearner

UPDATES = 6
RUNS = {
    "toy": TrainConfig(algorithm=ToyLearner(num_tasks=8), tasks=ToyFamily()),
    "other": TrainConfig(algorithm=ToyLearner(num_tasks=8, learning_rate=0.3), tasks=ToyFamily()),
    "remembering": TrainConfig(algorithm=Remembering(num_tasks=8), tasks=ToyFamily()),
    **tiny_runs.RUNS,
}


def config(name: str, run_dir: str | None) -> TrainConfig:
    run = replace(RUNS[name], updates_per_chunk=1, total_env_steps=1)
    steps = UPDATES * run.plan().env_steps_per_update
    return replace(run, total_env_steps=steps, checkpoint_every=1, run_dir=run_dir)


def learned(result: TrainResult) -> list[float]:
    leaves = [np.ravel(x) for x in jax.tree.leaves(result.params)]
    return np.concatenate(leaves).astype(float).tolist()


def main(
    port: str, processes: str, me: str, run_dir: str, verb: str, name: str, *sends: str
) -> None:
    hosts.connect(f"127.0.0.1:{port}", int(processes), int(me))
    signum, update = map(int, sends) if sends else (0, 0)

    def callback(info: ChunkInfo) -> None:
        if info.update == update:
            os.kill(os.getpid(), signal.Signals(signum))

    options: Any = {"callback": callback, "progress": False}
    try:
        if verb == "train":
            result = jaxmeta.train(config(name, run_dir), **options)
        else:
            result = jaxmeta.resume(run_dir, **options)
    except (hosts.ProcessLost, TrainingInterrupted, jaxmeta.ConfigError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)  # as the command line does: JAX would wait for the others
    print(json.dumps(learned(result)))


if __name__ == "__main__":
    main(*sys.argv[1:])
