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
# # 01 Quick start: RL² on bandits, against the Bayes optimum
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
# (File, Upload notebook; then upload or clone the project into the folder `jaxmeta` beside it)
#
# An agent that has learned to learn: meta-trained over thousands of five-armed bandits, it meets a
# bandit it has never seen, tries its arms, and settles on a good one within ten pulls. Training is
# one compiled program, on CPU, GPU or TPU.
#
# The first cell installs jaxmeta, if it is not there yet. A JAX from 0.10 to 0.12 that is already
# there stays as it is, with its accelerator.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("jaxmeta_envs") is None:  # "jaxmeta" may be the clone's folder
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "./jaxmeta"])

# %% [markdown]
# The second shows what JAX runs on. On a CPU it first asks for a device per core, which has to be
# said before JAX starts; jaxmeta then shares the tasks among them.

# %%
import os

os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(os.cpu_count() or 1))

import jax

kinds = {f"{device.platform}: {device.device_kind}" for device in jax.devices()}
print(f"JAX {jax.__version__} on {jax.device_count()} device(s),", *kinds)

# %%
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from IPython.display import Image
from matplotlib import pyplot as plt

import jaxmeta
from jaxmeta_envs import BernoulliBandit

plt.rcParams["figure.dpi"] = 90
folder = Path(tempfile.mkdtemp())  # for what jaxmeta writes

# %% [markdown]
# ## A family of tasks
#
# A task is an argument, not something hidden in an environment: here the arms' probabilities. One
# pull is one episode of one step, so "the return after k episodes" is the reward of pull k + 1.

# %%
family = BernoulliBandit(num_arms=5, num_pulls=10)
tasks = jax.vmap(family.sample_task)(jax.random.split(jax.random.key(0), 3))
for probs in tasks.probs:
    print(*(f"{p:.2f}" for p in probs))

# %% [markdown]
# ## Meta-training
#
# The preset holds what was tuned, on seeds 0 and 100. What follows is of three others, trained side
# by side by one program. `JAXMETA_NOTEBOOK_STEPS` shortens the run for testing; with the full
# budget it takes about five minutes on two CPU cores.

# %%
steps = int(os.environ.get("JAXMETA_NOTEBOOK_STEPS", "12_000_000"))
config = dataclasses.replace(
    jaxmeta.preset("rl2", "bernoulli-bandit"),
    tasks=family,
    seed=1000,
    num_seeds=3,
    total_env_steps=steps,
)
result = jaxmeta.train(config)

# %%
optimum = family.optimal_returns(10).sum()
plt.figure(figsize=(6, 3), layout="constrained")
for seed in range(config.num_seeds):
    smooth = np.convolve(result.metrics["return"][:, seed], np.ones(25) / 25, mode="valid")
    plt.plot(np.arange(len(smooth)) + 25, smooth, label=f"seed {config.seed + seed}")
plt.axhline(optimum, color="black", linestyle="--", label="Bayes-optimal")
plt.xlabel("update (mean of 25)")
plt.ylabel("total reward of ten pulls")
plt.legend()
plt.show()

# %% [markdown]
# ## Adaptation to held-out tasks
#
# `evaluate` meets tasks that training never saw, and runs classical algorithms on the same ones.
# The Bayes-optimal policy plays them too; "optimum (exact)" is what it earns in expectation, so
# that the difference of those two rows is luck.

# %%
evaluation = jaxmeta.evaluate(result, num_tasks=2000)
evaluation.table()

# %% [markdown]
# The same as a figure. The band is a 95 % interval over seeds and tasks.

# %%
evaluation.save(folder)
said = "Return of each pull: the agent close to the Bayes-optimal policy, above the others"
Image(str(folder / f"adaptation{evaluation.suffix}.png"), width=720, alt=said)

# %% [markdown]
# The numbers behind it are plain arrays: `evaluation.returns` is `[seed, task, k]`, and `summary()`
# has means with intervals. Two thousand tasks leave an error of several percent of the share below;
# measured exactly, the seeds of `results/bandit_gap.json` reach more than 99 %.

# %%
total = evaluation.summary()["policies"]["RL2"]["total"]
print(f"RL²           {total['mean']:.3f}  [{total['low']:.3f}, {total['high']:.3f}]")
print(f"Bayes optimum {optimum:.3f}")
print(f"share of what there is to gain over chance: {(total['mean'] - 5) / (optimum - 5):.1%}")

# %% [markdown]
# ## Beyond the trial
#
# Training never went further than ten pulls. A recurrent agent can be played for longer, and
# nothing says that it goes on as it should. The exact optimum of 30 pulls is too much to compute;
# the Gittins index, close to the optimum above, takes its place.

# %%
longer = jaxmeta.evaluate(result, episodes=30, num_tasks=1000)
longer.save(folder)
said = "Return of each pull, beyond the ten of training"
Image(str(folder / f"adaptation{longer.suffix}.png"), width=720, alt=said)

# %% [markdown]
# Mean reward of pulls 21 to 30. RL² has improved beyond its tenth pull, the last it was trained for
# (0.73), but is a little behind the Gittins index by now.

# %%
print(f"RL²      {longer.returns[:, :, 20:].mean():.3f}")
for name in ("gittins", "ucb1", "greedy", "thompson", "random"):
    print(f"{name:8} {longer.references[name][:, 20:].mean():.3f}")

# %% [markdown]
# ## One agent at work
#
# `show` draws trials of one seed: arms pulled, over the mean of the exact posterior of each arm
# before the pull. (`jaxmeta show RUN_DIR` does so on the command line, and both write an animation
# as well.)

# %%
pictures = jaxmeta.show(result, num_tasks=3, out=folder)
said = "Arms pulled on three bandits, over what could be believed of each arm"
Image(str(pictures.still), width=560, alt=said)

# %% [markdown]
# A policy is three pure functions: `begin` for a new task, `act`, and `adapt` between episodes
# (which does nothing here: RL² adapts through its memory). They can be called by hand, or jitted
# into something of your own.

# %%
from jaxmeta_envs import PolicyInput

params = jax.tree.map(lambda x: x[0], result.params)  # of the first seed
begin, act = jax.jit(result.policy.begin), jax.jit(result.policy.act)
probs = [0.1, 0.2, 0.9, 0.3, 0.1]
rng = np.random.default_rng(0)

carry = begin(params, jax.random.key(0))
pull, reward, first = 0, 0.0, True
for t in range(10):
    seen = PolicyInput(
        obs=family.observation_space.zero(),
        prev_action=pull,
        prev_reward=reward,
        prev_done=not first,
        episode_start=True,
    )
    action, carry = act(params, carry, seen, jax.random.key(t))
    pull, first = int(action), False
    reward = float(rng.random() < probs[pull])
    print(f"pull {t + 1:2}: arm {pull + 1}, reward {reward:.0f}")

# %% [markdown]
# ## Training inside your own program
#
# `make_train` is the whole run as one pure function of a key. Four seeds of 40 updates, one call:

# %%
short = dataclasses.replace(config, total_env_steps=100_000, updates_per_chunk=10)
state, metrics = jax.jit(jax.vmap(jaxmeta.make_train(short)))(
    jax.random.split(jax.random.key(0), 4)
)
print("return of the last update, per seed:", np.round(metrics["return"][:, -1], 2))

# %% [markdown]
# ## With files, and from the command line
#
# With a `run_dir` everything is written there, and an interrupted run goes on where it was:
#
# ```bash
# jaxmeta train rl2 bernoulli-bandit --run-dir runs/first     # ends with a table and a plot
# jaxmeta evaluate runs/first --episodes 30
# jaxmeta resume runs/first --total-env-steps 24e6
# ```
#
# **On a TPU or a GPU** nothing changes in this notebook. Programs this small do not fill an
# accelerator: raise `num_seeds`, or `RL2(num_tasks=...)`. [06](06_scaling.ipynb) says how.
