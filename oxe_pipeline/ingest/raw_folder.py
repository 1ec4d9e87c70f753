"""A lab's raw folder as a boundary: whatever a file's name, a link or an entry in metadata says, nothing outside of it
is read."""

import re
import stat
from pathlib import Path

from oxe_pipeline.episode import DataError

_SHOWN_LETTERS = 100
"""Of a name that may be made to be long."""


def inside(root: Path, file: Path, episode: str) -> Path:
    """`file`, which need not exist. DataError naming it where it lies outside `root` once links and ".." are followed,
    is a link to itself, a pipe or a device (whose end never comes), or has a name that no file can have."""
    field = file.name[:_SHOWN_LETTERS].encode("utf-8", "backslashreplace").decode()
    try:
        is_inside = file.resolve().is_relative_to(root.resolve())
        mode = file.stat().st_mode if is_inside else stat.S_IFREG
    except (FileNotFoundError, NotADirectoryError):
        return file
    except (OSError, RuntimeError, ValueError) as error:
        # Links in a circle are a RuntimeError, a NUL or half a surrogate pair in a name a ValueError.
        what = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"no file can be opened by this name: {what}", episode=episode, field=field) from None
    if not is_inside:
        raise DataError("leads out of the raw folder; copy the file in", episode=episode, field=field)
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError("is a pipe or a device, must be a file", episode=episode, field=field)
    return file


def number_order(name: str) -> list[tuple[int, int | str]]:
    """Sort key that takes runs of digits as numbers: "im_2" before "im_10"."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]
