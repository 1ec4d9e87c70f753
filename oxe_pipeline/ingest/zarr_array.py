"""Zarr v2 stores, folders or zip files, read chunk by chunk: the little that robot data needs of the format.

Own code instead of the zarr package, which decodes whatever a chunk claims to be, admits a codec that runs code, and
starts threads. What is given up: groups within groups, filters, Fortran order, and writing. Zarr v3 is refused.
"""

import functools
import itertools
import json
import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.raw_folder import inside
from oxe_pipeline.ingest.zarr_codecs import decode_chunk

MAX_BLOCK_BYTES = 1 << 28
"""Memory that the rows of one chunk may take when decoded."""
MAX_CHUNKS_A_BLOCK = 4096
MAX_METADATA_BYTES = 1 << 20

_NUMBERS = re.compile(r"[<>|][biuf][1248]")
"""Dtypes that are read. NumPy's own parser takes far more, and evaluates parts of what it is given."""


class ZarrStore:
    """The files of one store by their names ("data/img/.zarray"), from a folder or a zip file below `root`.

    Every fault is a DataError whose episode is `name`. The central directory of a zip is kept per process for the last
    stores used: reading that of 300,000 chunks took 3 s and 200 MB.
    """

    def __init__(self, root: Path, name: str):
        self._name = name
        self._root = root
        self._path = inside(root, root / name, name)
        self._zip: zipfile.ZipFile | None = None
        if not self._path.is_dir():
            self._zip = self._opened_zip()

    def _opened_zip(self) -> zipfile.ZipFile:
        try:
            stat = self._path.stat()
            return _open_zip(str(self._path), stat.st_mtime_ns, stat.st_size)
        except FileNotFoundError:
            raise self.fault("store", "no such file") from None
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, MemoryError) as error:
            raise self.fault("store", f"not a whole zip file, copy it again: {error}") from None

    def fault(self, field: str, reason: str) -> DataError:
        """A DataError that names this store."""
        return DataError(reason, episode=self._name, field=field)

    def read(self, file: str, limit: int) -> bytes | None:
        """The content of one file, None when it is absent. Raises DataError when it is longer than `limit` bytes,
        cannot be read, or leads out of the raw folder."""
        try:
            content = self._read_zipped(file, limit) if self._zip else self._read_file(file, limit)
        except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
            if isinstance(error, DataError):
                raise
            raise self.fault(file, f"cannot be read: {error}") from None
        except Exception as error:  # zlib.error and lzma.LZMAError share no base
            raise self.fault(file, f"cannot be read: {error}") from None
        if content is not None and len(content) > limit:
            raise self.fault(file, f"is longer than the {limit} bytes that it can need")
        return content

    def _read_file(self, file: str, limit: int) -> bytes | None:
        path = inside(self._root, self._path / file, self._name)
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            return stream.read(limit + 1)

    def _read_zipped(self, file: str, limit: int) -> bytes | None:
        assert self._zip is not None
        try:
            member = self._zip.getinfo(file)
        except KeyError:
            return None
        with self._zip.open(member) as stream:
            return stream.read(limit + 1)

    def what_else_it_is(self, array: str) -> str:
        """A likely reason why `array` is not there, with the remedy."""
        if self.read("zarr.json", MAX_METADATA_BYTES) is not None:
            return "it is Zarr v3, save it as v2"
        packed = self._zip.NameToInfo if self._zip else ()
        if deeper := next((file for file in packed if file.endswith(f"/{array}/.zarray")), ""):
            folder = deeper.removesuffix(f"/{array}/.zarray")[:100]
            return f"the zip file holds a folder with it ({folder!r}), unpack it"
        return "Zarr v2 keeps its description in .zarray"

    def arrays(self, group: str) -> list[str]:
        """Names of the arrays directly in a group, sorted; [] when there is no such group. Raises DataError for a name
        that no message or key could hold."""
        if self._zip is None:
            folder = inside(self._root, self._path / group, self._name)
            entries = list(folder.iterdir()) if folder.is_dir() else []
            names = [entry.name for entry in entries if (entry / ".zarray").is_file()]
        else:
            depth = group.count("/") + 2
            files = (
                file for file in self._zip.NameToInfo if file.startswith(f"{group}/") and file.endswith("/.zarray")
            )
            names = [file.split("/")[depth - 1] for file in files if file.count("/") == depth]
        if odd := [name for name in names if not name.isprintable()]:
            raise self.fault(group, f"an array's name is not printable: {odd[0]!r}")
        return sorted(names)


@functools.lru_cache(maxsize=2)
def _open_zip(path: str, changed_ns: int, size: int) -> zipfile.ZipFile:
    # Time and size are there so that a file written anew under the same name is opened anew.
    return zipfile.ZipFile(path)


@dataclass(frozen=True, kw_only=True, slots=True)
class ZarrArray:
    """One array of a store, its rows along the first axis."""

    store: ZarrStore
    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype
    compressor: dict | None
    fill_value: float
    separator: str

    def __len__(self) -> int:
        return self.shape[0]

    def blocks(self, start: int, stop: int, *, absent: Literal["fill", "refuse"] = "fill") -> Iterator[np.ndarray]:
        """Rows start to stop in runs of at most one chunk: [rows, *shape[1:]] each. One run is in memory at a time.

        `absent`: a chunk that is not in the store holds the fill value, or is a fault. Raises DataError naming the
        chunk that is damaged or refused.
        """
        for index in range(start // self.chunks[0], -(-stop // self.chunks[0])):
            first = index * self.chunks[0]
            yield self._block(index, absent)[max(start - first, 0) : stop - first]

    def rows(self, start: int, stop: int, *, absent: Literal["fill", "refuse"] = "fill") -> np.ndarray:
        """Rows start to stop as one array; `absent` as in `blocks`."""
        parts = list(self.blocks(start, stop, absent=absent))
        return np.concatenate(parts) if parts else np.empty((0, *self.shape[1:]), self.dtype)

    def identity(self, start: int, stop: int) -> bytes:
        """A hash of rows start to stop. Where each row has chunks of its own (image codecs), their compressed bytes are
        hashed, which costs no decoding; else the decoded values, because a shared chunk also holds other episodes."""
        digest = xxhash.xxh64(f"{self.dtype.str}{self.shape[1:]}".encode())
        if self.chunks[0] == 1:
            for index in range(start, stop):
                for place in self._places():
                    digest.update(self._stored(index, place) or b"")
        else:
            for block in self.blocks(start, stop):
                digest.update(np.ascontiguousarray(block).tobytes())
        return digest.digest()

    def _places(self) -> Iterator[tuple[int, ...]]:
        """Indices of a row's chunks along the axes behind the first."""
        inner = zip(self.shape[1:], self.chunks[1:], strict=True)
        return itertools.product(*(range(-(-size // chunk)) for size, chunk in inner))

    def _stored(self, index: int, place: tuple[int, ...]) -> bytes | None:
        """The compressed bytes of one chunk; None for a chunk that was never written."""
        limit = 2 * math.prod(self.chunks) * self.dtype.itemsize + (1 << 16)
        return self.store.read(f"{self.name}/{self.separator.join(map(str, (index, *place)))}", limit)

    def _block(self, index: int, absent: str) -> np.ndarray:
        """All rows of chunk row `index`, put together from its chunks, [rows, *shape[1:]]."""
        rows = min(self.chunks[0], self.shape[0] - index * self.chunks[0])
        block = np.full((rows, *self.shape[1:]), self.fill_value, self.dtype)
        for place in self._places():
            stored = self._stored(index, place)
            if stored is None and absent == "refuse":
                raise self.store.fault(f"{self.name}/{index}", "this chunk is missing; copy the store again")
            if stored is None:
                continue
            try:
                chunk = decode_chunk(stored, self.compressor, self.chunks, self.dtype)
            except ValueError as error:
                raise self.store.fault(f"{self.name}/{index}", str(error)) from None
            where = tuple(slice(p * c, (p + 1) * c) for p, c in zip(place, self.chunks[1:], strict=True))
            target = block[(slice(None), *where)]
            target[...] = chunk[tuple(slice(size) for size in target.shape)]
        return block


def open_array(store: ZarrStore, name: str) -> ZarrArray:
    """The array `name` ("data/action"), its .zarray read and checked.

    Raises DataError: no such array, metadata that is not Zarr v2, a dtype that is no number, filters, Fortran order, or
    chunks larger than any robot's data needs.
    """
    content = store.read(f"{name}/.zarray", MAX_METADATA_BYTES)
    if content is None:
        raise store.fault(name, f"no such array in the store; {store.what_else_it_is(name)}")
    try:
        said = json.loads(content)
        array = _described(store, name, said)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise store.fault(f"{name}/.zarray", f"is not a description of an array: {what}") from None
    block_bytes = math.prod(array.shape[1:]) * max(array.chunks[0], 1) * array.dtype.itemsize
    if max(block_bytes, math.prod(array.chunks) * array.dtype.itemsize) > MAX_BLOCK_BYTES:
        reason = f"the rows of one chunk take more than {MAX_BLOCK_BYTES >> 20} MB; store it in smaller chunks"
        raise store.fault(name, reason)
    if math.prod(-(-size // chunk) for size, chunk in zip(array.shape[1:], array.chunks[1:], strict=True)) > (
        MAX_CHUNKS_A_BLOCK
    ):
        raise store.fault(name, f"a row lies in more than {MAX_CHUNKS_A_BLOCK} chunks; store it in larger chunks")
    return array


def _described(store: ZarrStore, name: str, said: dict) -> ZarrArray:
    if said["zarr_format"] != 2:
        raise ValueError(f"zarr_format is {said['zarr_format']!r}; 2 is read")
    if said.get("filters"):
        raise ValueError("filters are not read")
    if said.get("order", "C") != "C":
        raise ValueError("only C order is read")
    if not isinstance(said["dtype"], str) or not _NUMBERS.fullmatch(said["dtype"]):
        raise ValueError(f"dtype {said['dtype']!r} is not read; there are numbers and truth values")
    shape, chunks = _sizes(said["shape"], least=0), _sizes(said["chunks"], least=1)
    if len(shape) != len(chunks) or not 1 <= len(shape) <= 6:
        raise ValueError(f"shape {list(shape)} does not fit chunks {list(chunks)}")
    compressor = said["compressor"]
    if compressor is not None and not isinstance(compressor, dict):
        raise ValueError("compressor must be a mapping or null")
    separator = said.get("dimension_separator", ".")
    if separator not in (".", "/"):
        raise ValueError(f"dimension_separator {separator!r} is not read")
    return ZarrArray(
        store=store,
        name=name,
        shape=shape,
        chunks=chunks,
        dtype=np.dtype(said["dtype"]),
        compressor=compressor,
        fill_value=float(said.get("fill_value") or 0),
        separator=separator,
    )


def _sizes(values: object, *, least: int) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int and least <= value < 2**48 for value in values):
        raise ValueError(f"{values!r} is no list of sizes")
    return tuple(values)
