"""Which code made a file: a version that changes when the code that decides about values changes."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import xxhash

DISTRIBUTION = "oxe-pipeline"
_DECIDING = (
    "episode.py",
    "ingest/*.py",
    "language/*.py",
    "language/*.yaml",
    "quality/*.py",
    "stats/*.py",
    # Of the stream only what writes it: a change to a reader makes no stream out of date.
    *(
        f"stream/{name}.py"
        for name in ("commit", "convert", "finish", "format", "images", "plan", "shard_table", "verdicts", "writer")
    ),
)


def deciding_files() -> list[Path]:
    """The sources that turn raw data into the values of a stream, in a fixed order."""
    root = Path(__file__).parent
    files = [file for pattern in _DECIDING for file in sorted(root.glob(pattern))]
    return files + sorted((root.parent / "schemas").glob("*.py"))


@cache
def code_version() -> str:
    """Package version, "+", 8 hexadecimal digits: a hash of the sources that turn raw data into values, so that an edit
    shows even where the version number was not raised. The version is 0 when the package is not installed."""
    try:
        number = version(DISTRIBUTION)
    except PackageNotFoundError:
        number = "0"
    digest = xxhash.xxh64()
    for file in deciding_files():
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return f"{number}+{digest.hexdigest()[:8]}"
