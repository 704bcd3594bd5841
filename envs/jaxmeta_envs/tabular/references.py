r"""Classical algorithms for unknown tabular processes, and the optimum of a known one.

All plan by backward induction over the steps of an episode, once before each episode, and
differ in the process that they plan for: the true one (`oracle`), the mean of the posterior
(`greedy`, `epsilon_greedy`), draws from it (`psrl`, `opsrl`), or the mean with a bonus for
what is little known (`beb`, `ucrl2`). Their numbers are arrays in ``params``, so that a grid
of them is one ``vmap`` and one compilation; `jaxmeta_envs.tabular.candidates` has those of the
paper.

What they believe before the first episode is the family's prior, unless told otherwise:

    prior_mean: The mean that the expected rewards are believed to have. The paper's columns
        are those of 0, not those of the family's own mean of 1.
    prior_weight: What the prior counts for, relative to the family's own: it multiplies the
        precision of the expected rewards and the concentration of the transitions. Near 0
        only the data count, and what was never tried is worth ``prior_mean``.

Ties, which are many while most actions are untried, are broken at random. As in the paper,
the transition of an episode's last step is not counted, unless with ``count_last``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta_envs.core.contracts import AdaptivePolicy, PolicyInput, Reference, Trajectory
from jaxmeta_envs.core.errors import require, require_number
from jaxmeta_envs.tabular.planning import (
    Posterior,
    Prior,
    nothing_seen,
    observe,
    optimal_q,
    optimistic_q,
    reward_moments,
    sample_process,
    transition_mean,
)

if TYPE_CHECKING:
    from jaxmeta_envs.tabular.mdp import TabularMDP

NO_PRIOR = 1e-4
"""The ``prior_weight`` of the algorithms that the paper runs without a prior."""

_CONFIDENCE = 0.05
"""δ of UCRL2's confidence bounds."""


class PlannerParams(NamedTuple):
    """What a planner reads.

    Attributes:
        prior: What it believes before the first episode.
        setting: The number that is tuned, a scalar; 0 where there is none.
    """

    prior: Prior
    setting: Array


class _Plan(NamedTuple):
    """Carry of a planner: what it knows, its values ``[H, S, A]``, the step it is at."""

    posterior: Posterior
    q: Array
    step: Array


Planner = Callable[["TabularMDP", PlannerParams, Posterior, Array], Array]
"""``(family, params, posterior, key) -> q [H, S, A]``."""


def _act_greedily(q: Array, key: Array) -> Array:
    """Returns an action of largest value, drawn uniformly among equals; ``q`` is ``[A]``."""
    # Actions never tried have equal values up to the rounding of equal sums.
    best = q >= q.max() - 1e-5 * (1 + jnp.abs(q.max()))
    return jax.random.categorical(key, jnp.where(best, 0.0, -jnp.inf)).astype(jnp.int32)


def _act_by_plan(params: Any, carry: _Plan, inputs: PolicyInput, key: Array) -> tuple[Array, _Plan]:
    """Reads the values at the step of the episode."""
    del params
    step = jnp.where(inputs.episode_start, 0, carry.step)
    action = _act_greedily(carry.q[step, inputs.obs], key)
    return action, carry._replace(step=step + 1)


def _act_with_noise(
    params: PlannerParams, carry: _Plan, inputs: PolicyInput, key: Array
) -> tuple[Array, _Plan]:
    """Reads the values, but draws any action with probability ``params.setting``."""
    plan_key, explore_key, any_key = jax.random.split(key, 3)
    planned, carry = _act_by_plan(params, carry, inputs, plan_key)
    explore = jax.random.uniform(explore_key) < params.setting
    drawn = jax.random.randint(any_key, (), 0, carry.q.shape[-1], jnp.int32)
    return jnp.where(explore, drawn, planned), carry


@functools.lru_cache(maxsize=256)
def _policy(
    family: TabularMDP, plan: Planner, count_last: bool, noise: bool = False
) -> AdaptivePolicy:
    """Builds the policy that replans before every episode.

    Cached, so that equal families and planners give equal policies: one compilation serves
    all their parameters.
    """

    def begin(params: PlannerParams, key: Array) -> _Plan:
        posterior = nothing_seen(family.num_states, family.num_actions)
        return _Plan(posterior, plan(family, params, posterior, key), jnp.zeros((), jnp.int32))

    def adapt(params: PlannerParams, carry: _Plan, episodes: Trajectory, key: Array) -> _Plan:
        posterior = observe(carry.posterior, episodes, count_last)
        return carry._replace(posterior=posterior, q=plan(family, params, posterior, key))

    return AdaptivePolicy(begin, _act_with_noise if noise else _act_by_plan, adapt)


def _params(
    family: TabularMDP,
    prior_mean: float | Array | None,
    prior_weight: float | Array = 1.0,
    setting: float | Array = 0.0,
) -> PlannerParams:
    mean = family.prior_mean if prior_mean is None else prior_mean
    prior = (
        mean,
        prior_weight * family.prior_std**-2,
        family.reward_std**-2,
        prior_weight * family.dirichlet,
    )
    number = functools.partial(jnp.asarray, dtype=jnp.float32)
    return PlannerParams(Prior(*map(number, prior)), number(setting))


def _is_prior(prior_mean: float | Array | None, prior_weight: float | Array = 1.0) -> bool:
    """Returns whether a prior is that of the tasks; `_params` knows the rest of it."""
    return prior_mean is None and isinstance(prior_weight, float) and prior_weight == 1.0


def oracle(family: TabularMDP) -> Reference:
    """Returns the optimal policy of a known process."""

    def begin(params: Any, key: Array) -> _Plan:
        del key
        _, task = params
        q = optimal_q(task.reward_mean, task.transition, family.horizon)
        return _Plan(Posterior(*[jnp.zeros((), jnp.float32)] * 3), q, jnp.zeros((), jnp.int32))

    return Reference(AdaptivePolicy(begin, _act_by_plan), told_task=True)


def _plan_for_mean(
    family: TabularMDP, params: PlannerParams, posterior: Posterior, key: Array
) -> Array:
    del key
    reward, _ = reward_moments(params.prior, posterior)
    return optimal_q(reward, transition_mean(params.prior, posterior), family.horizon)


def greedy(
    family: TabularMDP,
    prior_mean: float | Array | None = None,
    count_last: bool = False,
    prior_weight: float | Array = 1.0,
) -> Reference:
    """Returns the policy that is optimal for the posterior mean of the process.

    It plans once per episode and never explores on purpose; all arguments but the family
    are as for the module.

    Reference:
        Duan et al. (2016), table 2, "Greedy".
    """
    policy = _policy(family, _plan_for_mean, count_last)
    knows = _is_prior(prior_mean, prior_weight)
    return Reference(policy, _params(family, prior_mean, prior_weight), knows_prior=knows)


def epsilon_greedy(
    family: TabularMDP,
    epsilon: float | Array = 0.1,
    prior_mean: float | Array | None = None,
    count_last: bool = False,
    prior_weight: float | Array = 1.0,
) -> Reference:
    """Greedy, but a uniformly drawn action with probability ``epsilon``.

    Args:
        family: The task family.
        epsilon: In [0, 1].
        prior_mean: As for the module.
        count_last: As for the module.
        prior_weight: As for the module. The paper's column is that of `NO_PRIOR`, with a
            mean of 0: 4 points fewer than with the full weight over 10 episodes.

    Reference:
        Duan et al. (2016), table 2.
    """
    require_number("epsilon", epsilon, least=0, most=1)
    policy = _policy(family, _plan_for_mean, count_last, noise=True)
    params = _params(family, prior_mean, prior_weight, epsilon)
    return Reference(policy, params, knows_prior=_is_prior(prior_mean, prior_weight))


def _plan_for_draw(
    family: TabularMDP, params: PlannerParams, posterior: Posterior, key: Array
) -> Array:
    return optimal_q(*sample_process(key, params.prior, posterior), family.horizon)


def psrl(
    family: TabularMDP, prior_mean: float | Array | None = None, count_last: bool = False
) -> Reference:
    """Returns posterior sampling: before each episode it draws a process and solves it.

    Args:
        family: The task family.
        prior_mean: As for the module.
        count_last: As for the module.

    Reference:
        Osband et al. (2013), "(More) efficient reinforcement learning via posterior
        sampling".
    """
    policy = _policy(family, _plan_for_draw, count_last)
    return Reference(policy, _params(family, prior_mean), knows_prior=_is_prior(prior_mean))


def _plan_for_draws(
    family: TabularMDP, params: PlannerParams, posterior: Posterior, key: Array
) -> Array:
    def draw(i: Array | int) -> Array:
        return _plan_for_draw(family, params, posterior, jax.random.fold_in(key, i))

    # A loop rather than a batch: one program serves every number of draws.
    return jax.lax.fori_loop(
        1, params.setting.astype(jnp.int32), lambda i, q: jnp.maximum(q, draw(i)), draw(0)
    )


def opsrl(
    family: TabularMDP,
    num_samples: int | Array = 10,
    prior_mean: float | Array | None = None,
    count_last: bool = False,
) -> Reference:
    r"""Returns optimistic posterior sampling.

    Before each episode it draws processes and solves each; it acts on

    .. math:: Q_h(s, a) = \max_{i \le \texttt{num\_samples}} Q^{(i)}_h(s, a).

    Args:
        family: The task family.
        num_samples: Processes drawn, at least 1; with 1 it is `psrl`.
        prior_mean: As for the module.
        count_last: As for the module.

    Reference:
        Osband and Van Roy (2017), "Why is posterior sampling better than optimism for
        reinforcement learning?".
    """
    require_number("num_samples", num_samples, least=1)
    policy = _policy(family, _plan_for_draws, count_last)
    params = _params(family, prior_mean, setting=num_samples)
    return Reference(policy, params, knows_prior=_is_prior(prior_mean))


def _plan_with_reward_bonus(
    family: TabularMDP, params: PlannerParams, posterior: Posterior, key: Array
) -> Array:
    del key
    beta = 2 * family.horizon**2 * params.setting
    reward, _ = reward_moments(params.prior, posterior)
    reward += beta / (1 + posterior.visits)
    return optimal_q(reward, transition_mean(params.prior, posterior), family.horizon)


def _plan_with_value_bonus(
    family: TabularMDP, params: PlannerParams, posterior: Posterior, key: Array
) -> Array:
    del key
    prior = params.prior
    beta = 2 * family.horizon**2 * params.setting
    reward, _ = reward_moments(prior, posterior)
    precision = (prior.reward_precision / prior.noise_precision) + posterior.visits
    concentration = jnp.sum(prior.dirichlet + posterior.transitions, axis=-1)
    return optimal_q(
        reward + 1 / (1 + precision),
        transition_mean(prior, posterior),
        family.horizon,
        value_bonus=beta * family.horizon / (1 + concentration),
    )


def beb(
    family: TabularMDP,
    scaling: float | Array = 3e-3,
    prior_mean: float | Array | None = None,
    count_last: bool = False,
    bonus: Literal["reward", "value"] = "reward",
) -> Reference:
    r"""Returns the Bayesian exploration bonus: greedy, paid for what is little known.

    With :math:`\beta = 2 H^2 \cdot \texttt{scaling}`, H the steps of an episode and n the
    visits of a state and action, the bonus is

    * "reward", as published: :math:`\beta / (1 + n)`, added to the expected reward;
    * "value", as in the RL² paper: :math:`1 / (1 + n_0 + n)` on the reward and
      :math:`\beta H / (1 + \alpha + m)` for every step left after this one, where
      :math:`n_0` is what the prior is worth in rewards, :math:`\alpha` the sum of the
      prior's concentrations and m the transitions counted.

    Where the prior is worth one reward, as in `TabularMDP` by default, the first is the same
    as `greedy` with a prior mean that is β higher.

    Args:
        family: The task family.
        scaling: At 1, β is the value of the published guarantee. The default is good for
            the "reward" bonus with the true prior of `TabularMDP`; for "value" with a
            prior mean of 0 the best is near 0.0016.
        prior_mean: As for the module.
        count_last: As for the module.
        bonus: Which of the two.

    Reference:
        Kolter and Ng (2009), "Near-Bayesian exploration in polynomial time". The other
        bonus was identified from the figures of Duan et al. (2016), table 2, which it
        reproduces; it is the one of the public library by Osband that they cite.
    """
    plans = {"reward": _plan_with_reward_bonus, "value": _plan_with_value_bonus}
    require_number("scaling", scaling, least=0)
    require(bonus in plans, "bonus", bonus, "'reward' or 'value'")
    params = _params(family, prior_mean, setting=scaling)
    policy = _policy(family, plans[bonus], count_last)
    return Reference(policy, params, knows_prior=_is_prior(prior_mean))


def _plan_for_bounds(
    family: TabularMDP, params: PlannerParams, posterior: Posterior, key: Array
) -> Array:
    del key
    pairs = family.num_states * family.num_actions
    episode = 1 + posterior.visits.sum() / family.horizon
    log = jnp.log(2 * pairs * (episode + 1) / _CONFIDENCE)
    moves = posterior.transitions.sum(-1)
    reward, _ = reward_moments(params.prior, posterior)
    reward += params.setting * jnp.sqrt(4 * log / jnp.maximum(posterior.visits, 1))
    width = params.setting * jnp.sqrt(4 * family.num_states * log / jnp.maximum(moves, 1))
    return optimistic_q(reward, transition_mean(params.prior, posterior), width, family.horizon)


def ucrl2(
    family: TabularMDP,
    scaling: float | Array = 0.4,
    prior_mean: float | Array | None = None,
    count_last: bool = False,
) -> Reference:
    r"""Returns the policy that is optimal for the best process within confidence bounds.

    Around the empirical means, before episode e = 1, 2, …, with n visits and m transitions
    counted, S states and A actions, the bounds are

    .. math:: c \sqrt{4 L / \max(n, 1)} \text{ for } \mu_{sa}, \quad
        c \sqrt{4 S L / \max(m, 1)} \text{ for } P(\cdot \mid s, a) \text{ in the 1-norm},
        \quad L = \log(2 S A (e + 1) / 0.05).

    Args:
        family: The task family.
        scaling: c.
        prior_mean: What an action never tried is taken to pay, before its bonus; its next
            state is taken to be uniform. As for the module.
        count_last: As for the module.

    Reference:
        Jaksch, Ortner and Auer (2010), "Near-optimal regret bounds for reinforcement
        learning".
    Differs from the paper: that one has an infinite horizon, replans when the visits of a
    pair have doubled, and uses :math:`7/2` and 14 (with fewer states and actions in the
    logarithm) in place of 4. These are the constants that give the column of Duan et al.
    (2016), table 2.
    """
    require_number("scaling", scaling, least=0)
    policy = _policy(family, _plan_for_bounds, count_last)
    return Reference(policy, _params(family, prior_mean, NO_PRIOR, scaling))
