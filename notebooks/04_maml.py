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
# # 04 MAML, from sine waves to navigation
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
# (File, Upload notebook; then upload or clone the project into the folder `jaxmeta` beside it)
#
# MAML learns where gradient descent should begin. What adapts to a new task is plain gradient
# descent, on a few examples or a few episodes of it; what is meta-learned is the start, from which
# one step is enough. First on sine waves, where it can be seen, then for a policy that finds a goal
# in the plane.
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
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from IPython.display import Image
from matplotlib import pyplot as plt

import jaxmeta

plt.rcParams["figure.dpi"] = 90
folder = Path(tempfile.mkdtemp())  # for what jaxmeta writes
budget = int(os.environ.get("JAXMETA_NOTEBOOK_STEPS", "10_000_000"))  # to shorten it for testing

# %% [markdown]
# ## Waves
#
# A task is a sine wave of random amplitude and phase, known by ten of its points. Three learners
# share a network and the inner step, $\theta' = \theta - 0.01\,\nabla L(\theta)$:
#
# - **MAML** minimises the loss *after* the step and differentiates through the step,
# - **first-order MAML** takes the step for a constant, which spares the second derivatives,
# - **pretraining** minimises the loss of one network on all waves, and steps only at test time.

# %%
methods = {"MAML": "maml", "first-order MAML": "fomaml", "pretraining": "pretraining"}
learned = {}
for label, method in methods.items():
    config = dataclasses.replace(
        jaxmeta.preset(method, "sinusoid"), seed=1000, total_env_steps=budget
    )
    learned[label] = jaxmeta.train(config, progress=False)
waves = config.tasks
print(config.plan().updates, "updates each, of", config.algorithm.num_tasks, "waves")

# %% [markdown]
# A learner is three pure functions: `begin`, `predict`, and `adapt`, which takes one gradient step
# on a support set. Here they fit a wave that none of them has seen.

# %%
task = waves.sample_task(jax.random.key(1), "test")
support = waves.sample_examples(jax.random.key(7), task, 10)
x = jnp.linspace(-5.0, 5.0, 200)[:, None]

figure, axes = plt.subplots(1, 3, figsize=(10.5, 3), sharey=True, layout="constrained")
for axis, (label, result) in zip(axes, learned.items(), strict=True):
    model, params = result.policy, jax.tree.map(lambda leaf: leaf[0], result.params)
    adapt, predict = jax.jit(model.adapt), jax.jit(model.predict)
    axis.plot(x, waves.function(task, x), color="0.6", linewidth=3, label="the wave")
    carry, styles = model.begin(params), {0: ":", 1: "-", 10: "--"}
    for step in range(11):
        if step in styles:
            says = "before" if step == 0 else f"after {step} step{'s' * (step > 1)}"
            axis.plot(x, predict(params, carry, x), styles[step], label=says)
        carry = adapt(params, carry, support)
    axis.plot(support.x, support.y, "k.", markersize=9, label="ten examples")
    axis.set_title(label)
    axis.set_xlabel("x")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
plt.show()

# %% [markdown]
# MAML is on the wave after one step. First-order MAML needs a few more. Pretraining has learned the
# mean over waves, from which one step leads nowhere.
#
# On a thousand held-out waves (squared error on other points of the wave; "mean" is the best that
# can be said without examples):

# %%
found = jaxmeta.compare(
    list(learned.values()),
    labels=list(learned),
    episodes=11,
    num_tasks=1000,
    out=folder / "waves.png",
)
said = "Loss after gradient steps: MAML and its first-order form beside pretraining"
Image(str(folder / "waves.png"), width=720, alt=said)

# %%
print("mean (median) after  " + "".join(f"{k:4d} steps    " for k in (0, 1, 5, 10)))
for label, run in found.runs.items():
    losses = run.returns[0]  # [wave, step]
    rows = [f"{losses[:, k].mean():6.2f} ({np.median(losses[:, k]):.2f})" for k in (0, 1, 5, 10)]
    print(f"{label:18}", " ".join(rows))

# %% [markdown]
# To the pretrained network a step of this size is of little use: the median is better after it, the
# mean is worse. After 70,000 updates in place of 40,000 it has 2.4 after one step and 1.7 after ten
# (five seeds, `RESULTS.md`): better, and still far from a start that was learned for being adapted.
#
# ## A point in the plane
#
# Now the task is a goal in a square, which is not shown: a step is paid minus the distance to it.
# `PolicyMAML` plays 20 episodes, takes a policy-gradient step on their rewards, and plays again
# with the adapted policy. The outer loop (TRPO) improves the start by the return *after* that step.
#
# This is the preset with smaller layers and 60 updates in place of 80: about a minute on two cores.

# %%
preset = jaxmeta.preset("maml", "point-navigation")
algorithm = dataclasses.replace(preset.algorithm, network=jaxmeta.MLP((64, 64), "relu"))
per_update = algorithm.env_steps_per_update(preset.tasks)
config = dataclasses.replace(
    preset,
    algorithm=algorithm,
    seed=1000,
    total_env_steps=min(60 * per_update, budget // 2),
    updates_per_chunk=2,
)
navigator = jaxmeta.train(config)

# %%
measured = navigator.metrics
plt.figure(figsize=(6, 3), layout="constrained")
plt.plot(measured["return_before"][:, 0], ":", label="before the step")
plt.plot(measured["return"][:, 0], label="after one step")
plt.xlabel("meta-update")
plt.ylabel("return of an episode")
plt.legend()
plt.show()

# %% [markdown]
# Before adaptation the policy cannot know the goal, and learns to stay near the middle: -38 is what
# standing still earns. What grows is how much one gradient step brings.
#
# ## Held-out goals
#
# The paths of ten episodes before adaptation and after each of two updates, for two goals (stars).
# The first step, on twenty episodes of wandering about the middle, finds the direction and may go
# too far; the second corrects it. The policy adds noise to its moves to the end.

# %%
pictures = jaxmeta.show(navigator, episodes=3, num_tasks=2, out=folder)
said = "Paths to the goals of two tasks, before and after gradient steps"
Image(str(pictures.still), width=860, alt=said)

# %%
evaluation = jaxmeta.evaluate(navigator, episodes=4, num_tasks=200)
evaluation.table()

# %% [markdown]
# Row k is the return after k updates on 20 episodes each; updates after the first take half a step,
# as in MAML's code. The paper, after up to 500 meta-iterations, has -11.7 after one update and -3.3
# after two; five seeds of the whole preset, with wider layers, have -12.2 and -4.6 (`RESULTS.md`).
# "trilateration" is what an agent with memory could do: three distances tell the goal.
#
# ## From here
#
# - A method is a part: `jaxmeta.preset("promp", "point-navigation")`, `"e-maml"`, `"anil"`,
#   `"meta-sgd"`, `"reptile"`. What estimators of the meta-gradient are worth is in
#   [meta_gradients](meta_gradients.ipynb).
# - `jaxmeta.evaluate(navigator, shots=40)` adapts to more episodes than in training.
# - **On a TPU or a GPU**: MAML on waves is bound by the start of each small operation; train many
#   seeds at once (`num_seeds=32`), which costs little more than one. Navigation grows with
#   `PolicyMAML(num_tasks=...)`. `TRPO(task_by_task=True)`, part of the preset, suits the caches of
#   a CPU: leave it out.
