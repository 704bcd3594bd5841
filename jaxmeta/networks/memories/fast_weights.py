"""A memory that stores what belongs together and finds it again by its key."""

from __future__ import annotations

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


class FastWeightsCarry(NamedTuple):
    """What is remembered.

    Attributes:
        table: The fast weights S, ``[heads, key_size, value_size]``.
        previous: The input of the step before, ``[input_size]``.
    """

    table: Array
    previous: Array


class _Write(NamedTuple):
    """What one step does to the table, and asks of it; leaves ``[heads, ...]``."""

    key: Array
    query: Array
    value: Array
    rate: Array


@dataclass(frozen=True)
class FastWeights(Memory):
    """An associative memory, written and read by learned keys.

    What an agent did is told to it together with what came of it, one step later; so a step
    starts from the last two inputs. With ``e = relu([x_{t-1}, x_t] W_e + b_e)`` and, for each
    head, ``k, q = unit(silu(e W_k)), unit(silu(e W_q))``, ``v = e W_v``, ``β = σ(e w_β + b_β)``::

        S' = S + k ⊗ β (v - Sᵀk)        replaces what was stored under k, by the share β
        o  = S'ᵀ q
        features = relu([relu([e, o] W_1 + b_1), o] W_2 + b_2)

    A gated unit must learn to address its state before it can keep fifty numbers apart; here
    addressing is built in, and tasks with many states are learned in a fraction of the steps.
    Nothing but S depends on the step before, so a stored sequence costs one large product per
    weight matrix.

    Attributes:
        hidden_size: Units of every layer.
        num_heads: Tables.
        key_size: Length of keys and queries.
        value_size: Length of what is stored under a key.

    Reference: Schmidhuber 1992, "Learning to control fast-weight memories"; delta rule of
    Schlag et al. 2021, arXiv 2102.11174; in reinforcement learning, Irie et al. 2021, arXiv
    2106.06295.
    Differs from the paper: one layer, whose keys come from two successive inputs; keys of unit
    Euclidean length.
    """

    hidden_size: int = 64
    num_heads: int = 4
    key_size: int = 16
    value_size: int = 16

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("hidden_size", "num_heads", "key_size", "value_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array, input_size: int) -> Params:
        write_key, read_key = jax.random.split(key)
        pair = jnp.zeros(2 * input_size)
        read = jnp.zeros(self.num_heads * self.value_size)
        return {
            "write": self._writer().init(write_key, pair),
            "read": Reader(self.hidden_size).init(read_key, jnp.zeros(self.hidden_size), read),
        }

    def initial_carry(self, input_size: int) -> FastWeightsCarry:
        table = jnp.zeros((self.num_heads, self.key_size, self.value_size), jnp.float32)
        return FastWeightsCarry(table, jnp.zeros(input_size, jnp.float32))

    def step(
        self, params: Params, carry: FastWeightsCarry, x: Array
    ) -> tuple[FastWeightsCarry, Array]:
        embedded, write = self._prepare(params, jnp.concatenate([carry.previous, x]))
        table, read = _store_and_recall(carry.table, write)
        return FastWeightsCarry(table, x), self._features(params, embedded, read)

    def unroll(
        self,
        params: Params,
        carry: FastWeightsCarry,
        xs: Array,
        played: Array,
        checkpoint: bool = False,
    ) -> tuple[FastWeightsCarry, Array]:
        del checkpoint  # nothing of the tables is stored anyway
        seen = jax.vmap(last_played, in_axes=(0, 1, 1), out_axes=1)(carry.previous, xs, played)
        pairs = jnp.concatenate([seen[:-1], xs], axis=-1)
        prepare = jax.vmap(jax.vmap(lambda pair: self._prepare(params, pair)))
        embedded, writes = prepare(pairs)

        # A rate of 0 writes nothing.
        on = played[..., None].astype(xs.dtype)
        writes = writes._replace(rate=on * writes.rate)
        table, reads = _store_and_recall_all(carry.table, writes)
        read_out = jax.vmap(jax.vmap(lambda e, r: self._features(params, e, r)))
        return FastWeightsCarry(table, seen[-1]), read_out(embedded, reads)

    def _writer(self) -> _Writer:
        return _Writer(self.hidden_size, self.num_heads, self.key_size, self.value_size)

    def _prepare(self, params: Params, pair: Array) -> tuple[Array, _Write]:
        prepared: Any = self._writer().apply(params["write"], pair)
        return prepared

    def _features(self, params: Params, embedded: Array, read: Array) -> Array:
        reader = Reader(self.hidden_size)
        return jnp.asarray(reader.apply(params["read"], embedded, read.reshape(-1)))


class _Writer(nn.Module):
    hidden_size: int
    num_heads: int
    key_size: int
    value_size: int

    @nn.compact
    def __call__(self, pair: Array) -> tuple[Array, _Write]:
        embedded = layer(self.hidden_size)(pair)

        def project(size: int, name: str) -> Array:
            out = nn.Dense(self.num_heads * size, use_bias=False, name=name)(embedded)
            return out.reshape(self.num_heads, size)

        return embedded, _Write(
            key=unit(jax.nn.silu(project(self.key_size, "key"))),
            query=unit(jax.nn.silu(project(self.key_size, "query"))),
            value=project(self.value_size, "value"),
            rate=jax.nn.sigmoid(nn.Dense(self.num_heads, name="rate")(embedded)),
        )


def _store_and_recall(table: Array, write: _Write) -> tuple[Array, Array]:
    """Returns the new table and what it holds under the query, ``[heads, value_size]``."""
    table, _ = _store(table, write)
    return table, _look_up(table, write.query)


def _store(table: Array, write: _Write) -> tuple[Array, Array]:
    """Returns the new table, and by how much the old one was wrong about the value."""
    error = write.value - _look_up(table, write.key)
    return table + _outer(write.key, write.rate[..., None] * error), error


@jax.custom_vjp
def _store_and_recall_all(table: Array, writes: _Write) -> tuple[Array, Array]:
    """Runs `_store_and_recall` along sequences.

    Going backwards, the table before a step is what is left when the step's write is taken
    away again, so no table is stored but the last: a sequence needs the memory of its keys,
    queries and values only.

    Args:
        table: ``[B, heads, key_size, value_size]``.
        writes: Leaves ``[L, B, heads, ...]``.

    Returns:
        The last table and what was recalled, ``[L, B, heads, value_size]``.
    """
    return _forward(table, writes)[0]


def _forward(table: Array, writes: _Write) -> tuple[tuple[Array, Array], tuple]:
    def step(table: Array, write: _Write) -> tuple[Array, tuple[Array, Array]]:
        table, error = _store(table, write)
        return table, (_look_up(table, write.query), error)

    table, (reads, errors) = jax.lax.scan(step, table, writes)
    return (table, reads), (table, writes, errors)


def _backward(residuals: tuple, slopes: tuple[Array, Array]) -> tuple[Array, _Write]:
    table, writes, errors = residuals
    d_table, d_reads = slopes

    def step(carry: tuple[Array, Array], row: tuple) -> tuple[tuple[Array, Array], _Write]:
        table, d_table = carry
        write, error, d_read = row
        rate = write.rate[..., None]
        d_query = _match(table, d_read)
        d_table = d_table + _outer(write.query, d_read)
        d_change = _look_up(d_table, write.key)  # the change is rate * error
        d_error = rate * d_change
        table = table - _outer(write.key, rate * error)
        d_key = _match(d_table, rate * error) - _match(table, d_error)
        d_table = d_table - _outer(write.key, d_error)
        d_rate = jnp.sum(d_change * error, axis=-1)
        return (table, d_table), _Write(d_key, d_query, d_error, d_rate)

    rows = writes, errors, d_reads
    (_, d_table), d_writes = jax.lax.scan(step, (table, d_table), rows, reverse=True)
    return d_table, d_writes


_store_and_recall_all.defvjp(_forward, _backward)


def _look_up(table: Array, key: Array) -> Array:
    """``Sᵀk``: what the table ``[..., key_size, value_size]`` holds under a key."""
    return jnp.einsum("...kv,...k->...v", table, key)


def _match(table: Array, value: Array) -> Array:
    """``S v``: how the keys of the table agree with a value."""
    return jnp.einsum("...kv,...v->...k", table, value)


def _outer(key: Array, value: Array) -> Array:
    return key[..., :, None] * value[..., None, :]
