"""What is handed to public functions from Python is answered in one sentence, whatever it is."""

from pathlib import Path

import pytest

import jaxmeta
from jaxmeta import (
    GRU,
    MAML,
    MLP,
    RL2,
    ConfigError,
    CVaR,
    EPOpt,
    PolicyMAML,
    Schedule,
    TrainConfig,
    register_algorithm,
    register_family,
)
from jaxmeta.runs.choose import load_runs
from jaxmeta_envs import BernoulliBandit

PARTS = [
    (lambda: RL2(memory="gru"), "memory is 'gru'; it must be of type Memory"),
    (lambda: RL2(memory=GRU), "memory is <class"),
    (lambda: RL2(memory=CVaR(0.2)), "memory is CVaR"),
    (lambda: RL2(encoder=3), "encoder is 3"),
    (lambda: RL2(risk="mean"), "risk is 'mean'"),
    (lambda: RL2(learning_rate=None), "learning_rate is None; it must be of type float | Schedule"),
    (lambda: RL2(learning_rate=[0.1]), r"learning_rate is \[0.1\]"),
    (lambda: RL2(learning_rate=Schedule), "learning_rate is <class"),
    (lambda: RL2(observe_reward="no"), "observe_reward is 'no'"),
    (lambda: CVaR(None), "fraction is None"),
    (lambda: MLP("a"), "sizes is 'a'"),
    (lambda: MAML(network=3), "network is 3"),
    (lambda: PolicyMAML(inner=3), "inner is 3"),
    (lambda: EPOpt(baseline="x"), "baseline is 'x'"),
    (lambda: TrainConfig(5), "algorithm is 5"),
    (lambda: TrainConfig(run_dir=5), "run_dir is 5"),
    (lambda: TrainConfig(run_dir=""), "run_dir is ''"),
    (lambda: TrainConfig(target=5), "target is 5"),
    (lambda: TrainConfig(target="train"), "RL2 cannot adapt to one"),
]
CALLS = [
    (lambda: jaxmeta.train(None), "config is None; it must be a TrainConfig"),
    (lambda: jaxmeta.train("rl2"), "config is 'rl2'"),
    (lambda: jaxmeta.make_train("x"), "config is 'x'"),
    (lambda: jaxmeta.sweep(None, {}), "config is None"),
    (lambda: jaxmeta.load(None), "run_dir is None"),
    (lambda: jaxmeta.load(["a"]), r"run_dir is \['a'\]"),
    (lambda: jaxmeta.resume(5), "run_dir is 5"),
    (lambda: jaxmeta.evaluate(None), "source is None"),
    (lambda: jaxmeta.compare([None, None]), "source is None"),
    (lambda: jaxmeta.compare(5), "runs is 5"),
    (lambda: jaxmeta.robustness(None), "runs is None"),
    (lambda: load_runs([3]), "source is 3"),
    (lambda: jaxmeta.preset(None, 3), "algorithm is None"),
    (lambda: jaxmeta.preset("rl2", None), "family is None"),
    (lambda: register_family(3, BernoulliBandit), "name is 3"),
    (lambda: register_algorithm("", RL2), "name is ''"),
    (lambda: BernoulliBandit().check_split(None), "split is None"),
    (lambda: BernoulliBandit().check_split(["test"]), r"split is \['test'\]"),
]


@pytest.mark.parametrize(("call", "message"), PARTS + CALLS)
def test_one_sentence_says_what_is_wrong(call, message):
    with pytest.raises(ConfigError, match=message.replace("|", r"\|")) as error:
        call()
    assert "\n" not in str(error.value)


def test_a_record_that_is_no_object_is_none(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="is not the record of a run"):
        jaxmeta.load(tmp_path)


def test_paths_may_be_paths():
    assert TrainConfig(run_dir=Path("runs", "one")) == TrainConfig(run_dir=str(Path("runs", "one")))  # type: ignore[arg-type]
