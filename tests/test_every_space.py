"""Every algorithm on every kind of space: it trains, or says in one sentence why not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.catalog.registry import ALGORITHMS
from jaxmeta.networks import GRU, MLP
from jaxmeta.parts.optimizers.ppo import PPO
from jaxmeta.parts.risk import CVaR
from jaxmeta.testing import ConformanceError, check_task_family
from jaxmeta_envs import Box, ConfigError, Dict, Discrete, Tuple
from tests.toy_spaces import DONE, MIXED, SEEN, AnySpaces

TINY = {
    "num_tasks": 4,
    "shots": 2,
    "episodes_per_trial": 2,
    "memory": GRU(4),
    "optimizer": PPO(epochs=1, minibatches=1),
    "network": MLP((4,), "tanh"),
    "risk": CVaR(0.5),
}


def tiny(name):
    default = ALGORITHMS[name]()
    fields = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    own = {
        key: value
        for key, value in TINY.items()
        if key in fields and (fields[key] is None or isinstance(fields[key], type(value)))
    }
    return dataclasses.replace(default, **own)


def two_updates(algorithm, family):
    """Returns a function of a key that trains for two updates."""

    def train(key):
        keys = jax.random.split(key, 3)
        state, paid = algorithm.init(family, keys[0]), []
        for step, k in enumerate(keys[1:]):
            state, metrics = algorithm.update(family, state, k, jnp.int32(step))
            paid.append(metrics["return"])
        return state.params, jnp.stack(paid)

    return train


# Each takes seconds: the mixed one has a part of every kind.
RICH = [("image", "discrete"), ("mixed", "vector")]
REST = [(seen, "discrete") for seen in SEEN if seen != "image"]
REST += [("mixed", done) for done in ("multi-discrete", "matrix")]
PAIRS = [*RICH, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in REST)]
KINDS = ["multi-discrete", pytest.param("matrix", marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize(("seen", "done"), PAIRS)
def test_an_algorithm_takes_a_pair_of_spaces_or_says_why_not(name, seen, done):
    """Traced, which finds whatever does not fit; the next test trains on the richest pairs."""
    family, algorithm = AnySpaces(SEEN[seen], DONE[done]), tiny(name)
    if name == "maml":
        with pytest.raises(ConfigError, match="a SupervisedFamily for MAML"):
            algorithm.check(family)
        return
    if name == "sac" and not isinstance(family.action_space, Box):
        with pytest.raises(ConfigError, match=r"tasks.action_space is .* must be a Box"):
            algorithm.check(family)
        return
    algorithm.check(family)
    params, paid = jax.eval_shape(two_updates(algorithm, family), jax.random.key(0))
    assert paid.shape == (2,)
    assert jax.tree.leaves(params)


# The others take a minute to compile.
_SLOW = ("epopt", "policy-maml", "gmps")
TRAINED = ["rl2", *(pytest.param(name, marks=pytest.mark.slow) for name in _SLOW)]


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("done", KINDS)
def test_it_trains_on_mixed_observations(name, done):
    family, algorithm = AnySpaces(MIXED, DONE[done]), tiny(name)
    params, paid = jax.jit(two_updates(algorithm, family))(jax.random.key(0))
    assert np.all(np.isfinite(paid))
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(params))


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("done", [Dict({"a": Discrete(2)}), Tuple((Discrete(2), Discrete(2)))])
def test_actions_that_are_no_array_are_refused_by_name(name, done):
    kind = type(done).__name__
    known = f"tasks.action_space is {kind}.* must be a Discrete, MultiDiscrete or Box"
    with pytest.raises(ConfigError, match="SupervisedFamily" if name == "maml" else known):
        tiny(name).check(AnySpaces(Discrete(2), done))

    with pytest.raises(ConformanceError, match=f"family properties.*action_space is {kind}"):
        check_task_family(AnySpaces(Discrete(2), done))


@pytest.mark.parametrize("done", KINDS)
def test_a_family_of_mixed_observations_keeps_the_contract(done):
    check_task_family(AnySpaces(MIXED, DONE[done]), skip=["references"])
