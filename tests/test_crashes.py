import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def drive(directory, kills, seed):
    command = [sys.executable, "-m", "tests.kill_driver", str(directory), str(kills), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return drive(tmp_path_factory.mktemp("kills"), kills=5, seed=1)


def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(report):
    assert report["kills"] == 5
    assert all(report["equal"])


def test_sigterm_ends_a_process_cleanly_and_the_run_resumes_to_the_same_bit(report):
    assert report["term_code"] == 128 + 15
    assert not report["term_finished"]
    assert report["term_equal"]


def test_importing_the_shell_initialises_no_backend_and_imports_nothing_heavy(report):
    assert not report["early_backend"]
    assert report["early_imports"] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_kills_lose_nothing(tmp_path, seed):
    report = drive(tmp_path, kills=20, seed=seed)
    assert report["kills"] == 20
    assert all(report["equal"])
