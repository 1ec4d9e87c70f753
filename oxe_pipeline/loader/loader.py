"""Loader: a mixture as an endless, restartable iterator of training batches, made ahead by threads of this process.

What it delivers is a function of the mixture, the seed and the sample number alone. Its whole state is therefore the
number of the next sample; ranks, threads, prefetch and batch size may change between runs.
"""

import os
import time
from collections.abc import Mapping

import numpy as np

from oxe_pipeline.loader.batch import BatchAssembler
from oxe_pipeline.loader.buffers import BufferPool
from oxe_pipeline.loader.held_out import EvalLoader, held_out_samples
from oxe_pipeline.loader.images import Substitution
from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.loader.prefetch import Prefetcher, start_prefetch
from oxe_pipeline.loader.state import samples_from, state_at
from oxe_pipeline.loader.steps import StepSamples
from oxe_pipeline.loader.threads import BatchThreads, check_threads
from oxe_pipeline.mixture.mixture import Mixture

_MOST_THREADS = 16
_SUBSTITUTIONS_KEPT = 1000


class Loader:
    """Iterator of batches (see `batch` for their content); `make_loader` makes one. Not for several consumers at once.

    Close it, or use it in a `with` block, to end its threads at once; otherwise they end when it is collected.
    """

    def __init__(
        self,
        mixture: Mixture,
        assembler: BatchAssembler,
        samples: StepSamples,
        *,
        step: int,
        num_steps: int | None,
        threads: int,
        prefetch: int,
    ):
        check_threads(threads, prefetch)
        self.mixture = mixture
        self.batch_size = samples.batch_size
        """Global batch size: over all ranks."""
        self.step = step
        """The optimiser step whose batch comes next."""
        self.wait_s = 0.0
        """Seconds the consumer has waited for batches."""
        self.num_substituted = 0
        """Images delivered in place of unreadable ones."""
        self.substitutions: dict[Substitution, int] = {}
        """Which those were, with how often each was delivered; the first thousand."""
        self.samples_per_dataset = np.zeros(len(mixture.datasets), np.int64)
        """Samples delivered by this loader, by data set of the mixture."""
        self._assembler, self._samples = assembler, samples
        self._last_step = num_steps
        self._num_threads, self._prefetch = threads, prefetch
        self._threads: BatchThreads | None = None
        self._prefetcher: Prefetcher | None = None

    def __iter__(self) -> "Loader":
        return self

    @property
    def num_steps(self) -> int | None:
        """The step at which the loader has ended; None for never."""
        ends = [end for end in (self._last_step, self._samples.num_steps) if end is not None]
        return min(ends, default=None)

    @property
    def g(self) -> int:
        """The sample number that comes next, over all ranks."""
        return self._samples.first_g(self.step)

    def __next__(self) -> dict:
        """The batch of step `self.step`. A fault in making it is raised here, and the loader stays at that step."""
        started = time.perf_counter()
        threads = self._threads = self._threads or self._start()
        try:
            batch, substituted = threads.get()
        except BaseException:
            self.close()
            raise
        self.wait_s += time.perf_counter() - started
        self.step += 1
        if self._prefetcher:
            self._prefetcher.advance(self.step)
        self.samples_per_dataset += np.bincount(batch["dataset"].numpy(), minlength=len(self.samples_per_dataset))
        self.num_substituted += len(substituted)
        # Sorted, since threads note them as they come: which are kept must not hang on that.
        for substitution in sorted(substituted):
            if substitution in self.substitutions or len(self.substitutions) < _SUBSTITUTIONS_KEPT:
                self.substitutions[substitution] = self.substitutions.get(substitution, 0) + 1
        return batch

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> BatchThreads:
        streams = [dataset.stream for dataset in self.mixture.datasets]
        self._prefetcher = start_prefetch(streams, self._samples, first=self.step, stop=self.num_steps)
        return BatchThreads(
            self._assembler,
            self._samples.__getitem__,
            first=self.step,
            stop=self.num_steps,
            threads=self._num_threads,
            prefetch=self._prefetch,
        )

    def close(self) -> None:
        """Ends the threads. Iterating again starts new ones at `self.step`."""
        prefetcher, self._prefetcher = self._prefetcher, None
        if prefetcher:
            prefetcher.close()
        threads, self._threads = self._threads, None
        if threads:
            threads.close()

    def realised_shares(self) -> dict[str, float]:
        """Data set -> its share of the samples delivered so far; all 0 before the first batch."""
        total = max(1, int(self.samples_per_dataset.sum()))
        return {
            dataset.name: int(count) / total
            for dataset, count in zip(self.mixture.datasets, self.samples_per_dataset, strict=True)
        }

    def state_dict(self) -> dict:
        """What `load_state_dict` needs to go on with the next batch, as JSON: tens of numbers, whatever the step."""
        return state_at(self.step, self._samples, self.mixture)

    def load_state_dict(self, state: Mapping) -> None:
        """Goes on with the sample at which the loader that gave `state` stood.

        That one may have had other ranks, threads, prefetch or batch size; steps are counted on from its own. Raises
        StateError when the mixture's data, seed, or weights so far differ, naming both.
        """
        step, samples = samples_from(state, self._samples, self.mixture)
        self.close()
        self.step, self._samples = step, samples


def make_loader(
    mixture: Mixture,
    *,
    batch_size: int,
    seed: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    start_step: int = 0,
    num_steps: int | None = None,
    num_samples: int | None = None,
    threads: int | None = None,
    prefetch: int = 3,
    pin_memory: bool = False,
    **options,
) -> Loader:
    """A Loader over a mixture, at optimiser step `start_step`; endless unless told where to end.

    `batch_size` is global: rank r of W gets samples r*B//W .. (r+1)*B//W-1 of each step's B, so any number of ranks
    makes the same optimisation. `seed` None takes the mixture's. The last step is `num_steps`-1, counted from 0
    whatever `start_step` is; or the one with sample `num_samples`-1, which then has what is left: with
    `mixture.samples_per_epoch()`, or a multiple of it, the loader ends with an epoch. `threads` None: one per CPU core
    that this process may use, 16 at most (give a number where several ranks share a host). `prefetch` batches are in
    the making at any time. `pin_memory` puts images into page-locked memory. `options` are the fields of BatchOptions.
    Raises ValueError for values that do not hold.
    """
    mixture = mixture if seed is None else mixture.with_seed(seed)
    check_steps(start_step, num_steps)
    return Loader(
        mixture,
        _assembler(mixture, BatchOptions(**options), prefetch, pin_memory),
        StepSamples(mixture, batch_size, rank, world_size, num_samples=num_samples),
        step=start_step,
        num_steps=num_steps,
        threads=usable_cores() if threads is None else threads,
        prefetch=prefetch,
    )


def make_eval_loader(
    mixture: Mixture,
    *,
    batch_size: int,
    split: str = "val",
    max_windows_per_dataset: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    threads: int | None = None,
    prefetch: int = 3,
    pin_memory: bool = False,
    **options,
) -> EvalLoader:
    """All windows of a held-out split of the mixture's streams, each once, in a fixed order; see `held_out_samples`.

    Rank r of W gets windows r*N//W .. (r+1)*N//W-1 of N, in batches of `batch_size`. Instructions are the main ones
    unless `instruction="any"` is given; other `options` as in `make_loader`. `g` numbers the windows. Raises ValueError
    when the split is empty.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of 1 or more, is {batch_size!r}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be from 0 to world_size-1 = {world_size - 1}, is {rank}")
    windows = held_out_samples(mixture, split, max_windows_per_dataset)
    return EvalLoader(
        _assembler(mixture, BatchOptions(**{"instruction": "main", **options}), prefetch, pin_memory),
        windows.rows(rank * len(windows) // world_size, (rank + 1) * len(windows) // world_size),
        batch_size=batch_size,
        threads=usable_cores() if threads is None else threads,
        prefetch=prefetch,
    )


def usable_cores() -> int:
    """CPU cores that this process may run on, 16 at most."""
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


def check_steps(start_step: int, num_steps: int | None) -> None:
    """ValueError for step numbers that are not 0 or more."""
    for name, value in (("start_step", start_step), ("num_steps", num_steps)):
        if value is not None and (not isinstance(value, int) or value < 0):
            raise ValueError(f"{name} must be a whole number of 0 or more, is {value!r}")


def _assembler(mixture: Mixture, options: BatchOptions, prefetch: int, pin_memory: bool) -> BatchAssembler:
    buffers = BufferPool(keep=2 * prefetch, pin_memory=pin_memory)
    return BatchAssembler(mixture.datasets, options, seed=mixture.seed, buffers=buffers)
