"""One small run per algorithm and part, for tests of where programs run; an untrained agent.

All runs have 16 tasks in two minibatches at most, so that up to eight devices can share them.
"""

from __future__ import annotations

import jax

import jaxmeta
from jaxmeta import GRU, LSTM, MLP, PPO, RL2, TRPO, CVaR, EPOpt, FastWeights, Recall, TrainConfig
from jaxmeta.contracts import Algorithm
from jaxmeta.runs.result import TrainResult
from jaxmeta.testing import ToyFamily, ToyRegression
from tests.toy_families import Counter

TASKS = 16
LAYERS = MLP((4,), "tanh")
PARTS = PPO(epochs=2, minibatches=2)
REGION = TRPO(cg_iterations=3, line_search_steps=4, value_epochs=1, value_minibatches=2)

SMALL_SAC = jaxmeta.SAC(
    num_tasks=TASKS,
    steps=2,
    gradient_steps=2,
    batch_size=32,
    capacity=7,
    warmup_steps=32,
    network=LAYERS,
    critic_network=LAYERS,
)


def _run(algorithm: Algorithm, tasks=None) -> TrainConfig:
    tasks = Counter() if tasks is None else tasks
    return TrainConfig(algorithm=algorithm, tasks=tasks, updates_per_chunk=2, total_env_steps=1)


RUNS = {
    "rl2-gru": _run(RL2(num_tasks=TASKS, memory=GRU(4), optimizer=PARTS)),
    "rl2-lstm": _run(RL2(num_tasks=TASKS, memory=LSTM(4), optimizer=PARTS)),
    "rl2-fast-weights": _run(
        RL2(num_tasks=TASKS, memory=FastWeights(4), optimizer=PARTS, risk=CVaR(0.25))
    ),
    "rl2-recall": _run(RL2(num_tasks=TASKS, memory=Recall(4), optimizer=PARTS)),
    "rl2-trpo": _run(
        RL2(num_tasks=TASKS, memory=GRU(4), value_network="separate", optimizer=REGION)
    ),
    "epopt-trpo": _run(
        EPOpt(num_tasks=TASKS, network=LAYERS, optimizer=REGION, risk=CVaR(0.25)),
        ToyFamily(continuous=True),
    ),
    "epopt-ppo": _run(
        EPOpt(num_tasks=TASKS, network=LAYERS, baseline=LAYERS, optimizer=PARTS, risk=CVaR(0.25))
    ),
    "maml": _run(
        jaxmeta.MAML(num_tasks=TASKS, shots=3, queries=3, network=LAYERS, risk=CVaR(0.25)),
        ToyRegression(),
    ),
    "reptile": _run(
        jaxmeta.MAML(
            num_tasks=TASKS,
            shots=3,
            queries=3,
            network=LAYERS,
            outer=jaxmeta.Reptile(),
            learning_rate=0.5,  # a share of the way, not a step of Adam
        ),
        ToyRegression(),
    ),
    "policy-maml-trpo": _run(
        jaxmeta.PolicyMAML(num_tasks=TASKS, shots=2, network=LAYERS, optimizer=REGION),
        ToyFamily(continuous=True),
    ),
    "policy-maml-ppo": _run(
        jaxmeta.PolicyMAML(
            num_tasks=TASKS, shots=2, network=LAYERS, optimizer=PARTS, kl_coef=0.1, risk=CVaR(0.25)
        )
    ),
    "gmps": _run(
        jaxmeta.GuidedMetaPolicySearch(num_tasks=TASKS, shots=2, network=LAYERS, demonstrations=1),
        ToyFamily(),
    ),
    "sac": _run(SMALL_SAC, ToyFamily(continuous=True)),
}
"""A run of a few updates by name; all algorithms are there."""


def untrained(algorithm: Algorithm, family, num_seeds=2) -> TrainResult:
    """What training for no update at all would return."""
    config = TrainConfig(algorithm=algorithm, tasks=family, num_seeds=num_seeds)
    keys = jax.random.split(jax.random.key(0), num_seeds)
    state = jax.jit(jax.vmap(lambda key: algorithm.init(family, key)))(keys)
    return TrainResult(config, state, {}, {}, {}, 0, None)
