from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import jaxmeta
from jaxmeta import MAML, CVaR, EPOpt, GuidedMetaPolicySearch, Mean, PolicyMAML, cli, engine

# The package's attributes of these names may be its functions.
from jaxmeta.algorithms.rl2 import RL2
from jaxmeta.catalog import registry
from jaxmeta.catalog.presets import PRESETS, preset
from jaxmeta.cli import main
from jaxmeta.cli.failures import explain
from jaxmeta.cli.options import TrainOptions
from jaxmeta.cli.parsing import parse_options
from jaxmeta.cli.reading import format_schedule, parse_schedule
from jaxmeta.evaluation import evaluate as evaluation
from jaxmeta.evaluation import player
from jaxmeta.parts.schedules import Schedule
from jaxmeta.runs.directory import read_record
from jaxmeta.runs.result import TrainResult, load
from jaxmeta.runtime.device_memory import format_bytes, memory_per_device
from jaxmeta.training import train as training
from tests.toys import SLOW, ToyFamily, ToyLearner

TINY = ["train", "toy", "toys", "--total-env-steps", "16", "--updates-per-chunk", "2"]
TINY += ["--eval-tasks", "8"]
RL2_PARTS = ["train", "rl2", "t-maze"]


@pytest.fixture(autouse=True, scope="module")
def toys():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ALGORITHMS, "toy", ToyLearner)
        patch.setitem(registry.FAMILIES, "toys", ToyFamily)
        yield


@pytest.fixture(autouse=True)
def in_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Trains and evaluates once; returns the run's directory and what was printed."""
    run_dir, output = tmp_path_factory.mktemp("cli") / "run", io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main([*TINY, "--num-seeds", "2", "--run-dir", str(run_dir)]) == 0
    return run_dir, output.getvalue()


@pytest.fixture
def run_dir(finished, tmp_path):
    """A copy of the run that a test may change."""
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


@pytest.fixture
def nothing_compiles(monkeypatch):
    def fail(*args, **kwargs):
        pytest.fail("a program was about to be compiled")

    monkeypatch.setattr(engine, "make_chunk", fail)
    monkeypatch.setattr(training, "compile_chunk", fail)
    monkeypatch.setattr(player, "_player", fail)


def parse(*arguments, algorithm="rl2", family="bernoulli-bandit", config=None):
    default = TrainOptions(config or preset(algorithm, family))
    return parse_options(TrainOptions, arguments, command="jaxmeta train", default=default).config


def error_of(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("jaxmeta: ")
    assert captured.err.count("\n") == 1
    return captured.err


def files_in(directory):
    paths = sorted(p for p in directory.rglob("*") if p.is_file())
    return {str(p.relative_to(directory)): p.read_bytes() for p in paths}


# Help, version, list


def test_help_needs_no_jax_and_names_every_command():
    program = (
        "import sys; from jaxmeta.cli import main; assert main(['--help']) == 0;"
        "assert not {'jax', 'flax', 'tyro', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("train", "resume", "evaluate", "compare", "robustness", "export", "list"):
        assert f"jaxmeta {command}" in done.stdout


def test_without_arguments_the_help_goes_to_stderr(capsys):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "jaxmeta train" in captured.err


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxmeta {jaxmeta.__version__}\n"


def test_the_list_names_everything_registered(capsys, nothing_compiles):
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    for name in [*registry.ALGORITHMS, *registry.FAMILIES]:
        assert re.search(rf"^  {name} ", output, re.MULTILINE)
    for family in registry.FAMILIES.values():
        tasks = family()
        said = "" if tasks.disjoint_splits else " (its tasks also occur in training)"
        splits = [split + said * (split == "test") for split in tasks.splits]
        assert f"splits: {', '.join(splits)}" in re.sub(r"\s+", " ", output)
    assert "references: random, oracle" in output
    assert "tuned presets: rl2" in output
    assert "tuned presets: none" in output


def test_export_writes_an_agent_and_says_how_to_run_it(finished, capsys):
    pytest.importorskip("flatbuffers")
    pytest.importorskip("safetensors")
    run_dir, _ = finished
    assert main(["export", str(run_dir), "agent", "--seed-index", "1", "--platforms", "cpu"]) == 0
    assert "The agent is in agent." in capsys.readouterr().out
    agent = jaxmeta.load_exported("agent")
    assert (agent.manifest["seed_index"], agent.manifest["platforms"]) == (1, ["cpu"])
    np.testing.assert_array_equal(agent.params["w"], jaxmeta.load(run_dir).params["w"][1])
    assert main(["export", str(run_dir), "agent"]) == 2
    assert "must be a directory that does not exist yet" in capsys.readouterr().err
    assert main(["export", str(run_dir), "other", "--seed-index", "2"]) == 2
    assert "seed_index is 2; it must be from 0 to 1" in capsys.readouterr().err
    assert not Path("other").exists()


@pytest.mark.parametrize(
    "command", ["train", "resume", "evaluate", "compare", "robustness", "export", "list"]
)
def test_every_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"usage: jaxmeta {command}" in capsys.readouterr().out


OTHER_PARTS = {
    RL2: "encoder:mlp",
    EPOpt: "baseline:mlp",
    MAML: "outer:reptile",
    PolicyMAML: "estimator:e-maml",
    GuidedMetaPolicySearch: "expert:trained-experts",
}


@pytest.mark.parametrize(("algorithm", "family"), PRESETS)
def test_every_option_is_explained(algorithm, family, capsys):
    # The options of a part are explained behind the name of one.
    made = preset(algorithm, family).algorithm
    parts = ["algorithm.risk:mean"] if algorithm == "rl2" else ["algorithm.risk:cvar"]
    parts = parts if hasattr(made, "risk") else []
    lines = []
    for part in ([], parts):
        assert main(["train", algorithm, family, *part, "--help"]) == 0
        lines += [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    known = OTHER_PARTS.get(type(made), "")  # soft actor-critic has none
    assert any(known in line for line in lines), "a part that may be another is listed"
    for option in set(option_names(preset(algorithm, family))) - {"algorithm.encoder"}:
        at = next(i for i, line in enumerate(lines) if re.match(rf"--{option}\b", line))
        # The explanation stands on the next line, and the default behind it.
        assert re.match(r"[^(\-]", lines[at + 1]), f"--{option} is not explained"


def option_names(value, prefix=""):
    for part in dataclasses.fields(value):
        inner, name = getattr(value, part.name), prefix + part.name.replace("_", "-")
        if dataclasses.is_dataclass(inner) and not isinstance(inner, Schedule):
            yield from option_names(inner, f"{name}.")
        else:
            yield name


# Options


def test_options_reach_nested_fields_of_the_concrete_classes():
    config = parse("--tasks.num-arms", "3", "--algorithm.memory.hidden-size", "7", "--seed", "5")
    expected = preset("rl2", "bernoulli-bandit")
    assert config.tasks == dataclasses.replace(expected.tasks, num_arms=3)
    assert config.algorithm.memory == dataclasses.replace(expected.algorithm.memory, hidden_size=7)
    assert config.seed == 5
    assert parse() == expected


@pytest.mark.parametrize("default", [1e-3, Schedule(1e-3, 1e-4, 10, "cosine")])
def test_a_number_or_a_schedule_replaces_either(default):
    config = dataclasses.replace(
        preset("rl2", "bernoulli-bandit"), algorithm=RL2(learning_rate=default)
    )
    assert parse(config=config) == config
    for text, value in [("3e-4", 3e-4), ("1e-3:0", Schedule(1e-3, 0.0))]:
        parsed = parse("--algorithm.learning-rate", text, config=config)
        assert parsed.algorithm.learning_rate == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5", 0.5),
        ("1:0.1", Schedule(1.0, 0.1)),
        ("1:0.1:20", Schedule(1.0, 0.1, 20)),
        ("1:0.1:cosine", Schedule(1.0, 0.1, None, "cosine")),
        ("1:-2e-1:20:cosine", Schedule(1.0, -0.2, 20, "cosine")),
    ],
)
def test_schedules_are_read_and_written_alike(text, value):
    assert parse_schedule(text) == value
    assert parse_schedule(format_schedule(value)) == value


@pytest.mark.parametrize("text", ["", "fast", "1:", ":1", "1:2:3:4", "1:2:x:cosine", "1:x"])
def test_what_is_no_schedule_is_refused(text):
    with pytest.raises(ValueError, match="neither a number nor INITIAL:FINAL"):
        parse_schedule(text)


@pytest.mark.parametrize("text", ["5e6", "5_000_000", "5000000"])
def test_long_counts_may_be_written_short(text):
    assert parse("--total-env-steps", text).total_env_steps == 5_000_000


def test_optional_fields_take_a_value_or_none():
    assert parse("--devices", "2", "--run-dir", "here").devices == 2
    assert parse("--devices", "None", "--run-dir", "None").run_dir is None


def test_a_part_with_alternatives_is_chosen_by_name():
    risk = parse("algorithm.risk:cvar", "--algorithm.risk.fraction", "0.2").algorithm.risk
    assert risk == CVaR(0.2)
    chosen = parse(
        "algorithm.risk:cvar", "--algorithm.risk.fraction", "1:0.1:9:step", "--seed", "3"
    )
    assert chosen.algorithm.risk == CVaR(Schedule(1.0, 0.1, 9, "step"))
    assert chosen.seed == 3
    assert parse("--seed", "3").algorithm.risk == Mean()


# Training


def test_training_leaves_a_whole_run_and_says_where(finished):
    run_dir, output = finished
    for name in ("config.json", "metrics.jsonl", "evaluation.json", "adaptation.png"):
        assert (run_dir / name).is_file()
        assert name in output or name in ("config.json", "metrics.jsonl")
    assert json.loads((run_dir / "evaluation.json").read_text())["num_seeds"] == 2
    assert "ToyLearner on ToyFamily, split 'test'" in output
    assert "random" in output
    for command in ("evaluate", "resume"):
        assert f"jaxmeta {command} {run_dir}" in output


def test_the_commands_that_are_suggested_are_valid(finished, run_dir, capsys):
    for line in re.findall(r"^  jaxmeta (.*)$", finished[1], re.MULTILINE):
        arguments = line.replace(str(finished[0]), str(run_dir)).split()
        assert main(arguments) == 0


def test_by_default_a_run_goes_to_a_new_directory_below_runs(tmp_path, monkeypatch, capsys):
    seen = []
    fail = lambda config, **how: seen.append(config.run_dir) or 1 / 0  # noqa: E731
    monkeypatch.setattr(training, "train", fail)
    monkeypatch.setattr(cli.training, "_now", lambda: "20300102-030405")
    (tmp_path / "runs" / "toy-toys-20300102-030405").mkdir(parents=True)
    with pytest.raises(ZeroDivisionError):  # what is nobody's mistake keeps its traceback
        main(TINY)
    assert seen == [os.path.join("runs", "toy-toys-20300102-030405-2")]
    assert not os.path.exists(seen[0])


def test_training_without_a_directory_writes_nothing(tmp_path, capsys):
    assert main([*TINY, "--run-dir", "None", "--no-evaluate"]) == 0
    assert capsys.readouterr().out == ""
    assert files_in(tmp_path) == {}


def test_resuming_makes_a_run_longer_and_evaluates_again(run_dir, capsys):
    (run_dir / "evaluation.json").unlink()
    assert main(["resume", str(run_dir), "--total-env-steps", "24"]) == 0
    assert read_record(run_dir).config.total_env_steps == 24
    assert (run_dir / "evaluation.json").exists()
    assert "ToyLearner" in capsys.readouterr().out


def test_resume_remembers_that_a_run_is_not_to_be_evaluated(tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert main([*TINY, "--run-dir", str(run_dir), "--no-evaluate"]) == 0
    assert main(["resume", str(run_dir), "--total-env-steps", "24"]) == 0
    assert not read_record(run_dir).evaluate
    assert "ToyLearner" not in capsys.readouterr().out
    assert not (run_dir / "evaluation.json").exists()
    assert main(["resume", str(run_dir), "--evaluate"]) == 0
    assert (run_dir / "evaluation.json").exists()


def test_evaluation_takes_its_options(run_dir, capsys):
    (run_dir / "evaluation.json").unlink()
    arguments = ["evaluate", str(run_dir), "--episodes", "3", "--num-tasks", "20"]
    assert main([*arguments, "--no-references", "--no-save"]) == 0
    output = capsys.readouterr().out
    assert "20 tasks × 3 episodes" in output
    assert "random" not in output
    assert not (run_dir / "evaluation.json").exists()
    before = files_in(run_dir)
    assert main([*arguments, "--split", "train"]) == 0
    written = "evaluation-train-3-rows-20-tasks.json"
    assert written in capsys.readouterr().out
    assert json.loads((run_dir / written).read_text())["rows"] == 3
    after = files_in(run_dir)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_much_to_play_is_said_before_it_is_played(command, run_dir, monkeypatch, capsys):
    runs = [str(run_dir)] * (1 if command == "evaluate" else 2)
    arguments = [command, *runs, "--num-tasks", "20", "--episodes", "3", "--no-save"]
    arguments += ["--labels", "a", "b"] if command == "compare" else []
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    said, steps = [], 20 * 3 * 2 * len(runs)  # tasks, episodes of one step, seeds
    monkeypatch.setattr(cli.amounts, "_MUCH", steps - 1)
    monkeypatch.setattr(player, "_player", lambda *args: said.append(capsys.readouterr()) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(arguments)
    assert f"playing 20 tasks, about {steps} steps of the agent" in said[0].err
    assert said[0].err.count("\n") == 1


# Dry run


def test_a_dry_run_tells_the_exact_counts_and_touches_nothing(tmp_path, capsys, nothing_compiles):
    arguments = ["train", "rl2", "bernoulli-bandit", "--dry-run", "--num-seeds", "3"]
    arguments += ["--devices", "1", "--tasks.num-pulls", "7", "--algorithm.num-tasks", "64"]
    assert main([*arguments, "--total-env-steps", "10000", "--updates-per-chunk", "2"]) == 0
    output = capsys.readouterr().out
    words = " ".join(output.split())
    assert '"num_pulls": 7' in output
    assert "env steps per update 448" in words
    assert "chunks 12" in words  # 10000 / 896, rounded up
    assert "updates 24 72" in words
    assert "env steps 10,752 32,256" in words
    assert "playing 64 tasks" in words
    assert re.search(r"about [\d.]+ [KMG]iB on each device", words)
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("names", PRESETS, ids="-".join)
def test_every_preset_can_be_asked_what_it_would_do(names, capsys, nothing_compiles):
    assert main(["train", *names, "--dry-run"]) == 0
    assert re.search(r"about [\d.]+ [KMG]iB on each device", capsys.readouterr().out)


def test_the_configuration_that_a_dry_run_prints_is_the_one_that_is_written(finished, capsys):
    arguments = [*TINY, "--num-seeds", "2", "--run-dir", str(finished[0]), "--dry-run"]
    assert main(arguments) == 0
    output = capsys.readouterr().out
    printed = json.loads(output[output.index("{") : output.rindex("}") + 1])
    assert printed == json.loads((finished[0] / "config.json").read_text())["config"]
    assert "unknown" in output  # the toy does not say what memory it needs


def test_devices_share_the_tasks_but_not_the_state():
    config = dataclasses.replace(preset("rl2", "bernoulli-bandit"), num_seeds=1)
    one, two = (memory_per_device(config, n) for n in (1, 2))
    assert one / 2 < two < one
    three_seeds = dataclasses.replace(config, num_seeds=3)
    assert memory_per_device(three_seeds, 1) == 3 * one


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (3 * 2**30, "3.0 GiB"),
        (2**51, "2.0 PiB"),
        (2**71, "2048.0 EiB"),
    ],
)
def test_bytes_are_written_in_a_suitable_unit(count, text):
    assert format_bytes(count) == text


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "command is 'trian'.*did you mean train"),
        (["train"], "train needs two names first"),
        (["train", "--seed", "3", "rl2", "toys"], "train needs two names first"),
        (["train", "rl3", "toys"], "algorithm is 'rl3'.*did you mean rl2"),
        (["train", "rl2", "bernouli-bandit"], "family is .*did you mean bernoulli-bandit"),
        (["train", "MAML", "BernoulliBandit"], r"family is .*\(did you mean bernoulli-bandit\?\)"),
        (["train", "RL2", "t-maze"], r"algorithm is 'RL2'.*\(did you mean rl2\?\)"),
        (
            ["train", "rl2", "t-maze", "algorithm.memory:LSTMs"],
            r"part is 'algorithm.memory:LSTMs'; it must be one of algorithm.memory:gru, "
            r".*\(did you mean algorithm.memory:lstm\?\)",
        ),
        (["train", "rl2", "t-maze", "algorithm.memry:gru"], "did you mean algorithm.memory:gru"),
        (["list", "all"], "list takes no arguments"),
        (["train", "rl2", "bernoulli-bandit", "--tasks.num-pulls", "0"], "num_pulls is 0"),
        (["train", "rl2", "tabular-mdp", "--tasks.episode-length", "0"], "episode_length is 0"),
        (["train", "rl2", "bernoulli-bandit", "--algorithm.num-tasks", "6"], "num_tasks is 6"),
        (
            ["train", "rl2", "bernoulli-bandit", "--algorithm.learning-rate", "1:0:0"],
            "num_updates is 0",
        ),
        ([*TINY, "--devices", "3"], "devices is 3"),
        ([*TINY, "--devices", "1000"], "devices is 1000"),
        ([*TINY, "--total-env-steps", "0"], "total_env_steps is 0"),
        (["evaluate", "nowhere"], "nowhere is not a run"),
        (["resume", "nowhere"], "nowhere is not a run"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_happens(
    arguments, message, tmp_path, capsys, nothing_compiles
):
    assert main(arguments) == 2
    assert re.search(message, error_of(capsys))
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*TINY, "--seeed", "3"], r"--seeed is no option of .*\(did you mean --seed\?\); --help"),
        ([*TINY, "--algorithm.learning-rat=3"], r"mean --algorithm\.learning-rate\?"),
        ([*TINY, "--zzz"], r"--zzz is no option of jaxmeta train toy toys; --help lists them$"),
        (
            [*TINY, "--seed"],
            r"Missing value for argument '--seed'.*--help lists what can be given$",
        ),
        ([*TINY, "3", "4"], r"Unrecognized options: 3, 4"),
        (
            [*RL2_PARTS, "--algorithm.risk.fraction", "0.2"],
            r"fraction is an option of algorithm.risk:cvar, which must be written before it$",
        ),
        (
            [*RL2_PARTS, "--algorithm.memory", "lstm"],
            r"no option of jaxmeta train rl2 t-maze; a part is chosen by one of .*memory:gru, ",
        ),
        (
            [*RL2_PARTS, "algorithm.memory:lstm", "algorithm.memory:gru"],
            r"part is 'algorithm.memory:gru'; it must be chosen once$",
        ),
        (
            [*RL2_PARTS, "--algorithm.memory.hidden-size", "3", "algorithm.memory:lstm"],
            r"algorithm.memory:lstm must be written before the options of that part$",
        ),
        (
            [*RL2_PARTS, "--algorithm.memory-reset", "trail"],
            r"--algorithm.memory-reset is 'trail'; it must be one of trial, episode \(.*trial\?\)$",
        ),
        (["evaluate"], "Missing from jaxmeta evaluate: RUN_DIR"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_an_unreadable_option_is_explained(
    encoding, arguments, message, tmp_path, capsys, monkeypatch, nothing_compiles
):
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with contextlib.redirect_stdout(output):  # tyro frames what it says as that can show
        assert main(arguments) == 2
    assert re.search(message, error_of(capsys).strip())
    assert files_in(tmp_path) == {}


NO_NUMBERS = ("nan", "inf", "-inf", "1e400", "x", "", "1e30", "-1")
NUMBERS = {
    "train": (*TINY[1:], "total-env-steps num-seeds devices processes"),
    "sweep": (*TINY[1:], "--over", "learning_rate=0.1,0.2", "memory-gib num-seeds"),
    "resume": ("run", "total-env-steps"),
    "evaluate": ("run", "episodes shots num-tasks seed"),
    "compare": ("run", "run", "--labels", "a", "b", "episodes num-tasks seed"),
    "robustness": ("run", "points trials episodes seed search.population"),
    "show": ("run", "episodes num-tasks seed seed-index"),
    "export": ("run", "exported", "seed-index"),
}


@pytest.mark.parametrize("command", NUMBERS)
def test_what_is_no_number_of_an_option_is_one_sentence(command, run_dir, capsys, nothing_compiles):
    *arguments, options = NUMBERS[command]
    before = files_in(run_dir.parent)
    for option, text in itertools.product(options.split(), NO_NUMBERS):
        if option == "memory-gib" and text == "1e30":
            continue  # as much as there is
        assert main([command, *arguments, f"--{option}={text}"]) == 2, (option, text)
        error = error_of(capsys)
        if text in ("x", ""):
            assert re.match(rf"jaxmeta: --{option} is '{text}'; it must be a (whole )?num", error)
        elif command != "robustness":  # the toy has no physics, which is said first
            assert option in error.replace("_", "-")
    after = files_in(run_dir.parent)
    assert {**after, "run/.lock": before["run/.lock"]} == before


@pytest.mark.parametrize("text", ["x", "", "1:x", "1e"])
def test_what_is_no_schedule_is_one_sentence(text, capsys, nothing_compiles):
    assert main(["train", "rl2", "t-maze", f"--algorithm.learning-rate={text}"]) == 2
    said = f"--algorithm.learning-rate is '{text}'; it must be a number, or INITIAL:FINAL"
    assert said in error_of(capsys)


def test_a_directory_with_a_run_is_left_alone(run_dir, capsys, nothing_compiles):
    before = files_in(run_dir)
    assert main([*TINY, "--run-dir", str(run_dir)]) == 2
    assert "already holds a run" in error_of(capsys)
    assert files_in(run_dir) == before


def test_a_place_that_cannot_be_written_is_refused_before_compilation(
    tmp_path, capsys, nothing_compiles
):
    (tmp_path / "file").write_text("")
    assert main([*TINY, "--run-dir", str(tmp_path / "file" / "run")]) == 2
    assert "can be written" in error_of(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--split", "tset"],
            "split is 'tset'; it must be one of train, test (did you mean test?)",
        ),
        (["--num-tasks", "0"], "num_tasks is 0"),
        (["--episodes", "0"], "episodes is 0"),
    ],
)
def test_a_bad_evaluation_leaves_the_run_alone(
    arguments, message, run_dir, capsys, nothing_compiles
):
    before = files_in(run_dir)
    assert main(["evaluate", str(run_dir), *arguments]) == 2
    assert message in error_of(capsys)
    assert files_in(run_dir) == before


def test_a_run_that_cannot_be_written_is_refused_before_it_is_evaluated(
    run_dir, monkeypatch, capsys, nothing_compiles
):
    monkeypatch.setattr(os, "access", lambda *args, **kwargs: False)
    assert main(["evaluate", str(run_dir)]) == 2
    assert "cannot be written; choose --no-save" in error_of(capsys)


def test_a_run_does_not_become_shorter(run_dir, capsys, nothing_compiles):
    assert main(["resume", str(run_dir), "--total-env-steps", "1"]) == 2
    assert "total_env_steps is 1" in error_of(capsys)


@pytest.mark.parametrize("command", ["evaluate", "resume"])
def test_a_damaged_checkpoint_is_told(command, run_dir, capsys, nothing_compiles):
    for file in (run_dir / "checkpoints").rglob("*"):
        if file.is_file() and file.stat().st_size > 8 and file.name != "checksums.json":
            os.truncate(file, 8)
    before = files_in(run_dir / "checkpoints")
    assert main([command, str(run_dir)]) == 2
    assert "no checkpoint can be read" in error_of(capsys)
    assert files_in(run_dir / "checkpoints") == before


# How a run may end


def test_a_run_that_diverges_says_what_went_wrong(tmp_path, capsys):
    bad = ["--algorithm.nan-metric-at", "1", "--run-dir", "run"]
    assert main([*TINY, *bad]) == 1
    assert "loss is not finite at update 2" in capsys.readouterr().err


def test_an_interrupt_outside_training_is_no_traceback(run_dir, monkeypatch, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "evaluate", interrupt)
    assert main(["evaluate", str(run_dir)]) == 130
    assert "interrupted" in error_of(capsys)


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "jaxmeta", "--help"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


DRIVER = """
import sys
from jaxmeta.catalog import registry
from jaxmeta import cli
from tests.toys import SlowToCompile, ToyFamily, ToyLearner
registry.register_algorithm("toy", ToyLearner)
registry.register_family("toys", ToyFamily)
registry.register_family("slow-toys", SlowToCompile)
sys.exit(cli.main())
"""


def start(*arguments):
    root = Path(__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *map(str, arguments)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'envs'}"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_an_interrupt_of_a_run_that_has_vanished_is_told(tmp_path):
    config = dataclasses.replace(preset("rl2", "t-maze"), run_dir=str(tmp_path / "gone"))
    result = TrainResult(config, (), {}, {}, {}, 16, tmp_path / "gone")
    message, code = explain(training.TrainingInterrupted(signal.SIGTERM, result))
    assert code == 128 + signal.SIGTERM
    assert message.startswith("SIGTERM stopped training after 16 environment steps, and ")
    assert "gone is not a run: there is no such directory" in message


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_with_a_way_to_go_on(signum, tmp_path):
    arguments = [*TINY, "--total-env-steps", "1_000_000_000", "--run-dir", tmp_path / "run"]
    process = start(*arguments)
    try:
        wait_for_a_chunk(process, tmp_path / "run" / "metrics.jsonl")
        process.send_signal(signum)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signum, errors
    assert output == ""
    assert f"go on with: jaxmeta resume {tmp_path / 'run'}" in errors.splitlines()[-1]
    assert "Traceback" not in errors


def stop_while_compiling(signum, *arguments):
    """Returns the exit code, and the last line on stderr of a command that compiled for ever."""
    process = start(*arguments)
    try:
        assert process.stderr is not None
        said = itertools.takewhile(lambda line: SLOW not in line, process.stderr)
        said = [*said]  # up to what XLA itself says of what it is doing
        assert process.poll() is None, said
        assert ("compiling\n" in said) == (arguments[0] != "evaluate")
        process.send_signal(signum)
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert output == ""
    assert "Traceback" not in errors
    return process.returncode, errors.splitlines()[-1]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_compilation_and_leaves_nothing_of_a_run_that_did_not_begin(signum, tmp_path):
    given = [
        TINY[0],
        TINY[1],
        "slow-toys",
        *TINY[3:],
        "--no-check",
        "--run-dir",
        tmp_path / "runs" / "run",
    ]
    code, message = stop_while_compiling(signum, *given)
    assert code == 128 + signum
    name = signal.Signals(signum).name
    assert message == f"jaxmeta: {name} stopped training before it began; nothing is left of it"
    assert files_in(tmp_path) == {}
    assert os.listdir(tmp_path / "runs") == []


def test_a_signal_while_a_sweep_compiles_leaves_nothing_of_it(tmp_path):
    given = ["sweep", "toy", "slow-toys", *TINY[3:], "--no-check", "--over", "learning_rate=1,2"]
    code, message = stop_while_compiling(signal.SIGTERM, *given, "--run-dir", tmp_path / "run")
    assert code == 128 + signal.SIGTERM
    assert message == "jaxmeta: interrupted by SIGTERM; what was saved until now is kept"
    assert os.listdir(tmp_path) == []


def test_ctrl_c_while_an_evaluation_compiles_ends_it(run_dir):
    record = run_dir / "config.json"
    record.write_text(record.read_text().replace("toys:ToyFamily", "toys:SlowToCompile"))
    before = files_in(run_dir)
    given = ["evaluate", run_dir, "--num-tasks", "7", "--import", "tests.toys"]
    code, message = stop_while_compiling(signal.SIGINT, *given)
    assert code == 128 + signal.SIGINT
    assert message == "jaxmeta: interrupted by SIGINT; what was saved until now is kept"
    assert files_in(run_dir) == before


def test_a_signal_that_ends_the_compilation_of_a_resumed_run_leaves_it_as_it_is(run_dir):
    record = run_dir / "config.json"
    record.write_text(record.read_text().replace("toys:ToyFamily", "toys:SlowToCompile"))
    before = files_in(run_dir)
    given = ["resume", run_dir, "--total-env-steps", "64", "--import", "tests.toys"]
    code, message = stop_while_compiling(signal.SIGTERM, *given)
    assert code == 128 + signal.SIGTERM
    again = f"go on with: jaxmeta resume {run_dir} --import tests.toys --total-env-steps 64"
    assert message == f"jaxmeta: SIGTERM stopped training after 16 environment steps; {again}"
    after = files_in(run_dir)
    assert {**after, ".lock": before[".lock"]} == before


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudoterminals")
def test_ctrl_c_in_a_terminal_saves_and_says_how_to_go_on(tmp_path):
    root, run_dir = Path(__file__).parents[1], tmp_path / "run"
    arguments = [*TINY, "--total-env-steps", "1_000_000_000", "--run-dir", str(run_dir)]
    own_terminal = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", own_terminal + DRIVER, *arguments],
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'envs'}", "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = []
    reader = threading.Thread(target=lambda: shown.extend(read_all(ours)))
    reader.start()
    try:
        deadline = time.monotonic() + 120
        log = run_dir / "metrics.jsonl"
        while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        os.write(ours, b"\x03")  # the terminal makes it a SIGINT, as for a person
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        reader.join(timeout=10)
        os.close(ours)
    text = b"".join(shown).decode()
    assert "finishing the chunk, then saving; Ctrl-C again stops at once" in text
    assert "jaxmeta resume" in text.splitlines()[-1]
    assert "Traceback" not in text
    assert load(run_dir).env_steps > 0


def read_all(terminal):
    with contextlib.suppress(OSError):  # how a terminal ends
        while data := os.read(terminal, 4096):
            yield data


def wait_for_a_chunk(process, path):
    deadline = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "training did not begin"
        time.sleep(0.05)
