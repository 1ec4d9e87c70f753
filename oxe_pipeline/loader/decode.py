"""One encoded image into one slice of a batch: uint8 RGB, at stored size or resized.

JPEG goes through simplejpeg, which releases the GIL and writes into the caller's buffer; Pillow takes PNG and what
libjpeg-turbo does not turn into RGB (CMYK). Resizing on the CPU costs half as much as decoding (see `resize`), so
streams are best stored at training size. Decoding at half size or less (DCT scaling) where that still covers the target
makes decode and resize of large images together 1.4 times as fast.
"""

import io

import numpy as np
import simplejpeg
from PIL import Image

from oxe_pipeline.loader.resize import resize_into, scratch

_JPEG_START = b"\xff\xd8"
_DIRECT_COLOURS = frozenset(("YCbCr", "RGB", "Gray"))
_DIRECT_COMPONENTS = (1, 3)
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start of frame in all its kinds; the three taken out are tables."""


class ImageError(ValueError):
    """Bytes that are no readable image; the text says why."""


class ImageSizeError(ImageError):
    """An image of another size than the batch, where resizing was not asked for."""


def image_size(data: bytes | memoryview) -> tuple[int, int]:
    """(height, width) as stored, read from the header alone (a few microseconds); ImageError when it is unreadable."""
    if bytes(data[:2]) == _JPEG_START:
        return _jpeg_header(data)[:2]
    width, height = _open(data).size
    return height, width


class DirectJpeg:
    """Decodes JPEGs that begin, byte for byte, with the header of one that was read before: no new look is needed.

    The images of a camera were mostly written by one encoder with one setting, and then this holds for all of them. It
    saves most of the Python around a decode and, what weighs more, one release of the GIL.
    """

    __slots__ = ("_fast", "_header", "_length", "size")

    def __init__(self, header: bytes, size: tuple[int, int], *, fast: bool):
        self.size = size
        """(height, width) of the images."""
        self._header, self._length, self._fast = header, len(header), fast

    @classmethod
    def like(cls, data: bytes | memoryview, *, fast: bool) -> "DirectJpeg | None":
        """For images that begin as `data`; None if that is no JPEG, or none that turns into RGB directly."""
        at = 2
        while bytes(data[:2]) == _JPEG_START and at + 10 <= len(data) and data[at] == 0xFF:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            if data[at + 1] in _FRAME_MARKERS:
                size = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
                header = bytes(data[: at + 2 + length])
                return cls(header, size, fast=fast) if data[at + 9] in _DIRECT_COMPONENTS else None
            at += 2 + length
        return None

    def decode(self, data: memoryview, out_HWC: np.ndarray) -> bool:
        """Whether `data` has the header and is undamaged; then it is in `out_HWC`, which must be of `size`.

        Otherwise the content of `out_HWC` is undefined, and `decode_into` says what is the matter.
        """
        if data[: self._length].tobytes() != self._header:
            return False
        try:
            simplejpeg.decode_jpeg(data, "RGB", self._fast, self._fast, buffer=out_HWC)
        except ValueError:
            return False
        return True


def decodes_reduced(stored: tuple[int, int], wanted: tuple[int, int]) -> bool:
    """Whether `decode_into` decodes a JPEG of one (height, width) at half size or less before it resizes to another."""
    return all(-(-side // 2) >= least for side, least in zip(stored, wanted, strict=True))


def decode_into(data: bytes | memoryview, out_HWC: np.ndarray, *, resize: bool = False, fast: bool = False) -> None:
    """Decodes into `out_HWC`, uint8 [H, W, 3] C-contiguous, RGB.

    Greyscale is repeated over the channels, 16-bit greyscale keeps its upper byte, transparency is dropped. An image of
    another size is stretched to fit when `resize` is true (its aspect is not kept: crop or pad in the shard job for
    that). `fast` as BatchOptions.decode. Raises ImageError for unreadable bytes (a truncated JPEG is one),
    ImageSizeError for another size without `resize`.
    """
    if bytes(data[:2]) != _JPEG_START:
        return _fit(_decode_by_pillow(data), out_HWC, resize)
    height, width, colours, _ = _jpeg_header(data)
    if colours not in _DIRECT_COLOURS:
        return _fit(_decode_by_pillow(data), out_HWC, resize)
    try:
        if (height, width) == out_HWC.shape[:2]:
            simplejpeg.decode_jpeg(data, "RGB", fast, fast, buffer=out_HWC)
        elif not resize:
            raise _size_error((height, width), out_HWC)
        else:
            # A factor below two has no fast transform in libjpeg-turbo and would be slower than full size.
            smallest = {"min_height": out_HWC.shape[0], "min_width": out_HWC.shape[1], "min_factor": 2}
            # A fresh array of this size is returned to the system when it is freed: a page fault per 4 KB of the next.
            pixels = scratch(height * width * 3)
            _fit(simplejpeg.decode_jpeg(data, "RGB", fast, fast, buffer=pixels, **smallest), out_HWC, resize)
    except ImageError:
        raise
    except ValueError as error:
        raise ImageError(f"JPEG of {len(data)} bytes cannot be decoded: {error}") from None


def _jpeg_header(data: bytes | memoryview) -> tuple[int, int, str, str]:
    try:
        return simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise ImageError(f"JPEG of {len(data)} bytes has no readable header: {error}") from None


def _open(data: bytes | memoryview) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(
            f"{len(data)} bytes starting {bytes(data[:8])!r} are no image: {type(error).__name__}"
        ) from None


def _decode_by_pillow(data: bytes | memoryview) -> np.ndarray:
    image = _open(data)
    try:
        if image.mode.startswith("I"):
            # Pillow clips 16-bit values at 255 when it converts; the upper byte is the picture.
            grey = (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"{image.format} of {len(data)} bytes cannot be decoded: {error}") from None


def _fit(image_HWC: np.ndarray, out_HWC: np.ndarray, resize: bool) -> None:
    if image_HWC.shape == out_HWC.shape:
        out_HWC[...] = image_HWC
    elif resize:
        resize_into(image_HWC[None], [out_HWC])
    else:
        raise _size_error(image_HWC.shape[:2], out_HWC)


def _size_error(found: tuple[int, int], out_HWC: np.ndarray) -> ImageSizeError:
    wanted = out_HWC.shape
    return ImageSizeError(
        f"image is {found[0]}x{found[1]} (height x width) and the batch {wanted[0]}x{wanted[1]}; "
        f"give image_size=({wanted[0]}, {wanted[1]}) to resize, or store one size with `python -m jobs.shard --images`"
    )
