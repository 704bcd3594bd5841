"""How fast it is: steps per second, compile time, memory and the share of the machine's limit.

    python scripts/benchmark.py --quick
    python scripts/benchmark.py --num-tasks 1024 16384 262144 1048576     # on a GPU

Everything of one table is measured in one run, in turns, so that ratios mean something. ``plain``
is ``scripts/plain_kernel.py``: the same mathematics written by hand, without a library. The limit
counts the multiplications of the network at the rate that a large product reaches here.

On the cart-pole ``plain`` is ``scripts/plain_recurrent_ppo.py``, recurrent PPO as published in
single files: ``--families cartpole --memories gru-128 --num-tasks 256`` has its usual sizes.
A step is there a row of the scan, which RL² computes, though masked, after a failure, and in
which the other plays the next episode.
"""

from __future__ import annotations

import dataclasses
import json
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import plain_kernel
import tyro
from rich.console import Console
from rich.table import Table

import jaxmeta
from jaxmeta import GRU, PPO, RL2, FastWeights, Recall, engine, parallel
from jaxmeta.experience.play import play_adaptation
from jaxmeta.networks.actor_critic import input_size
from jaxmeta.training import recording
from jaxmeta_envs import BernoulliBandit, CartPole, GridNavigation, TabularMDP, TaskFamily

FAMILIES: dict[str, TaskFamily] = {
    "bernoulli-bandit": BernoulliBandit(5, 100),
    "tabular-mdp": TabularMDP(num_episodes=10),
    "grid-navigation": GridNavigation(),
    "cartpole": CartPole(episode_length=128, num_episodes=1),
}
Memory = GRU | FastWeights | Recall
MEMORIES: dict[str, Memory] = {
    "gru-64": GRU(64),
    "gru-128": GRU(128),
    "gru-256": GRU(256),
    "fast-weights-64": FastWeights(64, num_heads=2),
    "recall-64": Recall(64),
}
UPDATES = 2  # of one call
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"}


@dataclass(frozen=True)
class Program:
    """A compiled program that is called again and again.

    Attributes:
        call: One call, until its result is there.
        steps: Environment steps of a call.
        compile_s: Seconds of tracing and compiling.
        bytes: Memory of the program on one device: arguments, results and temporaries.
        kernels: Of the body of its largest innermost loop, which is a step of the scan.
    """

    call: Callable[[], Any]
    steps: int
    compile_s: float
    bytes: int
    kernels: int


def compiled(function: Callable[..., Any], args: tuple, steps: int) -> Program:
    """Compiles a function of fixed arguments."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    seconds = time.perf_counter() - start
    memory: Any = program.memory_analysis()
    names = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    size = sum(getattr(memory, name) for name in names) if memory else 0
    kernels = kernels_per_step(program.as_text() or "")
    return Program(lambda: jax.block_until_ready(program(*args)), steps, seconds, size, kernels)


def kernels_per_step(text: str) -> int:
    """Counts what a step of a scan launches, in the text of a compiled program.

    That is the operations but for those that only name or arrange values, in the loop body that
    has most of them and no loop inside.
    """
    bodies: dict[str, list[str]] = {}
    loops = set(re.findall(r"body=%?([\w.\-]+)", text))
    for name, lines in re.findall(r"^%?([\w.\-]+) \(.*\{$((?:\n[^}].*)*)", text, re.MULTILINE):
        if name in loops:
            bodies[name] = re.findall(r"= .*? ([a-z][a-z\-]*)\(", lines)
    innermost = [operations for operations in bodies.values() if "while" not in operations]
    counts = (sum(op not in _FREE for op in operations) for operations in innermost)
    return max(counts, default=0)


def rate(programs: dict[str, Program], repeats: int) -> dict[str, float]:
    """Returns steps per second, the median over calls made in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for program in programs.values():
        program.call()
    for _ in range(repeats):
        for name, program in programs.items():
            start = time.perf_counter()
            program.call()
            seconds[name].append(time.perf_counter() - start)
    return {name: programs[name].steps / statistics.median(seconds[name]) for name in programs}


def library(family: TaskFamily, memory: Memory, num_tasks: int) -> dict[str, Program]:
    """The library's rollout and its whole update."""
    config = jaxmeta.TrainConfig(
        algorithm=RL2(num_tasks=num_tasks, memory=memory), tasks=family, updates_per_chunk=UPDATES
    )
    algorithm: Any = config.algorithm
    devices = parallel.choose_devices(num_tasks, algorithm.task_multiple, None)
    keys = engine.seed_keys(config)
    state = jax.jit(engine.make_init(config))(keys)
    policy, episodes = algorithm.policy(family), algorithm.trial_episodes(family)

    def play(params: Any, key: Any) -> Any:
        def one(key: Any) -> Any:
            task_key, key = jax.random.split(key)
            task = family.sample_task(task_key)
            return play_adaptation(family, policy, params, task, key, episodes).reward.sum()

        return parallel.mean_over_tasks(jax.vmap(one)(parallel.task_keys(key, num_tasks)))

    chunk = engine.make_chunk(config, devices)
    steps = algorithm.env_steps_per_update(family)
    params = jax.tree.map(lambda x: x[0], state.params)
    return {
        "rollout": compiled(parallel.shard_update(play, devices), (params, keys[0]), steps),
        "update": compiled(chunk, (state, keys, jnp.int32(0)), UPDATES * steps),
    }


def by_hand(family: str, hidden: int, num_tasks: int) -> dict[str, Program]:
    """The same, written by hand."""
    tasks = FAMILIES[family]
    length = tasks.default_episodes * tasks.horizon
    first, rollout, update = plain_kernel.make(family, hidden, num_tasks, length)
    key = jax.random.key(0)
    state = jax.jit(first)(key)

    def updates(state: Any, key: Any) -> Any:
        return jax.lax.scan(update, state, jax.random.split(key, UPDATES))

    def play(params: Any, key: Any) -> Any:
        return rollout(params, key)[0]["reward"].sum(0).mean()

    steps = num_tasks * length
    return {
        "plain rollout": compiled(play, (state[0], key), steps),
        "plain update": compiled(updates, (state, key), UPDATES * steps),
    }


def single_file(hidden: int, num_tasks: int) -> dict[str, Program]:
    """Recurrent PPO on the cart-pole, as published in single files; it learns as it plays."""
    # Its gymnax touches a device on import, which must not be before there is one per core.
    import plain_recurrent_ppo

    length = FAMILIES["cartpole"].horizon
    first, update = plain_recurrent_ppo.make(hidden, num_tasks, length)
    key = jax.random.key(0)

    def updates(state: Any, key: Any) -> Any:
        return jax.lax.scan(update, state, jax.random.split(key, UPDATES))

    steps = UPDATES * num_tasks * length
    return {"plain update": compiled(updates, (jax.jit(first)(key), key), steps)}


def forward_flops(family: TaskFamily, memory: Memory) -> int:
    """Floating-point operations of the network's products for one environment step."""
    inputs, outputs = input_size(family), family.action_space.flat_size + 1
    size = memory.output_size
    if isinstance(memory, GRU):
        products = 3 * size * (inputs + size)
    elif isinstance(memory, FastWeights):
        read = memory.num_heads * memory.value_size
        writes = 2 * memory.key_size + memory.value_size + 1
        table = 3 * memory.num_heads * memory.key_size * memory.value_size
        products = size * (2 * inputs + memory.num_heads * writes) + table
        products += size * 2 * (size + read)
    elif isinstance(memory, Recall):
        notes = memory.value_size + 1
        table = 3 * memory.num_heads * memory.key_size * notes
        products = inputs * (2 * size + memory.num_heads * memory.key_size)
        products += size * memory.num_heads * notes + table
        products += 2 * size * (size + 2 * memory.num_heads * notes)
        products = memory.hops * products + (memory.hops - 1) * size**2
    else:
        raise ValueError(f"nothing known of {memory}")
    return 2 * (products + size * outputs)


def machine_flops(repeats: int) -> float:
    """Floating-point operations per second of a large product, on all devices together."""
    devices, size = jax.local_device_count(), 2048
    key = jax.random.key(0)
    a = jax.random.normal(key, (devices, size, size))
    mesh = parallel.task_mesh(jax.local_devices())
    spec = jax.sharding.PartitionSpec(parallel.AXIS)
    a = jax.device_put(a, jax.sharding.NamedSharding(mesh, spec))

    def multiply(a: Any) -> Any:
        return jax.lax.fori_loop(0, 4, lambda i, x: 1e-3 * x @ a, a)

    sharded = jax.shard_map(multiply, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    steps = 4 * 2 * devices * size**3
    return rate({"product": compiled(sharded, (a,), steps)}, repeats)["product"]


def measure(family: str, memory: str, num_tasks: int, flops: float, repeats: int) -> dict:
    """Measures one row."""
    tasks, part = FAMILIES[family], MEMORIES[memory]
    programs = library(tasks, part, num_tasks)
    if family in ("bernoulli-bandit", "tabular-mdp") and isinstance(part, GRU):
        programs |= by_hand(family, part.hidden_size, num_tasks)
    if family == "cartpole" and isinstance(part, GRU):
        programs |= single_file(part.hidden_size, num_tasks)
    rates = rate(programs, repeats)
    forward, ppo = forward_flops(tasks, part), PPO()
    # A gradient costs three forward passes.
    limits = {"rollout": flops / forward, "update": flops / (forward * (1 + 3 * ppo.epochs))}
    return {
        "family": family,
        "memory": memory,
        "num_tasks": num_tasks,
        "steps_per_s": {name: round(value) for name, value in rates.items()},
        "compile_s": {name: round(p.compile_s, 2) for name, p in programs.items()},
        "megabytes": {name: round(p.bytes / 1e6, 1) for name, p in programs.items()},
        "kernels_per_step": {name: p.kernels for name, p in programs.items()},
        "share_of_limit": {name: round(rates[name] / limits[name], 3) for name in limits},
    }


def show(result: dict) -> None:
    """Prints the rows as a table."""
    table = Table(title=f"{result['device']}, jax {result['jax']}: thousands of steps per second")
    for name in ("family", "memory", "tasks", "rollout", "update", "plain", "ratio", "of limit"):
        table.add_column(name, justify="left" if name in ("family", "memory") else "right")
    for name in ("compile s", "MB", "kernels a step"):
        table.add_column(name, justify="right")
    for row in result["rows"]:
        speed, plain = row["steps_per_s"], row["steps_per_s"].get("plain update")
        table.add_row(
            row["family"],
            row["memory"],
            f"{row['num_tasks']:,}",
            f"{speed['rollout'] / 1e3:.0f}",
            f"{speed['update'] / 1e3:.0f}",
            "–" if plain is None else f"{plain / 1e3:.0f}",
            "–" if plain is None else f"{speed['update'] / plain:.2f}",
            f"{row['share_of_limit']['update']:.0%}",
            f"{row['compile_s']['update']:.1f}",
            f"{row['megabytes']['update']:.0f}",
            f"{row['kernels_per_step']['rollout']}",
        )
    Console(width=120).print(table)


def main(
    families: tuple[str, ...] = tuple(FAMILIES),
    memories: tuple[str, ...] = ("gru-64", "gru-128", "fast-weights-64"),
    num_tasks: tuple[int, ...] = (512,),
    repeats: int = 7,
    quick: bool = False,
    out: Path | None = None,
) -> None:
    """Measures and prints; nothing is written unless asked.

    Args:
        families: Task families.
        memories: Memories of the agent.
        num_tasks: Parallel tasks.
        repeats: Timed calls of every program; their median counts.
        quick: Two rows and few calls, to see that it works.
        out: JSON file to write.
    """
    parallel.request_cpu_devices()
    if quick:
        families, memories, num_tasks, repeats = ("bernoulli-bandit",), memories[:1], (128,), 3
    for field, names, known in (("families", families, FAMILIES), ("memories", memories, MEMORIES)):
        for name in names:
            if name not in known:
                raise SystemExit(f"{field} has {name!r}; it must be of {', '.join(known)}")
    flops = machine_flops(repeats)
    result: dict[str, Any] = {
        **recording.provenance(),
        "gigaflops": round(flops / 1e9, 1),
        "settings": dataclasses.asdict(PPO()) | {"repeats": repeats, "updates_per_call": UPDATES},
        "rows": [],
    }
    for family in families:
        for memory in memories:
            for count in num_tasks:
                result["rows"].append(measure(family, memory, count, flops, repeats))
                if out is not None:  # an interrupted run keeps its rows
                    out.parent.mkdir(parents=True, exist_ok=True)
                    out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    tyro.cli(main)
