"""Published methods that are an algorithm with certain parts, by the names of their papers.

``jaxmeta train reptile sinusoid`` is `MAML` with `Reptile` as its outer part; a file says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxmeta.algorithms.maml import MAML, Reptile
from jaxmeta.algorithms.policy_maml import PolicyMAML
from jaxmeta.contracts import Algorithm
from jaxmeta.networks import MLP
from jaxmeta.parts.estimators import EMAML, LVC, FirstOrder
from jaxmeta.parts.inner_loop import SGD, InnerLoop, MetaSGD
from jaxmeta.parts.optimizers.ppo import PPO
from jaxmeta.parts.optimizers.trpo import TRPO
from jaxmeta.parts.schedules import Schedule
from jaxmeta_envs.core.contracts import Family
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.core.supervised import SupervisedFamily


@dataclass(frozen=True)
class Method:
    """A published method.

    Attributes:
        title: Its name as papers write it.
        summary: What it is, one sentence.
        supervised: The algorithm for tasks to predict, or None.
        policy: The algorithm for tasks to act in, or None.
    """

    title: str
    summary: str
    supervised: MAML | None = None
    policy: PolicyMAML | None = None

    def algorithm(self, name: str, family: type[Family]) -> Algorithm:
        """Returns the algorithm for this kind of family.

        Raises:
            ConfigError: If the method is not for families of this kind; it says ``name``.
        """
        predicts = issubclass(family, SupervisedFamily)
        found = self.supervised if predicts else self.policy
        if found is None:
            kind = "supervised families" if self.policy is None else "families to act in"
            raise ConfigError(
                f"family is {family.__name__}; with {name} it must be one of the {kind}"
            )
        return found


# MAML's code halves the steps after the first at test time.
_HALVED = InnerLoop(optimizer=SGD(0.1), extra_step_factor=0.5)

METHODS: dict[str, Method] = {
    "maml": Method(
        "MAML",
        "Model-agnostic meta-learning: a start for gradient descent, learned through the descent.",
        MAML(),
        PolicyMAML(
            inner=_HALVED,
            # One task after the other, whose replay stays in the cache: 1.4 times as fast on a CPU.
            optimizer=TRPO(backtrack=0.8, task_by_task=True),
        ),
    ),
    "fomaml": Method(
        "First-order MAML",
        "First-order MAML: the gradient after adaptation, as if adaptation had added a constant.",
        MAML(inner=InnerLoop(second_order_steps=0)),
        PolicyMAML(estimator=FirstOrder()),
    ),
    "anil": Method(
        "ANIL",
        "MAML of which only the last layer adapts (almost no inner loop).",
        MAML(inner=InnerLoop(adapts="head")),
        PolicyMAML(inner=InnerLoop(optimizer=SGD(0.1), adapts="policy_head")),
    ),
    "meta-sgd": Method(
        "Meta-SGD",
        "MAML with a learned step size for every parameter.",
        MAML(inner=InnerLoop(optimizer=MetaSGD())),
        PolicyMAML(inner=InnerLoop(optimizer=MetaSGD())),
    ),
    "reptile": Method(
        "Reptile",
        "Moves the start of gradient descent towards where it ends; differentiates nothing twice.",
        MAML(
            num_tasks=1,
            network=MLP((64, 64), "tanh"),
            first_weights="uniform",
            inner=InnerLoop(steps=5, optimizer=SGD(0.02), minibatches=5),
            outer=Reptile(),
            learning_rate=Schedule(0.1, 0.0),
        ),
    ),
    "pretraining": Method(
        "Pretraining",
        "One network for all tasks, fine-tuned at test time: the baseline of MAML's paper.",
        MAML(inner=InnerLoop(steps=0)),
    ),
    "promp": Method(
        "ProMP",
        "Proximal meta-policy search: low-variance curvature, clipped ratios, an inner KL penalty.",
        policy=PolicyMAML(
            num_tasks=40,
            inner=_HALVED,
            optimizer=PPO(clip=0.3, epochs=5, minibatches=1),
            kl_coef=5e-4,
        ),
    ),
    "e-maml": Method(
        "E-MAML",
        "MAML that credits the episodes adaptation learns from with what comes after it.",
        policy=PolicyMAML(estimator=EMAML()),
    ),
}
"""Published methods by name."""


def title_of(algorithm: Algorithm) -> str:
    """Returns what tables and figures call an agent: its method, if that is a published one.

    `MAML` and `PolicyMAML` are called by the parts that tell a method from MAML, other numbers
    aside, and MAML with none of them or with those of several. Any other algorithm, a subclass
    of these as well, is called by its class.
    """
    if type(algorithm) is MAML:
        return METHODS[_supervised_method(algorithm)].title
    if type(algorithm) is PolicyMAML:
        return METHODS[_policy_method(algorithm)].title
    return type(algorithm).__name__


def _supervised_method(algorithm: MAML) -> str:
    inner = algorithm.inner
    if isinstance(algorithm.outer, Reptile):
        return "reptile"
    if inner.steps == 0:
        return "pretraining"
    return _only({"fomaml": inner.second_order_steps == 0} | _marks_of(inner, "head"))


def _policy_method(algorithm: PolicyMAML) -> str:
    inner, estimator = algorithm.inner, algorithm.estimator
    clipped = isinstance(algorithm.optimizer, PPO) and isinstance(estimator, LVC)
    marks = {
        "fomaml": isinstance(estimator, FirstOrder) or inner.second_order_steps == 0,
        "e-maml": isinstance(estimator, EMAML),
        "promp": clipped and algorithm.kl_coef > 0,
    }
    return _only(marks | _marks_of(inner, "policy_head"))


def _marks_of(inner: InnerLoop, head: str) -> dict[str, bool]:
    return {"anil": inner.adapts == head, "meta-sgd": isinstance(inner.optimizer, MetaSGD)}


def _only(marks: dict[str, bool]) -> str:
    found = [name for name, there in marks.items() if there]
    return found[0] if len(found) == 1 else "maml"
