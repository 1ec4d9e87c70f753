"""The text_tokens head: an action is a text of whole numbers, in the language model's own vocabulary (RT-2, PaLM-E).

RT-2 (arXiv 2307.15818) writes `terminate dx dy dz droll dpitch dyaw gripper`, each value as the number of one of 256
equal bins: "0 128 91 241 5 101 127 217" is all eight (the paper's example shows seven of them). Here likewise, with
three things to know. The three rotation numbers are a rotation vector, as everywhere in this package, not roll, pitch
and yaw. `terminate` is 0 or 1 itself, not a bin; a data set without that slot writes 0, and the number enters neither
loss nor metrics. Robots with other slots write theirs, in slot order, behind terminate; further steps of a chunk
follow one another. Every number, the first too, has a space before it.

Decoding is restricted to ids that go on to such a text (`number_grammar`), one pass per id: RT-2's mask of valid action
tokens. How many ids a number takes is the vocabulary's matter; `numbers="symbols"` gives each bin an id of its own, the
last ids of the vocabulary (PaLM-E's "symbol tuning" of its rarest tokens; arXiv 2303.03378 for the model).

The same head learns and speaks free text: answers, plans, sub-goals, on batches with prompts (see Backbone).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oxe_pipeline.vla.context import Backbone
from oxe_pipeline.vla.heads.base import HeadOutput, mean_counted
from oxe_pipeline.vla.heads.layout import TokenLayout, actions_of, token_layout, values_of
from oxe_pipeline.vla.heads.number_grammar import NumberGrammar, NumberSpeaker, spelled_codes, symbol_codes
from oxe_pipeline.vla.text import begin_id
from oxe_pipeline.vla.tokenizer import ACTION_BINS, ActionTokenizer
from schemas.slots import ACTION_GROUPS, ACTION_WIDTH

TERMINATE = ACTION_GROUPS["terminate"].start


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTokensConfig:
    kind: Literal["text_tokens"] = "text_tokens"
    bins: int = ACTION_BINS
    """Equal bins over normalised [-1, 1]."""
    numbers: Literal["text", "symbols"] = "text"
    """How a bin's number is spoken: as the text of its digits, or as one id that stands for it."""

    def __post_init__(self):
        if self.bins < 2:
            raise ValueError(f"bins must be 2 or more, is {self.bins}")
        if self.numbers not in ("text", "symbols"):
            raise ValueError(f"numbers must be text or symbols, is {self.numbers!r}")

    @property
    def extra_ids(self) -> int:
        return self.bins if self.numbers == "symbols" else 0


class TextTokensHead(nn.Module):
    """See the module's text. It has no weights of its own."""

    def __init__(self, config: TextTokensConfig, *, backbone: Backbone, chunk: int):
        super().__init__()
        self.chunk = chunk
        self.begin_id = begin_id(backbone.vocabulary)
        self.tokenizer = ActionTokenizer(first_id=0, bins=config.bins)
        if config.numbers == "text":
            codes = spelled_codes(backbone.vocabulary, config.bins)
        else:
            codes = symbol_codes(backbone.vocabulary_size - config.bins, config.bins)
        self.grammar = NumberGrammar(codes, end_id=backbone.vocabulary.end_id)

    def forward(self, backbone: Backbone, batch: dict) -> HeadOutput:
        """Teacher-forced loss over the whole vocabulary, and `token_accuracy`: the share of ids that were the likeliest
        of all. `batch` as the loader makes it, or one of texts: then the ids are those of the target, and its end."""
        is_text = "prompt" in batch
        ids, exists, counted = self._target_text(backbone, batch) if is_text else self._action_text(batch)
        before = F.pad(ids[:, :-1], (1, 0), value=self.begin_id)
        hidden = backbone.encode_decode(batch, backbone.tokens(before), exists, causal=True)
        # Logits of what counts alone: a vocabulary is wide, and texts in one batch differ in length.
        logits_NV, truth_N = backbone.logits(hidden[counted][None])[0].float(), ids[counted]
        none_BS = torch.zeros(ids.shape, device=ids.device)
        loss_BS = none_BS.masked_scatter(counted, F.cross_entropy(logits_NV, truth_N, reduction="none"))
        right_BS = none_BS.masked_scatter(counted, (logits_NV.argmax(-1) == truth_N).float())
        return HeadOutput(mean_counted(loss_BS, counted), {"token_accuracy": mean_counted(right_BS, counted)})

    @torch.no_grad()
    def predict(self, backbone: Backbone, batch: dict) -> Tensor:
        """Normalised chunk float32 [B, chunk, 32], one id after the other; masked slots are 0. Terminate is 0 or 1."""
        layout, known = numbers_layout(batch["action_mask"], self.chunk)
        is_flag = layout.slot == TERMINATE
        limit = torch.where(is_flag, 1 + known.long(), self.tokenizer.bins)
        speaker = NumberSpeaker(self.grammar, torch.where(layout.valid, limit, 0))
        context, ids_B = backbone.encode(batch), torch.full_like(layout.slot[:, 0], self.begin_id)
        while not (done_B := speaker.done_B).all():
            hidden, context = backbone.decode(backbone.tokens(ids_B[:, None]), ~done_B[:, None], context, causal=True)
            ids_B = speaker.speak(backbone.logits(hidden)[:, 0])
        numbers = speaker.numbers_BK
        values = torch.where(is_flag, numbers.float(), self.tokenizer.decode(numbers))
        return actions_of(values, layout, known, chunk=self.chunk)

    @torch.no_grad()
    def generate(self, backbone: Backbone, batch: dict, max_tokens: int) -> list[str]:
        """The likeliest answer to each prompt of a batch of texts, id by id, until its end or `max_tokens` ids."""
        context, end_id = backbone.encode(batch), backbone.vocabulary.end_id
        answers: list[list[int]] = [[] for _ in batch["prompt"]]
        ids_B = torch.full((len(answers),), self.begin_id, device=context.mask_BP.device)
        goes_on_B = torch.ones_like(ids_B, dtype=torch.bool)
        for _ in range(max_tokens):
            hidden, context = backbone.decode(backbone.tokens(ids_B[:, None]), goes_on_B[:, None], context, causal=True)
            ids_B = torch.where(goes_on_B, backbone.logits(hidden)[:, 0].argmax(-1), end_id)
            goes_on_B = ids_B != end_id
            if not goes_on_B.any():
                break
            for answer, token, goes_on in zip(answers, ids_B.tolist(), goes_on_B.tolist(), strict=True):
                if goes_on:
                    answer.append(token)
        return [backbone.vocabulary.decode(answer) for answer in answers]

    def _action_text(self, batch: dict) -> tuple[Tensor, Tensor, Tensor]:
        """Ids [B, S] of the actions' text; which of them exist; and which count, bool [B, S].

        Steps past the episode's end are not spoken. The end is spoken behind whole chunks only.
        """
        layout, known = numbers_layout(batch["action_mask"], self.chunk)
        spoken = layout.valid & batch["action_pad_mask"].gather(1, layout.step)
        whole_B1 = batch["action_pad_mask"].all(1, keepdim=True)
        values = values_of(batch["action"], layout, spoken & known)
        numbers = torch.where(layout.slot == TERMINATE, (values > 0.5).long(), self.tokenizer.encode(values))
        numbers, counted = F.pad(numbers, (0, 1), value=self.grammar.end_number), torch.cat([known, whole_B1], 1)
        ids, owner, exists = self.grammar.spell(numbers, torch.cat([spoken, whole_B1], 1))
        return ids, exists, exists & counted.gather(1, owner)

    def _target_text(self, backbone: Backbone, batch: dict) -> tuple[Tensor, Tensor, Tensor]:
        """Ids [B, S] of the targets, ends included; which of them exist, twice: all of them count."""
        if not backbone.reads_prompts:
            raise ValueError(f"{type(backbone).__name__} takes no batches of texts, only backbones that read prompts")
        vocabulary, device = backbone.vocabulary, backbone.tokens.weight.device
        rows = [torch.tensor([*vocabulary.encode(target), vocabulary.end_id]) for target in batch["target"]]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=vocabulary.end_id).to(device)
        length_B1 = torch.tensor([[len(row)] for row in rows], device=device)
        exists = torch.arange(ids.shape[1], device=device) < length_B1
        return ids, exists, exists


def numbers_layout(action_mask: Tensor, chunk: int) -> tuple[TokenLayout, Tensor]:
    """Layout of the numbers that are spoken: as `token_layout`, but terminate comes first in each step and is there for
    all samples. With it, bool [B, S]: the number is of a slot that the sample has."""
    spoken = action_mask.clone()
    spoken[:, TERMINATE] = action_mask.any(1)
    turned = token_layout(spoken.roll(-TERMINATE, 1), chunk)
    layout = turned._replace(slot=(turned.slot + TERMINATE) % ACTION_WIDTH)
    return layout, layout.valid & action_mask.gather(1, layout.slot)
