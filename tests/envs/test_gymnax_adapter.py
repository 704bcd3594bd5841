import dataclasses
import json
import sys

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.catalog.serialization import from_dict, to_dict
from jaxmeta.testing import check_task_family
from jaxmeta_envs.core.errors import ConfigError
from jaxmeta_envs.core.spaces import Box, Discrete
from jaxmeta_envs.interop.gymnax import find_environment, from_gymnax

# Name, horizon, and the fields to vary: continuous and discrete actions, early ends,
# observations that are vectors and integers.
ENVIRONMENTS = {
    "CartPole-v1": (40, {"force_mag": (5.0, 20.0)}),
    "Pendulum-v1": (20, {"g": (5.0, 15.0), "m": (0.5, 2.0)}),
    "MountainCarContinuous-v0": (20, {"power": (0.001, 0.003)}),
    "Acrobot-v1": (20, {"link_mass_1": (0.5, 2.0)}),
    "FrozenLake-misc": (20, {}),
}


@dataclasses.dataclass(frozen=True)
class Vary:
    """Draws some fields uniformly; a user's class, which files can name."""

    env: str
    ranges: tuple[tuple[str, float, float], ...]

    def __call__(self, key, split):
        params = find_environment(self.env).default_params
        scale = 2.0 if split == "strong" else 1.0
        values = {
            name: scale * jax.random.uniform(jax.random.fold_in(key, i), (), jnp.float32, low, high)
            for i, (name, low, high) in enumerate(self.ranges)
        }
        return params.replace(**values)


def family_of(name, **options):
    horizon, ranges = ENVIRONMENTS[name]
    vary = Vary(name, tuple((field, *bounds) for field, bounds in ranges.items()))
    return from_gymnax(name, vary, **{"horizon": horizon, **options})


def default_params(key, split):
    return find_environment("Pendulum-v1").default_params


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_rollout_is_that_of_gymnax(name):
    """gymnax's own step, until it resets itself; its key is split before the dynamics."""
    family, env = family_of(name), gymnax.make(name)[0]
    task = family.sample_task(jax.random.key(0))
    reset_key, actions_key, steps_key = jax.random.split(jax.random.key(1), 3)
    actions = jax.vmap(family.action_space.sample)(jax.random.split(actions_key, family.horizon))
    keys = jax.random.split(steps_key, family.horizon)

    def ours(state, row):
        state, timestep = family.step(jax.random.split(row[0])[0], state, row[1], task)
        return state, timestep

    def theirs(state, row):
        _, state, reward, terminated, truncated, info = env.step(row[0], state, row[1], task)
        obs = jnp.asarray(info["final_observation"], family.observation_space.dtype)
        return state, (obs, reward, terminated, truncated)

    (state, first), (obs, their_state) = family.reset(reset_key, task), env.reset(reset_key, task)
    np.testing.assert_allclose(first, obs, rtol=1e-6)
    _, mine = jax.jit(lambda s: jax.lax.scan(ours, s, (keys, actions)))(state)
    _, other = jax.jit(lambda s: jax.lax.scan(theirs, s, (keys, actions)))(
        jax.tree.map(jnp.asarray, their_state)
    )
    done = np.asarray(other[2] | other[3])
    end = np.argmax(done) + 1
    assert done.any()
    for a, b in zip((mine.obs, mine.reward), other[:2], strict=True):
        np.testing.assert_allclose(a[:end], b[:end], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(mine.terminated[:end], other[2][:end])
    np.testing.assert_array_equal(mine.truncated[:end], (other[3] & ~other[2])[:end])


def test_the_clock_truncates_and_a_failure_terminates():
    key = jax.random.key(0)
    ends = {}
    for horizon in (5, 40):
        family = family_of("CartPole-v1", horizon=horizon)
        task = family.sample_task(key)
        state, _ = family.reset(key, task)
        step = jax.jit(lambda s, t=task, f=family: f.step(key, s, jnp.int32(1), t))
        timestep, count = None, 0
        while timestep is None or not (timestep.terminated | timestep.truncated):
            state, timestep = step(state)
            count += 1
        ends[horizon] = (count, bool(timestep.terminated), bool(timestep.truncated))
    assert ends[5] == (5, False, True)
    assert ends[40][0] < 40
    assert ends[40][1:] == (True, False)


def test_an_adapted_environment_conforms():
    check_task_family(family_of("Pendulum-v1", horizon=8), num_tasks=4)


def test_spaces_are_ours():
    pendulum = family_of("Pendulum-v1")
    assert pendulum.action_space == Box(-2.0, 2.0, (1,))
    assert pendulum.observation_space == Box(-8.0, 8.0, (3,))
    assert family_of("FrozenLake-misc").observation_space == Discrete(16)
    # gymnax writes "unbounded" as the largest float.
    assert family_of("CartPole-v1").observation_space == Box(-np.inf, np.inf, (4,))


def test_the_horizon_is_by_default_the_time_limit_and_always_the_familys():
    assert from_gymnax("Pendulum-v1", default_params).horizon == 200
    family = family_of("Pendulum-v1", horizon=7)
    assert family.sample_task(jax.random.key(0)).max_steps_in_episode == 7


def test_splits_reach_the_sampler():
    family = family_of("Pendulum-v1", splits=("train", "test", "strong"))
    key = jax.random.key(0)
    assert family.sample_task(key, "strong").g == 2 * family.sample_task(key, "test").g
    with pytest.raises(ConfigError, match="split is 'weak'; it must be one of train, test, strong"):
        family.sample_task(key, "weak")


def test_a_family_with_a_dataclass_as_sampler_comes_back_from_its_json():
    family = family_of("Pendulum-v1", horizon=30, splits=("train", "test", "strong"))
    back = from_dict(json.loads(json.dumps(to_dict(family))))
    assert back == family
    assert hash(back) == hash(family)


def test_a_function_or_an_environment_cannot_be_written_to_a_file():
    with pytest.raises(ConfigError, match=r"GymnaxFamily\.sample_params is <function"):
        to_dict(from_gymnax("Pendulum-v1", default_params))
    env = gymnax.make("Pendulum-v1")[0]
    with pytest.raises(ConfigError, match=r"GymnaxFamily\.env is <gymnax"):
        to_dict(from_gymnax(env, default_params))


def test_an_environment_is_itself_and_no_other():
    env, other = (gymnax.make("Pendulum-v1")[0] for _ in range(2))
    assert from_gymnax(env, default_params) == from_gymnax(env, default_params)
    assert from_gymnax(env, default_params) != from_gymnax(other, default_params)


class Structured:
    """An environment whose observation is none of ours."""

    default_params = gymnax.make("Pendulum-v1")[1]
    step_env = reset_env = None

    def observation_space(self, params):
        return gymnax.environments.spaces.Dict({})

    def action_space(self, params):
        return gymnax.environments.spaces.Discrete(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Pendulum", default_params), r"env is 'Pendulum'; .*did you mean Pendulum-v1"),
        ((3, default_params), "env is 3; it must be a gymnax environment"),
        ((Structured(), default_params), "observation space is Dict.*must be Discrete or Box"),
        (("Pendulum-v1", None), "sample_params is None; it must be a function"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        from_gymnax(*arguments, horizon=5)
    with pytest.raises(ConfigError, match="episode_length is 0"):
        from_gymnax("Pendulum-v1", default_params, horizon=0)
    with pytest.raises(ConfigError, match="splits is"):
        from_gymnax("Pendulum-v1", default_params, splits=("test",))


def test_what_is_no_parameters_is_refused():
    family = from_gymnax("Pendulum-v1", lambda key, split: 3.0)
    with pytest.raises(ConfigError, match=r"sample_params\(key, split\) is 3\.0"):
        family.sample_task(jax.random.key(0))


def test_without_gymnax_one_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnax", None)
    find_environment.cache_clear()
    with pytest.raises(ConfigError, match=r'gymnax.*pip install "jaxmeta\[gymnax\]"'):
        from_gymnax("Pendulum-v1", default_params)
