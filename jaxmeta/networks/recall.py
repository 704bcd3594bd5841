"""A memory that averages what followed inputs like the present one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks.associative import Reader, last_played, layer, unit
from jaxmeta.networks.memory import Memory, Params
from jaxmeta_envs.errors import require

_CHUNK = 50


class RecallCarry(NamedTuple):
    """What is remembered.

    Attributes:
        table: Notes by their keys, ``[heads, key_size, value_size + 1]``.
        previous: The input of the step before, ``[input_size]``.
    """

    table: Array
    previous: Array


class Notes(NamedTuple):
    """What one step writes, and where it looks; leaves ``[heads, ...]``.

    Attributes:
        key: Address of the input before.
        query: Address of the present input.
        note: What is added under the key, ``β [v, 1]``.
    """

    key: Array
    query: Array
    note: Array


@dataclass(frozen=True)
class Recall(Memory):
    """A memory of what came of inputs like this one.

    What an agent did, and what came of it, is told to it one step later. So a step notes that
    under the input before, and then looks up the notes of inputs like the present one. With
    ``e = relu([x_{t-1}, x_t] W_e + b_e)`` and, for each head, the address of an input
    ``φ(x) = unit(relu(x W_φ + b_φ))``, ``v = e W_v`` and the weight ``β = softplus(e w_β + b_β)``::

        S' = S + φ(x_{t-1}) ⊗ β v,     n' = n + φ(x_{t-1}) β
        for x in (x_{t-1}, x_t):
            c  = 1 / (1 + n'ᵀ φ(x)),   m = c S'ᵀ φ(x)
        features = relu([relu([e, m, c] W_1 + b_1), m, c] W_2 + b_2)

    ``m`` is a mean of notes, weighted by how alike the inputs were, shrunk towards 0 as by one
    more observation; ``c`` tells how little is known. For Gaussian rewards of Gaussian
    expectation that is the posterior mean and variance, up to constants. One address serves
    writing and reading, so that like inputs find each other before anything is learned. Both
    inputs are looked up: the present one to act, the one before so that the value estimate
    sees at once what was learned there.

    Attributes:
        hidden_size: Units of every layer.
        num_heads: Tables.
        key_size: Length of an address.
        value_size: Length of a note.

    Reference: Nadaraya 1964 and Watson 1964 for the average; Pritzel et al. 2017, "Neural
    episodic control", arXiv 1703.01988, for acting on it; Katharopoulos et al. 2020, arXiv
    2006.16236, for computing it with a table of fixed size.
    Differs from the paper: notes are of what followed an input rather than of its return; the
    average has a prior weight.
    """

    hidden_size: int = 64
    num_heads: int = 6
    key_size: int = 16
    value_size: int = 8

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_heads", "key_size", "value_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array, input_size: int) -> Params:
        write_key, read_key = jax.random.split(key)
        x, embedded = jnp.zeros(input_size), jnp.zeros(self.hidden_size)
        read = jnp.zeros(2 * self.num_heads * (self.value_size + 1))
        return {
            "write": self._writer().init(write_key, x, x),
            "read": Reader(self.hidden_size).init(read_key, embedded, read),
        }

    def initial_carry(self, input_size: int) -> RecallCarry:
        table = jnp.zeros((self.num_heads, self.key_size, self.value_size + 1))
        return RecallCarry(table, jnp.zeros(input_size))

    def step(self, params: Params, carry: RecallCarry, x: Array) -> tuple[RecallCarry, Array]:
        embedded, notes = self._prepare(params, carry.previous, x)
        table = carry.table + notes.key[..., :, None] * notes.note[..., None, :]
        found = jnp.einsum("hkv,hnk->hnv", table, jnp.stack([notes.key, notes.query], axis=1))
        return RecallCarry(table, x), self._features(params, embedded, found)

    def unroll(
        self,
        params: Params,
        carry: RecallCarry,
        xs: Array,
        played: Array,
        checkpoint: bool = False,
    ) -> tuple[RecallCarry, Array]:
        del checkpoint  # nothing of the tables is stored but at the borders of chunks
        seen = jax.vmap(last_played, in_axes=(0, 1, 1), out_axes=1)(carry.previous, xs, played)
        prepare = jax.vmap(jax.vmap(lambda before, x: self._prepare(params, before, x)))
        embedded, notes = prepare(seen[:-1], xs)
        on = played[..., None, None].astype(xs.dtype)
        table, found = note_and_find(carry.table, notes._replace(note=on * notes.note))
        features = jax.vmap(jax.vmap(lambda e, f: self._features(params, e, f)))(embedded, found)
        return RecallCarry(table, seen[-1]), features

    def _writer(self) -> _Writer:
        return _Writer(self.hidden_size, self.num_heads, self.key_size, self.value_size)

    def _prepare(self, params: Params, previous: Array, x: Array) -> tuple[Array, Notes]:
        prepared: Any = self._writer().apply(params["write"], previous, x)
        return prepared

    def _features(self, params: Params, embedded: Array, found: Array) -> Array:
        share = 1.0 / (1.0 + found[..., -1:])
        read = jnp.concatenate([share * found[..., :-1], share], axis=-1).reshape(-1)
        return jnp.asarray(Reader(self.hidden_size).apply(params["read"], embedded, read))


class _Writer(nn.Module):
    hidden_size: int
    num_heads: int
    key_size: int
    value_size: int

    @nn.compact
    def __call__(self, previous: Array, x: Array) -> tuple[Array, Notes]:
        embedded = layer(self.hidden_size)(jnp.concatenate([previous, x]))
        address = nn.Dense(self.num_heads * self.key_size, name="address")
        value = nn.Dense(self.num_heads * self.value_size, use_bias=False, name="value")(embedded)
        weight = jax.nn.softplus(nn.Dense(self.num_heads, name="weight")(embedded))

        def key(x: Array) -> Array:
            return unit(jax.nn.relu(address(x).reshape(self.num_heads, self.key_size)))

        value = value.reshape(self.num_heads, self.value_size)
        note = jnp.concatenate([value, jnp.ones((self.num_heads, 1))], axis=-1)
        return embedded, Notes(key(previous), key(x), weight[:, None] * note)


def note_and_find(table: Array, notes: Notes, chunk: int = _CHUNK) -> tuple[Array, Array]:
    """Writes and reads along sequences, by chunks: a few products instead of many steps.

    Args:
        table: ``[B, heads, key_size, size]``.
        notes: Leaves ``[L, B, heads, ...]``.
        chunk: Steps of a chunk, within which queries meet keys one by one.

    Returns:
        The last table and what every step finds under key and query,
        ``[L, B, heads, 2, size]``.
    """
    length = len(notes.key)
    missing = -length % chunk

    def cut(x: Array) -> Array:  # [chunks, B, heads, chunk, ...]
        x = jnp.pad(x, ((0, missing),) + ((0, 0),) * (x.ndim - 1))
        return jnp.moveaxis(x.reshape(-1, chunk, *x.shape[1:]), 1, 3)

    until = jnp.tile(jnp.tril(jnp.ones((chunk, chunk))), (2, 1))[None, None]

    def step(table: Array, row: Notes) -> tuple[Array, Array]:
        asked = jnp.concatenate([row.key, row.query], axis=2)  # before, now
        alike = until * jnp.einsum("bhtk,bhsk->bhts", asked, row.key)
        found = alike @ row.note + asked @ table
        return table + jnp.swapaxes(row.key, -1, -2) @ row.note, found

    table, found = jax.lax.scan(step, table, jax.tree.map(cut, notes))
    # [chunks, B, heads, 2 * chunk, size]
    found = found.reshape(*found.shape[:3], 2, chunk, found.shape[-1])
    found = jnp.moveaxis(found, 4, 1)
    return table, found.reshape(-1, *found.shape[2:])[:length]
