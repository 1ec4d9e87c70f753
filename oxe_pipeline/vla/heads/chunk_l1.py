"""The chunk_l1 head: a whole chunk of actions in one pass, learnt by L1 regression (OpenVLA-OFT, arXiv 2502.19645).

Every value of the chunk has a token of its own that says nothing but its place; all of them are decoded in parallel and
see each other. What the backbone makes of the tokens of one step is joined, and a small MLP maps it to the values of
that step. One pass instead of one per value: the fastest of the heads at inference. In exchange it gives one answer,
the median of what the demonstrations do; where they do different things it lands between, and `diffusion` and `flow`
do not.

The published tokens are zeros, which the positions of a pretrained language model tell apart. Not every backbone here
counts positions in what it decodes, and samples of different robots lie in one batch, so a token is a learnt embedding
of its slot and step.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from oxe_pipeline.loader.scaling import slot_mask
from oxe_pipeline.vla.context import Backbone
from oxe_pipeline.vla.heads.base import HeadOutput, counted_values, mean_counted
from schemas.slots import ACTION_NAMES, ACTION_WIDTH

if TYPE_CHECKING:
    from oxe_pipeline.mixture.mixture import Mixture


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkL1Config:
    kind: Literal["chunk_l1"] = "chunk_l1"
    slots: tuple[int, ...] = tuple(range(ACTION_WIDTH))
    """Action slots that can be predicted, ascending: those that any data set of the mixture has (`used_slots`). Tokens
    and the width of the first layer grow with their number; a model is bound to them."""
    hidden_width: int | None = None
    """Width of the MLP; None: the backbone's, as published."""
    blocks: int = 2
    """Residual blocks of the MLP."""

    def __post_init__(self):
        ascending = list(self.slots) == sorted(set(self.slots))
        if not self.slots or not ascending or not 0 <= self.slots[0] <= self.slots[-1] < ACTION_WIDTH:
            raise ValueError(f"slots must be ascending numbers from 0 to {ACTION_WIDTH - 1}, are {self.slots}")
        if self.blocks < 0 or (self.hidden_width is not None and self.hidden_width < 1):
            raise ValueError(f"blocks {self.blocks} and hidden_width {self.hidden_width} must be positive")

    @property
    def extra_ids(self) -> int:
        return 0

    def prepared(self, mixture: "Mixture", **options: Any) -> "ChunkL1Config":
        """This configuration with the slots that the mixture's data sets have."""
        return replace(self, slots=used_slots(slot_mask(entry.stream, "action") for entry in mixture.datasets))


def used_slots(action_masks: Iterable[Iterable[bool]]) -> tuple[int, ...]:
    """The slots that any of the masks (each of 32) has, ascending: what `slots` is to be for these data sets."""
    return tuple(slot for slot, has in enumerate(zip(*action_masks, strict=True)) if any(has))


class ResidualBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ChunkL1Head(nn.Module):
    """See the module's text. D below is the number of `slots`, K the chunk."""

    def __init__(self, config: ChunkL1Config, *, backbone: Backbone, chunk: int):
        super().__init__()
        self.chunk, self.slots = chunk, config.slots
        count, hidden = len(config.slots), config.hidden_width or backbone.width
        self.slot = nn.Embedding(count, backbone.width)
        self.step = nn.Embedding(chunk, backbone.width)
        nn.init.normal_(self.slot.weight, std=0.2)
        nn.init.normal_(self.step.weight, std=0.2)
        self.mlp = nn.Sequential(
            nn.LayerNorm(count * backbone.width),
            nn.Linear(count * backbone.width, hidden),
            nn.ReLU(),
            *(ResidualBlock(hidden) for _ in range(config.blocks)),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, count),
        )

    def forward(self, backbone: Backbone, batch: dict) -> HeadOutput:
        """Mean absolute error over each sample's counted values; `action_l1` is the same number."""
        embedding, mask_BS = self._tokens(batch)
        actions = self._actions(backbone.encode_decode(batch, embedding, mask_BS, causal=False), batch)
        loss_B = mean_counted((actions - batch["action"]).abs(), counted_values(batch))
        return HeadOutput(loss_B, {"action_l1": loss_B.detach()})

    @torch.no_grad()
    def predict(self, backbone: Backbone, batch: dict) -> Tensor:
        """Normalised chunk float32 [B, chunk, 32] in one pass; masked slots are 0."""
        embedding, mask_BS = self._tokens(batch)
        hidden, _ = backbone.decode(embedding, mask_BS, backbone.encode(batch), causal=False)
        return self._actions(hidden, batch)

    def _tokens(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Place embeddings [B, K * D, W], step by step, and which are of slots that the sample has."""
        action_mask = batch["action_mask"]
        mask_BD = action_mask[:, self.slots]
        if bool((mask_BD.sum(1) < action_mask.sum(1)).any()):
            lacked = action_mask.any(0).nonzero().flatten().tolist()
            names = ", ".join(ACTION_NAMES[slot] for slot in lacked if slot not in self.slots)
            raise ValueError(f"the batch has action slots that this model was not made for: {names}; set `slots`")
        embedding_KDW = self.step.weight[:, None] + self.slot.weight
        return embedding_KDW.flatten(0, 1).expand(len(mask_BD), -1, -1), mask_BD.repeat(1, self.chunk)

    def _actions(self, hidden_BSW: Tensor, batch: dict) -> Tensor:
        """float32 [B, K, 32]: values of the slots that the sample has, 0 elsewhere."""
        mask_BD = batch["action_mask"][:, self.slots]
        hidden = hidden_BSW.unflatten(1, (self.chunk, -1))
        hidden = torch.where(mask_BD[:, None, :, None], hidden, 0.0)
        values_BKD = torch.where(mask_BD[:, None], self.mlp(hidden.flatten(2)).float(), 0.0)
        actions = values_BKD.new_zeros(len(values_BKD), self.chunk, ACTION_WIDTH)
        actions[:, :, self.slots] = values_BKD
        return actions
