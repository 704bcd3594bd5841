"""The package as a whole: what imports what, and how light the import is."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jaxmeta

ROOT = Path(__file__).parent.parent
# Every module may import from its own layer and from those after it.
LAYERS = [
    {"cli", "__main__"},
    {"sweeping", "showing"},
    {"catalogue", "dry_run", "options", "presets", "recording"},
    {"sweep_program"},
    {"training", "evaluation", "testing", "baselines", "robustness_map", "comparison"},
    {"exporting", "gymnasium_policy"},
    {"robustness_checks"},
    {"runs"},
    {"sweep_store"},
    {"sweep_report", "sweep_plots", "sweep_table", "show_plots"},
    {"protocols"},
    {"acting", "predicting"},
    {"scenes"},
    {"worst_case", "played_references"},
    {"loop", "player", "run_dir", "checkpoint", "progress", "interrupts"},
    {"protocol"},
    {"learner_programs", "arguments"},
    {"rounds", "logs", "device_memory"},
    {"robustness_report", "robustness_plots", "robustness_table"},
    {"comparison_report", "comparison_plots", "comparison_table"},
    {"report", "table", "plots", "posterior_plots", "figures", "curve_axes"},
    {"curve_words", "curve_statistics"},
    {"fitting"},
    {"serialization", "registry", "methods"},
    {"importing", "import_option"},
    {"engine"},
    {"sweep_grid"},
    {"config"},
    {"algorithms"},
    {"targets"},
    {"risk", "source_adaptation"},
    {"source_model"},
    {"source_settings", "transitions"},
    {
        "rollout",
        "stepping",
        "replay",
        "off_policy",
        "soft_learner",
        "sources",
        "placement",
        "parallel",
        "placement",
        "schedules",
        "files",
        "exported",
        "compilation_cache",
        "swept",
        "hosts",
        "intervals",
        "leaving",
        "terminal",
    },
    {"networks"},
    {"ops", "statistics", "streams"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def module_imports(path):
    """Modules imported when the file is, without those inside functions."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{a.name}" for a in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_go_one_way():
    for path in sorted((ROOT / "jaxmeta").rglob("*.py")):
        parts = path.relative_to(ROOT / "jaxmeta").with_suffix("").parts
        if parts == ("__init__",):
            continue
        for name in module_imports(path):
            package, _, rest = name.partition(".")
            part = rest.split(".")[0]
            if package == "jaxmeta" and part in RANK:
                assert RANK[part] >= RANK[parts[0]], f"{path.name} imports {name}"


def test_environments_know_nothing_of_learning():
    for path in sorted((ROOT / "envs").rglob("*.py")):
        tree = ast.walk(ast.parse(path.read_text()))
        names = [n.module or "" for n in tree if isinstance(n, ast.ImportFrom)]
        assert not [n for n in names if n.split(".")[0] in ("jaxmeta", "flax", "optax")], path


def test_only_networks_import_flax():
    for path in sorted((ROOT / "jaxmeta").rglob("*.py")):
        if "import flax" in path.read_text() or "from flax" in path.read_text():
            assert path.parent.name == "networks", path


def test_every_public_name_is_there():
    assert set(jaxmeta.__all__) == {*jaxmeta._HOME, "__version__"}
    for name in jaxmeta.__all__:
        assert getattr(jaxmeta, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = jaxmeta.nothing


def test_the_import_is_light_and_starts_no_backend():
    """It adds no heavy module to those of jax, flax and optax."""
    code = """
import sys, jax, flax, optax
before = set(sys.modules)
import jaxmeta, jaxmeta_envs
jaxmeta.TrainConfig()
new = {m.split(".")[0] for m in set(sys.modules) - before}
assert not jax._src.xla_bridge.backends_are_initialized(), "a backend was started"
heavy = new & {"orbax", "matplotlib", "tensorboardX", "scipy", "tyro", "gymnax", "mujoco", "pandas"}
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_says_when_jax_was_in_use_too_early_for_a_device_per_core():
    code = """
import os, jax
jax.devices()
from jaxmeta import parallel
parallel.request_cpu_devices()
cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
assert parallel.idle_cores() == cores - 1, parallel.idle_cores()
"""
    free = {k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    subprocess.run([sys.executable, "-c", code], env=free, check=True)
    one = code.replace("cores - 1", "0")  # who asks for one device is not told
    subprocess.run([sys.executable, "-c", one], env=free | {"JAX_NUM_CPU_DEVICES": "1"}, check=True)


def test_the_command_line_trains_on_a_device_per_core():
    """Nothing that it reads before it asks for the devices may start a backend with one."""
    code = """
import os, sys
from jaxmeta import cli, parallel
request = parallel.request_cpu_devices
def asked():
    request()
    import jax
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    assert len(jax.devices()) == cores, jax.devices()
    os._exit(0)
parallel.request_cpu_devices = asked
cli.main(["train", "maml", "sinusoid", "--dry-run"])
sys.exit("it did not ask")
"""
    free = {k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    subprocess.run([sys.executable, "-c", code], env=free, check=True)


def test_modules_are_there_without_an_import_of_their_own():
    program = (
        "import sys, jaxmeta; assert 'jax' not in sys.modules;"
        "print(jaxmeta.risk.Risk.__name__, jaxmeta.networks.Memory.__name__);"
        "assert not hasattr(jaxmeta, 'rsik')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Risk Memory\n"), done.stderr
