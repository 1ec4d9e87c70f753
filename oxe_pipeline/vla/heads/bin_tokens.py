"""The bin_tokens head: every action value is one token, predicted in order of time and slot (OpenVLA, RT-2).

Only the slots that a sample's data set has are predicted, in slot order: seven tokens per step for one arm under
end-effector control, as published. Masked slots and steps past the episode's end enter neither loss, metrics nor the
attention of other tokens. Decoding is restricted to action ids, so a text id can never come out.

Unlike in OpenVLA each token also gets a learnt embedding of the slot and the step it is to predict, since samples of
different robots lie in one batch. Autoregressive tokens cost one pass per value at inference; heads that predict a
chunk at once (`chunk_l1`, `flow`, `diffusion`) fit beside this one with the same two methods.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oxe_pipeline.vla.context import Backbone
from oxe_pipeline.vla.heads.base import HeadOutput, mean_counted
from oxe_pipeline.vla.heads.layout import TokenLayout, token_layout
from oxe_pipeline.vla.tokenizer import ACTION_BINS, ActionTokenizer
from schemas.slots import ACTION_WIDTH


@dataclass(frozen=True, kw_only=True, slots=True)
class BinTokensConfig:
    kind: Literal["bin_tokens"] = "bin_tokens"
    bins: int = ACTION_BINS
    """Equal bins over normalised [-1, 1]; also the number of ids appended to the vocabulary."""
    choice: Literal["likeliest", "median"] = "likeliest"
    """Which bin of the predicted distribution is taken: the likeliest (OpenVLA, RT-2), or the one in which half of the
    probability is reached. The median has the least absolute error and does not jump between bins of nearly equal
    probability, which is how the distributions of a briefly trained model look. Both are deterministic."""

    def __post_init__(self):
        if self.bins < 2:
            raise ValueError(f"bins must be 2 or more, is {self.bins}")
        if self.choice not in ("likeliest", "median"):
            raise ValueError(f"choice must be likeliest or median, is {self.choice!r}")

    @property
    def extra_ids(self) -> int:
        return self.bins


class BinTokensHead(nn.Module):
    """See the module's text. The token embeddings themselves are the backbone's appended rows."""

    def __init__(self, config: BinTokensConfig, *, backbone: Backbone, chunk: int):
        super().__init__()
        self.chunk, self.choice = chunk, config.choice
        self.tokenizer = ActionTokenizer(first_id=backbone.vocabulary_size - config.bins, bins=config.bins)
        self.slot = nn.Embedding(ACTION_WIDTH, backbone.width)
        self.step = nn.Embedding(chunk, backbone.width)
        self.begin = nn.Parameter(torch.zeros(backbone.width))
        nn.init.normal_(self.slot.weight, std=0.2)
        nn.init.normal_(self.step.weight, std=0.2)
        with torch.no_grad():
            backbone.tokens.weight[self.tokenizer.first_id :] = smooth_rows(config.bins, backbone.width)

    def forward(self, backbone: Backbone, batch: dict) -> HeadOutput:
        """Teacher-forced loss and token accuracy. `batch` as the loader makes it."""
        layout = token_layout(batch["action_mask"], self.chunk)
        counted = layout.valid & batch["action_pad_mask"].gather(1, layout.step)
        rows = torch.arange(len(counted), device=counted.device)[:, None]
        values = torch.where(counted, batch["action"][rows, layout.step, layout.slot], 0.0)
        ids = self.tokenizer.encode(values)
        hidden = backbone.encode_decode(batch, self._inputs(backbone, layout, ids), counted, causal=True)
        logits_BSV = backbone.logits(hidden).float()
        loss_BS = F.cross_entropy(logits_BSV.flatten(0, 1), ids.flatten(), reduction="none").view_as(ids)
        correct_BS = self.choose(logits_BSV) == ids
        return HeadOutput(mean_counted(loss_BS, counted), {"token_accuracy": mean_counted(correct_BS.float(), counted)})

    @torch.no_grad()
    def predict(self, backbone: Backbone, batch: dict) -> Tensor:
        """Normalised chunk float32 [B, chunk, 32], one token after the other; masked slots are 0."""
        layout = token_layout(batch["action_mask"], self.chunk)
        context = backbone.encode(batch)
        where = self.slot(layout.slot) + self.step(layout.step)
        previous = self.begin.expand(len(where), -1)
        chosen = []
        for place in range(where.shape[1]):
            hidden, context = backbone.decode(
                (previous + where[:, place])[:, None], layout.valid[:, place, None], context, causal=True
            )
            chosen.append(self.choose(backbone.logits(hidden).float())[:, 0])
            previous = backbone.tokens(chosen[-1])
        values = self.tokenizer.decode(torch.stack(chosen, 1))
        action = torch.zeros(len(values), self.chunk, ACTION_WIDTH, device=values.device)
        row, token = torch.nonzero(layout.valid, as_tuple=True)
        action[row, layout.step[row, token], layout.slot[row, token]] = values[row, token]
        return action

    def _inputs(self, backbone: Backbone, layout: TokenLayout, ids: Tensor) -> Tensor:
        """[B, S, D]: at each place the token before it, plus which slot and step to predict now."""
        before = torch.cat([self.begin.expand(len(ids), 1, -1), backbone.tokens(ids[:, :-1])], 1)
        return before + self.slot(layout.slot) + self.step(layout.step)

    def choose(self, logits_BSV: Tensor) -> Tensor:
        """The action id [B, S] taken from logits over the whole vocabulary: text ids are out of the question."""
        first = self.tokenizer.first_id
        actions = logits_BSV[..., first : first + self.tokenizer.bins]
        if self.choice == "likeliest":
            return actions.argmax(-1) + first
        reached = actions.softmax(-1).cumsum(-1)
        return (reached < 0.5).sum(-1).clamp(max=self.tokenizer.bins - 1) + first


def smooth_rows(bins: int, width: int, *, std: float = 0.02) -> Tensor:
    """Initial embeddings [bins, width] in which neighbouring bins lie near each other.

    Random mixtures of 16 cosines of the bin's place plus a little noise: the order of the bins need not be learnt from
    scratch, which shows in runs of a few hundred steps. From the global generator.
    """
    place = (torch.arange(bins) + 0.5) / bins
    waves = torch.cos(torch.pi * place[:, None] * torch.arange(1, 17))
    rows = waves @ torch.randn(16, width) / 8**0.5 + 0.1 * torch.randn(bins, width)
    return std * rows
