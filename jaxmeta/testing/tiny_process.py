"""A decision process small enough to enumerate: its episodes, and exact derivatives.

NumPy in float64 by explicit formulas: no automatic differentiation, nothing random. Axes:
S states, A actions, P = S·A parameters, T steps, M episodes that can happen, C batches of them.
Leading axes ``...`` of parameters are any.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

Terms = Literal["none", "log_likelihood", "likelihood_ratio", "dice"]
"""Which terms of the second derivative are kept: none, H2, H1 + H2, or all."""


class Episodes(NamedTuple):
    """All episodes that can happen; steps after an early end have state, action, reward 0.

    Attributes:
        state: ``[M, T]``.
        action: ``[M, T]``.
        reward: ``[M, T]``.
        mask: Whether a step is played, ``[M, T]``.
        chance: Probability of what the process draws, given the actions, ``[M]``.
    """

    state: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    mask: np.ndarray
    chance: np.ndarray


class HessianTerms(NamedTuple):
    """Terms of ``∇²j = first + second + mixed + mixedᵀ``, each ``[P, P]``.

    Attributes:
        first: H1, of products of scores.
        second: H2, of the curvature of the log-likelihood.
        mixed: H12, of how actions change the value of later ones.
    """

    first: np.ndarray
    second: np.ndarray
    mixed: np.ndarray

    def keep(self, terms: Terms) -> np.ndarray:
        """Returns the sum of the terms that are kept, ``[P, P]``."""
        kept = {
            "none": np.zeros_like(self.first),
            "log_likelihood": self.second,
            "likelihood_ratio": self.first + self.second,
            "dice": self.first + self.second + self.mixed + self.mixed.T,
        }
        return kept[terms]


@dataclass(frozen=True, eq=False)
class TinyProcess:
    """A decision process whose episodes can be listed.

    Attributes:
        start: Probability of the first state, ``[S]``.
        transition: Probability of the next state, ``[S, A, S]``.
        reward: ``[S, A]``.
        stops: Whether an episode ends after an action, ``[S, A]``.
        horizon: T, the most steps of an episode.
    """

    start: np.ndarray
    transition: np.ndarray
    reward: np.ndarray
    stops: np.ndarray
    horizon: int

    @staticmethod
    def draw(
        seed: int,
        horizon: int = 2,
        *,
        states: int = 2,
        actions: int = 2,
        certain: bool = False,
        ends: bool = False,
    ) -> TinyProcess:
        """Returns a process with random rewards and transitions that begins in state 0.

        Args:
            seed: Of what is random.
            horizon: T.
            states: S.
            actions: A.
            certain: Whether the action is the next state (modulo S), which leaves few episodes.
            ends: Whether the first action ends an episode.
        """
        rng = np.random.default_rng(seed)
        transition = rng.dirichlet(np.ones(states), (states, actions))
        if certain:
            transition = np.tile(np.eye(states)[np.arange(actions) % states], (states, 1, 1))
        stops = np.zeros((states, actions), bool)
        stops[:, 0] = ends
        reward = rng.normal(size=(states, actions))
        return TinyProcess(np.eye(states)[0], transition, reward, stops, horizon)

    @cached_property
    def episodes(self) -> Episodes:
        """All episodes with a chance above 0."""
        rows: list[tuple] = []

        def play(state: int, chance: float, steps: tuple) -> None:
            if chance == 0:
                return
            for action in range(self.reward.shape[1]):
                longer = (*steps, (state, action, self.reward[state, action], True))
                if self.stops[state, action] or len(longer) == self.horizon:
                    unplayed = ((0, 0, 0.0, False),) * (self.horizon - len(longer))
                    rows.append((*zip(*longer, *unplayed, strict=True), chance))
                    continue
                for after, probability in enumerate(self.transition[state, action]):
                    play(after, chance * probability, longer)

        for state, probability in enumerate(self.start):
            play(state, probability, ())
        return Episodes(*(np.array(column) for column in zip(*rows, strict=True)))

    @cached_property
    def taken(self) -> np.ndarray:
        """Which state and action a step was, ``[M, T, S, A]``; 0 if it was not played."""
        states, actions = self.reward.shape
        episodes = self.episodes
        state, action = np.eye(states)[episodes.state], np.eye(actions)[episodes.action]
        return np.einsum("mt,mts,mta->mtsa", episodes.mask, state, action)

    def probability(self, theta: np.ndarray) -> np.ndarray:
        """Returns the probability of each episode, ``[..., M]``."""
        log = np.einsum("mtsa,...sa->...m", self.taken, np.log(softmax(theta)))
        return self.episodes.chance * np.exp(log)

    def score(self, theta: np.ndarray) -> np.ndarray:
        """Returns ``∇log π(a_t | s_t)`` of each step, ``[..., M, T, P]``."""
        visited = self.taken.sum(3, keepdims=True)
        score = self.taken - visited * softmax(theta)[..., None, None, :, :]
        return score.reshape(*score.shape[:-2], -1)

    def curvature(self, theta: np.ndarray) -> np.ndarray:
        """Returns ``∇² log π(a_t | s_t)`` of each step, ``[..., M, T, P, P]``."""
        of_states = state_curvature(theta)
        return np.einsum("mts,...spq->...mtpq", self.taken.sum(3), of_states)

    def value(self, theta: np.ndarray) -> np.ndarray:
        """Returns j, the expected reward per step, ``[...]``."""
        return self.probability(theta) @ self.episodes.reward.sum(1) / self.horizon

    def length(self, theta: np.ndarray) -> np.ndarray:
        """Returns the expected number of steps of an episode, ``[...]``."""
        return self.probability(theta) @ self.episodes.mask.sum(1)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """Returns ``∇j``, ``[..., P]``."""
        weight = self.probability(theta) * self.episodes.reward.sum(1) / self.horizon
        visits = self.taken.sum(1)  # summed over steps first: there may be many θ
        actions = np.einsum("...m,msa->...sa", weight, visits)
        states = np.einsum("...m,ms->...s", weight, visits.sum(2))
        gradient = actions - states[..., None] * softmax(theta)
        return gradient.reshape(*gradient.shape[:-2], -1)

    def hessian_terms(self, theta: np.ndarray, baseline: np.ndarray | None = None) -> HessianTerms:
        """Returns the terms of ``∇²j`` at θ ``[S, A]``, by dynamic programming.

        Args:
            theta: Logits.
            baseline: Subtracted from the return from a step on, by its time and state,
                ``[T, S]``. It moves weight between H1 and H2.
        """
        states, actions = self.reward.shape
        policy, curvature = softmax(theta), state_curvature(theta)
        score = np.eye(states * actions).reshape(states, actions, -1)
        score = score - np.einsum("sa,sap->sp", policy, score)[:, None]
        q, dq = self._action_values(policy, score)
        advantage = q if baseline is None else q - baseline[:, :, None]
        goes_on = self.transition * ~self.stops[:, :, None]
        reached, terms = self.start, np.zeros((3, states * actions, states * actions))
        for t in range(self.horizon):
            weight = reached[:, None] * policy
            weighted = weight * advantage[t]
            terms[0] += np.einsum("sa,sap,saq->pq", weighted, score, score)
            terms[1] += np.einsum("sa,spq->pq", weighted, curvature)
            terms[2] += np.einsum("sa,sap,saq->pq", weight, score, dq[t])
            reached = np.einsum("sa,saz->z", weight, goes_on)
        return HessianTerms(*(terms / self.horizon))

    def state_values(self, theta: np.ndarray) -> np.ndarray:
        """Returns the expected return from a time and state on, ``[T, S]``: a baseline."""
        policy = softmax(theta)
        nothing = np.zeros((*self.reward.shape, self.reward.size))
        return np.einsum("sa,tsa->ts", policy, self._action_values(policy, nothing)[0])

    def _action_values(
        self, policy: np.ndarray, score: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the values of actions ``[T, S, A]`` and their derivatives ``[T, S, A, P]``."""
        goes_on = self.transition * ~self.stops[:, :, None]
        value, slope = np.zeros(len(policy)), np.zeros((len(policy), policy.size))
        values, slopes = [], []
        for _ in range(self.horizon):
            values.insert(0, self.reward + goes_on @ value)
            slopes.insert(0, goes_on @ slope)
            value = np.sum(policy * values[0], 1)
            slope = np.einsum("sa,sap->sp", policy, score * values[0][..., None] + slopes[0])
        return np.stack(values), np.stack(slopes)

    def advantage(self, baseline: np.ndarray | None = None) -> np.ndarray:
        """Returns the return from each step on, less a baseline ``[T, S]``: ``[M, T]``."""
        episodes = self.episodes
        to_go = np.cumsum(episodes.reward[:, ::-1], axis=1)[:, ::-1]
        if baseline is not None:
            to_go = to_go - baseline[np.arange(self.horizon), episodes.state]
        return to_go * episodes.mask

    def surrogate_derivatives(
        self, theta: np.ndarray, terms: Terms, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the two derivatives of weighted sums of a surrogate over steps.

        Args:
            theta: Logits, ``[..., S, A]``.
            terms: What the second derivative keeps.
            weight: Of the steps in each of C sums, advantages included, ``[C, M, T]``.

        Returns:
            ``[..., C, P]`` and ``[..., C, P, P]``.
        """
        score = self.score(theta)
        size = score.shape[-1]

        def total(of_steps: np.ndarray, axes: int) -> np.ndarray:
            shape = of_steps.shape[: of_steps.ndim - axes - 2]
            rows = of_steps.reshape(*shape, -1, size**axes)
            summed = weight.reshape(len(weight), -1) @ rows
            return summed.reshape(*shape, len(weight), *(size,) * axes)

        def products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return a[..., :, None] * b[..., None, :]

        first = total(score, 1)
        if terms == "none":
            return first, np.zeros((*first.shape, size))
        second = self.curvature(theta)
        if terms != "log_likelihood":
            second = second + products(score, score)
        if terms == "dice":
            before = np.cumsum(score, axis=-2) - score
            second = second + products(before, score) + products(score, before)
        return first, total(second, 2)


def softmax(theta: np.ndarray) -> np.ndarray:
    """Returns the probabilities of actions, of the shape of θ."""
    weight = np.exp(theta - theta.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def state_curvature(theta: np.ndarray) -> np.ndarray:
    """Returns ``∇² log π(a | s)``, which no action changes, ``[..., S, P, P]``."""
    policy = softmax(theta)
    states, actions = policy.shape[-2:]
    block = policy[..., :, None] * (policy[..., None, :] - np.eye(actions))
    pick = np.eye(states)
    whole = np.einsum("...sab,sx,sy->...sxayb", block, pick, pick)
    return whole.reshape(*policy.shape[:-1], states * actions, states * actions)
