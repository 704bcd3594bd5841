"""Progress where there is no terminal."""

import pytest

from jaxmeta.runtime.progress import make_progress


def test_a_notebook_has_one_output_of_all_lines(monkeypatch):
    display = pytest.importorskip("IPython.display")
    rich_console = pytest.importorskip("rich.console")
    monkeypatch.setattr(rich_console, "_is_jupyter", lambda: True)
    outputs = []

    class Handle:
        def update(self, data, raw):
            assert raw
            outputs[-1] = data["text/plain"]

    def show(data, raw, display_id):
        assert raw
        assert display_id
        outputs.append(data["text/plain"])
        return Handle()

    monkeypatch.setattr(display, "display", show)
    progress = make_progress(True, 100, 0)
    progress.say("compiling")
    progress.say("round 1")
    progress.advance(100, 1.0, 3.0)
    progress.close()
    (text,) = outputs
    assert text.splitlines()[:2] == ["compiling", "round 1"]
    assert text.splitlines()[2].startswith("100%")
