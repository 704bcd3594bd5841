"""Regression on functions of one variable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields
from jaxmeta_envs.core.spaces import Box
from jaxmeta_envs.core.supervised import Examples, FunctionFamily, Predictor

Range = tuple[float, float]


def _check_range(name: str, value: Range) -> None:
    ordered = len(value) == 2 and all(map(math.isfinite, value)) and value[0] <= value[1]
    require(ordered, name, value, "two finite numbers, the lower first")


def _uniform(key: Array, ends: Range, shape: tuple[int, ...] = ()) -> Array:
    return jax.random.uniform(key, shape, jnp.float32, *ends)


class SinusoidTask(NamedTuple):
    """A sine wave.

    Attributes:
        amplitude: A, float32 scalar.
        phase: φ in radians, float32 scalar.
    """

    amplitude: Array
    phase: Array


@dataclass(frozen=True)
class Sinusoid(FunctionFamily[SinusoidTask]):
    """Sine waves of random amplitude and phase, ``y = A sin(x - φ)``.

    A and φ are uniform, and so is x. No single function fits all waves: the best, the mean
    over tasks, has an expected squared error of 3.0 with the default ranges. That is what a
    meta-learner starts from before it sees an example.

    Splits:
        train, test: The given ranges.
        far: Inputs as in training; amplitudes between once and twice the highest.

    Attributes:
        amplitude: Lowest and highest A.
        phase: Lowest and highest φ, radians.
        inputs: Lowest and highest x.
        noise: Standard deviation of normal noise on the labels.
        points: Number of x that there are, evenly spaced: examples are drawn from them, none
            twice before each was drawn once. None: uniform between the two.

    Reference: Finn et al. 2017, arXiv 1703.03400; Nichol et al. 2018, arXiv 1803.02999, take
    phases up to 2π and write the phase with a plus; their demonstration has 50 points.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "far")

    amplitude: Range = (0.1, 5.0)
    phase: Range = (0.0, math.pi)
    inputs: Range = (-5.0, 5.0)
    noise: float = 0.0
    points: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("amplitude", "phase", "inputs"):
            _check_range(name, getattr(self, name))
        require(self.inputs[0] < self.inputs[1], "inputs", self.inputs, "a range above 0")
        points = self.points
        require(points is None or points >= 1, "points", points, "at least 1, or None")
        require(self.noise >= 0, "noise", self.noise, "at least 0")

    @property
    def input_space(self) -> Box:
        return Box(*self.inputs, (1,))

    @property
    def label_space(self) -> Box:
        return Box(-math.inf, math.inf, (1,))

    def sample_task(self, key: Array, split: str = "train") -> SinusoidTask:
        self.check_split(split)
        amplitude_key, phase_key = jax.random.split(key)
        highest = self.amplitude[1]
        amplitudes = (highest, 2.0 * highest) if split == "far" else self.amplitude
        return SinusoidTask(_uniform(amplitude_key, amplitudes), _uniform(phase_key, self.phase))

    def sample_examples(self, key: Array, task: SinusoidTask, num: int) -> Examples:
        return _sample_examples(self, key, task, num, self.points)

    def function(self, task: SinusoidTask, x: Array) -> Array:
        return task.amplitude * jnp.sin(x - task.phase)

    def references(self) -> Mapping[str, Predictor]:
        """Returns "oracle", "mean" (the mean over tasks, the best without examples) and "zero"."""
        return {"oracle": self.function, "mean": self._mean, "zero": _zero}

    def _mean(self, task: SinusoidTask, x: Array) -> Array:
        """``E[A] E[sin(x - φ)]``, of the training distribution."""
        del task
        low, high = self.phase
        mean = 0.5 * (self.amplitude[0] + self.amplitude[1])
        if high - low < 1e-6:
            return mean * jnp.sin(x - low)
        return mean * (jnp.cos(x - high) - jnp.cos(x - low)) / (high - low)


class PolynomialTask(NamedTuple):
    """A polynomial, or two with a step between them.

    Attributes:
        coefficients: Of the Legendre polynomials of degree 0 to d, float32 ``[2, d + 1]``:
            left and right of the step; equal if there is none.
        step: Where it is, in units of the inputs' half range, float32 scalar in [-1, 1]; 0 if
            there is none.
    """

    coefficients: Array
    step: Array


@dataclass(frozen=True)
class Polynomial(FunctionFamily[PolynomialTask]):
    """Random polynomials of random degree, with or without a step.

    With u = x scaled to [-1, 1]: ``y = Σ_k c_k P_k(u)`` with P_k the Legendre polynomials, a
    degree d that is uniform among the ``degrees``, and ``c_k`` normal with standard deviation
    ``scale · sqrt((2k + 1) / (d + 1))``, so that ``E[y²] = scale²`` over tasks and inputs
    whatever the degree. (Powers of x would leave all but the highest without effect.)
    With probability ``steps`` a task is made of two such polynomials of one degree, joined
    by a jump at a uniform place.

    ``Polynomial(degrees=(1, 1))`` are lines, ``Polynomial(degrees=(0, 0), steps=1.0)`` step
    functions, and the default a mixture of lines, parabolas and cubics.

    Splits:
        train, test: The given distribution.
        far: Twice the scale.

    Attributes:
        degrees: Lowest and highest degree.
        steps: Probability of a step.
        scale: Root mean square of y.
        inputs: Lowest and highest x.
        noise: Standard deviation of normal noise on the labels.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test", "far")

    degrees: tuple[int, int] = (1, 3)
    steps: float = 0.0
    scale: float = 2.0
    inputs: Range = (-5.0, 5.0)
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        _check_range("inputs", self.inputs)
        require(self.inputs[0] < self.inputs[1], "inputs", self.inputs, "a range above 0")
        low, high = self.degrees
        require(0 <= low <= high, "degrees", self.degrees, "two integers >= 0, the lower first")
        require(0.0 <= self.steps <= 1.0, "steps", self.steps, "a number from 0 to 1")
        require(self.scale > 0, "scale", self.scale, "above 0")
        require(self.noise >= 0, "noise", self.noise, "at least 0")

    @property
    def input_space(self) -> Box:
        return Box(*self.inputs, (1,))

    @property
    def label_space(self) -> Box:
        return Box(-math.inf, math.inf, (1,))

    def sample_task(self, key: Array, split: str = "train") -> PolynomialTask:
        self.check_split(split)
        degree_key, coefficient_key, kind_key, step_key = jax.random.split(key, 4)
        low, high = self.degrees
        degree = jax.random.randint(degree_key, (), low, high + 1, jnp.int32)
        k = jnp.arange(high + 1, dtype=jnp.int32)
        std = jnp.where(k <= degree, jnp.sqrt((2 * k + 1) / (degree + 1)), 0.0)
        scale = self.scale * (2.0 if split == "far" else 1.0)
        both = scale * std[None] * jax.random.normal(coefficient_key, (2, high + 1), jnp.float32)
        stepped = jax.random.uniform(kind_key, (), jnp.float32) < self.steps
        coefficients = jnp.where(stepped, both, both[:1])
        step = jnp.where(stepped, _uniform(step_key, (-1.0, 1.0)), 0.0)
        return PolynomialTask(coefficients, step)

    def sample_examples(self, key: Array, task: PolynomialTask, num: int) -> Examples:
        return _sample_examples(self, key, task, num)

    def function(self, task: PolynomialTask, x: Array) -> Array:
        low, high = self.inputs
        u = (2.0 * x - low - high) / (high - low)
        basis = [jnp.ones_like(u), u]
        for k in range(1, self.degrees[1]):
            basis.append(((2 * k + 1) * u * basis[k] - k * basis[k - 1]) / (k + 1))
        stacked = jnp.concatenate(basis[: self.degrees[1] + 1], axis=1)
        left, right = (stacked @ c for c in task.coefficients)
        return jnp.where(u[:, 0] < task.step, left, right)[:, None]

    def references(self) -> Mapping[str, Predictor]:
        """Returns "oracle" and "zero", which is the mean over tasks."""
        return {"oracle": self.function, "zero": _zero}


def _sample_examples(
    family: Sinusoid | Polynomial, key: Array, task: object, num: int, points: int | None = None
) -> Examples:
    input_key, noise_key = jax.random.split(key)
    if points is None:
        x = _uniform(input_key, family.inputs, (num, 1))
    else:
        passes = jax.random.split(input_key, -(-num // points))
        order = jax.vmap(lambda key: jax.random.permutation(key, points))(passes)
        x = jnp.linspace(*family.inputs, points)[order.reshape(-1)[:num], None]
    y = family.function(task, x)  # pyright: ignore[reportArgumentType]
    if family.noise > 0:
        y = y + family.noise * jax.random.normal(noise_key, y.shape, y.dtype)
    return Examples(x, y)


def _zero(task: object, x: Array) -> Array:
    del task
    return jnp.zeros_like(x)


def mean_predictor_loss(family: Sinusoid) -> float:
    """Returns the expected squared error of the mean over tasks, by quadrature, float64.

    ``E_x[Var(A sin(x - φ))]``: what any learner has at best before it sees an example.
    """
    phases = np.linspace(*family.phase, 2001)
    x = np.linspace(*family.inputs, 2001)
    waves = np.sin(x[None, :] - phases[:, None])
    first, second = waves.mean(axis=0), (waves**2).mean(axis=0)
    low, high = family.amplitude
    mean, square = (low + high) / 2, (low**2 + low * high + high**2) / 3
    return float(np.mean(square * second - (mean * first) ** 2) + family.noise**2)
