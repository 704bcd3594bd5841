"""How fast it is beside PyTorch on the CPU: MAML on sinusoids and on 2D navigation.

    pip install -e ".[torch]"
    python scripts/compare_torch.py

Iterations of the outer loop per second, all programs in turns in one run, compilation apart; the
ratios are what counts. The PyTorch programs are in ``scripts/plain_torch.py``.
"""

# pyright: reportMissingImports=false
# PyTorch is an extra that the types are checked without.

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import plain_torch
import torch
import tyro
from rich.console import Console
from rich.table import Table

import jaxmeta
from jaxmeta import engine, parallel
from jaxmeta.algorithms.maml import MAML
from jaxmeta.algorithms.policy_maml import PolicyMAML
from jaxmeta.parts.estimators import LogLikelihood
from jaxmeta.training import recording
from jaxmeta.training.loop import replicated
from jaxmeta_envs.points.navigation import PointNavigation
from jaxmeta_envs.regression.functions import Sinusoid

ROOT = Path(__file__).parents[1]
OURS = "jaxmeta"
PAUSE = 0.3  # seconds, in which the thread pool of one library stops to wait for work
THREADS = torch.get_num_threads()
TARGETS = {
    "sinusoid": {"torch, task by task": 50.0, "torch.func": 8.0},
    "navigation": {"torch, task by task": 40.0},
}
"""Ratios that are aimed at."""


@dataclass(frozen=True)
class Program:
    """Something that is timed.

    Attributes:
        run: Does a number of iterations, a multiple of ``step``, until their result is there.
        step: Iterations of one call at least.
        compile_s: Seconds of compiling.
        threads: Of PyTorch.
    """

    run: Callable[[int], Any]
    step: int = 1
    compile_s: float = 0.0
    threads: int | None = None


def by_torch(iterations: Iterator[float]) -> Program:
    """A PyTorch program, with one thread or all, whichever is faster: most products are small."""

    def run(count: int, threads: int) -> None:
        torch.set_num_threads(threads)
        list(itertools.islice(iterations, count))

    def spent(threads: int) -> float:
        start = time.perf_counter()
        run(1, threads)
        return time.perf_counter() - start

    run(1, 1)  # the first is slow
    threads = min({1, THREADS}, key=spent)
    return Program(lambda count: run(count, threads), threads=threads)


def by_us(algorithm: Any, family: Any, updates: int) -> Program:
    """The program that `jaxmeta.train` runs between two visits of the host."""
    config = jaxmeta.TrainConfig(algorithm, family, updates_per_chunk=updates)
    devices = parallel.choose_devices(algorithm.num_tasks, algorithm.task_multiple, None)
    chunk, sharding = engine.make_chunk(config, devices), replicated(devices)
    keys = jax.device_put(engine.seed_keys(config), sharding)
    state = jax.jit(engine.make_init(config), out_shardings=sharding)(keys)
    start = time.perf_counter()
    program = jax.jit(chunk).lower(state, keys, np.int32(0)).compile()
    seconds = time.perf_counter() - start
    first = 0

    def run(count: int) -> None:
        nonlocal state, first
        for _ in range(count // updates):
            state, metrics = program(state, keys, np.int32(first))
            first += updates
            jax.block_until_ready(metrics)

    return Program(run, updates, seconds)


def sinusoid(quick: bool) -> dict[str, Program]:
    """MAML on sinusoids: 25 tasks, 10 examples, 40-40 ReLU, one inner step, Adam."""
    return {
        OURS: by_us(MAML(), Sinusoid(), 10 if quick else 1000),
        "torch.func": by_torch(plain_torch.sinusoid_by_func()),
        "torch, task by task": by_torch(plain_torch.sinusoid_by_loop()),
    }


def navigation(quick: bool) -> dict[str, Program]:
    """MAML with TRPO on 2D navigation: 20 goals, 20 episodes of 100 steps before and after."""
    sizes = plain_torch.Navigation()
    if quick:
        sizes = dataclasses.replace(sizes, tasks=2, shots=2, length=10, hidden=4)
    algorithm = PolicyMAML(
        num_tasks=sizes.tasks,
        shots=sizes.shots,
        network=jaxmeta.MLP((sizes.hidden, sizes.hidden), "tanh"),
        estimator=LogLikelihood(),
        optimizer=jaxmeta.TRPO(task_by_task=True),
        actions="clipped",
        normalize_observations=False,
    )
    return {
        OURS: by_us(algorithm, PointNavigation(sizes.length), 1 if quick else 5),
        "torch, task by task": by_torch(plain_torch.navigation(sizes)),
    }


def rates(programs: dict[str, Program], seconds: float, repeats: int) -> dict[str, list[float]]:
    """Returns iterations per second of every turn; a turn takes about ``seconds`` each."""
    counts = {}
    for name, program in programs.items():
        program.run(program.step)  # the first is slow
        start = time.perf_counter()
        program.run(program.step)
        one = (time.perf_counter() - start) / program.step
        counts[name] = program.step * max(1, round(seconds / (one * program.step)))
    found: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            program.run(counts[name])
            found[name].append(counts[name] / (time.perf_counter() - start))
    return found


def measure(name: str, seconds: float, repeats: int, quick: bool) -> dict[str, Any]:
    """Measures one problem."""
    programs = PROBLEMS[name](quick)
    found = rates(programs, seconds, repeats)
    ours = found[OURS]
    ratios = {
        other: round(statistics.median(a / b for a, b in zip(ours, turns, strict=True)), 2)
        for other, turns in found.items()
        if other != OURS
    }
    return {
        "per_s": {other: round(statistics.median(turns), 3) for other, turns in found.items()},
        "turns": {other: [round(x, 3) for x in turns] for other, turns in found.items()},
        "ratios": ratios,
        "compile_s": round(programs[OURS].compile_s, 2),
        "torch_threads": {n: p.threads for n, p in programs.items() if p.threads is not None},
    }


PROBLEMS = {"sinusoid": sinusoid, "navigation": navigation}


def show(result: dict[str, Any]) -> None:
    """Prints the rates and ratios."""
    versions = f"jax {result['jax']}, torch {result['torch']}"
    table = Table(title=f"{result['device']}, {versions}: outer iterations per second")
    for name in ("problem", "program", "per second", "ours is faster by", "aim"):
        table.add_column(name, justify="left" if name in ("problem", "program") else "right")
    for problem, row in result["problems"].items():
        for name, rate in row["per_s"].items():
            ratio, aim = row["ratios"].get(name), TARGETS[problem].get(name)
            times = ["–" if x is None else f"{x:.1f}" for x in (ratio, aim)]
            table.add_row(problem, name, f"{rate:,.2f}", *times)
    Console(width=100).print(table)


def main(
    problems: tuple[str, ...] = tuple(PROBLEMS),
    seconds: float = 3.0,
    repeats: int = 5,
    quick: bool = False,
    out: Path = ROOT / "results" / "benchmark" / "torch.json",
) -> None:
    """Measures, prints and writes.

    Args:
        problems: Which ones.
        seconds: Length of a timed turn of each program.
        repeats: Turns; the medians of rates and of ratios within a turn count.
        quick: Short turns on small sizes, to see that it works.
        out: Where the result is written.
    """
    parallel.request_cpu_devices()
    torch.manual_seed(0)
    for name in problems:
        if name not in PROBLEMS:
            raise SystemExit(f"problems has {name!r}; it must be of {', '.join(PROBLEMS)}")
    if quick:
        seconds, repeats = 0.01, 2
    result: dict[str, Any] = {
        **recording.provenance(),
        "torch": torch.__version__.split("+")[0],
        "seconds": seconds,
        "problems": {},
    }
    for name in problems:
        result["problems"][name] = measure(name, seconds, repeats, quick)
        out.parent.mkdir(parents=True, exist_ok=True)  # an interrupted run keeps what it has
        out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    tyro.cli(main)
