"""Compile every algorithm's training program for TPUs, on a machine that has none.

pip install libtpu                          # of the version that `pip show jax` asks for
python scripts/compile_tpu.py               # all, some minutes
python scripts/compile_tpu.py rl2 gmps      # some

libtpu holds the real compiler. What it says of memory and collectives goes to
``results/tpu_compile.json``, which ``scripts/render_results.py`` writes into the appendix of the
results; nothing is run, so nothing is said of speed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Before JAX and libtpu are imported: there is no TPU, and no cloud to ask for one.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax

from jaxmeta import GRU, CVaR, FastWeights, Recall, preset
from jaxmeta.config import TrainConfig
from jaxmeta.parallel import collectives
from jaxmeta.training.loop import trace_chunk

OUT = Path(__file__).parents[1] / "results" / "tpu_compile.json"
SLICES = {
    "v5e-1": ("v5e:1x1", (1, 1, 1)),
    "v6e-1": ("v6e:1x1", (1, 1, 1)),
    "v5e-4": ("v5e:2x2", (2, 2, 1)),
}
"""Name of a slice: its topology, and how many chips a host has along each axis."""

# Presets with the number of tasks that one chip may have; (algorithm, family, changes).
_PROGRAMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "rl2": ("rl2", "bernoulli-bandit", {"num_tasks": 4096, "memory": GRU(64)}),
    "rl2-bfloat16": ("rl2", "bernoulli-bandit", {"num_tasks": 4096, "memory": GRU(64)}),
    "rl2-fast-weights": ("rl2", "tabular-mdp", {"num_tasks": 4096, "memory": FastWeights(64)}),
    "rl2-recall": ("rl2", "tabular-mdp", {"num_tasks": 1024, "memory": Recall(64)}),
    "epopt": ("epopt", "pendulum", {"num_tasks": 240, "risk": CVaR(0.1)}),
    "maml": ("maml", "sinusoid", {"num_tasks": 1024}),
    "reptile": ("reptile", "sinusoid", {"num_tasks": 1024}),
    "policy-maml": ("maml", "point-navigation", {"num_tasks": 40}),
    "promp": ("promp", "point-navigation", {"num_tasks": 40}),
    "gmps": ("gmps", "point-navigation", {"num_tasks": 40}),
}


def training_run(name: str) -> TrainConfig:
    """Returns the run whose program is compiled."""
    algorithm, family, changes = _PROGRAMS[name]
    config = preset(algorithm, family)
    parts: Any = config.algorithm
    return replace(
        config,
        algorithm=replace(parts, **changes),
        updates_per_chunk=10,
        matmul_precision="bfloat16" if name.endswith("bfloat16") else "default",
    )


def describe(compiled: jax.stages.Compiled) -> dict[str, Any]:
    """Returns bytes on each device, and how many collectives of each kind there are."""
    memory: Any = compiled.memory_analysis()
    found = collectives(compiled.as_text() or "")
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "collectives": dict(Counter(each.kind for each in found)),
        "largest_collective": max((each.elements for each in found), default=0),
    }


def compile_for(name: str, slice_name: str) -> dict[str, Any]:
    """Compiles a program for a slice."""
    from jax.experimental import topologies

    topology, bounds = SLICES[slice_name]
    chips = topologies.get_topology_desc(
        platform="tpu", topology_name=topology, chips_per_host_bounds=list(bounds)
    ).devices
    config = training_run(name)
    lowered = trace_chunk(config, list(chips)).lower()
    began = time.process_time()
    compiled = lowered.compile()
    spent = time.process_time() - began
    about = {"program": name, "slice": slice_name, "chips": len(chips)}
    about |= {"num_tasks": config.algorithm.num_tasks, "compile_cpu_seconds": round(spent, 1)}
    return about | describe(compiled)


def main(names: list[str], slices: list[str], out: Path = OUT) -> None:
    """Compiles and writes; programs that are not named keep what was written of them."""
    old = json.loads(out.read_text())["programs"] if out.exists() else []
    rows = {(row["program"], row["slice"]): row for row in old}
    for name in names:
        for slice_name in slices:
            row = rows[name, slice_name] = compile_for(name, slice_name)
            print(json.dumps(row), flush=True)
            order = [(p, s) for p in _PROGRAMS for s in SLICES if (p, s) in rows]
            result = {
                "jax": jax.__version__,
                "libtpu": version("libtpu"),
                "programs": [rows[key] for key in order],
            }
            out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compile training programs for TPUs.")
    parser.add_argument("programs", nargs="*", help=f"of {', '.join(_PROGRAMS)}; by default all")
    parser.add_argument("--slices", nargs="*", choices=SLICES, default=list(SLICES))
    arguments = parser.parse_args()
    if unknown := set(arguments.programs) - set(_PROGRAMS):
        parser.error(f"programs has {', '.join(unknown)}; it must be of {', '.join(_PROGRAMS)}")
    main(arguments.programs or list(_PROGRAMS), arguments.slices)
