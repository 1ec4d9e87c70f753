"""Camera columns of a source as encoded images. Bytes that are right already are passed on as the very same objects.

Only two things make pixels be touched: a source of bare pixel arrays, and a spec that says the stored image is BGR or
turned. What is re-encoded is written as JPEG of quality 95 without colour subsampling (4:4:4) or as PNG:
- bare pixels: as `Camera.encode` says (JPEG unless the spec asks for PNG);
- stored JPEG: JPEG again; stored PNG: PNG again, so that lossless stays lossless.
"""

import io

import numpy as np

from oxe_pipeline.quality.image_headers import is_jpeg, is_png
from schemas.spec import Camera

JPEG_QUALITY = 95
BLACK_BELOW = 8
"""An image whose every value is below this is black: a black JPEG decodes to values of 0 to a few."""


def encoded_frames(column: np.ndarray | list[bytes], camera: Camera) -> list[bytes]:
    """uint8 array [T, H, W, 3] or T encoded images -> T encoded images, upright and RGB.

    Raises ValueError naming the step for a wrong dtype or shape, or an image that does not decode.
    """
    if isinstance(column, np.ndarray) and column.dtype != object:
        if column.dtype != np.uint8 or column.ndim != 4 or column.shape[3] != 3:
            raise ValueError(f"pixels must be uint8 [T, H, W, 3], are {column.dtype} {list(column.shape)}")
        return [encode(_upright(pixels, camera), png=camera.encode == "png") for pixels in column]
    if camera.colour == "rgb" and camera.flip == "none":
        for step, frame in enumerate(column):
            _require_bytes(frame, f"step {step}: ")
        return list(column)
    return [_reencoded(frame, camera, step) for step, frame in enumerate(column)]


def is_black(column: np.ndarray | list[bytes]) -> bool:
    """Whether the first and the last image are black: two decodes instead of T. A camera that is dark only at its ends
    would be dropped wrongly, which a fixed or moving robot camera does not do."""
    for step in (0, -1):
        frame = column[step]
        pixels = frame if isinstance(frame, np.ndarray) else decode(frame)
        if pixels.max() >= BLACK_BELOW:
            return False
    return True


def decode(data: bytes) -> np.ndarray:
    """Encoded JPEG or PNG -> uint8 [H, W, 3] RGB. Raises ValueError when it does not decode."""
    _require_bytes(data)
    if is_jpeg(data):
        import simplejpeg

        return simplejpeg.decode_jpeg(data)
    if is_png(data):
        from PIL import Image, UnidentifiedImageError

        try:
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ValueError(f"PNG does not decode: {error}") from None
    raise ValueError(f"neither JPEG nor PNG: begins with {data[:8].hex(' ')}")


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
