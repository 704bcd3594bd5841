"""The search for the simulator in which an agent earns least.

Axes: P simulators of a generation, G generations, D physical parameters, S training seeds,
E trials on each simulator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmeta.evaluation.player import AXIS, compiler_options, local_mesh
from jaxmeta.evaluation.protocol import Protocol
from jaxmeta_envs.core.errors import require, require_number
from jaxmeta_envs.core.fields import check_fields, check_least


@dataclass(frozen=True)
class CrossEntropy:
    """The cross-entropy method, looking for the lowest return in a box of parameters.

    A generation of simulators is drawn and played; the next one is drawn from the normal
    distribution, clipped to the box, that has the mean and the standard deviation of the
    worst of them, the elite. The first generation is uniform. The simulators of one
    generation share their luck, the next one has its own.

    What was found, the worst of every generation and the final mean, is then played on
    fresh trials, and what does worst there is measured once more on others: the lowest of
    many noisy returns is partly bad luck and would flatter the search.

    Attributes:
        population: Simulators per generation, P.
        elite_share: Share of them that the next generation is drawn around.
        iterations: Generations, G.
        trials: Trials on each simulator of a generation, for every training seed.
        noise: Standard deviation, as a share of the box, that is added (in squares) to that
            of the first elite, so that an early chance does not end the search. It falls
            linearly to 0.
        fresh_trials: Trials, for every training seed, on which the worst simulator is
            chosen, and as many again on which it is measured.
        parameters: What the search may change; None: the swept parameters if ``within`` is
            map, else all physical parameters but those that are fixed.
        within: The box: map, that of the map; limits, where simulation makes sense (for a
            parameter whose range is given, that range), of the parameters that the map holds
            still as well; or train, the part of the latter that is trained on.

    References:
        Rubinstein (1999), "The cross-entropy method for combinatorial and continuous
        optimization". Szita & Lőrincz (2006), "Learning Tetris using the noisy
        cross-entropy method", for the noise.
    """

    population: int = 64
    elite_share: float = 0.15
    iterations: int = 15
    trials: int = 4
    noise: float = 0.1
    fresh_trials: int = 100
    parameters: tuple[str, ...] | None = None
    within: Literal["map", "limits", "train"] = "map"

    def __post_init__(self) -> None:
        check_fields(self)
        check_least(self, population=2, iterations=1, trials=1, fresh_trials=1)
        share = self.elite_share
        require(0 < share <= 1, "CrossEntropy.elite_share", share, "above 0 and at most 1")
        require_number("CrossEntropy.noise", self.noise, 0.0)
        boxes = ("map", "limits", "train")
        require(self.within in boxes, "CrossEntropy.within", self.within, "map, limits or train")

    @property
    def elite(self) -> int:
        """How many simulators the elite has: at least one."""
        return max(1, round(self.elite_share * self.population))


class Found(NamedTuple):
    """What a search came across.

    Attributes:
        candidates: The worst simulator of every generation and the mean of the last elite,
            float32 ``[G + 1, D]``.
        history: Mean return of the elite of every generation, float32 ``[G]``. Noisy, and
            lower than the truth because it is of a selection.
    """

    candidates: np.ndarray
    history: np.ndarray


def search_worst(
    search: CrossEntropy,
    protocol: Protocol,
    params: Any,
    *,
    key: Array,
    low: np.ndarray,
    high: np.ndarray,
) -> Found:
    """Runs the cross-entropy method as one compiled program.

    Args:
        search: The method.
        protocol: Who plays, on a `PhysicalFamily`, and the points of the adaptation curve, of
            which the last one counts.
        params: What its policy reads, leaves with a leading seeds axis; the return of a
            simulator is the mean over seeds.
        key: Typed PRNG key.
        low: Lower ends of the box, ``[D]`` in the order of the family's parameters.
        high: Upper ends; a parameter stays what it is where both are equal.
    """
    mesh = local_mesh()
    ends = (np.asarray(low, np.float32), np.asarray(high, np.float32))
    inputs = jax.device_put((params, key, *ends), NamedSharding(mesh, PartitionSpec()))
    candidates, history = _program(search, protocol, mesh)(*inputs)
    return Found(np.asarray(candidates), np.asarray(history))


@functools.lru_cache(maxsize=32)
def _program(
    search: CrossEntropy, protocol: Protocol, mesh: Mesh
) -> Callable[..., tuple[Array, Array]]:
    score = _scorer(protocol, search.population, mesh)

    def run(params: Any, key: Array, low: Array, high: Array) -> tuple[Array, Array]:
        def scale(unit: Array) -> Array:
            ends = (jnp.broadcast_to(end, unit.shape) for end in (low, high))
            return _between(unit, *ends)

        def generation(loop: tuple[Array, Array], inputs: tuple) -> tuple[tuple, tuple]:
            draw_key, play_key = jax.random.split(inputs[0])
            unit = _draw(search.population, *loop, draw_key, first=inputs[1])
            simulators = scale(unit)
            returns = score(params, jax.random.split(play_key, search.trials), simulators)
            # A simulation that breaks down is no adverse simulator but none at all.
            returns = jnp.where(jnp.isfinite(returns), returns, jnp.inf)
            lowest, order = jax.lax.top_k(-returns, search.elite)
            elite = unit[order]
            std = jnp.sqrt(elite.var(axis=0) + inputs[2] ** 2)
            found = (simulators[order[0]], jnp.mean(-lowest, where=jnp.isfinite(lowest)))
            return (elite.mean(axis=0), std), found

        steps = jnp.arange(search.iterations)
        noise = search.noise * (1 - steps / max(search.iterations - 1, 1))
        keys = jax.random.split(key, search.iterations)
        start = (jnp.full(low.shape, 0.5), jnp.full(low.shape, 0.5))
        (mean, _), (worst, history) = jax.lax.scan(generation, start, (keys, steps == 0, noise))
        return jnp.concatenate([worst, scale(mean)[None]]), history

    return jax.jit(run, compiler_options=compiler_options(mesh))


def _draw(population: int, mean: Array, std: Array, key: Array, *, first: Array) -> Array:
    """Draws a generation in the unit box, ``[P, D]``."""
    uniform_key, normal_key = jax.random.split(key)
    shape = (population, *mean.shape)
    uniform = jax.random.uniform(uniform_key, shape)
    normal = mean[None] + std[None] * jax.random.normal(normal_key, shape)
    # Clipping, unlike truncation, reaches the faces and corners, where the worst often is.
    return jnp.where(first, uniform, jnp.clip(normal, 0.0, 1.0))


def _between(unit: Array, low: Array, high: Array) -> Array:
    # Rounding may lead out of the interval.
    return jnp.clip(low + (high - low) * unit, low, high)


def _scorer(protocol: Protocol, population: int, mesh: Mesh) -> Callable[..., Array]:
    """Returns ``(params, keys[E], simulators[P, D]) -> mean returns[P]``, spread over devices."""
    structure = jax.tree.structure(jax.eval_shape(protocol.family.nominal_task))
    padding = -population % mesh.size

    def play(params: Any, simulator: Array, key: Array) -> Array:
        task = jax.tree.unflatten(structure, list(simulator))
        return protocol.play(params, task, key)[-1]

    def play_all(params: Any, keys: Array, simulators: Array) -> Array:
        of_trials = jax.vmap(play, in_axes=(None, None, 0))
        of_simulators = jax.vmap(of_trials, in_axes=(None, 0, None))
        returns = jax.vmap(of_simulators, in_axes=(0, None, None))(params, simulators, keys)
        return returns.mean(axis=(0, 2))

    everywhere, shared = PartitionSpec(), PartitionSpec(AXIS)
    spread = jax.shard_map(
        play_all,
        mesh=mesh,
        in_specs=(everywhere, everywhere, shared),
        out_specs=shared,
        check_vma=False,
    )

    def score(params: Any, keys: Array, simulators: Array) -> Array:
        padded = simulators[jnp.arange(population + padding) % population]
        return spread(params, keys, padded)[:population]

    return score
