"""Pictures of agents at work: what is drawn is what was played."""

import os
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import jaxmeta
from jaxmeta import GRU, MAML, MLP, RL2, ConfigError, PolicyMAML
from jaxmeta.analysis.pictures import show as showing
from jaxmeta.analysis.pictures.figure import Scene, draw_still, write_animation
from jaxmeta.cli import main
from jaxmeta.experience.play import play_adaptation
from jaxmeta.runs.choose import picture_place
from jaxmeta_envs import (
    Acrobot,
    BernoulliBandit,
    CartPole,
    CorrelatedBandit,
    GridNavigation,
    InformativeBandit,
    MountainCar,
    Pendulum,
    PointNavigation,
    RestlessBandit,
    TabularMDP,
)
from jaxmeta_envs.bandits.informative import InformativeTask
from jaxmeta_envs.core import drawings
from jaxmeta_envs.core.contracts import random_reference
from jaxmeta_envs.regression.functions import Sinusoid
from tests.tiny_runs import untrained

FAMILIES = {
    "bandit": BernoulliBandit(3, 4),
    "grid": GridNavigation(),
    "plane": PointNavigation(episode_length=6),
    "cart-pole": CartPole(episode_length=6),
    "pendulum": Pendulum(episode_length=6),
    "acrobot": Acrobot(episode_length=6),
    "mountain car": MountainCar(episode_length=6),
    "correlated": CorrelatedBandit(6),
    "informative": InformativeBandit(3, 4),
    "restless": RestlessBandit(6),
    "no drawing": TabularMDP(num_states=3, num_actions=2),
}


@pytest.fixture(scope="module")
def results():
    return {
        "acts": untrained(RL2(num_tasks=8, memory=GRU(4)), FAMILIES["bandit"]),
        "predicts": untrained(MAML(network=MLP((4,), "tanh"), shots=3), Sinusoid()),
    }


def play(family, rows=2):
    """A task and what the random policy does there."""
    key = jax.random.key(1)
    task, policy = family.sample_task(key, "test"), random_reference(family.action_space).policy
    run = jax.jit(lambda task: play_adaptation(family, policy, (), task, key, rows))
    return jax.device_get((task, run(task)))


@pytest.fixture
def axes():
    return Figure().add_subplot()


def first(trial):
    return jax.tree.map(lambda x: x[0], trial)


@pytest.mark.parametrize("name", ["grid", "plane"])
def test_paths_go_where_the_agent_went(name, axes):
    family = FAMILIES[name]
    task, trial = play(family)
    family.draw(axes, task, first(trial), 3)
    path, start, end, goal = (np.stack(line.get_data(), axis=1) for line in axes.lines)
    seen = np.concatenate([trial.inputs.obs[0, 0, :1], trial.next_obs[0, 0, :3]])
    if name == "grid":
        seen = np.stack([seen % 5, seen // 5], axis=1)
        np.testing.assert_array_equal(goal, [[task.goal % 5, task.goal // 5]])
    else:
        np.testing.assert_allclose(goal, [task.goal])
    np.testing.assert_allclose(path, seen)
    np.testing.assert_allclose(start, seen[:1])
    np.testing.assert_allclose(end, seen[-1:])
    assert axes.get_legend_handles_labels()[1] == ["start", "last position", "goal"]


def test_pulls_stand_over_the_posterior_means(axes):
    family = FAMILIES["bandit"]
    task, trial = play(family, 4)
    family.draw(axes, task, jax.tree.map(lambda x: x[:, 0], trial), 3)
    arms, rewards = trial.action[:, 0, 0], trial.reward[:, 0, 0]
    dots = sorted(map(tuple, np.concatenate([c.get_offsets() for c in axes.collections]).tolist()))
    assert dots == [(n + 1.0, float(arm)) for n, arm in enumerate(arms[:3])]
    shown = axes.images[0].get_array()
    for pull in range(3):
        for arm in range(3):
            own = rewards[:pull][arms[:pull] == arm]
            np.testing.assert_allclose(shown[arm, pull], (1 + own.sum()) / (2 + len(own)))
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown))[:, 3].all()
    assert axes.get_yticklabels()[int(np.argmax(task.probs))].get_text().endswith("*")


def test_beliefs_of_bandits_whose_arms_tell_of_each_other(axes):
    family = FAMILIES["correlated"]
    task, trial = play(family, 6)
    family.draw(axes, task, jax.tree.map(lambda x: x[:, 0], trial), 6)
    spoke = (trial.reward[:, 0, 0] > 0.5) == (trial.action[:, 0, 0] == 0)
    for pull in range(6):  # Laplace's rule, as p is uniform
        expected = (1 + spoke[:pull].sum()) / (2 + pull)
        np.testing.assert_allclose(
            axes.images[0].get_array()[:, pull], [expected, 1 - expected], rtol=1e-6
        )


def test_beliefs_about_who_pays_most(axes):
    family, task = FAMILIES["informative"], InformativeTask(np.int32(1))
    played = SimpleNamespace(
        action=np.array([[0], [3], [1]]), reward=np.array([[1.1], [0.2], [5.0]], np.float32)
    )
    family.draw(axes, task, played, 3)
    found = axes.images[0].get_array().T
    average = (5.0 + 2 * 1.1) / 3
    np.testing.assert_allclose(found[0], [average] * 3 + [0.2])
    np.testing.assert_allclose(found[1], [1.1, (5.0 + 1.1) / 2, (5.0 + 1.1) / 2, 0.25])
    np.testing.assert_allclose(found[2], [1.1, 5.0, 1.1, 0.2])


def test_a_walking_probability_and_the_pulls_beside_it(axes):
    family = FAMILIES["restless"]
    task, trial = play(family, 1)
    family.draw(axes, task, first(trial), 4)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), task.probs)
    dots = sorted(map(tuple, np.concatenate([c.get_offsets() for c in axes.collections]).tolist()))
    heights = [1.05 if arm == 0 else -0.05 for arm in trial.action[0, 0, :4]]
    assert dots == [(pull + 1.0, height) for pull, height in enumerate(heights)]


def test_the_acrobot_hangs_together_and_the_car_stays_on_its_hill(axes):
    family = FAMILIES["acrobot"]
    task, trial = play(family, 1)
    family.draw(axes, task, first(trial), 3)
    body = next(line for line in axes.lines if line.get_marker() == "o")
    bones = np.hypot(*np.diff(body.get_data()))
    np.testing.assert_allclose(bones, [task.length_1, task.length_2], rtol=1e-5)
    cosine_1, sine_1, cosine_2, sine_2 = trial.next_obs[0, 0, 2, :4].astype(float)
    angle = np.arctan2(sine_1, cosine_1) + np.arctan2(sine_2, cosine_2)
    height = -task.length_1 * cosine_1 - task.length_2 * np.cos(angle)
    np.testing.assert_allclose(body.get_ydata()[-1], height, atol=1e-5)

    figure = Figure().add_subplot()
    task, trial = play(FAMILIES["mountain car"], 1)
    FAMILIES["mountain car"].draw(figure, task, first(trial), 3)
    x, y = figure.lines[1].get_data()
    np.testing.assert_allclose(x[1:], trial.next_obs[0, 0, :3, 0])
    np.testing.assert_allclose(y, 0.45 * np.sin(3 * x) + 0.55)


@pytest.mark.parametrize("name", ["cart-pole", "pendulum"])
def test_bodies_have_the_length_of_the_task(name, axes):
    family = FAMILIES[name]
    task, trial = play(family)
    family.draw(axes, task, first(trial), 2)
    body = next(line for line in axes.lines if line.get_marker() == "o")
    (x0, x1), (y0, y1) = body.get_data()
    length = 2 * task.half_length if name == "cart-pole" else task.length
    np.testing.assert_allclose(np.hypot(x1 - x0, y1 - y0), length, rtol=1e-5)
    obs = trial.next_obs[0, 0, 1]
    angle = obs[2] if name == "cart-pole" else np.arctan2(obs[1], obs[0])
    np.testing.assert_allclose(np.arctan2(x1 - x0, y1 - y0), angle, rtol=1e-4)


def test_without_a_drawing_reward_is_drawn(axes):
    family = FAMILIES["no drawing"]
    task, trial = play(family)
    family.draw(axes, task, first(trial), 4)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), np.cumsum(trial.reward[0, 0])[:4])


def belief_panel(axes, task, row, until):
    """Beliefs of another range for every task."""
    played = SimpleNamespace(action=np.zeros((3, 1), int), reward=np.zeros((3, 1)))
    drawings.pulls(axes, played, until, np.array([0.0, task]), np.full((3, 2), 1.0 + task))


def test_all_panels_have_one_scale_of_grey_and_a_key(tmp_path, monkeypatch):
    scene = Scene(3, [0], [(0, 1), (0, 3)], belief_panel, lambda row: "now", 3)
    figure = draw_still(scene, "title")
    *panels, key = figure.axes
    assert {axes.images[0].get_clim() for axes in panels} == {(0.0, 3.0)}
    assert key.get_ylabel() == "believed reward of an arm"
    assert key.get_ylim() == (0.0, 3.0)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["paid well", "paid badly"]

    frames, draw = [], FigureCanvasAgg.draw

    def spy(self):
        draw(self)
        *panels, key = self.figure.axes
        frames.append(({axes.images[0].get_clim() for axes in panels}, key.get_ylim()))
        assert len(self.figure.legends) == 1

    monkeypatch.setattr(FigureCanvasAgg, "draw", spy)
    write_animation(scene, "title", tmp_path / "moving.gif")
    assert frames == [({(0.0, 3.0)}, (0.0, 3.0))] * 2


def played_here(wide):
    """A scene of one line that grows, in panels of equal units, six times as wide as high if so."""

    def panel(axes, task, row, until):
        axes.plot([0, until], [0, 1], label="line" if until > 1 else "")
        axes.set_aspect("equal")
        axes.set_xlim(-3, 3)
        axes.set_ylim(*((-0.5, 0.5) if wide else (-3, 3)))

    return Scene(2, [0, 1], [(0, 1), (0, 2), (1, 1), (1, 2)], panel, str, 2)


def test_panels_of_an_animation_stay_where_they_are(tmp_path, monkeypatch):
    places, draw = [], FigureCanvasAgg.draw

    def spy(self):
        draw(self)
        places.append([axes.get_window_extent().bounds for axes in self.figure.axes])

    monkeypatch.setattr(FigureCanvasAgg, "draw", spy)
    write_animation(played_here(wide=False), "title", tmp_path / "moving.gif")
    assert len(places) == 4
    np.testing.assert_allclose(places, [places[0]] * 4)


def test_wide_panels_are_low(tmp_path):
    heights = [draw_still(played_here(wide), "title").get_figheight() for wide in (True, False)]
    assert heights[0] < 0.6 * heights[1]
    sizes = []
    for wide in (True, False):
        write_animation(played_here(wide), "title", tmp_path / "moving.gif")
        with Image.open(tmp_path / "moving.gif") as moving:
            sizes.append(moving.size)
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] < 0.6 * sizes[1][1]


def test_last_positions_lie_above_all_paths(axes):
    obs, masks = np.arange(24.0).reshape(3, 4, 2), np.ones((3, 4), bool)
    episodes = SimpleNamespace(inputs=SimpleNamespace(obs=obs), next_obs=obs, mask=masks)
    drawings.paths(axes, episodes, 4, np.zeros(2), np.asarray)
    paths = [line for line in axes.lines if line.get_marker() == "None"]
    ends = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(paths) == len(ends) == 3
    assert min(e.get_zorder() for e in ends) > max(p.get_zorder() for p in paths)


@pytest.mark.parametrize("kind", ["acts", "predicts"])
def test_pictures_of_a_run(kind, results, tmp_path, monkeypatch):
    scenes = []
    monkeypatch.setattr(
        showing, "write_still", lambda scene, title, path: scenes.append(draw_still(scene, title))
    )
    pictures = jaxmeta.show(results[kind], num_tasks=2, seed_index=1, out=tmp_path)
    (figure,) = scenes
    assert len(figure.axes) == (3 if kind == "acts" else 4)  # a key to the greys
    with Image.open(pictures.moving) as moving:
        assert moving.format == "GIF"
        assert moving.n_frames > 1
    assert [p.name for p in tmp_path.iterdir()] == ["show.gif"]  # the other was not written
    if kind == "predicts":
        before, after = (axes.lines[1].get_ydata() for axes in figure.axes[:2])
        assert not np.allclose(before, after)
        assert len(figure.axes[0].lines[2].get_xdata()) == 3
        assert [axes.get_title() for axes in figure.axes[:2]] == ["after 0 steps", "after 1 step"]


def test_all_pulls_of_an_update_are_drawn(tmp_path, monkeypatch):
    result = untrained(PolicyMAML(shots=3, network=MLP((4,), "tanh")), FAMILIES["bandit"])
    figures = []
    monkeypatch.setattr(
        showing, "write_still", lambda scene, title, path: figures.append(draw_still(scene, title))
    )
    pictures = jaxmeta.show(result, num_tasks=1, out=tmp_path)
    axes, _ = figures[0].axes
    assert sum(len(dots.get_offsets()) for dots in axes.collections) == 6
    with Image.open(pictures.moving) as moving:
        assert moving.n_frames == 6


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"split": "nowhere"}, "split is 'nowhere'"),
        ({"num_tasks": 9}, "num_tasks is 9; it must be from 1 to 8"),
        ({"episodes": 0}, "episodes is 0"),
        ({"seed_index": 2}, "seed_index is 2; it must be from 0 to 1"),
        ({"out": None}, "out is None"),
        ({"out": "show.jpg"}, "out is 'show.jpg'; it must be the name of a PNG, such as"),
        ({"out": "nowhere/show.png"}, "nowhere cannot be written"),
        ({"out": "nowhere/pictures"}, "nowhere cannot be written"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_what_cannot_be_shown_is_refused(settings, says, results, tmp_path):
    with pytest.raises(ConfigError, match=says):
        jaxmeta.show(results["acts"], **({"out": tmp_path} | settings))


def test_the_place_is_a_picture_or_a_directory(results, tmp_path, monkeypatch):
    monkeypatch.setattr(showing, "write_animation", lambda scene, title, path: None)
    for out, still in (("walk.png", "walk.png"), ("new", "new/show.png"), ("new", "new/show.png")):
        pictures = jaxmeta.show(results["predicts"], num_tasks=1, out=tmp_path / out)
        assert pictures == (tmp_path / still, (tmp_path / still).with_suffix(".gif"))
        assert pictures.still.exists()


@pytest.mark.parametrize(
    ("out", "place"),
    [("map.png", "map.png"), ("there", "there/usual.png"), ("new", "new/usual.png")],
)
def test_all_pictures_go_by_one_rule(out, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    assert picture_place(out, "usual.png") == Path(place)
    assert os.listdir() == ["there"]
    with pytest.raises(ConfigError, match=r"out is 'map.pdf'; it must be .* PNG.* or a directory"):
        picture_place("map.pdf", "usual.png")


def test_the_command_line_shows(monkeypatch, capsys, tmp_path):
    given = {}

    def fake(run_dir, **options):
        given.update(options, run_dir=run_dir)
        return showing.Pictures(tmp_path / "show.png", tmp_path / "show.gif")

    monkeypatch.setattr(showing, "show", fake)
    assert main(["show", "runs/x", "--num-tasks", "2", "--episodes", "5"]) == 0
    assert (given["run_dir"], given["num_tasks"], given["episodes"]) == ("runs/x", 2, 5)
    assert "show.gif" in capsys.readouterr().out
