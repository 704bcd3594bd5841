import numpy as np
import pytest

from jaxmeta.analysis.robustness.figure import plot_robustness
from jaxmeta.analysis.robustness.result import Robustness, RobustnessMap

PNG = b"\x89PNG\r\n\x1a\n"
TRAINING = {"pole_mass": (0.1, 0.2), "length": (0.5, 1.0)}


def fake(*sizes, runs=1, seeds=2, training=TRAINING, rows=2, **fields):
    rng = np.random.default_rng(0)
    grid = tuple(np.linspace(low, 2.0, n) for low, n in zip((0.05, 0.25), sizes, strict=False))
    maps = tuple(
        RobustnessMap(f"run {i}", "RL2", rng.normal(i, size=(seeds, 3, *sizes)), training, rows)
        for i in range(runs)
    )
    names = ("pole_mass", "length")[: len(sizes)]
    units = {"pole_mass": "kg", "gravity": "m/s²"}
    fixed = {"gravity": 9.8, "drag": 0.5}
    return Robustness("CartPole", names, grid, fixed, maps, units, **fields)


@pytest.fixture
def drawn(monkeypatch):
    """Collects the figures drawn."""
    from matplotlib.figure import Figure

    figures = []
    init = Figure.__init__

    def spy(self, *args, **kwargs):
        init(self, *args, **kwargs)
        figures.append(self)

    monkeypatch.setattr(Figure, "__init__", spy)
    return figures


def draw(robustness, tmp_path, drawn, **options):
    path = tmp_path / "figure.png"
    plot_robustness(robustness, path, **options)
    assert path.read_bytes().startswith(PNG)
    assert list(tmp_path.iterdir()) == [path]
    return drawn[-1]


def words(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_a_curve_says_what_is_drawn(tmp_path, drawn):
    robustness = fake(7)
    figure = draw(robustness, tmp_path, drawn)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "pole mass (kg)"
    assert axes.get_ylabel() == "return of episode 2"
    assert words(axes.get_legend()) == ["run 0", "worst point", "training range"]
    title = figure._suptitle.get_text()
    assert title == "RL2 on CartPole: return across simulators\ngravity 9.8 m/s², drag 0.5"
    lines = {line.get_label(): line for line in axes.get_lines()}
    (mark,) = [
        line for line in axes.get_lines() if line.get_marker() == "v" and len(line.get_xdata())
    ]
    np.testing.assert_array_equal(lines["run 0"].get_ydata(), robustness.maps[0].mean)
    lowest = robustness.maps[0].mean.argmin()
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (
        robustness.grid[0][lowest],
        robustness.maps[0].mean[lowest],
    )
    (shade,) = axes.patches
    assert (shade.get_x(), shade.get_width()) == pytest.approx((0.1, 0.1))
    thin = [line for line in axes.get_lines() if line.get_linewidth() < 1]
    np.testing.assert_array_equal(thin[1].get_ydata(), robustness.maps[0].returns[1].mean(axis=0))
    assert len(thin) == 2  # one for each seed


def test_curves_are_listed_in_the_order_in_which_they_end(tmp_path, drawn):
    robustness = fake(7, runs=3, seeds=1, rows=1)
    (axes,) = draw(robustness, tmp_path, drawn).axes
    ends = {run.label: -run.mean[-1] for run in robustness.maps}
    expected = [*sorted(ends, key=ends.get), "worst point", "training range"]
    assert words(axes.get_legend()) == expected
    assert axes.get_ylabel() == "return"
    colours = {line.get_color() for line in axes.get_lines() if line.get_label() in ends}
    assert len(colours) == 3


def test_runs_with_other_training_ranges_have_a_bar_each(tmp_path, drawn):
    robustness = fake(7, runs=2)
    other = RobustnessMap(
        "other", "RL2", robustness.maps[0].returns, {"pole_mass": (0.15, 0.15)}, rows=3
    )
    both = Robustness("CartPole", ("pole_mass",), robustness.grid, {}, (*robustness.maps, other))
    (axes,) = draw(both, tmp_path, drawn).axes
    assert not axes.patches
    bars = [line for line in axes.get_lines() if line.get_linewidth() == 4]
    ends = [tuple(bar.get_xdata()) for bar in bars if len(bar.get_xdata())]
    assert ends == [(0.1, 0.2), (0.1, 0.2), (0.15, 0.15)]
    assert "training ranges" in words(axes.get_legend())
    assert axes.get_ylabel() == "return of the last episode"


def test_maps_share_one_scale_and_mark_training_and_the_worst(tmp_path, drawn):
    robustness = fake(5, 4, runs=4)
    figure = draw(robustness, tmp_path, drawn)
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == ["run 0", "run 1", "run 2", "run 3"]
    assert bar.get_ylabel() == "return of episode 2"
    # Three side by side: labels stand at the edges.
    assert [axes.get_ylabel() for axes in panels] == ["length", "", "", "length"]
    assert [axes.get_xlabel() for axes in panels] == ["", *["pole mass (kg)"] * 3]
    lowest = min(run.mean.min() for run in robustness.maps)
    highest = max(run.mean.max() for run in robustness.maps)
    for axes, run in zip(panels, robustness.maps, strict=True):
        (mesh,) = axes.collections
        assert mesh.get_clim() == (lowest, highest)
        np.testing.assert_array_equal(mesh.get_array(), run.mean.T)
        (frame,) = axes.patches
        assert frame.get_bbox().bounds == pytest.approx((0.1, 0.5, 0.1, 0.5))
        (worst,) = axes.get_lines()
        at = np.unravel_index(run.mean.argmin(), run.mean.shape)
        assert worst.get_xdata()[0] == robustness.grid[0][at[0]]
        assert worst.get_ydata()[0] == robustness.grid[1][at[1]]
    assert words(figure.legends[0]) == ["training range", "worst point"]


@pytest.mark.parametrize("sizes", [(2,), (2, 2)])
def test_what_is_hardly_anything_is_drawn(sizes, tmp_path, drawn):
    robustness = fake(*sizes, seeds=1, training={"pole_mass": (5.0, 6.0), "length": (0.5, np.inf)})
    draw(robustness, tmp_path, drawn)
    robustness.maps[0].returns[:] = 1.0
    draw(fake_again(robustness), tmp_path, drawn, title="Constant")
    assert drawn[-1]._suptitle.get_text() == "Constant"
    robustness.maps[0].returns[:] = np.nan
    draw(fake_again(robustness), tmp_path, drawn)


def fake_again(robustness):
    """A copy, because a summary is made once."""
    maps = tuple(RobustnessMap(m.label, m.agent, m.returns, m.training) for m in robustness.maps)
    return Robustness(robustness.family, robustness.parameters, robustness.grid, {}, maps)


@pytest.mark.parametrize(
    ("names", "shape"), [(("pole_mass",), (2, 3, 5)), (("pole_mass", "length"), (2, 3, 4))]
)
def test_a_map_of_the_wrong_shape_is_refused(names, shape):
    grid = (np.linspace(0, 1, 4),)
    run = RobustnessMap("run", "RL2", np.zeros(shape), TRAINING)
    with pytest.raises(ValueError, match=r"returns of run|parameters"):
        Robustness("CartPole", names, grid, {}, (run,))
