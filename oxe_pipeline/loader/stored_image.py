"""One image of a stream as a picture to look at, decoded as the loader decodes it, or the reason why there is none."""

import numpy as np
from PIL import Image

from oxe_pipeline.loader.decode import ImageError, decode_into, image_size
from oxe_pipeline.stream.reader import Stream

ABSENT = "not in this episode"
UNREADABLE = "unreadable"
_MOST_PIXELS = 64_000_000
"""No robot camera has more; a header that promises more would only cost memory."""


def stored_image(stream: Stream, episode: int, step: int, camera: str) -> Image.Image:
    """RGB picture of stored size. Raises ImageError whose text is ABSENT or UNREADABLE."""
    if not stream.episodes.has_camera(camera)[episode]:
        raise ImageError(ABSENT)
    try:
        data = stream.image(episode, step, camera)
        height, width = image_size(data)
        if height * width > _MOST_PIXELS:
            raise ImageError(f"{width}x{height} pixels")
        pixels_HWC = np.empty((height, width, 3), np.uint8)
        decode_into(data, pixels_HWC)
    except ImageError as error:
        raise ImageError(UNREADABLE) from error
    return Image.fromarray(pixels_HWC)
