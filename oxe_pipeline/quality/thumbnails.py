"""Thumbnails: a small, fixed sample of what a data set's cameras show, for audits that need pixels.

Kept are the MAX_EPISODES episodes with the smallest hashes of their ids, so any grouping of the episodes keeps the same
ones, and merging is taking the smallest again. Only an episode that enters the sample is decoded, FRAMES images a
camera at an eighth of their size where they are JPEG: about a hundred episodes of a unit of thousands.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import xxhash

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.image_headers import is_jpeg
from schemas.slots import STATE_GROUPS

MAX_EPISODES = 32
SIDE_PX = 16
FRAMES = 4
"""Images of an episode and camera that are decoded, evenly from the first to the last."""
CHANGED = 0.25
"""Share of the greatest change, below which a pixel does not belong to the arm."""
CHANGED_FRAME = 0.15
"""Share of the most changed frame, below which the arm cannot be found in a frame."""


def rank(episode_id: str) -> float:
    """0 to 1, from a hash: the sample is the episodes of the lowest rank."""
    return int(_key(episode_id), 16) / 2**64


def _key(episode_id: str) -> str:
    return xxhash.xxh3_64_hexdigest(episode_id.encode())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """What one camera shows in one episode."""

    thumbnail: np.ndarray
    """uint8 [SIDE_PX, SIDE_PX, 3] RGB, of the middle of the episode."""
    heights: np.ndarray
    """float64 [4, 4]: sums of products, about their means, of the hand's x, y, z and the height in the image of what
    moves (1 top, 0 bottom); zeros where it cannot be told."""
    frames: int
    """How many images `heights` is made of."""


class Thumbnails:
    """The sample: episode hash to camera to View. One object accumulates; nothing else holds its state."""

    def __init__(self) -> None:
        self._views: dict[str, dict[str, View]] = {}

    def update(self, episode: Episode) -> None:
        """Looks at one episode if it belongs to the sample. An image that does not decode leaves its camera out."""
        key = _key(episode.episode_id)
        if len(self._views) >= MAX_EPISODES and key > max(self._views):
            return
        views = {camera: view for camera in episode.images if (view := _view(episode, camera)) is not None}
        self._keep({key: views})

    def merge(self, other: "Thumbnails") -> None:
        """Adds the sample of `other`; associative and commutative."""
        self._keep(other._views)

    def _keep(self, views: Mapping[str, dict[str, View]]) -> None:
        together = {**self._views, **views}
        self._views = {key: together[key] for key in sorted(together)[:MAX_EPISODES]}

    def cameras(self) -> list[str]:
        """Cameras of any sampled episode, sorted."""
        return sorted({camera for views in self._views.values() for camera in views})

    def views(self, camera: str) -> Iterator[View]:
        """The views of one camera, in order of episode hash."""
        return (views[camera] for views in self._views.values() if camera in views)

    def to_dict(self) -> dict:
        """JSON-able; about 1.5 kB an episode and camera. Inverse: from_dict."""
        return {
            key: {
                camera: {
                    "thumbnail": base64.b64encode(view.thumbnail.tobytes()).decode(),
                    "heights": view.heights.tolist(),
                    "frames": view.frames,
                }
                for camera, view in sorted(views.items())
            }
            for key, views in self._views.items()
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Mapping[str, Mapping]]) -> "Thumbnails":
        """Inverse of to_dict."""
        sample = cls()
        sample._keep({key: {camera: _read(view) for camera, view in views.items()} for key, views in content.items()})
        return sample


def _read(content: Mapping) -> View:
    pixels = np.frombuffer(base64.b64decode(content["thumbnail"]), np.uint8)
    return View(
        thumbnail=pixels.reshape(SIDE_PX, SIDE_PX, 3), heights=np.array(content["heights"]), frames=content["frames"]
    )


def small_image(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3] RGB of at least SIDE_PX a side: a JPEG at the least scale its decoder offers, a PNG whole.

    Raises ValueError when it does not decode.
    """
    if is_jpeg(data):
        import simplejpeg

        return simplejpeg.decode_jpeg(data, min_height=SIDE_PX, min_width=SIDE_PX, fastdct=True)
    from oxe_pipeline.ingest.images import decode

    return decode(data)


def shrink(pixels: np.ndarray) -> np.ndarray:
    """uint8 [..., H, W, 3] -> float64 [..., SIDE_PX, SIDE_PX, 3], each the mean of its part of the image; sides below
    SIDE_PX repeat pixels."""
    for axis in (-3, -2):
        length = pixels.shape[axis]
        if length < SIDE_PX:
            pixels = pixels.repeat(-(-SIDE_PX // length), axis=axis)
            length = pixels.shape[axis]
        first = np.arange(SIDE_PX) * length // SIDE_PX
        count = np.diff(np.append(first, length)).reshape([-1, *[1] * (-1 - axis)])
        pixels = np.add.reduceat(pixels, first, axis=axis, dtype=np.float64) / count
    return pixels


def _view(episode: Episode, camera: str) -> View | None:
    frames = episode.images[camera]
    steps = np.unique(np.linspace(0, len(frames) - 1, FRAMES).round().astype(int))
    try:
        small = [small_image(frames[step]) for step in steps]
        one_size = len({image.shape for image in small}) == 1
        images = shrink(np.stack(small)) if one_size else np.stack([shrink(image) for image in small])
    except ValueError:
        return None
    heights, found = _heights(images, _hand(episode, steps))
    middle = images[len(images) // 2]
    return View(thumbnail=middle.round().astype(np.uint8), heights=heights, frames=found)


def _hand(episode: Episode, steps: np.ndarray) -> np.ndarray | None:
    """float64 [len(steps), 3]: where the only arm's hand is, in metres; None without it, or with two arms."""
    columns = list(STATE_GROUPS["arm0.eef_position"].indices)
    other = list(STATE_GROUPS["arm1.eef_position"].indices)
    if not episode.state_mask[columns].all() or episode.state_mask[other].any():
        return None
    return episode.state[steps][:, columns].astype(np.float64)


def _heights(images: np.ndarray, hand: np.ndarray | None) -> tuple[np.ndarray, int]:
    """View.heights and View.frames: the arm is where an image differs from the median of all."""
    change = np.abs(images - np.median(images, axis=0)).sum(axis=-1)
    change = np.where(change > CHANGED * change.max(), change, 0.0)
    amount = change.sum(axis=(1, 2))
    found = amount > CHANGED_FRAME * amount.max()
    if hand is None or found.sum() < 2:
        return np.zeros((4, 4)), 0
    height = 1 - (change.sum(axis=2) @ np.arange(SIDE_PX)) / np.maximum(amount, 1e-9) / (SIDE_PX - 1)
    values = np.column_stack([hand, height])[found]
    values -= values.mean(axis=0)
    return values.T @ values, int(found.sum())
