"""One encoded image into one slice of a batch: uint8 RGB, at stored size or resized.

JPEG goes through simplejpeg, which releases the GIL and writes into the caller's buffer; Pillow takes PNG and what
libjpeg-turbo does not turn into RGB (CMYK). Resizing on the CPU costs as much as decoding, so streams are best stored
at training size. Where it is asked for, torch's antialiased bilinear filter does it: measured on one core of a two-core
Xeon, 640x480 to 224x224, torch 0.8 ms, Pillow 2.6 ms, OpenCV INTER_AREA 2.0 ms (INTER_LINEAR takes 0.2 ms and aliases),
with torch and Pillow within one grey level of each other. OpenCV is therefore not a dependency. Decoding at half size
or less (DCT scaling) where that still covers the target makes decode and resize together 1.4 times as fast.
"""

import io

import numpy as np
import simplejpeg
from PIL import Image

_JPEG_START = b"\xff\xd8"
_DIRECT_COLOURS = frozenset(("YCbCr", "RGB", "Gray"))


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


def decode_into(data: bytes | memoryview, out_HWC: np.ndarray, *, resize: bool = False) -> None:
    """Decodes into `out_HWC`, uint8 [H, W, 3] C-contiguous, RGB.

    Greyscale is repeated over the channels, 16-bit greyscale keeps its upper byte, transparency is dropped. An image of
    another size is stretched to fit when `resize` is true (its aspect is not kept: crop or pad in the shard job for
    that). Raises ImageError for unreadable bytes (a truncated JPEG is one), ImageSizeError for another size without
    `resize`.
    """
    if bytes(data[:2]) != _JPEG_START:
        return _fit(_decode_by_pillow(data), out_HWC, resize)
    height, width, colours, _ = _jpeg_header(data)
    if colours not in _DIRECT_COLOURS:
        return _fit(_decode_by_pillow(data), out_HWC, resize)
    try:
        if (height, width) == out_HWC.shape[:2]:
            simplejpeg.decode_jpeg(data, "RGB", buffer=out_HWC)
        elif not resize:
            raise _size_error((height, width), out_HWC)
        else:
            # A factor below two has no fast transform in libjpeg-turbo and would be slower than full size.
            scaled = simplejpeg.decode_jpeg(
                data, "RGB", min_height=out_HWC.shape[0], min_width=out_HWC.shape[1], min_factor=2
            )
            _fit(scaled, out_HWC, resize)
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
        out_HWC[...] = resize_image(image_HWC, out_HWC.shape[:2])
    else:
        raise _size_error(image_HWC.shape[:2], out_HWC)


def resize_image(image_HWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [h, w, 3] to uint8 [H, W, 3] by torch's antialiased bilinear filter on the CPU; `size` is (H, W)."""
    import torch

    # A read-only array (Pillow's) would make torch warn; the copy is small against the filter.
    pixels = torch.from_numpy(image_HWC if image_HWC.flags.writeable else image_HWC.copy())
    resized = torch.nn.functional.interpolate(
        pixels.permute(2, 0, 1)[None], size=size, mode="bilinear", antialias=True, align_corners=False
    )
    return resized[0].permute(1, 2, 0).numpy()


def _size_error(found: tuple[int, int], out_HWC: np.ndarray) -> ImageSizeError:
    wanted = out_HWC.shape
    return ImageSizeError(
        f"image is {found[0]}x{found[1]} (height x width) and the batch {wanted[0]}x{wanted[1]}; "
        f"give image_size=({wanted[0]}, {wanted[1]}) to resize, or store one size with `python -m jobs.shard --images`"
    )
