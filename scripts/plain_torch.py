"""MAML in PyTorch as one would write it by hand: the yardstick of ``compare_torch.py``.

Three programs, each in the manner of public implementations: MAML on sinusoids with a Python loop
over the tasks of a batch, the same with ``torch.func`` over all tasks at once, and MAML with TRPO
on 2D navigation. The mathematics, sizes and counts are those of ``jaxmeta``; what makes a library
is left out.

Reference: Finn et al. 2017, arXiv 1703.03400; Schulman et al. 2015, arXiv 1502.05477.
"""

# pyright: reportMissingImports=false
# PyTorch is an extra that the types are checked without.

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

Params = list[Tensor]


def init_network(sizes: tuple[int, ...]) -> Params:
    """Returns weights and biases of a feed-forward network, in turns."""
    params: Params = []
    for inputs, outputs in itertools.pairwise(sizes):
        params.append((torch.randn(inputs, outputs) / math.sqrt(inputs)).requires_grad_())
        params.append(torch.zeros(outputs, requires_grad=True))
    return params


def forward(params: Params, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns outputs of the network."""
    for i in range(0, len(params), 2):
        x = x @ params[i] + params[i + 1]
        x = activation(x) if i + 2 < len(params) else x
    return x


def sinusoids(tasks: int, points: int) -> tuple[Tensor, Tensor]:
    """Draws points of sine waves, ``[tasks, points, 1]`` each."""
    amplitude = 0.1 + 4.9 * torch.rand(tasks, 1, 1)
    phase = math.pi * torch.rand(tasks, 1, 1)
    x = 10.0 * torch.rand(tasks, points, 1) - 5.0
    return x, amplitude * torch.sin(x - phase)


def error(params: Params, x: Tensor, y: Tensor) -> Tensor:
    """Returns the mean squared error of a ReLU network."""
    return torch.mean((forward(params, x, torch.relu) - y) ** 2)


def sinusoid_by_loop(tasks: int = 25, shots: int = 10) -> Iterator[float]:
    """MAML, a task after the other; yields the loss of every outer iteration."""
    params = init_network((1, 40, 40, 1))
    optimizer = torch.optim.Adam(params, lr=1e-3)
    while True:
        x, y = sinusoids(tasks, 2 * shots)
        total = torch.zeros(())
        for i in range(tasks):
            before = error(params, x[i, :shots], y[i, :shots])
            grads = torch.autograd.grad(before, params, create_graph=True)
            adapted = [p - 0.01 * g for p, g in zip(params, grads, strict=True)]
            total = total + error(adapted, x[i, shots:], y[i, shots:]) / tasks
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        yield total.item()


def sinusoid_by_func(tasks: int = 25, shots: int = 10) -> Iterator[float]:
    """The same with ``torch.func``: gradients as functions, all tasks at once."""
    params = init_network((1, 40, 40, 1))
    optimizer = torch.optim.Adam(params, lr=1e-3)

    def after(params: Params, x: Tensor, y: Tensor) -> Tensor:
        grads = torch.func.grad(error)(params, x[:shots], y[:shots])
        adapted = [p - 0.01 * g for p, g in zip(params, grads, strict=True)]
        return error(adapted, x[shots:], y[shots:])

    batched = torch.func.vmap(after, in_dims=(None, 0, 0))
    while True:
        loss = batched(params, *sinusoids(tasks, 2 * shots)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


class Episodes(NamedTuple):
    """Episodes of one task, ``[T, N, ...]``.

    Attributes:
        obs: Positions.
        action: Moves.
        advantage: Standardised over what was played.
        mask: Whether the step was played, 0 or 1.
    """

    obs: Tensor
    action: Tensor
    advantage: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Navigation:
    """Sizes and settings of MAML with TRPO on 2D navigation.

    Attributes:
        tasks: Goals per meta-iteration.
        shots: Episodes per goal, before and after adaptation.
        length: Longest episode.
        hidden: Units of each of two tanh layers.
        step: Of the inner loop.
        max_kl: Bound on the divergence of a meta-iteration.
        cg_iterations: Of conjugate gradients.
        damping: Added to the Hessian's diagonal.
        line_search_steps: At most.
    """

    tasks: int = 20
    shots: int = 20
    length: int = 100
    hidden: int = 64
    step: float = 0.1
    max_kl: float = 0.01
    cg_iterations: int = 10
    damping: float = 0.01
    line_search_steps: int = 10
    discount: float = 0.99


def act(params: Params, obs: Tensor) -> Normal:
    """Returns the policy: a network for the mean, and a learned deviation."""
    return Normal(forward(params[:-1], obs, torch.tanh), params[-1].exp())


def play(settings: Navigation, params: Params, goal: np.ndarray) -> tuple[Episodes, float]:
    """Plays ``shots`` episodes of one goal side by side; returns them and their mean return."""
    position = np.zeros((settings.shots, 2), np.float32)
    alive = np.ones(settings.shots, np.float32)
    rows = []
    for _ in range(settings.length):
        obs = torch.from_numpy(position)
        with torch.no_grad():
            action = act(params, obs).sample()
        position = position + np.clip(action.numpy(), -0.1, 0.1)
        away = position - goal
        reward = -np.sqrt(np.sum(away**2, axis=1)) * alive
        rows.append((obs, action, reward, alive))
        alive = alive * (np.abs(away).max(axis=1) >= 0.01)
        if not alive.any():
            break
    obs, action = (torch.stack([row[i] for row in rows]) for i in (0, 1))
    reward, mask = (np.stack([row[i] for row in rows]) for i in (2, 3))
    advantage = torch.from_numpy(advantages(settings, obs.numpy(), reward, mask))
    return Episodes(obs, action, advantage, torch.from_numpy(mask)), float(reward.sum(0).mean())


def advantages(
    settings: Navigation, obs: np.ndarray, reward: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Returns advantages over a baseline that is linear in features, ``[T, N]``."""
    to_go, row = np.zeros_like(reward), np.zeros(reward.shape[1], np.float32)
    for t in reversed(range(len(reward))):
        row = reward[t] + settings.discount * row
        to_go[t] = row
    time = np.broadcast_to(np.arange(len(obs))[:, None, None] / 100.0, (*mask.shape, 1))
    parts = [obs, obs**2, time, time**2, time**3, np.ones_like(time)]
    features = (np.concatenate(parts, axis=-1) * mask[..., None]).reshape(mask.size, -1)
    gram = features.T @ features + 1e-5 * np.eye(features.shape[1])
    value = features @ np.linalg.solve(gram, features.T @ (to_go * mask).ravel())
    # With λ = 1 the generalized advantage is the return less the value.
    advantage = (to_go - value.reshape(mask.shape)) * mask
    advantage -= advantage.sum() / mask.sum() * mask
    return (advantage / (np.sqrt((advantage**2).sum() / mask.sum()) + 1e-8)).astype(np.float32)


def adapt(settings: Navigation, params: Params, episodes: Episodes, create_graph: bool) -> Params:
    """Takes one policy-gradient step."""
    log_prob = act(params, episodes.obs).log_prob(episodes.action).sum(-1)
    loss = -masked_mean(log_prob * episodes.advantage, episodes.mask)
    grads = torch.autograd.grad(loss, params, create_graph=create_graph)
    return [p - settings.step * g for p, g in zip(params, grads, strict=True)]


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean over what was played."""
    return (x * mask).sum() / mask.sum()


def flat(tensors: Any) -> Tensor:
    """Returns all numbers in one row."""
    return torch.cat([t.reshape(-1) for t in tensors])


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], target: Tensor, iterations: int
) -> Tensor:
    """Solves ``product(x) = target``."""
    x, residual, direction = torch.zeros_like(target), target.clone(), target.clone()
    square = residual @ residual
    for _ in range(iterations):
        image = product(direction)
        length = square / (direction @ image)
        x, residual = x + length * direction, residual - length * image
        smaller = residual @ residual
        if smaller < 1e-10:
            break
        direction, square = residual + smaller / square * direction, smaller
    return x


def navigation(settings: Navigation) -> Iterator[float]:
    """MAML with TRPO, a task after the other; yields the mean return after adaptation."""
    sizes = (2, settings.hidden, settings.hidden, 2)
    params = [*init_network(sizes), torch.zeros(2, requires_grad=True)]
    with torch.no_grad():
        params[-3] *= 0.01  # moves are small beside their noise, as those of the library's policy
    while True:
        goals = np.random.uniform(-0.5, 0.5, (settings.tasks, 2)).astype(np.float32)  # noqa: NPY002
        batches, returns = [], []
        for goal in goals:
            inner, _ = play(settings, params, goal)
            adapted = adapt(settings, params, inner, create_graph=False)
            adapted = [p.detach().requires_grad_() for p in adapted]
            outer, earned = play(settings, adapted, goal)
            batches.append((inner, outer, adapted))
            returns.append(earned)
        params = improve(settings, params, batches)
        yield float(np.mean(returns))


def improve(settings: Navigation, params: Params, batches: list) -> Params:
    """Takes one natural-gradient step on the initial parameters."""
    old = []
    with torch.no_grad():
        for _, outer, adapted in batches:
            policy = act(adapted, outer.obs)
            old.append((policy, policy.log_prob(outer.action).sum(-1)))

    def measure(params: Params, create_graph: bool) -> tuple[Tensor, Tensor]:
        """Returns loss and divergence after adaptation, mean over tasks."""
        losses, divergences = [], []
        for (inner, outer, _), (policy, log_prob) in zip(batches, old, strict=True):
            new = act(adapt(settings, params, inner, create_graph), outer.obs)
            ratio = torch.exp(new.log_prob(outer.action).sum(-1) - log_prob)
            losses.append(-masked_mean(ratio * outer.advantage, outer.mask))
            divergences.append(masked_mean(kl_divergence(policy, new).sum(-1), outer.mask))
        return torch.stack(losses).mean(), torch.stack(divergences).mean()

    loss, divergence = measure(params, create_graph=True)
    gradient = flat(torch.autograd.grad(loss, params, retain_graph=True))
    slope = flat(torch.autograd.grad(divergence, params, create_graph=True))

    def product(vector: Tensor) -> Tensor:
        bent = torch.autograd.grad(slope @ vector, params, retain_graph=True)
        return flat(bent) + settings.damping * vector

    direction = conjugate_gradients(product, -gradient, settings.cg_iterations)
    curvature = direction @ product(direction)
    longest = torch.sqrt(2.0 * settings.max_kl / curvature)
    start = loss.item()
    for j in range(settings.line_search_steps):
        move, new = 0.5**j * longest * direction, []
        for p in params:
            part, move = move[: p.numel()], move[p.numel() :]
            new.append((p + part.view_as(p)).detach().requires_grad_())
        loss, divergence = measure(new, create_graph=False)
        if loss.item() < start and divergence.item() <= settings.max_kl:
            return new
    return params
