"""Which families test on tasks that never occur in training, by drawing from both splits."""

import jax
import numpy as np
import pytest

from jaxmeta.catalog.registry import FAMILIES
from jaxmeta_envs import (
    AntDirection,
    CorrelatedBandit,
    GridNavigation,
    RegressionControl,
    Sinusoid,
    SparsePointNavigation,
    XLandMiniGrid,
    from_gymnax,
)
from jaxmeta_envs.core.errors import ConfigError

# Few enough that two of a continuum's 2**23 float32 are not equal by chance; enough to meet what
# is drawn from both splits.
TASKS = 256
SHARING = {
    "informative-bandit",
    "two-step",
    "t-maze",
    "point-navigation-corners",
    "half-cheetah-direction",
    "ant-direction",
    "xland",
}
VARIANTS = [
    (GridNavigation(holdout=0), False),
    (GridNavigation(holdout=1), True),
    (GridNavigation.shortest_path(3), True),
    (SparsePointNavigation(holdout=0), False),
    (SparsePointNavigation(num_goals=None, holdout=0), True),
    (AntDirection(directions="one-radian"), False),
    (AntDirection(directions="any"), True),
    (RegressionControl(Sinusoid()), True),
    *((CorrelatedBandit(variant=name), False) for name in ("easy", "medium", "hard")),
    *((CorrelatedBandit(variant=name), True) for name in ("uniform", "independent")),
]


def share_of_test_in_train(family):
    """How many of the tasks drawn for "test" were drawn for "train", too."""

    def draw(seed, split):
        keys = jax.random.split(jax.random.key(seed), TASKS)
        tasks = jax.vmap(lambda key: family.sample_task(key, split))(keys)
        rows = [np.asarray(leaf).reshape(TASKS, -1) for leaf in jax.tree.leaves(tasks)]
        return [b"".join(row[i].tobytes() for row in rows) for i in range(TASKS)]

    seen = set(draw(0, "train"))
    return np.mean([task in seen for task in draw(1, "test")])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_says_whether_its_test_tasks_occur_in_training(name):
    family = FAMILIES[name]()
    try:
        family.check_installed()
    except ConfigError as error:
        pytest.skip(str(error))
    assert family.disjoint_splits == (name not in SHARING)
    if name == "xland":
        # Of two objects there are few enough tasks to meet one twice.
        family = XLandMiniGrid(num_objects=2)
    assert (share_of_test_in_train(family) == 0.0) == family.disjoint_splits


@pytest.mark.parametrize(("family", "disjoint"), VARIANTS, ids=str)
def test_what_is_shared_depends_on_the_fields(family, disjoint):
    assert family.disjoint_splits == disjoint
    assert (share_of_test_in_train(family) == 0.0) == disjoint


def test_rulesets_of_a_benchmark_are_divided():
    assert XLandMiniGrid(benchmark="rules.pkl").disjoint_splits


def test_parameters_of_gymnax_are_what_their_sampler_says():
    pytest.importorskip("gymnax")
    for disjoint in (True, False):
        family = from_gymnax("Pendulum-v1", lambda key, split: None, disjoint_splits=disjoint)
        assert family.disjoint_splits == disjoint
