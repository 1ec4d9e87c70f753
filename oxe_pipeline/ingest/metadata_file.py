"""Metadata files that many episodes share (labels, lists of episodes), each read once while it stays unchanged."""

import csv
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.raw_folder import inside

MAX_BYTES = 256 << 20
"""A hundred thousand episodes take a quarter of it."""

Content = TypeVar("Content")


def parsed_file(root: str | Path, name: str, parse: Callable[[str], Content], *, episode: str) -> Content:
    """parse(text) of the UTF-8 file `name` below `root`; `parse` must be a function of a module, and its result is
    shared, so not to be changed.

    The last few results are kept in this process; time and size tell a changed file. Raises DataError naming `episode`
    and the file when it is absent, outside `root`, larger than MAX_BYTES, not text, or `parse` raises ValueError.
    """
    path = inside(Path(root), Path(root) / name, episode)
    try:
        stat = path.stat()
        if stat.st_size > MAX_BYTES:
            raise ValueError(f"{stat.st_size} bytes; at most {MAX_BYTES} are read")
        return _parsed(path, stat.st_mtime_ns, stat.st_size, parse)
    except FileNotFoundError:
        raise DataError("no such file", episode=episode, field=path.name) from None
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"not what it should be: {error}", episode=episode, field=path.name) from None


@lru_cache(maxsize=8)
def _parsed(path: Path, mtime_ns: int, size: int, parse: Callable[[str], Content]) -> Content:
    return parse(path.read_text(encoding="utf-8-sig"))
