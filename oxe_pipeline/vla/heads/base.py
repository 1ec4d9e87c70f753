"""What every head has: two methods and one form of output."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from oxe_pipeline.vla.context import Backbone


class HeadOutput(NamedTuple):
    """What a head says about a batch in training."""

    loss_B: Tensor
    """float32 [B]: mean over the sample's own valid predictions, so that a robot with many slots weighs no more."""
    metrics: dict[str, Tensor]
    """Further values per sample, float32 [B]; which there are is the head's own matter."""


class Head(Protocol):
    """What the model needs of a head. Heads that learn texts also take a batch of texts (see Backbone)."""

    chunk: int

    def forward(self, backbone: Backbone, batch: dict) -> HeadOutput: ...

    def predict(self, backbone: Backbone, batch: dict) -> Tensor:
        """Normalised actions float32 [B, chunk, 32], 0 in slots that the sample lacks; `action` is not read."""
        ...


def counted_values(batch: dict) -> Tensor:
    """bool [B, chunk, 32]: the action values that loss and metrics may see: slots the sample has, steps that exist."""
    return batch["action_mask"][:, None] & batch["action_pad_mask"][:, :, None]


def mean_counted(values: Tensor, counted: Tensor) -> Tensor:
    """[B]: mean over the counted places of each row, whatever its shape; 0 for a row that has none."""
    kept = torch.where(counted, values, 0.0).flatten(1)
    return kept.sum(1) / counted.flatten(1).sum(1).clamp(min=1)
