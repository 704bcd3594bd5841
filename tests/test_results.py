"""RESULTS.md says what the files under results/ hold."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CELLS = sorted((ROOT / "results" / "rl2_adaptation").glob("*.json"))


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_files_render_to():
    script = load_script("render_results")
    page = (ROOT / "RESULTS.md").read_text()
    assert page.split(script.START)[1].split(script.END)[0].strip() == script.render().strip()


@pytest.mark.parametrize("path", CELLS, ids=lambda p: p.stem)
def test_reported_agents_do_not_pass_the_optimum(path):
    """A mean above the exact optimum by more than chance would be a defect of ours."""
    evaluation = json.loads(path.read_text())["evaluation"]
    total = evaluation["policies"][evaluation["agent"]]["total"]
    if evaluation["optimal"] is not None:
        assert total["mean"] < evaluation["optimal_total"] + 3 * total["stderr"]
