"""How much a command is about to play, where nothing is to be seen until it is done."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmeta.config import TrainConfig

_MUCH = 100_000_000  # environment steps: seconds in the quickest families, an hour in a slow one


def say_if_long(
    run_dirs: Sequence[str], options: Mapping[str, Any], *, in_rows: bool = False
) -> None:
    """Says on stderr how many steps agents will play, if they are many.

    Args:
        run_dirs: Directories of their runs.
        options: Of an evaluation or comparison; counts that are out of range are refused.
        in_rows: Whether ``episodes`` counts rows of the curve, also where a row is of several.
    """
    from jaxmeta.runs.directory import read_record

    steps = sum(_steps(read_record(path).config, options, in_rows) for path in run_dirs)
    if steps > _MUCH:
        whose = "the agent" if len(run_dirs) == 1 else "the agents"
        print(
            f"jaxmeta: playing {options['num_tasks']:,} tasks, about {steps:,} steps of {whose} "
            "besides those of the references",
            file=sys.stderr,
        )


def _steps(config: TrainConfig, options: Mapping[str, Any], in_rows: bool) -> int:
    """Returns environment steps of all seeds, or on supervised tasks, predictions."""
    from jaxmeta.evaluation.evaluate import check_playable
    from jaxmeta.evaluation.player import BATCH
    from jaxmeta.evaluation.protocols import protocol_of

    protocol = protocol_of(config.algorithm, config.tasks)
    rows = len(protocol.experience)
    if (episodes := options["episodes"]) is not None:
        rows = episodes if in_rows else math.ceil(episodes / protocol.together)
    check_playable(config.tasks, options["split"], options["num_tasks"], rows, BATCH)
    return options["num_tasks"] * rows * protocol.row_steps * config.num_seeds
