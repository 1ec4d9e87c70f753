"""The fast_tokens head: a chunk of actions as the few tokens of a FAST codec (pi0-FAST, arXiv 2501.09747).

A token says one or several coefficients of the chunk's cosine transform (`fast_codec`), so smooth chunks take several
times fewer passes at inference than a token per value. Samples of a batch differ in how many slots they have and how
many tokens their chunk takes.

Decoding can only end in a chunk: ids that would say more coefficients than are left are out of the question, and ids
of one coefficient always fit. (Published code decodes freely and returns zeros, silently, where the count is wrong.)

A transform over time has no holes, so steps past an episode's end are spoken with the values that the loader gives
them, which hold still; unlike in other heads they do enter the loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oxe_pipeline.vla.context import Backbone
from oxe_pipeline.vla.fast_codec import FastCodec, fit_codec
from oxe_pipeline.vla.heads.base import HeadOutput, mean_counted
from oxe_pipeline.vla.heads.bin_tokens import PlaceEmbeddings, smooth_rows
from oxe_pipeline.vla.heads.layout import TokenLayout, token_layout
from oxe_pipeline.vla.text import begin_id
from schemas.slots import ACTION_WIDTH

if TYPE_CHECKING:
    from oxe_pipeline.mixture.mixture import Mixture

_SAMPLES_PER_DATASET = 2000
_MOST_SAMPLES = 10_000
_BATCH = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class FastTokensConfig:
    kind: Literal["fast_tokens"] = "fast_tokens"
    vocabulary: int = 1024
    """Ids of the backbone's vocabulary that are given to action tokens: its last ones."""
    scale: float = 10.0
    """Coefficients per unit of normalised action: finer, and more tokens, where larger."""
    codec: str = ""
    """The fitted FastCodec as JSON; "" before `prepared`."""
    place_embeddings: bool = True
    """Adds to each token a learnt embedding of the slot and the frequency that it is to begin with: for samples of
    different robots in one batch, and for backbones that count no positions. False: the plain token sequence."""
    smooth_init: bool = True
    """Tokens of neighbouring coefficients start with similar embeddings. For vocabularies of random weights only: it
    overwrites the rows of the action ids, and in the scale of such weights."""

    def __post_init__(self):
        if self.vocabulary < 3:
            raise ValueError(f"vocabulary must be 3 or more, is {self.vocabulary}")
        if not 0 < self.scale < np.inf:
            raise ValueError(f"scale must be above 0 and finite, is {self.scale!r}")
        if self.codec and (size := FastCodec.from_json(self.codec).size) > self.vocabulary:
            raise ValueError(f"the codec has {size} ids, more than vocabulary {self.vocabulary}")

    @property
    def extra_ids(self) -> int:
        return self.vocabulary

    def prepared(self, mixture: "Mixture", **options: Any) -> "FastTokensConfig":
        """This configuration with a codec, fitted to chunks as the loader gives them; itself where it has one.

        `options` are the fields of BatchOptions that the run trains with, `chunk` among them. Taken are the first
        samples of the mixture's order, 2,000 per data set and 10,000 at most; their images are not read. The same for
        the same mixture. CodecError where no codec fits.
        """
        if self.codec:
            return self
        from oxe_pipeline.loader.loader import make_loader

        count = min(_SAMPLES_PER_DATASET * len(mixture.datasets), _MOST_SAMPLES)
        options = {**options, "cameras": (), "goal_images": False, "history": 1}
        chunks = []
        with make_loader(mixture, batch_size=_BATCH, num_samples=count, **options) as loader:
            for batch in loader:
                pairs = zip(batch["action"].numpy(), batch["action_mask"].numpy(), strict=True)
                chunks += [action[:, has] for action, has in pairs]
        return replace(self, codec=fit_codec(chunks, vocabulary=self.vocabulary, scale=self.scale).to_json())


class Spoken(NamedTuple):
    """The chunks of a batch as tokens, [B, S]; shorter ones are padded at the end."""

    token: Tensor
    """int64, from 0."""
    before: Tensor
    """int64: how many coefficients were said before this token."""
    exists: Tensor
    """bool."""


class FastTokensHead(nn.Module):
    """See the module's text. The token embeddings themselves are the backbone's. ValueError without a codec."""

    lengths: Tensor
    """int64 [codec.size]: how many coefficients each token says."""

    def __init__(self, config: FastTokensConfig, *, backbone: Backbone, chunk: int):
        super().__init__()
        if not config.codec:
            raise ValueError("head fast_tokens has no codec; FastTokensConfig.prepared(mixture, chunk=...) fits one")
        self.chunk, self.codec = chunk, FastCodec.from_json(config.codec)
        self.first_id, self.begin_id = backbone.vocabulary_size - config.vocabulary, begin_id(backbone.vocabulary)
        lengths = torch.tensor([len(coefficients) for coefficients in self.codec.expansions])
        self.register_buffer("lengths", lengths, persistent=False)
        self.places = PlaceEmbeddings(chunk, backbone.width) if config.place_embeddings else None
        if config.smooth_init:
            with torch.no_grad():
                rows = token_rows(self.codec, backbone.width).to(backbone.tokens.weight)
                backbone.tokens.weight[self.first_id : self.first_id + len(rows)] = rows

    def forward(self, backbone: Backbone, batch: dict) -> HeadOutput:
        """Teacher-forced loss over the whole vocabulary, mean over a sample's tokens, and token accuracy: how often the
        one that decoding would choose is the true one. `batch` as the loader makes it."""
        layout = token_layout(batch["action_mask"], self.chunk)
        spoken = self._spoken(batch)
        ids, exists = spoken.token + self.first_id, spoken.exists
        before = F.pad(ids[:, :-1], (1, 0), value=self.begin_id)
        embedding = self._embed(backbone, before, layout, spoken.before)
        hidden = backbone.encode_decode(batch, embedding, exists, causal=True)
        # Logits of what counts alone: a vocabulary is wide, and chunks in one batch differ in length.
        logits_NV = backbone.logits(hidden[exists][None])[0].float()
        left_BS = layout.valid.sum(1, keepdim=True) - spoken.before
        right_N = self.choose(logits_NV.detach(), left_BS[exists]) == spoken.token[exists]
        loss_BS, right_BS = hidden.new_zeros(2, *ids.shape, dtype=torch.float32)
        loss_BS = loss_BS.masked_scatter(exists, F.cross_entropy(logits_NV, ids[exists], reduction="none"))
        right_BS = right_BS.masked_scatter(exists, right_N.float())
        return HeadOutput(mean_counted(loss_BS, exists), {"token_accuracy": mean_counted(right_BS, exists)})

    @torch.no_grad()
    def predict(self, backbone: Backbone, batch: dict) -> Tensor:
        """Normalised chunk float32 [B, chunk, 32], one token after the other; masked slots are 0. ValueError where the
        model's logits are NaN."""
        layout = token_layout(batch["action_mask"], self.chunk)
        context, ids_B1 = backbone.encode(batch), torch.full_like(layout.slot[:, :1], self.begin_id)
        left_B1 = layout.valid.sum(1, keepdim=True)
        said_B1, spoken = torch.zeros_like(left_B1), []
        while (goes_on_B1 := left_B1 > 0).any():
            embedding = self._embed(backbone, ids_B1, layout, said_B1)
            hidden, context = backbone.decode(embedding, goes_on_B1, context, causal=True)
            logits_B1V = backbone.logits(hidden).float()
            if torch.isnan(logits_B1V).any():
                raise ValueError(
                    "the model's logits are NaN, and no action can be taken from them; look at its weights"
                )
            token_B1 = self.choose(logits_B1V, left_B1)
            length_B1 = torch.where(goes_on_B1, self.lengths[token_B1], 0)
            said_B1, left_B1 = said_B1 + length_B1, left_B1 - length_B1
            ids_B1 = token_B1 + self.first_id
            spoken.append(torch.where(goes_on_B1, token_B1, -1))
        return self._actions(torch.cat(spoken, 1).tolist(), batch["action_mask"])

    def choose(self, logits: Tensor, left: Tensor) -> Tensor:
        """The likeliest token [...], of logits [..., V] over the whole vocabulary, among those that say no more than
        the `left` int64 [...] coefficients; 0 where none is left."""
        actions = logits[..., self.first_id : self.first_id + self.codec.size]
        # Among equals, and so where all are minus infinity, the first is taken, and it says one coefficient.
        return actions.masked_fill(self.lengths > left[..., None], -torch.inf).argmax(-1)

    def _spoken(self, batch: dict) -> Spoken:
        masks = batch["action_mask"].cpu().numpy()
        actions = batch["action"].float().cpu().numpy()
        rows = [torch.tensor(self.codec.encode(action[:, has])) for action, has in zip(actions, masks, strict=True)]
        device = self.lengths.device
        token = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        count_B1 = torch.tensor([[len(row)] for row in rows], device=device)
        length = self.lengths[token]
        return Spoken(token, length.cumsum(1) - length, torch.arange(token.shape[1], device=device) < count_B1)

    def _embed(self, backbone: Backbone, ids_BS: Tensor, layout: TokenLayout, before_BS: Tensor) -> Tensor:
        """[B, S, D]: at each place the token before it, and which coefficient comes next: its slot and frequency."""
        tokens = backbone.tokens(ids_BS)
        if self.places is None:
            return tokens
        # In the layout of values; frequencies take the place of steps. Behind a chunk's end nothing is said.
        before_BS = before_BS.clamp(max=layout.slot.shape[1] - 1)
        return tokens + self.places(TokenLayout(*(part.gather(1, before_BS) for part in layout))).to(tokens.dtype)

    def _actions(self, spoken: Sequence[Sequence[int]], action_mask: Tensor) -> Tensor:
        """float32 [B, chunk, 32] of each sample's tokens; -1 is none."""
        actions = np.zeros((len(spoken), self.chunk, ACTION_WIDTH), np.float32)
        for action, tokens, has in zip(actions, spoken, action_mask.cpu().numpy(), strict=True):
            action[:, has] = self.codec.decode([token for token in tokens if token >= 0], chunk=self.chunk)
        return torch.from_numpy(actions).to(action_mask.device)


def token_rows(codec: FastCodec, width: int) -> Tensor:
    """Initial embeddings [codec.size, width]: coefficients by `smooth_rows`, a pair as the mean of its parts. From the
    global generator."""
    rows = list(smooth_rows(2 * codec.limit + 1, width))
    noise = 0.005 * torch.randn(len(codec.merges), width)
    for number, (first, second) in enumerate(codec.merges):
        rows.append((rows[first] + rows[second]) / 2 + noise[number])
    return torch.stack(rows)
