"""What the percentile filter and per-task physics cost, as ratios in one run.

python scripts/epopt_cost.py

Prints how much longer an EPOpt update takes with ε = 0.1 than with ε = 1, and a step of the
simulators with parameters of their own than with shared ones; medians of interleaved repetitions,
compilation apart.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from jax import Array

import jaxmeta
from jaxmeta import CVaR, EPOpt, Mean
from jaxmeta.training import recording
from jaxmeta_envs.core.physical import PhysicalFamily

ROOT = Path(__file__).parents[1]
FAMILIES = ("cartpole", "pendulum")


def ratio(slower: Callable[[], Any], faster: Callable[[], Any], repetitions: int) -> float:
    """Returns the ratio of the median times of two compiled programs, run in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for repetition in range(repetitions + 1):
        for program, spent in zip((slower, faster), times, strict=True):
            began = time.perf_counter()
            jax.block_until_ready(program())
            if repetition > 0:  # the first compiles
                spent.append(time.perf_counter() - began)
    return statistics.median(times[0]) / statistics.median(times[1])


def filter_cost(family: PhysicalFamily, algorithm: EPOpt, repetitions: int) -> float:
    """Returns the time of an update with ε = 0.1 over that of one with ε = 1."""

    def updater(algorithm: EPOpt) -> Callable[[], Any]:
        state = algorithm.init(family, jax.random.key(0))
        step = jax.jit(lambda state, key: algorithm.update(family, state, key, jnp.int32(0)))
        return lambda: step(state, jax.random.key(1))

    constant = dataclasses.replace(algorithm, learning_rate=1e-3)
    tail, mean = (dataclasses.replace(constant, risk=risk) for risk in (CVaR(0.1), Mean()))
    return ratio(updater(tail), updater(mean), repetitions)


def physics_cost(family: PhysicalFamily, tasks: int, repetitions: int) -> float:
    """Returns the time of an episode of random actions, own parameters over shared ones."""

    def play(task: Any, key: Array) -> Array:
        state, _ = family.reset(key, task)

        def step(state: Any, key: Array) -> tuple[Any, Array]:
            action = family.action_space.sample(key)
            state, timestep = family.step(key, state, action, task)
            return state, timestep.reward

        return jnp.sum(jax.lax.scan(step, state, jax.random.split(key, 200))[1])

    keys = jax.random.split(jax.random.key(0), tasks)
    own, shared = jax.vmap(family.sample_task)(keys), family.nominal_task()
    programs = (
        (jax.jit(jax.vmap(play, (axis, 0))), task) for axis, task in ((0, own), (None, shared))
    )
    calls = [lambda p=program, t=task: p(t, keys) for program, task in programs]
    return ratio(calls[0], calls[1], repetitions)


def main(
    repetitions: int = 15, tasks: int = 2048, out: Path = ROOT / "results" / "epopt" / "cost.json"
) -> None:
    """Measures and writes both ratios.

    Args:
        repetitions: Of each program.
        tasks: Simulators side by side, for the cost of their physics.
        out: Where the result is written.
    """
    found: dict[str, Any] = {
        **recording.provenance(),
    }
    for name in FAMILIES:
        preset = jaxmeta.preset("epopt", name)
        family: Any = preset.tasks
        algorithm: Any = preset.algorithm
        found[name] = {
            "filter": round(filter_cost(family, algorithm, repetitions), 3),
            "own physics": round(physics_cost(family, tasks, repetitions), 3),
        }
        print(name, found[name])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
