"""Estimators of the meta-gradient of a policy that adapts by policy gradients."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from jax import Array

from jaxmeta.ops import surrogates

Surrogate = Callable[[Array, Array, Array, Array], Array]
"""``(log_prob, behaviour, advantage, mask), all [N, T] -> scalar`` to make large."""


class MetaGradientEstimator(ABC):
    """Which terms of the meta-gradient are kept; a part without settings.

    The inner step of all of them is the same policy gradient. With θ' = θ + α g(θ), they
    differ in how θ' is taken to depend on θ.

    Attributes:
        surrogate: What the inner step climbs. Its second derivative is the Jacobian of g.
        first_order: Whether θ' counts as θ plus a constant.
        credits_sampling: Whether the trajectories of the inner step are credited with the
            return after it: θ decides which are sampled, and they which θ' is reached.
    """

    surrogate: ClassVar[Surrogate]
    first_order: ClassVar[bool] = False
    credits_sampling: ClassVar[bool] = False


@dataclass(frozen=True)
class LogLikelihood(MetaGradientEstimator):
    """Differentiates ``log π A``: the original code of MAML, which drops how θ samples.

    Reference: Finn et al. 2017, arXiv 1703.03400.
    """

    surrogate = staticmethod(surrogates.log_likelihood)


@dataclass(frozen=True)
class FirstOrder(MetaGradientEstimator):
    """Does not differentiate the inner step.

    Reference: Finn et al. 2017, arXiv 1703.03400.
    """

    surrogate = staticmethod(surrogates.log_likelihood)
    first_order = True


@dataclass(frozen=True)
class EMAML(MetaGradientEstimator):
    """`LogLikelihood`, with credit to the trajectories that adaptation learns from.

    Exact, in expectation, for the objective ``E_τ[J(θ + α g(τ))]`` of finitely many
    trajectories τ, with J the undiscounted return of an episode, if the algorithm has
    ``discount=1`` and ``gae_lambda=1``. Below (0.99 by default) the credit still is of the
    undiscounted return, and whole; it is the policy gradient after adaptation whose advantages
    then look less far ahead, as without a meta-learner. The inner step g may discount as it will.
    Credit is less the mean of the other tasks; with one task, which has none, it varies most.

    Reference: Stadie et al. 2018, arXiv 1803.01118; Al-Shedivat et al. 2018, arXiv 1710.03641.
    """

    surrogate = staticmethod(surrogates.log_likelihood)
    credits_sampling = True


@dataclass(frozen=True)
class DiCE(MetaGradientEstimator):
    """Keeps all terms, for the objective ``J(θ + α ∇J(θ))``; its variance is above that of `LVC`.

    Exact as the episodes of a step become many, if their advantages are plain
    (``PolicyObjective(standardize=False)``): how their standard deviation depends on θ is a
    term that only `EMAML` has, by its credit.

    Reference: Foerster et al. 2018, arXiv 1802.05098.
    """

    surrogate = staticmethod(surrogates.dice)


@dataclass(frozen=True)
class LVC(MetaGradientEstimator):
    """Low-variance curvature: differentiates likelihood ratios of single steps.

    Drops the terms by which an action changes the advantage of later ones.

    Reference: Rothfuss et al. 2019, arXiv 1810.06784.
    """

    surrogate = staticmethod(surrogates.likelihood_ratio)
