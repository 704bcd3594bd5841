"""The host's side of training: one dispatch per chunk, and what happens in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmeta import engine, placement
from jaxmeta.config import TrainConfig
from jaxmeta.parallel import Device
from jaxmeta.placement import replicated
from jaxmeta.runs.checkpoint import NotSaved
from jaxmeta.runs.directory import RunDirectory
from jaxmeta.runs.logs import History, list_events, stack_events
from jaxmeta.runtime import hosts
from jaxmeta.runtime.interrupts import Compile, Interrupts
from jaxmeta.runtime.progress import Progress
from jaxmeta.training.rounds import Rounds, describe_round


class ChunkInfo(NamedTuple):
    """What a callback is told after every chunk.

    Attributes:
        update: Updates done.
        env_steps: Environment steps done, per seed.
        seconds: Seconds of training so far, without compilation, evaluation and saving.
        metrics: Of this chunk, ``[updates_per_chunk, S]``.
    """

    update: int
    env_steps: int
    seconds: float
    metrics: Mapping[str, np.ndarray]


Callback = Callable[[ChunkInfo], None]


class TrainingDiverged(RuntimeError):
    """A metric or a parameter is not finite.

    Attributes:
        metric: Name of the first bad metric; of a parameter, its path in ``params``.
        update: The update that brought it, counted from 1; of a parameter, the last update
            of the chunk.
        seed: The seed.
        metrics: Everything measured, ``[updates, S]``.
        checkpoint: The newest checkpoint, which is from before; None without any.
        log: ``metrics.jsonl`` with what led there; None if the run is not written anywhere.
    """

    def __init__(
        self,
        metric: str,
        update: int,
        seed: int,
        metrics: Mapping[str, np.ndarray],
        checkpoint: Path | None,
        log: Path | None = None,
    ) -> None:
        self.metric, self.update, self.seed = metric, update, seed
        self.metrics, self.checkpoint, self.log = metrics, checkpoint, log
        if checkpoint is not None:
            kept = f"the last good checkpoint is {checkpoint}"
        elif log is not None:
            kept = f"nothing was saved but {log}, which training there again replaces"
        else:
            kept = "nothing was saved"
        super().__init__(f"{metric} is not finite at update {update} of seed {seed}; {kept}")


class Program(NamedTuple):
    """A compiled chunk.

    Attributes:
        run: ``(state, keys, first_update) -> (state, metrics[updates, S], finite[leaves, S])``
            with a row of ``finite`` per float leaf of ``state.params``. The given state is gone.
        keys: Keys of the seeds.
        seconds: What compiling took.
    """

    run: Callable[..., tuple[Any, dict[str, Array], Array]]
    keys: Array
    seconds: float


def compile_lowered(lower: Callable[[], jax.stages.Lowered]) -> jax.stages.Compiled:
    """Compiles a program, whatever signals arrive; see `Interrupts.compile`."""
    return lower().compile()


def first_state(
    config: TrainConfig, devices: list[Device], compile_with: Compile = compile_lowered
) -> Any:
    """Makes the first state where it will stay."""
    # The keys are made inside: an argument would lie on a device that other processes lack.
    init = engine.make_init(config)
    where = placement.shardings(engine.state_placement(config), devices)
    jitted = jax.jit(lambda: init(engine.seed_keys(config)), out_shardings=where)
    return compile_with(jitted.lower)()


def trace_chunk(config: TrainConfig, devices: list[Device]) -> jax.stages.Traced:
    """Traces the one program of a run, see `Program.run`, for devices that need not be here.

    Args:
        config: The run.
        devices: Where it is to run.
    """
    chunk, whole = engine.make_chunk(config, devices), replicated(devices)
    where = placement.shardings(engine.state_placement(config), devices)

    def run(state: Any, keys: Array, first_update: Array) -> tuple[Any, dict[str, Array], Array]:
        state, metrics = chunk(state, keys, first_update)
        return state, metrics, _finite(state.params, config.num_seeds)

    jitted = jax.jit(
        run,
        donate_argnums=0,
        in_shardings=(where, whole, whole),
        out_shardings=(where, whole, whole),
    )
    keys = jax.eval_shape(lambda: engine.seed_keys(config))
    keys = jax.ShapeDtypeStruct(keys.shape, keys.dtype, sharding=whole)
    return jitted.trace(engine.state_target(config, devices), keys, np.int32(0))


def compile_chunk(
    config: TrainConfig, devices: list[Device], compile_with: Compile = compile_lowered
) -> Program:
    """Compiles the one program of a run, see `trace_chunk`."""
    keys = jax.jit(lambda: engine.seed_keys(config), out_shardings=replicated(devices))()
    began = time.perf_counter()
    compiled = compile_with(lambda: trace_chunk(config, devices).lower())
    return Program(compiled, keys, time.perf_counter() - began)


def _finite(params: Any, num_seeds: int) -> Array:
    """Whether all numbers of each leaf of `_float_leaves` are finite, ``[leaves, S]``."""
    leaves = [jnp.isfinite(x).reshape(num_seeds, -1) for x in _float_leaves(params).values()]
    return jnp.stack([x.all(axis=1) for x in leaves]) if leaves else jnp.ones((0, num_seeds), bool)


def _float_leaves(params: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {
        jax.tree_util.keystr(path): x for path, x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)
    }


@dataclass
class Loop:
    """A run in progress.

    Attributes:
        config: The run.
        program: Its compiled chunk; None if there is nothing left to train.
        rounds: Meetings with its target.
        state: The state after `update` updates. While a chunk runs there is none.
        update: Updates done.
        seconds: Seconds of training so far.
        history: What was measured before this process took over.
        store: Where it is written, or None.
        progress: What a person sees.
        callback: Called after every chunk.
        saved: Update of the newest checkpoint, or None.
    """

    config: TrainConfig
    program: Program | None
    rounds: Rounds
    state: Any
    update: int
    seconds: float
    history: History
    store: RunDirectory | None
    progress: Progress
    callback: Callback | None
    saved: int | None

    def __post_init__(self) -> None:
        self.plan = self.config.plan()
        self._chunks = [self.history.metrics] if self.history.metrics else []
        self._evaluations = list_events(self.history.evaluations)
        self._adaptations = list_events(self.history.adaptations)
        self._good = True

    def run(self, interrupts: Interrupts) -> None:
        """Trains to the end, or to the first signal; the last state is saved either way."""
        try:
            self._evaluate_if_due()  # a process that was killed may have left it undone
            while self.update < self.plan.updates and not interrupts.arrived():
                info = self._train_chunk()
                self._meet_target_if_due()
                if self._is_due(self.config.checkpoint_every):
                    self.save()
                if self.callback is not None:
                    self.callback(info)
                if not interrupts.arrived():
                    self._evaluate_if_due()
        except BaseException as error:
            if self._good and not interrupts.forced and not isinstance(error, NotSaved):
                self._save_despite(error)
            raise
        self.save()

    def save(self) -> None:
        """Saves the state, unless it is saved already."""
        if self.saved == self.update:
            return
        # In NumPy, as orbax takes no array that lives in one of several processes; the others
        # have to give what they hold of it.
        state = jax.device_get(hosts.own_copy(self.state)) if hosts.are_several() else self.state
        if self.store is not None:
            kept, newest = placement.split(engine.state_placement(self.config), state)
            self.store.save(self.update, kept, self.seconds, newest)
        self.saved = self.update

    def measured(self) -> History:
        """Returns everything measured so far."""
        names = self._chunks[-1] if self._chunks else {}
        metrics = {name: np.concatenate([c[name] for c in self._chunks]) for name in names}
        events = (stack_events(e) for e in (self._evaluations, self._adaptations))
        return History(metrics, *events)

    def _train_chunk(self) -> ChunkInfo:
        assert self.program is not None
        first, run, keys = self.update, self.program.run, self.program.keys
        began = time.perf_counter()
        self._good = False  # the state is donated: there is none to save until a good one comes
        self.state, metrics, finite = run(self.state, keys, np.int32(first))
        metrics, finite = jax.device_get((metrics, finite))
        spent = time.perf_counter() - began
        self.seconds += spent
        self.update = first + self.plan.updates_per_chunk
        self._chunks.append(metrics)
        problem = self._problem(first, metrics, finite)
        self._good = problem is None
        if self.store is not None:
            self.store.write_updates(range(first + 1, self.update + 1), self.seconds, metrics)
        if problem is not None:
            if self.store is not None:
                names = ("metric", "update", "seed")
                found = {name: getattr(problem, name) for name in names}
                self.store.write_divergence(self.update, found)
            raise problem
        env_steps = self.update * self.plan.env_steps_per_update
        name, unit = self.config.tasks.score.name, self.config.tasks.experience_unit
        reached = float(metrics[name][-1].mean())
        self.progress.advance(env_steps * self.config.num_seeds, spent, reached, name, unit)
        return ChunkInfo(self.update, env_steps, self.seconds, metrics)

    def _problem(
        self, first: int, metrics: Mapping[str, np.ndarray], finite: np.ndarray
    ) -> TrainingDiverged | None:
        """Returns what to raise if a metric or a parameter is not finite."""
        # [updates, metrics, S], so that the first bad entry is of the earliest update.
        bad = ~np.isfinite(np.stack(list(metrics.values()), axis=1))
        if bad.any():
            row, column, seed = (int(i) for i in np.argwhere(bad)[0])
            return self._diverged(list(metrics)[column], first + 1 + row, seed)
        if not finite.all():
            leaf, seed = (int(i) for i in np.argwhere(~finite)[0])
            name = list(_float_leaves(self.state.params))[leaf]
            return self._diverged(f"params{name}", self.update, seed)
        return None

    def _diverged(self, name: str, update: int, seed: int) -> TrainingDiverged:
        checkpoint, log = None, None
        if self.store is not None:
            log = self.store.log
            if self.saved is not None:
                checkpoint = self.store.checkpoints.path / str(self.saved)
        metrics = self.measured().metrics
        return TrainingDiverged(name, update, self.config.seed + seed, metrics, checkpoint, log)

    def _is_due(self, every: int) -> bool:
        if self.update == self.plan.updates:
            return True
        return every > 0 and self.update % (every * self.plan.updates_per_chunk) == 0

    def _evaluate_if_due(self) -> None:
        done = self._evaluations and self._evaluations[-1][0] == self.update
        if self.update == 0 or done or not self._is_due(self.config.eval_every):
            return
        # Imported here because evaluation reads whole runs and so imports this package's shell.
        from jaxmeta.evaluation.evaluate import quick_evaluation

        # Of several processes all do, as the others had to wait for one of them anyway.
        params = hosts.own_copy(self.state.params)
        values = quick_evaluation(self.config, params, self.config.eval_tasks)
        self._evaluations.append((self.update, values))
        if self.store is not None:
            self.store.write_event("evaluation", self.update, values)

    def _meet_target_if_due(self) -> None:
        if not self.rounds.due(self.update):
            return
        self._good = False  # half a round is none: what is saved must be before or after it
        self.state, values = self.rounds.meet(self.state, self.update)
        self._good = True
        self._adaptations.append((self.update, values))
        self.progress.say(describe_round(len(self._adaptations), values, self.rounds.played))
        if self.store is not None:
            self.store.write_event("adaptation", self.update, values)

    def _save_despite(self, error: BaseException) -> None:
        """Saves the last good state on the way out; never hides what went wrong."""
        try:
            self.save()
        except Exception as problem:
            error.add_note(f"and the last state could not be saved: {problem!r}")
