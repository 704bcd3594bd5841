"""What a person sees while training runs."""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_QUIET_SECONDS = 10.0


class Progress(contextlib.AbstractContextManager):
    """Shows nothing; the base of those that show something.

    Args:
        total: Environment steps of the whole run, over all seeds.
        done: Of these, how many an earlier process did.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total = total
        self._first = done
        self._done = done
        self._seconds = 0.0
        self._reached, self._score, self._unit = math.nan, "return", "env-steps"

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the show."""

    @property
    def done(self) -> int:
        """Environment steps done, over all seeds."""
        return self._done

    def say(self, text: str) -> None:
        """Shows a line, such as how long compilation took."""

    def advance(
        self,
        done: int,
        seconds: float,
        reached: float,
        score: str = "return",
        unit: str = "env-steps",
    ) -> None:
        """Shows a finished chunk.

        Args:
            done: Environment steps done, over all seeds.
            seconds: Seconds that the chunk took.
            reached: Mean score of the chunk's last update.
            score: What that is called.
            unit: What steps are called.
        """
        self._done = done
        self._seconds += seconds
        self._reached, self._score, self._unit = reached, score, unit
        self._show()

    def _show(self) -> None:
        pass

    def _rate(self) -> float:
        """Environment steps per second of training, compilation and saving left out."""
        return (self._done - self._first) / max(self._seconds, 1e-9)

    def _status(self) -> str:
        return f"{compact(self._rate())} {self._unit}/s  {self._score} {self._reached:.4g}"


class _Lines(Progress):
    """A plain line now and then, for files."""

    def __init__(self, total: int, done: int, console: Console) -> None:
        super().__init__(total, done)
        self._console = console
        self._last = -math.inf

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last < _QUIET_SECONDS and self._done < self._total:
            return
        self._last = now
        left = (self._total - self._done) / self._rate()
        share = self._done / self._total
        eta = time.strftime("%H:%M:%S", time.gmtime(left))
        self.say(f"{share:4.0%}  {compact(self._done)} {self._unit}  {self._status()}  {eta} left")


class _Cell(_Lines):
    """The same lines as one output of a notebook's cell, which grows."""

    def __init__(self, total: int, done: int, console: Console) -> None:
        super().__init__(total, done, console)
        self._said: list[str] = []
        self._output: Any = None

    def say(self, text: str) -> None:
        from IPython.display import display

        self._said.append(text)
        shown = {"text/plain": "\n".join(self._said)}
        if self._output is None:
            self._output = display(shown, raw=True, display_id=True)
        else:
            self._output.update(shown, raw=True)


class _Bar(Progress):
    """A live bar, for terminals."""

    def __init__(self, total: int, done: int, console: Console, label: str) -> None:
        super().__init__(total, done)
        from rich import progress

        self._label = label
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[status]}"),
            progress.TimeRemainingColumn(),
            console=console,
        )
        self._task: Any = None
        self._bar.start()

    def close(self) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    def _show(self) -> None:
        if self._task is None:  # not before, so that compilation is not in the estimate
            self._task = self._bar.add_task(
                self._label, total=self._total, completed=self._first, status=""
            )
        self._bar.update(self._task, completed=self._done, status=self._status())


def make_progress(shown: bool, total: int, done: int, label: str = "training") -> Progress:
    """Returns a bar in a terminal, lines elsewhere (in a notebook as one output), or nothing."""
    if not shown:
        return Progress(total, done)
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_jupyter:  # where stderr looks like an error
        return _Cell(total, done, console)
    if console.is_terminal:
        return _Bar(total, done, console, label)
    return _Lines(total, done, console)


def compact(number: float) -> str:
    """Returns a number as a person reads it: ``1234567`` as ``1.23M``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
