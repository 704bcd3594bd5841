"""Exact search for the Bayes-optimal exploration of a grid with one hidden goal.

Until the goal is found every observation is the agent's own position and every reward
the same, so nothing that is seen can change the plan: the best policy is one fixed path
per episode, followed until the goal turns up, and from then on the shortest way to it.
Finding goal g at step t of an episode costs t, not finding it costs a constant, and an
episode in which g is already known costs its distance d(g). The path that minimises the
sum over goals and episodes is found by A*.

Reference: Duff (2002), "Optimal learning: computational procedures for Bayes-adaptive
Markov decision processes", for the decision process over beliefs of which this is the
special case; Hart, Nilsson and Raphael (1968) for A*.
"""

from __future__ import annotations

import functools
import heapq
from typing import NamedTuple

import numpy as np

MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
"""Change of (x, y) by the actions noop, up, right, down, left."""

MAX_EXPANSIONS = 100_000
"""Search nodes after which the solver gives up: a few seconds of one core."""


class Plan(NamedTuple):
    """An optimal exploration of the grid; G goals, E episodes of T steps.

    Attributes:
        actions: int32 ``[E, T]``, what to do while the goal is unknown.
        episode: int ``[G]``, the episode in which each goal is found; E if it never is.
        step: int ``[G]``, the step of that episode, counted from 1, that lands on the goal.
    """

    actions: np.ndarray
    episode: np.ndarray
    step: np.ndarray


class _Node(NamedTuple):
    """Where the search stands: ``unseen`` is a bitmask over goals."""

    episode: int
    time: int
    cell: int
    unseen: int


@functools.lru_cache(maxsize=32)
def goal_cells(size: int) -> np.ndarray:
    """Returns the possible goals, int32 ``[G]``: all cells but the four around the start."""
    cells = [(x, y) for y in range(size) for x in range(size) if max(x, y) > 1]
    goals = np.array([y * size + x for x, y in cells], np.int32)
    goals.setflags(write=False)
    return goals


def distances(size: int, cells: np.ndarray) -> np.ndarray:
    """Returns the number of steps from the start to each of ``cells``."""
    return cells % size + cells // size


def _neighbours(size: int) -> list[list[tuple[int, int]]]:
    """For each cell, the pairs (action, cell it leads to); no noop and no bump into a wall.

    Standing still while exploring never helps: with that step left out, everything after
    it is seen one step earlier.
    """
    table = []
    for cell in range(size * size):
        x, y = cell % size, cell // size
        steps = [(a, x + dx, y + dy) for a, (dx, dy) in enumerate(MOVES) if a > 0]
        table.append([(a, v * size + u) for a, u, v in steps if 0 <= u < size and 0 <= v < size])
    return table


def _rings(size: int, goals: np.ndarray) -> list[list[tuple[int, int]]]:
    """For each cell, the pairs (distance, bitmask of the goals at that distance)."""
    table = []
    for cell in range(size * size):
        masks: dict[int, int] = {}
        for index, goal in enumerate(goals.tolist()):
            distance = abs(goal % size - cell % size) + abs(goal // size - cell // size)
            masks[distance] = masks.get(distance, 0) | 1 << index
        table.append(sorted(masks.items()))
    return table


def _cost_to_go(
    rings: list[tuple[int, int]], time: int, unseen: int, horizon: int, miss_step: float
) -> float:
    """A lower bound on what the unseen goals still cost in this and later episodes.

    Three relaxations: a goal at distance d can be seen after d steps; one step sees one
    goal; and since every move changes the parity of x + y, at steps of the goal's own
    parity only. Under these the cheapest times are found greedily. Episodes to come are
    charged the distances, that is nothing beyond what a known goal costs.
    """
    cost = 0.0
    free = [0, 0]  # first step of either parity that has no goal yet
    for distance, mask in rings:
        count = (unseen & mask).bit_count()
        if not count:
            continue
        parity = (time + distance) & 1
        first = max(free[parity], time + distance)
        seen = min(count, max(0, (horizon - first) // 2 + 1))
        cost += seen * (first - time) + seen * (seen - 1) + (count - seen) * (miss_step - time)
        free[parity] = first + 2 * seen
    return cost


@functools.lru_cache(maxsize=64)
def optimal_plan(
    size: int,
    horizon: int,
    num_episodes: int,
    miss_step: float,
    max_expansions: int = MAX_EXPANSIONS,
) -> Plan | None:
    r"""Finds paths that minimise the expected cost of finding the goal.

    With :math:`t_e(g)` the step at which episode e sees goal g for the first time in the
    trial, it minimises, over one path per episode,

    .. math:: \sum_e \sum_g c_e(g), \quad c_e(g) = \begin{cases}
        t_e(g) & \text{found in episode } e \\ d(g) & \text{found before} \\
        \text{miss\_step} & \text{still unknown.} \end{cases}

    Args:
        size: Side of the grid.
        horizon: T, steps per episode.
        num_episodes: E.
        miss_step: Cost of an episode that does not find the goal, at least T.
        max_expansions: When to give up.

    Returns:
        A plan whose total cost is minimal, or None if that was not proved within
        ``max_expansions`` nodes. Plans of equal total may share it out differently over
        the episodes.
    """
    goals = goal_cells(size)
    distance = distances(size, goals)
    bit = {int(goal): 1 << index for index, goal in enumerate(goals)}
    neighbours, rings = _neighbours(size), _rings(size, goals)

    def known_cost(unseen: int) -> int:
        return sum(int(d) for i, d in enumerate(distance) if unseen >> i & 1)

    start = _Node(0, 0, 0, (1 << len(goals)) - 1)
    # The cost of a known goal is subtracted throughout: only what exploring adds is left.
    costs = {start: -float(known_cost(start.unseen))}
    parents: dict[_Node, tuple[_Node, int]] = {}
    bound = costs[start] + _cost_to_go(rings[0], 0, start.unseen, horizon, miss_step)
    # Ties go to the node that has seen most, then to the newest: depth first on a plateau.
    queue = [(bound, len(goals), 0, start)]
    closed: set[_Node] = set()
    pushed = 0
    while queue:
        _, _, _, node = heapq.heappop(queue)
        if node in closed:
            continue
        if not node.unseen or node.episode == num_episodes:
            return _plan_of(node, parents, size, horizon, num_episodes)
        closed.add(node)
        if len(closed) > max_expansions:
            return None
        left = node.unseen.bit_count()
        for action, cell in neighbours[node.cell]:
            child = _Node(node.episode, node.time + 1, cell, node.unseen & ~bit.get(cell, 0))
            cost = costs[node] + left
            if child.time == horizon and child.unseen:
                cost += (miss_step - horizon) * child.unseen.bit_count()
                if node.episode + 1 < num_episodes:
                    cost -= known_cost(child.unseen)
                child = _Node(node.episode + 1, 0, 0, child.unseen)
            if cost < costs.get(child, np.inf):
                costs[child] = cost
                parents[child] = (node, action)
                pushed += 1
                ahead = 0.0
                if child.episode < num_episodes:
                    ahead = _cost_to_go(
                        rings[child.cell], child.time, child.unseen, horizon, miss_step
                    )
                entry = (cost + ahead, child.unseen.bit_count(), -pushed, child)
                heapq.heappush(queue, entry)
    raise AssertionError("a finite search always ends at a plan")


def _plan_of(
    node: _Node,
    parents: dict[_Node, tuple[_Node, int]],
    size: int,
    horizon: int,
    num_episodes: int,
) -> Plan:
    """Follows the parents back from the last node and writes the plan down."""
    goals = goal_cells(size)
    actions = np.zeros((num_episodes, horizon), np.int32)
    episode = np.full(len(goals), num_episodes)
    step = np.zeros(len(goals), int)
    while node in parents:
        before, action = parents[node]
        actions[before.episode, before.time] = action
        found = before.unseen & ~node.unseen
        if found:
            episode[found.bit_length() - 1] = before.episode
            step[found.bit_length() - 1] = before.time + 1
        node = before
    for array in (actions, episode, step):
        array.setflags(write=False)
    return Plan(actions, episode, step)
