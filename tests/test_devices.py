"""Every algorithm on eight devices, and runs that move between numbers of devices."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import jaxmeta
from tests.device_driver import MOVED
from tests.tiny_runs import RUNS

ROOT = Path(__file__).parent.parent
FAST = ("epopt-trpo", "maml")
SLOW = [name for name in RUNS if name not in FAST]


def python(devices, *arguments):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """What a process with eight devices says of the fast programs, and the run it left."""
    directory = tmp_path_factory.mktemp("eight")
    report = json.loads(python(8, "-m", "tests.device_driver", directory, *FAST))
    return report, directory / "run"


def check(found):
    assert found["moved"] > 1e-4
    assert found["first_update"] < 1e-4
    assert found["metrics"] < 2e-3
    assert found["params"] < 2e-3
    assert found["alone"] == []
    kinds, sizes = zip(*found["collectives"], strict=True)
    # Gradients, statistics and one number per task; the trajectories stay where they are.
    assert set(kinds) == {"all-reduce"}
    assert len(sizes) <= 12
    # The linear baseline of "epopt-trpo" sums 8² + 8 products in each of its four folds.
    assert max(sizes) <= max(found["state_size"] + 120, 4 * (8 * 8 + 8))


@pytest.mark.parametrize("name", FAST)
def test_one_and_eight_devices_learn_the_same_and_only_add_up(eight, name):
    check(eight[0][name])


@pytest.mark.slow
def test_all_algorithms_learn_the_same_on_one_and_eight_devices_and_only_add_up(tmp_path):
    report = json.loads(python(8, "-m", "tests.device_driver", tmp_path, *SLOW))
    assert set(report) == set(SLOW)
    for found in report.values():
        check(found)


GO_ON = """
import sys, warnings, jax, jaxmeta, tests.toys
assert len(jax.devices()) == 1
warnings.simplefilter("ignore")
result = jaxmeta.resume(sys.argv[1], progress=False)
print(result.params["w"].tolist(), int(result.state.count[0]))
"""


def test_a_run_saved_on_eight_devices_goes_on_on_one_and_on_four(eight, tmp_path):
    for name in ("one", "four"):
        shutil.copytree(eight[1], tmp_path / name)
    assert jaxmeta.load(tmp_path / "four").state.count.tolist() == [2]
    with pytest.warns(UserWarning, match="began on 8 cpu devices and goes on on 4"):
        four = jaxmeta.resume(tmp_path / "four", progress=False)
    one, _, count = python(1, "-c", GO_ON, tmp_path / "one").rpartition(" ")
    whole = jaxmeta.train(replace(MOVED, devices=1), progress=False)
    assert four.state.count.tolist() == [int(count)] == [4]
    for params in (json.loads(one), four.params["w"]):
        np.testing.assert_allclose(params, whole.params["w"], rtol=1e-5, atol=1e-6)
