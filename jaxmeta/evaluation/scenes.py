"""What there is to draw of a learner at work on some tasks: panels, still and moving.

Axes: B tasks, K rows of adaptation, N episodes of a row, T steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta.evaluation.player import draw_task
from jaxmeta.experience.play import play_adaptation
from jaxmeta_envs.core.contracts import AdaptivePolicy, TaskFamily
from jaxmeta_envs.core.supervised import AdaptiveModel, Examples, FunctionFamily

_COLUMNS = 5  # rows of adaptation in the still picture
_POINTS = 200  # of a function
_MOMENTS = 12  # frames per row of adaptation


class Scene(NamedTuple):
    """What there is to draw of some tasks.

    Attributes:
        tasks: How many.
        columns: Rows of adaptation that the still picture shows.
        frames: Row of adaptation and step of every frame of the moving one.
        panel: ``(axes, task, row, until)`` draws one panel.
        says: ``row -> what it is``.
        last: ``until`` of a whole episode.
    """

    tasks: int
    columns: list[int]
    frames: list[tuple[int, int]]
    panel: Callable[[Any, int, int, int], None]
    says: Callable[[int], str]
    last: int


def episodes_scene(
    family: TaskFamily,
    policy: AdaptivePolicy,
    params: Any,
    rows: int,
    key: Array,
    split: str,
    num_tasks: int,
) -> Scene:
    """Returns what a policy did in its episodes: a row is a step of adaptation.

    Args:
        family: The family.
        policy: The policy.
        params: What it reads.
        rows: K.
        key: Key of an evaluation, whose first tasks these are.
        split: Where they are from.
        num_tasks: B.
    """

    def play(index: Any) -> Any:
        task, luck = draw_task(family, key, index, split)
        return task, play_adaptation(family, policy, params, task, luck, rows)

    tasks, played = jax.device_get(jax.jit(jax.vmap(play))(_indices(num_tasks)))

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


def fits_scene(
    family: FunctionFamily,
    model: AdaptiveModel,
    params: Any,
    rows: int,
    key: Array,
    split: str,
    num_tasks: int,
) -> Scene:
    """Returns what a model predicts after every step of adaptation; as `episodes_scene`."""
    drawn = jax.vmap(functools.partial(draw_task, family, key, split=split))
    tasks, keys = drawn(_indices(num_tasks))
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


def _indices(num_tasks: int) -> Array:
    return jnp.arange(num_tasks, dtype=jnp.uint32)


def _spread(rows: int) -> list[int]:
    """Returns up to five rows from the first to the last."""
    return np.unique(np.linspace(0, rows - 1, min(rows, _COLUMNS)).round().astype(int)).tolist()


def _after(row: int, unit: str) -> str:
    return f"after {row} {unit}{'' if row == 1 else 's'}"
