"""StreamDataset: the same batches through plain torch.utils.data.DataLoader, for code that insists on one.

Worker processes cost about a third of the decode rate for carrying pixels between processes; `make_loader` does not.
The order of batches is the same. This module imports torch, since DataLoader looks at the class.
"""

import logging
from collections.abc import Iterator

from torch.utils.data import IterableDataset, get_worker_info

from oxe_pipeline.loader.batch import BatchAssembler, PendingBatch
from oxe_pipeline.loader.buffers import BufferPool
from oxe_pipeline.loader.loader import check_steps
from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.loader.steps import StepSamples
from oxe_pipeline.mixture.mixture import Mixture

_log = logging.getLogger(__name__)


class StreamDataset(IterableDataset):
    """To be given to DataLoader(dataset, batch_size=None, num_workers=0..N): it yields whole batches, in step order.

    Worker i of n makes steps i, i+n, ... and DataLoader takes from its workers in turn, so what arrives is the sequence
    of `make_loader` for any number of workers. To resume, make it anew with `start_step`, the number of batches that
    were consumed (a batch's own step is g[0] // batch_size on rank 0). Substituted images are logged as warnings, there
    being no channel back from workers. Arguments as of `make_loader`.
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
        **options,
    ):
        check_steps(start_step, num_steps)
        self.mixture = mixture if seed is None else mixture.with_seed(seed)
        self._options = BatchOptions(**options)
        self._layout = (batch_size, rank, world_size)
        self._start_step, self._num_steps = start_step, num_steps
        # Made and dropped here so that wrong arguments fail now and not in a worker.
        self._assembler(), StepSamples(self.mixture, *self._layout)

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        assembler, samples = self._assembler(), StepSamples(self.mixture, *self._layout)
        step = self._start_step + number
        while self._num_steps is None or step < self._num_steps:
            pending = PendingBatch(assembler, samples[step])
            pending.decode(0, len(pending.samples))
            for substitution in pending.substituted:
                _log.warning("unreadable image replaced: %s", substitution)
            yield pending.finish()
            step += workers

    def _assembler(self) -> BatchAssembler:
        return BatchAssembler(self.mixture.datasets, self._options, seed=self.mixture.seed, buffers=BufferPool(keep=2))
