"""A family says what its learners are judged by, and which way is better."""

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import jaxmeta
from jaxmeta import MAML, MLP, SGD, InnerLoop
from jaxmeta.evaluation.figure import plot_adaptation
from jaxmeta.evaluation.result import Evaluation, read_evaluation
from jaxmeta.testing import ToyFamily, ToyRegression, check_algorithm, check_supervised_family
from jaxmeta_envs import ACCURACY, LOSS, RETURN, ConfigError, Score, SupervisedFamily, TaskFamily
from tests.toy_families import Sides

LEARNER = MAML(
    num_tasks=16,
    shots=8,
    queries=16,
    network=MLP((8,), "tanh"),
    inner=InnerLoop(steps=2, optimizer=SGD(2.0)),
    learning_rate=0.01,
)
TASKS = 50


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    """A classifier after 60 updates."""
    return jaxmeta.train(config(30, run_dir=str(tmp_path_factory.mktemp("run") / "run")))


def config(updates, learner=LEARNER, **settings):
    steps = updates * LEARNER.env_steps_per_update(Sides())
    usual = {"num_seeds": 2, "eval_tasks": 20, "eval_every": 3, "devices": 1}
    return jaxmeta.TrainConfig(learner, Sides(), total_env_steps=steps, **(usual | settings))


def test_training_measures_the_score_of_the_family(classified):
    metrics = classified.metrics
    for name in ("accuracy", "accuracy_before"):
        assert metrics[name].shape == metrics["loss"].shape
        assert ((metrics[name] >= 0) & (metrics[name] <= 1)).all()
    assert metrics["accuracy"][-10:].mean() > metrics["accuracy_before"][-10:].mean() + 0.1
    assert set(classified.evaluations) >= {"eval/accuracy", "eval/accuracy_last"}


def test_progress_names_the_score(capsys):
    jaxmeta.train(config(10, eval_every=0), progress=True)
    shown = " ".join(capsys.readouterr().err.split())
    assert "examples/s accuracy 0." in shown


@pytest.fixture(scope="module")
def found(classified):
    return jaxmeta.evaluate(classified, num_tasks=TASKS)


def test_an_evaluation_of_accuracy_is_of_shares_of_which_more_is_better(classified, found):
    assert found.score == ACCURACY
    assert ((found.returns >= 0) & (found.returns <= 1)).all()
    assert found.returns[..., -1].mean() > found.returns[..., 0].mean() + 0.1
    assert (found.references["oracle"] == 1).all()
    numbers = found.summary()["policies"]["MAML"]["final"]
    assert numbers["worst"] == found.returns[..., -1].min() < numbers["cvar10"] < numbers["mean"]
    path = classified.run_dir / f"evaluation{found.suffix}.json"
    content = json.loads(path.read_text())
    stored = {name: content[name] for name in ("score", "higher_is_better", "unit")}
    assert stored == {"score": "accuracy", "higher_is_better": True, "unit": "share"}
    read = read_evaluation(classified.run_dir, found.suffix)
    assert read is not None
    assert read.score == ACCURACY


def test_the_table_of_accuracy_has_the_best_first(found):
    text = str(found)
    assert (text.count("↑"), text.count("↓")) == (4, 0)
    assert text.index("\noracle ") < text.index("\nMAML ")
    assert "accuracy after steps on 8 examples" in text


def test_the_figure_of_accuracy_has_a_plain_axis_with_its_unit(found, axes, tmp_path):
    plot_adaptation(found, tmp_path / "figure.png")
    assert axes[0].get_ylabel() == "accuracy on other examples (share)"
    assert axes[0].get_yscale() == "linear"
    (tmp_path / "loss.png").write_bytes(b"")
    losses = Evaluation(found.returns + 0.1, {}, score="loss", shots=8)
    plot_adaptation(losses, tmp_path / "loss.png")
    assert axes[1].get_ylabel() == "loss on other examples"
    assert axes[1].get_yscale() == "log"


@pytest.fixture
def axes(monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    add_subplot = Figure.add_subplot

    def collect(*args, **kwargs):
        drawn.append(add_subplot(*args, **kwargs))
        return drawn[-1]

    monkeypatch.setattr(Figure, "add_subplot", collect)
    return drawn


def test_what_may_fall_below_zero_has_a_plain_axis(axes, tmp_path):
    nats = Score("nats", higher_is_better=False)
    values = np.linspace(1.0, -1.0, 24).reshape(2, 3, 4)
    plot_adaptation(Evaluation(values, score=nats, shots=3), tmp_path / "figure.png")
    assert axes[0].get_yscale() == "linear"
    plot_adaptation(Evaluation(values + 2, score=nats, shots=3), tmp_path / "figure.png")
    assert axes[1].get_yscale() == "log"


def test_agents_are_compared_by_accuracy(classified, tmp_path):
    still = dataclasses.replace(LEARNER, inner=InnerLoop(steps=2, optimizer=SGD(1e-6)))
    unmoved = jaxmeta.train(config(10, still, eval_every=0))
    compared = jaxmeta.compare(
        [classified.run_dir, unmoved, classified._replace(run_dir=None)],
        labels=("adapting", "unmoved", "same"),
        num_tasks=TASKS,
        out=tmp_path / "compare.png",
    )
    pair = compared.summary()["pairs"]["adapting"]["unmoved"]
    assert pair["difference"] > 0.1
    assert pair["probability"] > 0.7
    same = compared.summary()["pairs"]["adapting"]["same"]
    assert (same["difference"], same["probability"]) == (0, 0.5)
    text = str(compared)
    assert text.index("adapting") < text.index("unmoved")
    assert text.count("↑") == 3
    assert "Accuracy on Sides" in text
    assert (tmp_path / "compare.png").exists()


def test_a_sweep_ranks_by_accuracy(tmp_path):
    base = config(10, eval_every=0, run_dir=str(tmp_path / "sweep"))
    swept = jaxmeta.sweep(base, {"inner.optimizer.learning_rate": [1e-6, 2.0]}, progress=False)
    assert ((swept.scores >= 0) & (swept.scores <= 1)).all()
    assert swept.ranking == [1, 0]
    text = str(swept)
    assert "accuracy ↑" in text
    assert "actions" not in text
    summary = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert (summary["score"], summary["unit"]) == ("accuracy", "share")


def test_a_family_with_a_score_of_its_own_keeps_the_contracts():
    check_supervised_family(Sides(), skip=["loss"])  # its least is not at the labels
    check_algorithm(LEARNER, Sides())


def test_the_names_return_and_loss_stand_for_scores():
    """Families from before there were scores say so."""

    @dataclass(frozen=True)
    class Acting(ToyFamily):
        score: ClassVar = "return"

    @dataclass(frozen=True)
    class Predicting(ToyRegression):
        score = "loss"

    assert ToyFamily.score == Acting().score == RETURN
    assert ToyRegression.score == Predicting().score == LOSS
    assert f"eval/{LOSS}" == "eval/loss"
    jaxmeta.TrainConfig(LEARNER, Predicting())
    assert Evaluation(np.ones((1, 2, 3)), score="loss", shots=1).score == LOSS


def test_other_names_need_a_score():
    with pytest.raises(ConfigError, match=r'must be a Score, .* Score\("accuracy", higher_is'):

        class Named(ToyRegression):
            score = "accuracy"

    for wrong in ({"name": ""}, {"name": 3}, {"higher_is_better": 1}, {"unit": None}):
        with pytest.raises(ConfigError, match=f"score.{next(iter(wrong))} is"):
            Score(**({"name": "accuracy", "higher_is_better": True} | wrong))


def refuses(family: SupervisedFamily | TaskFamily, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        jaxmeta.TrainConfig(jaxmeta.RL2() if isinstance(family, TaskFamily) else LEARNER, family)


def test_a_score_that_is_not_measured_is_refused_before_training():
    class Unmeasured(ToyRegression):
        score = ACCURACY

    class Accurate(ToyFamily):
        score = ACCURACY

    class Given(ToyRegression):
        @property
        def score(self):
            return "loss"

    class Mistaken(Sides):
        score = Score("accuracies", higher_is_better=True)

    refuses(Unmeasured(), 'must be the "loss", .* or one of the metrics, which the family lacks')
    with pytest.raises(ConfigError, match=r"score is .*accuracies.* must be one of loss, accuracy"):
        Mistaken().measure(np.ones((2, 1)), np.ones((2, 1)))
    refuses(Accurate(), 'must be the "return"')
    refuses(Given(), "must be a Score")


@pytest.mark.parametrize("name", ["return", "loss"])
def test_files_that_say_only_the_name_of_a_score_are_read(tmp_path, name):
    shots = 3 if name == "loss" else None
    Evaluation(np.ones((1, 4, 3)), score=name, shots=shots).save(tmp_path)
    path = next(tmp_path.glob("*.json"))
    suffix = path.stem.removeprefix("evaluation")
    content = json.loads(path.read_text())
    for later in ("higher_is_better", "unit", "acts"):
        del content[later]
    path.write_text(json.dumps(content))
    read = read_evaluation(tmp_path, suffix)
    assert read is not None
    assert read.score == {"return": RETURN, "loss": LOSS}[name]
    path.write_text(json.dumps(content | {"score": "accuracy"}))
    assert read_evaluation(tmp_path, suffix) is None
