"""Checks of the policies that a family ships to compare with.

Axes: B tasks, K episodes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from jaxmeta.experience.play import play_adaptation
from jaxmeta.testing.conformance import check, expect, fast_jit, plain
from jaxmeta.testing.probes import FamilyProbe
from jaxmeta_envs.core.contracts import AdaptivePolicy, Reference
from jaxmeta_envs.core.spaces import ArraySpace, Box

_TASKS, _EPISODES = 256, 3


class _Result(NamedTuple):
    """Returns of one reference: mean and standard error per episode, and of the total."""

    mean: np.ndarray
    error: np.ndarray
    totals: np.ndarray


@check(
    "references",
    "references(n) maps names, 'random' among them, to References that play within the spaces; "
    "optimal_returns(n) has n entries; the oracle is no worse than random and the "
    "Bayes-optimal policy earns exactly what optimal_returns promises",
)
def references(probe: FamilyProbe) -> None:
    """Plays every reference on held-out tasks."""
    family = probe.family
    found = family.references(_EPISODES)
    expect("random" in found, f"the references are {sorted(found)}, without 'random'")
    results = {name: _play(probe, name, reference) for name, reference in found.items()}
    if "oracle" in results:
        gain = results["oracle"].totals - results["random"].totals
        floor = -4.0 * gain.std() / np.sqrt(_TASKS) - 1e-4 * np.abs(gain).max()
        expect(gain.mean() >= floor, f"the oracle earns {gain.mean():.4g} more than random")
    optimal = family.optimal_returns(_EPISODES)
    if optimal is None:
        return
    expect(np.shape(optimal) == (_EPISODES,), f"optimal_returns has shape {np.shape(optimal)}")
    if "bayes-optimal" in results:
        mean, error, _ = results["bayes-optimal"]
        text = f"'bayes-optimal' earns {mean} ± {error} per episode, not {optimal}"
        expect(np.all(np.abs(mean - optimal) <= _tolerance(error, optimal)), text)
    for name, result in results.items():
        if not found[name].told_task:
            excess = result.totals.mean() - np.sum(optimal)
            error = result.totals.std() / np.sqrt(_TASKS)
            text = f"{name!r} earns {excess:.4g} more than the optimum over {_EPISODES} episodes"
            expect(excess <= _tolerance(error, np.sum(optimal)), text)


def _tolerance(error: np.ndarray | float, scale: np.ndarray | float) -> np.ndarray:
    """Five standard errors, and what float32 sums may lose."""
    return np.asarray(5.0 * error + 1e-4 * (1.0 + np.abs(scale)))


def _play(probe: FamilyProbe, name: str, reference: Reference) -> _Result:
    family = probe.family
    expect(isinstance(reference, Reference), f"reference {name!r} is a {type(reference).__name__}")
    policy = reference.policy
    expect(isinstance(policy, AdaptivePolicy), f"the policy of {name!r} is no AdaptivePolicy")

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        task_key, play_key = jax.random.split(key)
        task = family.sample_task(task_key, "test")
        params = (reference.params, task) if reference.told_task else reference.params
        played = play_adaptation(family, policy, params, task, play_key, _EPISODES)
        return played.reward.sum(axis=2).mean(axis=1), played.action, played.mask

    keys = jax.random.split(probe.key("references"), _TASKS)
    returns, actions, mask = (plain(x) for x in fast_jit(jax.vmap(one))(keys))
    expect(np.all(np.isfinite(returns)), f"reference {name!r} has a return that is not finite")
    _expect_actions(name, family.action_space, actions, mask)
    returns = returns.astype(np.float64)
    error = returns.std(axis=0) / np.sqrt(_TASKS)
    return _Result(returns.mean(axis=0), error, returns.sum(axis=1))


def _expect_actions(name: str, space: ArraySpace, actions: np.ndarray, mask: np.ndarray) -> None:
    good = actions.dtype == space.dtype and actions.shape[4:] == space.shape
    seen = f"{actions.dtype}{list(actions.shape[4:])}"
    expect(good, f"reference {name!r} plays actions {seen}, not of {space}")
    if not isinstance(space, Box):
        played = actions[mask]
        inside = np.all((played >= space.lowest) & (played <= space.highest))
        expect(inside, f"reference {name!r} plays actions outside {space}")
    else:
        expect(np.all(np.isfinite(actions[mask])), f"reference {name!r} plays actions not finite")


REFERENCE_CHECKS = (references,)
