"""Networks: the only place that knows flax; outside, parameters are plain pytrees."""

from jaxmeta.networks.actor_critic import (
    Actions,
    ActorCritic,
    ActorCriticOutput,
    InputMoments,
    check_actions,
    continuous_policy,
    discrete_policy,
    first_input_moments,
    input_moments,
    input_size,
    normalized,
    recurrent_actor_critic,
    seen_observation,
)
from jaxmeta.networks.encoder import MLP, Encoder
from jaxmeta.networks.feedforward import feedforward_actor_critic
from jaxmeta.networks.memories.fast_weights import FastWeights
from jaxmeta.networks.memories.recall import Recall
from jaxmeta.networks.memories.recurrent import GRU, LSTM, Memory
from jaxmeta.networks.off_policy import Critics, GaussianActor, gaussian_actor, twin_critics
from jaxmeta.networks.regressor import FirstWeights, Regressor, feedforward_regressor

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "Actions",
    "ActorCritic",
    "ActorCriticOutput",
    "Critics",
    "Encoder",
    "FastWeights",
    "FirstWeights",
    "GaussianActor",
    "InputMoments",
    "Memory",
    "Recall",
    "Regressor",
    "check_actions",
    "continuous_policy",
    "discrete_policy",
    "feedforward_actor_critic",
    "feedforward_regressor",
    "first_input_moments",
    "gaussian_actor",
    "input_moments",
    "input_size",
    "normalized",
    "recurrent_actor_critic",
    "seen_observation",
    "twin_critics",
]
