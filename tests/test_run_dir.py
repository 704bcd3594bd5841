import json
import os
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxmeta import EPOpt
from jaxmeta.catalog.serialization import to_dict
from jaxmeta.config import TrainConfig
from jaxmeta.runs.checkpoint import CheckpointError, Checkpoints
from jaxmeta.runs.directory import RunDirectory, check_same, read_record
from jaxmeta.runs.logs import MetricsLog, TensorBoard, cut_log, read_log
from jaxmeta_envs import BernoulliBandit, PointNavigation
from jaxmeta_envs.core.errors import ConfigError
from tests.toys import ToyFamily, ToyLearner


class State(NamedTuple):
    params: dict
    key: jax.Array
    nothing: tuple = ()


def state(value=0.0):
    half = jnp.full((2,), value, jnp.bfloat16)
    return State({"w": jnp.full((2, 3), value), "h": half}, jax.random.split(jax.random.key(7), 2))


def target():
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state())


@pytest.fixture
def config(tmp_path):
    return TrainConfig(algorithm=ToyLearner(), tasks=ToyFamily(), run_dir=str(tmp_path / "run"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of updates 10 and 20, to be copied."""
    path = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Checkpoints(path, keep=2) as checkpoints:
        checkpoints.save(10, state(1.0), 1.0)
        checkpoints.save(20, state(2.0), 2.0)
    return path


@pytest.fixture
def checkpoints(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "checkpoints")
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        yield checkpoints


# Checkpoints


def test_a_checkpoint_restores_to_the_bit_keys_and_half_precision_too(checkpoints):
    restored = checkpoints.restore(target())
    assert (restored.update, restored.seconds) == (20, 2.0)
    assert jax.tree.structure(restored.state) == jax.tree.structure(state())
    for got, want in zip(jax.tree.leaves(restored.state), jax.tree.leaves(state(2.0)), strict=True):
        assert got.dtype == want.dtype
        if jnp.issubdtype(got.dtype, jax.dtypes.prng_key):
            got, want = jax.random.key_data(got), jax.random.key_data(want)
        np.testing.assert_array_equal(got, want)


def test_without_checkpoints_there_is_nothing_to_restore(tmp_path):
    with Checkpoints(tmp_path / "none", keep=1, read_only=True) as none:
        assert none.updates() == []
        assert none.restore(target()) is None
    assert not (tmp_path / "none").exists()


def test_only_the_newest_are_kept_and_an_existing_one_is_not_overwritten(checkpoints):
    with pytest.raises(CheckpointError, match="already holds update 20"):
        checkpoints.save(20, state(), 0.0)
    checkpoints.save(30, state(3.0), 3.0)
    assert checkpoints.updates() == [20, 30]


def damage_truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def damage_flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def damage_remove(path):
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [
        (damage_truncate, "state/d/*"),
        (damage_flip, "state/d/*"),
        (damage_remove, "state/d/*"),
        (damage_truncate, "meta/metadata"),
        (damage_remove, "meta/metadata"),
        (damage_truncate, "checksums.json"),
    ],
)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(checkpoints, damage, pattern):
    damage(next((checkpoints.path / "20").glob(pattern)))
    with pytest.warns(UserWarning, match="20.* is (damaged|missing).*from update 10 instead"):
        restored = checkpoints.restore(target())
    assert restored.update == 10
    np.testing.assert_array_equal(restored.state.params["w"], np.ones((2, 3)))
    assert checkpoints.updates() == [10, 20]


def test_a_crash_between_the_save_and_its_checksums_loses_nothing(checkpoints):
    (checkpoints.path / "20" / "checksums.json").unlink()
    assert checkpoints.restore(target()).update == 20


def test_without_checksums_what_orbax_cannot_read_gives_way_too(checkpoints):
    (checkpoints.path / "20" / "checksums.json").unlink()
    damage_truncate(checkpoints.path / "20" / "meta" / "metadata")
    with pytest.warns(UserWarning, match="20 cannot be read"):
        assert checkpoints.restore(target()).update == 10


def test_if_every_checkpoint_is_damaged_that_is_an_error(checkpoints):
    for update in ("10", "20"):
        damage_truncate(checkpoints.path / update / "state" / "_METADATA")
    with pytest.raises(CheckpointError, match=r"no checkpoint can be read: .*20.*; .*10"):
        checkpoints.restore(target())
    assert checkpoints.updates() == [10, 20]


def test_a_damaged_checkpoint_is_set_aside_so_that_its_update_can_be_saved_again(checkpoints):
    for count in range(2):
        checkpoints.set_aside_after(10)
        assert checkpoints.updates() == [10]
        aside = checkpoints.path.with_name("checkpoints-unreadable")
        assert sorted(p.name for p in aside.iterdir()) == [f"20-{i}" for i in range(count + 1)]
        checkpoints.save(20, state(5.0), 0.0)
    assert checkpoints.updates() == [10, 20]


def test_a_state_of_another_structure_or_dtype_is_refused_by_name(checkpoints):
    place = target().params["w"].sharding
    other = jax.ShapeDtypeStruct((2, 3), jnp.float16, sharding=place)  # orbax would cast
    changed = target()._replace(params=target().params | {"w": other})
    message = r"\['w'\] is float32\[2, 3\] there and float16\[2, 3\] here"
    with pytest.raises(ConfigError, match=message):
        checkpoints.restore(changed)
    with pytest.raises(ConfigError, match="another version of the algorithm"):
        checkpoints.restore(changed)
    more = target()._replace(params=target().params | {"b": other})
    with pytest.raises(ConfigError, match=r"\['b'\] is missing there"):
        checkpoints.restore(more)


def test_a_state_of_more_bits_is_none_of_another_algorithm(checkpoints):
    wide = jax.ShapeDtypeStruct((2, 3), np.dtype("float64"), sharding=target().params["w"].sharding)
    with jax.enable_x64(True):
        changed = target()._replace(params=target().params | {"w": wide})
        message = r"was written with 32 bits: .*\['w'\] is float32\[2, 3\] there and float64"
        with pytest.raises(ConfigError, match=message) as refused:
            checkpoints.restore(changed)
    assert str(refused.value).endswith("set JAX_ENABLE_X64 as it was then")


def test_what_a_killed_save_left_behind_is_not_seen_and_swept(checkpoints):
    left = checkpoints.path / "30.orbax-checkpoint-tmp"
    shutil.copytree(checkpoints.path / "20", left)
    with Checkpoints(checkpoints.path, keep=2, read_only=True) as reader:
        assert reader.updates() == [10, 20]
    assert left.exists()  # it may belong to a process that is still saving
    checkpoints.save(30, state(3.0), 3.0)
    assert checkpoints.updates() == [20, 30]
    assert not left.exists()


# Metrics


def write_log(path, updates):
    with MetricsLog(path) as log:
        for update in updates:
            values = {"return": np.array([[update, -update]], np.float32)}
            log.write_updates(range(update, update + 1), 4, 1.5, values)
            if update % 2 == 0:
                log.write_event("evaluation", update, 4, {"eval/return": np.array([0.5, np.inf])})


def test_metrics_are_one_line_of_strict_json_per_update(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_log(path, [1, 2])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"update": 1, "env_steps": 4, "seconds": 1.5, "metrics": {"return": [1.0, -1.0]}},
        {"update": 2, "env_steps": 8, "seconds": 1.5, "metrics": {"return": [2.0, -2.0]}},
        {"update": 2, "env_steps": 8, "evaluation": {"eval/return": [0.5, None]}},
    ]


def test_a_log_is_cut_behind_the_checkpoint_and_a_half_written_line_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_log(path, [1, 2, 3])
    before = path.read_text().splitlines(keepends=True)
    path.write_text("".join(before) + before[0][:-5])
    cut_log(path, 2)
    assert path.read_text() == "".join(before[:3])
    path.write_text("".join(before)[:-1])  # all but the newline of the last line
    cut_log(path, 3)
    assert path.read_text() == "".join(before[:3])


def test_a_log_is_read_back_as_arrays(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_log(path, [1, 2, 3])
    history = read_log(path, 2, num_seeds=2)
    np.testing.assert_array_equal(history.metrics["return"], [[1, -1], [2, -2]])
    assert history.metrics["return"].dtype == np.float32
    np.testing.assert_array_equal(history.evaluations["update"], [2])
    np.testing.assert_array_equal(history.evaluations["eval/return"], [[0.5, np.nan]])


def test_a_missing_update_is_warned_of_and_nan(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_log(path, [1, 3])
    with pytest.warns(UserWarning, match="lacks 1 of 3 updates"):
        history = read_log(path, 3, num_seeds=2)
    np.testing.assert_array_equal(history.metrics["return"][:, 0], [1, np.nan, 3])


def read_events(directory):
    events = []
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:  # a record: length, its checksum, the bytes, their checksum
            (length,) = struct.unpack("<Q", data[:8])
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def test_events_hold_the_mean_over_seeds_each_seed_and_where_a_resume_began(tmp_path):
    with TensorBoard(tmp_path, first_seed=5, env_steps=8) as board:
        board.write(12, {"loss": np.array([1.0, 3.0]), "bad": np.array([np.nan, 1.0])})
    events = read_events(tmp_path)
    values = {v.tag: (e.step, v.simple_value) for e in events for v in e.summary.value}
    assert values == {
        "loss": (12, 2.0),
        "seed_5/loss": (12, 1.0),
        "seed_6/loss": (12, 3.0),
        "seed_6/bad": (12, 1.0),
    }
    assert [e.step for e in events if e.HasField("session_log")] == [9]


# Directories


def test_the_record_of_a_run_comes_back(config):
    with RunDirectory.create(config, 4, "cpu"):
        record = read_record(config.run_dir)
    assert record.config == config
    assert (record.devices, record.platform) == (4, "cpu")
    assert record.versions["jax"] == jax.__version__


def test_an_agent_whose_actions_had_units_of_their_own_is_refused(config):
    """Before schema 2 actions of RL² and EPOpt were raw: of a torque of ±2 they would be halved."""
    written = to_dict(TrainConfig(EPOpt(), PointNavigation()))
    bandit = to_dict(BernoulliBandit())
    bandit.pop("schema")
    record = {"config": written | {"schema": 1}, "devices": 1, "platform": "cpu", "versions": {}}
    path = Path(config.run_dir)
    path.mkdir()

    def read(record):
        (path / "config.json").write_text(json.dumps(record | {"extensions": []}))
        return read_record(path).config

    with pytest.raises(ConfigError, match=r"units of their own.*train it again"):
        read(record)
    same = written | {"schema": 1, "tasks": bandit}
    same["algorithm"] = {n: v for n, v in same["algorithm"].items() if n != "actions"}
    assert read(record | {"config": same}).algorithm.actions == "clipped"
    assert read(record | {"config": written | {"schema": 2}}).algorithm.actions == "squashed"


def test_the_record_follows_a_run_that_was_moved(config, tmp_path):
    RunDirectory.create(config, 1, "cpu").close()
    os.rename(config.run_dir, tmp_path / "elsewhere")
    assert read_record(tmp_path / "elsewhere").config.run_dir == str(tmp_path / "elsewhere")


def contents(path):
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_directory_with_a_run_in_it_is_not_trained_into(config, tmp_path):
    with RunDirectory.create(config, 1, "cpu") as run:
        run.begin(0)
        run.write_updates(range(1, 2), 0.1, {"return": np.zeros((1, 1), np.float32)})
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="already holds a run; resume it"):
        RunDirectory.create(replace(config, seed=1), 1, "cpu")
    assert contents(tmp_path) == before


def test_a_run_that_ended_before_its_first_chunk_may_be_started_anew(config):
    with RunDirectory.create(config, 1, "cpu") as run:
        run.begin(0)
    with RunDirectory.create(replace(config, seed=1), 1, "cpu"):
        assert read_record(config.run_dir).config.seed == 1


def test_files_of_others_do_not_matter(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    RunDirectory.create(config, 1, "cpu").close()
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_only_one_process_at_a_time_writes_a_run(config):
    # The lock belongs to the open file, so this process can play both.
    with RunDirectory.create(config, 1, "cpu"):
        message = rf"another process \({os.getpid()}\) is training"
        with pytest.raises(ConfigError, match=message):
            RunDirectory.open_existing(config.run_dir)
        with pytest.raises(ConfigError, match=message):
            RunDirectory.create(config, 1, "cpu")
    RunDirectory.open_existing(config.run_dir).close()


@pytest.mark.parametrize("below", [".", "below"])
def test_a_directory_that_cannot_be_written_is_refused(config, tmp_path, below):
    (tmp_path / "file").write_text("")
    bad = replace(config, run_dir=str(tmp_path / "file" / below))
    with pytest.raises(ConfigError, match=r"run_dir is .*file.*can be written"):
        RunDirectory.create(bad, 1, "cpu")


def test_a_directory_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"is not a run: it has no config\.json"):
        RunDirectory.open_existing(tmp_path)
    with pytest.raises(ConfigError, match="is not a run: there is no such directory"):
        read_record(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "agent.txt").write_text("")
    with pytest.raises(
        ConfigError, match=r"agent\.txt is a file; it must be the directory of a run"
    ):
        read_record(tmp_path / "agent.txt")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": {}, "extensions": []}'])
def test_a_damaged_record_is_refused_by_name(config, tmp_path, text):
    RunDirectory.create(config, 1, "cpu").close()
    (tmp_path / "run" / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        read_record(config.run_dir)


def test_another_config_is_told_by_the_field_that_differs(config):
    check_same(replace(config, run_dir=None, total_env_steps=1), config)
    with pytest.raises(ConfigError, match=r"updates_per_chunk is 3; the run .* started with 10"):
        check_same(replace(config, updates_per_chunk=3), config)


def test_a_longer_run_is_written_down(config):
    with RunDirectory.create(config, 1, "cpu") as run:
        run.extend(6_000_000, update=12)
    record = read_record(config.run_dir)
    assert record.config == replace(config, total_env_steps=6_000_000)
    assert record.extensions == ({"update": 12, "from": 5_000_000, "to": 6_000_000},)
