"""VLA: one model class, put together from a backbone and a head that are named in its configuration."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from oxe_pipeline.vla.backbones.nano import NanoBackbone, NanoConfig
from oxe_pipeline.vla.backbones.octo import OctoBackbone, OctoConfig
from oxe_pipeline.vla.backbones.towers import TowersBackbone, TowersConfig
from oxe_pipeline.vla.backbones.vlm import VLMBackbone, VLMConfig
from oxe_pipeline.vla.heads.base import HeadOutput
from oxe_pipeline.vla.heads.bin_tokens import BinTokensConfig, BinTokensHead
from oxe_pipeline.vla.heads.chunk_l1 import ChunkL1Config, ChunkL1Head
from oxe_pipeline.vla.heads.diffusion import DiffusionConfig, DiffusionHead
from oxe_pipeline.vla.heads.fast_tokens import FastTokensConfig, FastTokensHead
from oxe_pipeline.vla.heads.flow import FlowConfig, FlowHead
from oxe_pipeline.vla.heads.text_tokens import TextTokensConfig, TextTokensHead

BACKBONES: dict[str, tuple[type, type]] = {
    "nano": (NanoConfig, NanoBackbone),
    "octo": (OctoConfig, OctoBackbone),
    "towers": (TowersConfig, TowersBackbone),
    "vlm": (VLMConfig, VLMBackbone),
}
HEADS: dict[str, tuple[type, type]] = {
    "bin_tokens": (BinTokensConfig, BinTokensHead),
    "chunk_l1": (ChunkL1Config, ChunkL1Head),
    "diffusion": (DiffusionConfig, DiffusionHead),
    "fast_tokens": (FastTokensConfig, FastTokensHead),
    "flow": (FlowConfig, FlowHead),
    "text_tokens": (TextTokensConfig, TextTokensHead),
}
"""Kind to (its configuration, its module). A new part is a line here and a module of its own."""


class BackboneConfig(Protocol):
    """A frozen keyword-only dataclass of numbers, texts and tuples."""

    @property
    def kind(self) -> str: ...

    @property
    def max_history(self) -> int:
        """Most steps of observation that it can be given."""
        ...


class HeadConfig(Protocol):
    """Likewise."""

    @property
    def kind(self) -> str: ...

    @property
    def extra_ids(self) -> int:
        """Rows that the head wants appended to the vocabulary of a backbone that is trained from scratch."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    backbone: BackboneConfig = field(default_factory=NanoConfig)
    head: HeadConfig = field(default_factory=BinTokensConfig)
    chunk: int = 1
    """Steps of action predicted at once."""
    history: int = 1
    """Steps of observation given, the present one included."""

    def __post_init__(self):
        if self.chunk < 1 or self.history < 1:
            raise ValueError(f"chunk and history must be 1 or more, are {self.chunk} and {self.history}")
        if self.history > self.backbone.max_history:
            raise ValueError(f"history {self.history} exceeds the backbone's max_history {self.backbone.max_history}")


def learns_texts(config: ModelConfig) -> bool:
    """Whether a model of this configuration takes batches of texts."""
    backbone, head = BACKBONES[config.backbone.kind][1], HEADS[config.head.kind][1]
    return bool(getattr(backbone, "reads_prompts", False)) and hasattr(head, "generate")


class VLA(nn.Module):
    """Vision, language and state to a chunk of normalised actions.

    Random weights come from torch's global generator. `parts` is a folder that `save_parts` wrote: a backbone that is
    otherwise loaded by its Hub name or directory is then made from there, with random weights, for a checkpoint's to be
    loaded into.
    """

    def __init__(self, config: ModelConfig, *, parts: Path | None = None):
        super().__init__()
        self.config = config
        make_backbone: Any = BACKBONES[config.backbone.kind][1]
        self.backbone = make_backbone(config.backbone, extra_ids=config.head.extra_ids, parts=parts)
        self.head = HEADS[config.head.kind][1](config.head, backbone=self.backbone, chunk=config.chunk)

    def forward(self, batch: dict) -> HeadOutput:
        """Loss and metrics per sample of a batch in the loader's form, or of a batch of texts (see Backbone)."""
        return self.head(self.backbone, batch)

    @torch.no_grad()
    def predict(self, batch: dict) -> Tensor:
        """Normalised actions float32 [B, chunk, 32], 0 in slots that the data set lacks; `action` is not read."""
        return self.head.predict(self.backbone, batch)

    def save_parts(self, folder: Path) -> None:
        """Writes what `parts` needs: nothing at all for models that their configuration describes in full."""
        self.backbone.save_parts(folder)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def to_device(batch: dict, device: torch.device | str) -> dict:
    """The batch with every tensor on `device`; texts and other values pass as they are."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value for key, value in batch.items()
    }
