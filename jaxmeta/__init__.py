"""Meta-reinforcement learning in JAX: train, evaluate and compare agents that adapt.

Names are imported when they are first used, so that ``import jaxmeta`` stays light and
initialises no device.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from jaxmeta.version import VERSION

if TYPE_CHECKING:
    from jaxmeta.algorithms.base import Algorithm
    from jaxmeta.algorithms.epopt import EPOpt
    from jaxmeta.algorithms.estimators import EMAML, LVC, DiCE, FirstOrder, LogLikelihood
    from jaxmeta.algorithms.experts import OracleExpert, TrainedExperts
    from jaxmeta.algorithms.gmps import GuidedMetaPolicySearch
    from jaxmeta.algorithms.inner_loop import SGD, Adam, InnerLoop, MetaSGD
    from jaxmeta.algorithms.linear_baseline import LinearBaseline
    from jaxmeta.algorithms.maml import MAML, MetaGradient, Reptile
    from jaxmeta.algorithms.policy_maml import PolicyMAML
    from jaxmeta.algorithms.policy_objective import PolicyObjective
    from jaxmeta.algorithms.ppo import PPO
    from jaxmeta.algorithms.rl2 import RL2
    from jaxmeta.algorithms.sac import SAC
    from jaxmeta.algorithms.trpo import TRPO
    from jaxmeta.comparison import compare
    from jaxmeta.comparison_report import Comparison
    from jaxmeta.config import Plan, TrainConfig
    from jaxmeta.engine import make_train
    from jaxmeta.evaluation import Evaluation, evaluate, evaluate_policy
    from jaxmeta.exported import load_exported
    from jaxmeta.exporting import export
    from jaxmeta.gymnasium_policy import GymnasiumPolicy, as_gymnasium_policy
    from jaxmeta.networks import GRU, LSTM, MLP, FastWeights, Recall
    from jaxmeta.presets import preset
    from jaxmeta.registry import register_algorithm, register_family
    from jaxmeta.risk import CVaR, Mean
    from jaxmeta.robustness_map import robustness
    from jaxmeta.robustness_report import Robustness
    from jaxmeta.schedules import Schedule
    from jaxmeta.showing import Pictures, show
    from jaxmeta.source_adaptation import SourcePosterior, adapt_source
    from jaxmeta.source_settings import SourceAdaptation
    from jaxmeta.sweep_report import Sweep
    from jaxmeta.sweeping import resume_sweep, sweep
    from jaxmeta.train_result import TrainResult, load
    from jaxmeta.training import TrainingDiverged, TrainingInterrupted, resume, train
    from jaxmeta.transitions import Transitions
    from jaxmeta.worst_case import CrossEntropy
    from jaxmeta_envs import AdaptivePolicy, ConfigError
    from jaxmeta_envs.gymnasium_env import GymnasiumEnv

_HOME = {
    "Algorithm": "jaxmeta.algorithms.base",
    "EPOpt": "jaxmeta.algorithms.epopt",
    "OracleExpert": "jaxmeta.algorithms.experts",
    "TrainedExperts": "jaxmeta.algorithms.experts",
    "GuidedMetaPolicySearch": "jaxmeta.algorithms.gmps",
    "LinearBaseline": "jaxmeta.algorithms.linear_baseline",
    "PolicyObjective": "jaxmeta.algorithms.policy_objective",
    "MAML": "jaxmeta.algorithms.maml",
    "MetaGradient": "jaxmeta.algorithms.maml",
    "Reptile": "jaxmeta.algorithms.maml",
    "PolicyMAML": "jaxmeta.algorithms.policy_maml",
    "InnerLoop": "jaxmeta.algorithms.inner_loop",
    "SGD": "jaxmeta.algorithms.inner_loop",
    "MetaSGD": "jaxmeta.algorithms.inner_loop",
    "Adam": "jaxmeta.algorithms.inner_loop",
    "LogLikelihood": "jaxmeta.algorithms.estimators",
    "FirstOrder": "jaxmeta.algorithms.estimators",
    "EMAML": "jaxmeta.algorithms.estimators",
    "DiCE": "jaxmeta.algorithms.estimators",
    "LVC": "jaxmeta.algorithms.estimators",
    "PPO": "jaxmeta.algorithms.ppo",
    "RL2": "jaxmeta.algorithms.rl2",
    "SAC": "jaxmeta.algorithms.sac",
    "TRPO": "jaxmeta.algorithms.trpo",
    "compare": "jaxmeta.comparison",
    "Comparison": "jaxmeta.comparison_report",
    "Plan": "jaxmeta.config",
    "TrainConfig": "jaxmeta.config",
    "make_train": "jaxmeta.engine",
    "Evaluation": "jaxmeta.evaluation",
    "evaluate": "jaxmeta.evaluation",
    "evaluate_policy": "jaxmeta.evaluation",
    "load_exported": "jaxmeta.exported",
    "export": "jaxmeta.exporting",
    "GymnasiumPolicy": "jaxmeta.gymnasium_policy",
    "as_gymnasium_policy": "jaxmeta.gymnasium_policy",
    "FastWeights": "jaxmeta.networks",
    "GRU": "jaxmeta.networks",
    "LSTM": "jaxmeta.networks",
    "MLP": "jaxmeta.networks",
    "Recall": "jaxmeta.networks",
    "preset": "jaxmeta.presets",
    "register_algorithm": "jaxmeta.registry",
    "register_family": "jaxmeta.registry",
    "CVaR": "jaxmeta.risk",
    "Mean": "jaxmeta.risk",
    "robustness": "jaxmeta.robustness_map",
    "Robustness": "jaxmeta.robustness_report",
    "Schedule": "jaxmeta.schedules",
    "Pictures": "jaxmeta.showing",
    "show": "jaxmeta.showing",
    "SourcePosterior": "jaxmeta.source_adaptation",
    "adapt_source": "jaxmeta.source_adaptation",
    "SourceAdaptation": "jaxmeta.source_settings",
    "Sweep": "jaxmeta.sweep_report",
    "resume_sweep": "jaxmeta.sweeping",
    "sweep": "jaxmeta.sweeping",
    "TrainingDiverged": "jaxmeta.training",
    "TrainingInterrupted": "jaxmeta.training",
    "TrainResult": "jaxmeta.train_result",
    "load": "jaxmeta.train_result",
    "resume": "jaxmeta.training",
    "train": "jaxmeta.training",
    "Transitions": "jaxmeta.transitions",
    "CrossEntropy": "jaxmeta.worst_case",
    "AdaptivePolicy": "jaxmeta_envs",
    "ConfigError": "jaxmeta_envs",
    "GymnasiumEnv": "jaxmeta_envs.gymnasium_env",
}

__version__ = VERSION
__all__ = [
    "EMAML",
    "GRU",
    "LSTM",
    "LVC",
    "MAML",
    "MLP",
    "PPO",
    "RL2",
    "SAC",
    "SGD",
    "TRPO",
    "Adam",
    "AdaptivePolicy",
    "Algorithm",
    "CVaR",
    "Comparison",
    "ConfigError",
    "CrossEntropy",
    "DiCE",
    "EPOpt",
    "Evaluation",
    "FastWeights",
    "FirstOrder",
    "GuidedMetaPolicySearch",
    "GymnasiumEnv",
    "GymnasiumPolicy",
    "InnerLoop",
    "LinearBaseline",
    "LogLikelihood",
    "Mean",
    "MetaGradient",
    "MetaSGD",
    "OracleExpert",
    "Pictures",
    "Plan",
    "PolicyMAML",
    "PolicyObjective",
    "Recall",
    "Reptile",
    "Robustness",
    "Schedule",
    "SourceAdaptation",
    "SourcePosterior",
    "Sweep",
    "TrainConfig",
    "TrainResult",
    "TrainedExperts",
    "TrainingDiverged",
    "TrainingInterrupted",
    "Transitions",
    "__version__",
    "adapt_source",
    "as_gymnasium_policy",
    "compare",
    "evaluate",
    "evaluate_policy",
    "export",
    "load",
    "load_exported",
    "make_train",
    "preset",
    "register_algorithm",
    "register_family",
    "resume",
    "resume_sweep",
    "robustness",
    "show",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        module = f"jaxmeta.{name}"  # such as jaxmeta.risk
        if name.startswith("_") or importlib.util.find_spec(module) is None:
            raise AttributeError(f"module 'jaxmeta' has no attribute {name!r}")
        return importlib.import_module(module)
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
