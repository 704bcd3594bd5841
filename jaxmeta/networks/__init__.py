"""Networks: the only place that knows flax; outside, parameters are plain pytrees."""

from jaxmeta.networks.actor_critic import ActorCritic, ActorCriticOutput, recurrent_actor_critic
from jaxmeta.networks.memory import GRU

__all__ = ["GRU", "ActorCritic", "ActorCriticOutput", "recurrent_actor_critic"]
