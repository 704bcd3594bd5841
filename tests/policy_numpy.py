"""Policies of one hidden layer again, in NumPy float64: an opinion of their own for tests.

Axes: N episodes, T steps.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.parts.policy_adaptation import InnerData
from jaxmeta.testing.policies import first_input

N, T = 2, 3


def made_up_data(family, rng):
    """Returns episodes ``[N, T]`` that nobody played, with the last step of one left out."""
    inputs = jax.tree.map(lambda x: jnp.stack([jnp.stack([x] * T)] * N), first_input(family))
    obs = rng.normal(size=(N, T, 2)).astype(np.float32)  # as spaces flatten them
    inputs = inputs._replace(obs=jnp.asarray(obs))
    if family.continuous:
        action = jnp.asarray(rng.normal(size=(N, T, 1)))
    else:
        action = jnp.asarray(rng.integers(0, 3, (N, T)), jnp.int32)
    behaviour, advantage, target = (jnp.asarray(rng.normal(size=(N, T))) - 1.0 for _ in range(3))
    mask = jnp.ones((N, T), bool).at[1, 2].set(False)
    gain = jnp.full((N, T), jnp.nan)  # not read by a step
    return InnerData(inputs, action, behaviour, advantage, gain, target, mask)


def layers(tree, obs):
    """A tanh layer and an affine one, by hand: ``[..., 2] -> [..., out]``."""
    (hidden, head) = tree
    h = np.tanh(obs @ hidden["kernel"] + hidden["bias"])
    return h @ head["kernel"] + head["bias"]


def dense_layers(params, name):
    hidden = next(iter(params[name]["params"].values()))
    head = next(v for k, v in params[f"{name}_head"]["params"].items() if k != "log_std")
    return jax.tree.map(np.float64, (hidden, head))


def spoken(params, obs, continuous):
    """Returns log-probabilities ``[n, 3]``, or means ``[n]`` and log standard deviation."""
    out = layers(dense_layers(params, "policy"), obs)
    if continuous:
        return out[:, 0], float(params["policy_head"]["params"]["log_std"][0])
    return out - np.log(np.exp(out).sum(1, keepdims=True))


def entropy_and_kl(said, anchor, continuous):
    if continuous:
        (mean, log_std), (other, other_log_std) = said, anchor
        entropy = np.full_like(mean, 0.5 * np.log(2 * np.pi * np.e) + log_std)
        variances = np.exp(2 * log_std), np.exp(2 * other_log_std)
        kl = other_log_std - log_std + (variances[0] + (mean - other) ** 2) / (2 * variances[1])
        return entropy, kl - 0.5
    p = np.exp(said)
    return -(p * said).sum(1), (p * (said - anchor)).sum(1)


def log_probs(said, action, continuous):
    if continuous:
        mean, log_std = said
        z = (action[:, 0] - mean) / np.exp(log_std)
        return -0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi)
    return said[np.arange(len(action)), action]


def slopes(function, flat):
    """Central differences of a scalar function, ``[P]``."""
    steps = 1e-5 * np.eye(len(flat))
    return np.asarray([(function(flat + s) - function(flat - s)) / 2e-5 for s in steps])
