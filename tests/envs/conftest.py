"""MuJoCo's own engine, for tests of bodies; skipped where it is not installed."""

import pytest


@pytest.fixture
def mujoco():
    pytest.importorskip("mujoco.mjx", exc_type=ImportError)
    pytest.importorskip("gymnasium", exc_type=ImportError)
    return pytest.importorskip("mujoco")


@pytest.fixture
def gymnasium(mujoco, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a file of warnings there.
    pytest.importorskip("imageio")  # Gymnasium's bodies ask for it, to draw.
    return pytest.importorskip("gymnasium")
