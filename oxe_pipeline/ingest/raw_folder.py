"""A lab's raw folder as a boundary: whatever a file's name, a link or an entry in metadata says, nothing outside of it
is read."""

import re
import stat
from collections.abc import Sequence
from pathlib import Path

from oxe_pipeline.episode import DataError

MAX_FILE_BYTES = 64 << 20
"""Of a file that is read whole: an image, a table of labels."""
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


def whole_file(root: Path, file: Path, episode: str, *, most_bytes: int = MAX_FILE_BYTES) -> bytes:
    """All bytes of `file`. DataError naming it where `inside` refuses it, and where it is no file, larger than
    `most_bytes` or not readable."""
    return _content(inside(root, file, episode), episode, most_bytes)


def whole_files(root: Path, files: Sequence[Path], episode: str, *, most_bytes: int = MAX_FILE_BYTES) -> list[bytes]:
    """`whole_file` of each. The folders they lie in are followed once, which for a hundred images is half the time."""
    for folder in {file.parent for file in files}:
        inside(root, folder, episode)
    return [_content(file if _is_plain(file) else inside(root, file, episode), episode, most_bytes) for file in files]


def _is_plain(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except (OSError, ValueError):
        return False


def _content(file: Path, episode: str, most_bytes: int) -> bytes:
    try:
        size = file.stat().st_size
        if size > most_bytes:
            raise DataError(f"{size:,} bytes; at most {most_bytes:,} are read", episode=episode, field=file.name)
        return file.read_bytes()
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        raise DataError(reason, episode=episode, field=file.name) from None


def number_order(name: str) -> list[tuple[int, int | str]]:
    """Sort key that takes runs of digits as numbers: "im_2" before "im_10"."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]
