"""What the conformance checks share: the error, the form of a check, and how to run them."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Probe = TypeVar("Probe")


class ConformanceError(AssertionError):
    """A contract is broken.

    Attributes:
        check: Name of the check that found it.
    """

    def __init__(self, check: str, seen: str, contract: str) -> None:
        super().__init__(f"[{check}] {seen}. The contract: {contract}.")
        self.check = check


class _Seen(Exception):
    """What a check saw; the check's name and contract are added on its way out."""


def expect(condition: Any, seen: str) -> None:
    """Fails the running check unless ``condition`` holds; ``seen`` tells what was found."""
    if not condition:
        raise _Seen(seen)


@dataclass(frozen=True)
class Check(Generic[Probe]):
    """One named check; call it with a probe.

    Attributes:
        name: Short name, shown in the error.
        contract: What is demanded, as one sentence without a full stop.
        function: Does the work, by `expect`.
    """

    name: str
    contract: str
    function: Callable[[Probe], None]

    def __call__(self, probe: Probe) -> None:
        """Runs the check.

        Raises:
            ConformanceError: If it fails, or if the code under test raises anything.
        """
        try:
            self.function(probe)
        except _Seen as seen:
            raise ConformanceError(self.name, str(seen), self.contract) from None
        except Exception as error:
            text = " ".join(str(error).split())[:500]
            seen = f"{type(error).__name__} was raised: {text}"
            raise ConformanceError(self.name, seen, self.contract) from error


def check(name: str, contract: str) -> Callable[[Callable[[Any], None]], Check]:
    """Turns a function of a probe into a `Check`."""
    return lambda function: Check(name, contract, function)


def run_checks(checks: Iterable[Check], probe: Any, skip: Collection[str]) -> None:
    """Runs checks in order; ``skip`` names those to leave out."""
    checks = tuple(checks)
    names = [check.name for check in checks]
    unknown = sorted(set(skip) - set(names))
    if unknown:
        raise ValueError(f"skip has {unknown}; the checks are {names}")
    for each in checks:
        if each.name not in skip:
            each(probe)


def expect_value_semantics(subject: Any) -> None:
    """Expects a frozen dataclass, hashable and equal by value."""
    kind = type(subject).__name__
    expect(dataclasses.is_dataclass(subject), f"{kind} is not a dataclass")
    options = type(subject).__dataclass_params__
    expect(options.frozen, f"{kind} is a dataclass that is not frozen")
    expect(options.eq, f"{kind} is a dataclass with eq=False")
    for field in dataclasses.fields(subject):
        value = getattr(subject, field.name)
        # Two that differ in such a field would wrongly share a compilation.
        expect(field.compare, f"field {field.name} is left out of comparisons")
        arrays = any(isinstance(x, np.ndarray | jax.Array) for x in jax.tree.leaves(value))
        expect(not arrays, f"field {field.name} holds an array")
        try:
            hash(value)
        except TypeError as error:
            expect(False, f"field {field.name} cannot be hashed ({error})")
    twin = copy.deepcopy(subject)
    expect(twin == subject, f"a deep copy of {kind} is not equal to it")
    expect(hash(twin) == hash(subject), f"a deep copy of {kind} has another hash")


def fast_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles with little optimisation: these programs run a few times and are tiny."""
    return jax.jit(function, compiler_options=_fast_options())


@functools.cache
def _fast_options() -> dict[str, Any]:
    """Compiles an update six times faster on CPU; nothing if this XLA knows other names."""
    options = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda x: x, compiler_options=options)(0)
    except jax.errors.JaxRuntimeError:
        return {}
    return options


def plain(x: Any) -> np.ndarray:
    """Returns an array on the host; PRNG keys as their numbers."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x)


def same(a: Any, b: Any) -> bool:
    """Whether two pytrees of arrays are equal in every bit that can be compared; NaN is NaN."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(_equal(plain(x), plain(y)) for x, y in pairs)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=np.issubdtype(a.dtype, np.floating))


def shapes(tree: Any) -> Any:
    """Returns the pytree with every leaf as text such as ``float32[3]``."""
    return jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree)


def expect_same_shapes(what: str, before: Any, after: Any) -> None:
    """Expects two pytrees of equal structure, shapes and dtypes."""
    old, new = shapes(before), shapes(after)
    structures = jax.tree.structure(old), jax.tree.structure(new)
    expect(
        structures[0] == structures[1],
        f"{what} changes its structure from {structures[0]} to {structures[1]}",
    )
    leaves = zip(jax.tree.leaves_with_path(old), jax.tree.leaves(new), strict=True)
    for (path, was), now in leaves:
        where = f"{what}{jax.tree_util.keystr(path)}"
        expect(was == now, f"{where} changes from {was} to {now}")
