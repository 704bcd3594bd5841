"""Configurations that are known to work, one per algorithm and family.

``jaxmeta train ALGORITHM FAMILY`` starts from them, and `preset` gives them to Python.
What each was measured to reach is written in ``RESULTS.md``.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, fields, replace
from typing import Any, TypeVar

from jaxmeta.algorithms.epopt import EPOpt
from jaxmeta.algorithms.gmps import GuidedMetaPolicySearch
from jaxmeta.algorithms.rl2 import RL2
from jaxmeta.algorithms.sac import SAC
from jaxmeta.catalog.methods import METHODS
from jaxmeta.catalog.registry import builtin_name, find_algorithm, find_family
from jaxmeta.config import TrainConfig
from jaxmeta.contracts import Algorithm
from jaxmeta.networks import GRU, MLP, FastWeights
from jaxmeta.parts.estimators import EMAML
from jaxmeta.parts.inner_loop import SGD, InnerLoop, MetaSGD
from jaxmeta.parts.objective import PolicyObjective
from jaxmeta.parts.optimizers.ppo import PPO
from jaxmeta.parts.optimizers.trpo import TRPO
from jaxmeta.parts.risk import CVaR
from jaxmeta.parts.schedules import Schedule
from jaxmeta.sim_to_real.settings import SourceAdaptation
from jaxmeta_envs.bandits.independent import BernoulliBandit, GaussianBandit
from jaxmeta_envs.bandits.informative import InformativeBandit
from jaxmeta_envs.classic.cartpole import CartPole
from jaxmeta_envs.classic.mountain_car import MountainCar
from jaxmeta_envs.classic.pendulum import Pendulum
from jaxmeta_envs.core.contracts import TaskFamily
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.supervised import SupervisedFamily
from jaxmeta_envs.grids.gridworld import GridNavigation
from jaxmeta_envs.points.navigation import PointNavigation, PointNavigationCorners
from jaxmeta_envs.regression.control import RegressionControl
from jaxmeta_envs.regression.functions import Sinusoid
from jaxmeta_envs.tabular.mdp import TabularMDP
from jaxmeta_envs.tabular.two_step import TwoStep

Made = TypeVar("Made")

# Learning rate and entropy bonus fall to nothing over the run: its beginning explores among
# policies, its end settles on one. Tuned on seeds 0 and 100; results are of other seeds.
_AGENT = RL2(
    num_tasks=256,
    memory=GRU(64),
    optimizer=PPO(),
    learning_rate=Schedule(2e-3, 0.0),
    entropy_coef=Schedule(0.1, 0.0),
    gae_lambda=0.7,
    # Their inputs are one-hot, or of the order of 1, and so are their rewards.
    normalize_observations=False,
    normalize_rewards=False,
)
_ALL = (
    # What is lost to the optimum is lost by chance: by mode the agent is near it long before. So
    # the entropy bonus is gone by half of the way, and large batches make the rest certain.
    TrainConfig(
        replace(
            _AGENT,
            num_tasks=512,
            entropy_coef=Schedule(0.05, 0.0, num_updates=1200),
            discount=1.0,
        ),
        BernoulliBandit(),
        total_env_steps=12_000_000,
        updates_per_chunk=50,
    ),
    TrainConfig(_AGENT, GaussianBandit(), total_env_steps=6_000_000, updates_per_chunk=50),
    TrainConfig(
        replace(
            _AGENT,
            num_tasks=128,
            learning_rate=Schedule(1e-3, 0.0),
            discount=0.95,
            gae_lambda=0.9,
        ),
        # As published, and with an exact optimum: test draws the goals of training again.
        GridNavigation(holdout=0),
        total_env_steps=16_000_000,
        updates_per_chunk=50,
    ),
    # What pays at once is learned in a few million steps, and the rest of the way from there.
    TrainConfig(
        replace(
            _AGENT,
            num_tasks=128,
            memory=FastWeights(64, num_heads=2),
            learning_rate=Schedule(1e-3, 0.0),
            entropy_coef=Schedule(0.02, 0.0),
            discount=Schedule(0.0, 0.99),
            gae_lambda=0.3,
        ),
        TabularMDP(),
        total_env_steps=20_000_000,
        updates_per_chunk=50,
    ),
    TrainConfig(
        replace(
            _AGENT,
            num_tasks=128,
            learning_rate=Schedule(1e-3, 0.0),
            entropy_coef=Schedule(0.05, 0.0),
            discount=0.9,
            gae_lambda=0.9,
        ),
        TwoStep(),
        total_env_steps=8_000_000,
        updates_per_chunk=50,
    ),
    TrainConfig(
        replace(
            _AGENT,
            num_tasks=64,
            learning_rate=Schedule(1e-3, 0.0),
            entropy_coef=Schedule(0.02, 0.0),
            gae_lambda=0.95,
        ),
        CartPole(),
        total_env_steps=4_000_000,
    ),
)
_ALL += (
    # The pull that tells where to look pays least: without much entropy for long it is given up.
    TrainConfig(
        replace(
            _AGENT,
            num_tasks=512,
            entropy_coef=Schedule(0.5, 0.0),
            discount=1.0,
            gae_lambda=1.0,
        ),
        InformativeBandit(),
        total_env_steps=5_000_000,
        updates_per_chunk=50,
    ),
    # A reward tells the label but for a sign, by its root, which is hard to see without layers in
    # front of the memory: -298 at 5 million steps is -142 with them and γ = 0. What is done changes
    # nothing that comes, so that the rewards of later steps are noise.
    TrainConfig(
        RL2(
            memory=GRU(128),
            encoder=MLP((64, 64), "relu"),
            learning_rate=Schedule(2e-3, 0.0),
            entropy_coef=0.0,
            discount=0.0,
        ),
        RegressionControl(),
        total_env_steps=10_000_000,
    ),
)
# Short episodes and a value network: minutes on two cores, where the paper's settings (the
# defaults of `EPOpt`) take an hour.
_ROBUST = EPOpt(
    num_tasks=120,
    risk=CVaR(Schedule(1.0, 0.1, 40, "step")),
    baseline=MLP((64, 64), "tanh"),
    optimizer=PPO(max_kl=0.02),
    learning_rate=Schedule(2e-3, 0.0),
    discount=0.99,
    gae_lambda=0.95,
    round_updates=30,
)
_ALL += (
    # Only what shows in what moves is inferred: masses and force have a common factor, and so
    # have a pendulum's mass and torque, gravity and length.
    TrainConfig(
        replace(
            _ROBUST,
            adaptation=SourceAdaptation(
                process_std=1e-3, free=("gravity", "pole_mass", "half_length", "force")
            ),
        ),
        CartPole(episode_length=200),
        total_env_steps=4_000_000,
    ),
    TrainConfig(
        replace(
            _ROBUST,
            discount=0.98,
            adaptation=SourceAdaptation(process_std=1e-3, free=("mass", "length")),
        ),
        Pendulum(),
        total_env_steps=4_000_000,
    ),
)

# Small layers: a core takes hundreds of gradient steps a second with them.
_OFF_POLICY = SAC(
    source="nominal",
    network=MLP((64, 64), "relu"),
    critic_network=MLP((64, 64), "relu"),
    learning_rate=Schedule(1e-3, 0.0),
    critic_learning_rate=Schedule(1e-3, 0.0),
    temperature_learning_rate=1e-3,
)
_ALL += (
    TrainConfig(_OFF_POLICY, Pendulum(), total_env_steps=20_000, updates_per_chunk=25),
    # Noise that pushes for some twenty steps rocks the car up to the flag, white noise never does.
    TrainConfig(
        replace(
            _OFF_POLICY,
            num_tasks=4,
            warmup_steps=8000,
            tau=0.01,
            reward_scale=0.1,
            noise_correlation=0.95,
        ),
        MountainCar(),
        total_env_steps=50_000,
        updates_per_chunk=25,
    ),
)


def _supervised(method: str, tasks: SupervisedFamily, updates: int) -> TrainConfig:
    algorithm = METHODS[method].algorithm(method, type(tasks))
    examples = updates * algorithm.env_steps_per_update(tasks)
    # An update takes less than a millisecond, a dispatch several.
    return TrainConfig(algorithm, tasks, total_env_steps=examples, updates_per_chunk=1000)


_SINE_METHODS = ("maml", "fomaml", "anil", "meta-sgd", "pretraining")
_OF_METHODS = {(name, "sinusoid"): _supervised(name, Sinusoid(), 70_000) for name in _SINE_METHODS}
_OF_METHODS["reptile", "sinusoid"] = _supervised(
    "reptile", Sinusoid(phase=(0.0, 2 * math.pi), points=50), 30_000
)


# Layers as in MAML's paper; 64 units take half the time and stay at -12.4 after one update
# and -6.0 after two (two seeds).
_POINT: dict[str, Any] = {
    "network": MLP((100, 100), "relu"),
    "initial_std": 0.7,
    "actions": "clipped",
    "inner": InnerLoop(optimizer=SGD(0.2), extra_step_factor=0.5),
}


def _tuned(algorithm: Algorithm, tasks: TaskFamily, updates: int) -> TrainConfig:
    steps = updates * algorithm.env_steps_per_update(tasks)
    return TrainConfig(algorithm, tasks, total_env_steps=steps)


def _acting(method: str, tasks: TaskFamily, updates: int, **settings: Any) -> TrainConfig:
    algorithm: Any = METHODS[method].algorithm(method, type(tasks))
    # Their observations are of the order of 1, and were not normalised when they were measured.
    settings = {"normalize_observations": False} | settings
    config = _tuned(replace(algorithm, **settings), tasks, updates)
    # Updates of a few thousand steps are faster than a dispatch is; ten large ones take a minute,
    # which is long enough to be kept.
    if config.plan().env_steps_per_update > 1e4:
        return replace(config, updates_per_chunk=10, checkpoint_every=1)
    return replace(config, updates_per_chunk=50)


_OF_METHODS |= {
    ("maml", "point-navigation"): _acting(
        "maml",
        PointNavigation(),
        80,
        **_POINT,
        optimizer=TRPO(max_kl=0.02, backtrack=0.8, task_by_task=True),
    ),
    # One pull a step, and the reward of all pulls counts: 6.36 of 10 pulls on the tuning seed. What
    # adapts is the policy alone; a value network takes fright at steps of this size.
    ("maml", "bernoulli-bandit"): _acting(
        "maml",
        BernoulliBandit(),
        2000,
        num_tasks=512,
        shots=1,
        network=MLP((8,), "tanh"),
        inner=InnerLoop(steps=9, optimizer=MetaSGD(0.3, 1.0), adapts="^policy"),
        estimator=EMAML(),
        baseline=MLP((1,), "tanh"),
        optimizer=PPO(epochs=1, minibatches=1, max_grad_norm=10.0),
        objective=PolicyObjective(episodes="all", standardize=False),
        learning_rate=Schedule(3e-3, 0.0),
        discount=1.0,
    ),
    ("promp", "point-navigation"): _acting(
        "promp",
        PointNavigation(),
        80,
        **_POINT | {"network": MLP((64, 64), "relu")},
        num_tasks=20,
        learning_rate=Schedule(3e-3, 0.0),
    ),
    # With a standard deviation of 1 chance leads into every quarter, and much is to be learned.
    ("promp", "point-navigation-corners"): _acting(
        "promp",
        PointNavigationCorners(),
        60,
        actions="clipped",
        num_tasks=20,
        learning_rate=Schedule(3e-3, 0.0),
    ),
    ("e-maml", "point-navigation-corners"): _acting(
        "e-maml",
        PointNavigationCorners(),
        60,
        actions="clipped",
        inner=InnerLoop(optimizer=SGD(0.1), extra_step_factor=0.5),
    ),
}
# Learned step sizes: after 100 updates -12.1 after two steps of regression, with fixed ones -15.1.
_ALL += (
    _tuned(
        GuidedMetaPolicySearch(
            inner=InnerLoop(steps=2, optimizer=MetaSGD(0.1, 0.5), extra_step_factor=0.5),
            learning_rate=Schedule(3e-3, 0.0),
            discount=0.0,
            expert_std=0.3,
            demonstrations=20,
            normalize_observations=False,
        ),
        RegressionControl(),
        250,
    ),
    # The expert arrives at once and its episodes do not show the way back: it must be asked.
    _tuned(
        GuidedMetaPolicySearch(
            num_tasks=12,
            inner=InnerLoop(steps=2, optimizer=MetaSGD(0.05, 0.2), extra_step_factor=0.5),
            learning_rate=Schedule(3e-3, 0.0),
            dagger=True,
            demonstrations=2,
            normalize_observations=False,
        ),
        PointNavigation(),
        100,
    ),
)
PRESETS: dict[tuple[str, str], TrainConfig] = {
    (builtin_name(type(c.algorithm)) or "", builtin_name(type(c.tasks)) or ""): c for c in _ALL
} | _OF_METHODS
"""Configuration by the names of algorithm or method, and family."""


def preset(algorithm: str, family: str) -> TrainConfig:
    """Returns the configuration to start from; where none was tuned, the defaults.

    Args:
        algorithm: Name of an algorithm, such as ``"rl2"`` or ``"module:Class"``, see
            `jaxmeta.catalog.registry.find_algorithm`; or that of a method that is an algorithm with
            certain parts, such as ``"promp"``; see `METHODS`.
        family: Name of a task family, such as ``"bernoulli-bandit"`` or ``"module:Class"``.

    Raises:
        ConfigError: If a name is unknown, if the method is not for such families, or if a field
            of the class has no default.
    """
    for name, value in (("algorithm", algorithm), ("family", family)):
        require(isinstance(value, str), name, value, "a name")
    tuned = PRESETS.get((algorithm, family))
    if tuned is not None:
        return tuned
    method, cls = METHODS.get(algorithm), find_family(family)
    # A name that both have is the method's, which knows which algorithm suits the family.
    made = None if method is None else method.algorithm(algorithm, cls)
    if made is None:
        made = of_defaults("algorithm", algorithm, find_algorithm(algorithm, METHODS))
    return TrainConfig(algorithm=made, tasks=of_defaults("family", family, cls))


def of_defaults(field: str, name: str, cls: type[Made]) -> Made:
    """Returns an instance; `ConfigError` if a field of the class has no default.

    Args:
        field: ``"algorithm"`` or ``"family"``, for the message.
        name: The name by which the class was found.
        cls: A dataclass.
    """
    given: Any = cls
    lacking = [
        f.name
        for f in fields(given)
        if f.init and f.default is MISSING and f.default_factory is MISSING
    ]
    text = (
        f"a class whose fields all have defaults; {', '.join(lacking)} of {cls.__name__} has none"
    )
    require(not lacking, field, name, text)
    return cls()
