"""StreamDataset: the same batches through plain torch.utils.data.DataLoader, for code that insists on one.

Which to use: `make_loader`, unless a framework wants a DataLoader or a slow `collate_fn` of your own is to run beside
the trainer. `make_loader` counts what it delivers and decodes in threads into memory
that the trainer sees, so nothing is lost to transport. Here the workers are processes that decode in one thread each;
they hand their batches over in shared memory (see `shared_buffers`) and have each a mixture, caches and memory of their
own. Order and content of the batches are the same. This module imports torch, since DataLoader looks at the class.
"""

import logging
import os
import uuid
import weakref
from collections.abc import Iterator, Mapping
from functools import partial

from torch.utils.data import IterableDataset, get_worker_info

from oxe_pipeline.loader.batch import BatchAssembler, PendingBatch
from oxe_pipeline.loader.batch_plan import BatchPlan
from oxe_pipeline.loader.buffers import BufferPool, ImageMemory
from oxe_pipeline.loader.loader import check_steps
from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.loader.prefetch import start_prefetch
from oxe_pipeline.loader.shared_buffers import SharedBuffers
from oxe_pipeline.loader.state import samples_from, state_at
from oxe_pipeline.loader.steps import StepSamples
from oxe_pipeline.mixture.mixture import Mixture

_log = logging.getLogger(__name__)


class StreamDataset(IterableDataset):
    """To be given to DataLoader(dataset, batch_size=None, num_workers=0..N): it yields whole batches, in step order.

    Worker i of n makes steps i, i+n, ... and DataLoader takes from its workers in turn, so what arrives is the sequence
    of `make_loader` for any number of workers. Batches are plain dicts of tensors and may be kept and written to. To
    resume, save `state_dict(batches)` with the number of batches that were consumed, and load it before DataLoader
    starts its workers. Arguments as of `make_loader`.
    """

    def __init__(
        self,
        mixture: Mixture,
        *,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        num_steps: int | None = None,
        num_samples: int | None = None,
        **options,
    ):
        check_steps(start_step, num_steps)
        self.mixture = mixture if seed is None else mixture.with_seed(seed)
        self.num_substituted = 0
        """Images that arrived in this process in place of unreadable ones, batches made ahead included. A `collate_fn`
        that returns another object than the batch it was given leaves them uncounted; they are logged in any case."""
        self._options = BatchOptions(**options)
        self._samples = StepSamples(self.mixture, batch_size, rank, world_size, num_samples=num_samples)
        self._start_step, self._num_steps = start_step, num_steps
        self._shared: SharedBuffers | None = None
        self._key = uuid.uuid4().hex
        _in_this_process[self._key] = self
        # Made and dropped here so that wrong arguments fail now and not in a worker.
        self._assembler(BufferPool(keep=0))

    def state_dict(self, batches: int) -> dict:
        """What `load_state_dict` needs, here or of a Loader, once `batches` batches were consumed, as JSON."""
        return state_at(self._start_step + batches, self._samples, self.mixture)

    def load_state_dict(self, state: Mapping) -> None:
        """Goes on with the sample that `state` says, of this class or of a Loader; see Loader.load_state_dict."""
        self._start_step, self._samples = samples_from(state, self._samples, self.mixture)

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        # Workers may also be threads (DataLoader's worker_method): their batches need not travel.
        if worker and getattr(worker, "worker_method", None) != "thread" and hasattr(os, "memfd_create"):
            self._shared = self._shared or SharedBuffers()
        assembler = self._assembler(self._shared or BufferPool(keep=2))
        samples, step = self._samples, self._start_step + number
        stop = min((end for end in (self._num_steps, samples.num_steps) if end is not None), default=None)
        # Remote shards come to a cache that all workers share, so one of them looks ahead for all.
        streams = [dataset.stream for dataset in self.mixture.datasets]
        prefetcher = None if number else start_prefetch(streams, samples, first=step, stop=stop)
        plans = assembler.plans_ahead(samples.__getitem__, stride=workers, stop=stop)
        while stop is None or step < stop:
            if prefetcher:
                prefetcher.advance(step)
            # Nothing here keeps the batch while the next one is made, so that its memory can be that of the next.
            yield self._batch(assembler, plans.take(step))
            step += workers

    def _batch(self, assembler: BatchAssembler, plan: BatchPlan) -> dict:
        if self._shared:
            self._shared.begin()
        pending = PendingBatch(assembler, plan)
        pending.decode(0, pending.num_images)
        for substitution in pending.substituted:
            _log.warning("unreadable image replaced: %s", substitution)
        arrived = partial(_count, self._key, len(pending.substituted)) if pending.substituted else None
        if self._shared:
            return self._shared.share(pending.finish(), arrived)
        if arrived:
            arrived()
        return pending.finish()

    def _assembler(self, buffers: ImageMemory) -> BatchAssembler:
        return BatchAssembler(self.mixture.datasets, self._options, seed=self.mixture.seed, buffers=buffers)


_in_this_process: weakref.WeakValueDictionary[str, StreamDataset] = weakref.WeakValueDictionary()
"""By which a batch that arrives from a worker finds the dataset that DataLoader was given."""


def _count(key: str, num_substituted: int) -> None:
    dataset = _in_this_process.get(key)
    if dataset is not None:
        dataset.num_substituted += num_substituted
