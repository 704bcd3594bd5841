"""MAML on the half-cheetah's directions and speeds, simulated by MuJoCo MJX.

    python scripts/reproduce/locomotion.py                    # reduced, for one CPU core
    python scripts/reproduce/locomotion.py --size published   # for a GPU: half a day of a CPU core

Meta-trains policies, lets each take up to three gradient steps on held-out tasks, and writes
``results/locomotion/CELL.json``: the return after 0, 1, 2 and 3 steps, with 95 % intervals over
seeds and tasks, beside the references of the family. Needs the extra ``mjx``.

The reduced size has episodes of 40 steps, which last the 2 s that the 200 steps of the paper's
body last, and an eighth of the paper's episodes; it is ProMP, with a larger step. The published
size is MAML with the paper's numbers on Gymnasium's body: 40 tasks, 20 episodes before and after a
step, 200 steps of an episode. It has not been run.

Reference: Finn et al. 2017, arXiv 1703.03400, figure 5 and appendix.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Literal

import tyro

import jaxmeta
from jaxmeta import MLP, PPO, TRPO
from jaxmeta.algorithms.policy_maml import PolicyMAML
from jaxmeta.catalog import serialization
from jaxmeta.parts.estimators import LVC, LogLikelihood
from jaxmeta.parts.inner_loop import SGD, InnerLoop
from jaxmeta.training import recording
from jaxmeta_envs.mujoco.goals import (
    AntDirection,
    AntGoal,
    AntVelocity,
    HalfCheetahDirection,
    HalfCheetahVelocity,
    LocomotionGoal,
)

ROOT = Path(__file__).parents[2]
OUT = ROOT / "results" / "locomotion"
FIRST_SEED = 1000  # settings were tried on seed 0
STEPS = 3  # of adaptation, at most
FAMILIES: dict[str, type[LocomotionGoal]] = {
    "half-cheetah-direction": HalfCheetahDirection,
    "half-cheetah-velocity": HalfCheetahVelocity,
    "ant-direction": AntDirection,
    "ant-velocity": AntVelocity,
    "ant-goal": AntGoal,
}
AS_PUBLISHED = PolicyMAML(
    actions="clipped",
    normalize_observations=False,
    num_tasks=40,
    shots=20,
    network=MLP((100, 100), "relu"),
    inner=InnerLoop(optimizer=SGD(0.1)),
    estimator=LogLikelihood(),
    optimizer=TRPO(max_kl=0.01),
)
# ProMP's parts. On seed 0 TRPO with the published step of 0.1 and LVC had not moved after 20
# updates of this size, and these had after 5; nothing else was tried.
REDUCED = PolicyMAML(
    actions="clipped",
    normalize_observations=False,
    num_tasks=10,
    shots=10,
    initial_std=0.6,
    inner=InnerLoop(optimizer=SGD(0.5)),
    estimator=LVC(),
    optimizer=PPO(clip=0.3, epochs=5, minibatches=1),
    learning_rate=3e-3,
    kl_coef=5e-4,
    discount=0.97,
    gae_lambda=0.95,
)
DEFAULT = ("half-cheetah-direction", "half-cheetah-velocity")
Size = Literal["reduced", "published"]


def configure(
    family: str, size: Size, updates: int, seeds: int, run_dir: Path
) -> jaxmeta.TrainConfig:
    """Returns what is trained."""
    tasks = FAMILIES[family](episode_length=200 if size == "published" else 40)
    algorithm = AS_PUBLISHED if size == "published" else REDUCED
    return jaxmeta.TrainConfig(
        algorithm=algorithm,
        tasks=tasks,
        seed=FIRST_SEED,
        num_seeds=seeds,
        total_env_steps=updates * algorithm.env_steps_per_update(tasks),
        updates_per_chunk=10,
        checkpoint_every=2,
        run_dir=str(run_dir),
    )


def describe(
    config: jaxmeta.TrainConfig, run_dir: Path, minutes: float | None, evaluation: dict | None
) -> dict:
    """Returns what is written down of a run, from the lines that it logged."""
    lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    updates = [line for line in lines if "metrics" in line]
    names = ("return_before", "return")
    return {
        "cell": run_dir.name,
        "config": serialization.to_dict(dataclasses.replace(config, run_dir=None)),
        "seeds": config.num_seeds,
        **recording.provenance(),
        "minutes_of_all_seeds": minutes,
        "env_steps_per_seed": updates[-1]["env_steps"],
        "training": {name: [line["metrics"][name] for line in updates] for name in names},
        "evaluation": evaluation,
    }


def measure(config: jaxmeta.TrainConfig, run_dir: Path, num_tasks: int, path: Path) -> dict:
    """Trains and evaluates, and writes down what there is after each of both."""
    result, minutes = recording.finish(config)
    found = describe(config, run_dir, minutes, None)
    path.write_text(json.dumps(found, indent=1) + "\n")
    evaluation = jaxmeta.evaluate(result, episodes=STEPS + 1, num_tasks=num_tasks)
    found["evaluation"] = evaluation.summary()
    path.write_text(json.dumps(found, indent=1) + "\n")
    return found


def main(
    families: tuple[str, ...] = DEFAULT,
    size: Size = "reduced",
    updates: int | None = None,
    seeds: int = 2,
    num_tasks: int = 40,
    runs: Path = ROOT / "runs" / "locomotion",
    out: Path = OUT,
    again: bool = False,
) -> None:
    """Runs families and writes their results.

    Args:
        families: Which ones.
        size: The paper's, or what one CPU core plays in a quarter of an hour.
        updates: Meta-iterations; None: 100 reduced, 500 published.
        seeds: Training seeds, trained together.
        num_tasks: Held-out tasks that each seed meets.
        runs: Where the runs are kept.
        out: Where the results are written.
        again: Also families whose results are there, with an evaluation.
    """
    for family in families:
        if family not in FAMILIES:
            raise SystemExit(f"families has {family!r}; it must be of {', '.join(FAMILIES)}")
    updates = updates or (500 if size == "published" else 100)
    out.mkdir(parents=True, exist_ok=True)
    for family in families:
        run_dir = runs / f"{family}-{size}"
        path = out / f"{run_dir.name}.json"
        found: dict = json.loads(path.read_text()) if path.exists() else {"evaluation": None}
        if again or found["evaluation"] is None:
            config = configure(family, size, updates, seeds, run_dir)
            found = measure(config, run_dir, num_tasks, path)
        for number, curve in enumerate(found["evaluation"]["curve_of_each_seed"]):
            print(f"{run_dir.name}, seed {FIRST_SEED + number}: {[round(x, 1) for x in curve]}")


if __name__ == "__main__":
    tyro.cli(main)
