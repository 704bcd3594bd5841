"""No two streams of random numbers are one."""

import re
from pathlib import Path

import jax
import numpy as np

from jaxmeta import streams
from jaxmeta.config import TrainConfig
from jaxmeta.engine import make_init, make_update
from jaxmeta.evaluation.evaluate import evaluation_key, monitor_key
from jaxmeta.streams import Stream, stream_key
from tests.toys import ToyFamily, ToyLearner

SEEDS = range(5)
CHILDREN = 300
HALVES = ("init", "update")
OF_TRAINING = {f"seed {s}/{i}": f"{n} of {s}" for s in SEEDS for i, n in enumerate(HALVES)}
SPLIT_AT_MOST = 2**24  # keys that anything is split into, and indices that are folded in


def data(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def roots():
    """The keys that streams begin with, by name."""
    for seed in SEEDS:
        key = jax.random.key(seed)
        yield f"seed {seed}", key
        yield f"init of {seed}", streams.init_key(key)
        yield f"update of {seed}", jax.random.split(key)[1]
        for stream in Stream:
            yield f"{stream.name} of {seed}", stream_key(seed, stream)


def test_no_two_streams_nor_what_is_derived_in_them_coincide():
    """Children of the seed itself are among them: its first two are training's."""
    known = {}
    for name, key in roots():
        children = {data(key): name}
        parts = jax.random.split(key, CHILDREN)
        folded = jax.vmap(lambda i, key=key: jax.random.fold_in(key, i))(np.arange(CHILDREN))
        for i in range(CHILDREN):
            # Of one parent these are the same by design of JAX, which is the reason for this.
            children |= {data(parts[i]): f"{name}/{i}", data(folded[i]): f"{name}/{i}"}
        children |= {data(jax.random.fold_in(key, streams.BETWEEN)): f"{name}/between"}
        for child, said in children.items():
            first = known.setdefault(child, said)
            assert said in (first, OF_TRAINING.get(first)), f"{first} and {said} are one key"


def test_constants_differ_and_are_beyond_all_splits():
    values = [*Stream, streams.BETWEEN]
    assert len(set(values)) == len(values)
    assert all(SPLIT_AT_MOST < value < 2**32 for value in values)


def test_every_stream_of_the_library_is_named_in_one_place():
    """A number folded into the key of a seed is a stream; those are in `jaxmeta.streams`."""
    root = Path(streams.__file__).parent
    direct = re.compile(r"fold_in\(\s*jax\.random\.key\(|_STREAM\b")
    found = {p.name for p in root.rglob("*.py") if direct.search(p.read_text())}
    # Checks of a family or an algorithm draw by their names and train nothing with the seed.
    probes = {"probes.py", "algorithm_probes.py", "supervised.py"}
    assert found - probes == {"streams.py"}


def test_training_and_evaluation_draw_from_their_streams():
    keys = {}

    class Watched(ToyLearner):
        def update(self, family, state, key, step):
            keys["update"] = key
            return super().update(family, state, key, step)

    config = TrainConfig(algorithm=Watched(), tasks=ToyFamily(), total_env_steps=10_000)
    key = jax.random.key(3)

    def run(key):
        state = make_init(config)(key[None])
        make_update(config)(jax.tree.map(lambda x: x[0], state), key, 7)
        return keys["update"]

    assert data(jax.jit(run)(key)) == data(streams.update_key(key, 7))
    assert data(evaluation_key(3)) == data(stream_key(3, Stream.EVALUATION))
    assert data(monitor_key()) == data(stream_key(0, Stream.MONITOR))
