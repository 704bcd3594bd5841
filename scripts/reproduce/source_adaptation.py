"""Measure how well the source distribution adapts to a cart-pole that was watched.

    python scripts/reproduce/source_adaptation.py

Three figures, written to ``results/source_adaptation/cartpole.json``: the error of the
pole's mass after three random episodes of a target two standard deviations off the source's
mean, the same of a target outside of the source's support, and how often 95 % credible
intervals of two parameters cover the truth where readings are noisy.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array

from jaxmeta import SourceAdaptation, Transitions, adapt_source
from jaxmeta.experience.play import play_adaptation
from jaxmeta.training import recording
from jaxmeta_envs import CartPole
from jaxmeta_envs.random.distributions import TruncatedNormal

ROOT = Path(__file__).parents[2]
FAMILY = CartPole(episode_length=40)  # random pushes let the pole fall after 22 on average
EPISODES = 3
MODEL_ERROR = 1e-3  # of the simulator itself; it only has to exceed the rounding of float32
SENSORS = (0.005, 0.05, 0.002, 0.05)  # m, m/s, rad, rad/s
MASS = SourceAdaptation(process_std=MODEL_ERROR, free=("pole_mass",))
BOTH = SourceAdaptation(
    process_std=MODEL_ERROR,
    observation_std=SENSORS,
    free=("pole_mass", "half_length"),
    num_particles=128,
)
CASES = {  # truth; mean, standard deviation and bounds of the source, kg
    "two standard deviations off": (0.14, (0.1, 0.02, 0.05, 0.2)),
    "outside of the support": (0.2, (0.1, 0.02, 0.08, 0.12)),
}


def source_of(mean: float, std: float, low: float, high: float) -> TruncatedNormal[Any]:
    """Returns a source for the pole's mass; other parameters spread over their limits."""
    limits = FAMILY.limits()
    wide = jax.tree.map(lambda a, b: 0.15 * (b - a), *limits)
    return TruncatedNormal(
        FAMILY.nominal_task()._replace(pole_mass=jnp.float32(mean)),
        wide._replace(pole_mass=jnp.float32(std)),
        limits.low._replace(pole_mass=jnp.float32(low)),
        limits.high._replace(pole_mass=jnp.float32(high)),
    )


def watch(target: Any, key: Array, sensors: tuple[float, ...] | None = None) -> Transitions:
    """Plays random episodes of ``target`` and returns what sensors would log of them."""
    play_key, read_key = jax.random.split(key)
    reference = FAMILY.references(1)["random"]
    played = play_adaptation(FAMILY, reference.policy, (), target, play_key, EPISODES)
    data = Transitions.from_trajectory(played)
    if sensors is None:
        return data
    *lead, steps, size = data.obs.shape
    noise = jax.random.normal(read_key, (*lead, steps + 1, size))
    noise = noise * jnp.broadcast_to(jnp.asarray(sensors), noise.shape)
    obs, next_obs = data.obs + noise[..., :-1, :], data.next_obs + noise[..., 1:, :]
    return data._replace(obs=obs, next_obs=next_obs)


def errors(truth: float, source: TruncatedNormal[Any], repetitions: int) -> dict[str, float]:
    """Returns the relative error of the posterior mean of the pole's mass."""
    target = FAMILY.nominal_task()._replace(pole_mass=jnp.float32(truth))

    def one(key: Array) -> tuple[Array, Array]:
        watch_key, key = jax.random.split(key)
        posterior = adapt_source(FAMILY, source, watch(target, watch_key), key, adaptation=MASS)
        return posterior.mean.pole_mass, posterior.temperature

    keys = jax.random.split(jax.random.key(0), repetitions)
    mean, temperature = jax.jit(jax.vmap(one))(keys)
    error = np.abs(np.asarray(mean, np.float64) / truth - 1)
    return {
        "truth": truth,
        "mean_relative_error": float(error.mean()),
        "largest_relative_error": float(error.max()),
        "lowest_temperature": float(temperature.min()),
    }


def coverage(targets: int) -> dict[str, Any]:
    """Returns how often the intervals cover the truth, targets drawn from the source."""
    source = source_of(0.1, 0.03, 0.05, 0.2)

    def one(key: Array) -> tuple[Any, Any]:
        task_key, watch_key, key = jax.random.split(key, 3)
        drawn = source.sample(task_key)
        target = FAMILY.nominal_task()._replace(
            pole_mass=drawn.pole_mass, half_length=drawn.half_length
        )
        data = watch(target, watch_key, SENSORS)
        return target, adapt_source(FAMILY, source, data, key, adaptation=BOTH)

    keys = jax.random.split(jax.random.key(1), targets)
    target, posterior = jax.jit(jax.vmap(one))(keys)
    result: dict[str, Any] = {"lowest_temperature": float(posterior.temperature.min())}
    for name in BOTH.free or ():
        truth, low, high, std = (
            np.asarray(getattr(task, name), np.float64)
            for task in (target, posterior.low, posterior.high, posterior.std)
        )
        result[name] = {
            "covered": float(np.mean((low <= truth) & (truth <= high))),
            "mean_relative_std": float(np.mean(std / truth)),
        }
    return result


def main(
    targets: int = 200,
    repetitions: int = 50,
    out: Path = ROOT / "results" / "source_adaptation" / "cartpole.json",
) -> None:
    """Measures, prints and writes the figures.

    Args:
        targets: Simulated targets of the coverage.
        repetitions: Targets' trajectories per error.
        out: Where the figures are written.
    """
    start = time.monotonic()
    figures = {
        "episodes": EPISODES,
        "repetitions": repetitions,
        "errors": {
            name: errors(truth, source_of(*source), repetitions)
            for name, (truth, source) in CASES.items()
        },
        "targets": targets,
        "coverage": coverage(targets),
        **recording.provenance(),
    }
    figures["minutes"] = round((time.monotonic() - start) / 60, 2)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
