"""Reads the images of samples out of the mixture's streams, and says what to do about an unreadable one.

A substitution depends on the stored bytes alone, so it is the same on every rank, worker and thread layout.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from oxe_pipeline.episode import DataError
from oxe_pipeline.loader.decode import ImageError, ImageSizeError, decode_into, image_size
from oxe_pipeline.mixture.mixture import MixtureDataset
from oxe_pipeline.stream.reader import Stream
from schemas.slots import CAMERAS

_EPISODES_TRIED_FOR_SIZE = 16


class Substitution(NamedTuple):
    """One unreadable image and what took its place."""

    dataset: str
    episode_id: str
    source_path: str
    step: int
    camera: str
    shown_step: int
    """The step whose image is shown; -1 where the episode has no readable image of this camera (black, masked)."""
    reason: str


class ImageReader:
    """Decodes image (dataset, episode, step, camera) into a slice of a batch. No state; safe from many threads."""

    def __init__(self, datasets: Sequence[MixtureDataset], *, resize: bool, on_corrupt: Literal["error", "substitute"]):
        self._datasets = datasets
        self._resize = resize
        self._on_corrupt = on_corrupt

    def read(
        self, dataset: int, episode: int, step: int, camera: str, out_HWC: np.ndarray, substituted: list[Substitution]
    ) -> bool:
        """Fills `out_HWC` uint8 [H, W, 3]; whether it shows an image of the episode (false: black).

        Raises DataError naming data set, episode, step and camera for an unreadable image, or, when substituting,
        appends to `substituted`. An image of the wrong size is an error either way: that is a wrong request, not
        damage.
        """
        name, stream = self._datasets[dataset].name, self._datasets[dataset].stream
        try:
            decode_into(stream.image(episode, step, camera), out_HWC, resize=self._resize)
            return True
        except ImageError as error:
            if self._on_corrupt == "error" or isinstance(error, ImageSizeError):
                remedy = (
                    f"; `python -m oxe_pipeline.verify {stream.path}` names damaged files, "
                    "on_corrupt='substitute' (train: --on-corrupt substitute) goes on without the image"
                )
                raise DataError(
                    str(error) if isinstance(error, ImageSizeError) else f"{error}{remedy}",
                    dataset=name,
                    episode=stream.episodes.source_path(episode) or stream.episodes.episode_id(episode),
                    field=f"camera {camera}, step {step}",
                ) from None
            shown = self._read_nearest(stream, episode, step, camera, out_HWC)
            substituted.append(
                Substitution(
                    dataset=name,
                    episode_id=stream.episodes.episode_id(episode),
                    source_path=stream.episodes.source_path(episode),
                    step=step,
                    camera=camera,
                    shown_step=shown,
                    reason=str(error),
                )
            )
            return shown >= 0

    def _read_nearest(self, stream: Stream, episode: int, step: int, camera: str, out_HWC: np.ndarray) -> int:
        """Shows the nearest readable step before `step`, which a policy would have seen last, or else after it."""
        for other in (*range(step - 1, -1, -1), *range(step + 1, int(stream.episodes.length[episode]))):
            try:
                decode_into(stream.image(episode, other, camera), out_HWC, resize=self._resize)
                return other
            except ImageSizeError:
                raise
            except ImageError:
                continue
        out_HWC[...] = 0
        return -1


def cameras_of(streams: Sequence[Stream]) -> tuple[str, ...]:
    """Cameras that at least one stream has, in the order of schemas.slots.CAMERAS."""
    return tuple(camera for camera in CAMERAS if any(stream.manifest.cameras.get(camera) for stream in streams))


def stored_size(streams: Sequence[Stream], camera: str) -> tuple[int, int]:
    """(height, width) in which a camera's images are stored, from one header per stream.

    Raises ValueError when two streams differ, naming both and the remedy, or when no stream has the camera readable.
    """
    found: dict[tuple[int, int], str] = {}
    for stream in streams:
        size = _first_size(stream, camera)
        if size is not None:
            found.setdefault(size, stream.name)
    if not found:
        raise ValueError(f"camera {camera}: no data set of the mixture has it; leave it out of cameras=")
    if len(found) > 1:
        sizes = ", ".join(f"{height}x{width} in {name}" for (height, width), name in found.items())
        raise ValueError(f"camera {camera} is stored in different sizes (height x width): {sizes}; give image_size=")
    return next(iter(found))


def _first_size(stream: Stream, camera: str) -> tuple[int, int] | None:
    for episode in np.flatnonzero(stream.episodes.has_camera(camera))[:_EPISODES_TRIED_FOR_SIZE]:
        try:
            return image_size(stream.image(int(episode), 0, camera))
        except ImageError:
            continue
    return None
