"""What an HDF5 file may declare before anything of it is read: a few bytes of a header can promise terabytes, and the
library believes them.

Every limit stands here. The price of checking: the list of an array's chunks is walked once, and chunks that could
inflate beyond MAX_CHUNK_BYTES are inflated once in small pieces, only to count.
"""

import math
import zlib
from collections.abc import Iterator

import numpy as np

from oxe_pipeline.episode import DataError

MAX_DEPTH = 16
MAX_MEMBERS = 100_000
"""Groups may be linked into a circle; a walk through an episode ends at these."""
MAX_STEPS = 1_000_000
MAX_ATTRIBUTE_BYTES = 64 << 20
MAX_COLUMN_BYTES = 1 << 30
"""An array that is read whole; images are not."""
MAX_EPISODE_BYTES = 1 << 30
"""All arrays of a group that are read whole: a hundred columns of nothing but zeros take no room in a file."""
MAX_IMAGE_BYTES = 256 << 20
"""One step of an image array: 8192 x 8192 pixels of three bytes fit."""
MAX_CHUNK_BYTES = 1 << 30
"""A chunk is inflated whole by the library, whatever is asked of it."""
SLAB_BYTES = 32 << 20
"""Rows of an image array that are read at once, where its chunks hold several."""

_DEFLATE = 1
_FILTERS = {_DEFLATE: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
_DEFLATE_RATIO = 1032
"""The most bytes that deflate makes of one (zlib technical details)."""


def check_array(dataset, episode: str, field: str, *, whole: bool) -> None:
    """Raises DataError unless the array can be read in bounded memory: `whole`, or row by row.

    Refused are more than the limits above, data that the file declares but does not hold, chunks that inflate beyond
    MAX_CHUNK_BYTES, filters that need a plug-in, and bytes of variable length that are longer than the limit.
    """
    size, row = _declared_bytes(dataset)
    if dataset.shape and dataset.shape[0] > MAX_STEPS:
        raise DataError(
            f"declares {dataset.shape[0]} steps; at most {MAX_STEPS} are read", episode=episode, field=field
        )
    limit, declared, unit = (MAX_COLUMN_BYTES, size, "") if whole else (MAX_IMAGE_BYTES, row, " a step")
    if declared > limit:
        reason = f"declares {list(dataset.shape)} {dataset.dtype}, {declared} bytes{unit}; at most {limit} are read"
        raise DataError(reason, episode=episode, field=field)
    if dataset.chunks is not None:
        _check_chunks(dataset, episode, field)
    elif dataset.id.get_storage_size() < size:
        reason = f"declares {size} bytes and holds {dataset.id.get_storage_size()}: it was never written, or cut"
        raise DataError(reason, episode=episode, field=field)
    if dataset.dtype == object:
        _check_variable_lengths(dataset, episode, field, whole=whole)


def _declared_bytes(dataset) -> tuple[int, int]:
    """(all, of one row) by the type in the file: of variable-length data only the references are counted."""
    item = dataset.id.get_type().get_size()
    return math.prod(dataset.shape) * item, math.prod(dataset.shape[1:]) * item


def _check_chunks(dataset, episode: str, field: str) -> None:
    codes = _filter_codes(dataset)
    if unknown := [code for code in codes if code not in _FILTERS]:
        reason = f"is compressed by HDF5 filter {unknown[0]}; only {', '.join(_FILTERS.values())} are read: repack it"
        raise DataError(reason, episode=episode, field=field)
    if codes.count(_DEFLATE) > 1:
        raise DataError("is compressed twice over; repack it", episode=episode, field=field)
    chunk_bytes = math.prod(dataset.chunks) * dataset.id.get_type().get_size()
    if chunk_bytes > MAX_CHUNK_BYTES:
        reason = f"has chunks of {chunk_bytes} bytes; at most {MAX_CHUNK_BYTES} are read: repack it"
        raise DataError(reason, episode=episode, field=field)
    expected = math.prod(-(-side // chunk) for side, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    stored = dataset.id.get_num_chunks()
    if stored < expected:
        reason = f"holds {stored} of its {expected} chunks: the recording broke off, or the file is damaged"
        raise DataError(reason, episode=episode, field=field)
    if _DEFLATE in codes:
        _refuse_bombs(dataset, chunk_bytes, episode, field)


def _filter_codes(dataset) -> list[int]:
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]


def _refuse_bombs(dataset, chunk_bytes: int, episode: str, field: str) -> None:
    suspects: list[tuple[int, ...]] = []

    def look(info) -> None:
        if info.size * _DEFLATE_RATIO > MAX_CHUNK_BYTES:
            suspects.append(info.chunk_offset)

    dataset.id.chunk_iter(look)
    for offset in suspects:
        _, stored = dataset.id.read_direct_chunk(offset)
        if _inflated_size(stored, at_most=chunk_bytes) > chunk_bytes:
            reason = f"its chunk at {list(offset)} inflates to more than the {chunk_bytes} bytes it declares"
            raise DataError(reason, episode=episode, field=field)


def _inflated_size(stored: bytes, *, at_most: int) -> int:
    """Bytes that deflated data inflate to, counted no further than past `at_most`; damage counts as what came."""
    inflater, size, rest = zlib.decompressobj(), 0, stored
    while rest and size <= at_most and not inflater.eof:
        try:
            size += len(inflater.decompress(rest, 1 << 20))
        except zlib.error:
            break
        rest = inflater.unconsumed_tail
    return size


def _check_variable_lengths(dataset, episode: str, field: str, *, whole: bool) -> None:
    """The length stands in the first four bytes of each reference; the library allocates it before it looks further."""
    width = dataset.id.get_type().get_size()
    lengths = [
        np.frombuffer(block[: len(block) // width * width], np.uint8).reshape(-1, width)[:, :4].copy().view("<u4")
        for block in _reference_blocks(dataset, episode, field)
    ]
    longest = max((int(block.max()) for block in lengths if block.size), default=0)
    total = sum(int(block.sum(dtype=np.uint64)) for block in lengths)
    if longest > MAX_IMAGE_BYTES or (whole and total > MAX_COLUMN_BYTES):
        reason = f"its entries declare up to {longest} values, {total} in all; at most {MAX_IMAGE_BYTES} are read"
        raise DataError(reason, episode=episode, field=field)


def _reference_blocks(dataset, episode: str, field: str) -> Iterator[bytes]:
    """The references of a variable-length array as they lie in the file: one block, or one a chunk."""
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        if offset is None:
            raise DataError("keeps its references in the header; repack it", episode=episode, field=field)
        with open(dataset.file.filename, "rb") as file:
            file.seek(offset)
            yield file.read(dataset.id.get_storage_size())
        return
    codes, offsets = _filter_codes(dataset), []
    dataset.id.chunk_iter(lambda info: offsets.append(info.chunk_offset))
    if codes not in ([], [_DEFLATE]):
        raise DataError("its references are packed; repack it with gzip or none", episode=episode, field=field)
    chunk_bytes = math.prod(dataset.chunks) * dataset.id.get_type().get_size()
    for offset in offsets:
        _, stored = dataset.id.read_direct_chunk(offset)
        yield zlib.decompressobj().decompress(stored, chunk_bytes) if codes else stored
