"""Every training program can be lowered for accelerators that are not here. Compiles nothing."""

from dataclasses import dataclass, replace

import jax
import pytest

import jaxmeta
from jaxmeta.training.loop import trace_chunk
from tests.tiny_runs import RUNS
from tests.toys import ToyFamily, ToyLearner

FAST = ("rl2-gru", "epopt-trpo", "maml", "policy-maml-trpo", "policy-maml-ppo", "gmps")
NAMES = [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in RUNS]


@dataclass(frozen=True)
class Talkative(ToyFamily):
    def sample_task(self, key, split="train"):
        task = super().sample_task(key, split)
        jax.debug.print("{}", task)
        return task


def lowered(config, devices, *platforms):
    """The program as StableHLO for all platforms at once, by the rules of each."""
    traced = trace_chunk(config, jax.devices()[:devices])
    return traced.lower(lowering_platforms=platforms).as_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_training_program_is_lowered_for_cuda_and_tpu(name):
    text = lowered(RUNS[name], 4, "cuda", "tpu")
    assert "stablehlo.all_reduce" in text
    assert "callback" not in text  # it would tie the program to this host


def test_a_callback_shows_in_the_text():
    config = jaxmeta.TrainConfig(algorithm=ToyLearner(), tasks=Talkative())
    assert "callback" in lowered(config, 1, "cpu")


@pytest.mark.parametrize(("asked", "said"), [("float32", "HIGHEST"), ("bfloat16", "bf16")])
def test_products_are_as_precise_as_asked_in_both_directions(asked, said):
    def products(precision):
        config = replace(RUNS["rl2-gru"], matmul_precision=precision)
        text = lowered(config, 1, "cuda", "tpu")
        return [line for line in text.splitlines() if "stablehlo.dot_general" in line]

    default, chosen = products("default"), products(asked)
    assert len(default) == len(chosen) > 10  # of the forward pass and of the gradient
    assert not any(said in line for line in default)
    assert all(said in line for line in chosen)


def test_a_precision_that_is_none_is_refused():
    with pytest.raises(jaxmeta.ConfigError, match=r"matmul_precision is 'half'.*float32, bfloat16"):
        replace(RUNS["rl2-gru"], matmul_precision="half")
