import io
import logging
import sys

import pytest

from jaxmeta.cli import figure_log, main
from jaxmeta.render.terminal import spell_plainly


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "2 × 3 ±1 ↑ – é"),
        ("ascii", "2 x 3 ~1 ^ - ?"),
        ("latin-1", "2 × 3 ±1 ^ - é"),
        ("cp1252", "2 × 3 ±1 ^ – é"),
    ],
)
def test_what_a_terminal_lacks_is_spelled_plainly(encoding, shown):
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding=encoding)
    spell_plainly(stream)
    stream.write("2 × 3 ±1 ↑ – é")
    stream.flush()
    assert content.getvalue().decode(encoding) == shown


def test_a_stream_of_another_kind_is_left_alone():
    spell_plainly(io.StringIO())


def test_what_matplotlib_logs_is_one_line(capsys):
    log = logging.getLogger("matplotlib")
    with figure_log.saying_what_figures_log():
        log.warning("mkdir -p failed for path %s: %s", "/home/nobody", "there is none")
        log.warning("Matplotlib created a temporary cache directory at /tmp/x because\nof that")
        log.warning("Font family %s not\nfound", "Comic")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("jaxmeta: figures take seconds longer")
    assert "MPLCONFIGDIR" in said[0]
    assert said[1] == "jaxmeta: Font family Comic not found"
    assert log.handlers == []


def test_the_command_prepares_its_streams(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["--version"]) == 0
    assert stream.errors == "jaxmeta-plain"
