"""Train from a script: a preset with changes, saved, evaluated and plotted.

python scripts/train.py
"""

import dataclasses

from rich.console import Console

import jaxmeta
from jaxmeta_envs import BernoulliBandit

if __name__ == "__main__":
    config = dataclasses.replace(
        jaxmeta.preset("rl2", "bernoulli-bandit"),
        tasks=BernoulliBandit(num_arms=10, num_pulls=10),
        num_seeds=2,
        total_env_steps=5_000_000,
        run_dir="runs/script",
    )
    result = jaxmeta.train(config)
    Console().print(jaxmeta.evaluate(result, episodes=10).table())
