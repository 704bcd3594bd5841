"""The functions of a learner as programs of flat arrays, which need none of our types.

Axes: N episodes per adaptation, T steps of an episode, n examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax import export as jax_export

from jaxmeta_envs.core.contracts import (
    AdaptivePolicy,
    PolicyInput,
    TaskFamily,
    Trajectory,
    no_adaptation,
)
from jaxmeta_envs.core.spaces import ArraySpace, Bound, Box, Discrete, MultiDiscrete, as_array_space
from jaxmeta_envs.core.supervised import AdaptiveModel, Examples, SupervisedFamily

Named = tuple[str, jax.ShapeDtypeStruct]


class Tree(NamedTuple):
    """Names, shapes and structure of a pytree that crosses the boundary leaf by leaf."""

    names: list[str]
    leaves: list[jax.ShapeDtypeStruct]
    structure: Any

    @classmethod
    def of(cls, tree: Any) -> Tree:
        paths, structure = jax.tree_util.tree_flatten_with_path(tree)
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
        return cls(names, [jax.ShapeDtypeStruct(x.shape, x.dtype) for _, x in paths], structure)

    def build(self, leaves: Sequence[Array]) -> Any:
        return jax.tree.unflatten(self.structure, leaves)


class Program(NamedTuple):
    """A function ``(params, carry, inputs) -> outputs`` of flat arrays.

    Attributes:
        function: ``params`` is a dict, ``carry`` and ``inputs`` are lists.
        carry: Whether it takes one; else the list is empty.
        inputs: Name, shape and dtype of each.
    """

    function: Callable[[dict[str, Array], list[Array], list[Array]], Any]
    carry: bool
    inputs: list[Named]


class Exported(NamedTuple):
    """A learner as programs.

    Attributes:
        params: What it reads.
        carry: What it keeps from one call to the next.
        programs: By name.
        described: What who runs them must know, as JSON.
    """

    params: Tree
    carry: Tree
    programs: dict[str, Program]
    described: dict[str, Any]


def policy_programs(policy: AdaptivePolicy, family: TaskFamily, example: Any) -> Exported:
    """Returns ``begin``, ``act``, ``adapt``, and ``act_mode`` if the policy has one.

    Args:
        policy: The policy.
        family: The family that it acts in.
        example: Parameters.
    """
    key = jax.random.key(0)
    params, carry = Tree.of(example), Tree.of(jax.eval_shape(policy.begin, example, key))
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
        "begin": Program(begin, False, keys),
        **{name: Program(acting(act), True, seen) for name, act in ways.items() if act},
        "adapt": Program(adapt, True, [*played, *keys]),
    }
    described = {
        "kind": "policy",
        "adapts": policy.adapt is not no_adaptation,
        "episodes_per_adapt": policy.episodes_per_adapt,
        "horizon": family.horizon,
        "observation_space": _describe_space(_seen(family)),
        "action_space": _describe_space(family.action_space),
        "key": str(implementation),
    }
    return Exported(params, carry, programs, described)


def model_programs(model: AdaptiveModel, family: SupervisedFamily, example: Any) -> Exported:
    """Returns ``begin``, ``predict`` and ``adapt``; as `policy_programs`."""
    params, carry = Tree.of(example), Tree.of(jax.eval_shape(model.begin, example))

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
        "begin": Program(begin, False, []),
        "predict": Program(predict, True, [x]),
        "adapt": Program(adapt, True, [x, y]),
    }
    described = {"kind": "model", "shots": model.shots}
    return Exported(params, carry, programs, described)


def _seen(family: TaskFamily) -> ArraySpace:
    return as_array_space(family.observation_space, "tasks.observation_space", "export")


def _step_inputs(family: TaskFamily, lead: tuple[int, ...]) -> list[Named]:
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


def _episode_inputs(family: TaskFamily, lead: tuple[int, ...]) -> list[Named]:
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
