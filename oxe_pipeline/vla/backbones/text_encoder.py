"""Instructions to a fixed number of tokens: by a frozen T5 encoder, or by embedding bytes, which needs no download.

T5 knows what words mean before the first robot sample, and is never trained (Octo): one instruction always has the same
features, so they are computed once and kept. Bytes start from nothing.

Shape letters: B texts, L tokens, W width of the features.
"""

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from oxe_pipeline.vla.backbones.hub import BackboneError, load_model, load_tokenizer, save_parts
from oxe_pipeline.vla.text import ByteVocabulary

BYTES = "bytes"
"""In the place of a model's name: embed bytes."""
BYTES_PER_TOKEN = 4
ENCODED_AT_ONCE = 8
"""Texts per call of T5, always: matrix products of another shape may differ in the last bit, and what a sample's text
becomes must not depend on the samples beside it."""
KEPT_TEXTS = 8192
"""Features of so many texts stay in memory: 400 MB for T5-base."""


class TextEncoder(Protocol):
    width: int
    length: int

    def __call__(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Features [B, L, W] of texts, and which of the tokens are real, bool [B, L]; longer texts are cut."""
        ...

    def read(self, text: str) -> str:
        """The text as it is read, cut where it is too long."""
        ...

    def save_parts(self, folder: Path) -> None: ...


def make_text_encoder(source: str, parts: Path | None, *, length: int, width: int) -> Any:
    """The TextEncoder for "bytes", of that width, or for a T5 model by Hub name or directory, of its own width."""
    if source == BYTES:
        return ByteTextEncoder(width=width, length=length, bytes_per_token=BYTES_PER_TOKEN)
    return T5TextEncoder(source, parts, length=length)


class T5TextEncoder(nn.Module):
    """The encoder of a T5 model of transformers, frozen: no gradients, no dropout, float32.

    `source` and `parts` as in hub.py. Padding behind a text is masked, unlike in Octo, which reads it.
    """

    def __init__(self, source: str, parts: Path | None, *, length: int):
        super().__init__()
        self.length = length
        self.tokenizer: Any = load_tokenizer(source, parts)
        model: Any = load_model("AutoModelForTextEncoding", source, parts)
        if self.tokenizer.pad_token_id is None:
            raise BackboneError(f"{source}: its tokeniser has no padding token; name a T5 model in `text`")
        self.model = model.requires_grad_(False)
        self.width: int = model.config.hidden_size
        self.kept: dict[str, tuple[Tensor, Tensor]] = {}
        """Text -> its features [L, W] and mask [L]; the oldest are forgotten."""
        self.register_load_state_dict_post_hook(_forget)
        self.eval()

    def forward(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        found = {text: self.kept[text] for text in texts if text in self.kept}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        for start in range(0, len(new), ENCODED_AT_ONCE):
            found.update(self._encode(new[start : start + ENCODED_AT_ONCE]))
        self.kept.update({text: found[text] for text in new})
        while len(self.kept) > KEPT_TEXTS:
            del self.kept[next(iter(self.kept))]
        features, masks = zip(*(found[text] for text in texts), strict=True)
        return torch.stack(features), torch.stack(masks)

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> dict[str, tuple[Tensor, Tensor]]:
        device = self.model.get_input_embeddings().weight.device
        rows = texts + [""] * (ENCODED_AT_ONCE - len(texts))
        read = self.tokenizer(
            rows, max_length=self.length, padding="max_length", truncation=True, return_tensors="pt"
        ).to(device)
        with torch.autocast(device.type, enabled=False):
            features = self.model(input_ids=read.input_ids, attention_mask=read.attention_mask).last_hidden_state
        return {text: (features[row].clone(), read.attention_mask[row].bool()) for row, text in enumerate(texts)}

    def read(self, text: str) -> str:
        ids = self.tokenizer(text, max_length=self.length, truncation=True).input_ids
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def save_parts(self, folder: Path) -> None:
        """Configuration and tokeniser."""
        save_parts(folder, config=self.model.config, tokenizer=self.tokenizer)

    def train(self, mode: bool = True) -> "T5TextEncoder":
        """Stays in evaluation mode: dropout would make features of one text differ."""
        return super().train(False)

    def _apply(self, *arguments: Any, **options: Any) -> "T5TextEncoder":
        self.kept.clear()  # What was computed on another device, or with weights of another precision.
        return super()._apply(*arguments, **options)

    def __getstate__(self) -> dict:
        """Copies start without kept features: their weights may be changed."""
        return {**self.__dict__, "kept": {}}


def _forget(encoder: T5TextEncoder, _: object) -> None:
    """Features of other weights than those just loaded."""
    encoder.kept.clear()


class ByteTextEncoder(nn.Module):
    """Learnt embeddings of UTF-8 bytes, neighbouring ones joined into one token by a linear map."""

    def __init__(self, *, width: int, length: int, bytes_per_token: int):
        super().__init__()
        self.width, self.length, self.joined = width, length, bytes_per_token
        self.bytes = nn.Embedding(ByteVocabulary.size, width)
        self.join = nn.Linear(bytes_per_token * width, width)

    def forward(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        room = self.length * self.joined
        rows = [list(self.read(text).encode()) for text in texts]
        padded = [row + [ByteVocabulary.PADDING] * (room - len(row)) for row in rows]
        ids_BLn = torch.tensor(padded, device=self.bytes.weight.device).unflatten(1, (self.length, self.joined))
        return self.join(self.bytes(ids_BLn).flatten(2)), (ids_BLn != ByteVocabulary.PADDING).any(2)

    def read(self, text: str) -> str:
        return text.encode()[: self.length * self.joined].decode(errors="ignore")

    def save_parts(self, folder: Path) -> None:
        """Nothing: the sizes say it all."""
