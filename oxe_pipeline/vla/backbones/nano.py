"""The nano backbone: a small convolutional image encoder, a state token, byte text, and a pre-norm transformer.

Nano trades everything for size: random initialisation, a 4 x 4 grid of tokens per image, no knowledge of words. It
exists so that the whole way from raw files to a trained policy can be walked, and tested, on two CPU cores.

Shape letters: B batch, T history, P context tokens, S decoded tokens, D width, H heads.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oxe_pipeline.vla.backbones.attention_rules import decoded_attention
from oxe_pipeline.vla.backbones.block import Block
from oxe_pipeline.vla.backbones.image_inputs import square_pixels
from oxe_pipeline.vla.backbones.robot_state import StateEncoder, existing_steps
from oxe_pipeline.vla.context import Context
from oxe_pipeline.vla.text import NANO_PROMPT, ByteVocabulary, build_prompt
from schemas.slots import CAMERAS


@dataclass(frozen=True, kw_only=True, slots=True)
class NanoConfig:
    """Sizes of the nano backbone."""

    kind: Literal["nano"] = "nano"
    width: int = 128
    layers: int = 2
    heads: int = 4
    mlp_ratio: int = 4
    image_size: int = 64
    """Side of the square, in pixels, that every image is resized to; a multiple of 16."""
    text_length: int = 64
    """Longest prompt in ids, begin and end included; longer instructions are cut."""
    ids_per_token: int = 4
    """Neighbouring ids of the prompt joined into one token by a linear map: bytes are many and say little each."""
    prompt: str = NANO_PROMPT
    max_history: int = 4

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.text_length % self.ids_per_token:
            raise ValueError(f"text_length {self.text_length} must be a multiple of {self.ids_per_token} ids_per_token")
        if self.image_size % 16 or self.image_size < 16:
            raise ValueError(f"image_size {self.image_size} must be a positive multiple of 16")


class ImageEncoder(nn.Module):
    """Three strided convolutions: [N, 3, X, X] in [-1, 1] to [N, (X/16)^2, D] patch tokens. Shared by all cameras."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=4),
            nn.GroupNorm(4, 32),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GroupNorm(4, 64),
            nn.GELU(),
            nn.Conv2d(64, width, 3, stride=2, padding=1),
        )

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.layers(images_NCHW).flatten(2).transpose(1, 2)


class NanoBackbone(nn.Module):
    """See the module's text. `extra_ids` rows are appended to the vocabulary for the head's action tokens."""

    reads_prompts = False

    def __init__(self, config: NanoConfig, *, extra_ids: int, parts: Path | None = None):
        super().__init__()
        self.config, self.width = config, config.width
        self.image_size = config.image_size
        self.num_layers, self.kv_heads, self.head_dim = config.layers, config.heads, config.width // config.heads
        self.vocabulary = ByteVocabulary()
        self.vocabulary_size = self.vocabulary.size + extra_ids
        self.tokens = nn.Embedding(self.vocabulary_size, config.width)
        self.image_encoder = ImageEncoder(config.width)
        self.patch_position = nn.Embedding((config.image_size // 16) ** 2, config.width)
        self.camera = nn.Embedding(len(CAMERAS), config.width)
        self.age = nn.Embedding(config.max_history, config.width)
        self.text_join = nn.Linear(config.ids_per_token * config.width, config.width)
        self.text_position = nn.Embedding(config.text_length // config.ids_per_token, config.width)
        self.state_encoder = StateEncoder(config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, heads=config.heads, mlp_ratio=config.mlp_ratio) for _ in range(config.layers)
        )
        self.norm_out = nn.LayerNorm(config.width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        for table in (self.patch_position, self.camera, self.age, self.text_position):
            nn.init.normal_(table.weight, std=0.2)  # Image features are of order 1: much less would drown in them.

    def encode(self, batch: dict) -> Context:
        """Context of a batch (the loader's contract). A camera absent from the batch, or masked in it, has no
        influence.
        """
        parts = [*self._image_tokens(batch), self._state_tokens(batch), self._text_tokens(batch)]
        x = torch.cat([tokens for tokens, _ in parts], 1)
        mask_BP = torch.cat([mask for _, mask in parts], 1)
        keys, values = [], []
        for block in self.blocks:
            x, key, value = block(x, mask_BP[:, None, None, :], None)
            keys.append(key)
            values.append(value)
        return Context(tuple(keys), tuple(values), mask_BP)

    def decode(
        self, embedding_BSD: Tensor, mask_BS: Tensor, context: Context, *, causal: bool = True
    ) -> tuple[Tensor, Context]:
        """See Backbone."""
        mask = decoded_attention(context.mask_BP, mask_BS, causal=causal)[:, None]
        x, keys, values = embedding_BSD, [], []
        for block, *past in zip(self.blocks, context.keys, context.values, strict=True):
            x, key, value = block(x, mask, tuple(past))
            keys.append(key)
            values.append(value)
        return self.norm_out(x), Context(tuple(keys), tuple(values), torch.cat([context.mask_BP, mask_BS], 1))

    def encode_decode(self, batch: dict, embedding_BSD: Tensor, mask_BS: Tensor, *, causal: bool = True) -> Tensor:
        """Hidden states [B, S, D] of further tokens."""
        return self.decode(embedding_BSD, mask_BS, self.encode(batch), causal=causal)[0]

    def prompt(self, batch: dict, row: int) -> str:
        """The prompt of a sample as it is read, cut where it is too long."""
        return self.vocabulary.decode(self._prompt_ids(batch["instruction"][row]))

    def save_parts(self, folder: Path) -> None:
        """Nothing: the configuration says it all."""

    def logits(self, hidden_BSD: Tensor) -> Tensor:
        """[B, S, V] over text and action ids, by the tied embedding table."""
        return F.linear(hidden_BSD, self.tokens.weight)

    def _image_tokens(self, batch: dict) -> list[tuple[Tensor, Tensor]]:
        """Per camera of the batch: tokens [B, T * patches, D] and their mask."""
        parts = []
        for number, camera in enumerate(CAMERAS):
            images_BTHWC = batch.get(f"image_{camera}")
            if images_BTHWC is None:
                continue
            mask_BT = batch[f"image_{camera}_mask"]
            batch_size, history = mask_BT.shape
            patches = self.image_encoder(square_pixels(images_BTHWC.flatten(0, 1), self.config.image_size))
            patches = patches.unflatten(0, (batch_size, history)) + self._age(history)[:, None]
            patches = patches + self.patch_position.weight + self.camera.weight[number]
            mask = mask_BT[:, :, None].expand(-1, -1, patches.shape[2]).flatten(1)
            parts.append((patches.flatten(1, 2), mask))
        return parts

    def _state_tokens(self, batch: dict) -> tuple[Tensor, Tensor]:
        """One token per step of the history; the newest always counts, so that no sample is without a context."""
        tokens = self.state_encoder(batch["state"], batch["state_mask"])
        return tokens + self._age(tokens.shape[1]), existing_steps(batch)

    def _text_tokens(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Tokens [B, L / ids_per_token, D] and their mask; a token counts where any of its ids is real."""
        joined, device = self.config.ids_per_token, self.tokens.weight.device
        rows = [torch.tensor(self._prompt_ids(instruction)) for instruction in batch["instruction"]]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=ByteVocabulary.PADDING).to(device)
        ids = F.pad(ids, (0, -ids.shape[1] % joined), value=ByteVocabulary.PADDING)
        mask = ids != ByteVocabulary.PADDING
        tokens = self.text_join(self.tokens(ids).unflatten(1, (-1, joined)).flatten(2))
        return tokens + self.text_position.weight[: tokens.shape[1]], mask.unflatten(1, (-1, joined)).any(2)

    def _prompt_ids(self, instruction: str) -> list[int]:
        """Begin, the bytes of the prompt, end: at most `text_length` ids."""
        prompt = build_prompt(instruction, template=self.config.prompt, max_bytes=self.config.text_length - 2)
        return [ByteVocabulary.BEGIN, *self.vocabulary.encode(prompt), ByteVocabulary.END]

    def _age(self, history: int) -> Tensor:
        """Embedding [T, D] of how many steps ago each entry of the history was; the last one is now."""
        if history > self.config.max_history:
            raise ValueError(f"history {history} is longer than this backbone's max_history {self.config.max_history}")
        return self.age.weight[:history].flip(0)
