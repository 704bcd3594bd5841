"""Exact and numerical solutions of bandits with independent arms, in NumPy.

Two kinds of solution: the Gittins index of an arm, optimal for a geometrically
discounted trial that never ends, and the exact Bayes-optimal policy of a Bernoulli
bandit with a finite number of pulls, by dynamic programming. Everything is float64 and
cached by its arguments; returned arrays are read-only.

Axes: G grid of charges, M states (multisets of arm posteriors), A arms of a state.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from jaxmeta_envs.core.errors import require

MAX_STATES = 150_000
"""Largest state space that `solve_bernoulli_bandit` accepts.

About the size up to which a 32-bit hash without a collision is found in a few draws.
It admits, for example, 10 pulls of any number of arms or 50 pulls of 2 arms.
"""

MAX_LOOKAHEAD = 400
"""Most pulls beyond the trial that a Gittins calibration looks ahead."""

_CHARGES = 1000
"""Grid of charges in the Bernoulli calibration; refining it moves no index by 2e-4."""


def _frozen(*arrays: np.ndarray) -> None:
    """Marks cached arrays read-only: a caller that wrote to one would corrupt the cache."""
    for array in arrays:
        array.setflags(write=False)


def _lookahead(num_pulls: int, discount: float) -> int:
    """Depth of the calibration: the trial, and on until little of the discounted sum is left.

    Beyond it, the arm's mean is taken as known. That ignores only what would still be
    learned there, which is small twice: it is discounted, and the posterior is narrow.
    Looking 1500 pulls ahead instead moves no index of 100 pulls by more than 1e-5 at
    γ = 0.99 and 1e-3 at γ = 0.999.
    """
    require(num_pulls >= 1, "num_pulls", num_pulls, "an integer of at least 1")
    require(0.0 <= discount < 1.0, "discount", discount, "a number in [0, 1)")
    if discount == 0.0:
        return num_pulls
    return num_pulls + min(MAX_LOOKAHEAD, math.ceil(math.log(1e-4) / math.log(discount)))


@functools.lru_cache(maxsize=32)
def bernoulli_gittins_table(num_pulls: int, discount: float) -> np.ndarray:
    """Gittins indices of a Bernoulli arm with a uniform prior.

    The index of an arm with s successes and f failures is the charge λ per pull at which
    it is as good to retire as to go on, from the optimal stopping problem::

        E(s, f; λ) = max(0, p - λ + γ [p E(s+1, f; λ) + (1-p) E(s, f+1; λ)]),
        p = (s + 1) / (s + f + 2).

    It is solved backwards for a grid of λ at once; the root in λ is interpolated linearly.
    The recursion starts at depth ``num_pulls + min(400, log(1e-4) / log γ)`` from
    ``max(0, p - λ) / (1 - γ)``.

    Args:
        num_pulls: Largest number of pulls for which the index is needed, plus one.
        discount: γ in [0, 1).

    Returns:
        float64 ``[num_pulls, num_pulls]``, entry ``[s, f]``. Entries with
        ``s + f >= num_pulls`` are the posterior mean.

    Reference: Gittins, "Bandit Processes and Dynamic Allocation Indices", 1979.
    """
    depth = _lookahead(num_pulls, discount)
    charge = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, _CHARGES))
    successes, failures = np.indices((num_pulls, num_pulls))
    table = (successes + 1.0) / (successes + failures + 2.0)

    mean = (np.arange(depth + 1.0) + 1.0) / (depth + 2.0)
    excess = np.maximum(0.0, mean[:, None] - charge) / (1.0 - discount)  # [depth + 1, G]
    for pulls in range(depth - 1, -1, -1):
        mean = ((np.arange(pulls + 1.0) + 1.0) / (pulls + 2.0))[:, None]
        excess = discount * (excess[:-1] + mean * (excess[1:] - excess[:-1]))
        excess += mean - charge
        if pulls < num_pulls:
            s = np.arange(pulls + 1)
            # The excess falls in λ from above 0 at λ=0 to below 0 at λ=1.
            left = np.sum(excess > 0.0, axis=1) - 1
            above, below = excess[s, left], excess[s, left + 1]
            width = charge[left + 1] - charge[left]
            table[s, pulls - s] = charge[left] + width * above / (above - below)
        np.maximum(excess, 0.0, out=excess)
    _frozen(table)
    return table


@functools.lru_cache(maxsize=1)
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(32)


def _normal_continuation(
    z: np.ndarray, step: float, discount: float, threshold: float, excess
) -> np.ndarray:
    """Value of pulling once and then going on optimally, with known noise.

    With ``W(u) = u / (1 - γ) + excess(u)`` above ``threshold`` and 0 below it, this is
    ``z + γ ∫ W(u) N(u; z, step²) du``: the linear part in closed form, the rest by
    Gauss-Legendre quadrature from the kink on.

    Args:
        z: Posterior mean minus charge, ``[...]``.
        step: Standard deviation of the change of the posterior mean.
        discount: γ.
        threshold: Where stopping becomes optimal after the pull.
        excess: Option value of stopping later, ``[...] -> [...]``; 0 far above.

    Returns:
        The value, shaped like ``z``.
    """
    from scipy.special import ndtr

    distance = (z - threshold) / step
    density = np.exp(-0.5 * distance**2) / math.sqrt(2.0 * math.pi)
    linear = (z * ndtr(distance) + step * density) / (1.0 - discount)

    nodes, weights = _legendre()
    low = np.maximum(threshold, z - 8.0 * step)[..., None]
    high = np.maximum(low, z[..., None] + 8.0 * step)
    u = low + 0.5 * (high - low) * (nodes + 1.0)
    kernel = np.exp(-0.5 * ((u - z[..., None]) / step) ** 2) / (step * math.sqrt(2.0 * math.pi))
    curved = np.sum(0.5 * (high - low) * weights * kernel * excess(u), axis=-1)
    return z + discount * (linear + curved)


@functools.lru_cache(maxsize=32)
def gaussian_gittins_table(
    num_pulls: int, discount: float, prior_observations: float = 1.0
) -> np.ndarray:
    """Gittins indices of an arm with normal rewards of known variance, in standard form.

    The index of an arm with posterior mean μ, noise standard deviation σ and
    ``n = prior_observations + pulls`` observations is ``μ + σ v(n)``. Shifting all
    rewards shifts the index, so one optimal stopping problem in ``z = μ - λ`` gives all
    of them, with no grid of charges::

        C(z, n) = z + γ E[max(0, C(z', n + 1))],  z' ~ N(z, 1 / (n (n + 1))),
        C(-v(n), n) = 0.

    It is solved backwards from depth ``num_pulls + min(400, log(1e-4) / log γ)``, where
    ``C = z / (1 - γ)``. C is kept as a cubic spline from its root upwards.

    Args:
        num_pulls: Largest number of pulls for which the index is needed, plus one.
        discount: γ in [0, 1).
        prior_observations: What the prior is worth, ``noise variance / prior variance``.

    Returns:
        float64 ``[num_pulls]``, v after 0, 1, … pulls.

    Reference: Gittins, "Multi-armed Bandit Allocation Indices", 1989, chapter 7.
    """
    from scipy.interpolate import CubicSpline
    from scipy.optimize import root_scalar

    depth = _lookahead(num_pulls, discount)
    table = np.zeros(num_pulls)
    # Knots are dense near the root, where the curvature is, and end 12 posterior standard
    # deviations above it, where stopping later is worth nothing.
    offsets = 12.0 * np.linspace(0.0, 1.0, 120) ** 2
    root, excess = 0.0, np.zeros_like
    for pulls in range(depth - 1, -1, -1):
        n = prior_observations + pulls
        value = functools.partial(
            _normal_continuation,
            step=1.0 / math.sqrt(n * (n + 1.0)),
            discount=discount,
            threshold=root,
            excess=excess,
        )
        # The slope is at least 1, and the root at pulls + 1 is to the right of this one.
        start = float(value(np.array(root)))
        bracket = (root - start, root)
        root = float(root_scalar(lambda z, f=value: float(f(np.array(z))), bracket=bracket).root)
        knots = root + offsets / math.sqrt(n)
        spline = CubicSpline(knots, value(knots) - knots / (1.0 - discount))
        excess = functools.partial(_zero_above, spline, knots[-1])
        if pulls < num_pulls:
            table[pulls] = -root
    _frozen(table)
    return table


def _zero_above(spline, top: float, u: np.ndarray) -> np.ndarray:
    return np.where(u < top, spline(np.minimum(u, top)), 0.0)


def arm_code(successes, failures):
    """Numbers the posteriors of an arm: 0 is untouched, then by pulls, then by successes.

    Works on NumPy and JAX integers alike; an arm with t pulls and code c becomes
    ``c + t + 1`` after a failure and ``c + t + 2`` after a success.
    """
    pulls = successes + failures
    return pulls * (pulls + 1) // 2 + successes


class BernoulliSolution(NamedTuple):
    """The exact Bayes-optimal policy of a Bernoulli bandit with a finite trial.

    Attributes:
        value: Expected total reward.
        rewards: Expected reward of every pull, float64 ``[num_pulls]``; sums to ``value``.
        salts: uint32 ``[num_codes]`` by `arm_code`, 0 for an untouched arm. The key of a
            state is the sum over its arms modulo 2³², hence blind to their order and to
            arms never pulled. No two states share a key.
        keys: Keys of all states with a pull left, uint32 ``[M]``, ascending.
        arms: `arm_code` of the arm to pull in each, int32 ``[M]``.
    """

    value: float
    rewards: np.ndarray
    salts: np.ndarray
    keys: np.ndarray
    arms: np.ndarray


@functools.lru_cache(maxsize=64)
def _states_per_level(num_arms: int, num_pulls: int) -> np.ndarray:
    """Counts the states with 0, 1, …, ``num_pulls - 1`` pulls behind them.

    An arm with j pulls is in one of j+1 posteriors, so c such arms make ``C(j+c, c)``
    multisets. Counts saturate at 1e15.

    Returns:
        float64 ``[num_pulls]``.
    """
    ways = np.zeros((num_arms + 1, num_pulls))  # by arms touched and by pulls
    ways[0, 0] = 1.0
    for j in range(1, num_pulls):
        new = ways.copy()
        for c in range(1, min(num_arms, (num_pulls - 1) // j) + 1):
            choices = float(min(math.comb(j + c, c), 10**15))
            new[c:, c * j :] += choices * ways[:-c, : num_pulls - c * j]
        ways = np.minimum(new, 1e15)
    return ways.sum(axis=0)


def is_solvable(num_arms: int, num_pulls: int) -> bool:
    """Whether `solve_bernoulli_bandit` accepts this size; counts states, solves nothing."""
    arms = min(num_arms, num_pulls)
    # More arms only add states: two of them rule long trials out before the full count.
    if _states_per_level(min(arms, 2), num_pulls).sum() > MAX_STATES:
        return False
    return bool(_states_per_level(arms, num_pulls).sum() <= MAX_STATES)


def solve_bernoulli_bandit(num_arms: int, num_pulls: int) -> BernoulliSolution:
    """Solves a Bernoulli bandit with independent uniform priors exactly.

    A state is the multiset of its arms' posteriors (s, f), since arms are exchangeable;
    with t pulls behind it ::

        V_t(x) = max_a p_a (1 + V_{t+1}(x, a succeeds)) + (1 - p_a) V_{t+1}(x, a fails),
        p_a = (s_a + 1) / (s_a + f_a + 2),  V_n = 0.

    More arms than pulls change nothing, since at least one stays untouched anyway.

    Args:
        num_arms: Arms, each with success probability uniform on [0, 1].
        num_pulls: Pulls in the trial, n.

    Raises:
        ConfigError: If there are more than `MAX_STATES` states.
    """
    require(num_arms >= 1, "num_arms", num_arms, "an integer of at least 1")
    require(num_pulls >= 1, "num_pulls", num_pulls, "an integer of at least 1")
    require(
        is_solvable(num_arms, num_pulls),
        "(num_arms, num_pulls)",
        (num_arms, num_pulls),
        f"a size with at most {MAX_STATES} states",
    )
    return _solve(min(num_arms, num_pulls), num_pulls)


class _Level(NamedTuple):
    """The states with equally many pulls behind them.

    Attributes:
        codes: `arm_code` of every arm, ``[M, A]``.
        children: Row in the next level if the arm fails or succeeds, ``[M, A, 2]``; empty
            for the last level.
    """

    codes: np.ndarray
    children: np.ndarray


@functools.lru_cache(maxsize=16)
def _solve(num_arms: int, num_pulls: int) -> BernoulliSolution:
    successes, pulls = _decode(num_pulls)
    success_probability = (successes + 1.0) / (pulls + 2.0)
    levels = _enumerate(num_arms, num_pulls, pulls)

    value = np.zeros(0)
    best_arms = []
    for level in reversed(levels):
        p = success_probability[level.codes]
        total = p.copy()
        if level.children.size:
            after = value[level.children]
            total += p * after[..., 1] + (1.0 - p) * after[..., 0]
        best = np.argmax(total, axis=1)
        value = np.take_along_axis(total, best[:, None], axis=1)[:, 0]
        best_arms.insert(0, best)

    rewards = np.zeros(num_pulls)
    reach = np.ones(1)  # probability of each state under the optimal policy
    for t, (level, best) in enumerate(zip(levels, best_arms, strict=True)):
        rows = np.arange(len(best))
        p = success_probability[level.codes[rows, best]]
        rewards[t] = reach @ p
        if level.children.size:
            weight = np.stack([reach * (1.0 - p), reach * p], axis=1)
            reach = np.bincount(level.children[rows, best].ravel(), weight.ravel())
            reach = np.pad(reach, (0, len(levels[t + 1].codes) - len(reach)))

    codes = np.concatenate([level.codes for level in levels])
    arms = np.concatenate(
        [level.codes[np.arange(len(b)), b] for level, b in zip(levels, best_arms, strict=True)]
    )
    salts, keys = _collision_free_keys(codes, len(pulls))
    order = np.argsort(keys)
    keys, arms = keys[order], arms[order].astype(np.int32)
    _frozen(rewards, salts, keys, arms)
    return BernoulliSolution(float(value[0]), rewards, salts, keys, arms)


def _decode(num_pulls: int) -> tuple[np.ndarray, np.ndarray]:
    """Successes and pulls of every code with fewer than ``num_pulls`` pulls."""
    pulls = np.repeat(np.arange(num_pulls), np.arange(1, num_pulls + 1))
    return np.arange(len(pulls)) - pulls * (pulls + 1) // 2, pulls


def _random_salts(seed: int, num_codes: int, dtype: type) -> np.ndarray:
    rng = np.random.default_rng(seed)
    salts = rng.integers(0, np.iinfo(dtype).max, size=num_codes, dtype=dtype, endpoint=True)
    salts[0] = 0
    return salts


def _enumerate(num_arms: int, num_pulls: int, pulls_of: np.ndarray) -> list[_Level]:
    """Lists every state with a pull left, level by level.

    States are told apart by a 64-bit sum of salts. That no two were merged is not left to
    luck: each level must have as many states as were counted.
    """
    salts = _random_salts(0, len(pulls_of), np.uint64)
    counts = _states_per_level(num_arms, num_pulls)
    codes, hashes = np.zeros((1, num_arms), np.int32), np.zeros(1, np.uint64)
    levels = []
    for t in range(num_pulls - 1):
        failure = (codes + pulls_of[codes] + 1).astype(np.int32)
        child = np.stack([failure, failure + 1], axis=-1)  # [M, A, 2]
        child_hash = (hashes[:, None] - salts[codes])[..., None] + salts[child]
        hashes, first, inverse = np.unique(child_hash, return_index=True, return_inverse=True)
        levels.append(_Level(codes, inverse.reshape(child.shape)))
        row, arm, outcome = np.unravel_index(first, child.shape)
        new = codes[row]
        new[np.arange(len(row)), arm] = child[row, arm, outcome]
        codes = new
        if len(codes) != counts[t + 1]:
            raise AssertionError(f"{len(codes)} states after {t + 1} pulls, not {counts[t + 1]}")
    levels.append(_Level(codes, np.zeros((len(codes), num_arms, 0), np.int64)))
    return levels


def _collision_free_keys(codes: np.ndarray, num_codes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws 32-bit salts until all states have different keys.

    32 bits because JAX has no 64-bit integers by default. One draw succeeds with
    probability about ``exp(-M² / 2³³)``: 0.8 for 45k states, 0.07 for `MAX_STATES`.
    """
    for seed in range(10_000):
        salts = _random_salts(seed, num_codes, np.uint32)
        keys = salts[codes].sum(axis=1, dtype=np.uint32)
        if len(np.unique(keys)) == len(keys):
            return salts, keys
    raise AssertionError(f"no collision-free hash of {len(codes)} states")
