"""Opens image-text examples: JSONL files beside their images, and WebDataset tars (`text_tars`), by number.

One JSONL line is one example; image paths are relative to the file's folder and stay inside it:

    {"prompt": "<image>Q: what is on the table? A:", "images": ["images/0001.jpg"], "target": "a red block"}

Only where each line begins is held in memory, eight bytes per example, so that a file of any size opens in one pass
over its text. Images are first looked at when they are read.
"""

import json
from array import array
from pathlib import Path

import numpy as np
import xxhash

from oxe_pipeline.vla.image_text import (
    MAX_BAD_RATIO,
    Fault,
    ImageText,
    ImageTexts,
    TextDataError,
    check_words,
    decoded,
    faults_of,
    refuse_bad_source,
)
from oxe_pipeline.vla.text_tars import TarTexts

_LONGEST_LINE = 1 << 24
"""Bytes. A file without line ends would otherwise be read into memory whole."""


def open_text_examples(source: str | Path, *, max_bad_ratio: float = MAX_BAD_RATIO) -> ImageTexts:
    """The examples of a .jsonl file, a .tar file, a pattern of tars ("web/*.tar"), or a folder that holds tars or one
    JSONL file.

    Examples that cannot be used are set aside and listed in `quarantined`. TextDataError where there are more of them
    than `max_bad_ratio`, or nothing else; ValueError for a source that is none of these.
    """
    path = Path(source)
    if any(letter in str(source) for letter in "*?[") and not path.exists():
        files = sorted(path.parent.glob(path.name))
    elif path.is_dir():
        files = sorted(path.glob("*.tar")) or sorted(path.glob("*.jsonl"))
    else:
        files = [path] if path.is_file() else []
    if files and all(file.suffix == ".tar" for file in files):
        return TarTexts(files, max_bad_ratio=max_bad_ratio)
    if len(files) == 1 and files[0].suffix == ".jsonl":
        return JsonlTexts(files[0], max_bad_ratio=max_bad_ratio)
    raise ValueError(
        f"{source}: no image-text examples; name a .jsonl file, a .tar file or a pattern of them, or a folder with "
        "tars or one JSONL file"
    )


class JsonlTexts:
    """See ImageTexts. `identity` is of the file's bytes and so of the images' names, not of what is in the images."""

    def __init__(self, path: Path, *, max_bad_ratio: float = MAX_BAD_RATIO):
        self.path = path
        self.quarantined: list[str] = []
        self._folder = path.parent.resolve()
        self._line_number, self._offset = array("q"), array("q")
        digest = xxhash.xxh3_128()
        with path.open("rb") as file:
            offset = 0
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
                digest.update(line)
                if line.strip():
                    self._admit(line, number, offset)
                offset += len(line)
        self.identity = digest.hexdigest()
        refuse_bad_source(str(path), len(self), self.quarantined, max_bad_ratio)

    def _admit(self, line: bytes, number: int, offset: int) -> None:
        try:
            with faults_of(self.path.name, f"line {number}"):
                self._parsed(line)
        except TextDataError as error:
            self.quarantined.append(str(error))
        else:
            self._line_number.append(number)
            self._offset.append(offset)

    def __len__(self) -> int:
        return len(self._offset)

    def __getitem__(self, number: int) -> ImageText:
        with faults_of(str(self.path), f"line {self._line_number[number]}"):
            with self.path.open("rb") as file:
                file.seek(self._offset[number])
                prompt, paths, target = self._parsed(file.readline(_LONGEST_LINE))
            return ImageText(prompt, [self._image(path) for path in paths], target)

    def _image(self, name: str) -> np.ndarray:
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._folder):
            raise Fault("images", f"{name!r} leads out of the file's folder")
        try:
            return decoded(path.read_bytes())
        except (ValueError, OSError) as error:
            raise Fault("images", f"{name}: {error}") from None

    @staticmethod
    def _parsed(line: bytes) -> tuple[str, list[str], str]:
        """Prompt, paths of images, target; Fault for a line that is no example."""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Fault("line", f"is no JSON: {error}") from None
        if not isinstance(record, dict):
            raise Fault("line", f"must be a JSON object, is {type(record).__name__}")
        paths = record.get("images", [])
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise Fault("images", "must be a list of paths")
        for path in paths:
            if not path or "\0" in path or Path(path).is_absolute() or ".." in Path(path).parts:
                raise Fault("images", f"{path!r} is no path inside the file's folder")
        check_words(record.get("prompt"), record.get("target"), len(paths))
        return record["prompt"], paths, record["target"]
