import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from jaxmeta.catalog import registry
from jaxmeta.evaluation.figure import _styles, plot_adaptation
from jaxmeta.evaluation.result import Evaluation
from jaxmeta.render.figures import AGENT_COLOUR
from jaxmeta.training.figure import plot_posterior
from jaxmeta_envs import ConfigError, TaskFamily
from jaxmeta_envs.random.distributions import TruncatedNormal, Uniform

PNG = b"\x89PNG\r\n\x1a\n"


def fake(rows, references=2, seeds=2, tasks=5, optimal=True, **fields):
    rng = np.random.default_rng(0)
    names = [f"reference {i}" for i in range(references)]
    return Evaluation(
        rng.normal(size=(seeds, tasks, rows)),
        {name: rng.normal(size=(tasks, rows)) for name in names},
        np.linspace(0, 1, rows) if optimal else None,
        **fields,
    )


@pytest.mark.parametrize(
    ("rows", "references", "seeds", "tasks", "optimal"),
    [
        (1, 1, 1, 1, False),
        (1, 12, 3, 5, True),
        (2, 1, 1, 1, True),
        (4, 0, 1, 5, False),
        (10, 12, 3, 5, True),
        (100, 3, 2, 5, True),
    ],
)
def test_a_curve_of_any_length_is_drawn(tmp_path, rows, references, seeds, tasks, optimal):
    path = tmp_path / "figure.png"
    plot_adaptation(fake(rows, references, seeds, tasks, optimal), path)
    assert path.read_bytes().startswith(PNG)
    assert list(tmp_path.iterdir()) == [path]


def test_no_two_references_of_a_family_share_a_colour():
    most = max(len(family().references(2)) for family in _installed())
    styles = _styles(fake(4, references=most).summary())
    colours = [style["color"] for style in styles]
    assert len(set(colours)) == most > 5
    assert AGENT_COLOUR not in colours


def _installed():
    for cls in registry.FAMILIES.values():
        if issubclass(cls, TaskFamily):
            try:
                cls().check_installed()
            except ConfigError:
                continue
            yield cls


def test_no_two_of_twelve_references_look_the_same():
    styles = _styles(fake(4, references=12).summary())
    assert len({(style["color"], style["linestyle"]) for style in styles}) == 12


@pytest.fixture
def axes(monkeypatch):
    """Collects the axes of the figures drawn."""
    from matplotlib.figure import Figure

    drawn = []
    add_subplot = Figure.add_subplot

    def spy(self, *args, **kwargs):
        drawn.append(add_subplot(self, *args, **kwargs))
        return drawn[-1]

    monkeypatch.setattr(Figure, "add_subplot", spy)
    return drawn


def test_the_axes_and_the_legend_say_what_is_drawn(tmp_path, axes):
    evaluation = fake(4, agent="RL2", family="Bandit", trained_rows=2)
    plot_adaptation(evaluation, tmp_path / "figure.png")
    (ax,) = axes
    assert ax.get_xlabel() == "episodes of experience"
    assert ax.get_ylabel() == "return of the next episode"
    assert ax.get_title() == "RL2 on Bandit"
    assert [text.get_text() for text in ax.texts] == ["trained until here"]
    assert all(tick == int(tick) for tick in ax.get_xticks())
    labels = {text.get_text() for text in ax.get_legend().get_texts()}
    assert labels == {"RL2", "reference 0", "reference 1", "optimum (exact)"}
    ends = [line.get_ydata()[-1] for line in ax.get_legend_handles_labels()[0]]
    assert len(ends) == 4


@pytest.mark.parametrize(("seeds", "over"), [(1, "tasks only (one seed)"), (3, "seeds and tasks")])
def test_the_figure_says_what_its_interval_is_over(tmp_path, axes, seeds, over):
    plot_adaptation(fake(4, seeds=seeds), tmp_path / "curves.png")
    plot_adaptation(fake(1, seeds=seeds), tmp_path / "points.png")
    title = axes[0].get_legend().get_title().get_text().replace("\n", " ")
    assert title == f"band: 95 %, over {over}"
    assert axes[1].get_xlabel().endswith(f"bar: 95 %, over {over}")


def test_losses_stand_on_plain_numbers_and_what_is_zero_is_named(tmp_path, axes):
    losses = np.geomspace(4.0, 0.2, 4) * np.ones((2, 5, 1))
    references = {"oracle": np.zeros((5, 4)), "mean": np.full((5, 4), 3.0)}
    both = Evaluation(losses, references, agent="MAML", score="loss", shots=5)
    plot_adaptation(both, tmp_path / "figure.png")
    (ax,) = axes
    assert ax.get_yscale() == "log"
    low, high = ax.get_ylim()
    labels = [ax.yaxis.get_major_formatter()(x) for x in ax.get_yticks() if low <= x <= high]
    assert labels == ["0.2", "0.5", "1", "2"]
    assert not any(ax.yaxis.get_minor_formatter()(x) for x in (0.3, 3.0))
    title = ax.get_legend().get_title().get_text().replace("\n", " ")
    assert title.endswith("not drawn, as of loss 0: oracle")


@pytest.mark.parametrize(("level", "cut"), [(50.0, True), (1.5, False), (-50.0, False)])
def test_a_loophole_does_not_squeeze_the_other_curves(tmp_path, axes, level, cut):
    returns = np.linspace(-1.0, 0.0, 4) * np.ones((2, 5, 1))
    references = {"loophole": np.full((5, 4), level), "random": np.full((5, 4), -1.0)}
    plot_adaptation(Evaluation(returns, references), tmp_path / "figure.png")
    low, high = axes[0].get_ylim()
    said = [text.get_text() for text in axes[0].texts]
    if cut:
        assert (low, high) == pytest.approx((-1.05, 0.05))
        assert said == ["↑ loophole: 50"]
    else:
        assert low < level < high
        assert said == []
    assert "loophole" in {text.get_text() for text in axes[0].get_legend().get_texts()}


def test_the_legend_follows_the_order_of_the_ends(tmp_path, axes):
    evaluation = fake(3, references=4)
    plot_adaptation(evaluation, tmp_path / "figure.png")
    policies = evaluation.summary()["policies"]
    ends = {name: policy["rows"]["mean"][-1] for name, policy in policies.items()}
    ends["optimum (exact)"] = evaluation.optimal[-1]
    shown = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert shown == sorted(ends, key=ends.get, reverse=True)


def test_steps_of_several_episodes_are_called_steps(tmp_path, axes):
    evaluation = fake(3, episodes_per_adapt=20, split="far")
    plot_adaptation(evaluation, tmp_path / "a.png")
    plot_adaptation(evaluation, tmp_path / "b.png", title="My title")
    assert axes[0].get_xlabel() == "steps of adaptation, 20 episodes each"
    assert axes[0].get_title() == 'agent on tasks, split "far"'
    assert axes[1].get_title() == "My title"


def test_a_figure_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    def fail(self, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(FigureCanvasAgg, "print_png", fail)
    with pytest.raises(OSError, match="disk full"):
        plot_adaptation(fake(3), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_plotting_leaves_no_global_state(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    plot_adaptation(fake(2), tmp_path / "figure.png")
    assert ("matplotlib.pyplot" in sys.modules) == before


class Mass(NamedTuple):
    cart_mass: Any
    gravity: Any


def posterior(mean, std):
    """A round in which gravity was known."""
    low, high = Mass(mean - 2 * std, 9.8), Mass(mean + 2 * std, 9.8)
    return SimpleNamespace(mean=Mass(mean, 9.8), std=Mass(std, 0.0), low=low, high=high)


def test_a_posterior_is_drawn_round_by_round(tmp_path, axes):
    rounds = [posterior(1.4, 0.2), posterior(1.5, 0.1)]
    source = TruncatedNormal(*(Mass(x, x + 8.8) for x in (1.0, 0.3, 0.5, 2.0)))
    path = tmp_path / "figure.png"
    plot_posterior(
        rounds, path, source=source, truth=Mass(1.52, 9.8), units={"cart_mass": "kg"}, title="Cart"
    )
    assert path.read_bytes().startswith(PNG)
    (ax,) = axes  # what was known has no panel
    assert ax.get_title() == "cart mass (kg)\n1.50 [1.30, 1.70]"
    assert ax.get_xlabel() == "round"
    curve = ax.get_lines()[0]
    np.testing.assert_array_equal(curve.get_xdata(), [0, 1, 2])
    np.testing.assert_allclose(curve.get_ydata()[1:], [1.4, 1.5])
    labels = set(ax.get_legend_handles_labels()[1])
    assert labels == {"posterior, 95 %", "source before", "truth"}


def test_a_posterior_alone_is_drawn_without_what_is_not_known(tmp_path, axes):
    plot_posterior([posterior(1.4, 0.2)], tmp_path / "figure.png")
    assert axes[0].get_legend_handles_labels()[1] == ["posterior, 95 %"]
    box = Uniform(Mass(0.5, 9.0), Mass(2.5, 10.0))
    plot_posterior([posterior(1.4, 0.2)], tmp_path / "figure.png", source=box)
    np.testing.assert_allclose(axes[1].get_lines()[0].get_ydata(), [1.5, 1.4])
