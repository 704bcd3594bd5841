"""An exported agent, loaded and run with JAX and NumPy alone.

A copy of this file lies as ``load.py`` in every directory that `jaxmeta.export` writes; it
imports nothing else of jaxmeta. What an agent carries through a task is a flat list of
arrays, which ``manifest.json`` describes. Keys are those of ``jax.random.key``, or their raw
data (``jax.random.key_data``), which is how they enter the programs.

Axes: N episodes per adaptation, T steps of an episode, n examples, I inputs, O outputs.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

FORMAT = 1
"""Version of the directory's layout; a later one is refused."""

Carry = list[jax.Array]


class PolicyInput(NamedTuple):
    """What a policy sees at one step, before it acts; a NamedTuple of jaxmeta's will do, too.

    Attributes:
        obs: The current observation.
        prev_action: Action of the step before; zeros at the start of a task.
        prev_reward: Reward of the step before; 0 at the start of a task.
        prev_done: Whether the step before ended an episode; False at the start of a task.
        episode_start: Whether this is the first step of an episode.
    """

    obs: Any
    prev_action: Any
    prev_reward: Any
    prev_done: Any
    episode_start: Any


class Trajectory(NamedTuple):
    """Played episodes, leaves ``[N, T, ...]``; rows beyond an episode's end are masked.

    Attributes:
        inputs: What the policy saw, a `PolicyInput`.
        action: What it did.
        reward: What it got; 0 where masked.
        terminated: Whether this step ended the decision process.
        truncated: Whether the clock ended the episode at this step.
        next_obs: The observation after the step.
        mask: Whether the step was really played.
    """

    inputs: Any
    action: Any
    reward: Any
    terminated: Any
    truncated: Any
    next_obs: Any
    mask: Any


class ExportedPolicy(NamedTuple):
    """How an exported agent acts and adapts; see ``AdaptivePolicy`` of jaxmeta.

    Attributes:
        begin: ``key -> carry``, called once for a new task.
        act: ``(carry, input, key) -> (action, carry)``, the input a `PolicyInput`.
        adapt: ``(carry, episodes, key) -> carry``, called after every
            ``manifest["episodes_per_adapt"]`` episodes with a `Trajectory`. If there are
            several they start from the same carry and ``adapt`` receives that carry; if
            one, it receives the carry that acting left behind. Where ``manifest["adapts"]``
            is false it changes nothing, and need not be called.
        params: The parameters by name.
        manifest: The content of ``manifest.json``.
        act_mode: As ``act``, but the action is the mode of its distribution instead of a
            sample; None where the agent has none.
    """

    begin: Callable[[Any], Carry]
    act: Callable[[Carry, Any, Any], tuple[jax.Array, Carry]]
    adapt: Callable[[Carry, Any, Any], Carry]
    params: dict[str, np.ndarray]
    manifest: dict[str, Any]
    act_mode: Callable[[Carry, Any, Any], tuple[jax.Array, Carry]] | None = None


class ExportedModel(NamedTuple):
    """How an exported model predicts and adapts; see ``AdaptiveModel`` of jaxmeta.

    Attributes:
        begin: ``() -> carry``, called once for a new task.
        predict: ``(carry, x [n, I]) -> y [n, O]``, for any n.
        adapt: ``(carry, x [n, I], y [n, O]) -> carry``, one step of adaptation to labelled
            examples; training used ``manifest["shots"]`` of them.
        params: The parameters by name.
        manifest: The content of ``manifest.json``.
    """

    begin: Callable[[], Carry]
    predict: Callable[[Carry, Any], jax.Array]
    adapt: Callable[[Carry, Any, Any], Carry]
    params: dict[str, np.ndarray]
    manifest: dict[str, Any]


def load_exported(path: str | Path | None = None) -> ExportedPolicy | ExportedModel:
    """Loads what `jaxmeta.export` wrote.

    Args:
        path: The directory; None takes that of this file, for the copy that lies in it.

    Raises:
        ValueError: If the directory holds no exported agent, or one of a later format.
    """
    path = Path(__file__).parent if path is None else Path(path)
    manifest = _read_manifest(path)
    stored = read_safetensors((path / "params.safetensors").read_bytes())
    params = jax.device_put(stored)
    run = {
        name: _program(path, name, described["inputs"], params)
        for name, described in manifest["programs"].items()
    }
    if manifest["kind"] == "model":
        return ExportedModel(
            begin=lambda: run["begin"]((), ()),
            predict=lambda carry, x: run["predict"](carry, (x,)),
            adapt=lambda carry, x, y: run["adapt"](carry, (x, y)),
            params=stored,
            manifest=manifest,
        )

    def acting(name: str) -> Callable[[Carry, Any, Any], tuple[jax.Array, Carry]]:
        return lambda carry, seen, key: run[name](carry, (*seen, _key_data(key)))

    return ExportedPolicy(
        begin=lambda key: run["begin"]((), (_key_data(key),)),
        act=acting("act"),
        act_mode=acting("act_mode") if "act_mode" in run else None,
        adapt=lambda carry, episodes, key: run["adapt"](
            carry, (*episodes[0], *episodes[1:], _key_data(key))
        ),
        params=stored,
        manifest=manifest,
    )


def read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Reads the arrays of a safetensors file: a header's length, the header, the bytes."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        low, high = entry["data_offsets"]
        flat = np.frombuffer(data[start + low : start + high], _DTYPES[entry["dtype"]])
        arrays[name] = flat.reshape(entry["shape"])
    return arrays


_DTYPES = {
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    **{f"I{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    "BOOL": np.dtype(bool),
    "BF16": np.dtype(jax.numpy.bfloat16),
}


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} holds no exported agent: it has no manifest.json") from None
    if manifest["format"] != FORMAT:
        raise ValueError(
            f"{path} is of format {manifest['format']}; this file reads format {FORMAT}"
        )
    return manifest


def _program(
    path: Path, name: str, wanted: Sequence[dict[str, Any]], params: dict[str, jax.Array]
) -> Callable[[Sequence[Any], Sequence[Any]], Any]:
    """Returns ``(carry, values) -> outputs`` of one of the programs."""
    if importlib.util.find_spec("flatbuffers") is None:
        # JAX reads its artifacts with it but does not install it; the exporter left a copy.
        sys.path.append(str(path / "flatbuffers.zip"))
    from jax import export

    blob = (path / f"{name}.jaxexport").read_bytes()
    call = jax.jit(export.deserialize(bytearray(blob)).call)

    def run(carry: Sequence[Any], values: Sequence[Any]) -> Any:
        fitted = [_fit(value, entry) for value, entry in zip(values, wanted, strict=True)]
        return call(params, list(carry), fitted)

    return run


def _fit(value: Any, wanted: dict[str, Any]) -> Any:
    """Returns a value as an array of the dtype and shape that a program takes."""
    dtype = np.dtype(wanted["dtype"])
    if not (isinstance(value, jax.Array) and value.dtype == dtype):
        value = np.asarray(value, dtype)
    shape = wanted["shape"]  # "n" stands for any length
    fits = len(shape) == value.ndim and all(
        size in ("n", length) for size, length in zip(shape, value.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{wanted['name']} has shape {list(value.shape)}; it must be {shape}")
    return value


def _key_data(key: Any) -> Any:
    if isinstance(key, jax.Array) and jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(key)
    return key
