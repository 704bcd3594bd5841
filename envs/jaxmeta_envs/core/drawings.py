"""Drawings of what an agent did, into the axes of a figure that somebody else makes.

Nothing here imports matplotlib: axes bring their own methods. Arrays are NumPy's.
Axes: E episodes of a trial, N of a row of adaptation, T steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # families import this module
    from jaxmeta_envs.core.contracts import Trajectory

AGENT, GOAL, FAINT, HIT = "#0072B2", "#D55E00", "#999999", "#009E73"
_MOST_PATHS = 10  # more of them hide each other


def rewards(axes: Any, episodes: Trajectory, until: int) -> None:
    """Draws reward earned so far against steps: of any family, whatever its states are."""
    steps = np.arange(episodes.reward.shape[-1])
    for reward, mask in _few(episodes.reward, episodes.mask):
        shown = mask & (steps < until)
        axes.plot(steps[shown] + 1, np.cumsum(reward)[shown], color=AGENT, alpha=0.7)
    axes.set_xlim(0, len(steps) + 1)
    axes.set_xlabel("step")
    axes.set_ylabel("reward so far")


def paths(
    axes: Any, episodes: Trajectory, until: int, goal: Any, place: Callable[..., Any]
) -> None:
    """Draws where an agent went, and where it was to go.

    Args:
        axes: Where to.
        episodes: Leaves ``[N, T, ...]``.
        until: Steps that are drawn.
        goal: ``[2]``.
        place: From observations ``[n, ...]`` to positions ``[n, 2]``.
    """
    labels = {"label": "start"}, {"label": "last position"}  # of one episode, for the key
    for obs, after, mask in _few(episodes.inputs.obs, episodes.next_obs, episodes.mask):
        played = int(min(mask.sum(), until))
        walked = place(np.concatenate([obs[:1], after[:played]]))
        axes.plot(walked[:, 0], walked[:, 1], color=AGENT, alpha=0.6, linewidth=1.5)
        # Above all paths, which would hide them.
        start: dict[str, Any] = {"color": "white", "markeredgecolor": AGENT, "markersize": 7}
        axes.plot(*walked[0], "s", zorder=3, **start, **labels[0])
        last: dict[str, Any] = {"color": AGENT, "markeredgecolor": "white", "markersize": 7}
        axes.plot(*walked[-1], "o", zorder=4, **last, **labels[1])
        labels = {}, {}
    star: dict[str, Any] = {"color": GOAL, "markersize": 14, "markeredgecolor": "black"}
    axes.plot(*goal, "*", zorder=5, label="goal", **star)
    axes.set_aspect("equal")


def pulls(axes: Any, played: Trajectory, until: int, worth: Any, belief: Any) -> None:
    """Draws which arm was pulled when and what it paid, over what could be believed of the arms.

    Args:
        axes: Where to.
        played: Leaves ``[E, 1, ...]``, a pull each.
        until: Pulls that are drawn.
        worth: Expected reward of every arm, ``[k]``.
        belief: Posterior mean of every arm before each pull, ``[E, k]``.
    """
    arms, rewards = played.action[:until, 0], played.reward[:until, 0]
    low, high = min(belief.min(), worth.min()), max(belief.max(), worth.max())
    shown = np.where(np.arange(len(belief))[:, None] < until, belief, np.nan).T
    at = (0.5, len(belief) + 0.5, -0.5, len(worth) - 0.5)
    look: dict[str, Any] = {"cmap": "Greys", "vmin": low, "vmax": high + (high == low)}
    # Of which the key tells; who draws several panels brings them to one scale.
    image = axes.imshow(shown, aspect="auto", origin="lower", extent=at, alpha=0.6, **look)
    image.set_label("believed reward of an arm")
    paid = rewards > np.median(worth)
    number = np.arange(1, until + 1)
    axes.scatter(number[paid], arms[paid], color=HIT, s=40, label="paid well")
    axes.scatter(number[~paid], arms[~paid], color=GOAL, s=40, marker="x", label="paid badly")
    best = int(np.argmax(worth))
    names = [
        f"{arm + 1}: {value:.2f}" + (" *" if arm == best else "") for arm, value in enumerate(worth)
    ]
    axes.set_yticks(range(len(worth)), names)
    axes.set_xlabel("pull")
    axes.set_ylabel("arm: expected reward (* best)")


def walk(axes: Any, episode: Trajectory, until: int, prob: Any) -> None:
    """Draws how likely the first of two arms pays, and which arm was pulled when.

    Args:
        axes: Where to.
        episode: Leaves ``[T, ...]``; action 0 is the arm that pays with probability p, action 1
            the one that pays with 1 - p.
        until: Pulls that are drawn.
        prob: p at each pull, ``[T]``.
    """
    number = np.arange(1, len(prob) + 1)
    axes.plot(number, prob, color=FAINT, linewidth=2.0, label="first arm pays")
    arms, paid = episode.action[:until], episode.reward[:until] > 0.5
    # Pulls of the first arm stand above, where it is better to be while p is above a half.
    height = np.where(arms == 0, 1.05, -0.05)
    axes.scatter(number[:until][paid], height[paid], color=HIT, s=20, label="paid")
    missed = ~paid
    axes.scatter(
        number[:until][missed], height[missed], color=GOAL, s=20, marker="x", label="did not"
    )
    axes.axhline(0.5, color="black", linewidth=0.6)
    axes.set_xlabel("pull")
    axes.set_ylabel("p (above: first arm pulled, below: second)")


def fit(axes: Any, x: Any, truth: Any, predicted: Any, examples: Any) -> None:
    """Draws a function, what is predicted of it, and the examples that it is known by.

    Args:
        axes: Where to.
        x: Inputs, ``[n]``.
        truth: Labels, ``[n]``.
        predicted: Likewise.
        examples: Inputs and labels of what was seen, ``[m]`` each.
    """
    axes.plot(x, truth, color=FAINT, linewidth=2.5, label="the task")
    axes.plot(x, predicted, color=AGENT, linewidth=1.8, label="predicted")
    axes.plot(*examples, "o", color=GOAL, markersize=5, label="examples")
    axes.set_xlabel("x")
    axes.set_ylabel("y")


def poses(axes: Any, episode: Trajectory, until: int, lines: Callable[[Any], Any]) -> None:
    """Draws the body of a simulator at the last step shown, and faintly where it was before.

    Args:
        axes: Where to.
        episode: Leaves ``[T, ...]``.
        until: Steps that are drawn.
        lines: From an observation to points ``[m, 2]`` that are joined.
    """
    played = int(min(episode.mask.sum(), until))
    seen = np.concatenate([episode.inputs.obs[:1], episode.next_obs[:played]])
    for i, obs in enumerate(seen[:: max(1, len(seen) // 12)]):
        said = {} if i else {"label": "earlier"}
        axes.plot(*np.asarray(lines(obs)).T, color=FAINT, alpha=0.35, linewidth=1.0, **said)
    body: dict[str, Any] = {"linewidth": 3.0, "marker": "o", "markersize": 4}
    axes.plot(*np.asarray(lines(seen[-1])).T, color=AGENT, label="last position", **body)
    axes.set_aspect("equal")


def _few(*arrays: Any) -> Any:
    return list(zip(*arrays, strict=True))[:_MOST_PATHS]
