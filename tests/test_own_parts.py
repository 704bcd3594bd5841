"""Parts of users at the command line: ``algorithm.memory:mine:MyMemory``."""

import sys
from pathlib import Path

import pytest

from jaxmeta import GRU, MLP, Mean
from jaxmeta.catalog import importing
from jaxmeta.catalog.presets import preset
from jaxmeta.cli import main
from jaxmeta.cli.own_parts import choose_own_parts
from jaxmeta.runs.result import load
from jaxmeta_envs.core.errors import ConfigError

MODULE = '''
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxmeta import GRU, MLP
from jaxmeta.networks import Memory


@dataclass(frozen=True)
class Averages(Memory):
    """Averages of what was seen.

    Attributes:
        size: How many.
    """

    size: int = 16

    @property
    def output_size(self):
        return self.size

    def init(self, key, input_size):
        return {"kernel": jax.random.normal(key, (input_size, self.size))}

    def initial_carry(self, input_size):
        return jnp.zeros(self.size)

    def step(self, params, carry, x):
        kept = jnp.linspace(0.0, 0.99, self.size)
        carry = kept * carry + (1 - kept) * jnp.tanh(x @ params["kernel"])
        return carry, carry


@dataclass(frozen=True)
class Slower(GRU):
    """One of this library, changed."""

    update_bias: float = 2.0


@dataclass(frozen=True)
class Wide(MLP):
    sizes: tuple[int, ...] = (256,)


@dataclass(frozen=True)
class Unfinished(Memory):
    size: int


class Plain:
    pass
'''
PARTS = "algorithm.memory:mine:"


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importing, "_asked", [])
    Path("mine.py").write_text(MODULE)
    yield
    sys.modules.pop("mine", None)


def chosen(*arguments, family="t-maze"):
    return choose_own_parts(preset("rl2", family), arguments)


def test_a_part_is_replaced_and_the_rest_stays():
    given = ("--seed", "3", f"{PARTS}Slower", "algorithm.risk:cvar", "algorithm.encoder:mine:Wide")
    config, rest = chosen(*given)
    assert isinstance(config.algorithm.memory, GRU)
    assert config.algorithm.memory.update_bias == 2.0
    assert config.algorithm.encoder == sys.modules["mine"].Wide()  # where there was none
    assert isinstance(config.algorithm.encoder, MLP)
    assert config.algorithm.risk == Mean()
    assert rest == ["--seed", "3", "algorithm.risk:cvar"]


@pytest.mark.parametrize(
    "word", ["algorithm.memory:lstm", "1:0.1:cosine", "algorithm.memry:mine:Slower", "gymnasium:A"]
)
def test_other_words_are_left_to_others(word):
    assert chosen(word) == (preset("rl2", "t-maze"), [word])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Slowr", r"algorithm.memory is 'mine:Slowr', and mine has no Slowr \(did you mean Slower"),
        ("Plain", "algorithm.memory is 'mine:Plain'; it must be a dataclass"),
        ("Unfinished", "a class with all its methods and a default for every field: .*size"),
        ("Wide", r"RL2.memory is Wide\(.*must be of type Memory"),
    ],
)
def test_what_is_no_such_part_is_refused(name, says):
    with pytest.raises(ConfigError, match=says):
        chosen(f"{PARTS}{name}")


def test_it_has_options_is_trained_and_is_found_again(capsys):
    given = "--total-env-steps 1 --algorithm.num-tasks 8 --updates-per-chunk 1 --run-dir run"
    given += f" {PARTS}Averages --algorithm.memory.size 3 --no-evaluate --no-check"
    assert main(["train", "rl2", "bernoulli-bandit", *given.split()]) == 0
    assert "jaxmeta evaluate run --split" in (said := capsys.readouterr().out)
    assert "--import mine" in said
    del sys.modules["mine"]
    assert main(["evaluate", "run"]) == 2
    assert "add --import mine" in capsys.readouterr().err
    importing.import_module("mine")
    assert load("run").config.algorithm.memory == sys.modules["mine"].Averages(3)
