"""The package as a whole: what imports what, and how light the import is."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jaxmeta

ROOT = Path(__file__).parent.parent
# The house: a module imports from its own layer and from those above it in these lists, inside
# functions, too.
LAYERS = {
    "jaxmeta": [
        *("version", "ops", "streams", "networks", "parallel", "placement", "experience"),
        *("contracts", "parts", "sim_to_real", "algorithms", "config", "engine", "runtime"),
        *("catalog", "testing", "render", "runs", "evaluation", "training", "analysis"),
        *("sweeps", "deploy", "cli", "__main__"),
    ],
    "jaxmeta_envs": [
        *("random", "core", "bandits", "tabular", "grids", "points", "classic", "mujoco"),
        *("regression", "interop"),
    ],
}
SOURCES = {"jaxmeta": ROOT / "jaxmeta", "jaxmeta_envs": ROOT / "envs" / "jaxmeta_envs"}


def modules(package):
    """Paths of a package's modules but its face, by dotted name."""
    source = SOURCES[package]
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if parts:
            yield ".".join([package, *parts]), path


def imports(path, names):
    """Modules of ``names`` that a file imports, but for types alone."""
    tree = ast.parse(path.read_text())
    for_types = [
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    ]
    for node in set(ast.walk(tree)) - set(for_types):
        if isinstance(node, ast.ImportFrom) and node.module:
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in names else node.module for name in found)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("package", LAYERS)
def test_every_folder_has_its_place_and_imports_go_one_way(package):
    order, names = LAYERS[package], dict(modules(package))
    assert {name.split(".")[1] for name in names} == set(order)
    for name, path in names.items():
        own = order.index(name.split(".")[1])
        for other in imports(path, names):
            first, *rest = other.split(".")
            if first == package:
                assert rest, f"{name} imports the face of the package"
                assert order.index(rest[0]) <= own, f"{name} imports {other}"


@pytest.mark.parametrize("package", LAYERS)
def test_no_files_import_one_another_in_a_circle(package):
    names = dict(modules(package))
    of = {name: {x for x in imports(path, names) if x in names} for name, path in names.items()}
    while leaves := [name for name, imported in of.items() if not imported - {name}]:
        for leaf in leaves:
            del of[leaf]
        of = {name: imported - set(leaves) for name, imported in of.items()}
    assert not of, f"in or behind a circle: {sorted(of)}"


def test_algorithms_do_not_import_one_another():
    """But for experts, which another algorithm trains and guided search is handed."""
    names = dict(modules("jaxmeta"))
    allowed = {("jaxmeta.algorithms.experts", "jaxmeta.algorithms.epopt")}
    found = {
        (name, other)
        for name, path in names.items()
        for other in imports(path, names)
        if name.startswith("jaxmeta.algorithms.") and other.startswith("jaxmeta.algorithms.")
    }
    assert found == allowed


def test_environments_know_nothing_of_learning():
    for path in sorted((ROOT / "envs").rglob("*.py")):
        tree = ast.walk(ast.parse(path.read_text()))
        names = [n.module or "" for n in tree if isinstance(n, ast.ImportFrom)]
        assert not [n for n in names if n.split(".")[0] in ("jaxmeta", "flax", "optax")], path


def test_only_networks_import_flax():
    for path in sorted((ROOT / "jaxmeta").rglob("*.py")):
        if "import flax" in path.read_text() or "from flax" in path.read_text():
            assert "networks" in path.parts, path


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
        "print(jaxmeta.Risk.__name__, jaxmeta.networks.Memory.__name__);"
        "assert not hasattr(jaxmeta, 'rsik')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Risk Memory\n"), done.stderr
