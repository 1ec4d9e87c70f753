"""Re-encoding of images on their way into a stream: the shard job's `--images` option.

"keep" passes the source's bytes on untouched and is the default. Re-encoding costs a decode and an encode an image,
once, and buys decoding speed in every epoch of training: PNG and 640x480 sources decode four to ten times slower than
224 px JPEG. The manifest records the option beside the hash of the source.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.ingest.images import decode

_OPTION = re.compile(r"^(?:(?P<width>\d+)x(?P<height>\d+):)?jpeg:(?P<quality>\d+)(?::(?P<fit>pad|crop))?$")
MAX_SIDE_PX = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRecipe:
    """What is done to each image. No quality means: nothing at all."""

    quality: int | None = None
    """JPEG quality, 1 to 100, always without colour subsampling (4:4:4)."""
    size: tuple[int, int] | None = None
    """(width, height) in pixels, or None to keep each image's own."""
    fit: Literal["pad", "crop"] = "pad"
    """How an image of another aspect fits: black bars, or cut at the longer side; the middle stays in the middle."""

    def __str__(self) -> str:
        if self.quality is None:
            return "keep"
        side = f"{self.size[0]}x{self.size[1]}:" if self.size else ""
        return f"{side}jpeg:{self.quality}" + (f":{self.fit}" if self.size else "")


KEEP_IMAGES = ImageRecipe()


def parse_images_option(text: str) -> ImageRecipe:
    """ "keep", "jpeg:95", "256x256:jpeg:95", "256x256:jpeg:95:crop" -> recipe; ValueError for anything else."""
    if text == "keep":
        return KEEP_IMAGES
    match = _OPTION.match(text)
    if not match or (match["fit"] and not match["width"]):
        raise ValueError(f"--images {text!r} is not understood; give keep, jpeg:95 or 256x256:jpeg:95[:pad|:crop]")
    quality = int(match["quality"])
    if not 1 <= quality <= 100:
        raise ValueError(f"--images {text!r}: JPEG quality {quality}; must be 1 to 100")
    if not match["width"]:
        return ImageRecipe(quality=quality)
    size = int(match["width"]), int(match["height"])
    if not all(8 <= side <= MAX_SIDE_PX for side in size):
        raise ValueError(f"--images {text!r}: sides must be 8 to {MAX_SIDE_PX} px")
    return ImageRecipe(quality=quality, size=size, fit="crop" if match["fit"] == "crop" else "pad")


def encode_images(episode: Episode, recipe: ImageRecipe) -> Episode:
    """The episode with every image re-encoded; the same object when there is nothing to do.

    Deterministic for one version of the encoder. Raises DataError naming camera and step where an image does not
    decode.
    """
    if recipe.quality is None:
        return episode
    images: dict[str, list[bytes]] = {}
    for camera, frames in episode.images.items():
        images[camera] = []
        for step, frame in enumerate(frames):
            try:
                images[camera].append(encode_image(frame, recipe))
            except (ValueError, OSError) as error:
                reason = f"step {step}: does not decode ({' '.join(str(error).split())})"
                raise episode.fault(f"images[{camera}]", reason) from None
    return replace(episode, images=images)


def encode_image(frame: bytes, recipe: ImageRecipe) -> bytes:
    """One encoded JPEG or PNG image as a JPEG after the recipe; ValueError when it does not decode."""
    import simplejpeg

    if recipe.quality is None:
        return frame
    pixels = decode(frame)
    if recipe.size:
        pixels = fit_image(pixels, recipe.size, recipe.fit)
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=recipe.quality, colorspace="RGB", colorsubsampling="444"
    )


def fit_image(pixels: np.ndarray, size: tuple[int, int], fit: Literal["pad", "crop"]) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [size[1], size[0], 3], aspect kept, by Pillow's Lanczos filter (antialiased)."""
    from PIL import Image

    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    choose = min if fit == "pad" else max
    factor = choose(size[0] / width, size[1] / height)
    scaled = max(1, round(width * factor)), max(1, round(height * factor))
    image = Image.fromarray(pixels).resize(scaled, Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", size)
    canvas.paste(image, ((size[0] - scaled[0]) // 2, (size[1] - scaled[1]) // 2))
    return np.asarray(canvas)
