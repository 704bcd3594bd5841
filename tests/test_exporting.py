"""Agents written for JAX alone: what they do there is what they do here, to the bit."""

import dataclasses
import errno
import functools
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import (
    GRU,
    LSTM,
    MAML,
    MLP,
    RL2,
    SGD,
    Adam,
    EPOpt,
    FastWeights,
    InnerLoop,
    MetaSGD,
    PolicyMAML,
    Recall,
)
from jaxmeta.deploy import export as exporting
from jaxmeta.deploy.load import load_exported, read_safetensors
from jaxmeta.networks import InputMoments
from jaxmeta.ops.moments import Moments
from jaxmeta_envs import (
    CartPole,
    GridNavigation,
    PointNavigation,
    PolicyInput,
    TabularMDP,
    Trajectory,
)
from jaxmeta_envs.core.supervised import Examples
from jaxmeta_envs.regression.functions import Sinusoid
from tests.tiny_runs import untrained
from tests.toy_families import Counter
from tests.toy_spaces import DONE, MIXED, SEEN, AnySpaces

pytest.importorskip("flatbuffers")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

LAYERS = MLP((4,), "tanh")
AGENTS = {
    "rl2": (RL2(num_tasks=8, memory=GRU(4)), Counter()),
    "maml": (PolicyMAML(shots=2, network=LAYERS), PointNavigation(episode_length=5)),
    "waves": (
        MAML(network=LAYERS, shots=3, inner=InnerLoop(optimizer=SGD(0.1))),
        Sinusoid(),
    ),
}

# Runs here, on the library's functions, and where there is nothing but JAX, on the exported ones.
# Observations are noise, so that actions depend on what is remembered.
PLAY = '''
import jax
import numpy as np


def play(begin, act, adapt, PolicyInput, Trajectory, shape, size, no_action):
    """Returns all actions of two rounds of episodes [N, T] of one task."""
    noise, draws = np.random.default_rng(0), iter(range(10_000))
    carry, actions = begin(jax.random.key(7)), []
    for _ in range(2):
        rows, base = [], carry
        for _ in range(shape[0]):
            carry = base if shape[0] > 1 else carry
            action, reward = no_action, np.float32(0)
            obs = noise.normal(size=size).astype(np.float32)
            for t in range(shape[1]):
                seen = PolicyInput(obs, action, reward, np.bool_(False), np.bool_(t == 0))
                action, carry = act(carry, seen, jax.random.key(next(draws)))
                action, reward = np.asarray(action), np.float32(noise.normal())
                obs = noise.normal(size=size).astype(np.float32)
                end = np.bool_(t == shape[1] - 1)
                rows.append(Trajectory(seen, action, reward, end, ~end, obs, np.bool_(True)))
                actions.append(action)
        stack = lambda *x: np.stack(x).reshape(*shape, *np.shape(x[0]))
        episodes = jax.tree.map(stack, *rows)
        carry = adapt(base if shape[0] > 1 else carry, episodes, jax.random.key(next(draws)))
    return np.stack(actions)


def fit(begin, predict, adapt, Examples):
    """Returns predictions after 0, 1 and 2 steps on the same examples."""
    x = np.linspace(-3, 3, 5, dtype=np.float32)[:, None]
    carry, said = begin(), []
    for _ in range(3):
        said.append(np.asarray(predict(carry, x)))
        carry = adapt(carry, Examples(x[:3], np.sin(x[:3])))
    return np.stack(said)
'''

ALONE = """
import collections, importlib.util, sys

for name in ("jaxmeta", "jaxmeta_envs", "flax", "optax", "safetensors", "flatbuffers"):
    assert importlib.util.find_spec(name) is None, name
folder = sys.argv[1]
sys.path.insert(0, folder + "/rl2")
from load import PolicyInput, Trajectory, load_exported

Examples = collections.namedtuple("Examples", "x y")
jax.config.update("jax_numpy_rank_promotion", "raise")
for name, shape, size, no_action in (
    ("rl2", (1, 4), (1,), np.int32(0)),
    ("maml", (2, 5), (2,), np.zeros(2, np.float32)),
):
    agent = load_exported(folder + "/" + name)
    functions = agent.begin, agent.act, agent.adapt
    actions = play(*functions, PolicyInput, Trajectory, shape, size, no_action)
    np.save(folder + f"/{name}.npy", actions)
agent = load_exported(folder + "/waves")
adapt = lambda carry, support: agent.adapt(carry, *support)
np.save(folder + "/waves.npy", fit(agent.begin, agent.predict, adapt, Examples))
"""


@pytest.fixture(scope="module")
def results():
    return {name: untrained(*agent) for name, agent in AGENTS.items()}


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    """The folder of all exported agents, of seed 1 each."""
    folder = tmp_path_factory.mktemp("exported")
    for name, result in results.items():
        assert jaxmeta.export(result, folder / name, seed_index=1) == folder / name
    return folder


@pytest.fixture(scope="module")
def alone(written, tmp_path_factory):
    """Plays them where nothing is installed but JAX and what it cannot do without."""
    site, packages = Path(sysconfig.get_paths()["purelib"]), tmp_path_factory.mktemp("packages")
    allowed = re.compile(r"(jax|jaxlib|numpy|scipy|ml_dtypes|opt_einsum)([.-].*)?")
    for entry in site.iterdir():
        if allowed.fullmatch(entry.name):
            (packages / entry.name).symlink_to(entry)
    command = [sys.executable, "-S", "-c", PLAY + ALONE, str(written)]
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run(command, env=environment, cwd=packages, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return written


@pytest.mark.parametrize(("name", "shape", "size"), [("rl2", (1, 4), (1,)), ("maml", (2, 5), (2,))])
def test_with_jax_alone_it_takes_the_very_same_actions(results, alone, name, shape, size):
    result, tools = results[name], {}
    exec(PLAY, tools)
    params = jax.tree.map(lambda x: x[1], result.params)
    begin, act, adapt = (jax.jit(f) for f in result.policy[:3])
    actions = tools["play"](
        lambda key: begin(params, key),
        lambda *args: act(params, *args),
        lambda *args: adapt(params, *args),
        PolicyInput,
        Trajectory,
        shape,
        size,
        np.asarray(result.config.tasks.action_space.zero()),
    )
    rounding = 0.0 if name == "rl2" else 1e-5  # a gradient step sums in an order of its own
    np.testing.assert_allclose(np.load(alone / f"{name}.npy"), actions, rtol=0, atol=rounding)
    assert len(np.unique(actions)) > 1


@pytest.mark.parametrize("name", ["rl2", "maml"])
def test_it_takes_the_mode_too(results, written, name):
    result, agent = results[name], load_exported(written / name)
    params, family = jax.tree.map(lambda x: x[1], result.params), result.config.tasks
    seen = PolicyInput(
        family.observation_space.zero(), family.action_space.zero(), 0.0, False, True
    )
    keys = jax.random.split(jax.random.key(3))
    begin, act_mode = jax.jit(result.policy.begin), jax.jit(result.policy.act_mode)
    expected, _ = act_mode(params, begin(params, keys[0]), seen, keys[0])
    for key in keys:  # which changes nothing
        action, _ = agent.act_mode(agent.begin(keys[0]), seen, key)
        np.testing.assert_array_equal(action, expected)


def test_inputs_are_normalised_by_the_moments_that_training_left(tmp_path):
    """Before and after adaptation, as by an agent without moments on normalised inputs."""
    learner, family = AGENTS["maml"]
    result = untrained(learner, family, num_seeds=1)
    params, raw = result.params, dict(result.params.meta.initial)
    del raw["inputs"]
    trained = Moments(jnp.array([[1000.0, -5.0]]), jnp.array([[9.0, 4.0]]), jnp.full((1, 2), 0.5))
    measured = params.meta._replace(initial=raw | {"inputs": InputMoments(trained, None)})
    state = result.state._replace(params=params._replace(meta=measured))
    result = result._replace(state=state)
    agent = load_exported(jaxmeta.export(result, tmp_path / "agent"))
    plain = dataclasses.replace(learner, normalize_observations=False).policy(family)
    own = params._replace(meta=params.meta._replace(initial=raw))
    own = jax.tree.map(lambda x: x[0], own)

    rng, key = np.random.default_rng(0), jax.random.key(3)
    obs, action = rng.normal(size=(2, 2, 5, 2)).astype(np.float32)
    reward, no = obs[..., 0] ** 2, np.zeros((2, 5), bool)

    def modes(act_mode, adapt, carry, obs):
        seen = PolicyInput(obs, action, reward, no, no)
        first = jax.tree.map(lambda x: x[0, 0], seen)
        after = adapt(carry, Trajectory(seen, action, reward, no, no, obs, ~no), key)
        return np.stack([act_mode(held, first, key)[0] for held in (carry, after)])

    ours = [jax.jit(functools.partial(f, own)) for f in (plain.act_mode, plain.adapt)]
    expected = modes(*ours, plain.begin(own, key), obs)
    far = obs * np.float32([3.0, 2.0]) + np.float32([1000.0, -5.0])
    found = modes(agent.act_mode, agent.adapt, agent.begin(key), far)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert np.max(np.abs(expected[1] - expected[0])) > 1e-4


def test_with_jax_alone_it_predicts_the_very_same_values(results, alone):
    model, tools = results["waves"].policy, {}
    exec(PLAY, tools)
    params = jax.tree.map(lambda x: x[1], results["waves"].params)
    begin, predict, adapt = (jax.jit(f) for f in model[:3])
    said = tools["fit"](
        lambda: begin(params),
        lambda *args: predict(params, *args),
        lambda *args: adapt(params, *args),
        Examples,
    )
    np.testing.assert_array_equal(np.load(alone / "waves.npy"), said)
    errors = np.mean((said[:, :3, 0] - np.sin(np.linspace(-3, 3, 5)[:3])) ** 2, axis=1)
    assert np.all(np.diff(errors) < 0)


def test_the_example_of_a_supervised_model_runs_as_it_stands(written, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "deployment.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (code,) = [block for block in blocks if "predict" in block]
    monkeypatch.syspath_prepend(written / "waves")
    monkeypatch.delitem(sys.modules, "load", raising=False)
    x = np.linspace(-3, 3, 3)[:, None]
    space = {"x": x, "y": np.sin(x), "x_new": np.zeros((7, 1))}
    exec(code, space)
    monkeypatch.delitem(sys.modules, "load")
    assert space["predicted"].shape == (7, 1)
    assert space["model"].manifest["shots"] == 3
    before, after = (space["model"].predict(c, x) for c in (space["model"].begin(), space["carry"]))
    assert np.mean((after - space["y"]) ** 2) < np.mean((before - space["y"]) ** 2)


def test_the_parameters_are_those_of_the_seed(results, written):
    path = written / "maml" / "params.safetensors"
    stored = safetensors_numpy.load_file(path)
    ours = read_safetensors(path.read_bytes())
    leaves = jax.tree_util.tree_leaves_with_path(results["maml"].params)
    assert len(stored) == len(ours) == len(leaves)
    for keys, leaf in leaves:
        name = jax.tree_util.keystr(keys, simple=True, separator="/")
        for arrays in (stored, ours):
            np.testing.assert_array_equal(arrays[name], leaf[1])
            assert arrays[name].dtype == leaf.dtype


def test_safetensors_of_every_type_are_read():
    kinds = ["bool", "int8", "uint8", "int16", "int32", "uint32", "int64", "float16", "float64"]
    arrays = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in kinds}
    arrays["scalar"] = np.array(2.5, np.float32)
    arrays["bfloat16"] = np.arange(3).astype(jax.numpy.bfloat16)
    read = read_safetensors(safetensors_numpy.save(arrays, {"note": "x"}))
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_the_manifest_says_what_the_directory_holds(written):
    manifest = json.loads((written / "maml" / "manifest.json").read_text())
    assert (manifest["format"], manifest["kind"], manifest["seed_index"]) == (1, "policy", 1)
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert (manifest["adapts"], manifest["episodes_per_adapt"]) == (True, 2)
    assert manifest["horizon"] == 5
    assert manifest["agent"] == "MAML"
    assert manifest["tasks"]["kind"] == "point-navigation"
    assert manifest["observation_space"]["shape"] == [2]
    shapes = {entry["name"]: entry["shape"] for entry in manifest["programs"]["adapt"]["inputs"]}
    assert shapes["obs"] == [2, 5, 2]
    assert shapes["mask"] == [2, 5]
    assert not json.loads((written / "rl2" / "manifest.json").read_text())["adapts"]
    names = {path.name for path in (written / "rl2").iterdir()}
    assert names == {
        *(f"{name}.jaxexport" for name in ("begin", "act", "act_mode", "adapt")),
        *("manifest.json", "params.safetensors", "load.py", "flatbuffers.zip"),
    }


def test_every_platform_has_its_program(written):
    from jax import export

    for path in written.glob("*/*.jaxexport"):
        blob = path.read_bytes()
        assert b".py" not in blob, "no path of the machine that wrote it"
        artifact = export.deserialize(bytearray(blob))
        assert artifact.platforms == ("cpu", "cuda", "tpu")
        assert artifact.mlir_module_serialized.startswith(b"ML\xefR\rStableHLO_v")


def test_raw_keys_are_as_good_and_other_shapes_are_refused(written):
    agent = jaxmeta.load_exported(written / "rl2")
    carry = agent.begin(jax.random.key(0))
    seen = PolicyInput(np.zeros(1), 0, 0.0, False, True)
    key = jax.random.key(5)
    action, after = agent.act(carry, seen, key)
    same, again = agent.act(carry, seen, np.asarray(jax.random.key_data(key)))
    assert int(action) == int(same)
    np.testing.assert_array_equal(after[0], again[0])
    with pytest.raises(ValueError, match=r"obs has shape \[2\]; it must be \[1\]"):
        agent.act(carry, seen._replace(obs=np.zeros(2)), key)
    with pytest.raises(ValueError, match=r"key has shape \[3\]; it must be \[2\]"):
        agent.begin(np.zeros(3))


def test_it_is_a_part_of_larger_programs(written):
    agent = jaxmeta.load_exported(written / "rl2")
    keys = jax.random.split(jax.random.key(1), 3)
    seen = PolicyInput(*jax.device_put((np.ones(1, np.float32), 0, 0.5, False, True)))
    seen = seen._replace(prev_action=jax.numpy.int32(0))

    def step(carry, key):
        action, carry = agent.act(carry, seen, key)
        return carry, action

    first = carry = agent.begin(keys[0])
    actions = []
    for key in keys:
        carry, action = step(carry, key)
        actions.append(int(action))
    last, scanned = jax.lax.scan(step, first, keys)
    assert scanned.tolist() == actions
    np.testing.assert_allclose(last[0], carry[0], rtol=1e-6)
    mapped = jax.lax.map(lambda key: step(first, key)[1], keys)
    assert mapped.shape == (3,)
    with pytest.raises(NotImplementedError):
        jax.vmap(lambda key: step(first, key)[1])(keys)


def test_a_later_format_and_a_directory_without_an_agent_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no exported agent"):
        jaxmeta.load_exported(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="is of format 2; this file reads format 1"):
        jaxmeta.load_exported(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed_index": 2}, "seed_index is 2; it must be from 0 to 1"),
        ({"seed_index": -1}, "seed_index is -1"),
        ({"platforms": ()}, "platforms is "),
        ({"platforms": ("cpu", "cpu")}, "platforms is "),
        ({"platforms": ("gpu",)}, r"\('gpu',\); it must be some of cpu, cuda, tpu, rocm"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(results, tmp_path, options, message):
    with pytest.raises(jaxmeta.ConfigError, match=message):
        jaxmeta.export(results["rl2"], tmp_path / "new", **options)
    assert list(tmp_path.iterdir()) == []


def test_observations_that_are_no_array_are_refused_by_name(tmp_path):
    mixed = untrained(
        RL2(num_tasks=8, memory=GRU(4)), AnySpaces(MIXED, DONE["vector"]), num_seeds=1
    )
    with pytest.raises(jaxmeta.ConfigError, match=r"tasks.observation_space is Dict.* for export"):
        jaxmeta.export(mixed, tmp_path / "agent")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_use_or_of_no_run_is_refused(results, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(jaxmeta.ConfigError, match=r"path is .*does not exist yet, or is empty"):
        jaxmeta.export(results["rl2"], tmp_path)
    with pytest.raises(jaxmeta.ConfigError, match="cannot be written"):
        jaxmeta.export(results["rl2"], tmp_path / "mine.txt" / "agent")
    with pytest.raises(jaxmeta.ConfigError, match="is not a run"):
        jaxmeta.export(tmp_path / "nothing", tmp_path / "agent")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_the_packages_the_extra_is_named(results, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(jaxmeta.ConfigError, match=r'export needs flatbuffers.*"jaxmeta\[export\]"'):
        jaxmeta.export(results["rl2"], tmp_path / "agent")
    assert list(tmp_path.iterdir()) == []


FAMILY = TabularMDP(num_states=3, num_actions=2)
KINDS = {
    "lstm": (RL2(num_tasks=8, memory=LSTM(4)), FAMILY),
    "fast weights": (RL2(num_tasks=8, memory=FastWeights()), FAMILY),
    "recall": (RL2(num_tasks=8, memory=Recall()), FAMILY),
    "value of its own": (
        RL2(num_tasks=8, memory=GRU(4), value_network="separate"),
        GridNavigation(),
    ),
    "actor and critic": (
        PolicyMAML(shots=2, network=LAYERS, baseline=LAYERS, inner=InnerLoop(optimizer=MetaSGD())),
        PointNavigation(episode_length=5),
    ),
    "adam": (
        PolicyMAML(shots=2, network=LAYERS, inner=InnerLoop(optimizer=Adam(0.1))),
        GridNavigation(),
    ),
    "epopt": (EPOpt(num_tasks=10, network=LAYERS), CartPole(episode_length=5)),
    "integers": (RL2(num_tasks=8, memory=GRU(4)), AnySpaces(SEEN["image"], DONE["multi-discrete"])),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_agent_goes_through_a_step_and_an_adaptation(kind, tmp_path):
    result = untrained(*KINDS[kind], num_seeds=1)
    agent = jaxmeta.load_exported(jaxmeta.export(result, tmp_path / "agent"))
    params = jax.tree.map(lambda x: x[0], result.params)
    begin, act, adapt = (jax.jit(f) for f in result.policy[:3])
    key, inputs = jax.random.key(3), agent.manifest["programs"]["adapt"]["inputs"][:-1]
    rows = [np.ones(entry["shape"], entry["dtype"]) for entry in inputs]
    episodes = Trajectory(PolicyInput(*rows[:5]), *rows[5:])
    seen = jax.tree.map(lambda x: x[0, 0], episodes.inputs)
    ours, theirs = begin(params, key), agent.begin(key)
    action, ours = act(params, ours, seen, key)
    same, theirs = agent.act(theirs, seen, key)
    np.testing.assert_array_equal(same, action)
    theirs = agent.adapt(theirs, episodes, key)
    for a, b in zip(theirs, jax.tree.leaves(adapt(params, ours, episodes, key)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_place_that_cannot_be_written_is_named_as_it_was_given(tmp_path, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match="Read-only") as caught:
        exporting._write(tmp_path / "agent", {"load.py": b""})
    assert caught.value.filename == str(tmp_path / "agent")
    assert os.listdir(tmp_path) == []
