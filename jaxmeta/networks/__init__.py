"""Networks: the only place that knows flax; outside, parameters are plain pytrees."""

from jaxmeta.networks.actor_critic import ActorCritic, ActorCriticOutput, recurrent_actor_critic
from jaxmeta.networks.encoder import MLP
from jaxmeta.networks.fast_weights import FastWeights
from jaxmeta.networks.feedforward import feedforward_actor_critic
from jaxmeta.networks.memory import GRU, LSTM, Memory
from jaxmeta.networks.recall import Recall
from jaxmeta.networks.regressor import FirstWeights, Regressor, feedforward_regressor

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "ActorCritic",
    "ActorCriticOutput",
    "FastWeights",
    "FirstWeights",
    "Memory",
    "Recall",
    "Regressor",
    "feedforward_actor_critic",
    "feedforward_regressor",
    "recurrent_actor_critic",
]
