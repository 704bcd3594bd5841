"""What a training run would do, without doing it."""

from __future__ import annotations

import json

from jaxmeta import parallel
from jaxmeta.catalog.serialization import check_loadable, to_dict
from jaxmeta.config import TrainConfig
from jaxmeta.runtime.device_memory import format_bytes, memory_per_device


def describe_run(config: TrainConfig) -> str:
    """Returns the configuration, its exact counts, devices and memory, as text.

    Nothing is compiled or written.

    Raises:
        ConfigError: If the tasks cannot be shared by the devices asked for, or if the run could
            not be read from a file again.
    """
    check_loadable(config)
    algorithm = config.algorithm
    chosen = parallel.choose_devices(algorithm.num_tasks, algorithm.task_multiple, config.devices)
    memory = memory_per_device(config, len(chosen))
    parts = {
        "config.json": json.dumps(to_dict(config), indent=2, ensure_ascii=False),
        "steps": _describe_steps(config),
        "devices": _describe_devices(config, len(chosen), chosen[0].device_kind),
        "memory": "unknown" if memory == 0 else f"about {format_bytes(memory)} on each device",
    }
    return "\n\n".join(f"{title}\n{_indent(text)}" for title, text in parts.items())


def _describe_steps(config: TrainConfig) -> str:
    """Lists the counts of the plan, with a second column when there are several seeds."""
    plan, seeds = config.plan(), config.num_seeds
    rows = [("", "per seed", f"all {seeds} seeds")]
    for name, count in plan._asdict().items():
        # The others are sizes: they do not add up over seeds.
        total = f"{count * seeds:,}" if name in ("updates", "env_steps") else ""
        rows.append((name.replace("_", " "), f"{count:,}", total))
    if seeds == 1:
        rows = [(name, each, "") for name, each, _ in rows]
    first, second, third = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = (f"{name:<{first}}  {each:>{second}}  {total:>{third}}" for name, each, total in rows)
    return "\n".join(line.rstrip() for line in lines)


def _describe_devices(config: TrainConfig, num_devices: int, kind: str) -> str:
    num_tasks = config.algorithm.num_tasks
    if num_devices == 1:
        return f"1 ({kind}), playing {num_tasks:,} tasks per update"
    return (
        f"{num_devices} ({kind}), each playing {num_tasks // num_devices:,} "
        f"of the {num_tasks:,} tasks per update"
    )


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
