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
# # 02 Your own task family
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
# (File, Upload notebook; then upload or clone the project into the folder `jaxmeta` beside it)
#
# A family of tasks is one frozen dataclass. Here a number is hidden, and the agent has three
# guesses per episode; after each it is told "higher" or "lower". Nobody tells it to halve the
# interval, nor that the number stays the same in the second episode: it has to learn both.
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
from dataclasses import dataclass, replace
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from IPython.display import Image
from matplotlib import pyplot as plt

import jaxmeta
from jaxmeta.testing import check_task_family
from jaxmeta_envs import AdaptivePolicy, Discrete, Reference, TaskFamily, Timestep

plt.rcParams["figure.dpi"] = 90
folder = Path(tempfile.mkdtemp())  # for what jaxmeta writes

# %% [markdown]
# ## What differs from task to task
#
# Sizes are fields of the family. What differs from task to task is a pytree of arrays, the *task*,
# which is an argument of `reset` and `step`: it is neither drawn by `reset` nor kept in the state.
# So thousands of tasks can be vmapped, and an evaluation knows which task it plays.
#
# ## The family
#
# - `sample_task` draws a task from a split: "train" and "test" follow one distribution, other names
#   are shifts.
# - `step` returns the new state and what the agent sees. Finding the number *terminates* the
#   episode; running out of tries *truncates* it: the clock stops it, but the task is not done.
# - `references` are policies to compare with. Each is three pure functions like any agent; one that
#   remembers from episode to episode keeps what it knows in its carry.
# - `optimal_returns` is the best that anybody can do, where that is known. Three guesses tell apart
#   7 of 16 numbers, and what the first episode told leaves at most three, so that the second never
#   fails.
# - `draw` is a picture of its own, for `jaxmeta.show`. It gets NumPy arrays.


# %%
class NumberTask(NamedTuple):
    secret: jax.Array


@dataclass(frozen=True)
class GuessTheNumber(TaskFamily[NumberTask, jax.Array]):
    """Guess a number in few tries; the observation says "none yet", "higher" or "lower"."""

    splits = ("train", "test", "high")  # "high": only the upper half
    disjoint_splits = False  # so few numbers that those of "test" all occur in training

    numbers: int = 16
    tries: int = 3

    @property
    def observation_space(self):
        return Discrete(3)

    @property
    def action_space(self):
        return Discrete(self.numbers)

    @property
    def horizon(self):
        return self.tries

    @property
    def default_episodes(self):
        return 2

    def sample_task(self, key, split="train"):
        self.check_split(split)
        low = self.numbers // 2 if split == "high" else 0
        return NumberTask(jax.random.randint(key, (), low, self.numbers))

    def reset(self, key, task):
        return jnp.int32(0), jnp.int32(0)  # the state counts the tries

    def step(self, key, state, action, task):
        guess = jnp.clip(action, 0, self.numbers - 1)  # families clip actions out of bounds
        tried, found = state + 1, guess == task.secret
        hint = jnp.where(found, 0, jnp.where(guess < task.secret, 1, 2)).astype(jnp.int32)
        out_of_time = (tried >= self.tries) & ~found
        return tried, Timestep(hint, found.astype(jnp.float32), found, out_of_time)

    def references(self, num_episodes):
        return {**super().references(num_episodes), "halving": halving(self.numbers)}

    def optimal_returns(self, num_episodes):
        if (self.numbers, self.tries) != (16, 3):
            return None
        return np.asarray([7 / 16] + [1.0] * (num_episodes - 1))

    def draw(self, axes, task, played, until):
        guesses = played.action[0][played.mask[0]][:until]  # of one episode
        axes.axhline(task.secret, color="tab:orange", linewidth=6, alpha=0.4, label="the number")
        axes.plot(1 + np.arange(len(guesses)), guesses, "o-", label="guesses")
        axes.set_xlim(0.5, self.tries + 0.5)
        axes.set_ylim(-1, self.numbers)
        axes.set_xticks(range(1, self.tries + 1))
        axes.set_yticks(range(0, self.numbers, 5))
        axes.set_xlabel("try")
        axes.set_ylabel("number")


def halving(numbers):
    """Guesses the middle of what is still possible; the carry is the last guess and the ends."""

    def act(params, carry, inputs, key):
        guess, low, high = carry
        low = jnp.where(inputs.obs == 1, guess + 1, low)
        high = jnp.where(inputs.obs == 2, guess - 1, high)
        guess = (low + high) // 2
        return guess, (guess, low, high)

    def begin(params, key):
        return jnp.int32(0), jnp.int32(0), jnp.int32(numbers - 1)

    return Reference(AdaptivePolicy(begin=begin, act=act))


# %% [markdown]
# A policy sees the hint for a guess before the next one of the same episode. The hint for the last
# guess is seen by nobody, because the next episode begins with "none yet": the second episode of
# `halving` begins with an interval that still holds the last guess. Three more guesses are enough
# all the same.
#
# `check_task_family` plays the family and finds the usual mistakes: a task hidden in the state,
# wrong shapes or types, an episode that never ends. It says nothing if all is well.

# %%
family = GuessTheNumber()
check_task_family(family)

# %% [markdown]
# ## Meta-training
#
# Any algorithm takes it as it is. `JAXMETA_NOTEBOOK_STEPS` shortens the run for testing.

# %%
steps = int(os.environ.get("JAXMETA_NOTEBOOK_STEPS", "3_000_000"))
config = jaxmeta.TrainConfig(
    algorithm=jaxmeta.RL2(
        num_tasks=256,
        memory=jaxmeta.GRU(64),
        learning_rate=jaxmeta.Schedule(2e-3, 0.0),
        entropy_coef=jaxmeta.Schedule(0.1, 0.0),
    ),
    tasks=family,
    seed=1000,
    num_seeds=3,
    total_env_steps=steps,
    updates_per_chunk=50,
)
result = jaxmeta.train(config, progress=False)

plt.figure(figsize=(6, 3), layout="constrained")
for seed in range(config.num_seeds):
    smooth = np.convolve(result.metrics["return"][:, seed], np.ones(25) / 25, mode="valid")
    plt.plot(np.arange(len(smooth)) + 25, smooth, label=f"seed {config.seed + seed}")
best = family.optimal_returns(2).sum()
plt.axhline(best, color="black", linestyle="--", label="best possible")
plt.xlabel("update (mean of 25)")
plt.ylabel("return of two episodes")
plt.legend()
plt.show()

# %% [markdown]
# ## What it learned
#
# `evaluate` plays held-out tasks beside the references. Row k is the episode after k episodes of
# experience.

# %%
evaluation = jaxmeta.evaluate(result, num_tasks=1000)
evaluation.table()

# %% [markdown]
# The agent has come most of the way to the best that can be: as far as it gets in the first
# episode, and in the second its curve still rises. (That "halving" is above the exact optimum is
# the luck of these thousand numbers.) The drawing of the family, for the agent of the first seed:
# three numbers, first and second episode.

# %%
pictures = jaxmeta.show(result, num_tasks=3, out=folder)
Image(str(pictures.still), width=480, alt="The agent's guesses on three tasks")

# %% [markdown]
# It has found out to halve: first a number near the middle, then one in the half that is left. In
# the second episode it says at once what it found in the first; where it found nothing, it knows
# what is left.
#
# ## A shift
#
# On "high" all numbers are in the upper half, which the agent does not know: it does as well as
# before, and no better.

# %%
shifted = jaxmeta.evaluate(result, split="high", num_tasks=1000)
for name, evaluated in (("test", evaluation), ("high", shifted)):
    first, second = evaluated.returns.mean(axis=(0, 1))
    print(f"{name}: found in the first episode {first:.0%}, in the second {second:.0%}")

# %% [markdown]
# ## A name for it
#
# With a name it is known to `preset` and to the command line, if a script of yours registers it and
# then calls `jaxmeta.cli.main()`:

# %%
jaxmeta.register_family("guess-the-number", GuessTheNumber)
named = jaxmeta.preset("rl2", "guess-the-number")
print(named.tasks, "with", type(named.algorithm).__name__)

# %% [markdown]
# (There is no tuned preset for it, so these are the defaults.) Put the class into a module rather
# than a notebook if runs are to be kept: a run directory says where to import it from.
#
# A number of the family is a field, so another size is another family, without more code:

# %%
larger = replace(family, numbers=64, tries=5)
print(larger.action_space, larger.horizon, larger.optimal_returns(2))

# %% [markdown]
# **On a TPU or a GPU** nothing changes: `step` is pure and traceable, so it is compiled for
# whatever there is. Python's `if` on arrays and NumPy's functions cannot be in it; `jnp.where` and
# `jax.lax` can. `CONTRIBUTING.md` says what a family of the library needs besides.
