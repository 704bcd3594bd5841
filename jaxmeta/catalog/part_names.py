"""The short names of built-in parts in files, which stay when a class moves to another module.

Algorithms and task families have theirs in `jaxmeta.catalog.registry`. Classes of users are named
``module:QualifiedName``, see `jaxmeta.catalog.importing`.
"""

from __future__ import annotations

import abc
import functools
import pkgutil
from types import MappingProxyType

from jaxmeta_envs.core.contracts import Family

PLACES = MappingProxyType(
    {
        "train-config": "jaxmeta.config:TrainConfig",
        "schedule": "jaxmeta.parts.schedules:Schedule",
        # What is maximised of returns.
        "mean": "jaxmeta.parts.risk:Mean",
        "cvar": "jaxmeta.parts.risk:CVaR",
        # Networks.
        "mlp": "jaxmeta.networks.encoder:MLP",
        "gru": "jaxmeta.networks.memories.recurrent:GRU",
        "lstm": "jaxmeta.networks.memories.recurrent:LSTM",
        "fast-weights": "jaxmeta.networks.memories.fast_weights:FastWeights",
        "recall": "jaxmeta.networks.memories.recall:Recall",
        # How a policy is improved, and against which baseline.
        "ppo": "jaxmeta.parts.optimizers.ppo:PPO",
        "trpo": "jaxmeta.parts.optimizers.trpo:TRPO",
        "minibatch-adam": "jaxmeta.parts.optimizers.contract:MinibatchAdam",
        "policy-objective": "jaxmeta.parts.objective:PolicyObjective",
        "linear-baseline": "jaxmeta.parts.linear_baseline:LinearBaseline",
        # How a learner adapts, and how that is differentiated.
        "inner-loop": "jaxmeta.parts.inner_loop:InnerLoop",
        "sgd": "jaxmeta.parts.inner_loop:SGD",
        "meta-sgd": "jaxmeta.parts.inner_loop:MetaSGD",
        "adam": "jaxmeta.parts.inner_loop:Adam",
        "meta-gradient": "jaxmeta.algorithms.maml:MetaGradient",
        "reptile": "jaxmeta.algorithms.maml:Reptile",
        "log-likelihood": "jaxmeta.parts.estimators:LogLikelihood",
        "dice": "jaxmeta.parts.estimators:DiCE",
        "lvc": "jaxmeta.parts.estimators:LVC",
        "e-maml": "jaxmeta.parts.estimators:EMAML",
        "first-order": "jaxmeta.parts.estimators:FirstOrder",
        # Teachers.
        "oracle-expert": "jaxmeta.parts.experts:OracleExpert",
        "trained-experts": "jaxmeta.algorithms.experts:TrainedExperts",
        # Simulators that follow a target system.
        "source-adaptation": "jaxmeta.sim_to_real.settings:SourceAdaptation",
        "gymnax-family": "jaxmeta_envs.interop.gymnax:GymnaxFamily",
    }
)
"""Where the class of each name is today: ``module:QualifiedName``."""

OLD_NAMES = MappingProxyType(
    {
        "jaxmeta.config:TrainConfig": "train-config",
        "jaxmeta.schedules:Schedule": "schedule",
        "jaxmeta.risk:Mean": "mean",
        "jaxmeta.risk:CVaR": "cvar",
        "jaxmeta.networks.encoder:MLP": "mlp",
        "jaxmeta.networks.memory:GRU": "gru",
        "jaxmeta.networks.memory:LSTM": "lstm",
        "jaxmeta.networks.fast_weights:FastWeights": "fast-weights",
        "jaxmeta.networks.recall:Recall": "recall",
        "jaxmeta.algorithms.ppo:PPO": "ppo",
        "jaxmeta.algorithms.trpo:TRPO": "trpo",
        "jaxmeta.algorithms.policy_optimizer:MinibatchAdam": "minibatch-adam",
        "jaxmeta.algorithms.policy_objective:PolicyObjective": "policy-objective",
        "jaxmeta.algorithms.linear_baseline:LinearBaseline": "linear-baseline",
        "jaxmeta.algorithms.inner_loop:InnerLoop": "inner-loop",
        "jaxmeta.algorithms.inner_loop:SGD": "sgd",
        "jaxmeta.algorithms.inner_loop:MetaSGD": "meta-sgd",
        "jaxmeta.algorithms.inner_loop:Adam": "adam",
        "jaxmeta.algorithms.maml:MetaGradient": "meta-gradient",
        "jaxmeta.algorithms.maml:Reptile": "reptile",
        "jaxmeta.algorithms.estimators:LogLikelihood": "log-likelihood",
        "jaxmeta.algorithms.estimators:DiCE": "dice",
        "jaxmeta.algorithms.estimators:LVC": "lvc",
        "jaxmeta.algorithms.estimators:EMAML": "e-maml",
        "jaxmeta.algorithms.estimators:FirstOrder": "first-order",
        "jaxmeta.algorithms.experts:OracleExpert": "oracle-expert",
        "jaxmeta.algorithms.experts:TrainedExperts": "trained-experts",
        "jaxmeta.source_settings:SourceAdaptation": "source-adaptation",
        "jaxmeta_envs.gymnax_adapter:GymnaxFamily": "gymnax-family",
    }
)
"""What files of schema 3 and before call them. Never changes, wherever the classes go."""

_NAMES = {place: name for name, place in PLACES.items()}


def part_name(cls: type) -> str | None:
    """Returns the name of a built-in part, or None for other classes."""
    return _NAMES.get(f"{cls.__module__}:{cls.__qualname__}")


@functools.cache
def members(base: type) -> dict[str, type]:
    """Returns the built-in parts of a kind by name, such as every `Memory`.

    Args:
        base: The abstract class of the kind; others have no members.
    """
    if abc.ABC not in base.__bases__ or issubclass(base, Family):
        return {}
    found: dict[str, type] = {name: pkgutil.resolve_name(at) for name, at in PLACES.items()}
    return {name: cls for name, cls in found.items() if issubclass(cls, base)}
