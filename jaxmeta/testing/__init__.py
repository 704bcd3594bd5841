"""Conformance checks for your own task families and algorithms.

From a test::

    from jaxmeta.testing import check_algorithm, check_task_family

    def test_my_family_keeps_the_contract():
        check_task_family(MyFamily(horizon=5))

`check_learning` takes longer: it trains on the families of `PROBE_TASKS`, whose best behaviour is
known, and tells from what fails what is wrong.

The single checks are in `FAMILY_CHECKS` and `ALGORITHM_CHECKS`; call one with a `FamilyProbe`
or an `AlgorithmProbe`.
"""

from jaxmeta.testing.algorithm_probes import AlgorithmProbe
from jaxmeta.testing.algorithms import ALGORITHM_CHECKS, check_algorithm
from jaxmeta.testing.before_training import check_before_training
from jaxmeta.testing.conformance import Check, ConformanceError
from jaxmeta.testing.families import FAMILY_CHECKS, check_task_family
from jaxmeta.testing.learning import check_learning
from jaxmeta.testing.probe_tasks import PROBE_TASKS, ProbeTask
from jaxmeta.testing.probes import FamilyProbe
from jaxmeta.testing.supervised import (
    SUPERVISED_CHECKS,
    ToyRegression,
    check_supervised_family,
)
from jaxmeta.testing.toy_clusters import ToyClusters
from jaxmeta.testing.toys import ToyFamily

__all__ = [
    "ALGORITHM_CHECKS",
    "FAMILY_CHECKS",
    "PROBE_TASKS",
    "SUPERVISED_CHECKS",
    "AlgorithmProbe",
    "Check",
    "ConformanceError",
    "FamilyProbe",
    "ProbeTask",
    "ToyClusters",
    "ToyFamily",
    "ToyRegression",
    "check_algorithm",
    "check_before_training",
    "check_learning",
    "check_supervised_family",
    "check_task_family",
]
