"""How a model that predicts is measured: by its score on examples that it does not adapt to."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
from jax import Array

from jaxmeta.evaluation.programs import Exported, model_programs
from jaxmeta.evaluation.protocol import PlayedReference, Protocol
from jaxmeta.evaluation.scenes import Scene, fits_scene
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.supervised import AdaptiveModel, FunctionFamily, Predictor, SupervisedFamily

QUERIES = 100
"""Least examples of a task that a model is judged on, apart from those it adapts to."""


@dataclass(frozen=True)
class Predicting(Protocol):
    """Of an `AdaptiveModel` on a `SupervisedFamily`: a point is the score on `QUERIES`."""

    acts: ClassVar[bool] = False

    @property
    def together(self) -> int:
        return 1

    @property
    def row_steps(self) -> int:
        return self._query_shots * self.family.examples_per_shot

    @property
    def seen(self) -> int:
        return self.policy.shots

    @property
    def shots(self) -> int:
        return self.policy.shots

    @property
    def adapts_by_steps(self) -> bool:
        return True

    @property
    def headline(self) -> str:
        return "final"

    def rows_of(self, trial_episodes: int) -> int:
        return trial_episodes

    def seeing(self, shots: int) -> Predicting:
        return replace(self, policy=self.policy._replace(shots=shots))

    def check(self, deterministic: bool, episodes: int | None, name: str) -> None:
        said = "False on supervised tasks, where nothing is sampled"
        require(deterministic is False, "deterministic", deterministic, said)
        require(episodes is None, "episodes_per_point", episodes, "None on supervised tasks")

    def play(self, given: Any, task: Any, key: Array) -> Array:
        """Returns the score on queries after 0 to X - 1 steps on one set of examples, ``[X]``."""
        family, model = self.family, self.policy
        keys = jax.random.split(key)[::-1]
        support, query = family.sample_split(keys, task, model.shots, self._query_shots)

        def row(carry: Any, _: None) -> tuple[Any, Array]:
            score = family.measure(model.predict(given, carry, query.x), query.y)
            return model.adapt(given, carry, support), score

        return jax.lax.scan(row, model.begin(given), None, length=len(self.experience))[1]

    @property
    def _query_shots(self) -> int:
        return math.ceil(QUERIES / self.family.examples_per_shot)

    def optimum(self, split: str) -> None:
        return None

    def references(self, split: str) -> Mapping[str, PlayedReference]:
        """Returns the family's predictors, which adapt to nothing: their one point is all."""
        return {
            name: PlayedReference(replace(self, policy=model, experience=(0,)), (), told_task=True)
            for name, model in _predictors(self.family).items()
        }

    def scene(self, params: Any, key: Array, split: str, num_tasks: int) -> Scene:
        drawn = "a FunctionFamily, or one to act in: classes have no picture"
        require(isinstance(self.family, FunctionFamily), "tasks", self.family, drawn)
        rows = len(self.experience)
        return fits_scene(self.family, self.policy, params, rows, key, split, num_tasks)

    def programs(self, params: Any) -> Exported:
        return model_programs(self.policy, self.family, params)


@functools.lru_cache(maxsize=32)
def _predictors(family: SupervisedFamily) -> dict[str, AdaptiveModel]:
    """Returns the references as models that do not adapt."""

    def model(predict: Predictor) -> AdaptiveModel:
        return AdaptiveModel(
            begin=lambda given: (),
            predict=lambda given, carry, x: predict(given[1], x),  # given: (params, task)
            adapt=lambda given, carry, support: carry,
            shots=1,
        )

    return {name: model(predict) for name, predict in family.references().items()}
