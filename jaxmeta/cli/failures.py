"""What is said of an error, a warning or a signal: one sentence each."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, TextIO

from jaxmeta.cli.output import BAD_INPUT, FAILED, complain, drop_output

if TYPE_CHECKING:
    from jaxmeta.training.train import TrainingInterrupted


def say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows a warning as one line, without the place in the code that made it."""
    from jaxmeta.runtime.compilation_cache import stop_after_refusal

    if issubclass(category, UserWarning):
        text = stop_after_refusal(str(message)) or str(message)
    else:
        text = f"{category.__name__}: {message} ({filename}:{lineno})"
    print(f"jaxmeta: {text}", file=sys.stderr if file is None else file)


def say_stopped(signum: int) -> int:
    """Says that a signal ended a command; returns the exit code."""
    name = signal.Signals(signum).name
    return complain(f"interrupted by {name}; what was saved until now is kept", 128 + signum)


def explain(error: Exception) -> tuple[str, int] | None:
    """Returns what to say of an error that is no defect, and the exit code; else None."""
    from jaxmeta.cli.import_option import again
    from jaxmeta.runs.checkpoint import CheckpointError, NotSaved
    from jaxmeta.runtime.files import describe_refusal
    from jaxmeta.runtime.hosts import ProcessLost
    from jaxmeta.training.train import TrainingDiverged, TrainingInterrupted
    from jaxmeta_envs.core.errors import ConfigError

    if isinstance(error, TrainingInterrupted):
        return _explain_interrupted(error), 128 + error.signum
    if isinstance(error, TrainingDiverged):
        return str(error), FAILED
    if isinstance(error, ProcessLost):
        complain(str(error), FAILED)
        sys.stdout.flush()
        os._exit(FAILED)  # JAX would wait at exit for the process that is gone
    if isinstance(error, NotSaved):
        later = f"jaxmeta resume {shlex.quote(str(error.run_dir))}{again()}"
        return f"{error}; once it can, go on with: {later}", FAILED
    if isinstance(error, OSError) and (refused := describe_refusal(error)) is not None:
        if error.filename is None:
            drop_output()
        return refused, FAILED
    return (str(error), BAD_INPUT) if isinstance(error, ConfigError | CheckpointError) else None


def _explain_interrupted(error: TrainingInterrupted) -> str:
    """Says when training stopped, and how it goes on."""
    from jaxmeta.cli.import_option import again
    from jaxmeta.runs.directory import read_record
    from jaxmeta_envs.core.errors import ConfigError

    name = signal.Signals(error.signum).name
    when = f"after {error.result.env_steps:,} environment steps"
    if error.run_dir is not None:
        later = f"go on with: jaxmeta resume {shlex.quote(str(error.run_dir))}{again()}"
        total = error.result.config.total_env_steps
        try:
            written = read_record(error.run_dir).config.total_env_steps
        except ConfigError as gone:  # the directory has vanished meanwhile
            return f"{name} stopped training {when}, and {gone}"
        if total != written:  # as it ended before that
            later += f" --total-env-steps {total}"
    elif error.result.state is None:
        when, later = "before it began", "nothing is left of it"
    else:
        later = "nothing is saved, as there was no run directory"
    return f"{name} stopped training {when}; {later}"
