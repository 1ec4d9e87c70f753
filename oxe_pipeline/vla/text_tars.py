"""Image-text examples in tars of the WebDataset layout, read by number: nothing is unpacked or shuffled in memory.

Files that follow one another and have the same name up to the first dot are one example: its images (.jpg, .jpeg,
.png, .webp), and its texts, either a .json with "prompt" and "target" or a .txt, which is the target of
"<image>caption:". The header of every member is read once, at the start; per example some 60 bytes are then held.
"""

import json
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import xxhash

from oxe_pipeline.vla.backbones.sentences import IMAGE_MARK
from oxe_pipeline.vla.image_text import (
    MAX_BAD_RATIO,
    Fault,
    ImageText,
    TextDataError,
    check_words,
    decoded,
    faults_of,
    refuse_bad_source,
)

CAPTION = "caption:"
IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp")
_LARGEST_TEXT = 1 << 24


class Member(NamedTuple):
    """One file in a tar."""

    key: str
    ending: str
    """Behind the name's first dot, in lower case."""
    offset: int
    """Of its content, in bytes."""
    size: int


class TarTexts:
    """See ImageTexts. `identity` is of the members' names, sizes, places and texts, not of what is in the images."""

    def __init__(self, files: Sequence[Path], *, max_bad_ratio: float = MAX_BAD_RATIO):
        self.files = tuple(files)
        self.quarantined: list[str] = []
        self._file, self._text_offset, self._text_size = array("i"), array("q"), array("q")
        self._is_json = array("b")
        self._first_image, self._image_offset, self._image_size = array("q", [0]), array("q"), array("q")
        digest = xxhash.xxh3_128()
        for number, path in enumerate(self.files):
            digest.update(f"{path.name}\0".encode())
            with path.open("rb") as file:
                for key, members in groupby(tar_members(path), key=lambda member: member.key):
                    self._admit(number, file, key, list(members), digest)
        self.identity = digest.hexdigest()
        source = str(self.files[0]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        refuse_bad_source(source, len(self), self.quarantined, max_bad_ratio)

    def _admit(self, number: int, file: BinaryIO, key: str, members: list[Member], digest: xxhash.xxh3_128) -> None:
        for member in members:
            digest.update(f"{key}.{member.ending}\0{member.offset}\0{member.size}\0".encode(errors="surrogateescape"))
        images = [member for member in members if member.ending.rpartition(".")[2] in IMAGE_ENDINGS]
        try:
            with faults_of(self.files[number].name, key):
                text = self._text_member(file, members, len(images), digest)
        except TextDataError as error:
            self.quarantined.append(str(error))
            return
        self._file.append(number)
        self._is_json.append(text.ending == "json")
        self._text_offset.append(text.offset)
        self._text_size.append(text.size)
        self._image_offset.extend(member.offset for member in images)
        self._image_size.extend(member.size for member in images)
        self._first_image.append(len(self._image_offset))

    def _text_member(self, file: BinaryIO, members: list[Member], num_images: int, digest: xxhash.xxh3_128) -> Member:
        """The member that holds the example's texts, which are checked; Fault for none."""
        found: Member | None = None
        # A .json without a target is what crawlers note about a picture; the caption then lies beside it as .txt.
        for member in sorted((m for m in members if m.ending in ("json", "txt")), key=lambda m: m.ending):
            if member.size > _LARGEST_TEXT:
                raise Fault(member.ending, f"{member.size:,} bytes are no text")
            data = _read(file, member.offset, member.size)
            digest.update(data)
            if found is None and (member.ending == "txt" or "target" in _record(data)):
                check_words(*_words(data, num_images, is_json=member.ending == "json"), num_images)
                found = member
        if found is None:
            raise Fault("target", "no .json with a target, and no .txt")
        return found

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, number: int) -> ImageText:
        path = self.files[self._file[number]]
        images = range(*self._first_image[number : number + 2])
        with path.open("rb") as file:
            data = _read(file, self._text_offset[number], self._text_size[number])
            with faults_of(str(path), f"text at byte {self._text_offset[number]}"):
                prompt, target = _words(data, len(images), is_json=bool(self._is_json[number]))
            pixels = []
            for image in images:
                with faults_of(str(path), f"image at byte {self._image_offset[image]}"):
                    pixels.append(decoded(_read(file, self._image_offset[image], self._image_size[image])))
        return ImageText(prompt, pixels, target)


def tar_members(path: Path) -> Iterator[Member]:
    """Every plain file of a tar in its order; TextDataError for a file that is no tar or is damaged."""
    try:
        with tarfile.open(path, "r:") as tar:
            while (found := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # It would keep a kilobyte for every one.
                if found.isreg() and not found.issparse():
                    name = PurePosixPath(found.name)
                    stem, _, ending = name.name.partition(".")
                    yield Member(str(name.parent / stem), ending.lower(), found.offset_data, found.size)
            end = tar.offset
        with path.open("rb") as file:
            if _read(file, end, tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError(f"damaged at byte {end}")
    except tarfile.TarError as error:
        raise TextDataError(
            f"{error}; make it again, and uncompressed: members are read by their place in the file",
            dataset=str(path),
            episode="members",
            field="tar",
        ) from None


def _record(data: bytes) -> dict:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Fault("json", f"is no JSON: {error}") from None
    if not isinstance(record, dict):
        raise Fault("json", f"must be a JSON object, is {type(record).__name__}")
    return record


def _words(data: bytes, num_images: int, *, is_json: bool) -> tuple[str, str]:
    """Prompt and target, unchecked."""
    if is_json:
        record = _record(data)
        return record.get("prompt", IMAGE_MARK * num_images + CAPTION), record["target"]
    if not num_images:
        raise Fault("images", "there is none to caption")
    return IMAGE_MARK * num_images + CAPTION, data.decode(errors="replace").strip()


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
