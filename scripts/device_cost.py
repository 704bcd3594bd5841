"""What sharing the tasks among devices costs: CPU time for the same work on one, two, four, eight.

python scripts/device_cost.py

All in one process with eight forced host devices, the numbers of devices taking turns, so that
what else the machine does meets all of them. CPU time is of all threads, user and system, of whole
chunks after the first; compilation is left out. Writes ``results/device_cost.json``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"  # before JAX is imported

import jax
import numpy as np

from jaxmeta import preset
from jaxmeta.config import TrainConfig
from jaxmeta.loop import compile_chunk, first_state, replicated
from jaxmeta.recording import provenance

OUT = Path(__file__).parents[1] / "results" / "device_cost.json"
COUNTS = (1, 2, 4, 8)
_RUNS = {
    "rl2 bernoulli-bandit": ("rl2", "bernoulli-bandit", 1024),
    "maml sinusoid": ("maml", "sinusoid", 2048),
}


def training_run(name: str) -> TrainConfig:
    """Returns the run that is measured."""
    algorithm, family, tasks = _RUNS[name]
    config = preset(algorithm, family)
    parts: Any = config.algorithm
    return replace(config, algorithm=replace(parts, num_tasks=tasks), updates_per_chunk=5)


def chunk_timer(config: TrainConfig, count: int) -> Callable[[], float]:
    """Compiles for so many devices; returns what trains a chunk and gives its CPU seconds."""
    devices = jax.devices()[:count]
    program = compile_chunk(config, devices)
    state: Any = first_state(config, replicated(devices))

    def timed() -> float:
        nonlocal state
        began = time.process_time()
        state, metrics, _ = program.run(state, program.keys, np.int32(0))
        jax.block_until_ready((state, metrics))
        return time.process_time() - began

    timed()  # the first chunk also warms up
    return timed


def measure(config: TrainConfig, repetitions: int) -> dict[str, Any]:
    """Returns CPU seconds of a chunk by number of devices, medians, and their ratios to one."""
    timers = {count: chunk_timer(config, count) for count in COUNTS}
    spent = {count: [] for count in COUNTS}
    for _ in range(repetitions):
        for count, timed in timers.items():
            spent[count].append(timed())
    rounds = {count: np.array(times) / np.array(spent[1]) for count, times in spent.items()}
    return {
        "num_tasks": config.algorithm.num_tasks,
        "cpu_seconds": {str(n): float(np.median(times)) for n, times in spent.items()},
        "ratio": {str(n): float(np.median(ratios)) for n, ratios in rounds.items()},
        "worst_ratio": {str(n): float(np.max(ratios)) for n, ratios in rounds.items()},
    }


def main(repetitions: int = 7, out: Path = OUT) -> None:
    """Measures, writes and prints."""
    found = {name: measure(training_run(name), repetitions) for name in _RUNS}
    result = provenance() | {"cores": os.cpu_count(), "repetitions": repetitions, "runs": found}
    out.write_text(json.dumps(result, indent=1) + "\n")
    for name, row in found.items():
        print(name, {n: round(x, 3) for n, x in row["ratio"].items()})


if __name__ == "__main__":
    main()
