"""One example of a text that a model is to learn beside actions: a prompt with images in it, and what it should answer.

RT-2 and PaLM-E keep such examples (captions, questions and answers, plans) in every batch, so that what the language
model knew is not lost to actions (arXiv 2307.15818, arXiv 2303.03378).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np

from oxe_pipeline.episode import DataError
from oxe_pipeline.loader.decode import ImageError, decode_into, image_size
from oxe_pipeline.vla.backbones.sentences import IMAGE_MARK

MOST_PIXELS = 64_000_000
"""Of one image; a header that promises more would only cost memory."""
MAX_BAD_RATIO = 0.05
"""Of a source's examples. More that cannot be used is a fault in how it was made, not in single examples."""
_NAMED = 5


class ImageText(NamedTuple):
    prompt: str
    """With one "<image>" per image, where the image stands."""
    images: list[np.ndarray]
    """uint8 [H, W, 3] RGB, each of its own size."""
    target: str


class ImageTexts(Protocol):
    """Examples by number, from any thread. Which they are does not change while they are open."""

    identity: str
    """32 hexadecimal digits over the examples; equal where they are, wherever they lie."""
    quarantined: list[str]
    """Examples that were set aside when the source was opened: file, line or member, and why; one line each."""

    def __len__(self) -> int:
        """Examples, without those set aside."""
        ...

    def __getitem__(self, number: int) -> ImageText:
        """TextDataError, naming file and line or member, for an image that cannot be read."""
        ...


class TextDataError(DataError):
    """A fault in a source of texts. `dataset` is its file, `episode` the line or the member."""

    def __str__(self) -> str:
        return f"{self.dataset}: {self.episode}: {self.field}: {self.reason}"


class Fault(ValueError):
    """What is wrong with one example, before it is known where that lies: the field, and why."""

    def __init__(self, field: str, reason: str):
        self.field, self.reason = field, reason
        super().__init__(f"{field}: {reason}")


def check_words(prompt: object, target: object, num_images: int) -> None:
    """Fault unless both are texts that say something, and the prompt has a mark for each image."""
    for field, value in (("prompt", prompt), ("target", target)):
        if not isinstance(value, str):
            raise Fault(field, f"must be a text, is {'missing' if value is None else type(value).__name__}")
    if not str(target).strip():
        raise Fault("target", "is empty")
    if not str(prompt).strip():
        raise Fault("prompt", "is empty")
    if (marks := str(prompt).count(IMAGE_MARK)) != num_images:
        raise Fault("prompt", f"has {marks} {IMAGE_MARK} for {num_images} images")


def decoded(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3] RGB of an encoded image of any size; ImageError for one that is unreadable or absurdly large."""
    height, width = image_size(data)
    if height * width > MOST_PIXELS:
        raise ImageError(f"claims {width}x{height} pixels; at most {MOST_PIXELS:,} are decoded")
    pixels_HWC = np.empty((height, width, 3), np.uint8)
    decode_into(data, pixels_HWC)
    return pixels_HWC


@contextmanager
def faults_of(file: str, place: str) -> Iterator[None]:
    """Turns what goes wrong while an example is read into a TextDataError that says where."""
    try:
        yield
    except Fault as fault:
        raise TextDataError(fault.reason, dataset=file, episode=place, field=fault.field) from None
    except (ImageError, OSError) as error:
        raise TextDataError(str(error), dataset=file, episode=place, field="images") from None


def refuse_bad_source(source: str, good: int, quarantined: list[str], max_bad_ratio: float) -> None:
    """TextDataError for a source without any example, or of which more than `max_bad_ratio` had to be set aside."""
    named = "; ".join(quarantined[:_NAMED])
    if not good:
        raise TextDataError(
            f"none can be used: {named or 'it is empty'}", dataset=source, episode="examples", field="?"
        )
    share = len(quarantined) / (good + len(quarantined))
    if len(quarantined) > 1 and share > max_bad_ratio:
        raise TextDataError(
            f"{len(quarantined)} of {good + len(quarantined)} cannot be used, more than {max_bad_ratio:.0%}: {named}",
            dataset=source,
            episode="examples",
            field="?",
        )
