"""The flow head: actions by flow matching, with an expert that reads the backbone's layers (pi0, arXiv 2410.24164).

A velocity field carries noise (t = 1) to actions (t = 0) along straight lines; ten Euler steps follow it. The context
is encoded once, only the expert runs ten times. Like `diffusion` it samples what the demonstrations do instead of
averaging it; unlike there, each step of the chunk is a token that sees the others and every layer of the context. That
costs parameters, and a few passes more than `chunk_l1` needs.

Time runs as in openpi's public code (the paper counts the other way round), with its distribution of t, which favours
noisy times, and its order of tokens: the state, which sees no actions, then the steps of the chunk, which see it and
each other. Slots that a sample lacks are 0 throughout and have no velocity; openpi fills them with noise and counts
them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from oxe_pipeline.vla.backbones.attention_rules import block_attention
from oxe_pipeline.vla.backbones.robot_state import state_features
from oxe_pipeline.vla.context import Backbone, Context
from oxe_pipeline.vla.heads.base import HeadOutput, counted_values, mean_counted
from oxe_pipeline.vla.heads.expert import ActionExpert, rotary_of
from oxe_pipeline.vla.noise import NoiseStream, counter_normal, counter_uniform
from schemas.slots import ACTION_WIDTH, STATE_WIDTH

_LEAST_TIME = 0.001
_SHORTEST_PERIOD, _LONGEST_PERIOD = 4e-3, 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowConfig:
    """Sizes are those of pi0's expert of 300 M parameters, made for Gemma 2B."""

    kind: Literal["flow"] = "flow"
    expert_width: int = 1024
    expert_mlp_width: int = 4096
    queries_per_head: int = 8
    """Heads of queries for each of the backbone's heads of keys (Gemma 2B has one of those)."""
    steps: int = 10
    """Euler steps at inference."""

    def __post_init__(self):
        for name in ("expert_width", "expert_mlp_width", "queries_per_head", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, is {getattr(self, name)}")
        if self.expert_width % 2:
            raise ValueError(f"expert_width must be even, is {self.expert_width}")

    @property
    def extra_ids(self) -> int:
        return 0


def flow_times(g_B: Tensor) -> Tensor:
    """float32 [B] in [0.001, 1): Beta(1.5, 1), whose distribution function is t^1.5, squeezed into that range."""
    uniform_B = counter_uniform(g_B, (), stream=NoiseStream.FLOW_TIME)
    return uniform_B ** (1 / 1.5) * (1 - _LEAST_TIME) + _LEAST_TIME


def time_features(time_B: Tensor, width: int) -> Tensor:
    """float32 [B, width]: sines, then cosines, of width / 2 periods from 0.004 to 4, evenly spaced on a log scale."""
    spacing = torch.linspace(0, 1, width // 2, device=time_B.device)
    period = _SHORTEST_PERIOD * (_LONGEST_PERIOD / _SHORTEST_PERIOD) ** spacing
    angle = 2 * math.pi * time_B[:, None] / period
    return torch.cat([angle.sin(), angle.cos()], -1)


def follow(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, *, steps: int) -> Tensor:
    """Where Euler steps of equal length end at t = 0, shape of `noise` [B, ...], from which they start at t = 1.

    `velocity(x, time_B)` is dx/dt.
    """
    x = noise
    for step in range(steps):
        time_B = torch.full((len(x),), 1 - step / steps, device=x.device)
        x = x - velocity(x, time_B) / steps
    return x


class FlowHead(nn.Module):
    """See the module's text. K below is the chunk, W the expert's width."""

    def __init__(self, config: FlowConfig, *, backbone: Backbone, chunk: int):
        super().__init__()
        self.chunk, self.steps = chunk, config.steps
        width = self.width = config.expert_width
        self.state_in = nn.Linear(2 * STATE_WIDTH, width)
        self.action_in = nn.Linear(ACTION_WIDTH, width)
        self.action_time = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.place = None if rotary_of(backbone) else nn.Parameter(0.2 * torch.randn(1 + chunk, width))
        """Where the backbone does not tell places by rotation, the tokens say themselves which they are."""
        self.expert = ActionExpert(
            backbone, width=width, mlp_width=config.expert_mlp_width, queries_per_head=config.queries_per_head
        )
        self.action_out = nn.Linear(width, ACTION_WIDTH)

    def forward(self, backbone: Backbone, batch: dict) -> HeadOutput:
        """Mean squared error of the velocity over each sample's counted values; gradients reach the backbone through
        its keys and values. `action_l1`: mean absolute error of the actions at the end of the line that is predicted.
        """
        counted = counted_values(batch)
        action = torch.where(counted, batch["action"], 0.0)
        noise = self._noise(batch, NoiseStream.FLOW_NOISE)
        time_B = flow_times(batch["g"])
        time = time_B[:, None, None]
        noisy = torch.where(counted, time * noise + (1 - time) * action, 0.0)
        velocity = self._velocity(backbone, backbone.encode(batch), batch, noisy, time_B, batch["action_pad_mask"])
        with torch.no_grad():
            action_l1_B = mean_counted((noisy - time * velocity - action).abs(), counted)
        return HeadOutput(mean_counted((velocity - (noise - action)) ** 2, counted), {"action_l1": action_l1_B})

    @torch.no_grad()
    def predict(self, backbone: Backbone, batch: dict) -> Tensor:
        """Normalised chunk float32 [B, chunk, 32]; masked slots are 0. The sample's number `g` decides the noise."""
        context = backbone.encode(batch)
        exists_BK = torch.ones_like(batch["action_mask"][:, :1]).expand(-1, self.chunk)

        def velocity(noisy: Tensor, time_B: Tensor) -> Tensor:
            return self._velocity(backbone, context, batch, noisy, time_B, exists_BK)

        return follow(velocity, self._noise(batch, NoiseStream.FLOW_SAMPLING), steps=self.steps)

    def _noise(self, batch: dict, stream: NoiseStream) -> Tensor:
        """float32 [B, K, 32]: 0 in slots that the sample lacks."""
        noise = counter_normal(batch["g"], (self.chunk, ACTION_WIDTH), stream=stream)
        return torch.where(batch["action_mask"][:, None], noise, 0.0)

    def _velocity(
        self, backbone: Backbone, context: Context, batch: dict, noisy: Tensor, time_B: Tensor, exists_BK: Tensor
    ) -> Tensor:
        """float32 [B, K, 32], 0 in slots that the sample lacks; steps that do not exist are seen by no other."""
        time = time_features(time_B, self.width)[:, None].expand(-1, self.chunk, -1)
        actions = self.action_time(torch.cat([self.action_in(noisy).float(), time], -1))
        tokens_BSW = torch.cat([self._state_token(batch).float(), actions.float()], 1)
        if self.place is not None:
            tokens_BSW = tokens_BSW + self.place
        hidden = self.expert(backbone, context, tokens_BSW, self._own_attention(exists_BK))
        velocity = self.action_out(hidden[:, 1:]).float()
        return torch.where(batch["action_mask"][:, None], velocity, 0.0)

    def _state_token(self, batch: dict) -> Tensor:
        """[B, 1, W] of the newest state and which of its slots exist."""
        return self.state_in(state_features(batch["state"][:, -1:], batch["state_mask"]))

    def _own_attention(self, exists_BK: Tensor) -> Tensor:
        """bool [B, 1 + K, 1 + K]: the state sees itself, an action the state, itself and all actions that exist."""
        seen_BS = torch.cat([torch.ones_like(exists_BK[:, :1]), exists_BK], 1)
        return block_attention(seen_BS, torch.arange(1 + self.chunk, device=exists_BK.device) < 2)
