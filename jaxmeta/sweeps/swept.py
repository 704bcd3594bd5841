"""A number that differs from run to run of one compiled program.

An algorithm reads its hyperparameters as Python numbers: it checks them, decides by them what
to build, computes with them, and hands them to JAX. A `Swept` stands in for such a number in
a program that trains many runs side by side. What Python asks of it is answered for the
values of all runs at once, in float64 as for a single run; to JAX it is the value of the run
at hand. So algorithms need not know of it.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.errors import ConfigError

# Which point of the sweep is traced; an integer of the program, one per run.
_point: ContextVar[Array | None] = ContextVar("jaxmeta_sweep_point", default=None)


@contextlib.contextmanager
def at_point(point: Array) -> Iterator[None]:
    """Traces what is inside for one point of the sweep, an int32 scalar."""
    token = _point.set(point)
    try:
        yield
    finally:
        _point.reset(token)


class Swept:
    """A hyperparameter with a value for every point of a sweep.

    Arithmetic with Python numbers is done for every point. A comparison must come out alike
    for all, as it may decide what program is built.

    Args:
        name: The field, for messages.
        values: Its value at every point.
    """

    __array_ufunc__ = None  # NumPy's numbers leave arithmetic to this class

    def __init__(self, name: str, values: Sequence[float]) -> None:
        self.name, self.values = name, tuple(values)

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:g}" for value in dict.fromkeys(self.values))
        return f"one of {shown}"

    def __hash__(self) -> int:
        return hash((self.name, self.values))

    def __jax_array__(self) -> Array:
        """Returns the value at the point that is traced, as weakly typed as a Python number."""
        point = _point.get()
        if point is None:
            raise RuntimeError(f"{self.name} is swept; outside the sweep it has no one value")
        with jax.ensure_compile_time_eval():
            table = jnp.stack([jnp.asarray(float(value)) for value in self.values])
        return table[point]

    def __bool__(self) -> bool:
        return self._agreed([bool(value) for value in self.values])

    def __float__(self) -> float:
        return float(self._agreed(list(self.values)))

    def __round__(self, digits: int | None = None) -> Swept:
        return Swept(self.name, [round(value, digits) for value in self.values])

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._agreed(list(self.values))
        raise TypeError(f"{self.name} is swept; it is no NumPy array")

    def _agreed(self, answers: list[Any]) -> Any:
        """Returns the answer for all points.

        Raises:
            ConfigError: If there is more than one.
        """
        if any(answer != answers[0] for answer in answers):
            raise ConfigError(
                f"{self.name} is {self!r}; all values must lead to the same program, but these "
                "decide what is compiled: sweep over them apart, or train them one by one"
            )
        return answers[0]

    def _apply(self, function: Callable[..., Any], other: Any, compare: bool, swap: bool) -> Any:
        if isinstance(other, Swept):
            others: Sequence[Any] = other.values
        elif isinstance(other, int | float | np.number):
            others = [other] * len(self.values)
        else:
            own = self.__jax_array__()
            return function(other, own) if swap else function(own, other)
        pairs = zip(others, self.values) if swap else zip(self.values, others)  # noqa: B905
        results = [function(*pair) for pair in pairs]
        return self._agreed(results) if compare else Swept(self.name, results)


def _binary(function: Callable[..., Any], compare: bool = False, swap: bool = False) -> Any:
    def method(self: Swept, other: Any) -> Any:
        return self._apply(function, other, compare, swap)

    return method


def _unary(function: Callable[..., Any]) -> Any:
    def method(self: Swept) -> Swept:
        return Swept(self.name, [function(value) for value in self.values])

    return method


for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Swept, f"__{_name}__", _binary(getattr(operator, _name), compare=True))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Swept, f"__{_name}__", _binary(getattr(operator, _name)))
    setattr(Swept, f"__r{_name}__", _binary(getattr(operator, _name), swap=True))
for _name in ("neg", "pos", "abs"):
    setattr(Swept, f"__{_name}__", _unary(getattr(operator, _name)))


# Where JAX takes arguments apart (a jitted function, a scan), its array is handed over.
def _value(_: None, children: Any) -> Any:
    return children[0]


jax.tree_util.register_pytree_node(Swept, lambda swept: ((swept.__jax_array__(),), None), _value)
