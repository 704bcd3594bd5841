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
# # Meta-gradients, proved right
#
# MAML for policies takes a policy-gradient step on episodes of a task and asks how the return
# *after* that step depends on the parameters *before* it. Public code disagrees on the answer, and
# an answer that is wrong still learns something. Here the answer is exact: on decision processes
# so small that every batch of episodes can be listed.

# %%
import os

import jax
import numpy as np
from matplotlib import pyplot as plt

from jaxmeta import MLP
from jaxmeta.parts.estimators import EMAML, LVC, DiCE, FirstOrder, LogLikelihood
from jaxmeta.parts.inner_loop import SGD, InnerLoop
from jaxmeta.algorithms.policy_maml import PolicyMAML
from jaxmeta.testing.conformance import fast_jit
from jaxmeta.testing.meta_gradients import Adaptation
from jaxmeta.testing.tiny_family import TinyFamily, mean_p_value, sample_meta_gradients, tabular

# %% [markdown]
# ## The laboratory
#
# Two tasks with two states, two actions and episodes of two steps; the policy is a table of logits
# θ. Four different episodes can happen, so that all batches of N of them are few.

# %%
family = TinyFamily(seeds=(1, 2), certain=True)
theta = np.array([[0.3, -0.4], [-0.2, 0.6]])
values = np.array([0.5, -0.3])  # the baseline, by state
rate = 2.0
print("rewards by state and action:")
for process in family.processes:
    print(process.reward.round(2).tolist())

# %% [markdown]
# ## What the second derivative is made of
#
# After a step $\theta' = \theta + \alpha\,\nabla J(\theta)$ the chain rule gives
# $(I + \alpha \nabla^2 J)^\top \nabla J(\theta')$, and
#
# $$\nabla^2 J = H_1 + H_2 + H_{12} + H_{12}^\top.$$
#
# $H_1$ is made of products of scores, $H_2$ of the curvature of $\log\pi$, and $H_{12}$ of how an
# action changes what later ones are worth. All surrogates of the return have the same gradient.
# Their second derivatives keep different terms: `LogLikelihood` $H_2$, `LVC` $H_1 + H_2$, `DiCE`
# all, and `FirstOrder` none. A baseline moves weight between $H_1$ and $H_2$: with a perfect one,
# nothing is left of what `LogLikelihood` keeps.

# %%
process = family.processes[0]
for name, baseline in (("none", None), ("perfect", process.state_values(theta))):
    terms = process.hessian_terms(theta, baseline)
    sizes = {n: round(float(np.linalg.norm(x)), 3) for n, x in terms._asdict().items()}
    print(f"baseline {name:8}", sizes)

# %% [markdown]
# ## What is really estimated
#
# The step is taken on N sampled episodes τ, $\theta' = \theta + \alpha\, g(\tau; \theta)$, and
# what adaptation earns on average is $\mathbb E_\tau[J(\theta')]$. θ has a part in that in two
# ways: it is where the step starts from, and it decides which episodes are sampled. `EMAML`
# credits the sampled episodes with the return after adaptation, and with that its expectation is
# exact.
#
# `Adaptation` lists the batches: `outside` is the expectation of any estimator, for any N.

# %%
estimators = {
    "FirstOrder": (FirstOrder(), "none"),
    "LogLikelihood": (LogLikelihood(), "log_likelihood"),
    "LVC": (LVC(), "likelihood_ratio"),
    "DiCE": (DiCE(), "dice"),
    "E-MAML": (EMAML(), "log_likelihood"),
}


def expected(name, episodes, steps=1, standardize=True):
    """What an estimator gives on average over both tasks, by enumeration, float64 ``[S, A]``."""
    (estimator, terms), found = estimators[name], []
    for process in family.processes:
        baseline = np.tile(values, (family.horizon, 1))
        lab = Adaptation(process, rate, steps, baseline, standardize)
        credit = estimator.credits_sampling
        found.append(lab.outside(theta, terms, episodes, credit=credit).gradient)
    return np.mean(found, axis=0).reshape(2, 2)


def bias(name, episodes, **settings):
    exact = expected("E-MAML", episodes, **settings)
    return np.linalg.norm(expected(name, episodes, **settings) - exact) / np.linalg.norm(exact)


# %% [markdown]
# ## The algorithm itself
#
# `sample_meta_gradients` repeats the first update of `PolicyMAML`, the code that trains agents:
# it plays the episodes, takes the steps, plays again and differentiates through a replay of it all.
# The mean over updates must be what the enumeration says; p is how likely it is to be as far off as
# it is (Hotelling's test), and a wrong estimator has a p of about 0.

# %%
steps = int(os.environ.get("JAXMETA_NOTEBOOK_STEPS", "640_000"))
tasks, episodes = 40, 4
updates = max(steps // (tasks * 2 * episodes * family.horizon), 50)
sampled = {}
for name, (estimator, _) in estimators.items():
    algorithm = PolicyMAML(
        num_tasks=tasks,
        shots=episodes,
        estimator=estimator,
        inner=InnerLoop(optimizer=SGD(rate)),
        baseline=MLP(),
    )
    found = sample_meta_gradients(
        tabular(algorithm, family),
        family,
        theta,
        jax.random.key(0),
        updates,
        values=values,
        jit=fast_jit,
    )
    sampled[name] = found.gradient
    p = mean_p_value(found.gradient, expected(name, episodes))
    swapped = mean_p_value(found.gradient, expected("LVC" if name != "LVC" else "DiCE", episodes))
    print(f"{name:14} p = {p:.2f}; taken for another estimator: p = {swapped:.0e}")

# %% [markdown]
# The logits of a state only matter by their difference: a gradient has two numbers, one for each
# state, and can be drawn. Every point is an update; the cross is where the enumeration says that
# the middle of the cloud lies, the star is the truth.

# %%
exact = expected("E-MAML", episodes)[:, 1]
figure, axes = plt.subplots(1, 5, figsize=(13, 3.2), sharex=True, sharey=True, layout="constrained")
for axis, (name, gradients) in zip(axes, sampled.items(), strict=True):
    axis.scatter(*gradients[:300, :, 1].T, s=6, alpha=0.4, linewidths=0)
    axis.plot(*expected(name, episodes)[:, 1], "kx", markersize=10, label="expected")
    axis.plot(*exact, "*", color="tab:red", markersize=12, label="exact")
    axis.set_title(f"{name}\nbias {bias(name, episodes):.0%}", fontsize=10)
    axis.set_xlabel("derivative in state 0")
axes[0].set_ylabel("derivative in state 1")
axes[0].legend(loc="lower left", fontsize=8)
plt.show()

# %% [markdown]
# `EMAML` is right on average and has the widest cloud; `LVC` has a narrow one in another place.
# That is the trade between them. The relative standard deviation of an update of 40 tasks:

# %%
for name, gradients in sampled.items():
    mean = gradients.mean(0)
    spread = np.sqrt(np.mean(np.sum((gradients - mean) ** 2, axis=(1, 2))))
    print(f"{name:14} {spread / np.linalg.norm(mean):.2f}")

# %% [markdown]
# ## With more episodes
#
# The more episodes a step sees, the less it matters which ones they were, and `DiCE`, which keeps
# all terms, becomes exact: as 1/N. But only if advantages are used as they are, which is
# `PolicyMAML(objective=PolicyObjective(standardize=False))`. By default they are divided by their
# standard deviation, and that this changes with θ is a term that no surrogate contains.

# %%
for standardize in (False, True):
    print("advantages standardised:" if standardize else "advantages as they are:")
    for name in ("FirstOrder", "LogLikelihood", "LVC", "DiCE"):
        row = [f"{bias(name, n, standardize=standardize):6.1%}" for n in (2, 4, 8, 16)]
        print(f"  {name:14}", "N = 2, 4, 8, 16:", *row)

# %% [markdown]
# `python scripts/reproduce/meta_gradients.py` measures all of it for one and two steps and several
# N, with intervals. The tests of the project hold `PolicyMAML` to these expectations, and find
# planted defects by them: inner gradients averaged over tasks, values that are never fitted, a
# second step that is not differentiated through.
