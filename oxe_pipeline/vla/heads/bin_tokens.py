"""The bin_tokens head: every action value is one token, predicted in order of time and slot (OpenVLA).

Only the slots that a sample's data set has are predicted, in slot order: seven tokens per step for one arm under
end-effector control, as published. Masked slots and steps past the episode's end enter neither loss, metrics nor the
attention of other tokens. Decoding is restricted to action ids, so a text id can never come out.

The action ids are the last ids of the vocabulary, as in OpenVLA (arXiv 2406.09246), but stand in the sequence as they
are: OpenVLA sends them through text and back. The token before the first is a newline (`text.begin_id`), where OpenVLA
has Llama's empty token 29871. No end token is spoken either, since the number of tokens is known.
Autoregressive tokens cost one pass per value at inference; heads that predict a chunk at once (`chunk_l1`, `flow`,
`diffusion`) fit beside this one with the same two methods.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oxe_pipeline.vla.context import Backbone
from oxe_pipeline.vla.heads.base import HeadOutput, mean_counted
from oxe_pipeline.vla.heads.layout import TokenLayout, actions_of, token_layout, values_of
from oxe_pipeline.vla.text import begin_id
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
    place_embeddings: bool = True
    """Adds to each token a learnt embedding of the slot and the step that it is to predict: for samples of different
    robots in one batch, and for backbones that count no positions. False: the plain token sequence of OpenVLA."""
    smooth_init: bool = True
    """Neighbouring bins start with similar embeddings. For vocabularies of random weights only: it overwrites the rows
    of the action ids, and in the scale of such weights."""

    def __post_init__(self):
        if self.bins < 2:
            raise ValueError(f"bins must be 2 or more, is {self.bins}")
        if self.choice not in ("likeliest", "median"):
            raise ValueError(f"choice must be likeliest or median, is {self.choice!r}")

    @property
    def extra_ids(self) -> int:
        return self.bins


class BinTokensHead(nn.Module):
    """See the module's text. The token embeddings themselves are the backbone's."""

    def __init__(self, config: BinTokensConfig, *, backbone: Backbone, chunk: int):
        super().__init__()
        self.chunk, self.choice = chunk, config.choice
        self.tokenizer = ActionTokenizer(first_id=backbone.vocabulary_size - config.bins, bins=config.bins)
        self.begin_id = begin_id(backbone.vocabulary)
        self.places = PlaceEmbeddings(chunk, backbone.width) if config.place_embeddings else None
        if config.smooth_init:
            with torch.no_grad():
                first = self.tokenizer.first_id
                backbone.tokens.weight[first : first + config.bins] = smooth_rows(config.bins, backbone.width).to(
                    backbone.tokens.weight
                )

    def forward(self, backbone: Backbone, batch: dict) -> HeadOutput:
        """Teacher-forced loss over the whole vocabulary, and token accuracy. `batch` as the loader makes it.

        With `teacher_logits` in it, f32 [B, S or more, bins], half of the loss is the distance to that distribution.
        """
        logits_BSV, ids, _, counted = self._teacher_forced(backbone, batch)
        loss_BS = F.cross_entropy(logits_BSV.flatten(0, 1), ids.flatten(), reduction="none").view_as(ids)
        if "teacher_logits" in batch:
            taught_BSb = batch["teacher_logits"][:, : ids.shape[1]]
            loss_BS = (loss_BS + softened_divergence(self._of_actions(logits_BSV), taught_BSb)) / 2
        correct_BS = self.choose(logits_BSV) == ids
        return HeadOutput(mean_counted(loss_BS, counted), {"token_accuracy": mean_counted(correct_BS.float(), counted)})

    def action_logits(self, backbone: Backbone, batch: dict) -> tuple[Tensor, TokenLayout, Tensor]:
        """What distillation compares: teacher-forced logits over the bins, float32 [B, S, bins], lowest bin first;
        which value each token is; and which tokens count, bool [B, S]. Gradients flow."""
        logits_BSV, _, layout, counted = self._teacher_forced(backbone, batch)
        return self._of_actions(logits_BSV), layout, counted

    @torch.no_grad()
    def predict(self, backbone: Backbone, batch: dict) -> Tensor:
        """Normalised chunk float32 [B, chunk, 32], one token after the other; masked slots are 0."""
        layout = token_layout(batch["action_mask"], self.chunk)
        context = backbone.encode(batch)
        ids_B1 = torch.full_like(layout.slot[:, :1], self.begin_id)
        chosen = []
        for place in range(layout.slot.shape[1]):
            here = TokenLayout(*(part[:, place, None] for part in layout))
            hidden, context = backbone.decode(self._embed(backbone, ids_B1, here), here.valid, context, causal=True)
            ids_B1 = self.choose(backbone.logits(hidden).float())
            chosen.append(ids_B1)
        values = self.tokenizer.decode(torch.cat(chosen, 1))
        return actions_of(values, layout, layout.valid, chunk=self.chunk)

    def choose(self, logits_BSV: Tensor) -> Tensor:
        """The action id [B, S] taken from logits over the whole vocabulary: text ids are out of the question."""
        actions, first = self._of_actions(logits_BSV), self.tokenizer.first_id
        if self.choice == "likeliest":
            return actions.argmax(-1) + first
        reached = actions.softmax(-1).cumsum(-1)
        return (reached < 0.5).sum(-1).clamp(max=self.tokenizer.bins - 1) + first

    def _teacher_forced(self, backbone: Backbone, batch: dict) -> tuple[Tensor, Tensor, TokenLayout, Tensor]:
        """Logits float32 [B, S, V], the true ids [B, S], their layout, and which count, bool [B, S]."""
        layout = token_layout(batch["action_mask"], self.chunk)
        counted = layout.valid & batch["action_pad_mask"].gather(1, layout.step)
        ids = self.tokenizer.encode(values_of(batch["action"], layout, counted))
        before = F.pad(ids[:, :-1], (1, 0), value=self.begin_id)
        hidden = backbone.encode_decode(batch, self._embed(backbone, before, layout), counted, causal=True)
        return backbone.logits(hidden).float(), ids, layout, counted

    def _embed(self, backbone: Backbone, before_BS: Tensor, layout: TokenLayout) -> Tensor:
        """[B, S, D]: at each place the token before it, and which slot and step to predict now."""
        tokens = backbone.tokens(before_BS)
        return tokens if self.places is None else tokens + self.places(layout).to(tokens.dtype)

    def _of_actions(self, logits_BSV: Tensor) -> Tensor:
        first = self.tokenizer.first_id
        return logits_BSV[..., first : first + self.tokenizer.bins]


def softened_divergence(logits_BSb: Tensor, taught_BSb: Tensor, *, temperature: float = 2.0) -> Tensor:
    """[B, S]: KL divergence of the taught distribution from the predicted one, both softened by the temperature, times
    its square, which keeps the gradient's size (Hinton et al. 2015, arXiv 1503.02531)."""
    predicted = F.log_softmax(logits_BSb / temperature, -1)
    taught = F.log_softmax(taught_BSb / temperature, -1)
    return F.kl_div(predicted, taught, reduction="none", log_target=True).sum(-1) * temperature**2


class PlaceEmbeddings(nn.Module):
    """Learnt embeddings of the slot and the step that a token is to predict: a layout [B, S] to [B, S, D]."""

    def __init__(self, chunk: int, width: int):
        super().__init__()
        self.slot = nn.Embedding(ACTION_WIDTH, width)
        self.step = nn.Embedding(chunk, width)
        nn.init.normal_(self.slot.weight, std=0.2)
        nn.init.normal_(self.step.weight, std=0.2)

    def forward(self, layout: TokenLayout) -> Tensor:
        return self.slot(layout.slot) + self.step(layout.step)


def smooth_rows(bins: int, width: int, *, std: float = 0.02) -> Tensor:
    """Initial embeddings [bins, width] in which neighbouring bins lie near each other.

    Random mixtures of 16 cosines of the bin's place plus a little noise: the order of the bins need not be learnt from
    scratch, which shows in runs of a few hundred steps. From the global generator.
    """
    place = (torch.arange(bins) + 0.5) / bins
    waves = torch.cos(torch.pi * place[:, None] * torch.arange(1, 17))
    rows = waves @ torch.randn(16, width) / 8**0.5 + 0.1 * torch.randn(bins, width)
    return std * rows
