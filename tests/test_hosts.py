"""Several processes train one run as one process does."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxmeta
from jaxmeta.runtime import hosts
from tests.host_driver import UPDATES, config, learned

ROOT = Path(__file__).parent.parent
BOUND = 300


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def together(run_dir, *each, verb="train"):
    """Starts a process per entry, ``"NAME [SIGNAL UPDATE]"``; returns output, errors, code of each.

    Only the first is given the run's directory to write: the others are told of another place.
    """
    port = free_port()
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    running = []
    for me, entry in enumerate(each):
        place = run_dir if me == 0 else f"{run_dir}-of-process-{me}"
        command = [sys.executable, "-m", "tests.host_driver", port, len(each), me, place, verb]
        running.append(
            subprocess.Popen(
                [*map(str, command), *entry.split()],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        return [(*p.communicate(timeout=BOUND), p.returncode) for p in running]
    finally:
        for p in running:
            p.kill()


def check_same(outputs, name, run_dir, tolerance=1e-6):
    """Every process ended well, with what one process learns; the first one wrote it, once."""
    alone = learned(jaxmeta.train(config(name, None), progress=False))
    for out, err, code in outputs:
        assert code == 0, err
        # The transport says on the standard output that it is connected.
        found = json.loads(out.splitlines()[-1])
        np.testing.assert_allclose(found, alone, rtol=tolerance, atol=tolerance)
    lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    updates = [line["update"] for line in lines if "evaluation" not in line]
    assert updates == list(range(1, UPDATES + 1))
    written = jaxmeta.load(run_dir)
    assert written.env_steps == written.config.total_env_steps
    np.testing.assert_allclose(learned(written), alone, rtol=tolerance, atol=tolerance)
    assert not list(run_dir.parent.glob(f"{run_dir.name}-of-*"))


def test_two_processes_learn_what_one_learns_and_write_once(tmp_path):
    run_dir = tmp_path / "run"
    check_same(together(run_dir, "toy", "toy"), "toy", run_dir)


def test_a_killed_process_ends_the_other_and_the_run_goes_on_later(tmp_path):
    """Also with a state of which each process holds the rows of its own tasks."""
    run_dir, name = tmp_path / "run", "remembering"
    killed = f"{name} {signal.SIGKILL.value} 3"
    (_, err, code), (_, _, other) = together(run_dir, name, killed)
    assert other == -signal.SIGKILL
    assert code == 1
    assert f"another process of the run has ended; resume it from {run_dir}" in err
    # The process that writes may have been at the third or in the fourth update.
    assert jaxmeta.load(run_dir).env_steps // 8 in (2, 3)
    check_same(together(run_dir, name, name, verb="resume"), name, run_dir)


@pytest.mark.slow
def test_the_death_of_the_process_that_writes_ends_the_others(tmp_path):
    run_dir = tmp_path / "run"
    killed = f"toy {signal.SIGKILL.value} 3"
    (_, _, first), (_, err, code) = together(run_dir, killed, "toy")
    assert first == -signal.SIGKILL
    assert code != 0, err
    assert jaxmeta.load(run_dir).env_steps // 8 == 3


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_chunk(tmp_path):
    run_dir = tmp_path / "run"
    outputs = together(run_dir, "toy", f"toy {signal.SIGTERM.value} 3")
    for _, err, code in outputs:
        assert code == 1
        assert "TrainingInterrupted: SIGTERM stopped training at 24 env steps" in err
    check_same(together(run_dir, "toy", "toy", verb="resume"), "toy", run_dir)


@pytest.mark.slow
def test_processes_must_be_given_the_same_run_and_fail_together(tmp_path):
    run_dir = tmp_path / "run"
    first, second = together(run_dir, "toy", "other")
    assert "ConfigError: algorithm is" in second[1]
    assert first[2] == 1
    (run_dir / "metrics.jsonl").write_text("{}\n")
    for _, err, code in together(run_dir, "toy", "toy"):
        assert code == 1
        assert f"ConfigError: run_dir is {str(run_dir)!r}, which already holds a run" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "name"), [(2, "epopt-trpo"), (2, "policy-maml-trpo"), (4, "rl2-gru"), (4, "maml")]
)
def test_every_algorithm_learns_the_same_in_several_processes(tmp_path, processes, name):
    run_dir = tmp_path / "run"
    check_same(together(run_dir, *[name] * processes), name, run_dir, 2e-3)


@pytest.mark.parametrize("given", [("h:1", None, None), ("h:1", 0, 0), ("h:1", 2, 2)])
def test_processes_that_cannot_be_are_refused(given):
    with pytest.raises(jaxmeta.ConfigError, match="process"):
        hosts.connect(*given)
