"""What sharing the tasks costs: CPU time for the same work on more devices, in more processes.

python scripts/device_cost.py

Devices: one, two, four and eight, all in one process with eight forced host devices, the numbers
of devices taking turns, so that what else the machine does meets all of them. Processes: one, two
and four of one device each, which talk over the machine's own network interface (gloo). CPU time
is of all threads, user and system, of whole chunks after the first; compilation is left out.
Writes ``results/device_cost.json``.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")  # before JAX is imported

import jax
import numpy as np

from jaxmeta import preset
from jaxmeta.config import TrainConfig
from jaxmeta.runtime import hosts
from jaxmeta.training.loop import compile_chunk, first_state
from jaxmeta.training.recording import provenance

OUT = Path(__file__).parents[1] / "results" / "device_cost.json"
COUNTS = (1, 2, 4, 8)
PROCESSES = (1, 2, 4)
# Algorithm, family, tasks of an update, updates of a chunk. RL² adds up a gradient per minibatch:
# the smaller the minibatches, the more of the time is spent on talking.
_RUNS = {
    "rl2 bernoulli-bandit, 1,024 tasks": ("rl2", "bernoulli-bandit", 1024, 5),
    "rl2 bernoulli-bandit, 8,192 tasks": ("rl2", "bernoulli-bandit", 8192, 1),
    "maml sinusoid, 2,048 tasks": ("maml", "sinusoid", 2048, 5),
}


def training_run(name: str) -> TrainConfig:
    """Returns the run that is measured."""
    algorithm, family, tasks, updates = _RUNS[name]
    config = preset(algorithm, family)
    parts: Any = config.algorithm
    return replace(config, algorithm=replace(parts, num_tasks=tasks), updates_per_chunk=updates)


def chunk_timer(config: TrainConfig, count: int) -> Callable[[], float]:
    """Compiles for so many devices; returns what trains a chunk and gives its CPU seconds."""
    devices = jax.devices()[:count]
    program = compile_chunk(config, devices)
    state: Any = first_state(config, devices)

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
    return summary(spent)


def work(name: str, repetitions: int, port: str, processes: int, me: int) -> None:
    """One process of several: prints its CPU seconds of every chunk."""
    if processes > 1:
        hosts.connect(f"127.0.0.1:{port}", processes, me)
    timed = chunk_timer(training_run(name), processes)
    print(json.dumps([timed() for _ in range(repetitions)]))


def measure_processes(name: str, repetitions: int) -> dict[str, Any]:
    """Returns CPU seconds of a chunk of all processes together, by how many they are."""
    spent = {count: together(name, repetitions, count) for count in PROCESSES}
    return summary(spent)


def together(name: str, repetitions: int, count: int) -> list[float]:
    """Starts so many processes of one device; returns the sums of their CPU seconds."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, __file__, "--worker", name, str(repetitions), str(port), str(count)]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    running = [
        subprocess.Popen([*command, str(me)], env=environment, stdout=subprocess.PIPE, text=True)
        for me in range(count)
    ]
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(f"{name} in {count} processes failed")
    # The transport says on the standard output that it is connected.
    return np.sum([json.loads(text.splitlines()[-1]) for text in outputs], axis=0).tolist()


def summary(spent: dict[int, list[float]]) -> dict[str, Any]:
    """Returns medians of CPU seconds by count, and of their ratios to one."""
    rounds = {count: np.array(times) / np.array(spent[1]) for count, times in spent.items()}
    return {
        "cpu_seconds": {str(n): float(np.median(times)) for n, times in spent.items()},
        "ratio": {str(n): float(np.median(ratios)) for n, ratios in rounds.items()},
        "worst_ratio": {str(n): float(np.max(ratios)) for n, ratios in rounds.items()},
    }


def main(repetitions: int = 7, out: Path = OUT) -> None:
    """Measures, writes and prints."""
    processes = {name: measure_processes(name, repetitions) for name in _RUNS}
    devices = {name: measure(training_run(name), repetitions) for name in _RUNS}
    found = {"devices": devices, "processes": processes}
    result = provenance() | {"cores": os.cpu_count(), "repetitions": repetitions} | found
    out.write_text(json.dumps(result, indent=1) + "\n")
    for kind, rows in found.items():
        for name, row in rows.items():
            print(f"{name}, {kind}:", {n: round(x, 3) for n, x in row["ratio"].items()})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        name, *numbers, port, count, me = sys.argv[2:]
        work(name, int(numbers[0]), port, int(count), int(me))
    else:
        main()
