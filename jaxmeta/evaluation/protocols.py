"""Which protocol a learner is measured by: the one place that asks of which kind a family is."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from jaxmeta.evaluation.acting import Acting
from jaxmeta.evaluation.predicting import Predicting
from jaxmeta.evaluation.protocol import Protocol
from jaxmeta_envs.core.contracts import AdaptivePolicy, Family
from jaxmeta_envs.core.supervised import AdaptiveModel, SupervisedFamily


def protocol_for(policy: AdaptivePolicy | AdaptiveModel, family: Family) -> Protocol:
    """Returns how a policy, or a model, is measured on a family: by one point at first."""
    kind = Predicting if isinstance(family, SupervisedFamily) else Acting
    protocol = kind(family, policy)
    return replace(protocol, episodes=protocol.together)


def make_protocol(algorithm: Any, family: Family) -> Protocol:
    """Returns how what an algorithm trains is measured: by a curve as long as in training."""
    protocol = protocol_for(algorithm.policy(family), family)
    return protocol.with_rows(protocol.rows_of(algorithm.trial_episodes(family)))


# Policies are closures without a useful equality; one object per algorithm and family is
# what lets a second evaluation find the first one's compiled program.
@functools.lru_cache(maxsize=32)
def protocol_of(algorithm: Any, family: Family) -> Protocol:
    """Returns `make_protocol`'s, the same object for equal arguments."""
    return make_protocol(algorithm, family)
