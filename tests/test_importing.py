"""Classes of users: at the command line, in files, in installed packages, and as parts."""

import contextlib
import dataclasses
import importlib.metadata
import io
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxmeta
from jaxmeta import RL2, TrainConfig, cli
from jaxmeta.catalog import importing, registry
from jaxmeta.catalog.serialization import SCHEMA, check_loadable, from_dict, to_dict
from jaxmeta.cli import listing as catalogue
from jaxmeta.networks import Encoder, Memory
from jaxmeta.ops import surrogates
from jaxmeta.parts.estimators import MetaGradientEstimator
from jaxmeta.parts.experts import Expert, OracleExpert
from jaxmeta.parts.inner_loop import SGD, InnerLoop, InnerOptimizer
from jaxmeta.parts.linear_baseline import LinearBaseline
from jaxmeta.parts.optimizers.contract import PolicyOptimizer
from jaxmeta.parts.risk import Mean, Risk
from jaxmeta.runs.directory import RunDirectory
from jaxmeta.sweeps.grid import make_grid
from jaxmeta.sweeps.store import SweepDirectory
from jaxmeta_envs.core.errors import ConfigError
from tests.toys import ToyFamily, ToyLearner

MINE = """
from dataclasses import dataclass
import jaxmeta
from tests.toys import ToyFamily, ToyLearner

@dataclass(frozen=True)
class Family(ToyFamily):
    pass

@dataclass(frozen=True)
class Learner(ToyLearner):
    pass

@dataclass(frozen=True)
class Sized(ToyFamily):
    number: int

class Plain:
    pass

jaxmeta.register_family("my-family", Family)
"""
TINY = ["--total-env-steps", "16", "--updates-per-chunk", "2", "--run-dir", "run"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory with files of a user, and what they change restored afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", sys.modules)
    monkeypatch.setattr(importing, "_asked", [])
    monkeypatch.setattr(registry, "FAMILIES", dict(registry.FAMILIES))
    monkeypatch.setattr(registry, "ALGORITHMS", dict(registry.ALGORITHMS))
    before = set(sys.modules)
    Path("mine_of_test.py").write_text(MINE)
    yield
    forget(before)


def forget(before):
    """Makes this process as one that did not import what was imported since."""
    for name in set(sys.modules) - before:
        if name.endswith("_of_test"):
            del sys.modules[name]
    importing._asked.clear()
    registry.FAMILIES.pop("my-family", None)


def said(capsys):
    error = capsys.readouterr().err
    assert error.startswith("jaxmeta: ")
    assert error.count("\n") == 1
    return error


# The command line


LOADING = {
    "evaluate": ["run", "--num-tasks", "8"],
    "resume": ["run", "--no-evaluate"],
    "show": ["run", "--num-tasks", "1"],
    "export": ["run", "exported", "--platforms", "cpu"],
    "compare": ["run", "run", "--labels", "a", "b", "--num-tasks", "8"],
    "robustness": ["run"],
}


def test_own_classes_are_trained_and_their_run_is_found_by_every_command(capsys):
    before, name = set(sys.modules), "mine_of_test"
    code = cli.main(["train", f"{name}:Learner", f"{name}:Family", *TINY, "--eval-tasks", "8"])
    assert code == 0
    output = capsys.readouterr().out
    kinds = json.loads(Path("run", "config.json").read_text())["config"]
    assert kinds["tasks"]["kind"] == f"{name}:Family"
    assert kinds["algorithm"]["kind"] == f"{name}:Learner"
    suggested = re.findall(r"^  jaxmeta (.*)$", output, re.MULTILINE)
    assert suggested
    assert all(line.endswith(f"--import {name}") for line in suggested)
    for command, arguments in LOADING.items():
        forget(before)
        assert cli.main([command, *arguments]) == 2, command
        message = said(capsys)
        assert re.search(rf"run/config\.json: .*{name}:\w+'.*add --import {name}", message)
        assert name not in sys.modules, "a file alone made it import"
        code = cli.main([command, "--import", name, *arguments])
        if command == "robustness":  # the toy has no physics
            assert "a PhysicalFamily" in said(capsys) or code == 2
        else:
            assert code == 0, capsys.readouterr().err
    assert registry.find_family("my-family") is sys.modules[name].Family


def test_a_module_that_is_imported_may_register_names(capsys):
    assert cli.main(["train", "--import", "mine_of_test", "rl2", "my-family", "--dry-run"]) == 0
    assert "mine_of_test:Family" in capsys.readouterr().out
    assert cli.main(["list", "--import=mine_of_test"]) == 0
    assert re.search(r"^  my-family ", capsys.readouterr().out, re.MULTILINE)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert cli.main(["train", "--help", "--import", "mine_of_test"]) == 0
    assert "my-family" in output.getvalue()


@pytest.mark.parametrize(
    "command",
    ["train rl2 t-maze", "sweep rl2 t-maze", "list", *LOADING],
)
def test_every_command_explains_the_option(command, capsys):
    assert cli.main([*command.split(), "--help"]) == 0
    assert "--import MODULE" in capsys.readouterr().out


def test_a_default_directory_has_a_name_that_every_file_system_takes(monkeypatch, capsys):
    assert cli.main(["train", "rl2", "mine_of_test:Family", "--dry-run"]) == 0
    assert re.search(r"rl2-mine_of_test-Family-\d", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine_of_test:Famly", "", r"mine_of_test has no Famly \(did you mean Family\?\)"),
        ("mine_of_test:", "", "which names no class: write mine_of_test:Class"),
        ("mine_of_tst:Family", "", r"no module mine_of_tst, .*did you mean mine_of_test\?"),
        ("mine_of_test.py:Family", "", r"the module must be named as in Python"),
        ("mine_of_test:Plain", "", "it must be a Family class, a frozen dataclass"),
        ("mine_of_test:Learner", "", "it must be a Family class"),
        ("mine_of_test:jaxmeta", "", "it must be a Family class"),
        ("mine_of_test:Sized", "", "fields all have defaults; number of Sized has none"),
        ("broken_of_test:X", "x = 1\n1 / 0\n", r"ZeroDivisionError: .*broken_of_test\.py, line 2"),
        ("broken_of_test:X", "import nothing_like_it\n", "No module named 'nothing_like_it'"),
        ("broken_of_test:X", "def f(:\n", r"failed with SyntaxError.*line 1"),
        ("broken_of_test:X", "raise SystemExit(3)\n", "failed with SystemExit: 3"),
        ("json:X", "", r"give .*json\.py another name"),
    ],
)
def test_a_class_that_cannot_be_had_is_one_sentence(name, content, message, capsys):
    Path("broken_of_test.py").write_text(content)
    Path("json.py").touch()
    assert cli.main(["train", "rl2", name, "--dry-run"]) == 2
    error = said(capsys)
    assert re.search(message, error), error
    assert f"family is {name!r}" in error


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--import"], "import is ''; the module must be named"),
        (["--import", "nothing_of_test"], "no module nothing_of_test"),
        (["--import=broken_of_test"], "importing broken_of_test failed with ValueError: bad"),
    ],
)
def test_an_import_that_fails_is_one_sentence(option, message, capsys):
    Path("broken_of_test.py").write_text("raise ValueError('bad')")
    assert cli.main(["evaluate", "run", *option]) == 2
    assert message in said(capsys)


def test_an_abstract_class_is_refused_with_what_it_lacks():
    with pytest.raises(ConfigError, match=r"with all its methods: it lacks .*init.*policy"):
        registry.register_algorithm("unfinished", Unfinished)


@dataclass(frozen=True)
class Unfinished(jaxmeta.Algorithm):
    pass


# Files


def record(kind, **fields):
    return {"schema": SCHEMA, "kind": kind, **fields}


def test_a_file_alone_imports_nothing(monkeypatch):
    Path("spy_of_test.py").write_text(MINE)
    importing.import_module("mine_of_test")  # also puts the working directory on the path
    with pytest.raises(ConfigError, match=r"no module spy_of_test is imported: add --import spy"):
        from_dict(record("spy_of_test:Family"))
    assert "spy_of_test" not in sys.modules
    assert from_dict(record("mine_of_test:Family")) == sys.modules["mine_of_test"].Family()


def test_a_file_does_not_reach_what_an_imported_module_would_import():
    """A module may import when it is asked for a name."""
    code = "def __getattr__(name):\n    import spy_of_test\n    return spy_of_test.Family\n"
    Path("lazy_of_test.py").write_text(code)
    Path("spy_of_test.py").write_text(MINE)
    importing.import_module("lazy_of_test")
    with pytest.raises(ConfigError, match="lazy_of_test has no Family"):
        from_dict(record("lazy_of_test:Family"))
    assert "spy_of_test" not in sys.modules
    assert registry.find_family("lazy_of_test:Family")  # the user's word may


def test_what_a_script_defined_is_found_in_a_module_that_the_user_names():
    with pytest.raises(ConfigError, match=r"script or notebook .*--import mine"):
        from_dict(record("__main__:Family"))
    module = importing.import_module("mine_of_test")
    assert from_dict(record("__main__:Family")) == module.Family()


# Installed packages


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package that declares entry points."""

    def install(name, points, code):
        info = tmp_path / "site" / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)
        (tmp_path / "site" / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        assert name in {d.name for d in importlib.metadata.distributions()}

    return install


POINTS = (
    "[jaxmeta.families]\ntheirs = {0}:Family\n[jaxmeta.algorithms]\ntheir-learner = {0}:Learner\n"
)


def test_an_installed_package_gives_names_and_its_classes_load(install, capsys):
    name = "package_of_test"
    install(name, POINTS.format(name), MINE.replace("my-family", "another"))
    assert cli.main(["train", "their-learner", "theirs", *TINY, "--no-evaluate"]) == 0
    assert "--import" not in capsys.readouterr().out
    del sys.modules[name]
    assert type(jaxmeta.load("run").config.tasks) is sys.modules[name].Family
    assert re.search(r"^  theirs ", catalogue.describe_catalogue(), re.MULTILINE)
    with pytest.raises(ConfigError, match=r"one of .*theirs.*did you mean theirs"):
        registry.find_family("thiers")


def test_a_broken_package_is_said_and_hides_no_other(install, capsys):
    install("package_of_test", POINTS.format("package_of_test"), "1 / 0")
    with pytest.raises(ConfigError, match=r"entry point package_of_test:Family .* ZeroDivision"):
        registry.find_family("theirs")
    assert re.search(r"^  theirs +family is .*ZeroDivision", catalogue.describe_catalogue(), re.M)
    assert registry.find_family("t-maze")


def test_two_packages_with_one_name_are_told_apart(install):
    install("package_of_test", POINTS.format("package_of_test"), MINE)
    install("second_of_test", POINTS.format("second_of_test"), MINE.replace("my-f", "their-f"))
    with pytest.raises(ConfigError, match=r"theirs.*_of_test:Family and .*_of_test:Family"):
        registry.find_family("theirs")
    assert registry.find_family("second_of_test:Family")


# Parts


@dataclass(frozen=True)
class OwnMemory(Memory):
    size: int = 3

    @property
    def output_size(self):
        return self.size

    def init(self, key, input_size):
        return {"kernel": jax.random.normal(key, (input_size, self.size))}

    def initial_carry(self, input_size):
        return jnp.zeros(self.size)

    def step(self, params, carry, x):
        carry = 0.5 * carry + x @ params["kernel"]
        return carry, carry


@dataclass(frozen=True)
class OwnEncoder(Encoder):
    scale: float = 2.0

    @property
    def output_size(self):
        return 1

    def init(self, key, input_size):
        return {}

    def apply(self, params, x):
        return self.scale * jnp.sum(x, keepdims=True)


@dataclass(frozen=True)
class OwnRisk(Risk):
    def weights(self, returns, updates):
        return jnp.ones_like(returns)

    def check(self, num_tasks):
        pass


@dataclass(frozen=True)
class OwnOptimizer(InnerOptimizer):
    rate: float = 0.5

    def begin(self, params):
        return ()

    def direction(self, rates, opt_state, grads):
        return grads, opt_state


@dataclass(frozen=True)
class OwnEstimator(MetaGradientEstimator):
    surrogate = staticmethod(surrogates.log_likelihood)


@dataclass(frozen=True)
class OwnExpert(OracleExpert):
    pass


@dataclass(frozen=True)
class FarExpert(Expert):
    def check(self, family):
        pass

    def draw(self, family, learned, key):
        return family.sample_task(key), ()

    def policy(self, family):
        return family.references(1)["oracle"].policy


@dataclass(frozen=True)
class OwnPolicyOptimizer(PolicyOptimizer):
    @property
    def task_multiple(self):
        return 1

    @property
    def activation_share(self):
        return 1.0

    def without_value(self):
        return self

    def init(self, params):
        return ()

    def improve(self, replay, params, opt_state, batch, key, learning_rate, entropy_coef, penalty):
        return params, opt_state, {}


@pytest.mark.parametrize(
    "algorithm",
    [
        RL2(memory=OwnMemory(), encoder=OwnEncoder(3.0), risk=OwnRisk()),
        RL2(optimizer=OwnPolicyOptimizer()),
        jaxmeta.EPOpt(risk=OwnRisk(), optimizer=OwnPolicyOptimizer()),
        jaxmeta.MAML(inner=InnerLoop(optimizer=OwnOptimizer(0.25)), risk=OwnRisk()),
        jaxmeta.PolicyMAML(estimator=OwnEstimator(), optimizer=OwnPolicyOptimizer()),
        jaxmeta.GuidedMetaPolicySearch(expert=FarExpert(), estimator=OwnEstimator()),
        jaxmeta.GuidedMetaPolicySearch(expert=OwnExpert(), risk=OwnRisk()),
    ],
    ids=lambda a: type(a).__name__,
)
def test_a_part_of_ones_own_is_read_again(algorithm):
    check_loadable(algorithm)
    assert from_dict(json.loads(json.dumps(to_dict(algorithm)))) == algorithm


def test_a_part_of_ones_own_is_found_as_families_are():
    data = to_dict(RL2(memory=OwnMemory()))
    data["memory"]["kind"] = "spy_of_test:OwnMemory"
    with pytest.raises(ConfigError, match=r"config\.memory\.kind is .*add --import spy_of_test"):
        from_dict(data)


@dataclass(frozen=True)
class OwnRL2(RL2):
    memory: OwnMemory = dataclasses.field(default_factory=OwnMemory)
    risk: Risk = dataclasses.field(default_factory=OwnRisk)


@dataclass(frozen=True)
class OtherDefault(RL2):
    encoder: jaxmeta.MLP | None = dataclasses.field(default_factory=OwnEncoder)


@pytest.mark.parametrize("algorithm", [OwnRL2, OtherDefault])
def test_the_command_line_takes_an_algorithm_with_parts_of_ones_own(algorithm, capsys):
    registry.register_algorithm("own", algorithm)
    arguments = ["train", "own", "t-maze", "--dry-run"]
    arguments += ["--algorithm.memory.size", "5"] if algorithm is OwnRL2 else []
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "tests.test_importing:Own" in captured.out


def test_a_dry_run_refuses_what_training_would(capsys):
    @dataclass(frozen=True)
    class Hidden(RL2):
        memory: Memory = dataclasses.field(default_factory=lambda: of_a_function())

    Hidden.__qualname__ = "Hidden"  # only its memory is of a function
    registry.register_algorithm("own", Hidden)
    assert cli.main(["train", "own", "t-maze", "--dry-run"]) == 2
    assert "memory is of class of_a_function.<locals>" in said(capsys)


class NoDataclass(Memory):
    output_size = 3
    init = initial_carry = step = OwnMemory.step


@dataclass(frozen=True)
class Stretched(ToyLearner):
    """Its constructor is not that of its fields."""

    def __init__(self, half):
        object.__setattr__(self, "size", 2 * half)


def of_a_function():
    @dataclass(frozen=True)
    class Inner(OwnMemory):
        pass

    return Inner()


UNSAVEABLE = [
    (lambda: RL2(memory=NoDataclass()), r"memory is <.*NoDataclass.*or a dataclass"),
    (lambda: RL2(memory=of_a_function()), r"memory is of class .*<locals>.*top of a module"),
    (lambda: ToyLearner(size=0.5), r"size is 0\.5; it must be of type int"),
    (lambda: RL2(gae_lambda=jnp.float32(0.5)), r"gae_lambda is .*must be a number"),
    (lambda: ToyLearner(size=lambda: 3), r"size is <function .*must be a number"),
    (lambda: Stretched(2), r"cannot be made a Stretched again: .*unexpected keyword"),
]


@pytest.mark.parametrize(("make", "message"), UNSAVEABLE)
def test_what_could_not_be_read_again_is_refused_before_anything_is_written(make, message):
    config = TrainConfig(run_dir="run")
    object.__setattr__(config, "algorithm", make())
    with pytest.raises(ConfigError, match=message):
        RunDirectory.create(config, 1, "cpu")
    with pytest.raises(ConfigError, match=message):
        SweepDirectory.open(config, make_grid(TrainConfig(), {"gae_lambda": [0.5]}))
    assert not Path("run").exists()


def test_a_choice_stays_closed_where_the_code_branches_on_it():
    data = to_dict(jaxmeta.EPOpt(baseline=LinearBaseline()))
    data["baseline"] = to_dict(OwnEncoder()) | {}
    data["baseline"].pop("schema")
    with pytest.raises(ConfigError, match=r"baseline is OwnEncoder.*of type Baseline \| MLP"):
        from_dict(data)
    assert from_dict(to_dict(jaxmeta.MAML(inner=InnerLoop(optimizer=SGD())))).risk == Mean()
    assert from_dict(to_dict(TrainConfig(ToyLearner(), ToyFamily()))).tasks == ToyFamily()
