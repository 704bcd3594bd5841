"""Spreading the tasks over devices changes nothing but the speed."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import GRU, PPO, RL2
from jaxmeta.engine import make_chunk, make_init, seed_keys
from jaxmeta.parallel import choose_devices
from tests.toy_families import Counter

CONFIG = jaxmeta.TrainConfig(
    algorithm=RL2(
        num_tasks=16, memory=GRU(4), optimizer=PPO(epochs=2, minibatches=2), learning_rate=0.01
    ),
    tasks=Counter(),
    updates_per_chunk=3,
    num_seeds=2,
)


@pytest.fixture(scope="module")
def programs():
    """Compiled chunks on one and four devices, with the inputs of each."""
    found = {}
    for count in (1, 4):
        devices = choose_devices(16, 2, count)
        mesh = jax.sharding.Mesh(devices, ("tasks",))
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        keys = jax.device_put(seed_keys(CONFIG), everywhere)
        state = jax.jit(make_init(CONFIG), out_shardings=everywhere)(keys)
        chunk = jax.jit(make_chunk(CONFIG, devices))
        found[count] = chunk.lower(state, keys, jnp.int32(0)).compile(), state, keys
    return found


def test_one_and_four_devices_give_the_same_losses_and_parameters(programs):
    (one, state_1, keys_1), (four, state_4, keys_4) = programs[1], programs[4]
    new_1, metrics_1 = one(state_1, keys_1, jnp.int32(0))
    new_4, metrics_4 = four(state_4, keys_4, jnp.int32(0))
    assert metrics_1.keys() == metrics_4.keys()
    for name in metrics_1:
        np.testing.assert_allclose(
            metrics_1[name], metrics_4[name], rtol=2e-3, atol=2e-5, err_msg=name
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        new_1.params,
        new_4.params,
    )


def test_the_program_adds_up_once_per_gradient_step_and_moves_no_trajectories(programs):
    text = programs[4][0].as_text()
    for collective in ("all-to-all", "all-gather", "collective-permute", "reduce-scatter"):
        assert f" {collective}(" not in text
    sums = re.findall(r"= .* all-reduce(?:-start)?\(", text)
    # Steps per minibatch, advantages and targets, returns, and one for the gradient: were it
    # inside the loop over time or split by parameter there would be many more.
    assert 1 <= len(sums) <= 4


def test_bad_numbers_of_devices_are_refused():
    with pytest.raises(jaxmeta.ConfigError, match=r"devices is 99; it must be from 1 to"):
        choose_devices(16, 2, 99)
    with pytest.raises(jaxmeta.ConfigError, match=r"devices is 3; .* 1, 2, 4: num_tasks=16 is"):
        choose_devices(16, 2, 3)
    with pytest.raises(jaxmeta.ConfigError, match=r"num_tasks is 6; it must be a multiple of 4"):
        choose_devices(6, 4, None)
    assert len(choose_devices(12, 4, None)) == 3


@pytest.mark.parametrize("platform", ["cuda", "moon"])
def test_a_platform_that_is_not_here_is_one_sentence(platform, tmp_path):
    code = "import sys; from jaxmeta.cli import main; sys.exit(main(sys.argv[1:]))"
    run_dir = tmp_path / "run"
    arguments = ["train", "rl2", "bernoulli-bandit", "--run-dir", str(run_dir)]
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2, found.stderr
    last = found.stderr.strip().splitlines()[-1]
    assert f"JAX_PLATFORMS is '{platform}'; it must be a platform that is here" in last
    assert "Traceback" not in found.stderr
    assert not run_dir.exists()
