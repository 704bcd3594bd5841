"""The baseline as a part: what it answers for itself, and one of a user's own."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import MLP, PPO, TRPO, EPOpt, GuidedMetaPolicySearch, LinearBaseline, Mean, PolicyMAML
from jaxmeta.parts.baseline import Baseline, Estimate, as_baseline
from jaxmeta_envs import ConfigError
from tests.toy_families import Counter

FAMILY = Counter()
SMALL = {"network": MLP((4,), "tanh"), "optimizer": PPO(epochs=1, minibatches=1)}


@dataclass(frozen=True)
class Nothing(Baseline):
    """Expects 0 of everything, and ends at a time limit."""

    @property
    def bootstraps(self):
        return False

    def estimate(self, actor, learned, steps, output):
        return Estimate(jnp.zeros_like(steps.reward), jnp.zeros(len(steps.reward)))

    def fitted(self, actor, steps, discount):
        return self.estimate(actor, (), steps, None)


@dataclass(frozen=True)
class Networked(Nothing):
    """Has layers, for the optimiser to train."""

    @property
    def layers(self):
        return MLP((3,))


def updated(algorithm, updates=1):
    state = algorithm.init(FAMILY, jax.random.key(0))
    update = jax.jit(algorithm.update, static_argnums=0)
    for step in range(updates):
        state, metrics = update(FAMILY, state, jax.random.key(step), jnp.int32(step))
    return state, metrics


def test_before_a_fit_the_linear_baseline_expects_nothing():
    epopt = EPOpt(num_tasks=4, risk=Mean(), normalize_observations=False, **SMALL)
    (own, _), (linear, _) = updated(replace(epopt, baseline=Nothing())), updated(epopt)
    jax.tree.map(np.testing.assert_array_equal, own.params, linear.params)
    assert own.baseline == ()
    assert np.any(np.asarray(linear.baseline) != 0)


def test_one_of_ones_own_serves_a_policy_that_adapts():
    maml = PolicyMAML(num_tasks=2, shots=2, baseline=Nothing(), **SMALL)
    assert not maml.bootstraps
    _, metrics = updated(maml, 2)
    assert all(np.isfinite(x) for x in metrics.values())
    assert metrics["value_explained"] == pytest.approx(0.0, abs=1e-5)


def test_layers_are_trained_by_the_optimiser_and_nothing_else_is():
    network, linear = as_baseline(MLP((5, 3))), as_baseline(LinearBaseline())
    assert (network.units, linear.units) == (8, 0)
    assert (network.bootstraps, linear.bootstraps) == (True, False)
    for optimizer in (PPO(), TRPO()):
        assert network.told(optimizer) == optimizer
        assert linear.told(optimizer) == optimizer.without_value() != optimizer
    params = EPOpt(baseline=Networked()).init(FAMILY, jax.random.key(0)).params
    assert {"value", "value_head"} <= set(params)


def test_guided_search_has_no_one_to_train_a_network():
    with pytest.raises(ConfigError, match=r"baseline is Networked\(\); it must be one that is fit"):
        GuidedMetaPolicySearch(baseline=Networked())
    with pytest.raises(ConfigError, match=r"baseline is MLP.* of type Baseline"):
        GuidedMetaPolicySearch(baseline=MLP())
