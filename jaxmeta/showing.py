"""Pictures of a trained agent at work on held-out tasks, still and moving.

Axes: B tasks, K rows of adaptation, N episodes of a row, T steps.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import parallel
from jaxmeta.evaluation import check_seed, evaluation_key, policy_of, trained_rows
from jaxmeta.methods import title_of
from jaxmeta.player import draw_task
from jaxmeta.rollout import play_adaptation
from jaxmeta.runs import load_runs
from jaxmeta.show_plots import Scene, write_animation, write_still
from jaxmeta_envs.base import Family, TaskFamily
from jaxmeta_envs.errors import require
from jaxmeta_envs.supervised import AdaptiveModel, Examples, FunctionFamily

_COLUMNS = 5  # rows of adaptation in the still picture
_POINTS = 200  # of a function
_MOMENTS = 12  # frames per row of adaptation
_MOST_ROWS = 1000  # a picture of each moves


class Pictures(NamedTuple):
    """What `show` wrote.

    Attributes:
        still: PNG: a line per task, a column per number of adaptations.
        moving: GIF: the tasks side by side, adaptation after adaptation.
    """

    still: Path
    moving: Path


def show(
    run: Any,
    *,
    episodes: int | None = None,
    split: str = "test",
    num_tasks: int = 3,
    seed: int = 0,
    seed_index: int = 0,
    out: str | Path | None = None,
) -> Pictures:
    """Draws how a trained agent adapts to held-out tasks; its actions are sampled.

    Every family has a drawing of its own: paths on grids and in the plane, pulls over posterior
    means, bodies, functions with their examples. Of a family without one, reward is drawn.

    Args:
        run: Directory of a run, or what `jaxmeta.train` returned.
        episodes: Rows of adaptation, K: episodes of a trial, or one and the gradient steps; None
            takes as many as in training (at least one step).
        split: Where the tasks are from.
        num_tasks: B, at most 8.
        seed: Of tasks and luck: those that `jaxmeta.evaluate` meets first with it.
        seed_index: Which training seed's agent acts.
        out: Directory of the pictures; None takes the run's.

    Returns:
        ``show.png`` and ``show.gif``; with another split ``show-SPLIT``.

    Raises:
        ConfigError: If an argument is out of range, or there is nowhere to write.
    """
    parallel.request_cpu_devices()
    (result,) = load_runs(run)
    config = result.config
    family, algorithm = config.tasks, config.algorithm
    family.check_split(split)
    require(1 <= num_tasks <= 8, "num_tasks", num_tasks, "from 1 to 8")
    fine = episodes is None or 1 <= episodes <= _MOST_ROWS
    require(fine, "episodes", episodes, f"from 1 to {_MOST_ROWS:,}, or None")
    check_seed(seed)
    seeds = f"from 0 to {config.num_seeds - 1}, a seed of the run"
    require(0 <= seed_index < config.num_seeds, "seed_index", seed_index, seeds)
    folder = result.run_dir if out is None else Path(out)
    require(folder is not None, "out", out, "a directory, as the result has no run_dir")
    family.check_installed()
    rows = episodes or max(2, trained_rows(algorithm, family))
    params = jax.tree.map(lambda x: x[seed_index], result.params)
    scene = _scene(family, policy_of(algorithm, family), params, rows, split, num_tasks, seed)
    folder.mkdir(parents=True, exist_ok=True)
    name = "show" if split == "test" else f"show-{split}"
    title = f"{title_of(algorithm)} on {type(family).__name__}"
    title += "" if split == "test" else f', split "{split}"'
    pictures = Pictures(folder / f"{name}.png", folder / f"{name}.gif")
    write_still(scene, title, pictures.still)
    write_animation(scene, title, pictures.moving)
    return pictures


def _scene(
    family: Family, policy: Any, params: Any, rows: int, split: str, num_tasks: int, seed: int
) -> Scene:
    indices = jnp.arange(num_tasks, dtype=jnp.uint32)
    draw = functools.partial(draw_task, family, evaluation_key(seed), split=split)
    if isinstance(family, FunctionFamily):
        return _fits(family, policy, params, rows, jax.vmap(draw)(indices))
    drawn = "a TaskFamily or a FunctionFamily: other tasks have no picture"
    require(isinstance(family, TaskFamily), "tasks", family, drawn)
    assert isinstance(family, TaskFamily)

    def play(index: Any) -> Any:
        task, luck = draw(index)
        return task, play_adaptation(family, policy, params, task, luck, rows)

    tasks, played = jax.device_get(jax.jit(jax.vmap(play))(indices))

    def panel(axes: Any, index: int, row: int, until: int) -> None:
        of_row = jax.tree.map(lambda x: x[index, row], played)
        family.draw(axes, jax.tree.map(lambda x: x[index], tasks), of_row, until)

    unit = "episode" if policy.episodes_per_adapt == 1 else "update"
    if family.draws_trial:
        # One row of all episodes, one after the other.
        played = jax.tree.map(lambda x: x.reshape(num_tasks, 1, -1, *x.shape[3:]), played)
        length = rows * policy.episodes_per_adapt
        frames = [(0, until) for until in range(1, length + 1)]
        return Scene(num_tasks, [0], frames, panel, lambda row: f"{length} episodes", length)
    columns, length = _spread(rows), family.horizon
    moments = np.unique(np.linspace(1, length, min(length, _MOMENTS)).astype(int)).tolist()
    frames = [(row, until) for row in columns for until in moments]
    return Scene(num_tasks, columns, frames, panel, lambda row: _after(row, unit), length)


def _fits(
    family: FunctionFamily, model: AdaptiveModel, params: Any, rows: int, drawn: Any
) -> Scene:
    tasks, keys = drawn
    examples = jax.vmap(lambda k, t: family.sample_examples(k, t, model.shots))(keys, tasks)
    wide = jax.vmap(lambda k, t: family.sample_examples(k, t, _POINTS).x)(keys, tasks)
    low, high = wide.min((0, 1)), wide.max((0, 1))
    x = jnp.linspace(low, high, _POINTS)

    def predict(support: Examples) -> Any:
        def step(carry: Any, _: None) -> tuple[Any, Any]:
            return model.adapt(params, carry, support), model.predict(params, carry, x)

        return jax.lax.scan(step, model.begin(params), None, rows)[1]

    truth = jax.vmap(lambda task: family.function(task, x))(tasks)
    predicted = jax.jit(jax.vmap(predict))(examples)
    x, truth, predicted, examples = jax.device_get((x, truth, predicted, examples))

    def panel(axes: Any, index: int, row: int, until: int) -> None:
        del until
        seen = jax.tree.map(lambda leaf: leaf[index], examples)
        family.draw(axes, x, truth[index], predicted[index, row], seen)

    frames = [(row, 1) for row in range(rows)]
    return Scene(len(truth), _spread(rows), frames, panel, lambda row: _after(row, "step"), 1)


def _spread(rows: int) -> list[int]:
    """Returns up to five rows from the first to the last."""
    return np.unique(np.linspace(0, rows - 1, min(rows, _COLUMNS)).round().astype(int)).tolist()


def _after(row: int, unit: str) -> str:
    return f"after {row} {unit}{'' if row == 1 else 's'}"
