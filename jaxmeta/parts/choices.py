"""Parts that an algorithm takes, as the annotations of its fields.

A field takes any part of its kind, and so do files. The command line offers those of this library
by name, which are what an annotation is at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxmeta.networks import GRU, LSTM, MLP, Encoder, FastWeights, Memory, Recall
from jaxmeta.parts.optimizers.contract import PolicyOptimizer
from jaxmeta.parts.optimizers.ppo import PPO
from jaxmeta.parts.optimizers.trpo import TRPO

if TYPE_CHECKING:
    AnyMemory = Memory
    AnyEncoder = Encoder
    AnyOptimizer = PolicyOptimizer
else:
    AnyMemory = GRU | LSTM | FastWeights | Recall
    AnyEncoder = MLP
    AnyOptimizer = PPO | TRPO
