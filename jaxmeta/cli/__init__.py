"""The ``jaxmeta`` command.

Imports happen inside the commands, so that help is immediate. Every mistake of the user
ends in one sentence on stderr and exit code 2, before anything is compiled or written; what
the machine refuses, as a full disk does, in one and exit code 1, once everything else is done;
an error that is neither keeps its traceback.
"""

from __future__ import annotations

import difflib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxmeta.cli import agents, names, training
from jaxmeta.cli.devices import prepare_jax
from jaxmeta.cli.failures import explain, say_stopped, say_warning
from jaxmeta.cli.output import BAD_INPUT, BROKEN_PIPE, OK, complain, drop_output
from jaxmeta.render.terminal import spell_plainly
from jaxmeta.runtime.leaving import Stopped, leave, leaving_at_once
from jaxmeta.version import VERSION


class Command(NamedTuple):
    """A command: what runs it, given its arguments, and what the help says of it."""

    run: Callable[[list[str]], int]
    usage: str
    summary: str


COMMANDS = {
    "train": Command(
        training.train_command,
        "train ALGORITHM FAMILY [OPTIONS]",
        "Train, then evaluate on held-out tasks.",
    ),
    "sweep": Command(
        training.sweep_command,
        "sweep ALGORITHM FAMILY --over NAME=VALUE,VALUE [OPTIONS]",
        "Train with many numbers at once.",
    ),
    "resume": Command(
        training.resume_command, "resume RUN_DIR [OPTIONS]", "Continue a run that was stopped."
    ),
    "evaluate": Command(
        agents.evaluate_command,
        "evaluate RUN_DIR [OPTIONS]",
        "Measure adaptation to held-out tasks.",
    ),
    "compare": Command(
        agents.compare_command,
        "compare RUN_DIR ... [OPTIONS]",
        "Lay adaptation curves over each other.",
    ),
    "robustness": Command(
        agents.robustness_command,
        "robustness RUN_DIR ... [OPTIONS]",
        "Map the return over physical parameters.",
    ),
    "show": Command(
        agents.show_command, "show RUN_DIR [OPTIONS]", "Draw the agent at work, still and moving."
    ),
    "export": Command(
        agents.export_command,
        "export RUN_DIR PATH [OPTIONS]",
        "Write an agent that JAX alone can run.",
    ),
    "list": Command(
        names.list_command, "list", "List algorithms, task families, splits and references."
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Arguments after the program's name; None takes those of the process, which then ends
            with this call.

    Returns:
        The exit code: 0; 1 if training diverged or something could not be written; 2 for bad
        input; 128 plus the signal's number if interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):  # None where they were closed
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    spell_plainly(sys.stdout, sys.stderr)
    with warnings.catch_warnings():
        warnings.showwarning = say_warning
        return _run(arguments, ends_process=argv is None)


def _run(arguments: list[str], ends_process: bool) -> int:
    try:
        with leaving_at_once(say_stopped):
            code = _dispatch(arguments)
        sys.stdout.flush()  # while a closed pipe can still be told from a defect
        return code
    except SystemExit as stop:  # help, or an option that cannot be read
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    except KeyboardInterrupt as stop:
        code = say_stopped(stop.signum if isinstance(stop, Stopped) else signal.SIGINT)
        if ends_process:
            leave(code)  # Python's own end would wait for threads that compile
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        drop_output()
        return BROKEN_PIPE
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        return complain(*explained)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in names.HELP:
        print(_usage(), file=sys.stdout if arguments else sys.stderr)
        return OK if arguments else BAD_INPUT
    if arguments[0] == "--version":
        print(f"jaxmeta {VERSION}")
        return OK
    from jaxmeta.cli.figure_log import saying_what_figures_log
    from jaxmeta.cli.import_option import split_modules

    arguments, modules = split_modules(arguments)
    name, *rest = arguments or [""]
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        return complain(f"command is {name!r}; it must be one of {known}{guess}", BAD_INPUT)
    if modules:
        from jaxmeta.catalog.importing import import_module

        prepare_jax()  # they may use it
        for module in modules:
            import_module(module)
    with saying_what_figures_log():
        return COMMANDS[name].run([*rest, *(f"--import={module}" for module in modules)])


def _usage() -> str:
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"  jaxmeta {c.usage:<{width}}  {c.summary}" for c in COMMANDS.values()]
    return "\n".join(
        [
            "Meta-reinforcement learning in JAX.",
            "",
            *lines,
            "",
            "jaxmeta COMMAND --help explains the options of a command, jaxmeta --version",
            "prints the version. --import MODULE finds classes of your own, in mine.py say with",
            "--import mine. To begin with:",
            "",
            "  jaxmeta train rl2 bernoulli-bandit --dry-run",
        ]
    )
