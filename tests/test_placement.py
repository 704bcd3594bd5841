"""State that is spread over tasks, and data that only the newest checkpoint keeps."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxmeta
from jaxmeta import engine, placement
from jaxmeta.config import TrainConfig
from jaxmeta.evaluation import evaluate as evaluation
from jaxmeta.placement import WHOLE, Placement
from jaxmeta.runs.checkpoint import CheckpointError
from jaxmeta.testing.algorithm_probes import AlgorithmProbe
from jaxmeta.testing.conformance import ConformanceError
from jaxmeta.testing.updates import placement_fits
from jaxmeta.training.loop import compile_chunk, first_state
from tests.toys import Remembering, RememberingState, ToyFamily

UPDATES = 8


@pytest.fixture(autouse=True)
def cheap_evaluation(monkeypatch):
    monkeypatch.setattr(evaluation, "quick_evaluation", lambda *_: {"eval/return": np.zeros(2)})


@pytest.fixture
def config(tmp_path):
    return TrainConfig(
        algorithm=Remembering(num_tasks=8),
        tasks=ToyFamily(),
        num_seeds=2,
        total_env_steps=UPDATES * 8,
        updates_per_chunk=2,
        checkpoint_every=1,
        keep_checkpoints=10,
        run_dir=str(tmp_path / "run"),
    )


def trained(config, devices):
    """The state after a chunk, where it lies, and metrics."""
    there = jax.devices()[:devices]
    program = compile_chunk(config, there)
    state, metrics, _ = program.run(first_state(config, there), program.keys, np.int32(0))
    return state, metrics


def test_each_device_holds_the_rows_of_its_tasks_and_learns_what_one_would(config):
    one, alone = trained(config, 1)
    four, shared = trained(config, 4)
    assert {s.data.shape for s in four.ring.addressable_shards} == {(2, 2, 4)}
    assert {s.data.shape for s in four.total.addressable_shards} == {(2, 2)}
    assert four.params["w"].is_fully_replicated
    np.testing.assert_array_equal(four.ring, one.ring)  # each task's draws, in its own row
    assert len(np.unique(np.asarray(one.total))) == 16
    for a, b in zip(jax.tree.leaves((one, alone)), jax.tree.leaves((four, shared)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("devices", [1, 4])
def test_a_resumed_run_remembers_to_the_bit(config, devices):
    config = replace(config, devices=devices)
    whole = jaxmeta.train(replace(config, run_dir=None), progress=False)

    def stop(info):
        if info.update == 4:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        jaxmeta.train(config, callback=stop, progress=False)
    result = jaxmeta.resume(config.run_dir, progress=False)
    assert (whole.state.ring, result.state.ring) == (None, None)
    for a, b in zip(jax.tree.leaves(result.state), jax.tree.leaves(whole.state), strict=True):
        assert len(a.sharding.device_set) == 1
        np.testing.assert_array_equal(a, b)
    assert result.state.total.shape == (2, 8)
    # It is the ring that decides what comes: without it the end is another one.
    update = jax.jit(jax.vmap(engine.make_update(config), in_axes=(0, 0, None)))
    blank = result.state._replace(ring=np.zeros((2, 8, 4), np.float32))
    forgot, _ = update(blank, engine.seed_keys(config), np.int32(UPDATES))
    longer = jaxmeta.resume(config.run_dir, total_env_steps=UPDATES * 8 + 16, progress=False)
    assert not np.allclose(longer.params["w"], forgot.params["w"], atol=1e-3)


def test_only_the_newest_checkpoint_has_what_is_remembered(config):
    jaxmeta.train(config, progress=False)
    checkpoints = Path(config.run_dir) / "checkpoints"
    steps = sorted(int(p.name) for p in checkpoints.iterdir() if p.name.isdigit())
    assert steps == [2, 4, 6, 8]
    assert [s for s in steps if (checkpoints / str(s) / "newest").is_dir()] == [8]
    assert jaxmeta.load(config.run_dir).state.ring is None
    shutil.rmtree(checkpoints / "8")
    old = jaxmeta.load(config.run_dir)  # enough to look at what was learned, not to go on
    assert old.env_steps == 6 * 8
    with pytest.raises(CheckpointError, match="6 has no longer what only the newest"):
        jaxmeta.resume(config.run_dir, progress=False)


def test_parts_of_a_state_are_taken_apart_and_joined():
    state = RememberingState({"w": np.ones(3)}, np.zeros(8), np.arange(4.0))
    prefix = Remembering().placement(ToyFamily())
    kept, newest = placement.split(prefix, state)
    assert (kept.ring, newest.params, newest.total) == (None, {"w": None}, None)
    jax.tree.map(np.testing.assert_array_equal, placement.join(kept, newest), state)
    with pytest.raises(ValueError, match="prefix"):
        placement.spread((WHOLE, WHOLE), state)


@dataclass(frozen=True)
class Misplaced(Remembering):
    placed: RememberingState | tuple = ()

    def placement(self, family):
        return self.placed


@pytest.mark.parametrize(
    ("placed", "problem"),
    [
        ((WHOLE, WHOLE), "does not fit the state"),
        (Placement(over_tasks=True), r"params\['w'\] is spread over tasks and has the shape"),
        (Placement(newest_only=True), "params are needed in all"),
    ],
)
def test_a_placement_that_does_not_fit_is_found(placed, problem):
    placement_fits(AlgorithmProbe(Remembering(), ToyFamily()))
    with pytest.raises(ConformanceError, match=problem):
        placement_fits(AlgorithmProbe(Misplaced(placed=placed), ToyFamily()))
