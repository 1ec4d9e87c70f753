"""LanguageBackbone: a causal language model of transformers that reads multimodal sentences; base of vlm and towers.

Images become tokens of the language model's width, are spliced into the sentence, and the whole is padded on the right.
Attention is block-causal: inside the sentence everything sees everything (PaliGemma, pi0) or what is before it (Llama,
SmolVLM), decoded tokens see the sentence and each other. One mask says it all, so any decoder of transformers that
takes `inputs_embeds` and a 4-D mask fits, unchanged. What that trades away: kernels that know only causal masks (flash
attention) cannot be used, and the sliding windows of some models are not applied (they are thousands of tokens long).

Shape letters: B batch, P context tokens, S decoded tokens, L = P + S, Q queries, D width, H heads of keys and values,
N images.
"""

import functools
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from oxe_pipeline.vla.backbones.attention_rules import block_attention, suffix_opens
from oxe_pipeline.vla.backbones.robot_state import StateEncoder
from oxe_pipeline.vla.backbones.sentences import ImagePart, Piece, SentenceStyle, SentenceWriter, readable
from oxe_pipeline.vla.context import Context


class TokenizerVocabulary:
    """The TextVocabulary of a tokeniser of transformers."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: list[int]) -> str:
        """The text without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    @property
    def end_id(self) -> int:
        return self.tokenizer.eos_token_id


class LayerKeys:
    """What the attention layers of transformers want of a cache, without state that a second call would change.

    `update` answers the past's keys and values with the new ones behind them and notes the answer; the past stays as it
    was. So an older Context can be used again, and a layer may be run twice, as activation checkpointing does.
    """

    def __init__(self, past: Context | None):
        self.past = past
        self.noted: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if self.past is not None:
            key = torch.cat([self.past.keys[layer_idx], key], 2)
            value = torch.cat([self.past.values[layer_idx], value], 2)
        self.noted[layer_idx] = (key, value)
        return key, value

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0 if self.past is None else self.past.keys[layer_idx].shape[2]

    def context(self, mask_BP: Tensor) -> Context:
        """Of all layers, after they have run."""
        keys, values = zip(*(self.noted[layer] for layer in sorted(self.noted)), strict=True)
        return Context(keys, values, mask_BP)


class LanguageBackbone(nn.Module):
    """See the module's text and the Backbone protocol. Subclasses give it its parts.

    `vision` takes a list of uint8 image batches [N_i, H, W, 3], one per image size, and gives [N, n, D]: n tokens for
    each of all N images in the order given, already projected to the language model's width. (A list, so that images of
    any sizes are one call of the tower, on every rank.) `language` is a decoder without head; `output` its head, None
    where the input embeddings are used for it.

    For heads that put an expert of their own beside the layers: `num_layers`, `kv_heads`, `head_dim`, and `rotary`. The
    keys of a Context are rotated already, token i of what follows it stands at position `context.length_B + i`.
    """

    reads_prompts = True

    def __init__(
        self,
        *,
        vision: nn.Module,
        language: Any,
        output: nn.Module | None,
        tokenizer: Any,
        style: SentenceStyle,
        image_size: int,
        prompt: str,
        prefix_attention: Literal["bidirectional", "causal"],
        max_history: int,
        text_length: int,
    ):
        super().__init__()
        self.vision, self.language, self.output = vision, language, output
        self.image_size, self.prefix_attention, self.max_history = image_size, prefix_attention, max_history
        self.sentences = SentenceWriter(prompt, tokenizer, style, text_length=text_length)
        self.tokenizer, self.vocabulary = tokenizer, TokenizerVocabulary(tokenizer)
        self.vocabulary_size = ids_before_trailing_specials(tokenizer)
        settings = language.config
        self.width: int = settings.hidden_size
        self.num_layers: int = settings.num_hidden_layers
        self.kv_heads: int = getattr(settings, "num_key_value_heads", None) or settings.num_attention_heads
        self.head_dim: int = getattr(settings, "head_dim", None) or self.width // settings.num_attention_heads
        self.logit_cap: float | None = getattr(settings, "final_logit_softcapping", None)
        # Only transformers' plain implementation knows capped attention scores (Gemma 2); it adds its mask to them.
        self.adds_mask = getattr(settings, "attn_logit_softcapping", None) is not None
        language.set_attn_implementation("eager" if self.adds_mask else "sdpa")
        reads_state = self.sentences.template.reads_state
        self.state_encoder = StateEncoder(self.width).to(self.tokens.weight.dtype) if reads_state else None

    @property
    def tokens(self) -> nn.Embedding:
        """Input embeddings; may have more rows than there are ids. (Gemma's multiplies what it looks up by sqrt(D).)"""
        return self.language.get_input_embeddings()

    def encode(self, batch: dict) -> Context:
        """Context of a loader batch or a batch of texts, with gradients where they are on. ValueError for a history
        that is too long and for a prompt whose marks and images differ in number.
        """
        prefix_BPD, mask_BP = self._prefix(batch)
        cache = LayerKeys(None)
        hidden = self._run(prefix_BPD, mask_BP, self._prefix_opens(mask_BP), cache)
        if torch.is_grad_enabled():
            # A layer sharded by FSDP gathers its weights when a gradient of its output comes. Nobody else reads that of
            # the last layer, whose keys are read past it.
            last = max(cache.noted)
            key, value = cache.noted[last]
            cache.noted[last] = (key + 0.0 * hidden.sum(), value)
        return cache.context(mask_BP)

    def decode(
        self, embedding_BSD: Tensor, mask_BS: Tensor, context: Context, *, causal: bool = True
    ) -> tuple[Tensor, Context]:
        """See Backbone. The hidden states have the embedding's dtype."""
        cache = LayerKeys(context)
        mask_BL = torch.cat([context.mask_BP, mask_BS], 1)
        opens_L = torch.cat([torch.zeros_like(context.mask_BP[0]), suffix_opens(mask_BS, causal)])
        hidden = self._run(embedding_BSD, mask_BL, opens_L, cache)
        return hidden.to(embedding_BSD.dtype), cache.context(mask_BL)

    def encode_decode(self, batch: dict, embedding_BSD: Tensor, mask_BS: Tensor, *, causal: bool = True) -> Tensor:
        """See Backbone. One pass over sentence and decoded tokens, without keys and values to keep."""
        prefix_BPD, mask_BP = self._prefix(batch)
        everything = torch.cat([prefix_BPD, embedding_BSD.to(prefix_BPD.dtype)], 1)
        opens_L = torch.cat([self._prefix_opens(mask_BP), suffix_opens(mask_BS, causal)])
        hidden = self._run(everything, torch.cat([mask_BP, mask_BS], 1), opens_L, None)
        return hidden[:, mask_BP.shape[1] :].to(embedding_BSD.dtype)

    def logits(self, hidden_BSD: Tensor) -> Tensor:
        """[B, S, rows of the table]: `vocabulary_size` or more."""
        hidden_BSD = hidden_BSD.to(self.tokens.weight.dtype)
        logits = F.linear(hidden_BSD, self.tokens.weight) if self.output is None else self.output(hidden_BSD)
        return logits if self.logit_cap is None else torch.tanh(logits / self.logit_cap) * self.logit_cap

    def rotary(self, position_ids: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, each [B, S, head_dim] in the dtype and on the device of `like`, for int64 positions [B, S]: what
        rotates queries and keys of this model (halves swapped: x * cos + cat(-x2, x1) * sin)."""
        return self.language.rotary_emb(like, position_ids)

    def prompt(self, batch: dict, row: int) -> str:
        """The sentence of a sample as it is read, for people."""
        return readable(self.sentences.parts({key: value[row : row + 1] for key, value in batch.items()})[0])

    def checkpoint_activations(self, on: bool) -> None:
        """Whether the layers of vision and language forget their activations and compute them again for the gradient.

        transformers' own switch would also drop the keys and values that a Context is made of.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        for module in self.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.__dict__.pop("forward", None)
                if on:
                    module.forward = functools.partial(checkpoint, module.forward, use_reentrant=False)

    def _run(self, embedding_BQD: Tensor, real_BL: Tensor, opens_L: Tensor, cache: LayerKeys | None) -> Tensor:
        """Final hidden states of the last Q of L tokens; positions count real tokens only."""
        queries = embedding_BQD.shape[1]
        mask = block_attention(real_BL, opens_L, queries=queries)[:, None]
        embedding_BQD = embedding_BQD.to(self.tokens.weight.dtype)
        if self.adds_mask:
            mask = torch.zeros_like(mask, dtype=embedding_BQD.dtype).masked_fill(~mask, torch.finfo(torch.float32).min)
        positions_BL = real_BL.cumsum(1) - real_BL.long()
        return self.language(
            inputs_embeds=embedding_BQD,
            attention_mask=mask,
            position_ids=positions_BL[:, -queries:],
            past_key_values=cache,
            use_cache=False,
        ).last_hidden_state

    def _prefix_opens(self, mask_BP: Tensor) -> Tensor:
        return torch.full_like(mask_BP[0], self.prefix_attention == "causal")

    def _prefix(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Embeddings [B, P, D] of all sentences, padded with zeros, and which are real."""
        self._check_history(batch)
        sentences, table = self.sentences.write(batch), self.tokens.weight
        images, states = self._image_tokens(batch, sentences), self._state_tokens(batch)
        texts = [torch.tensor(piece) for pieces in sentences for piece in pieces if isinstance(piece, list)]
        embedded = iter(self.tokens(torch.cat(texts).to(table.device)).split([len(text) for text in texts]))
        rows = []
        for row, pieces in enumerate(sentences):
            parts = []
            for piece in pieces:
                if isinstance(piece, list):
                    parts.append(next(embedded))
                elif isinstance(piece, ImagePart):
                    parts.append(images[row, piece])
                else:
                    parts.append(states[row, piece.step, None])
            rows.append(torch.cat([part.to(table.dtype) for part in parts]))
        lengths = torch.tensor([len(row) for row in rows], device=table.device)
        prefix_BPD = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        if not images and self.training:
            prefix_BPD = prefix_BPD + self._idle_vision()
        return prefix_BPD, torch.arange(prefix_BPD.shape[1], device=table.device) < lengths[:, None]

    def _idle_vision(self) -> Tensor:
        """0, from a black image: ranks that train together must all run the same modules, also one without images."""
        black = torch.zeros(1, self.image_size, self.image_size, 3, dtype=torch.uint8, device=self.tokens.weight.device)
        return 0.0 * self.vision([black]).to(self.tokens.weight.dtype).sum()

    def _check_history(self, batch: dict) -> None:
        history = batch["history_mask"].shape[1] if "history_mask" in batch else 1
        if history > self.max_history:
            raise ValueError(f"history {history} is longer than this backbone's max_history {self.max_history}")

    def _image_tokens(self, batch: dict, sentences: list[list[Piece]]) -> dict[tuple[int, ImagePart], Tensor]:
        """Tokens [n, D] of each image that a sentence names, all from one call of `vision`."""
        by_size: dict[torch.Size, dict[tuple[int, ImagePart], Tensor]] = {}
        for row, pieces in enumerate(sentences):
            for piece in pieces:
                if isinstance(piece, ImagePart):
                    image = image_of(batch, row, piece)
                    by_size.setdefault(image.shape, {})[row, piece] = image
        if not by_size:
            return {}
        device = self.tokens.weight.device
        tokens = self.vision([torch.stack(list(group.values())).to(device) for group in by_size.values()])
        return dict(zip([key for group in by_size.values() for key in group], tokens, strict=True))

    def _state_tokens(self, batch: dict) -> Tensor:
        """[B, T, D]; masked slots have no influence. Empty for templates without state, and for texts."""
        if self.state_encoder is None or "state" not in batch:
            return self.tokens.weight.new_empty(0)
        return self.state_encoder(batch["state"], batch["state_mask"])


def image_of(batch: dict, row: int, part: ImagePart) -> Tensor:
    """uint8 [H, W, 3]."""
    return batch["images"][row][part.index] if part.camera is None else batch[f"image_{part.camera}"][row, part.index]


def ids_before_trailing_specials(tokenizer: Any) -> int:
    """How many ids the tokeniser knows, special ones at the very end (image marks, padding) left out: actions take the
    last of these, and must not take the place of a mark that sentences use. 32,000 for Llama 2, as OpenVLA has it.
    """
    added, count = tokenizer.added_tokens_decoder, len(tokenizer)
    while count and count - 1 in added and added[count - 1].special:
        count -= 1
    return count
