"""What there is to do on the images of a batch: each distinct image once, with all the places that show it.

Several places show one image where history is padded, where a goal is the sample's own step, and where a batch holds
neighbouring steps of an episode, as held-out windows in order always do. With a uniform shuffle that is rare, and
finding it costs nothing beyond the dictionary that lists the images anyway.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oxe_pipeline.loader.images import ImageSource
from oxe_pipeline.loader.window import DatasetPart

_NO_IMAGE = memoryview(b"")


@dataclass(frozen=True, eq=False, slots=True)
class View:
    """The images [B, T] of one camera, or the goals, while they are made; decoding refines `mask` bool [B, T]."""

    camera: str
    tensor: Any
    """uint8 [B, T, H, W, 3]; `pixels` is the same memory as numpy."""
    pixels: np.ndarray
    mask: np.ndarray


Place = tuple[int, int, int]
"""Where an image goes in its batch: number of the view, sample, and which of the sample's frames."""
ImageTask = tuple[ImageSource, memoryview, list[Place]]
"""An image of the streams, its encoded bytes, and where it goes."""


def blank_samples(views: Iterable[View]) -> list[np.ndarray]:
    """The uint8 [T, H, W, 3] of samples that show nothing: their own step, the last, is masked."""
    return [view.pixels[i] for view in views for i in np.flatnonzero(~view.mask[:, -1]).tolist()]


def image_tasks(
    views: Sequence[tuple[str, np.ndarray, np.ndarray]], parts: Sequence[DatasetPart], sizes: Sequence[int]
) -> list[list[ImageTask]]:
    """The images to decode, per batch of `sizes` samples, shard by shard.

    `views` are (camera, steps int64 [N, T], mask bool [N, T]) over the N samples of all batches, `parts` the samples'.
    The tasks show memory of the shards: not to be kept longer than the batches.
    """
    tasks: list[dict[ImageSource, ImageTask]] = [{} for _ in sizes]
    of_batch = [(batch, i) for batch, size in zip(tasks, sizes, strict=True) for i in range(size)]
    for number, (camera, shown_steps, mask) in enumerate(views):
        shown = mask[:, -1].tolist()
        for part in parts:
            rows = zip(
                part.here.tolist(),
                part.episode.tolist(),
                part.first_row.tolist(),
                shown_steps[part.here].tolist(),
                strict=True,
            )
            for shard, of_shard in part.shards:
                column = shard.images.get(camera)
                # Items of a memoryview are Python's own integers, three times as fast as numpy's.
                data, offsets = (column.data, column.offsets.data) if column else (_NO_IMAGE, None)
                for _ in range(of_shard.stop - of_shard.start):
                    sample, episode, first_row, steps = next(rows)
                    if not shown[sample]:
                        continue
                    batch, i = of_batch[sample]
                    for t, step in enumerate(steps):
                        source = (part.dataset, episode, step, camera)
                        if source in batch:
                            batch[source][2].append((number, i, t))
                            continue
                        row = first_row + step
                        encoded = data[offsets[row] : offsets[row + 1]] if offsets else data
                        batch[source] = source, encoded, [(number, i, t)]
    return [list(batch.values()) for batch in tasks]
