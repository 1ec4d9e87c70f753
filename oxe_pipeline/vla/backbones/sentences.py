"""Multimodal sentences: texts with images and states at any place, as language models read them (PaLM-E, arXiv
2303.03378).

A template names the places: `{instruction}`; `{images}`, every camera that the sample has, in the order of
schemas.slots.CAMERAS, each with its newest history step last; `{image_primary}` and so on, one camera; `{state}`, one
token per step of the history. What a sample lacks is left out of its sentence, so nothing stands for it: sentences of a
batch differ in length, which costs padding.

A sentence is made in two steps: parts (texts and references to what lies in the batch), then pieces (the same with ids
instead of texts). Embeddings are spliced in by the backbone.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Literal

from oxe_pipeline.vla.backbones.robot_state import existing_steps
from oxe_pipeline.vla.text import build_prompt
from schemas.slots import CAMERAS
from schemas.spec_parts import nearest

IMAGE_MARK = "<image>"
"""The place of an image in the prompts of a batch of texts."""
PLACES = ("instruction", "images", "state", *(f"image_{camera}" for camera in CAMERAS))


@dataclass(frozen=True, slots=True)
class ImagePart:
    """Which image of a sample: a camera and its history step, or (camera None) the number in the sample's own list."""

    camera: str | None
    index: int


@dataclass(frozen=True, slots=True)
class StatePart:
    """The state at one step of the history."""

    step: int


Part = str | ImagePart | StatePart
Piece = list[int] | ImagePart | StatePart


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceStyle:
    """How a family of models writes sentences, besides the prompt."""

    image_token: str | None = None
    """The tokeniser's own token for an image: the sentence is tokenised as one text with it, as the family's processor
    does, so that the spaces around an image fall the same. None: every text between images is tokenised alone."""
    before_image: str = ""
    after_image: str = ""
    """Special tokens, as text, around every image; only with an `image_token`."""
    begin: Literal["first", "before_text"] = "first"
    """Where the begin-of-text id goes, for tokenisers that have one: before everything, or before the first text (after
    the images that lead the sentence)."""

    def __post_init__(self):
        if (self.before_image or self.after_image) and self.image_token is None:
            raise ValueError("before_image and after_image need an image_token")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one sample of a loader batch has."""

    images: dict[str, list[int]]
    """Camera to the history steps it has, oldest first; in the order of CAMERAS."""
    state_steps: list[int]


class PromptTemplate:
    """A template taken apart. ValueError for one without {instruction}, or with a place that does not exist."""

    def __init__(self, template: str):
        build_prompt("", template=template)  # Refuses a template without an instruction.
        self.template = template
        self._texts_and_places = re.split(r"\{([^{}]*)\}", template)
        for place in self._texts_and_places[1::2]:
            if place not in PLACES:
                raise ValueError(f"prompt template {template!r}: place {{{place}}} is unknown{nearest(place, PLACES)}")

    @property
    def reads_state(self) -> bool:
        return "state" in self._texts_and_places[1::2]

    def fill(self, words: str, seen: Seen) -> list[Part]:
        """The parts of one sample's sentence; texts are neither empty nor neighbours."""
        parts: list[Part] = []
        for number, piece in enumerate(self._texts_and_places):
            if number % 2 == 0:
                parts.append(piece)
            elif piece == "instruction":
                parts.append(words)
            elif piece == "state":
                parts += [StatePart(step) for step in seen.state_steps]
            else:
                cameras = list(seen.images) if piece == "images" else [piece.removeprefix("image_")]
                parts += [ImagePart(camera, step) for camera in cameras for step in seen.images.get(camera, [])]
        return joined_texts(parts)


def joined_texts(parts: list[Part]) -> list[Part]:
    """The parts with neighbouring texts made one and empty ones left out."""
    joined: list[Part] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return joined


def instruction_words(instruction: str) -> str:
    """The instruction as every prompt states it: lower-cased, stripped, "unknown" for none."""
    return build_prompt(instruction, template="{instruction}")


def samples_seen(batch: dict) -> list[Seen]:
    """What each sample of a loader batch has; the newest step's state always counts."""
    masks = {camera: batch[f"image_{camera}_mask"].tolist() for camera in CAMERAS if f"image_{camera}" in batch}
    seen = []
    for row, history in enumerate(existing_steps(batch).tolist()):
        images = {camera: [step for step, there in enumerate(mask[row]) if there] for camera, mask in masks.items()}
        seen.append(Seen(images, [step for step, there in enumerate(history) if there]))
    return seen


class SentenceWriter:
    """Batches to sentences of ids, for one template and one tokeniser of transformers.

    `text_length` is the most ids of text in a sentence of a loader batch: what is over is cut from the end of the
    instruction, never from the template (tokens that a style puts around images do not count). Prompts of text batches
    are not cut. ValueError for a template that leaves no room for an instruction.
    """

    def __init__(self, prompt: str, tokenizer: Any, style: SentenceStyle, *, text_length: int):
        self.template, self.tokenizer = PromptTemplate(prompt), tokenizer
        self.style, self.text_length = style, text_length
        self._mark_id = None if style.image_token is None else tokenizer.convert_tokens_to_ids(style.image_token)
        self._fitted_words("a")

    def write(self, batch: dict) -> list[list[Piece]]:
        """The sentence of every sample of a loader batch or of a batch of texts (see Backbone)."""
        return [self._pieces(parts) for parts in self.parts(batch)]

    def parts(self, batch: dict) -> list[list[Part]]:
        """The same before it becomes ids, instructions cut as they will be read. ValueError names a prompt whose marks
        and images differ in number."""
        if "prompt" in batch:
            return [prompt_parts(*sample) for sample in zip(batch["prompt"], batch["images"], strict=True)]
        samples = zip(batch["instruction"], samples_seen(batch), strict=True)
        return [self.template.fill(self._fitted_words(instruction), seen) for instruction, seen in samples]

    def _fitted_words(self, instruction: str) -> str:
        """The instruction as it will be read, whatever images come with it."""
        words = instruction_words(instruction)
        if self._text_ids(words) <= self.text_length:
            return words
        one_more = bisect_right(range(len(words)), self.text_length, key=lambda kept: self._text_ids(words[:kept]))
        if one_more < 2:
            raise ValueError(
                f"prompt template {self.template.template!r} leaves no room for an instruction in text_length "
                f"{self.text_length} ids; shorten the template or raise text_length"
            )
        return words[: one_more - 1]

    def _text_ids(self, words: str) -> int:
        pieces = self._pieces(self.template.fill(words, Seen({}, [])))
        return sum(len(piece) for piece in pieces if isinstance(piece, list))

    def _pieces(self, parts: list[Part]) -> list[Piece]:
        begin_first = self.style.begin == "first" and self.tokenizer.bos_token_id is not None
        pieces = self._tokenized_together(parts) if self._mark_id is not None else self._tokenized_apart(parts)
        return [[self.tokenizer.bos_token_id], *pieces] if begin_first else pieces

    def _tokenized_apart(self, parts: list[Part]) -> list[Piece]:
        return [self._ids(part) if isinstance(part, str) else part for part in self._begun(parts)]

    def _tokenized_together(self, parts: list[Part]) -> list[Piece]:
        """One text in which the image token stands for whatever is no text, split at that token again."""
        style, mark = self.style, str(self.style.image_token)
        texts = []
        for part in self._begun([part.replace(mark, "") if isinstance(part, str) else part for part in parts]):
            if isinstance(part, str):
                texts.append(part)
            else:
                texts.append(style.before_image + mark + style.after_image if isinstance(part, ImagePart) else mark)
        others = iter([part for part in parts if not isinstance(part, str)])
        pieces: list[Piece] = []
        ids: list[int] = []
        for token in self._ids("".join(texts)):
            if token == self._mark_id:
                pieces += [ids, next(others)]
                ids = []
            else:
                ids.append(token)
        return [piece for piece in [*pieces, ids] if piece != []]

    def _begun(self, parts: list[Part]) -> list[Part]:
        """With the begin-of-text token before the first text, where the style wants it there."""
        if self.style.begin == "first" or self.tokenizer.bos_token is None:
            return parts
        first = next((number for number, part in enumerate(parts) if isinstance(part, str)), len(parts))
        return joined_texts([*parts[:first], self.tokenizer.bos_token, *parts[first:]])

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)


def prompt_parts(prompt: str, images: list) -> list[Part]:
    """The parts of a prompt of a text batch: its n-th mark is its n-th image. ValueError when the numbers differ."""
    texts = prompt.split(IMAGE_MARK)
    if len(texts) - 1 != len(images):
        raise ValueError(f"prompt {prompt!r} has {len(texts) - 1} {IMAGE_MARK} marks and {len(images)} images")
    parts: list[Part] = [texts[0]]
    for number, text in enumerate(texts[1:]):
        parts += [ImagePart(None, number), text]
    return joined_texts(parts)


def readable(parts: list[Part]) -> str:
    """A sentence for people: "<image primary>" for each image of that camera, oldest first; "<image>" for one of a text
    batch's own; "<state>" for each state."""
    words = []
    for part in parts:
        if isinstance(part, str):
            words.append(part)
        elif isinstance(part, StatePart):
            words.append("<state>")
        else:
            words.append(f"<image {part.camera}>" if part.camera else IMAGE_MARK)
    return "".join(words)
