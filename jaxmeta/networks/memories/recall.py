"""A memory that averages what followed inputs like the present one."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxmeta.networks.memories.associative import Reader, last_played, layer, unit
from jaxmeta.networks.memories.recurrent import Memory, Params
from jaxmeta_envs.core.errors import require
from jaxmeta_envs.core.fields import check_fields

_CHUNK = 50


class RecallCarry(NamedTuple):
    """What is remembered.

    Attributes:
        tables: Of every hop, notes by their keys, ``[heads, key_size, value_size + 1]``.
        previous: The input of the step before, ``[input_size]``.
    """

    tables: tuple[Array, ...]
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

    A further hop does the same with tables of its own, and its ``e`` sees the features of the
    hop before as well. So what it notes under the input before knows what was found at the
    present one: with n hops what was learned n - 1 steps further on comes back in one step.

    Attributes:
        hidden_size: Units of every layer.
        num_heads: Tables.
        key_size: Length of an address.
        value_size: Length of a note.
        hops: How often it looks up.

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
    hops: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("hidden_size", "num_heads", "key_size", "value_size", "hops"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array, input_size: int) -> Params:
        x, features, params = jnp.zeros(input_size), jnp.zeros(0), {}
        read = jnp.zeros(2 * self.num_heads * (self.value_size + 1))
        for hop in range(self.hops):
            write_key, read_key = jax.random.split(jax.random.fold_in(key, hop))
            embedded = jnp.zeros(self.hidden_size)
            params[f"hop_{hop}"] = {
                "write": self._writer().init(write_key, x, x, features),
                "read": Reader(self.hidden_size).init(read_key, embedded, read),
            }
            features = embedded
        return params

    def initial_carry(self, input_size: int) -> RecallCarry:
        table = jnp.zeros((self.num_heads, self.key_size, self.value_size + 1), jnp.float32)
        return RecallCarry((table,) * self.hops, jnp.zeros(input_size, jnp.float32))

    def step(self, params: Params, carry: RecallCarry, x: Array) -> tuple[RecallCarry, Array]:
        features, tables = jnp.zeros(0, x.dtype), []
        for hop, before in enumerate(carry.tables):
            own = params[f"hop_{hop}"]
            embedded, notes = self._prepare(own, carry.previous, x, features)
            table = before + notes.key[..., :, None] * notes.note[..., None, :]
            asked = jnp.stack([notes.key, notes.query], axis=1)
            found = jnp.einsum("hkv,hnk->hnv", table, asked)
            features = self._features(own, embedded, found)
            tables.append(table)
        return RecallCarry(tuple(tables), x), features

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
        on = played[..., None, None].astype(xs.dtype)
        features, tables = jnp.zeros((*played.shape, 0), xs.dtype), []
        for hop, before in enumerate(carry.tables):
            prepare = functools.partial(self._prepare, params[f"hop_{hop}"])
            read = functools.partial(self._features, params[f"hop_{hop}"])
            embedded, notes = jax.vmap(jax.vmap(prepare))(seen[:-1], xs, features)
            table, found = note_and_find(before, notes._replace(note=on * notes.note))
            features = jax.vmap(jax.vmap(read))(embedded, found)
            tables.append(table)
        return RecallCarry(tuple(tables), seen[-1]), features

    def _writer(self) -> _Writer:
        return _Writer(self.hidden_size, self.num_heads, self.key_size, self.value_size)

    def _prepare(
        self, params: Params, previous: Array, x: Array, features: Array
    ) -> tuple[Array, Notes]:
        prepared: Any = self._writer().apply(params["write"], previous, x, features)
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
    def __call__(self, previous: Array, x: Array, features: Array) -> tuple[Array, Notes]:
        embedded = layer(self.hidden_size)(jnp.concatenate([previous, x, features]))
        address = nn.Dense(self.num_heads * self.key_size, name="address")
        value = nn.Dense(self.num_heads * self.value_size, use_bias=False, name="value")(embedded)
        weight = jax.nn.softplus(nn.Dense(self.num_heads, name="weight")(embedded))

        def key(x: Array) -> Array:
            return unit(jax.nn.relu(address(x).reshape(self.num_heads, self.key_size)))

        value = value.reshape(self.num_heads, self.value_size)
        note = jnp.concatenate([value, jnp.ones((self.num_heads, 1), value.dtype)], axis=-1)
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

    until = jnp.tile(jnp.tril(jnp.ones((chunk, chunk), table.dtype)), (2, 1))[None, None]

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
