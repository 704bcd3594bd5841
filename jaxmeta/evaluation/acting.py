"""How a policy that acts is measured: by the returns of its episodes."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jax import Array

from jaxmeta.evaluation.programs import Exported, policy_programs
from jaxmeta.evaluation.protocol import PlayedReference, Protocol, is_shift
from jaxmeta.evaluation.scenes import Scene, episodes_scene
from jaxmeta.experience.play import play_curve
from jaxmeta.runtime.arguments import check_integer
from jaxmeta_envs.core.contracts import Reference, TaskFamily, no_adaptation
from jaxmeta_envs.core.errors import require

OF_PRIOR = " (for the training prior)"
"""Behind the name of a reference that believes in the training tasks, on other tasks."""


@dataclass(frozen=True)
class Acting(Protocol):
    """Of an `AdaptivePolicy` in a `TaskFamily`: a point is a mean of undiscounted returns."""

    acts: ClassVar[bool] = True

    @property
    def together(self) -> int:
        return self.policy.episodes_per_adapt

    @property
    def row_steps(self) -> int:
        return self.together * self.family.horizon

    @property
    def seen(self) -> int:
        return self.policy.episodes_per_adapt

    @property
    def shots(self) -> None:
        return None

    @property
    def adapts_by_steps(self) -> bool:
        return self.policy.adapt is not no_adaptation

    @property
    def headline(self) -> str:
        return "total" if self.together == 1 else "final"

    def rows_of(self, trial_episodes: int) -> int:
        return max(1, math.ceil(trial_episodes / self.together))

    def seeing(self, shots: int) -> Acting:
        return replace(self, policy=self.policy._replace(episodes_per_adapt=shots))

    def check(self, deterministic: bool, episodes: int | None, name: str) -> None:
        require(isinstance(deterministic, bool), "deterministic", deterministic, "True or False")
        possible = not deterministic or self.policy.act_mode is not None
        said = f"False, as {name} does not say what the mode of its actions is (act_mode)"
        require(possible, "deterministic", deterministic, said)
        if episodes is not None:
            check_integer("episodes_per_point", episodes, least=1)
            said = f"None or at least {self.together}, which {name} adapts to at a time"
            require(episodes >= self.together, "episodes_per_point", episodes, said)

    def play(self, given: Any, task: Any, key: Array) -> Array:
        return play_curve(
            self.family,
            self.policy,
            given,
            task,
            key,
            self.experience,
            episodes=self.episodes,
            deterministic=self.deterministic,
        )

    def optimum(self, split: str) -> np.ndarray | None:
        """Returns what is exact of agents that adapt after every episode to tasks as trained on."""
        if self.together > 1 or is_shift(split):
            return None
        optimal = self.family.optimal_returns(len(self.experience))
        return None if optimal is None else np.asarray(optimal, np.float64)

    def references(self, split: str) -> Mapping[str, PlayedReference]:
        """Returns the family's references, each after as many episodes as the learner.

        All points are means of as many episodes, or of as many as a reference adapts to at a
        time, if those are more. On a shifted split the name of a reference that knows the
        distribution of training ends in `OF_PRIOR`.
        """
        played = {}
        for name, reference in _references(self.family, self.experience[-1] + 1).items():
            policy, params, told_task, _ = reference
            number = max(self.episodes, policy.episodes_per_adapt)
            protocol = replace(self, policy=policy, episodes=number, deterministic=False)
            shown = shown_name(name, reference, split)
            played[shown] = PlayedReference(protocol, params, told_task)
        return played

    def scene(self, params: Any, key: Array, split: str, num_tasks: int) -> Scene:
        rows = len(self.experience)
        return episodes_scene(self.family, self.policy, params, rows, key, split, num_tasks)

    def programs(self, params: Any) -> Exported:
        return policy_programs(self.policy, self.family, params)


def shown_name(name: str, reference: Reference, split: str) -> str:
    """Returns a reference's name, and where it needs saying what it is optimal for."""
    of_prior = reference.knows_prior and is_shift(split)
    return f"{name}{OF_PRIOR}" if of_prior else name


@functools.lru_cache(maxsize=32)
def _references(family: TaskFamily, num_episodes: int) -> dict[str, Reference]:
    return dict(family.references(num_episodes))
