"""Decodes one chunk of a Zarr v2 array, by the codecs that robot data uses, into exactly what the array declares.

The codecs are a fixed list, not numcodecs' registry: that one admits `pickle`, which runs code, and allocates whatever
a chunk claims. Image codecs are those that Diffusion Policy and UMI register (their codecs/imagecodecs_numcodecs.py).
"""

from collections.abc import Mapping

import numpy as np

from oxe_pipeline.ingest.bounded_decompression import (
    decompress_bz2,
    decompress_lzma,
    decompress_zlib,
    decompress_zstd,
)

CODECS = ("blosc", "zstd", "lz4", "zlib", "gzip", "bz2", "lzma", "imagecodecs_jpeg2k", "imagecodecs_jpegxl")

_BLOSC_HEADER_BYTES = 16
_INSTALL = "reading Zarr needs numcodecs and imagecodecs: pip install 'oxe-pipeline[raw]'"


def decode_chunk(data: bytes, compressor: Mapping | None, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The chunk as an array of `shape` and `dtype`, C order. `compressor` is that entry of .zarray, None for none.

    Never allocates more than about twice the declared chunk. Raises ValueError for a codec that is not in CODECS, for
    damaged data, and for data that is not exactly one chunk; ImportError with the remedy.
    """
    codec = "" if compressor is None else str(compressor.get("id"))
    if codec.startswith("imagecodecs_"):
        return _decode_image(data, codec, shape, dtype)
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    plain = data if compressor is None else _decompress(data, codec, expected)
    if len(plain) != expected:
        raise ValueError(f"a chunk holds {len(plain)} bytes; {list(shape)} of {dtype} takes {expected}")
    return np.frombuffer(plain, dtype).reshape(shape)


def _decompress(data: bytes, codec: str, expected: int) -> bytes:
    match codec:
        case "zlib" | "gzip":
            return decompress_zlib(data, expected)
        case "bz2":
            return decompress_bz2(data, expected)
        case "lzma":
            return decompress_lzma(data, expected)
        case "zstd":
            return decompress_zstd(data, expected)
        case "blosc" | "lz4":
            return _decompress_block(data, codec, expected)
    raise ValueError(f"codec {codec!r} is not read; there are {', '.join(CODECS)}")


def _decompress_block(data: bytes, codec: str, expected: int) -> bytes:
    """Blosc and LZ4 blocks begin with their decompressed size, which their decoders allocate: it is compared first."""
    try:
        import numcodecs
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    place, header = (4, _BLOSC_HEADER_BYTES) if codec == "blosc" else (0, 4)
    if len(data) < header:
        raise ValueError(f"{len(data)} bytes are no {codec} block")
    claimed = int.from_bytes(data[place : place + 4], "little")
    if claimed != expected:
        raise ValueError(f"a {codec} block claims {claimed} bytes where a chunk takes {expected}")
    if codec == "blosc" and int.from_bytes(data[12:16], "little") != len(data):
        raise ValueError("a blosc block is cut short")
    decoder = numcodecs.Blosc() if codec == "blosc" else numcodecs.LZ4()
    try:
        return bytes(decoder.decode(data))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"not {codec}: {error}") from None


def _decode_image(data: bytes, codec: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The image is decoded into an array of the declared shape; the decoder compares its own header with that first."""
    try:
        import imagecodecs
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    chunk = np.empty(shape, dtype)
    image = chunk
    while image.ndim > 3 and image.shape[0] == 1:
        image = image[0]
    try:
        if codec == "imagecodecs_jpegxl":
            imagecodecs.jpegxl_decode(data, numthreads=1, out=image)
        elif codec == "imagecodecs_jpeg2k":
            imagecodecs.jpeg2k_decode(data, numthreads=1, out=image)
        else:
            raise ValueError(f"codec {codec!r} is not read; there are {', '.join(CODECS)}")
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"{codec}: {' '.join(str(error).split())}") from None
    return chunk
