"""Everything that wants an accelerator, in one command for a machine that is lent for a while.

    python scripts/accelerator.py --minutes 30
    python scripts/accelerator.py --stages speed       # some of it

The stages run one after the other until the time is up; what is running then is told to stop, which
saves it. Results are written as they come, each with the device's name, below ``--out``; start the
command again, with the same folders, to go on. Copy what is good into ``results/`` and run
``python scripts/render_results.py``.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import tyro

SCRIPTS = Path(__file__).parent
TASKS = ("1024", "16384", "131072", "1048576")
TABLES = ("bandit:5:100", "bandit:10:100", "mdp:10", "mdp:25", "bandit:5:500", "bandit:10:500")
# Name to a script and its arguments; {out} and {runs} are folders.
STAGES: dict[str, list[str]] = {
    "speed": [
        "benchmark.py",
        *("--families", "bernoulli-bandit", "tabular-mdp", "--memories", "gru-128"),
        *("--num-tasks", *TASKS, "--out", "{out}/benchmark/accelerator.json"),
    ],
    "tables": [
        "reproduce/rl2_tables.py",
        *("--scale", "gpu", "--cells", *TABLES),
        *("--runs", "{runs}/rl2_tables", "--out", "{out}/rl2_tables"),
    ],
    "locomotion": [
        "reproduce/locomotion.py",
        *("--size", "published", "--runs", "{runs}/locomotion", "--out", "{out}/locomotion"),
    ],
    "robustness": [
        "reproduce/epopt_robustness.py",
        *("--families", "hopper-published", "--runs", "{runs}/epopt", "--out", "{out}/epopt"),
    ],
}
PATIENCE = 120.0  # seconds that a stage has to save


def run(command: list[str], seconds: float) -> str:
    """Runs a command for so long at most; returns how it ended."""
    process = subprocess.Popen(command)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return "killed: it did not stop"
        return "stopped, as the time was up"
    return "done" if code == 0 else f"failed with exit code {code}"


def main(
    stages: tuple[str, ...] = tuple(STAGES),
    minutes: float = 30.0,
    runs: Path = Path("runs/accelerator"),
    out: Path = Path("runs/accelerator/results"),
) -> int:
    """Runs stages.

    Args:
        stages: Which ones, in this order.
        minutes: How long at most.
        runs: Where runs are kept, to go on with them.
        out: Where results are written.
    """
    for name in stages:
        if name not in STAGES:
            raise SystemExit(f"stages has {name!r}; it must be of {', '.join(STAGES)}")
    until, ended = time.monotonic() + 60.0 * minutes, {}
    for name in stages:
        left = until - time.monotonic()
        script, *arguments = (part.format(out=out, runs=runs) for part in STAGES[name])
        command = [sys.executable, str(SCRIPTS / script), *arguments]
        print(f"\n== {name} ({left / 60:.0f} minutes left)", flush=True)
        ended[name] = run(command, left) if left > 0 else "not begun, as the time was up"
    print()
    for name, how in ended.items():
        print(f"{name}: {how}")
    return int(any("failed" in how for how in ended.values()))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
