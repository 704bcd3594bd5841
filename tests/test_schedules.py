import jax.numpy as jnp
import pytest

import jaxmeta
from jaxmeta.parts.schedules import Schedule, span_run, value_at
from tests.toy_families import Counter


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("linear", [1.0, 0.75, 0.5, 0.0, 0.0]), ("cosine", [1.0, 0.8535534, 0.5, 0.0, 0.0])],
)
def test_a_schedule_goes_from_initial_to_final_and_stays(shape, expected):
    schedule = Schedule(1.0, 0.0, num_updates=8, shape=shape)
    values = [float(value_at(schedule, jnp.int32(u))) for u in (0, 2, 4, 8, 100)]
    assert values == pytest.approx(expected)


def test_a_constant_is_itself():
    assert value_at(0.25, jnp.int32(7)) == 0.25


def test_a_schedule_without_a_length_spans_the_run():
    algorithm = jaxmeta.RL2(learning_rate=Schedule(1e-3, 0.0), entropy_coef=Schedule(1.0, 0.0, 5))
    spanned = span_run(algorithm, 40)
    assert spanned.learning_rate == Schedule(1e-3, 0.0, 40)
    assert spanned.entropy_coef == Schedule(1.0, 0.0, 5)
    assert spanned.optimizer == algorithm.optimizer


def test_a_schedule_without_a_length_is_refused_outside_a_run():
    with pytest.raises(jaxmeta.ConfigError, match="num_updates is None"):
        value_at(Schedule(1.0, 0.0), jnp.int32(0))


@pytest.mark.parametrize("bad", [{"num_updates": 0}, {"shape": "cubic"}])
def test_bad_schedules_are_refused(bad):
    with pytest.raises(jaxmeta.ConfigError, match=next(iter(bad))):
        Schedule(1.0, 0.0, **bad)


@pytest.mark.parametrize("algorithm", [jaxmeta.RL2, jaxmeta.EPOpt])
def test_memory_is_estimated_whatever_the_length_of_the_schedules(algorithm):
    constant = algorithm(discount=0.9)
    scheduled = algorithm(discount=Schedule(0.0, 0.9))
    tasks = Counter()
    assert scheduled.memory_bytes(tasks, 8) == constant.memory_bytes(tasks, 8) > 0
