"""Trains on one device and on eight, and says how they compare.

``python -m tests.device_driver DIRECTORY NAMES...`` in a process with eight devices, which starts
once for all. A run is also written to DIRECTORY/run, half of it, for others to go on with. Prints
one JSON object.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import jax
import numpy as np

import jaxmeta
from jaxmeta import engine, parallel
from jaxmeta.config import TrainConfig
from jaxmeta.training.loop import first_state, replicated, trace_chunk
from jaxmeta.training.train import ChunkInfo
from tests.tiny_runs import RUNS
from tests.toys import ToyFamily, ToyLearner

MOVED = TrainConfig(
    algorithm=ToyLearner(num_tasks=16),
    tasks=ToyFamily(),
    total_env_steps=4 * 16,
    updates_per_chunk=2,
)
# The programs run for a moment only: most of the time goes into compiling.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def run(config: TrainConfig, count: int) -> tuple[Any, dict, str]:
    """Returns parameters, metrics and the program's text on so many devices."""
    devices = jax.devices()[:count]
    compiled = trace_chunk(config, devices).lower().compile(FAST)
    keys = jax.device_put(engine.seed_keys(config), replicated(devices))
    state, metrics, _ = compiled(first_state(config, devices), keys, np.int32(0))
    return state.params, metrics, compiled.as_text()


def distance(a: Any, b: Any) -> float:
    """The largest difference of two pytrees, in units of the larger of 1 and the number."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    pairs = ((np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in pairs)
    return max(float(np.max(abs(x - y) / np.maximum(1.0, abs(x)))) for x, y in pairs)


def compare(config: TrainConfig) -> dict[str, Any]:
    alone, shared = run(config, 1), run(config, 8)
    first = jax.tree.map(lambda x: x[:1], (alone[1], shared[1]))
    start = first_state(config, jax.devices()[:1]).params
    return {
        "moved": distance(start, alone[0]),
        "params": distance(alone[0], shared[0]),
        "first_update": distance(*first),
        "metrics": distance(alone[1], shared[1]),
        "state_size": sum(x.size for x in jax.tree.leaves(start)),
        "collectives": parallel.collectives(shared[2]),
        "alone": parallel.collectives(alone[2]),
    }


class Half(Exception):
    pass


def stop(info: ChunkInfo) -> None:
    raise Half


def main(directory: str, *names: str) -> None:
    jax.config.update("jax_numpy_rank_promotion", "raise")
    assert len(jax.devices()) == 8
    try:
        jaxmeta.train(replace(MOVED, run_dir=f"{directory}/run"), callback=stop, progress=False)
    except Half:
        print(json.dumps({name: compare(RUNS[name]) for name in names}))


if __name__ == "__main__":
    main(*sys.argv[1:])
