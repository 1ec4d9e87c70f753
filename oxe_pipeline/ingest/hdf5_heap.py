"""The heaps of an HDF5 file (where it keeps texts and bytes of variable length) walked before the library does it: on a
damaged one, whose next entry lies where the present one does, the library walks for ever, and nothing in this process
could stop it.

Found by fuzzing. The price is one search through the file's bytes, once a process and file: a second for one or
two gigabytes.

Lengths of another width than eight bytes, which no recorder writes, are refused as damage, and so are more entries than
the file has room for: heaps laid over one another would take as long as the square of the file.

Layout: HDF5 File Format Specification, version 3, III.E (global heap).
"""

import mmap
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

SIGNATURE = b"GCOL\x01\0\0\0"
_HEADER_BYTES = 16
"""Of a heap, and of each entry in it."""
_BLOCK_BYTES = 1 << 20


def check_heaps(path: Path) -> None:
    """Raises ValueError saying where a heap of the file is damaged. A file of size 0 or without heaps passes."""
    stat = path.stat()
    if stat.st_size:
        _check(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _check(path: Path, mtime_ns: int, size: int) -> None:
    """Time and size tell a changed file; many episodes of one file are checked once."""
    left = size // _HEADER_BYTES
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for start in _places_of(SIGNATURE, file):
            left -= _walk(content, start, left)


def _places_of(pattern: bytes, file: BinaryIO) -> Iterator[int]:
    """Offsets of a pattern, block by block: twice as fast as searching the memory map."""
    before, searched = b"", 0
    while block := file.read(_BLOCK_BYTES):
        window = before + block
        found = window.find(pattern)
        while found >= 0:
            yield searched - len(before) + found
            found = window.find(pattern, found + 1)
        before, searched = window[1 - len(pattern) :], searched + len(block)


def _walk(content: mmap.mmap, start: int, at_most: int) -> int:
    """Goes from entry to entry of the heap at `start`, each of which must lie behind the one before and inside the
    heap, and says how many there are."""
    if start + _HEADER_BYTES > len(content):
        raise ValueError(f"the heap at byte {start} is cut")
    (heap_bytes,) = struct.unpack_from("<Q", content, start + 8)
    end, place, entries = start + heap_bytes, start + _HEADER_BYTES, 0
    if end > len(content):
        raise ValueError(f"the heap at byte {start} claims {heap_bytes} bytes")
    while place + _HEADER_BYTES <= end:
        index, _, _, size = struct.unpack_from("<HHIQ", content, place)
        taken = _HEADER_BYTES + (size + 7) // 8 * 8 if index else size  # entry 0 is the free rest, told with its header
        if taken < _HEADER_BYTES or place + taken > end:
            raise ValueError(f"entry {index} of the heap at byte {start} claims {size} bytes")
        place, entries = place + taken, entries + 1
        if entries > at_most:
            raise ValueError(f"the heap at byte {start} lies over others")
    return entries
