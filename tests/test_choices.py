"""Fields of parts at the command line: the members of a kind that the catalog finds."""

import dataclasses
from types import MappingProxyType
from typing import get_args

import pytest

from jaxmeta import GRU
from jaxmeta.catalog import part_names
from jaxmeta.catalog.registry import ALGORITHMS
from jaxmeta.cli import main
from jaxmeta.cli.choices import choices
from jaxmeta.networks import Encoder, Memory
from jaxmeta.parts.baseline import Baseline
from jaxmeta.parts.estimators import MetaGradientEstimator
from jaxmeta.parts.optimizers.contract import PolicyOptimizer
from jaxmeta_envs.core.annotations import hints_of
from jaxmeta_envs.core.contracts import Family

MEMBERS = {
    Memory: "gru lstm fast-weights recall",
    Encoder: "mlp",
    PolicyOptimizer: "ppo trpo",
    MetaGradientEstimator: "log-likelihood dice lvc e-maml first-order",
    Baseline: "linear-baseline",
    GRU: "",  # no abstract class
    Family: "",  # chosen by the name after the command
}


@dataclasses.dataclass(frozen=True)
class Slower(GRU):
    """One that the catalog did not know."""

    update_bias: float = 3.0


@pytest.mark.parametrize("kind", MEMBERS, ids=lambda kind: kind.__name__)
def test_the_catalog_finds_the_members(kind):
    assert list(part_names.members(kind)) == MEMBERS[kind].split()


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=lambda cls: cls.__name__)
def test_every_default_is_among_the_choices(algorithm):
    hints, default = hints_of(algorithm), algorithm()
    for name in ("memory", "optimizer", "risk", "estimator", "baseline", "expert"):
        if name in hints:
            offered = get_args(choices(hints[name])) or (choices(hints[name]),)
            classes = [get_args(c)[0] if get_args(c) else c for c in offered]
            assert type(getattr(default, name)) in classes, name


def test_a_member_that_the_catalog_learns_of_is_offered(monkeypatch, capsys):
    more = part_names.PLACES | {"slower": f"{__name__}:Slower"}
    monkeypatch.setattr(part_names, "PLACES", MappingProxyType(more))
    part_names.members.cache_clear()
    try:
        given = ["train", "rl2", "bernoulli-bandit", "algorithm.memory:slower"]
        assert main([*given, "--algorithm.memory.hidden-size", "7", "--help"]) == 0
        assert "algorithm.memory:slower" in (said := capsys.readouterr().out)
        assert "(default: 3.0)" in said
    finally:
        part_names.members.cache_clear()


def test_old_spellings_are_read_for_one_release(capsys):
    given = ["train", "policy-maml", "point-navigation", "algorithm.estimator:di-ce", "--dry-run"]
    assert main(given) == 0
    said = capsys.readouterr()
    assert '"kind": "dice"' in said.out
    assert "estimator:di-ce is now estimator:dice" in said.err


def test_what_is_no_member_is_one_sentence(capsys):
    assert main(["train", "rl2", "bernoulli-bandit", "algorithm.memory:lsmt"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "did you mean algorithm.memory:lstm?" in said
