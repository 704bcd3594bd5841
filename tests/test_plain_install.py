"""What a plain ``pip install`` has, without any extra, is enough for what the README says."""

import sys

import jax
import pytest

from jaxmeta.catalog.registry import FAMILIES
from jaxmeta.cli import main


def test_epopt_trains_on_the_pendulum_without_gymnax(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gymnax", None)
    options = ["--algorithm.num-tasks", "4", "--tasks.episode-length", "5", "--eval-tasks", "4"]
    options += ["--total-env-steps", "1", "--updates-per-chunk", "1"]
    run_dir = tmp_path / "run"
    arguments = ["train", "epopt", "pendulum", "--run-dir", str(run_dir), *options]
    assert main([*arguments, "algorithm.risk:mean"]) == 0
    assert (run_dir / "adaptation.png").exists()


@pytest.mark.parametrize("name", ["cartpole", "acrobot", "mountain-car"])
def test_the_other_systems_of_classical_control_need_no_gymnax_either(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnax", None)
    family, key = FAMILIES[name](), jax.random.key(0)
    family.check_installed()
    task = family.sample_task(key)
    state, _ = family.reset(key, task)
    family.step(key, state, family.action_space.sample(key), task)
    family.predict(family.observation_space.zero(), family.action_space.sample(key), task)
