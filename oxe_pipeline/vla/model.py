"""VLA: one model class, put together from a backbone and a head that are named in its configuration."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from oxe_pipeline.vla.backbone import NanoBackbone, NanoConfig
from oxe_pipeline.vla.heads import BinTokensConfig, BinTokensHead, HeadOutput

BACKBONES = {"nano": (NanoConfig, NanoBackbone)}
HEADS = {"bin_tokens": (BinTokensConfig, BinTokensHead)}
"""Kind to (its configuration, its module). A new part is a line here and a module of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    backbone: NanoConfig = field(default_factory=NanoConfig)
    head: BinTokensConfig = field(default_factory=BinTokensConfig)
    chunk: int = 1
    """Steps of action predicted at once."""
    history: int = 1
    """Steps of observation given, the present one included."""

    def __post_init__(self):
        if self.chunk < 1 or self.history < 1:
            raise ValueError(f"chunk and history must be 1 or more, are {self.chunk} and {self.history}")
        if self.history > self.backbone.max_history:
            raise ValueError(f"history {self.history} exceeds the backbone's max_history {self.backbone.max_history}")


class VLA(nn.Module):
    """Vision, language and state to a chunk of normalised actions; weights come from torch's global generator."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.backbone = BACKBONES[config.backbone.kind][1](config.backbone, extra_ids=config.head.extra_ids)
        self.head = HEADS[config.head.kind][1](config.head, backbone=self.backbone, chunk=config.chunk)

    def forward(self, batch: dict) -> HeadOutput:
        """Loss and metrics per sample of a batch in the loader's form."""
        return self.head(self.backbone, batch)

    @torch.no_grad()
    def predict(self, batch: dict) -> Tensor:
        """Normalised actions float32 [B, chunk, 32], 0 in slots that the data set lacks; `action` is not read."""
        return self.head.predict(self.backbone, batch)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def to_device(batch: dict, device: torch.device | str) -> dict:
    """The batch with every tensor on `device`; texts and other values pass as they are."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value for key, value in batch.items()
    }
