"""The files under results/meta_policy_search are of what the script would train now."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

from jaxmeta.catalog import serialization

ROOT = Path(__file__).parent.parent
CELLS = sorted((ROOT / "results" / "meta_policy_search").glob("*.json"))


@pytest.mark.parametrize("path", CELLS, ids=lambda p: p.stem)
def test_results_are_of_the_settings_of_the_script(path):
    spec = importlib.util.spec_from_file_location(
        "meta_policy_search", ROOT / "scripts" / "reproduce" / "meta_policy_search.py"
    )
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    cell = json.loads(path.read_text())
    config = serialization.from_dict(cell["config"])
    assert config.seed >= 1000
    wanted = dataclasses.replace(script.CELLS[path.stem], num_seeds=config.num_seeds)
    assert config == wanted
    curve = cell["return_mean"]
    assert curve[2] > curve[1] > curve[0]
    assert curve[2] < cell["references"]["oracle"]
