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
# # 06 Scaling: seeds, sweeps, devices
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
# (File, Upload notebook; then upload or clone the project into the folder `jaxmeta` beside it)
#
# The same training program runs for one seed or sixty, on one device or eight, for one learning
# rate or for a grid of them. What changes is the configuration, not the algorithm.
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
# ## Devices are chosen before JAX starts
#
# On a CPU, JAX can pretend to be several devices. The number is read once, when JAX first looks for
# devices, and cannot be changed later: so it stands in front of everything. jaxmeta asks for one
# per core by itself, but only if nothing has touched JAX before: a `jax.devices()` in a cell above
# leaves you with one, and jaxmeta then trains on that. Here it is eight, whatever the machine, as
# in the tests. On a GPU or TPU the line has no effect on the accelerators.

# %%
import os

os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax

kinds = {f"{device.platform}: {device.device_kind}" for device in jax.devices()}
print(f"JAX {jax.__version__} on {jax.device_count()} device(s),", *kinds)

# %%
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import jaxmeta
from jaxmeta import GRU, RL2, TrainConfig
from jaxmeta_envs import BernoulliBandit

plt.rcParams["figure.dpi"] = 90
folder = Path(tempfile.mkdtemp())  # for what jaxmeta writes
budget = int(os.environ.get("JAXMETA_NOTEBOOK_STEPS", "600_000"))  # to shorten it for testing

config = TrainConfig(
    algorithm=RL2(num_tasks=64, memory=GRU(32), learning_rate=1e-3),
    tasks=BernoulliBandit(num_arms=5, num_pulls=10),
    total_env_steps=budget // 10,  # 100 updates with the full budget
    seed=1000,
)

# %% [markdown]
# ## Seeds are an axis
#
# `num_seeds` vmaps the whole run: all seeds learn side by side in one program. A callback is told
# after every chunk of updates how long training took, compilation left out.


# %%
def seconds_of(config):
    """Returns the seconds of training of a run, without compilation, and its result."""
    spent = []
    result = jaxmeta.train(
        config, callback=lambda chunk: spent.append(chunk.seconds), progress=False
    )
    return spent[-1], result


alone = dataclasses.replace(config, devices=1)
for num_seeds in (1, 16):
    spent, result = seconds_of(dataclasses.replace(alone, num_seeds=num_seeds))
    print(f"seeds {num_seeds:2}: {spent:5.2f} s, {spent / num_seeds:.2f} s per seed")
    if num_seeds == 1:
        one_device = result.metrics["return"][:, 0]
print("parameters carry a seeds axis:", jax.tree.leaves(result.params)[0].shape)

# %% [markdown]
# On a CPU core sixteen seeds are cheaper than sixteen runs, and compile once. An accelerator has
# thousands of lanes that one small run leaves idle: there, dozens of seeds cost about what one
# costs, until it is full.
#
# ## Tasks are shared by devices
#
# `devices` says how many local devices share the tasks of an update; by default as many as divide
# them evenly. Every device holds the whole state and plays its own tasks; gradients and a few sums
# are all that is sent. Random numbers belong to tasks, so that one device and eight play the same
# trajectories, and differ only by the order of additions in float32:

# %%
shared = jaxmeta.train(dataclasses.replace(config, devices=8), progress=False)
eight_devices = shared.metrics["return"][:, 0]
first = np.abs(one_device - eight_devices)[:10].max()
print(f"largest difference of the return in the first ten updates: {first:.1e}")

plt.figure(figsize=(6, 2.8), layout="constrained")
plt.plot(one_device, linewidth=3, alpha=0.4, label="one device")
plt.plot(eight_devices, linewidth=1, label="eight devices")
plt.xlabel("update")
plt.ylabel("return")
plt.legend()
plt.show()

# %% [markdown]
# (Eight devices on two cores gain nothing; they show that nothing changes. In the end the rounding
# has tipped a sampled action here and there, and from there two runs go different ways, as two
# seeds do.)
#
# Several machines train one run with `jaxmeta train ... --distributed`, as devices do:
# tasks are drawn where they are played, and one process writes the run. What it costs, and how far
# it goes, is in `docs/scaling.md`.
#
# A number of devices that does not fit is refused at once, with what is allowed:

# %%
try:
    jaxmeta.train(dataclasses.replace(config, devices=7), progress=False)
except jaxmeta.ConfigError as error:
    print(error)

# %% [markdown]
# ## Memory, before anything is compiled
#
# `jaxmeta train ... --dry-run` prints the configuration, exact counts, devices, and an estimate of
# the memory of each device. The estimate is a method of the algorithm, so a table is quickly made:

# %%
print("MiB on one device, for one seed of RL² with a GRU of 64")
print("  tasks    10 pulls   100 pulls   500 pulls")
for num_tasks in (256, 4096, 65536):
    row = [
        RL2(num_tasks=num_tasks, memory=GRU(64)).memory_bytes(
            BernoulliBandit(num_pulls=pulls), num_tasks
        )
        for pulls in (10, 100, 500)
    ]
    print(f"{num_tasks:7,}" + "".join(f"{count / 2**20:12,.0f}" for count in row))

# %% [markdown]
# If it is too much: `num_seeds` and `num_tasks` are the factors; `RL2(bptt_steps=...)` or
# `checkpoint=True` trade computation for memory in long trials; more devices take a share each.
#
# ## Sweeps
#
# Numbers of the algorithm can be an axis too. Four learning rates with two seeds are eight runs of
# one program, spread over the local devices. Memory is estimated first, and measured once the
# program is compiled; what does not fit is split into waves (`memory_gib=` says what a wave may
# need).

# %%
points = {"learning_rate": [3e-4, 1e-3, 3e-3, 1e-2]}
base = dataclasses.replace(
    config, total_env_steps=budget, seed=0, updates_per_chunk=50, eval_tasks=500
)
found = jaxmeta.sweep(base, points, num_seeds=2)
found.table()

# %%
plt.figure(figsize=(7.5, 3), layout="constrained")
for point, rates in enumerate(found.grid.points):
    curve = found.metrics["return"][point].mean(axis=0)
    smooth = np.convolve(curve, np.ones(20) / 20, mode="valid")
    plt.plot(smooth, label=f"{rates['learning_rate']:g}")
plt.xlabel("update")
plt.ylabel("return, mean of two seeds")
plt.legend(title="learning rate", bbox_to_anchor=(1.0, 0.5), loc="center left")
plt.show()

# %% [markdown]
# Two seeds and 500 tasks tell no two rates apart (all intervals of "behind best" enclose 0), as far
# behind as the smallest looks. The best of many looks better than it is, so its settings are
# trained again on seeds that had no part in choosing them, and those are reported:

# %%
best = found.config_of(found.best)
again = jaxmeta.train(dataclasses.replace(best, seed=1000, num_seeds=3), progress=False)
total = jaxmeta.evaluate(again, references=False).summary()["policies"]["RL2"]["total"]
chosen = found.scores[found.best].mean()
print(f"learning rate {best.algorithm.learning_rate:g}: {chosen:.3f} in the sweep,")
print(f"{total['mean']:.3f} [{total['low']:.3f}, {total['high']:.3f}] on seeds 1000 to 1002")

# %% [markdown]
# (The two numbers are of different held-out tasks, which alone makes ± 0.2: choosing among four
# points flatters by less than that.)
#
# ## Compiled programs are kept
#
# Compilation takes seconds, and on large programs minutes. JAX keeps compiled programs on disk if
# it is given a folder. The command line of jaxmeta does so by itself
# (`JAX_ENABLE_COMPILATION_CACHE=false` switches it off); in Python it is yours to say, before the
# first program is compiled. What it is worth, with a temporary folder and everything compiled
# forgotten in between (tracing and 10 updates included):

# %%
jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
small = dataclasses.replace(config, total_env_steps=6_400, devices=1)
took = []
for _ in range(2):
    jax.clear_caches()
    began = time.perf_counter()
    jaxmeta.train(small, progress=False)
    took.append(time.perf_counter() - began)
print(f"first start {took[0]:.1f} s, second start {took[1]:.1f} s")

# %% [markdown]
# ## On a GPU or a TPU
#
# - **Colab**: Runtime, Change runtime type. Leave JAX as it is; `pip install ./jaxmeta` does. The
#   cell at the top must name the accelerator. If it says cpu, JAX was installed without it.
# - **Fill it.** Small programs wait for the start of each operation. Raise `num_seeds` first, then
#   `num_tasks` (with more tasks an update, fewer updates: learning rates want tuning again).
# - **TPU slices**: all local chips share the tasks by default; make `num_tasks` a multiple of their
#   number. Layers and memories of 128 or 256 units use the matrix units, those of 64 half-empty
#   ones.
# - **Checkpoints move**: a run saved on eight devices goes on on one (`jaxmeta.resume`, with a
#   warning that it is not the same to the bit).
#
# What is sent between devices, and how it grows: [docs/scaling.md](../docs/scaling.md).
