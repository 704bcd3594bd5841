"""Writing a trained agent as compiled programs and parameters that need JAX alone.

Axes: N episodes per adaptation, T steps of an episode, n examples, I inputs, O outputs.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax import export as jax_export

import jaxmeta
from jaxmeta import exported, serialization
from jaxmeta.methods import title_of
from jaxmeta.runs import load_runs
from jaxmeta_envs.base import (
    AdaptivePolicy,
    PolicyInput,
    TaskFamily,
    Trajectory,
    no_adaptation,
)
from jaxmeta_envs.errors import ConfigError, require
from jaxmeta_envs.extras import import_extra
from jaxmeta_envs.spaces import ArraySpace, Bound, Box, Discrete, MultiDiscrete, as_array_space
from jaxmeta_envs.supervised import AdaptiveModel, Examples, SupervisedFamily

PLATFORMS = ("cpu", "cuda", "tpu")
_KNOWN = (*PLATFORMS, "rocm")

_Named = tuple[str, jax.ShapeDtypeStruct]


class _Tree(NamedTuple):
    """Names, shapes and structure of a pytree that crosses the boundary leaf by leaf."""

    names: list[str]
    leaves: list[jax.ShapeDtypeStruct]
    structure: Any

    @classmethod
    def of(cls, tree: Any) -> _Tree:
        paths, structure = jax.tree_util.tree_flatten_with_path(tree)
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
        return cls(names, [jax.ShapeDtypeStruct(x.shape, x.dtype) for _, x in paths], structure)

    def build(self, leaves: Sequence[Array]) -> Any:
        return jax.tree.unflatten(self.structure, leaves)


class _Program(NamedTuple):
    """A function ``(params, carry, inputs) -> outputs`` of flat arrays.

    Attributes:
        function: ``params`` is a dict, ``carry`` and ``inputs`` are lists.
        carry: Whether it takes one; else the list is empty.
        inputs: Name, shape and dtype of each.
    """

    function: Callable[[dict[str, Array], list[Array], list[Array]], Any]
    carry: bool
    inputs: list[_Named]


def export(
    source: Any, path: str | Path, *, seed_index: int = 0, platforms: Sequence[str] = PLATFORMS
) -> Path:
    """Writes a trained, adaptive agent to a directory that JAX alone can run.

    The directory holds a versioned StableHLO program for each function of the agent
    (``begin.jaxexport``, ``act.jaxexport``, ``adapt.jaxexport``, and ``act_mode.jaxexport`` if
    it says the mode of its actions; ``predict.jaxexport`` instead of ``act`` for supervised
    families), ``params.safetensors``, ``manifest.json``, the
    loader ``load.py`` (see `jaxmeta.exported`) and ``flatbuffers.zip``, which the loader uses
    where that package is not installed.

    Args:
        source: What `jaxmeta.train` returned, or the directory of a run.
        path: A directory that does not exist yet, or is empty.
        seed_index: The training seed whose parameters are written.
        platforms: Where the programs are to run: some of cpu, cuda, rocm and tpu.

    Returns:
        The directory.

    Raises:
        ConfigError: If the run, the path, the seed or a platform is wrong, or a package of the
            extra ``export`` is missing; nothing is written then.
    """
    require(isinstance(path, str | os.PathLike), "path", path, "where to write the agent")
    path = Path(path).expanduser().absolute()
    _check_path(path)
    known = tuple(platforms)
    fitting = bool(known) and set(known) <= set(_KNOWN) and len(set(known)) == len(known)
    require(fitting, "platforms", known, f"some of {', '.join(_KNOWN)}, each once")
    for module in ("flatbuffers", "safetensors.numpy"):
        import_extra(module, "export", user="export")
    (result,) = load_runs(source)
    seeds = result.config.num_seeds
    require(0 <= seed_index < seeds, "seed_index", seed_index, f"from 0 to {seeds - 1}")
    files = _make_files(result, seed_index, known)
    _write(path, files)
    return path


def _make_files(result: Any, seed_index: int, platforms: tuple[str, ...]) -> dict[str, bytes]:
    """Returns the directory's files by name."""
    family, agent = result.config.tasks, result.policy
    params = jax.tree.map(lambda x: np.asarray(x)[seed_index], result.params)
    tree = _Tree.of(params)
    require(len(set(tree.names)) == len(tree.names), "params", tree.names, "of different names")
    named = dict(zip(tree.names, jax.tree.leaves(params), strict=True))
    if isinstance(family, SupervisedFamily):
        carry = _Tree.of(jax.eval_shape(agent.begin, params))
        programs, described = _model_programs(agent, family, tree, carry)
    else:
        carry = _Tree.of(jax.eval_shape(agent.begin, params, jax.random.key(0)))
        programs, described = _policy_programs(agent, family, tree, carry)
    blobs = {name: _compile(program, tree, carry, platforms) for name, program in programs.items()}
    manifest = {
        "format": exported.FORMAT,
        **described,
        "platforms": list(platforms),
        "jaxmeta": jaxmeta.__version__,
        "jax": jax.__version__,
        "agent": title_of(result.config.algorithm),
        "algorithm": serialization.to_dict(result.config.algorithm),
        "tasks": serialization.to_dict(family),
        "env_steps": result.env_steps,
        "seed_index": seed_index,
        "params": _describe(zip(tree.names, tree.leaves, strict=True)),
        "carry": _describe(zip(carry.names, carry.leaves, strict=True)),
        "programs": {name: {"inputs": _describe(p.inputs)} for name, p in programs.items()},
    }
    save = import_extra("safetensors.numpy", "export", user="export").save
    return {
        "manifest.json": (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode(),
        "params.safetensors": save({name: np.array(x, order="C") for name, x in named.items()}),
        **{f"{name}.jaxexport": blob for name, blob in blobs.items()},
        "load.py": Path(exported.__file__).read_bytes(),
        "flatbuffers.zip": _zip_flatbuffers(),
    }


def _policy_programs(
    policy: AdaptivePolicy, family: TaskFamily, params: _Tree, carry: _Tree
) -> tuple[dict[str, _Program], dict[str, Any]]:
    key = jax.random.key(0)
    implementation, data = jax.random.key_impl(key), jax.random.key_data(key)

    def read(named: dict[str, Array]) -> Any:
        return params.build([named[name] for name in params.names])

    def begin(named: dict[str, Array], none: list[Array], inputs: list[Array]) -> list[Array]:
        del none
        return jax.tree.leaves(policy.begin(read(named), wrap(inputs[0])))

    def acting(act: Any) -> Callable[..., tuple]:
        def play(named: dict[str, Array], held: list[Array], inputs: list[Array]) -> tuple:
            *seen, key = inputs
            action, after = act(read(named), carry.build(held), PolicyInput(*seen), wrap(key))
            return action, jax.tree.leaves(after)

        return play

    def adapt(named: dict[str, Array], held: list[Array], inputs: list[Array]) -> list[Array]:
        *played, key = inputs
        seen = len(PolicyInput._fields)
        episodes = Trajectory(PolicyInput(*played[:seen]), *played[seen:])
        return jax.tree.leaves(policy.adapt(read(named), carry.build(held), episodes, wrap(key)))

    def wrap(data: Array) -> Array:
        return jax.random.wrap_key_data(data, impl=implementation)

    keys = [("key", jax.ShapeDtypeStruct(data.shape, data.dtype))]
    played = _episode_inputs(family, (policy.episodes_per_adapt, family.horizon))
    ways = {"act": policy.act, "act_mode": policy.act_mode}
    seen = [*_step_inputs(family, ()), *keys]
    programs = {
        "begin": _Program(begin, False, keys),
        **{name: _Program(acting(act), True, seen) for name, act in ways.items() if act},
        "adapt": _Program(adapt, True, [*played, *keys]),
    }
    return programs, {
        "kind": "policy",
        "adapts": policy.adapt is not no_adaptation,
        "episodes_per_adapt": policy.episodes_per_adapt,
        "horizon": family.horizon,
        "observation_space": _describe_space(_seen(family)),
        "action_space": _describe_space(family.action_space),
        "key": str(implementation),
    }


def _model_programs(
    model: AdaptiveModel, family: SupervisedFamily, params: _Tree, carry: _Tree
) -> tuple[dict[str, _Program], dict[str, Any]]:
    def read(named: dict[str, Array]) -> Any:
        return params.build([named[name] for name in params.names])

    def begin(named: dict[str, Array], none: list[Array], inputs: list[Array]) -> list[Array]:
        del none, inputs
        return jax.tree.leaves(model.begin(read(named)))

    def predict(named: dict[str, Array], held: list[Array], inputs: list[Array]) -> Array:
        return model.predict(read(named), carry.build(held), inputs[0])

    def adapt(named: dict[str, Array], held: list[Array], inputs: list[Array]) -> list[Array]:
        after = model.adapt(read(named), carry.build(held), Examples(*inputs))
        return jax.tree.leaves(after)

    (n,) = jax_export.symbolic_shape("n")
    of_x, of_y = family.input_space, family.label_space
    x = ("x", jax.ShapeDtypeStruct((n, *of_x.shape), of_x.dtype))
    y = ("y", jax.ShapeDtypeStruct((n, *of_y.shape), of_y.dtype))
    programs = {
        "begin": _Program(begin, False, []),
        "predict": _Program(predict, True, [x]),
        "adapt": _Program(adapt, True, [x, y]),
    }
    return programs, {"kind": "model", "shots": model.shots}


def _seen(family: TaskFamily) -> ArraySpace:
    return as_array_space(family.observation_space, "tasks.observation_space", "export")


def _step_inputs(family: TaskFamily, lead: tuple[int, ...]) -> list[_Named]:
    """Returns the fields of a `PolicyInput` in their order, with axes in front."""
    obs, action = _seen(family), family.action_space
    kinds = {
        "obs": (obs.shape, obs.dtype),
        "prev_action": (action.shape, action.dtype),
        "prev_reward": ((), jnp.float32),
        "prev_done": ((), jnp.bool_),
        "episode_start": ((), jnp.bool_),
    }
    return [(name, _array(lead, *kinds[name])) for name in PolicyInput._fields]


def _episode_inputs(family: TaskFamily, lead: tuple[int, ...]) -> list[_Named]:
    """Returns the fields of a `Trajectory` in their order, its inputs first."""
    obs, action = _seen(family), family.action_space
    kinds = {
        "action": (action.shape, action.dtype),
        "reward": ((), jnp.float32),
        "terminated": ((), jnp.bool_),
        "truncated": ((), jnp.bool_),
        "next_obs": (obs.shape, obs.dtype),
        "mask": ((), jnp.bool_),
    }
    rest = [(name, _array(lead, *kinds[name])) for name in Trajectory._fields[1:]]
    return [*_step_inputs(family, lead), *rest]


def _array(lead: tuple[int, ...], shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*lead, *shape), dtype)


def _compile(program: _Program, params: _Tree, carry: _Tree, platforms: tuple[str, ...]) -> bytes:
    named = dict(zip(params.names, params.leaves, strict=True))
    held = carry.leaves if program.carry else []
    inputs = [shape for _, shape in program.inputs]
    to_export = jax_export.export(jax.jit(program.function), platforms=platforms)
    with _without_places():
        return bytes(to_export(named, held, inputs).serialize())


@contextlib.contextmanager
def _without_places() -> Iterator[None]:
    """Keeps the paths of this machine's source files out of programs."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _describe(arrays: Iterable[_Named]) -> list[dict[str, Any]]:
    """Returns names, shapes and dtypes as JSON; a length that may vary is "n"."""
    return [
        {
            "name": name,
            "shape": [d if isinstance(d, int) else str(d) for d in array.shape],
            "dtype": str(array.dtype),
        }
        for name, array in arrays
    ]


def _describe_space(space: ArraySpace) -> dict[str, Any]:
    if isinstance(space, Discrete):
        return {"kind": "discrete", "n": space.n}
    if isinstance(space, MultiDiscrete):
        return {"kind": "multi-discrete", "sizes": list(space.sizes)}
    assert isinstance(space, Box)
    low, high = (_in_json(bound) for bound in (space.low, space.high))
    return {"kind": "box", "low": low, "high": high, "shape": list(space.shape)}


def _in_json(bound: Bound) -> Any:
    if isinstance(bound, tuple):
        return [_in_json(x) for x in bound]
    return bound if math.isfinite(bound) else str(bound)


def _zip_flatbuffers() -> bytes:
    """Returns the installed package as a file that Python imports from."""
    package = Path(import_extra("flatbuffers", "export", user="export").__file__).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.glob("*.py")):
            archive.write(file, f"flatbuffers/{file.name}")
    return buffer.getvalue()


def _check_path(path: Path) -> None:
    empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    require(empty, "path", str(path), "a directory that does not exist yet, or is empty")
    above = next(folder for folder in path.parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise ConfigError(f"path is {str(path)!r}; {above} cannot be written")


def _write(path: Path, files: dict[str, bytes]) -> None:
    """Writes a directory that is whole or not there."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        if path.exists():
            path.rmdir()  # empty, as was checked
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
