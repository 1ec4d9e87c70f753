"""NumPy's .npy and .npz files of strangers: numbers only, never a pickle, and nothing is allocated before its declared
size has been looked at. An .npz is a zip file, so a few bytes of one can promise gigabytes.

Only the arrays that are asked for are read; the others are not even decompressed.
"""

import math
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.raw_folder import inside

MAX_FILE_BYTES = 32 << 20
"""Of an .npz: the whole table of contents is held in memory, and could be all of the file."""
MAX_ARRAY_BYTES = 256 << 20
"""Of one array once decompressed: 8192 x 8192 pixels of three bytes fit."""
MAX_HEADER_BYTES = 4096
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(root: Path, file: str, names: Iterable[str], episode: str) -> dict[str, np.ndarray]:
    """The arrays `names` of the .npz at `file` below `root`, as stored, read-only.

    Raises DataError with `episode`, naming the file: absent, outside `root` by a link, damaged or cut, too large, an
    array that is not there, is encrypted or holds Python objects.
    """
    path = _checked(root, file, MAX_FILE_BYTES, episode)
    with _reading(episode, path.name), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        arrays = {}
        for name in names:
            if name not in members:
                there = ", ".join(sorted(members)[:20])
                raise DataError(f"no array {name!r} in the file; there are {there}", episode=episode, field=path.name)
            info = members[name]
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                reason = f"{name}: packed by method {info.compress_type}, which NumPy does not write"
                raise DataError(reason, episode=episode, field=path.name)
            with archive.open(info) as member:
                arrays[name] = _read_array(member, name)
        return arrays


def read_npy(root: Path, file: str, episode: str) -> np.ndarray:
    """The array in the .npy at `file` below `root`, read-only. Raises DataError like `read_npz`."""
    path = _checked(root, file, MAX_ARRAY_BYTES + MAX_HEADER_BYTES, episode)
    with _reading(episode, path.name), path.open("rb") as content:
        return _read_array(content, "array")


def _checked(root: Path, file: str, limit: int, episode: str) -> Path:
    path = inside(root, root / file, episode)
    if not path.is_file():
        raise DataError("no such file", episode=episode, field=path.name)
    if (size := path.stat().st_size) > limit:
        raise DataError(f"{size} bytes; at most {limit} are read", episode=episode, field=path.name)
    return path


@contextmanager
def _reading(episode: str, field: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        # A damaged zip or header raises almost anything: BadZipFile, zlib.error, EOFError, KeyError, RuntimeError ...
        what = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"damaged, copy it again: {what:.200}", episode=episode, field=field) from None


def _read_array(file: IO[bytes], name: str) -> np.ndarray:
    """The array that follows; ValueError for a header that promises too much, or data that ends before or after it."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"{name}: .npy version {version}; only {', '.join(map(str, _HEADERS))} are read")
    shape, is_fortran, dtype = _HEADERS[version](file, max_header_size=MAX_HEADER_BYTES)
    if dtype.hasobject or dtype.names:
        raise ValueError(f"{name}: holds Python objects or records, which are not read; save plain numbers")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > MAX_ARRAY_BYTES:
        raise ValueError(f"{name}: declares {list(shape)} {dtype}; at most {MAX_ARRAY_BYTES} bytes are read")
    size = math.prod(shape) * dtype.itemsize
    data = file.read(size)
    if len(data) != size or file.read(1):
        raise ValueError(f"{name}: does not hold the {size} bytes that {list(shape)} {dtype} take")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")
