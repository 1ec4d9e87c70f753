"""Which samples an optimiser step takes, and which of them this rank does."""

from functools import lru_cache

import numpy as np

from oxe_pipeline.loader.window import Samples
from oxe_pipeline.mixture.mixture import Mixture

_SAMPLES_LOCATED_AT_ONCE = 2048
"""Locating 2,048 samples costs about twice as much as locating 64, so the steps of a stretch are located together."""


class StepSamples:
    """Step s of global batch size B takes samples s*B .. (s+1)*B-1; rank r of W takes r*B//W .. (r+1)*B//W-1 of them.

    So the samples of a step are the same for any number of ranks. Raises ValueError for sizes that leave a rank
    nothing.
    """

    def __init__(self, mixture: Mixture, batch_size: int, rank: int = 0, world_size: int = 1):
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of 1 or more, is {batch_size!r}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be from 0 to world_size-1 = {world_size - 1}, is {rank}")
        if batch_size < world_size:
            raise ValueError(
                f"batch_size {batch_size} is global and leaves some of {world_size} ranks without a sample"
            )
        self._mixture, self._batch_size = mixture, batch_size
        self._first, self._end = rank * batch_size // world_size, (rank + 1) * batch_size // world_size
        self._stretch = max(1, _SAMPLES_LOCATED_AT_ONCE // (self._end - self._first))
        self._located = lru_cache(maxsize=4)(self._locate_stretch)

    def __getitem__(self, step: int) -> Samples:
        """This rank's samples of optimiser step `step` >= 0. Safe from several threads."""
        size = self._end - self._first
        start = step % self._stretch * size
        # Copies: batches show these arrays, and a batch may be written to.
        return Samples(*(column[start : start + size].copy() for column in self._located(step // self._stretch)))

    def _locate_stretch(self, number: int) -> tuple[np.ndarray, ...]:
        steps = np.arange(number * self._stretch, (number + 1) * self._stretch, dtype=np.int64)
        g = (steps[:, None] * self._batch_size + np.arange(self._first, self._end)).reshape(-1)
        return g, *self._mixture.locate(g)
