"""Decompression that stops at a limit: a few bytes of a stranger's file must not become gigabytes of memory.

Every function allocates at most its limit and little more, whatever the compressed data claims about itself.
"""

import bz2
import lzma
import zlib

READ_AHEAD = 1 << 20


class TooLarge(ValueError):
    """The data would decompress to more than its reader allows."""


def decompress_zlib(data: bytes, limit: int) -> bytes:
    """zlib or gzip data -> at most `limit` bytes. Raises TooLarge, or ValueError for damaged data."""
    try:
        return _whole(zlib.decompressobj(zlib.MAX_WBITS | 32), data, limit)
    except zlib.error as error:
        raise ValueError(f"not zlib or gzip: {error}") from None


def decompress_bz2(data: bytes, limit: int) -> bytes:
    """bzip2 data -> at most `limit` bytes. Raises TooLarge, or ValueError for damaged data."""
    try:
        return _whole(bz2.BZ2Decompressor(), data, limit)
    except OSError as error:
        raise ValueError(f"not bzip2: {error}") from None


def decompress_lzma(data: bytes, limit: int) -> bytes:
    """xz or lzma data -> at most `limit` bytes. Raises TooLarge, or ValueError for damaged data."""
    try:
        return _whole(lzma.LZMADecompressor(memlimit=limit + (64 << 20)), data, limit)
    except lzma.LZMAError as error:
        raise ValueError(f"not lzma: {error}") from None


def decompress_zstd(data: bytes, limit: int) -> bytes:
    """One zstd frame -> at most `limit` bytes. Raises TooLarge, or ValueError for damaged data. A frame that ends too
    early and does not say its size gives what is there."""
    try:
        import zstandard
    except ImportError as error:
        raise ImportError("reading zstd needs zstandard: pip install 'oxe-pipeline[raw]'") from error
    # The frame's own claim is not asked: a stream gives what is there, up to the limit.
    window = max(1 << 27, 1 << limit.bit_length())
    try:
        said = zstandard.frame_content_size(data)
        with zstandard.ZstdDecompressor(max_window_size=min(window, 1 << 31)).stream_reader(data) as stream:
            parts, length = [], 0
            while part := stream.read(min(READ_AHEAD, limit + 1 - length)):
                parts.append(part)
                length += len(part)
                if length > limit:
                    raise TooLarge(_too_large(limit))
            if said not in (-1, length):
                raise ValueError("the compressed data ends too early")
            return b"".join(parts)
    except zstandard.ZstdError as error:
        raise ValueError(f"not zstd: {error}") from None


def decompress_lz4_frame(data: bytes, limit: int) -> bytes:
    """One LZ4 frame -> at most `limit` bytes. Raises TooLarge, or ValueError for damaged data."""
    try:
        import lz4.frame
    except ImportError as error:
        raise ImportError("reading lz4 needs lz4: pip install 'oxe-pipeline[raw]'") from error
    try:
        return _whole(lz4.frame.LZ4FrameDecompressor(), data, limit)
    except RuntimeError as error:
        raise ValueError(f"not lz4: {error}") from None


def _whole(decompressor, data: bytes, limit: int) -> bytes:
    """All that a standard decompressor object gives, unless that is more than `limit` or the data ends too early."""
    plain = decompressor.decompress(data, limit + 1)
    if len(plain) > limit:
        raise TooLarge(_too_large(limit))
    if not decompressor.eof:
        raise ValueError("the compressed data ends too early")
    return plain


def _too_large(limit: int) -> str:
    return f"decompresses to more than the {limit} bytes that fit there"
