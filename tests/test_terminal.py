import io
import sys

import pytest

from jaxmeta.cli import main
from jaxmeta.terminal import spell_plainly


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


def test_the_command_prepares_its_streams(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["--version"]) == 0
    assert stream.errors == "jaxmeta-plain"
