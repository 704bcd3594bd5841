"""Conformance checks for your own task families and algorithms.

From a test::

    from jaxmeta.testing import check_algorithm, check_task_family

    def test_my_family_keeps_the_contract():
        check_task_family(MyFamily(horizon=5))

The single checks are in `FAMILY_CHECKS` and `ALGORITHM_CHECKS`; call one with a `FamilyProbe`
or an `AlgorithmProbe`.
"""

from jaxmeta.testing.algorithm_probes import AlgorithmProbe
from jaxmeta.testing.algorithms import ALGORITHM_CHECKS, check_algorithm
from jaxmeta.testing.conformance import Check, ConformanceError
from jaxmeta.testing.families import FAMILY_CHECKS, check_task_family
from jaxmeta.testing.probes import FamilyProbe
from jaxmeta.testing.toys import ToyFamily

__all__ = [
    "ALGORITHM_CHECKS",
    "FAMILY_CHECKS",
    "AlgorithmProbe",
    "Check",
    "ConformanceError",
    "FamilyProbe",
    "ToyFamily",
    "check_algorithm",
    "check_task_family",
]
