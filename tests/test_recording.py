"""Runs of scripts can be taken up again, and are not taken for others."""

import dataclasses

import pytest

import jaxmeta
from jaxmeta.training import recording
from jaxmeta_envs.core.errors import ConfigError
from tests.toys import ToyFamily, ToyLearner


@pytest.fixture
def config(tmp_path):
    return jaxmeta.TrainConfig(
        algorithm=ToyLearner(),
        tasks=ToyFamily(),
        total_env_steps=1,
        updates_per_chunk=1,
        run_dir=str(tmp_path / "run"),
    )


def test_a_finished_run_is_taken_as_it_is(config):
    first, again = recording.finish(config), recording.finish(config)
    assert first.minutes is not None
    assert again.minutes is None
    assert again.result.env_steps == first.result.env_steps


@pytest.mark.parametrize("change", [{"seed": 3}, {"total_env_steps": 10_000}])
def test_the_run_of_other_settings_is_not_taken_for_this_one(config, change):
    recording.finish(config)
    with pytest.raises(ConfigError, match=next(iter(change))):
        recording.finish(dataclasses.replace(config, **change))
