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
    from jaxmeta.algorithms.epopt import EPOpt
    from jaxmeta.algorithms.experts import TrainedExperts
    from jaxmeta.algorithms.gmps import GuidedMetaPolicySearch
    from jaxmeta.algorithms.maml import MAML, MetaGradient, Reptile
    from jaxmeta.algorithms.policy_maml import PolicyMAML
    from jaxmeta.algorithms.rl2 import RL2
    from jaxmeta.algorithms.sac import SAC
    from jaxmeta.analysis.comparison.compare import compare
    from jaxmeta.analysis.comparison.result import Comparison
    from jaxmeta.analysis.pictures.show import Pictures, show
    from jaxmeta.analysis.robustness.map import robustness
    from jaxmeta.analysis.robustness.result import Robustness
    from jaxmeta.analysis.robustness.worst_case import CrossEntropy
    from jaxmeta.catalog.presets import preset
    from jaxmeta.catalog.registry import register_algorithm, register_family
    from jaxmeta.config import Plan, TrainConfig
    from jaxmeta.contracts import Algorithm
    from jaxmeta.deploy.export import export
    from jaxmeta.deploy.gymnasium_policy import GymnasiumPolicy, as_gymnasium_policy
    from jaxmeta.deploy.load import load_exported
    from jaxmeta.engine import make_train
    from jaxmeta.evaluation.evaluate import Evaluation, evaluate, evaluate_policy
    from jaxmeta.experience.transitions import Transitions
    from jaxmeta.networks import GRU, LSTM, MLP, FastWeights, Recall
    from jaxmeta.parts.estimators import EMAML, LVC, DiCE, FirstOrder, LogLikelihood
    from jaxmeta.parts.experts import OracleExpert
    from jaxmeta.parts.inner_loop import SGD, Adam, InnerLoop, MetaSGD
    from jaxmeta.parts.linear_baseline import LinearBaseline
    from jaxmeta.parts.objective import PolicyObjective
    from jaxmeta.parts.optimizers.ppo import PPO
    from jaxmeta.parts.optimizers.trpo import TRPO
    from jaxmeta.parts.risk import CVaR, Mean, Risk
    from jaxmeta.parts.schedules import Schedule
    from jaxmeta.runs.result import TrainResult, load
    from jaxmeta.sim_to_real.adaptation import SourcePosterior, adapt_source
    from jaxmeta.sim_to_real.settings import SourceAdaptation
    from jaxmeta.sweeps.result import Sweep
    from jaxmeta.sweeps.sweep import resume_sweep, sweep
    from jaxmeta.training.train import TrainingDiverged, TrainingInterrupted, resume, train
    from jaxmeta_envs import AdaptivePolicy, ConfigError
    from jaxmeta_envs.interop.gymnasium_env import GymnasiumEnv

_HOME = {
    "Algorithm": "jaxmeta.contracts",
    "EPOpt": "jaxmeta.algorithms.epopt",
    "OracleExpert": "jaxmeta.parts.experts",
    "TrainedExperts": "jaxmeta.algorithms.experts",
    "GuidedMetaPolicySearch": "jaxmeta.algorithms.gmps",
    "LinearBaseline": "jaxmeta.parts.linear_baseline",
    "PolicyObjective": "jaxmeta.parts.objective",
    "MAML": "jaxmeta.algorithms.maml",
    "MetaGradient": "jaxmeta.algorithms.maml",
    "Reptile": "jaxmeta.algorithms.maml",
    "PolicyMAML": "jaxmeta.algorithms.policy_maml",
    "InnerLoop": "jaxmeta.parts.inner_loop",
    "SGD": "jaxmeta.parts.inner_loop",
    "MetaSGD": "jaxmeta.parts.inner_loop",
    "Adam": "jaxmeta.parts.inner_loop",
    "LogLikelihood": "jaxmeta.parts.estimators",
    "FirstOrder": "jaxmeta.parts.estimators",
    "EMAML": "jaxmeta.parts.estimators",
    "DiCE": "jaxmeta.parts.estimators",
    "LVC": "jaxmeta.parts.estimators",
    "PPO": "jaxmeta.parts.optimizers.ppo",
    "RL2": "jaxmeta.algorithms.rl2",
    "SAC": "jaxmeta.algorithms.sac",
    "TRPO": "jaxmeta.parts.optimizers.trpo",
    "compare": "jaxmeta.analysis.comparison.compare",
    "Comparison": "jaxmeta.analysis.comparison.result",
    "Plan": "jaxmeta.config",
    "TrainConfig": "jaxmeta.config",
    "make_train": "jaxmeta.engine",
    "Evaluation": "jaxmeta.evaluation.evaluate",
    "evaluate": "jaxmeta.evaluation.evaluate",
    "evaluate_policy": "jaxmeta.evaluation.evaluate",
    "load_exported": "jaxmeta.deploy.load",
    "export": "jaxmeta.deploy.export",
    "GymnasiumPolicy": "jaxmeta.deploy.gymnasium_policy",
    "as_gymnasium_policy": "jaxmeta.deploy.gymnasium_policy",
    "FastWeights": "jaxmeta.networks",
    "GRU": "jaxmeta.networks",
    "LSTM": "jaxmeta.networks",
    "MLP": "jaxmeta.networks",
    "Recall": "jaxmeta.networks",
    "preset": "jaxmeta.catalog.presets",
    "register_algorithm": "jaxmeta.catalog.registry",
    "register_family": "jaxmeta.catalog.registry",
    "CVaR": "jaxmeta.parts.risk",
    "Mean": "jaxmeta.parts.risk",
    "Risk": "jaxmeta.parts.risk",
    "robustness": "jaxmeta.analysis.robustness.map",
    "Robustness": "jaxmeta.analysis.robustness.result",
    "Schedule": "jaxmeta.parts.schedules",
    "Pictures": "jaxmeta.analysis.pictures.show",
    "show": "jaxmeta.analysis.pictures.show",
    "SourcePosterior": "jaxmeta.sim_to_real.adaptation",
    "adapt_source": "jaxmeta.sim_to_real.adaptation",
    "SourceAdaptation": "jaxmeta.sim_to_real.settings",
    "Sweep": "jaxmeta.sweeps.result",
    "resume_sweep": "jaxmeta.sweeps.sweep",
    "sweep": "jaxmeta.sweeps.sweep",
    "TrainingDiverged": "jaxmeta.training.train",
    "TrainingInterrupted": "jaxmeta.training.train",
    "TrainResult": "jaxmeta.runs.result",
    "load": "jaxmeta.runs.result",
    "resume": "jaxmeta.training.train",
    "train": "jaxmeta.training.train",
    "Transitions": "jaxmeta.experience.transitions",
    "CrossEntropy": "jaxmeta.analysis.robustness.worst_case",
    "AdaptivePolicy": "jaxmeta_envs",
    "ConfigError": "jaxmeta_envs",
    "GymnasiumEnv": "jaxmeta_envs.interop.gymnasium_env",
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
    "Risk",
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
        module = f"jaxmeta.{name}"  # such as jaxmeta.networks
        if name.startswith("_") or importlib.util.find_spec(module) is None:
            raise AttributeError(f"module 'jaxmeta' has no attribute {name!r}")
        return importlib.import_module(module)
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
