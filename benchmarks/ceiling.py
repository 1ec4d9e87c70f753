"""The ceiling of any loader of JPEGs: threads that do nothing but decode the same images, in the same order, into
memory they already have. And what the fast, inexact way of decoding changes in their pixels.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from oxe_pipeline.loader.loader import usable_cores
from oxe_pipeline.mixture.mixture import Mixture

BATCH_SIZE = 64


def images_in_order(mixture: Mixture, camera: str, count: int = 1024) -> list[memoryview]:
    """Encoded images of one camera at the first samples of the mixture: what the loader reads, in its order."""
    places = zip(*(array.tolist() for array in mixture.locate(np.arange(count))), strict=True)
    found = [mixture.datasets[dataset].stream.image(episode, step, camera) for dataset, episode, step in places]
    return [image for image in found if len(image)]


def ceiling_rate(images: Sequence[memoryview], buffer: np.ndarray, batches: int) -> float:
    """Samples/s of all cores. `buffer` uint8 [BATCH_SIZE * cameras, H, W, 3] is one batch's worth of images; so many
    are decoded into it `batches` times over."""
    import simplejpeg

    # Whichever thread is free takes the next image: fixed shares would wait for a core that is held up elsewhere, and a
    # ceiling that is too low flatters the loader.
    numbers = iter(range(batches * len(buffer)))

    def decode(_: int) -> None:
        for number in numbers:
            simplejpeg.decode_jpeg(images[number % len(images)], "RGB", buffer=buffer[number % len(buffer)])

    started = time.perf_counter()
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(decode, range(usable_cores())))
    return batches * BATCH_SIZE / (time.perf_counter() - started)


@dataclass(frozen=True, kw_only=True)
class PixelDifference:
    """Absolute differences of fast decoding from exact decoding in grey levels, over all pixels and channels."""

    mean: float
    q999: float
    max: int


def fast_difference(images: Sequence[bytes | memoryview]) -> PixelDifference:
    """What `decode="fast"` changes in these JPEGs."""
    import simplejpeg

    counts = np.zeros(256, np.int64)
    for image in images:
        exact, fast = simplejpeg.decode_jpeg(image, "RGB"), simplejpeg.decode_jpeg(image, "RGB", True, True)
        counts += np.bincount(np.abs(exact.astype(np.int16) - fast).reshape(-1), minlength=256)
    total = counts.sum()
    return PixelDifference(
        mean=float((counts * np.arange(256)).sum() / total),
        q999=int(np.searchsorted(counts.cumsum(), 0.999 * total)),
        max=int(counts.nonzero()[0][-1]),
    )
