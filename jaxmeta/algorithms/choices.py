"""Parts that an algorithm takes, as the annotations of its fields.

A field takes any part of its kind, and so do files. The command line offers those of this library
by name, which are what an annotation is at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxmeta.algorithms.policy_optimizer import PolicyOptimizer
from jaxmeta.algorithms.ppo import PPO
from jaxmeta.algorithms.trpo import TRPO
from jaxmeta.networks import GRU, LSTM, MLP, Encoder, FastWeights, Memory, Recall

if TYPE_CHECKING:
    AnyMemory = Memory
    AnyEncoder = Encoder
    AnyOptimizer = PolicyOptimizer
else:
    AnyMemory = GRU | LSTM | FastWeights | Recall
    AnyEncoder = MLP
    AnyOptimizer = PPO | TRPO
