"""Which samples an optimiser step takes, and which of them this rank does."""

from functools import lru_cache

import numpy as np

from oxe_pipeline.loader.window import Samples
from oxe_pipeline.mixture.mixture import Mixture

_SAMPLES_LOCATED_AT_ONCE = 2048
"""Locating 2,048 samples costs about twice as much as locating 64, so the steps of a stretch are located together."""


class StepSamples:
    """Steps of B samples, end to end: step s takes samples s*B .. (s+1)*B-1; rank r of W takes r*B//W .. (r+1)*B//W-1
    of them. So the samples of a step are the same for any number of ranks.

    A run that went on at step `first_step` with sample `first_g`, having had another batch size before, counts from
    there, and has no earlier step. With `num_samples` the samples end there, and the last step has what is left; a rank
    may have none of it.
    Raises ValueError for sizes that do not hold or that leave a rank nothing of a whole step.
    """

    def __init__(
        self,
        mixture: Mixture,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        first_step: int = 0,
        first_g: int = 0,
        num_samples: int | None = None,
    ):
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of 1 or more, is {batch_size!r}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be from 0 to world_size-1 = {world_size - 1}, is {rank}")
        if batch_size < world_size:
            raise ValueError(
                f"batch_size {batch_size} is global and leaves some of {world_size} ranks without a sample"
            )
        if num_samples is not None and (not isinstance(num_samples, int) or num_samples < 0):
            raise ValueError(f"num_samples must be a whole number of 0 or more, is {num_samples!r}")
        self.batch_size, self.num_samples = batch_size, num_samples
        self._mixture, self._rank, self._world_size = mixture, rank, world_size
        self._first_step, self._first_g = first_step, first_g
        self._part = self._part_of(batch_size)
        self.samples_per_step = self._part.stop - self._part.start
        """Of this rank, in every step but a shorter last one."""
        self._stretch = max(1, _SAMPLES_LOCATED_AT_ONCE // self.samples_per_step)
        self._located = lru_cache(maxsize=4)(self._locate_stretch)

    def starting(self, step: int, g: int) -> "StepSamples":
        """The same layout, counting from step `step` at sample `g`."""
        return _made(self._mixture, self.batch_size, self._rank, self._world_size, step, g, self.num_samples)

    def __reduce__(self):
        layout = (self.batch_size, self._rank, self._world_size, self._first_step, self._first_g, self.num_samples)
        return _made, (self._mixture, *layout)

    @property
    def num_steps(self) -> int | None:
        """The step at which the samples have ended; None for never."""
        if self.num_samples is None:
            return None
        return self._first_step + max(0, -(-(self.num_samples - self._first_g) // self.batch_size))

    def first_g(self, step: int) -> int:
        """The sample number with which a step begins, over all ranks."""
        g = self._first_g + (step - self._first_step) * self.batch_size
        return g if self.num_samples is None else max(self._first_g, min(g, self.num_samples))

    def __getitem__(self, step: int) -> Samples:
        """This rank's samples of optimiser step `step` >= 0. Safe from several threads."""
        number, place = divmod(step - self._first_step, self._stretch)
        start = place * self.samples_per_step
        rows = slice(start, start + self.samples_per_step)
        # Copies: batches show these arrays, and a batch may be written to.
        return Samples(*(column[rows].copy() for column in self._located(number)))

    def between(self, start: int, stop: int) -> Samples:
        """This rank's samples of steps start .. stop-1, one step after the other. Not remembered."""
        pieces = []
        whole_stop = stop
        if self.num_samples is not None:
            whole = self._first_step + max(0, self.num_samples - self._first_g) // self.batch_size
            whole_stop = min(stop, whole)
            if start <= whole < stop:
                first = self.first_g(whole)
                part = self._part_of(self.num_samples - first)
                pieces = [np.arange(first + part.start, first + part.stop)]
        steps = np.arange(start, whole_stop, dtype=np.int64)
        firsts = self._first_g + (steps - self._first_step) * self.batch_size
        whole_steps = (firsts[:, None] + np.arange(self._part.start, self._part.stop)).reshape(-1)
        g = np.concatenate([whole_steps, *pieces])
        return Samples(g, *self._mixture.locate(g))

    def _part_of(self, size: int) -> range:
        return range(self._rank * size // self._world_size, (self._rank + 1) * size // self._world_size)

    def _locate_stretch(self, number: int) -> tuple[np.ndarray, ...]:
        first = self._first_step + number * self._stretch
        samples = self.between(first, first + self._stretch)
        return samples.g, samples.dataset, samples.episode, samples.step


def _made(mixture, batch_size, rank, world_size, first_step, first_g, num_samples) -> StepSamples:
    return StepSamples(
        mixture, batch_size, rank, world_size, first_step=first_step, first_g=first_g, num_samples=num_samples
    )
