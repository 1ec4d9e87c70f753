"""A lab's raw folder as a boundary: whatever a file's name, a link or an entry in metadata says, nothing outside of it
is read."""

import re
from pathlib import Path

from oxe_pipeline.episode import DataError


def inside(root: Path, file: Path, episode: str) -> Path:
    """`file`, unless it lies outside `root` once links and ".." are followed: then DataError naming it."""
    if not file.resolve().is_relative_to(root.resolve()):
        raise DataError("leads out of the raw folder; copy the file in", episode=episode, field=file.name)
    return file


def number_order(name: str) -> list[tuple[int, int | str]]:
    """Sort key that takes runs of digits as numbers: "im_2" before "im_10"."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]
