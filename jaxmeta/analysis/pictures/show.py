"""Pictures of a trained agent at work on held-out tasks, still and moving.

Axes: B tasks, K rows of adaptation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxmeta import parallel
from jaxmeta.analysis.pictures.figure import write_animation, write_still
from jaxmeta.catalog.methods import title_of
from jaxmeta.evaluation.evaluate import evaluation_key
from jaxmeta.evaluation.protocols import protocol_of
from jaxmeta.runs.choose import load_runs, picture_place
from jaxmeta.runtime.arguments import check_seed
from jaxmeta_envs.core.errors import require

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
        out: The PNG to write, the GIF beside it, or the directory for them; None takes the
            run's. In a directory they are ``show.png`` and ``show.gif``, of another split
            ``show-SPLIT``.

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
    wanted = result.run_dir if out is None else out
    require(wanted is not None, "out", out, "a place, as the result has no run_dir")
    still = picture_place(wanted, "show.png" if split == "test" else f"show-{split}.png")
    family.check_installed()
    protocol = protocol_of(algorithm, family)
    protocol = protocol.with_rows(episodes or max(2, len(protocol.experience)))
    params = jax.tree.map(lambda x: x[seed_index], result.params)
    scene = protocol.scene(params, evaluation_key(seed), split, num_tasks)
    still.parent.mkdir(exist_ok=True)
    title = f"{title_of(algorithm)} on {type(family).__name__}"
    title += "" if split == "test" else f', split "{split}"'
    pictures = Pictures(still, still.with_suffix(".gif"))
    write_still(scene, title, pictures.still)
    write_animation(scene, title, pictures.moving)
    return pictures
