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
# # RL² on bandits
#
# An agent that has learned to learn: meta-trained over thousands of five-armed bandits, it meets
# a bandit it has never seen, tries its arms, and settles on a good one within ten pulls. All of it
# is one compiled program, on CPU, GPU or TPU.
#
# On Colab, get jaxmeta first, from a clone of the project: `%pip install ./jaxmeta`. It leaves the
# JAX that is already there as it is.

# %%
import dataclasses
import os

import jax
import numpy as np
from matplotlib import pyplot as plt

import jaxmeta
from jaxmeta_envs import BernoulliBandit

# %% [markdown]
# ## A family of tasks
#
# A task is an argument, not something hidden in an environment: here the arms' probabilities. One
# pull is one episode of one step, so "the return after k episodes" is the reward of pull k + 1.

# %%
family = BernoulliBandit(num_arms=5, num_pulls=10)
tasks = jax.vmap(family.sample_task)(jax.random.split(jax.random.key(0), 3))
print(np.round(tasks.probs, 2))

# %% [markdown]
# ## Meta-training
#
# The preset holds what was tuned. `JAXMETA_NOTEBOOK_STEPS` shortens the run for testing; with the
# full budget it takes about half a minute on two CPU cores.

# %%
steps = int(os.environ.get("JAXMETA_NOTEBOOK_STEPS", "6_000_000"))
config = dataclasses.replace(
    jaxmeta.preset("rl2", "bernoulli-bandit"), tasks=family, total_env_steps=steps
)
result = jaxmeta.train(config)

# %%
plt.figure(figsize=(6, 3))
plt.plot(result.metrics["return"])
plt.axhline(family.optimal_returns(10).sum(), color="black", linestyle="--", label="Bayes-optimal")
plt.xlabel("update")
plt.ylabel("total reward of ten pulls")
plt.legend()
plt.show()

# %% [markdown]
# ## Adaptation to held-out tasks
#
# `evaluate` meets tasks that training never saw, and runs classical algorithms and the exact
# Bayes-optimal policy on the same ones.

# %%
evaluation = jaxmeta.evaluate(result, num_tasks=1000)
evaluation.table()

# %%
plt.figure(figsize=(6, 3.5))
for name, returns in {"RL²": evaluation.returns[0], **evaluation.references}.items():
    if name in ("RL²", "thompson", "random", "bayes-optimal"):
        plt.plot(returns.mean(axis=0), label=name, linewidth=3 if name == "RL²" else 1.5)
plt.xlabel("pulls so far")
plt.ylabel("expected reward of the next pull")
plt.legend()
plt.show()

# %% [markdown]
# ## One agent, step by step
#
# A policy is three pure functions: `begin` for a new task, `act`, and `adapt` between episodes
# (which does nothing here: RL² adapts through its memory).

# %%
from jaxmeta.rollout import play_adaptation

params = jax.tree.map(lambda x: x[0], result.params)  # the first seed
task = family.sample_task(jax.random.key(5), "test")
played = play_adaptation(family, result.policy, params, task, jax.random.key(6), 10)
print("probabilities", np.round(task.probs, 2))
print("arms pulled  ", played.action.ravel())
print("rewards      ", played.reward.ravel().astype(int))

# %% [markdown]
# ## Training inside your own program
#
# `make_train` is the whole run as one pure function. Four seeds, one call:

# %%
short = dataclasses.replace(config, total_env_steps=min(steps, 500_000))
state, metrics = jax.jit(jax.vmap(jaxmeta.make_train(short)))(
    jax.random.split(jax.random.key(0), 4)
)
print("mean return of the last update, per seed:", np.round(metrics["return"][:, -1], 2))
