"""Which code made a file: a version that changes when the code that decides about values changes."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import xxhash

DISTRIBUTION = "oxe-pipeline"
_DECIDING_FOLDERS = ("ingest", "language", "quality", "stats", "stream")


@cache
def code_version() -> str:
    """Package version, "+", 8 hexadecimal digits: a hash of the sources that turn raw data into values, so that an edit
    shows even where the version number was not raised. The version is 0 when the package is not installed."""
    try:
        number = version(DISTRIBUTION)
    except PackageNotFoundError:
        number = "0"
    root = Path(__file__).parent
    files = [root / "episode.py", *(f for folder in _DECIDING_FOLDERS for f in sorted((root / folder).glob("*.py")))]
    files += sorted((root.parent / "schemas").glob("*.py"))
    digest = xxhash.xxh64()
    for file in files:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return f"{number}+{digest.hexdigest()[:8]}"
