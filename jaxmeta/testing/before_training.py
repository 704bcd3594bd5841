"""The cheap part of a family's contract, which `jaxmeta.train` asks for before it compiles.

`check_task_family` and `check_supervised_family` ask for all of it, and take longer.
"""

from __future__ import annotations

import functools
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, Var

from jaxmeta.catalog import registry
from jaxmeta.testing.conformance import (
    ConformanceError,
    check,
    expect,
    expect_same_shapes,
    fast_jit,
    plain,
)
from jaxmeta.testing.dynamics import episode_ends, finite_rewards, task_is_argument
from jaxmeta.testing.families import family_properties, family_shapes, purity
from jaxmeta.testing.probes import Play, rollout
from jaxmeta.testing.supervised import QUERIES, SHOTS, examples, expect_split
from jaxmeta_envs.core.contracts import Family, TaskFamily
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.core.supervised import Examples, SupervisedFamily

_ROLLOUTS = 8
_MOST_OPERATIONS = 3000  # of a step; what has more, such as MuJoCo's, takes long to compile
_LONGEST = 5000  # steps that are played


class _Probe(NamedTuple):
    """A family under test.

    Attributes:
        family: The family.
        seed: Seed of all randomness.
    """

    family: Any
    seed: int = 0

    @property
    def key(self) -> Array:
        return jax.random.key(self.seed)


class _Rollouts(NamedTuple):
    """Rollouts of random actions: what the checks of dynamics read of a `FamilyProbe`."""

    family: TaskFamily
    base: Play


def check_before_training(family: Family) -> None:
    """Raises `ConfigError` if a family breaks the contract in a way that is cheap to see.

    What is seen on abstract values: spaces, shapes and dtypes of all splits, a task that
    neither reset nor step reads, what is drawn or counted outside JAX. And, of a step that
    compiles soon, what some random rollouts show: rewards that are not finite, episodes that
    do not end at the horizon. Families of this library pass without being asked, for tests
    hold them to the whole contract.
    """
    if registry.builtin_name(type(family)) is None:  # of a user, registered or not
        _check(family)


@functools.lru_cache(maxsize=64)
def _check(family: Family) -> None:
    acts = isinstance(family, TaskFamily)
    try:
        for each in _ACTING if acts else _PREDICTING:
            each(_Probe(family))
        if acts and family.horizon <= _LONGEST and _compiles_soon(family):
            rollouts = _Rollouts(family, _play(family, jax.random.key(0)))
            for each in (finite_rewards, episode_ends):
                each(rollouts)
    except ConformanceError as error:
        raise ConfigError(
            f"tasks is a {type(family).__name__} that breaks the contract of families: {error} "
            "(check=False, --no-check, trains on it nevertheless)"
        ) from error


def _compiles_soon(family: TaskFamily) -> bool:
    key = jax.random.key(0)
    step = jax.make_jaxpr(family.step)(key, *_abstract(family, key))
    return sum(len(part.eqns) for part in _parts(step.jaxpr)) <= _MOST_OPERATIONS


def _play(family: TaskFamily, key: Array) -> Play:
    def one(key: Array) -> Play:
        task_key, actions_key, key = jax.random.split(key, 3)
        task = family.sample_task(task_key)
        keys = jax.random.split(actions_key, family.horizon)
        return rollout(family, key, task, task, jax.vmap(family.action_space.sample)(keys))

    played = fast_jit(lambda key: jax.vmap(one)(jax.random.split(key, _ROLLOUTS)))(key)
    return jax.tree.map(plain, played)


def _abstract(family: TaskFamily, key: Array) -> tuple[Any, Any, Any]:
    """Returns shapes and dtypes of a state, an action and a task."""
    task = jax.eval_shape(family.sample_task, key)
    return jax.eval_shape(family.reset, key, task)[0], family.action_space.abstract, task


@check("splits", "the tasks of every split have the same structure, shapes and dtypes")
def _splits(probe: _Probe) -> None:
    family = probe.family
    tasks = {
        split: jax.eval_shape(lambda key, name=split: family.sample_task(key, name), probe.key)
        for split in family.splits
    }
    for split, task in tasks.items():
        expect_same_shapes(f"task of split {split!r}", tasks["train"], task)


@check("examples", examples.contract)
def _examples(probe: _Probe) -> None:
    family = probe.family
    task = jax.eval_shape(family.sample_task, probe.key)
    expect_split(family, jax.eval_shape(_drawing(family), jax.random.split(probe.key), task))


def _drawing(family: SupervisedFamily) -> Callable[[Array, Any], tuple[Examples, Examples]]:
    return lambda keys, task: family.sample_split(keys, task, SHOTS, QUERIES)


@check("purity", purity.contract)
def _purity(probe: _Probe) -> None:
    family, key = probe.family, probe.key
    state, action, task = _abstract(family, key)
    _expect_pure("sample_task", family.sample_task, key)
    _expect_pure("reset", family.reset, key, task)
    _expect_pure("step", family.step, key, state, action, task)


@check("purity", "sample_task and sample_split are pure functions of their arguments")
def _supervised_purity(probe: _Probe) -> None:
    family, key = probe.family, probe.key
    _expect_pure("sample_task", family.sample_task, key)
    task = jax.eval_shape(family.sample_task, key)
    _expect_pure("sample_split", _drawing(family), jax.random.split(key), task)


@check(task_is_argument.name, task_is_argument.contract)
def _task_is_read(probe: _Probe) -> None:
    """A task that is drawn in vain is drawn again elsewhere."""
    family, key = probe.family, probe.key
    state, action, task = _abstract(family, key)
    number = len(jax.tree.leaves(task))
    if not any(_read(jax.make_jaxpr(family.sample_task)(key))):
        return  # there is one task only
    reset = _read(jax.make_jaxpr(family.reset)(key, task))
    step = _read(jax.make_jaxpr(family.step)(key, state, action, task))
    expect(
        any(reset[-number:] + step[-number:]),
        "neither reset nor step reads the task that it is given: what differs between episodes, "
        "reset draws itself",
    )


def _read(program: ClosedJaxpr) -> list[bool]:
    """Whether each argument has a part in what a program returns; True where it is unclear."""
    needed = {x for x in program.jaxpr.outvars if isinstance(x, Var)}
    for equation in reversed(program.jaxpr.eqns):
        if equation.effects or not needed.isdisjoint(equation.outvars):
            needed.update(x for x in equation.invars if isinstance(x, Var))
    return [x in needed for x in program.jaxpr.invars]


def _expect_pure(name: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Expects that tracing draws nothing outside JAX, and does twice the same."""

    def trace() -> ClosedJaxpr:
        # A fresh function, for JAX remembers what it traced.
        return jax.make_jaxpr(lambda *args: function(*args))(*arguments)

    before = _generators()
    first = trace()
    drawn = [library for library, state in _generators().items() if state != before[library]]
    expect(
        not drawn,
        f"{name} draws from {' and '.join(drawn)}, which happens once, when it is compiled: "
        "every draw would be the same; draw by jax.random from the key",
    )
    second = trace()
    expect(
        _numbers(first) == _numbers(second),
        f"{name} is another function every time that it is traced: it reads or draws something "
        "outside its arguments",
    )


def _generators() -> dict[str, Any]:
    """Returns the states of the global random generators."""
    return {"np.random": pickle.dumps(np.random.get_state()), "random": random.getstate()}  # noqa: NPY002


def _numbers(jaxpr: ClosedJaxpr) -> list[bytes]:
    """Returns the numbers that are written into a program, all its parts included."""
    found = [np.asarray(x).tobytes() for x in jaxpr.consts if _is_number(x)]
    for part in _parts(jaxpr.jaxpr):
        for equation in part.eqns:
            values = [x.val for x in equation.invars if not isinstance(x, Var)]
            found += [np.asarray(x).tobytes() for x in values if _is_number(x)]
            closed = [x for x in jax.tree.leaves(equation.params) if isinstance(x, ClosedJaxpr)]
            consts = [const for each in closed for const in each.consts]
            found += [np.asarray(x).tobytes() for x in consts if _is_number(x)]
    return found


def _is_number(x: Any) -> bool:
    return not (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.extended))


def _parts(jaxpr: Jaxpr) -> Iterator[Jaxpr]:
    """Yields a program and those that its operations consist of, such as a loop's body."""
    yield jaxpr
    for equation in jaxpr.eqns:
        for value in jax.tree.leaves(equation.params):
            inner = value.jaxpr if isinstance(value, ClosedJaxpr) else value
            if isinstance(inner, Jaxpr):
                yield from _parts(inner)


_ACTING = (family_properties, family_shapes, _splits, _purity, _task_is_read)
_PREDICTING = (_splits, _examples, _supervised_purity)
