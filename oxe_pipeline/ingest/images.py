"""Camera columns of a source as encoded images. Bytes that are right already are passed on as the very same objects.

Only two things make pixels be touched: a source of bare pixel arrays, and a spec that says the stored image is BGR or
turned. What is re-encoded is written as JPEG of quality 95 without colour subsampling (4:4:4) or as PNG:
- bare pixels: as `Camera.encode` says (JPEG unless the spec asks for PNG);
- stored JPEG: JPEG again; stored PNG: PNG again, so that lossless stays lossless.
"""

import io

import numpy as np

from oxe_pipeline.episode import Frames
from oxe_pipeline.quality.checks import MAX_SIDE_PX
from oxe_pipeline.quality.image_headers import image_size, is_jpeg, is_png
from schemas.spec import Camera

JPEG_QUALITY = 95
BLACK_BELOW = 8
"""An image whose every value is below this is black: a black JPEG decodes to values of 0 to a few."""


def encoded_frames(column: np.ndarray | list | Frames, camera: Camera) -> list[bytes]:
    """T images, each uint8 [H, W, 3] pixels or encoded -> T encoded images, upright and RGB. Pixels are taken one image
    at a time, so Frames are never held whole.

    Raises ValueError naming the step for a wrong dtype or shape, or an image that does not decode.
    """
    if isinstance(column, np.ndarray) and column.dtype != object:
        _require_pixels(column, ndim=4)
    as_stored = camera.colour == "rgb" and camera.flip == "none"
    encoded = []
    for step, frame in enumerate(column):
        if isinstance(frame, np.ndarray):
            _require_pixels(frame, ndim=3, where=f"step {step}: ")
            pixels = _scaled(_upright(frame, camera), camera.height_px)
            encoded.append(encode(pixels, png=camera.encode == "png"))
        elif as_stored:
            _require_bytes(frame, f"step {step}: ")
            encoded.append(frame)
        else:
            encoded.append(_reencoded(frame, camera, step))
    if len(encoded) != len(column):
        raise ValueError(f"{len(encoded)} images came out where {len(column)} were promised")
    return encoded


def is_black(frames: list[bytes]) -> bool:
    """Whether the first and the last image are black: two decodes instead of T. A camera that is dark only at its ends
    would be dropped wrongly, which a fixed or moving robot camera does not do."""
    return all(decode(frames[step]).max() < BLACK_BELOW for step in (0, -1))


def decode(data: bytes) -> np.ndarray:
    """Encoded JPEG or PNG -> uint8 [H, W, 3] RGB. Raises ValueError when it does not decode, and before that when it
    claims an absurd size."""
    _require_bytes(data)
    height, width = image_size(data)
    if max(height, width) > MAX_SIDE_PX:
        raise ValueError(f"claims {height}x{width} pixels; sides of at most {MAX_SIDE_PX} are decoded")
    if is_jpeg(data):
        import simplejpeg

        return simplejpeg.decode_jpeg(data)
    from PIL import Image, UnidentifiedImageError

    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"PNG does not decode: {error}") from None


def encode(pixels: np.ndarray, *, png: bool) -> bytes:
    """uint8 [H, W, 3] RGB -> PNG, or JPEG of quality 95, 4:4:4. Deterministic for one version of the encoder."""
    if png:
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        return buffer.getvalue()
    import simplejpeg

    contiguous = np.ascontiguousarray(pixels)
    return simplejpeg.encode_jpeg(contiguous, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="444")


def _require_pixels(pixels: np.ndarray, *, ndim: int, where: str = "") -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != ndim or pixels.shape[-1] != 3:
        shape = "[T, H, W, 3]" if ndim == 4 else "[H, W, 3]"
        raise ValueError(f"{where}pixels must be uint8 {shape}, are {pixels.dtype} {list(pixels.shape)}")


def _require_bytes(frame: object, where: str = "") -> None:
    if not isinstance(frame, bytes):
        raise ValueError(f"{where}an encoded image must be bytes, is {type(frame).__name__}")


def _reencoded(frame: bytes, camera: Camera, step: int) -> bytes:
    try:
        return encode(_upright(decode(frame), camera), png=is_png(frame))
    except ValueError as error:
        raise ValueError(f"step {step}: {error}") from None


def _upright(pixels: np.ndarray, camera: Camera) -> np.ndarray:
    """The image with rows, columns and channels in their right order (a view)."""
    if camera.flip == "vertical":
        pixels = pixels[::-1]
    elif camera.flip == "rotate_180":
        pixels = pixels[::-1, ::-1]
    return pixels[..., ::-1] if camera.colour == "bgr" else pixels


def _scaled(pixels: np.ndarray, height_px: int) -> np.ndarray:
    """The image at this height, bicubic with all pixels weighed in; as it is when it is not higher, or 0 is asked."""
    height, width = pixels.shape[:2]
    if not 0 < height_px < height:
        return pixels
    from PIL import Image

    size = (max(1, round(width * height_px / height)), height_px)
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BICUBIC))
