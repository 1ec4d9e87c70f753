"""What lies between a backbone and a head: the Context of an observation, and the Backbone protocol.

`encode` turns the observations of a batch into a `Context`: keys and values of every layer. `decode` runs further
tokens against a context. The context never sees those tokens, so training in one pass (`encode_decode`), decoding token
by token with a cache, and parallel decoding of a whole chunk are the same computation: the block-causal attention of
pi0 (arXiv 2410.24164), here as two calls.

Shape letters: B batch, T history, P context tokens, S decoded tokens, D width, H heads (of keys and values).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Context:
    """What decoded tokens may look at: per layer keys and values [B, H, P, D/H], and which are real, bool [B, P]."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    mask_BP: Tensor

    @property
    def length_B(self) -> Tensor:
        """int64 [B]: real tokens so far; the position of the next token where a backbone counts positions."""
        return self.mask_BP.sum(1)


class TextVocabulary(Protocol):
    """Texts to ids and back, by the tokeniser that the backbone was trained with."""

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone: nothing is put before or behind it."""
        ...

    def decode(self, ids: list[int]) -> str: ...

    @property
    def end_id(self) -> int:
        """The id that ends a text."""
        ...


class Backbone(Protocol):
    """What a head needs of a backbone.

    Where the keys of a Context are rotated by position it also has `rotary(position_ids, like) -> (cos, sin)`, which
    rotates further ones (see LanguageBackbone).

    A batch is either the loader's (observations, actions; see oxe_pipeline/loader/batch.py) or one of texts, told by
    its key "prompt": {"prompt": list[str] with "<image>" at the place of each image, "images": list of lists of uint8
    [H, W, 3] tensors, "target": list[str]}. Only backbones with `reads_prompts` take the latter.
    """

    width: int
    image_size: int
    """Side in pixels of the squares that it wants from the loader."""
    vocabulary: TextVocabulary
    vocabulary_size: int
    """Ids the model knows: those of texts and, at the end, those of actions."""
    tokens: nn.Embedding
    """Input embeddings of all ids."""
    reads_prompts: bool
    num_layers: int
    """Layers of a Context."""
    kv_heads: int
    """Heads of keys and values in each of them."""
    head_dim: int
    """Width of a key and of a value."""

    def encode(self, batch: dict) -> Context:
        """The context of the batch's observations and instructions (or prompts and their images)."""
        ...

    def decode(
        self, embedding_BSD: Tensor, mask_BS: Tensor, context: Context, *, causal: bool
    ) -> tuple[Tensor, Context]:
        """Hidden states [B, S, D] of further tokens, and the context grown by them.

        Every token sees the context and itself; besides that, earlier tokens (`causal`) or all of them, where `mask_BS`
        is true.
        """
        ...

    def encode_decode(self, batch: dict, embedding_BSD: Tensor, mask_BS: Tensor, *, causal: bool) -> Tensor:
        """Hidden states [B, S, D] of `decode` after `encode`, in one pass: what training calls."""
        ...

    def logits(self, hidden_BSD: Tensor) -> Tensor:
        """[B, S, vocabulary_size or more]."""
        ...

    def prompt(self, batch: dict, row: int) -> str:
        """What the model reads of one sample, for people: "<image primary>" and the like for what is no text."""
        ...

    def save_parts(self, folder: Path) -> None:
        """Writes what is needed, besides the weights and the configuration, to make this backbone again: tokeniser,
        image settings, sizes. Nothing for backbones that need none."""
        ...
