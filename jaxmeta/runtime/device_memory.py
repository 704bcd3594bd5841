"""How much memory a run needs, and how much there is."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

from jaxmeta.config import TrainConfig
from jaxmeta.parallel import Device
from jaxmeta_envs.core.errors import ConfigError, require

_USUAL_BYTES = 4 << 30  # where the system does not say how much memory is free
_MOST_UPDATES = 2**31 - 1  # they are counted on the devices


def check_fits(config: TrainConfig, devices: list[Device]) -> None:
    """Raises `ConfigError` if a run is so large that it cannot have been meant.

    That is one that by its estimate needs more than twice the memory that is free: estimates
    are on the safe side, and a machine may have room for more than it admits.

    Args:
        config: The run.
        devices: Those it would use.
    """
    updates = config.plan().updates
    text = f"so much that there are at most {_MOST_UPDATES:,} updates, not {updates:,}"
    require(updates <= _MOST_UPDATES, "total_env_steps", config.total_env_steps, text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that JAX has no integers for
        needed = memory_per_device(config, len(devices))
    free = free_bytes(devices[0], len(devices))
    if needed > 2 * free:
        kind = devices[0].device_kind
        raise ConfigError(
            f"the run needs about {format_bytes(needed)} of memory on each {kind} device, where "
            f"{format_bytes(free)} are free; make num_tasks, num_seeds or the tasks smaller"
        )


def memory_per_device(config: TrainConfig, num_devices: int) -> int:
    """Estimates the bytes that training needs on each device; 0 if unknown."""
    share = config.algorithm.num_tasks // num_devices
    return config.num_seeds * config.algorithm.memory_bytes(config.tasks, share)


def format_bytes(count: int) -> str:
    """Returns a number of bytes in the unit that suits it, as in ``"1.5 GiB"``."""
    value, units = float(count), ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    for unit in units:
        if value < 1024 or unit == units[-1]:
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def free_bytes(device: Device, devices: int) -> int:
    """Returns how much memory a device has to give; of a CPU, its share of the machine's.

    Args:
        device: One of the devices.
        devices: How many of them share the machine's memory, if it is a CPU.
    """
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    known = [_USUAL_BYTES]
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        known = [1024 * int(line.split()[1])]
    with contextlib.suppress(OSError, ValueError):  # a container may have less
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{n}").read_text()) for n in ("max", "current"))
        known.append(max(limit - used, 0))
    return min(known) // (devices if device.platform == "cpu" else 1)
