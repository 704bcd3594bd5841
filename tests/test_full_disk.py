"""What a full, read-only or vanished disk does to a run: one sentence, and nothing is lost."""

import builtins
import contextlib
import errno
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from orbax.checkpoint import CheckpointManager

import jaxmeta
from jaxmeta.catalog import registry
from jaxmeta.cli import main
from jaxmeta.config import TrainConfig
from jaxmeta.evaluation import evaluate as evaluation
from jaxmeta.evaluation import figure as plots
from jaxmeta.runs.checkpoint import CheckpointError
from jaxmeta.runs.directory import RunDirectory
from jaxmeta.runs.logs import MetricsLog, TensorBoard, read_log
from jaxmeta.runs.result import load
from jaxmeta.runtime.files import reason, write_atomically
from jaxmeta.training.train import NotSaved, TrainingDiverged, resume, train
from tests.toys import ToyFamily, ToyLearner

SIZE, CHUNKS = 2, 6
ROOT = Path(__file__).parents[1]

# Of a command line, whose warnings are sentences for people.
pytestmark = pytest.mark.filterwarnings("default::UserWarning")


@pytest.fixture(autouse=True, scope="module")
def toys():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ALGORITHMS, "toy", ToyLearner)
        patch.setitem(registry.FAMILIES, "toys", ToyFamily)
        yield


@pytest.fixture
def mount(tmp_path):
    """Mounts a small disk, where that is allowed, and mounts it again with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk of our own: {done.stderr.strip()}")
        return place

    def of(kibibytes):
        return mount("-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs")

    mount.of, mount.again = of, lambda options: mount("-o", f"remount,{options}")
    yield mount
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True)


def fill(place):
    """Leaves no byte on a disk."""
    with contextlib.suppress(OSError), open(place / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.fixture
def config(tmp_path):
    return TrainConfig(
        algorithm=ToyLearner(),
        tasks=ToyFamily(),
        seed=3,
        total_env_steps=CHUNKS * SIZE * 4,
        updates_per_chunk=SIZE,
        eval_tasks=8,
        checkpoint_every=2,
        run_dir=str(tmp_path / "disk" / "run"),
    )


@pytest.fixture(scope="module")
def whole():
    """A run that nothing disturbed."""
    runs = {}

    def get(config):
        if not runs:
            runs[0] = train(replace(config, run_dir=None), progress=False)
        return runs[0]

    return get


def assert_same(result, expected):
    np.testing.assert_array_equal(result.params["w"], expected.params["w"])
    np.testing.assert_array_equal(result.state.count, expected.state.count)
    for name, values in expected.metrics.items():
        np.testing.assert_array_equal(result.metrics[name], values)


def after(chunks, do):
    def callback(info):
        if info.update == chunks * SIZE:
            do()

    return callback


# A disk of our own


def test_a_run_on_a_tiny_disk_ends_with_one_sentence_and_resumes_when_there_is_room(
    mount, capsys, tmp_path
):
    disk = mount.of(400)
    longer = ["train", "toy", "toys", "--updates-per-chunk", "10", "--eval-tasks", "8"]
    longer += ["--total-env-steps", "12000", "--no-evaluate"]
    run_dir = disk / "run"
    assert main([*longer, "--run-dir", str(run_dir)]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jaxmeta:")]
    pattern = (
        rf"jaxmeta: the run in {run_dir} cannot be saved: No space left on device; the newest "
        rf"whole checkpoint is {run_dir}/checkpoints/(\d+); once it can, go on with: "
        rf"jaxmeta resume {run_dir}"
    )
    assert re.fullmatch(pattern, said[-1])
    assert len(said) <= 3  # and perhaps that TensorBoard and the metrics had no room
    assert load(run_dir).env_steps == 4 * int(re.fullmatch(pattern, said[-1])[1])
    assert main(["resume", str(run_dir), "--no-evaluate"]) == 1  # there is no more room yet
    assert "Traceback" not in capsys.readouterr().err
    mount.again("size=8m")
    assert main(["resume", str(run_dir), "--no-evaluate"]) == 0
    assert main([*longer, "--run-dir", str(tmp_path / "other")]) == 0
    assert_same(load(run_dir), load(tmp_path / "other"))


def test_what_fills_the_disk_between_checkpoints_does_not_stop_training(mount, config, recwarn):
    disk = mount.of(1024)

    def make_room():
        (disk / "filler").unlink()

    def callback(info):
        after(1, lambda: fill(disk))(info)
        after(3, make_room)(info)

    many = replace(config, checkpoint_every=4, num_seeds=64)  # more than a page, every chunk
    expected = train(replace(many, run_dir=None), progress=False)
    assert_same(train(many, callback=callback, progress=False), expected)
    assert_same(load(config.run_dir), expected)  # no line of the metrics is lost
    said = sorted(str(w.message) for w in recwarn)
    assert len(said) == 2
    assert re.search(r"metrics.jsonl cannot be written: No space left.*is kept until", said[0])
    assert re.search(r"tensorboard cannot be .*: No space left.*without TensorBoard", said[1])


@pytest.mark.parametrize("options", ["size=4k", "ro"])
def test_a_disk_that_takes_nothing_is_refused_before_training(
    options, mount, config, capsys, monkeypatch
):
    disk = mount.of(4)
    fill(disk)
    mount.again(options)
    monkeypatch.setattr(
        jaxmeta.training.train, "compile_chunk", lambda *args: pytest.fail("compiled")
    )
    assert main(["train", "toy", "toys", "--run-dir", config.run_dir]) == 2
    said = capsys.readouterr().err.splitlines()
    assert re.search(r"must be a directory that can be written \((No space|Read-only)", said[-1])


def test_a_disk_that_becomes_read_only_costs_only_the_way_from_the_last_checkpoint(
    mount, config, whole
):
    mount.of(1024)
    place = f"{config.run_dir}/checkpoints"

    def become_read_only():  # by a mount above it, as files of the run are open
        for options in (["--bind", place], ["-o", "remount,bind,ro"]):
            subprocess.run(["mount", *options, place], check=True)

    try:
        with pytest.raises(NotSaved, match=r"Read-only.*newest whole checkpoint is .*/4") as caught:
            train(config, callback=after(3, become_read_only), progress=False)
    finally:
        subprocess.run(["umount", "--lazy", place], check=False)
    assert caught.value.checkpoint == Path(place, "4")
    assert load(config.run_dir).env_steps == 4 * 4
    assert_same(resume(config.run_dir, progress=False), whole(config))


def test_an_evaluation_is_shown_whose_files_find_no_room(mount, config, capsys):
    disk = mount.of(1024)
    train(config, progress=False)
    fill(disk)
    assert main(["evaluate", config.run_dir, "--num-tasks", "8"]) == 1
    captured = capsys.readouterr()
    assert "ToyLearner on ToyFamily" in captured.out
    assert "The numbers" not in captured.out
    assert re.search(r"^jaxmeta: .*evaluation-8-tasks.json cannot be .*: No space", captured.err)
    with pytest.warns(UserWarning, match=r"evaluation-8-tasks.json cannot be written: No space"):
        found = evaluation.evaluate(config.run_dir, num_tasks=8)
    assert found.returns.shape == (1, 8, 1)


# A double, for every file


class Full(io.FileIO):
    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def refuse(monkeypatch):
    """Makes every file full whose path has a part like this."""
    real = builtins.open

    def refuse(pattern):
        def opened(file, mode="r", *args, **kwargs):
            full = not isinstance(file, int) and re.search(pattern, os.fspath(file))
            if not full or not set(mode) & set("wax+"):
                return real(file, mode, *args, **kwargs)
            return Full(file, mode.replace("b", "").replace("t", ""))

        monkeypatch.setattr(builtins, "open", opened)

    return refuse


COMMAND = ["train", "toy", "toys", "--updates-per-chunk", "2", "--total-env-steps", "48"]
COMMAND += ["--eval-tasks", "8", "--algorithm.size", "4"]


@pytest.mark.parametrize(
    ("file", "code", "sentence", "saved"),
    [
        (r"/config\.json", 2, r"must be a directory that can be written \(No space", None),
        (r"/metrics\.jsonl$", 1, "cannot be saved: No space left on device; nothing", None),
        (r"tfevents", 0, "training goes on without TensorBoard", 12),
        (r"/checksums\.json", 1, r"cannot be saved: No space .*checkpoint is .*/12", 12),
        (r"/evaluation\.json", 1, r"evaluation\.json cannot be written: No space", 12),
        (r"/evaluation\.npz", 1, r"evaluation\.npz cannot be written: No space", 12),
        (r"/adaptation\.png", 0, r"adaptation\.png could not be drawn: No space", 12),
    ],
)
def test_whatever_file_finds_no_room_is_named_and_nothing_else_is_lost(
    file, code, sentence, saved, refuse, tmp_path, capsys, monkeypatch
):
    run_dir = tmp_path / "run"
    refuse(file)
    assert main([*COMMAND, "--run-dir", str(run_dir)]) == code
    monkeypatch.undo()
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert len(re.findall(f"^jaxmeta: .*{sentence}", captured.err, re.MULTILINE)) == 1
    if saved is not None:
        assert load(run_dir).env_steps == 4 * saved
    if "evaluation" in file or "adaptation" in file:
        assert "ToyLearner on ToyFamily" in captured.out
        assert "The curves" not in captured.out
        assert "The run is in" in captured.out


def test_a_checkpoint_that_finds_no_room_ends_the_run_in_one_sentence(
    tmp_path, capsys, monkeypatch
):
    def save(self, update, *args, **kwargs):
        if update == 8:  # as tensorstore says it
            raise ValueError("RESOURCE_EXHAUSTED: Failed to write: No space left on device")
        return real(self, update, *args, **kwargs)

    real = CheckpointManager.save
    monkeypatch.setattr(CheckpointManager, "save", save)
    run = ["--checkpoint-every", "2", "--run-dir", str(tmp_path / "run")]
    assert main([*COMMAND, *run]) == 1
    (said,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("jaxmeta:")]
    assert "No space left on device; the newest whole checkpoint is" in said
    assert f"{tmp_path}/run/checkpoints/4; once it can, go on with: jaxmeta resume" in said


def test_an_error_of_saving_that_is_none_of_the_machines_keeps_its_traceback(config, monkeypatch):
    def save(self, *args, **kwargs):
        raise ValueError("a defect")

    monkeypatch.setattr(CheckpointManager, "save", save)
    with pytest.raises(ValueError, match="a defect"):
        train(config, progress=False)


def test_a_directory_that_vanished_is_told_and_not_made_anew(config):
    with pytest.raises(CheckpointError, match=r"cannot be saved: its directory is gone"):
        train(config, callback=after(1, lambda: shutil.rmtree(config.run_dir)), progress=False)
    assert not Path(config.run_dir).exists()


# Logs


def test_metrics_that_find_no_room_are_written_when_there_is_some(tmp_path, recwarn):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    room = [5]  # bytes

    class Tight:
        def write(self, data):
            if not room[0]:
                raise OSError(errno.ENOSPC, "full")
            taken, room[0] = data[: room[0]], max(room[0] - len(data), 0)
            return real.write(taken)

        def __getattr__(self, name):
            return getattr(real, name)

    real, log._file = log._file, Tight()
    for update in (1, 2, 3):
        log.write_updates(range(update, update + 1), 4, 0.0, {"x": np.full((1, 1), update)})
    with pytest.raises(OSError, match="full"):
        log.sync()
    assert len(recwarn) == 1  # once, however often
    room[0] = 10_000
    log.sync()
    log._file = real
    log.close()
    read = read_log(tmp_path / "metrics.jsonl", 3, 1).metrics["x"]
    np.testing.assert_array_equal(read, [[1], [2], [3]])


def test_events_are_given_up_where_they_cannot_be_written(refuse, tmp_path, recwarn):
    refuse("tfevents")
    with TensorBoard(tmp_path / "events", 0, 0) as board:
        for step in range(1000):  # more than any queue would hold
            board.write(step, {"x": np.zeros(2)})
            board.flush()
    assert [str(w.message)[-38:] for w in recwarn] == ["; training goes on without TensorBoard"]


# What was found


def test_a_figure_that_cannot_be_drawn_ends_no_evaluation(config, capsys, monkeypatch):
    train(config, progress=False)

    def plot(*args):
        raise ValueError("Key backend: 'nonsense'\nis not valid")

    monkeypatch.setattr(plots, "plot_adaptation", plot)
    assert main(["evaluate", config.run_dir, "--num-tasks", "8"]) == 0
    captured = capsys.readouterr()
    pattern = r"jaxmeta: .*adaptation-8-tasks.png could not be drawn: Key backend: 'n.*' is not"
    assert re.match(pattern, captured.err)
    assert captured.err.count("\n") == 1
    assert "The numbers" in captured.out
    assert "The curves" not in captured.out


def test_a_broken_backend_of_matplotlib_ends_no_evaluation(config):
    train(config, progress=False)
    program = (
        "import sys, tests.toys; from jaxmeta.evaluation.evaluate import evaluate;"
        "print(evaluate(sys.argv[1], num_tasks=8).returns.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, config.run_dir],
        cwd=ROOT,
        env=os.environ | {"MPLBACKEND": "nonsense", "PYTHONPATH": f"{ROOT}:{ROOT / 'envs'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 8, 1)\n"
    assert "could not be drawn: Key backend" in done.stderr


@pytest.mark.parametrize("closed", [False, True])
def test_an_output_that_takes_nothing_is_one_sentence(closed):
    if not closed and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    target = ">&-" if closed else ">/dev/full"
    command = f'"{sys.executable}" -m jaxmeta --help {target}'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    said = "" if closed else "jaxmeta: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (0 if closed else 1, said)


def test_only_what_the_machine_refuses_is_its_reason():
    full = OSError(errno.ENOSPC, "full")
    assert reason(full) == os.strerror(errno.ENOSPC)
    assert reason(ValueError("[Errno 28] No space left on device: /x")) == "No space left on device"
    assert reason(ValueError("no")) is None
    assert reason(TimeoutError(errno.ETIMEDOUT, "late")) is None
    wrapped = RuntimeError("saving failed")
    wrapped.__cause__ = full
    assert reason(wrapped) == os.strerror(errno.ENOSPC)
    handled = TypeError("a defect")
    handled.__context__ = full  # an error while another was handled is its own
    assert reason(handled) is None


def test_a_file_that_could_not_be_replaced_is_still_there(refuse, tmp_path, monkeypatch):
    path = tmp_path / "evaluation.json"
    write_atomically(path, "old")
    refuse("evaluation")
    with pytest.raises(OSError, match=r"No space left on device: '.*evaluation\.json'"):
        write_atomically(path, "new")
    assert os.listdir(tmp_path) == ["evaluation.json"]
    assert path.read_text() == "old"


# Beside a run


def test_a_run_may_be_evaluated_while_it_trains(config, whole):
    seen = []

    def look():
        found = evaluation.evaluate(config.run_dir, num_tasks=8)
        seen.append((found.env_steps, Path(config.run_dir, "evaluation-8-tasks.json").exists()))

    result = train(config, callback=after(4, look), progress=False)
    assert seen == [(4 * SIZE * 4, True)]
    assert_same(result, whole(config))


def test_a_run_that_diverged_unsaved_keeps_its_metrics_until_it_is_trained_again(config, whole):
    bad = replace(config, algorithm=ToyLearner(nan_metric_at=1))
    with pytest.raises(TrainingDiverged) as caught:
        train(bad, progress=False)
    log = Path(config.run_dir, "metrics.jsonl")
    assert caught.value.log == log
    message = f"nothing was saved but {log}, which training there again replaces"
    assert str(caught.value).endswith(message)
    assert [len(x) for x in read_log(log, 2, 1).metrics.values()] == [2, 2]
    with pytest.raises(TrainingDiverged):
        resume(config.run_dir, progress=False)
    assert_same(train(config, progress=False), whole(config))
    assert_same(load(config.run_dir), whole(config))


def test_a_run_that_does_not_begin_where_another_diverged_leaves_the_metrics_of_that(config):
    bad = replace(config, algorithm=ToyLearner(nan_metric_at=1))
    with pytest.raises(TrainingDiverged) as caught:
        train(bad, progress=False)
    log = caught.value.log
    before = log.read_text()
    with RunDirectory.create(config, 1, "cpu") as run:
        assert run.withdraw()
    assert log.read_text() == before


def test_a_run_that_diverged_later_says_so_where_another_is_to_be_trained(config):
    bad = replace(config, algorithm=ToyLearner(nan_metric_at=6))
    with pytest.raises(TrainingDiverged):
        train(bad, progress=False)
    with pytest.raises(jaxmeta.ConfigError, match="already holds a run; it diverged at update 7"):
        train(config, progress=False)
