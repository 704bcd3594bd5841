# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 Comparing methods honestly
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
# (File, Upload notebook; then upload or clone the project into the folder `jaxmeta` beside it)
#
# Meta-RL is noisy twice over: another training seed makes another agent, and another task another
# return. Whoever trains each method once and compares two numbers measures luck. Here RL² and MAML
# meet the same bandits, with several seeds of each, and intervals that count both kinds of noise.
#
# The first cell installs jaxmeta, if it is not there yet. A JAX from 0.10 to 0.12 that is already
# there stays as it is, with its accelerator. The second shows what JAX runs on; on a CPU it first
# asks for a device per core.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("jaxmeta_envs") is None:  # "jaxmeta" may be the clone's folder
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "./jaxmeta"])

# %%
import os

os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(os.cpu_count() or 1))

import jax

kinds = {f"{device.platform}: {device.device_kind}" for device in jax.devices()}
print(f"JAX {jax.__version__} on {jax.device_count()} device(s),", *kinds)

# %%
import dataclasses
import itertools
import tempfile
from pathlib import Path

import numpy as np
import rich
from IPython.display import Image
from matplotlib import pyplot as plt

import jaxmeta
from jaxmeta_envs import BernoulliBandit

plt.rcParams["figure.dpi"] = 90
folder = Path(tempfile.mkdtemp())  # for what jaxmeta writes
budget = int(os.environ.get("JAXMETA_NOTEBOOK_STEPS", "1_000_000"))  # to shorten it for testing

# %% [markdown]
# ## Why one seed misleads
#
# An RL² agent trained in haste: small batches, a few hundred updates, eight seeds side by side by
# one program. All eight are one method with one setting. They meet the same 5000 held-out bandits
# of five arms and ten pulls. The bars are what people usually report of one seed: a 95 % interval
# over tasks.

# %%
hasty = jaxmeta.TrainConfig(
    algorithm=jaxmeta.RL2(num_tasks=64, memory=jaxmeta.GRU(32), learning_rate=3e-3),
    tasks=BernoulliBandit(num_arms=5, num_pulls=10),
    seed=1000,
    num_seeds=8,
    total_env_steps=200_000,
)
evaluation = jaxmeta.evaluate(
    jaxmeta.train(hasty, progress=False), num_tasks=5000, references=False
)
totals = evaluation.returns.sum(axis=2)  # reward of all ten pulls, [seed, task]
seeds, tasks = totals.shape
error = 1.96 * totals.std(axis=1, ddof=1) / np.sqrt(tasks)

plt.figure(figsize=(6, 3), layout="constrained")
plt.errorbar(range(seeds), totals.mean(axis=1), error, fmt="o", capsize=3)
plt.xticks(range(seeds), [f"seed\n{hasty.seed + seed}" for seed in range(seeds)], fontsize=8)
plt.ylabel("total reward of ten pulls")
plt.show()

# %% [markdown]
# These intervals are wide, because bandits differ. Compared *task by task* two seeds are told apart
# more sharply: what the tasks have in common cancels. How many pairs of seeds of this one method
# "differ significantly"?

# %%
gaps = [totals[i] - totals[j] for i, j in itertools.combinations(range(seeds), 2)]
differ = sum(abs(gap.mean()) > 1.96 * gap.std(ddof=1) / np.sqrt(tasks) for gap in gaps)
paired = 1.96 * gaps[0].std(ddof=1) / np.sqrt(tasks)
unpaired = np.hypot(error[0], error[1])
print(f"difference of two seeds, if they had met different tasks: ± {unpaired:.3f}")
print(f"paired, task by task:                                    ± {paired:.3f}")
print(f"pairs of seeds whose paired interval excludes 0: {differ} of {len(gaps)}")

# %% [markdown]
# With one seed each, such a pair would have been published as a better and a worse method. An
# interval over tasks answers whether two *agents* differ. Whether two *methods* differ is another
# question, and needs seeds: intervals of jaxmeta are over both seeds and tasks. With one seed they
# are over tasks only, and say so.
#
# ## Two learners, five seeds of each
#
# The presets for these bandits, with less training than they are meant for. RL² learns in its
# memory; MAML takes a gradient step after every pull. The seeds, 1000 to 1004, were used for no
# choice of settings: a setting that was chosen on a seed flatters that seed.

# %%
learners = {"RL²": "rl2", "MAML": "maml"}
results = {}
for label, name in learners.items():
    config = dataclasses.replace(
        jaxmeta.preset(name, "bernoulli-bandit"),
        tasks=hasty.tasks,
        seed=1000,
        num_seeds=5,
        total_env_steps=budget,
        updates_per_chunk=10,
    )
    results[label] = jaxmeta.train(config, progress=False)
    print(f"{label:5} {results[label].env_steps:,} env steps per seed")

# %% [markdown]
# `compare` lets both learners and the references meet the same held-out bandits with the same luck.
# Curves are over episodes of experience, here pulls, so that a learner with a memory can be laid
# beside one with gradient steps.

# %%
found = jaxmeta.compare(
    list(results.values()), labels=list(results), num_tasks=2000, out=folder / "compare.png"
)
said = "Return of each pull of RL² and MAML, beside bandit algorithms"
Image(str(folder / "compare.png"), width=760, alt=said)

# %%
rich.print(found.table())

# %% [markdown]
# The second table is of the return after the most experience that both have, here the last of the
# ten pulls. **Probability of improvement**: how likely a random seed of one beats a random seed of
# the other on a random task, ties counted half. It is near one half on bandits whatever the
# difference of means, because a single pull pays 0 or 1: luck decides it most of the time. Look at
# both.
#
# ## The whole trial, and how many seeds it takes
#
# The return of the last pull leaves out what was lost on the way. Here every curve is summed to a
# row of its own and compared again, first with one seed of each method, then with more.


# %%
def compare_totals(seeds):
    """Compares the totals of trials, of the first so many seeds of each method."""
    runs = {
        label: dataclasses.replace(
            run, returns=run.returns[:seeds].sum(axis=2, keepdims=True), optimal=None
        )
        for label, run in found.runs.items()
    }
    return jaxmeta.Comparison(runs).summary()["pairs"]["RL²"]["MAML"]


rl2, maml = (run.returns.sum(axis=(1, 2)) / run.returns.shape[1] for run in found.runs.values())
plt.figure(figsize=(6, 3), layout="constrained")
most = len(rl2)
for used in range(1, most + 1):
    pair = compare_totals(used)
    middle = pair["difference"]
    ends = [[middle - pair["difference_low"]], [pair["difference_high"] - middle]]
    plt.errorbar(used, middle, ends, fmt="o", color="tab:blue", capsize=3)
gaps = (rl2[:, None] - maml[None]).ravel()  # each seed of one, each of the other
plt.plot([most + 1] * len(gaps), gaps, "_", color="0.4", markersize=10)
plt.axhline(0.0, color="black", linewidth=0.8)
plt.xticks(range(1, most + 2), [*map(str, range(1, most + 1)), "single\npairs"])
plt.xlabel("seeds used of each method, with the 95 % interval")
plt.ylabel("RL² minus MAML, ten pulls")
plt.show()
print(f"all seeds: {pair['difference']:+.3f}", end=" ")
print(f"[{pair['difference_low']:+.3f}, {pair['difference_high']:+.3f}],", end=" ")
print(f"probability of improvement {pair['probability']:.2f}", end=" ")
print(f"[{pair['probability_low']:.2f}, {pair['probability_high']:.2f}]")
print(f"single pairs of seeds: from {gaps.min():+.3f} to {gaps.max():+.3f}")

# %% [markdown]
# RL² is ahead over the whole trial; of the last pull alone it cannot be said, as its interval,
# printed below, encloses 0. Over the trial the difference is larger than what seeds do: every
# single pair has the same sign, if not the same size. That is something one knows only after
# training several; of the eight seeds at the top it would not have been true. And it is said of
# this budget, a million steps for each, and no other.
#
# ## Shifted tasks
#
# Training and "test" draw from the same distribution, with other keys. Named splits are shifts: in
# "close" the arms pay almost the same. A ranking need not carry over, and where all arms are alike
# there is less to be ahead by.

# %%
shifted = jaxmeta.compare(
    list(results.values()), labels=list(results), split="close", num_tasks=2000, references=False
)
for split, comparison in (("test", found), ("close", shifted)):
    pair = comparison.summary()["pairs"]["RL²"]["MAML"]
    print(
        f"{split:6} last pull, RL² minus MAML {pair['difference']:+.3f} "
        f"[{pair['difference_low']:+.3f}, {pair['difference_high']:+.3f}], "
        f"probability of improvement {pair['probability']:.2f}"
    )

# %% [markdown]
# ## A checklist
#
# - Several seeds, none of them used for tuning; all of them reported, also the bad ones.
# - Held-out tasks, the same for all, compared task by task.
# - Intervals over seeds *and* tasks, of three seeds at least; of one seed they are over tasks only.
# - The same experience on the horizontal axis, and the training budget told beside it.
# - References that need no learning, and the optimum where it can be computed.
# - Not the mean alone: `summary()` has the interquartile mean and the worst tenth as well.
#
# With run directories: `jaxmeta compare runs/first runs/second`. **On a TPU or a GPU** take more
# seeds: `num_seeds=32` fills what one seed leaves idle.
