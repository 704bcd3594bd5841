"""The examples of CONTRIBUTING.md, README.md and docs, run as they stand."""

import re
import shlex
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxmeta import cli
from jaxmeta.catalog import importing, registry

ROOT = Path(__file__).parent.parent


def python_blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def training_commands():
    """What README.md and docs say to train; not the lines with an ellipsis."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [b for p in pages for b in re.findall(r"```bash\n(.*?)```", p.read_text(), re.DOTALL)]
    lines = "".join(blocks).splitlines()
    found = [re.search(r"jaxmeta train [^…#]*(?=#|$)", line) for line in lines]
    return sorted({match[0].strip() for match in found if match})


@pytest.fixture
def names(monkeypatch):
    """The registered names, restored afterwards."""
    monkeypatch.setattr(registry, "FAMILIES", dict(registry.FAMILIES))
    monkeypatch.setattr(registry, "ALGORITHMS", dict(registry.ALGORITHMS))


def test_the_examples_of_contributing_run_as_they_stand(names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A run that is written needs classes that can be found again: those of a module.
    module = types.ModuleType("contributing")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    space = vars(module)
    for block in python_blocks("CONTRIBUTING.md"):
        exec(compile(block, "CONTRIBUTING.md", "exec"), space)
    assert registry.find_family("guess-the-number") is space["GuessTheNumber"]
    assert registry.find_algorithm("policy-gradient") is space["PolicyGradient"]
    assert space["evaluation"].returns.shape == (1, 200, 2)
    # Chance is 1/8 per try; a fixed order of guesses finds the number in half of the episodes.
    learned = space["result"].metrics["return"]
    assert np.all(np.isfinite(learned))
    assert learned[-10:].mean() > learned[:10].mean()


def test_the_family_of_contributing_is_trained_and_evaluated_from_a_file(
    names, tmp_path, monkeypatch, capsys
):
    """Only what it says is done."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importing, "_asked", [])
    Path("mine.py").write_text(python_blocks("CONTRIBUTING.md")[0])
    tiny = "--total-env-steps 1 --algorithm.num-tasks 8 --algorithm.memory.hidden-size 4"
    tiny += " --updates-per-chunk 1 --run-dir run --no-evaluate"
    try:
        assert cli.main(["train", "rl2", "mine:GuessTheNumber", *tiny.split()]) == 0
        del sys.modules["mine"]
        assert cli.main(["evaluate", "run", "--num-tasks", "8"]) == 2
        assert "add --import mine" in capsys.readouterr().err
        assert cli.main(["evaluate", "run", "--num-tasks", "8", "--import", "mine"]) == 0
        assert "GuessTheNumber" in capsys.readouterr().out
    finally:
        sys.modules.pop("mine", None)


def test_the_python_of_the_readme_runs(monkeypatch):
    """Shortened only in how long it trains."""
    blocks = python_blocks("README.md")
    assert len(blocks) == 2
    code = "\n".join(blocks).replace("num_seeds=3,", "num_seeds=3, total_env_steps=50_000,")
    assert "50_000" in code
    space = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), space)
    assert space["evaluation"].returns.shape[0] == 3
    assert space["evaluation"].returns.shape[2] == 10
    assert jax.tree.leaves(space["metrics"])[0].shape[0] == 4


@pytest.mark.parametrize("command", training_commands())
def test_the_commands_of_the_documentation_are_understood(command, capsys):
    _, *arguments = shlex.split(command)
    arguments = [argument for argument in arguments if argument != "--distributed"]
    assert cli.main([*arguments, "--dry-run"]) == 0, capsys.readouterr().err


def test_there_are_commands_to_be_understood():
    assert len(training_commands()) > 10
