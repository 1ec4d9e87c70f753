"""Decodes the images of samples, and says what to do about an unreadable one.

A substitution depends on the stored bytes alone, so it is the same on every rank, worker and thread layout.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from oxe_pipeline.episode import DataError
from oxe_pipeline.loader.decode import (
    DirectJpeg,
    ImageError,
    ImageSizeError,
    decode_into,
    decodes_reduced,
    image_size,
)
from oxe_pipeline.loader.resize import resize_into, scratch
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


ImageSource = tuple[int, int, int, str]
"""(data set of the mixture, episode of its stream, step, camera)"""
ImageToRead = tuple[ImageSource, memoryview, np.ndarray]
"""An image of the streams, its encoded bytes, and where its pixels go: uint8 [H, W, 3]."""


class ImageReader:
    """Decodes stored images into slices of a batch. Safe from many threads."""

    def __init__(
        self,
        datasets: Sequence[MixtureDataset],
        *,
        resize: bool,
        on_corrupt: Literal["error", "substitute"],
        fast: bool = False,
    ):
        self._datasets = datasets
        self._on_corrupt = on_corrupt
        self._how = {"resize": resize, "fast": fast}
        # Threads may replace each other's entries: any of them is right.
        self._direct: dict[tuple[int, str], DirectJpeg] = {}

    def read(self, images: Sequence[ImageToRead]) -> list[Substitution | None]:
        """Fills each `out_HWC` uint8 [H, W, 3]; per image None, or what it shows in place of an unreadable one.

        Raises DataError naming data set, episode, step and camera for an unreadable image unless substituting. An image
        of the wrong size is an error either way: that is a wrong request, not damage.
        """
        return self._read_resized(images) if self._how["resize"] else [self._read(*image) for image in images]

    def _read(self, source: ImageSource, encoded: memoryview, out_HWC: np.ndarray) -> Substitution | None:
        dataset, _, _, camera = source
        direct = self._direct.get((dataset, camera))
        if direct is not None and direct.size == out_HWC.shape[:2] and direct.decode(encoded, out_HWC):
            return None
        try:
            decode_into(encoded, out_HWC, **self._how)
        except ImageError as error:
            if self._on_corrupt == "error" or isinstance(error, ImageSizeError):
                raise self._data_error(source, error) from None
            return self._substitute(source, error, out_HWC)
        learnt = DirectJpeg.like(encoded, fast=self._how["fast"])
        if learnt is not None and not decodes_reduced(learnt.size, out_HWC.shape[:2]):
            self._direct[dataset, camera] = learnt
        return None

    def _read_resized(self, images: Sequence[ImageToRead]) -> list[Substitution | None]:
        """As `read`. Neighbours of one stored size are resized together, which saves a quarter of the filter's time."""
        found: list[Substitution | None] = []
        while len(found) < len(images):
            decoded_NHWC = self._decode_alike(images[len(found) :])
            if len(decoded_NHWC):
                done = range(len(found), len(found) + len(decoded_NHWC))
                resize_into(decoded_NHWC, [images[k][2] for k in done])
                found += [None] * len(done)
            else:
                found.append(self._read(*images[len(found)]))
        return found

    def _decode_alike(self, images: Sequence[ImageToRead]) -> np.ndarray:
        """uint8 [n, h, w, 3]: the first n images, as long as they are of one stored size and the direct way does for
        them; n may be 0."""
        decoded = np.empty((0, 0, 0, 3), np.uint8)
        for n, ((dataset, _, _, camera), encoded, out_HWC) in enumerate(images):
            direct = self._direct.get((dataset, camera))
            if direct is None or direct.size == out_HWC.shape[:2]:
                return decoded[:n]
            if n == 0:
                height, width = direct.size
                decoded = scratch(len(images) * height * width * 3).reshape(len(images), height, width, 3)
            if direct.size != decoded.shape[1:3] or not direct.decode(encoded, decoded[n]):
                return decoded[:n]
        return decoded

    def _data_error(self, source: ImageSource, error: ImageError) -> DataError:
        dataset, episode, step, camera = source
        stream = self._datasets[dataset].stream
        remedy = (
            f"; `python -m oxe_pipeline.verify {stream.path}` names damaged files, "
            "on_corrupt='substitute' (train: --on-corrupt substitute) goes on without the image"
        )
        return DataError(
            str(error) if isinstance(error, ImageSizeError) else f"{error}{remedy}",
            dataset=self._datasets[dataset].name,
            episode=stream.episodes.source_path(episode) or stream.episodes.episode_id(episode),
            field=f"camera {camera}, step {step}",
        )

    def _substitute(self, source: ImageSource, error: ImageError, out_HWC: np.ndarray) -> Substitution:
        dataset, episode, step, camera = source
        stream = self._datasets[dataset].stream
        return Substitution(
            dataset=self._datasets[dataset].name,
            episode_id=stream.episodes.episode_id(episode),
            source_path=stream.episodes.source_path(episode),
            step=step,
            camera=camera,
            shown_step=self._show_nearest(source, out_HWC),
            reason=str(error),
        )

    def _show_nearest(self, source: ImageSource, out_HWC: np.ndarray) -> int:
        """Shows the nearest readable step before the source's, which a policy would have seen last, else after it."""
        dataset, episode, step, camera = source
        stream = self._datasets[dataset].stream
        for other in (*range(step - 1, -1, -1), *range(step + 1, int(stream.episodes.length[episode]))):
            try:
                decode_into(stream.image(episode, other, camera), out_HWC, **self._how)
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
