"""Held-out windows in a fixed order: every step of the episodes of a split once, data set after data set."""

from collections.abc import Iterator

import numpy as np

from oxe_pipeline.loader.batch import BatchAssembler
from oxe_pipeline.loader.prefetch import start_prefetch
from oxe_pipeline.loader.threads import BatchThreads, check_threads
from oxe_pipeline.loader.window import Samples
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.mixture.windows import WindowIndex


def held_out_samples(mixture: Mixture, split: str, max_windows_per_dataset: int | None = None) -> Samples:
    """All windows of `split`, in the order of data set, episode and step; `g` counts them from 0.

    An overlay of the mixture filters what is trained on, not what is measured: held-out figures of runs with different
    overlays stay comparable. With `max_windows_per_dataset` that many of each data set, spread evenly over its windows,
    the same every time.
    Raises ValueError when no data set has an episode in the split, or for a limit below 1.
    """
    if max_windows_per_dataset is not None and max_windows_per_dataset < 1:
        raise ValueError(f"the windows per data set must be limited to 1 or more, not to {max_windows_per_dataset}")
    episodes = [dataset.stream.episodes for dataset in mixture.datasets]
    index = WindowIndex.of_episodes([table.length for table in episodes], [table.split_is(split) for table in episodes])
    chosen = [_spread(int(windows), max_windows_per_dataset) for windows in index.windows_per_dataset]
    dataset = np.repeat(np.arange(len(chosen)), [len(windows) for windows in chosen])
    if not len(dataset):
        names = ", ".join(dataset.name for dataset in mixture.datasets[:8])
        raise ValueError(
            f"no episode of {names} is in split {split!r}; make streams with a held-out share, or name another"
        )
    episode, step = index.locate(dataset, np.concatenate(chosen))
    return Samples(g=np.arange(len(dataset)), dataset=dataset, episode=episode, step=step)


def _spread(windows: int, most: int | None) -> np.ndarray:
    """At most `most` of range(windows), evenly spread; int64."""
    if most is None or windows <= most:
        return np.arange(windows, dtype=np.int64)
    return np.arange(most, dtype=np.int64) * windows // most


class EvalLoader:
    """Batches of given samples; each `iter` starts from the first. The last batch may be smaller."""

    def __init__(self, assembler: BatchAssembler, samples: Samples, *, batch_size: int, threads: int, prefetch: int):
        check_threads(threads, prefetch)
        self.samples = samples
        """The samples in the order they come."""
        self._assembler, self._batch_size = assembler, batch_size
        self._threads, self._prefetch = threads, prefetch

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.samples) // self._batch_size)

    def __iter__(self) -> Iterator[dict]:
        streams = [dataset.stream for dataset in self._assembler.datasets]
        prefetcher = start_prefetch(streams, self, first=0, stop=len(self))
        threads = BatchThreads(
            self._assembler,
            lambda number: self.between(number, number + 1),
            first=0,
            stop=len(self),
            threads=self._threads,
            prefetch=self._prefetch,
        )
        try:
            for number in range(len(self)):
                yield threads.get()[0]
                if prefetcher:
                    prefetcher.advance(number + 1)
        finally:
            if prefetcher:
                prefetcher.close()
            threads.close()

    @property
    def samples_per_step(self) -> int:
        """Of every batch but the last."""
        return self._batch_size

    def between(self, start: int, stop: int) -> Samples:
        """The samples of batches start .. stop-1, one after the other."""
        return self.samples.rows(start * self._batch_size, stop * self._batch_size)
