import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxmeta import GRU, MAML, RL2
from jaxmeta.catalog.presets import PRESETS
from jaxmeta.config import TrainConfig
from jaxmeta.engine import make_train
from jaxmeta.evaluation import evaluate as evaluation
from jaxmeta.runs.result import load
from jaxmeta.runtime import device_memory
from jaxmeta.training import train as training
from jaxmeta.training.train import TrainingDiverged, TrainingInterrupted, resume, train
from jaxmeta_envs import BernoulliBandit, Sinusoid, TabularMDP
from jaxmeta_envs.core.errors import ConfigError
from tests.toys import ToyFamily, ToyLearner

CHUNKS, SIZE = 6, 2


class Boom(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def compilations_are_kept(tmp_path_factory):
    """Nearly every test trains the same toy; compiling it takes most of the time."""
    settings = {
        "jax_enable_compilation_cache": True,
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, before):
        compilation_cache.reset_cache()
        for name, value in values.items():
            jax.config.update(name, value)
        if values is settings:
            yield


@pytest.fixture(autouse=True)
def cheap_evaluation(monkeypatch):
    def quick_evaluation(config, params, num_tasks):
        return {"eval/return": np.asarray(params["w"]).sum(axis=1, dtype=np.float64)}

    monkeypatch.setattr(evaluation, "quick_evaluation", quick_evaluation)


@pytest.fixture
def config(tmp_path):
    return TrainConfig(
        algorithm=ToyLearner(),
        tasks=ToyFamily(),
        seed=3,
        num_seeds=2,
        total_env_steps=CHUNKS * SIZE * 4,
        updates_per_chunk=SIZE,
        eval_every=2,
        checkpoint_every=4,
        run_dir=str(tmp_path / "run"),
    )


@pytest.fixture(scope="module")
def whole():
    """A run without a break, by its number of chunks."""
    runs = {}

    def get(config, chunks=CHUNKS):
        if chunks not in runs:
            long = replace(config, run_dir=None, total_env_steps=chunks * SIZE * 4)
            runs[chunks] = train(long, progress=False)
        return runs[chunks]

    return get


def stop_after(chunks, do):
    def callback(info):
        if info.update == chunks * SIZE:
            do()

    return callback


def boom():
    raise Boom


def assert_same(result, expected):
    assert result.env_steps == expected.env_steps
    for part in ("state", "metrics", "evaluations"):
        jax.tree.map(np.testing.assert_array_equal, getattr(result, part), getattr(expected, part))


def lines(config):
    with open(f"{config.run_dir}/metrics.jsonl") as file:
        return [json.loads(line) for line in file]


def break_after(config, chunks, do=boom, error=Boom):
    with pytest.raises(error) as caught:
        train(config, callback=stop_after(chunks, do), progress=False)
    return caught.value


# A whole run


@pytest.mark.parametrize("devices", [1, 4])
def test_every_seed_follows_the_path_of_make_train(config, whole, devices):
    result = train(replace(config, run_dir=None, devices=devices), progress=False)
    state, metrics = jax.jit(jax.vmap(make_train(config)))(
        jax.numpy.stack([jax.random.key(3), jax.random.key(4)])
    )
    np.testing.assert_array_equal(result.state.count, state.count)
    np.testing.assert_allclose(result.params["w"], state.params["w"], rtol=1e-5, atol=1e-6)
    for name in ("return", "loss"):
        assert result.metrics[name].shape == (CHUNKS * SIZE, 2)
        np.testing.assert_allclose(result.metrics[name], metrics[name].T, rtol=1e-5)


def test_the_result_says_what_was_done(config, whole):
    result = whole(config)
    assert result.config == replace(config, run_dir=None)
    assert result.env_steps == config.plan().env_steps
    assert result.run_dir is None
    assert result.params["w"].shape == (2, 3)
    assert len(result.params["w"].sharding.device_set) == 1
    np.testing.assert_array_equal(result.evaluations["update"], [4, 8, 12])
    last = np.asarray(result.params["w"]).sum(axis=1, dtype=np.float64)
    np.testing.assert_array_equal(result.evaluations["eval/return"][-1], last)
    params = jax.tree.map(lambda x: x[0], result.params)
    assert result.policy.begin(params, jax.random.key(0)) == ()


def test_a_run_on_disk_is_loaded_as_it_was_returned(config, whole):
    result = train(config, progress=False)
    assert_same(result, whole(config))
    loaded = load(config.run_dir)
    assert_same(loaded, result)
    assert str(loaded.run_dir) == str(result.run_dir) == config.run_dir == loaded.config.run_dir


def test_the_metrics_file_has_every_update_and_evaluation_in_order(config):
    train(config, progress=False)
    written = lines(config)
    assert [x["update"] for x in written if "metrics" in x] == list(range(1, CHUNKS * SIZE + 1))
    assert [x["update"] for x in written if "evaluation" in x] == [4, 8, 12]
    assert all(x["env_steps"] == 4 * x["update"] for x in written)
    assert sorted(written, key=lambda x: x["update"]) == written


def test_a_chunk_is_compiled_once_however_many_there_are(config):
    counts = []
    for chunks, size in ((1, 30), (5, 31)):
        learner = ToyLearner(size=size)
        once = replace(config, algorithm=learner, run_dir=None, num_seeds=1)
        before = ToyLearner.traces[learner]
        train(replace(once, total_env_steps=chunks * SIZE * 4), progress=False)
        counts.append(ToyLearner.traces[learner] - before)
    assert counts == [1, 1]


def test_evaluation_happens_at_the_end_if_no_other_time_is_asked_for(config):
    result = train(replace(config, run_dir=None, eval_every=0), progress=False)
    np.testing.assert_array_equal(result.evaluations["update"], [CHUNKS * SIZE])


def test_the_real_evaluation_takes_what_training_gives_it(config, monkeypatch):
    monkeypatch.undo()
    result = train(replace(config, run_dir=None, eval_every=0, eval_tasks=8), progress=False)
    assert result.evaluations["eval/return"].shape == (1, 2)


# Callbacks and errors


def test_the_callback_sees_every_chunk(config):
    seen = []
    result = train(replace(config, run_dir=None), callback=seen.append, progress=False)
    assert [info.update for info in seen] == [2, 4, 6, 8, 10, 12]
    assert [info.env_steps for info in seen] == [8, 16, 24, 32, 40, 48]
    together = np.concatenate([info.metrics["loss"] for info in seen])
    np.testing.assert_array_equal(together, result.metrics["loss"])
    assert 0 < seen[0].seconds < seen[-1].seconds


@pytest.mark.parametrize("chunks", [1, 3, 4])
def test_a_run_that_an_error_ended_resumes_to_the_same_bit(config, whole, chunks):
    break_after(config, chunks)
    assert load(config.run_dir).env_steps == chunks * SIZE * 4
    assert_same(resume(config.run_dir, progress=False), whole(config))
    assert_same(load(config.run_dir), whole(config))


def test_an_error_in_an_evaluation_loses_nothing(config, whole, monkeypatch):
    good = evaluation.quick_evaluation
    monkeypatch.setattr(evaluation, "quick_evaluation", lambda *args: boom())
    with pytest.raises(Boom):
        train(config, progress=False)
    assert load(config.run_dir).env_steps == 2 * SIZE * 4
    monkeypatch.setattr(evaluation, "quick_evaluation", good)
    assert_same(resume(config.run_dir, progress=False), whole(config))


def test_an_error_is_not_hidden_by_one_while_saving(config, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("jaxmeta.runs.directory.RunDirectory.save", fail)
    error = break_after(config, 1)
    assert "disk full" in error.__notes__[0]


# Resuming


def test_a_run_that_never_saved_resumes_from_its_start(config, whole, monkeypatch):
    monkeypatch.setattr("jaxmeta.training.loop.Loop._save_despite", lambda *args: None)
    break_after(config, 2)
    with pytest.raises(ConfigError, match="has no checkpoint yet"):
        load(config.run_dir)
    assert_same(resume(config.run_dir, progress=False), whole(config))
    assert [x["update"] for x in lines(config) if "metrics" in x] == list(range(1, 13))


def test_a_complete_run_is_returned_without_compiling(config, monkeypatch):
    result = train(config, progress=False)
    monkeypatch.setattr(training, "compile_chunk", boom)
    assert_same(resume(config.run_dir, progress=False), result)


def test_a_run_may_be_made_longer(config, whole):
    train(config, progress=False)
    longer = resume(config.run_dir, total_env_steps=8 * SIZE * 4, progress=False)
    expected = whole(config, chunks=8)
    assert_same(longer, expected)
    assert load(config.run_dir).config.total_env_steps == 8 * SIZE * 4


def test_a_run_may_not_become_shorter_or_another_one(config):
    break_after(config, 1)
    with pytest.raises(ConfigError, match="total_env_steps is 8; it must be at least 48"):
        resume(config.run_dir, total_env_steps=8, progress=False)
    with pytest.raises(ConfigError, match=r"algorithm is .*was started with"):
        resume(config.run_dir, config=replace(config, algorithm=ToyLearner(size=9)))
    resume(config.run_dir, config=replace(config, run_dir=None), progress=False)


def test_a_damaged_newest_checkpoint_costs_only_the_way_from_the_one_before(config, whole):
    train(replace(config, checkpoint_every=2), progress=False)
    newest = f"{config.run_dir}/checkpoints/{CHUNKS * SIZE}"
    os.truncate(f"{newest}/state/_METADATA", 10)
    with pytest.warns(UserWarning, match="is damaged.*Going on from update 8"):
        result = resume(config.run_dir, progress=False)
    assert_same(result, whole(config))
    assert_same(load(config.run_dir), whole(config))


def test_fewer_devices_than_the_run_began_with_are_warned_of(config):
    break_after(config, 1)
    path = f"{config.run_dir}/config.json"
    with open(path) as file:
        record = json.load(file)
    assert (record["devices"], record["platform"]) == (4, "cpu")
    with open(path, "w") as file:
        json.dump(record | {"devices": 64}, file)
    with pytest.warns(UserWarning, match="began on 64 cpu devices and goes on on 4"):
        resume(config.run_dir, progress=False)


def test_a_run_goes_on_on_as_many_devices_as_it_began_with(config):
    few = replace(config, devices=2)
    break_after(few, 1)
    expected = train(replace(few, run_dir=None), progress=False)
    assert_same(resume(config.run_dir, progress=False), expected)


# Numbers that are not finite


def test_a_metric_that_is_not_finite_stops_the_run_by_name(config):
    bad = replace(config, algorithm=ToyLearner(nan_metric_at=8), checkpoint_every=2)
    with pytest.raises(TrainingDiverged, match=r"loss is not finite at update 9 of seed 3") as info:
        train(bad, progress=False)
    error = info.value
    assert (error.metric, error.update, error.seed) == ("loss", 9, 3)
    assert str(error.checkpoint) == f"{config.run_dir}/checkpoints/8"
    assert error.metrics["loss"].shape == (10, 2)
    assert lines(config)[-1]["diverged"] == {"metric": "loss", "update": 9, "seed": 3}
    assert lines(config)[-2]["update"] == 10
    assert lines(config)[-3]["metrics"]["loss"] == [None, None]
    assert load(config.run_dir).env_steps == 8 * 4
    with pytest.raises(TrainingDiverged):
        resume(config.run_dir, progress=False)


def test_parameters_that_are_not_finite_are_not_saved(config):
    bad = replace(config, algorithm=ToyLearner(nan_params_at=7), checkpoint_every=1)
    message = r"params\['w'\] is not finite at update 8 of seed 3; .*checkpoints/6"
    with pytest.raises(TrainingDiverged, match=message):
        train(bad, progress=False)
    assert sorted(os.listdir(f"{config.run_dir}/checkpoints")) == ["2", "4", "6"]


def test_a_run_that_diverges_before_it_was_saved_says_so(config):
    bad = replace(config, algorithm=ToyLearner(nan_metric_at=0), run_dir=None)
    with pytest.raises(TrainingDiverged, match="nothing was saved") as info:
        train(bad, progress=False)
    assert info.value.checkpoint is None


# Signals


def send(signum):
    return lambda: os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_chunk_saves_and_resumes_to_the_same_bit(config, whole, signum):
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    error = break_after(config, 3, send(signum), TrainingInterrupted)
    assert error.signum == signum
    assert str(error.run_dir) == config.run_dir
    assert error.result.env_steps == 3 * SIZE * 4
    assert f"{signal.Signals(signum).name} stopped training at 24 env steps" in str(error)
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before
    assert_same(resume(config.run_dir, progress=False), whole(config))


def test_a_signal_loses_nothing_of_a_run_that_is_not_written(config):
    error = break_after(replace(config, run_dir=None), 3, send(signal.SIGINT), TrainingInterrupted)
    assert error.run_dir is None
    assert error.result.metrics["loss"].shape == (6, 2)
    np.testing.assert_array_equal(error.result.state.count, [6, 6])


def test_a_signal_in_the_last_chunk_is_not_swallowed(config, whole):
    error = break_after(config, CHUNKS, send(signal.SIGTERM), TrainingInterrupted)
    assert error.result.env_steps == config.plan().env_steps
    assert_same(resume(config.run_dir, progress=False), whole(config))


def while_compiling(monkeypatch, do):
    compile_chunk = training.compile_chunk

    def disturbed(*args):
        do()
        return compile_chunk(*args)

    monkeypatch.setattr(training, "compile_chunk", disturbed)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("do", [send(signal.SIGTERM), boom], ids=["signal", "error"])
def test_what_ends_a_run_before_it_begins_leaves_nothing_of_it(config, do, there, monkeypatch):
    run_dir, note = Path(config.run_dir), Path(config.run_dir, "note.txt")
    if there:
        run_dir.mkdir()
        note.write_text("mine")
    while_compiling(monkeypatch, do)
    with pytest.raises((TrainingInterrupted, Boom)) as caught:
        train(config, progress=False)
    if isinstance(caught.value, TrainingInterrupted):
        assert (caught.value.result.env_steps, caught.value.result.state) == (0, None)
        assert caught.value.run_dir is None
    assert [*run_dir.rglob("*")] == ([note] if there else [])
    assert run_dir.exists() == there


def test_a_signal_while_a_resumed_run_compiles_leaves_it_where_it_was(config, whole, monkeypatch):
    error = break_after(config, 3, send(signal.SIGTERM), TrainingInterrupted)
    with monkeypatch.context() as patch:
        while_compiling(patch, send(signal.SIGINT))
        with pytest.raises(TrainingInterrupted) as caught:
            resume(config.run_dir, progress=False)
    assert str(caught.value.run_dir) == config.run_dir
    assert caught.value.signum == signal.SIGINT
    assert_same(caught.value.result, error.result)
    assert_same(resume(config.run_dir, progress=False), whole(config))


def test_a_run_whose_metrics_were_removed_still_goes_on(config, whole):
    break_after(config, 2)
    os.remove(f"{config.run_dir}/metrics.jsonl")
    with pytest.warns(UserWarning, match="lacks 4 of 4 updates"):
        result = resume(config.run_dir, progress=False)
    jax.tree.map(np.testing.assert_array_equal, result.state, whole(config).state)


def test_a_second_interrupt_stops_at_once(config, whole):
    def twice():
        send(signal.SIGINT)()
        send(signal.SIGINT)()

    break_after(replace(config, checkpoint_every=2), 3, twice, KeyboardInterrupt)
    assert load(config.run_dir).env_steps == 2 * SIZE * 4  # the checkpoint before
    assert_same(resume(config.run_dir, progress=False), whole(config))


def test_outside_the_main_thread_training_leaves_signals_alone(config):
    results, handler = [], signal.getsignal(signal.SIGTERM)
    handlers = []

    def work():
        quiet = replace(config, run_dir=None)
        watch = stop_after(1, lambda: handlers.append(signal.getsignal(signal.SIGTERM)))
        results.append(train(quiet, callback=watch, progress=False))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results[0].env_steps == config.plan().env_steps
    assert handlers == [handler]


# What a person sees (what XLA itself writes depends on its version)


def test_progress_is_plain_lines_where_there_is_no_terminal(config, capsys):
    train(replace(config, run_dir=None))
    out = capsys.readouterr()
    assert out.out == ""
    before, first, *_, last = out.err.strip().splitlines()
    assert before == "compiling"
    assert first.startswith("compiled in ")
    assert first.endswith(" s for 4 cpu devices")
    assert last.startswith("100%")
    assert "96 env-steps" in last  # of both seeds
    assert "env-steps/s  return -" in last


def test_it_is_said_if_whole_chunks_are_far_more_than_was_asked_for(config, capsys):
    asked = replace(config, run_dir=None, total_env_steps=1)
    done = asked.plan().env_steps
    assert train(asked).env_steps == done
    first, second = capsys.readouterr().err.splitlines()[:2]
    assert "total_env_steps is 1;" in first
    assert f"so it trains {done:,}" in first
    assert second == "compiling"
    train(replace(asked, total_env_steps=done))
    assert "chunks" not in capsys.readouterr().err


def test_without_progress_nothing_is_printed(config, capsys):
    train(config, progress=False)
    assert capsys.readouterr() == ("", "")


def test_in_a_terminal_there_is_a_bar(config, capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    monkeypatch.setenv("TERM", "xterm")
    train(replace(config, run_dir=None))
    shown = capfd.readouterr().err
    assert "compiled in" in shown
    assert "100%" in shown
    assert "env-steps/s" in shown


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (TrainConfig(RL2(num_tasks=2**31 - 8)), "TiB of memory"),
        (TrainConfig(num_seeds=2**31 - 1), "PiB of memory"),
        (TrainConfig(tasks=BernoulliBandit(2**31 - 1)), "TiB of memory"),
        (TrainConfig(RL2(memory=GRU(2**31 - 1))), "EiB of memory"),
        (TrainConfig(tasks=TabularMDP(num_states=10**5)), "TiB of memory"),
        (TrainConfig(MAML(shots=2**31 - 1), Sinusoid()), "TiB of memory"),
        (TrainConfig(total_env_steps=2**53), "total_env_steps is 9007199254740992"),
    ],
    ids=["tasks", "seeds", "arms", "units", "states", "shots", "steps"],
)
def test_what_cannot_have_been_meant_is_refused_before_anything_is_written(config, said, tmp_path):
    with pytest.raises(ConfigError, match=said) as refusal:
        train(replace(config, run_dir=str(tmp_path / "run")))
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_every_preset_fits_a_small_machine(monkeypatch):
    monkeypatch.setattr(device_memory, "free_bytes", lambda device, devices: 2**30)
    for config in PRESETS.values():
        device_memory.check_fits(config, jax.devices()[:1])
