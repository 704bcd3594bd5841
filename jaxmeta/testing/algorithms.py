"""Does an algorithm keep its contract? Call `check_algorithm` from your own tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from jaxmeta.contracts import Algorithm
from jaxmeta.testing.algorithm_probes import AlgorithmProbe
from jaxmeta.testing.conformance import check, run_checks
from jaxmeta.testing.policies import POLICY_CHECKS
from jaxmeta.testing.supervised import ToyRegression
from jaxmeta.testing.toys import ToyFamily
from jaxmeta.testing.updates import UPDATE_CHECKS
from jaxmeta_envs.core.contracts import Family


def check_algorithm(
    algorithm: Algorithm,
    family: Family | None = None,
    *,
    seed: int = 0,
    bootstraps: bool | None = None,
    skip: Collection[str] = (),
) -> None:
    """Runs every check of `ALGORITHM_CHECKS` on an algorithm with tiny settings.

    Some checks train on toy families of their own, unless the algorithm's ``check`` rejects
    them; compiling a few updates takes most of the time.

    Args:
        algorithm: The algorithm, with the smallest network and few tasks.
        family: What the other checks train on; by default a toy with three
            actions, or one with continuous actions or of regression if that is rejected.
        seed: Seed of all randomness.
        bootstraps: Whether the algorithm learns differently from time limits and from
            terminations. By default, what it says itself (`Algorithm.bootstraps`).
        skip: Names of checks to leave out.

    Raises:
        ConformanceError: With the name of the first check that fails, what it saw and what
            the contract demands.
    """
    if bootstraps is None:
        bootstraps = algorithm.bootstraps
    probe = AlgorithmProbe(algorithm, family or ToyFamily(), seed, bootstraps)
    if family is None:
        toys = (probe.family, ToyFamily(continuous=True), ToyRegression())
        accepted = next((toy for toy in toys if probe.accepts(toy)), probe.family)
        probe = dataclasses.replace(probe, family=accepted)
    run_checks(ALGORITHM_CHECKS, probe, skip)


@check("both action kinds", "an algorithm trains on every family that its check accepts")
def both_action_kinds(probe: AlgorithmProbe) -> None:
    """Traces an update on discrete and on continuous actions."""
    for continuous in (False, True):
        family = ToyFamily(continuous=continuous)
        if probe.accepts(family):
            probe.trace_update(family)


ALGORITHM_CHECKS = (
    *UPDATE_CHECKS[:1],
    both_action_kinds,
    *POLICY_CHECKS,
    *UPDATE_CHECKS[1:],
)
"""Every check of `check_algorithm`, in order; each can be called with an `AlgorithmProbe`."""
