"""Checks of an algorithm's update. Axes: S lanes, U updates."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta import parallel
from jaxmeta.placement import WHOLE, specs, spread
from jaxmeta.testing.algorithm_probes import LANES, UPDATES, AlgorithmProbe, is_params, lanes
from jaxmeta.testing.conformance import (
    check,
    expect,
    expect_same_shapes,
    expect_value_semantics,
    fast_jit,
    plain,
    same,
)
from jaxmeta.testing.policies import first_input
from jaxmeta.testing.toys import Call, ToyFamily, recording
from jaxmeta_envs.core.contracts import TaskFamily


@check(
    "algorithm value",
    "an algorithm is a frozen dataclass, hashable and equal by value, without arrays as fields",
)
def algorithm_value(probe: AlgorithmProbe) -> None:
    """Equal algorithms must share one compilation."""
    expect_value_semantics(probe.algorithm)


@check(
    "update shapes",
    "update returns a state of the same structure, shapes and dtypes, and init one with params",
)
def update_shapes(probe: AlgorithmProbe) -> None:
    """The state can be carried by a scan."""
    expect(hasattr(probe.state, "params"), "the state has no params")
    new, _ = probe.trace_update(probe.family)
    expect_same_shapes("state", probe.state, new)


@check(
    "metrics",
    "metrics are a flat dict of finite float32 scalars with fixed keys, the family's score among "
    "them",
)
def metrics_are_flat(probe: AlgorithmProbe) -> None:
    """Metrics can be stacked, logged and compared."""
    _, metrics = probe.trace_update(probe.family)
    for name, value in metrics.items():
        expect(isinstance(name, str), f"a key is {name!r}")
        scalar = getattr(value, "shape", None) == () and value.dtype == jnp.float32
        expect(scalar, f"{name} is {value}, not a float32 scalar")
    score = probe.family.score.name
    expect(score in metrics, f"the keys are {sorted(metrics)}, without {score!r}")
    _, later = probe.trace_update(probe.family)
    changed = sorted(set(metrics) ^ set(later))
    expect(not changed, f"the keys {changed} are there in some updates only")
    for name, values in probe.first.metrics.items():
        expect(np.all(np.isfinite(values)), f"{name} is not finite after {UPDATES} updates")


@check(
    "placement",
    "placement is a pytree prefix of the state; what it spreads over tasks has a row for each",
)
def placement_fits(probe: AlgorithmProbe) -> None:
    """The engine can place the state on devices and in checkpoints."""
    prefix, tasks = probe.algorithm.placement(probe.family), probe.algorithm.num_tasks
    try:
        placed = spread(prefix, probe.state)
    except ValueError as error:
        expect(False, f"the placement {prefix} does not fit the state ({error})")
        return
    leaves = jax.tree_util.tree_leaves_with_path(probe.state)
    for (path, leaf), one in zip(leaves, jax.tree.leaves(placed), strict=True):
        name = jax.tree_util.keystr(path)
        text = f"{name} is spread over tasks and has the shape {leaf.shape}, not {tasks} rows"
        expect(not one.over_tasks or leaf.shape[:1] == (tasks,), text)
        text = f"{name} is kept with the newest checkpoint only, and params are needed in all"
        expect(not (one.newest_only and is_params(path)), text)


@check("scan and vmap", "update can be scanned over updates and vmapped over seeds")
def scan_and_vmap(probe: AlgorithmProbe) -> None:
    """One program runs several updates of several seeds."""
    expect_same_shapes("state", lanes(probe.state), probe.first.after(-1))


@check("update keys", "the key of an update, and nothing else, decides what it draws")
def update_keys(probe: AlgorithmProbe) -> None:
    """Same key, same result; other keys, other trials."""
    first = jax.tree.map(plain, probe.first)
    one, twin = (jax.tree.map(lambda x, lane=lane: x[lane], first) for lane in (0, 1))
    expect(same(one, twin), "two lanes with one state and one key differ")
    score = probe.family.score.name
    scores = first.metrics[score][:, 0]
    expect(len(set(scores.tolist())) > 1, f"three different keys gave the {score} {scores[0]}")


@check(
    "memory between updates",
    "an update starts new tasks with nothing remembered of earlier ones: only parameters "
    "decide how it plays, unless keeps_tasks is True",
)
def memory_between_updates(probe: AlgorithmProbe) -> None:
    """States that differ in their past, given equal parameters, play alike."""
    if probe.algorithm.keeps_tasks:
        return
    after = probe.first.after(0)
    # One set of parameters for all lanes; the rest of the state keeps its own past.
    same_params = lanes(probe.loud(jax.tree.map(lambda x: x[0], after)))
    grafted = jax.tree_util.tree_map_with_path(
        lambda path, own, given: given if is_params(path) else own, after, same_params
    )
    keys = jnp.stack([jax.random.split(probe.key("graft"), UPDATES)] * LANES)
    score = probe.family.score.name
    returns = plain(probe.updates(probe.family, grafted, keys, step=1).metrics[score])[:, 0]
    expect(
        np.allclose(returns, returns[0], rtol=1e-5, atol=1e-6),
        f"with equal parameters and keys the {score} after different first updates is {returns}",
    )


@check(
    "time limits",
    "a time limit bootstraps with the value of the last observation, a termination with 0 "
    "(pass bootstraps=False if the algorithm has no value function)",
)
def time_limits(probe: AlgorithmProbe) -> None:
    """Families that differ only in how episodes end must be learned from differently."""
    pairs = [
        [ToyFamily(kind, terminates) for terminates in (False, True)] for kind in (False, True)
    ]
    accepted = [pair for pair in pairs if all(map(probe.accepts, pair))]
    if not probe.bootstraps or not accepted:
        return
    cut, ended = accepted[0]
    started = probe.first if probe.family == cut else None
    if started is None:
        started = probe.updates(cut, lanes(probe.init(cut)), probe.keys)
    states = lanes(probe.loud(jax.tree.map(lambda x: x[0], started.after(0))))
    given = states, probe.keys, 1
    # After several, as one may play no episode to its end.
    results = [probe.updates(family, *given).after(-1) for family in (cut, ended)]
    placed = spread(probe.algorithm.placement(cut), probe.state)
    truncated, terminated, before = (_learned(placed, x) for x in (*results, states))
    moved = np.linalg.norm(truncated - before)
    difference = np.linalg.norm(truncated - terminated)
    expect(
        difference > 1e-3 * moved,
        f"what is learned moved by {moved:.3g}, and by the same whether the clock or the process "
        f"ended the episodes (difference {difference:.3g})",
    )


def _learned(placed: Any, state: Any) -> np.ndarray:
    """Returns the state as a vector, without what lies with single tasks, as stored steps do."""
    leaves = zip(jax.tree.leaves(placed), jax.tree.leaves(state), strict=True)
    own = [plain(x).ravel().astype(np.float64) for one, x in leaves if one == WHOLE]
    return np.concatenate(own)


@check(
    "own draws",
    "every task, reset and step has a key of its own, policies act with fresh noise, and update "
    "plays env_steps_per_update steps of trial_episodes episodes of num_tasks tasks, which init "
    "draws if keeps_tasks is True",
)
def own_draws(probe: AlgorithmProbe) -> None:
    """Records every call that an update makes to a family."""
    algorithm = probe.algorithm
    toys = (ToyFamily(continuous=True, recorded=True), ToyFamily(recorded=True))
    family = next((toy for toy in toys if probe.accepts(toy)), None)
    if family is None:
        return
    with recording() as drawn:
        state = jax.block_until_ready(probe.init(family))
    update = fast_jit(lambda state, key: algorithm.update(family, state, key, jnp.int32(0)))
    records = []
    for key in jax.random.split(probe.key("own draws")):
        with recording() as calls:
            _, metrics = update(state, key)
            finite = all(np.all(np.isfinite(x)) for x in metrics.values())
        expect(finite, f"a metric is not finite on {family}")
        records.append(calls)
    _expect_fresh_keys(*records)
    counts = Counter(call.method for call in records[0])
    tasks, steps = counts["sample_task"], counts["step"]
    if algorithm.keeps_tasks:
        _expect_fresh_keys(drawn, records[0])
        tasks = sum(call.method == "sample_task" for call in drawn)
    text = f"{tasks} tasks were drawn for num_tasks={algorithm.num_tasks}"
    expect(tasks >= algorithm.num_tasks, text)
    expected = algorithm.env_steps_per_update(family)
    expect(steps == expected, f"{steps} steps were played, env_steps_per_update is {expected}")
    if family.continuous:
        _expect_fresh_noise(probe, family, state, records)


def _expect_fresh_keys(calls: list[Call], later: list[Call]) -> None:
    owners: dict[tuple[int, ...], str] = {}
    for call in calls:
        owner = owners.setdefault(call.key, "")
        text = f"one key went to {owner} and to {call.method} in one update"
        expect(not owner, text)
        owners[call.key] = call.method
    for call in later:
        text = f"{call.method} got the same key in two updates with different keys"
        expect(call.key not in owners, text)


def _expect_fresh_noise(
    probe: AlgorithmProbe, family: TaskFamily, state: Any, records: list[list[Call]]
) -> None:
    """Real actions drawn with noise of their own are never equal, but at a bound."""
    if not _is_stochastic(probe, family, state.params):
        return
    one, two = ([c.action for c in calls if _is_first(c)] for calls in records)
    common = len(set(one) & set(two))
    text = f"{common} of {len(one)} first actions of episodes are the same under two update keys"
    expect(common == 0, text)
    repeated = len(one) - len(set(one))
    text = f"{repeated} of {len(one)} first actions of episodes are copies within one update"
    expect(repeated == 0, text)


def _is_first(call: Call) -> bool:
    return call.method == "step" and call.time == 0 and abs(call.action) != 1.0


def _is_stochastic(probe: AlgorithmProbe, family: TaskFamily, params: Any) -> bool:
    policy = probe.algorithm.policy(family)

    def act(key: Array) -> Array:
        return policy.act(params, policy.begin(params, key), first_input(family), key)[0]

    actions = plain(fast_jit(jax.vmap(act))(jax.random.split(probe.key("noise"))))
    return bool(np.any(actions[0] != actions[1]))


@check(
    "task shares",
    "an update draws its tasks by parallel.task_keys and reduces over them by jaxmeta.parallel, "
    "so that devices share the tasks",
)
def task_shares(probe: AlgorithmProbe) -> None:
    """Traces an update for two devices, which need not exist."""
    algorithm = probe.algorithm
    if algorithm.num_tasks % (2 * algorithm.task_multiple):
        return
    mesh = jax.sharding.AbstractMesh((2,), (parallel.AXIS,))
    whole = jax.sharding.PartitionSpec()
    state = specs(algorithm.placement(probe.family), leading=0)

    def update(state: Any, key: Array) -> Any:
        with parallel._sharing(2):
            return algorithm.update(probe.family, state, key, jnp.int32(0))

    shared = jax.shard_map(
        update, mesh=mesh, in_specs=(state, whole), out_specs=(state, whole), check_vma=False
    )
    jaxpr, (new, _) = jax.make_jaxpr(shared, return_shape=True)(probe.state, probe.key("shares"))
    expect_same_shapes("state", probe.state, new)
    text = str(jaxpr)
    expect("axis_index" in text, "on two devices both play the same tasks")
    expect("psum" in text, "on two devices nothing is added up over both")


UPDATE_CHECKS = (
    algorithm_value,
    update_shapes,
    placement_fits,
    scan_and_vmap,
    metrics_are_flat,
    update_keys,
    memory_between_updates,
    own_draws,
    time_limits,
    task_shares,
)
