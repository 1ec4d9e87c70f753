"""Episodes whose images were turned or stored with exchanged channels."""

from dataclasses import replace

import numpy as np
import simplejpeg

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.thumbnails import Thumbnails


def bgr(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., ::-1]


def upside_down(pixels: np.ndarray) -> np.ndarray:
    return pixels[::-1]


def pictured(episodes: list[Episode], camera: str, change, *, every: int = 1) -> list[Episode]:
    """Every so-manieth episode with `change(pixels)` in the camera's frames, encoded again."""
    return [
        replace(
            episode, images={**episode.images, camera: [_encoded(change, frame) for frame in episode.images[camera]]}
        )
        if number % every == 0 and camera in episode.images
        else episode
        for number, episode in enumerate(episodes)
    ]


def _encoded(change, frame: bytes) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(change(simplejpeg.decode_jpeg(frame))), quality=95)


def thumbnails_of(episodes: list[Episode]) -> Thumbnails:
    sample = Thumbnails()
    for episode in episodes:
        sample.update(episode)
    return sample
