"""Assembles batches ahead of the consumer, in order, in a pool of threads that share the images of each batch.

The work of a batch is first one task for its plan (see `batch_plan`), then a task per thread for its images, behind
those of earlier batches in one queue, so all threads work on the batch that is needed first. They share out its images
a few at a time, whichever is free taking the next. Threads and not processes, because decoding releases the GIL and
finished pixels need not travel.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from oxe_pipeline.loader.batch import BatchAssembler, PendingBatch
from oxe_pipeline.loader.images import Substitution
from oxe_pipeline.loader.window import Samples

_IMAGES_AT_ONCE = 4
"""A thread takes so many images at a time: about a millisecond of decoding."""


def check_threads(threads: int, prefetch: int) -> None:
    """ValueError for numbers of threads or of batches in the making that are not 1 or more."""
    for name, value in (("threads", threads), ("prefetch", prefetch)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of 1 or more, is {value!r}")


class BatchThreads:
    """Batches first, first+1, ... up to stop-1 (None: for ever), `prefetch` of them in the making at any time.

    The threads end with `close`, or by themselves once this object is collected.
    """

    def __init__(
        self,
        assembler: BatchAssembler,
        samples_of: Callable[[int], Samples],
        *,
        first: int,
        stop: int | None,
        threads: int,
        prefetch: int,
    ):
        self._assembler = assembler
        self._plans = assembler.plans_ahead(samples_of, stop=stop)
        self._next, self._stop, self._threads = first, stop, threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="batch")
        self._underway: deque[Future] = deque()
        for _ in range(prefetch):
            self._start_next()

    def get(self) -> tuple[dict, list[Substitution]]:
        """Waits for the next batch: it, and the images that were substituted in it.

        Raises StopIteration after the last, and whatever the threads raised in making this one.
        """
        if not self._underway:
            raise StopIteration
        finished = self._underway.popleft().result()
        self._start_next()
        return finished

    def close(self) -> None:
        """Ends the threads; what they are at is finished first (milliseconds). May be called twice."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._underway.clear()

    def _start_next(self) -> None:
        if self._stop is None or self._next < self._stop:
            finished: Future = Future()
            self._underway.append(finished)
            self._pool.submit(self._begin, self._next, finished)
            self._next += 1

    def _begin(self, number: int, finished: Future) -> None:
        try:
            pending = PendingBatch(self._assembler, self._plans.take(number))
            starts = range(0, pending.num_images, _IMAGES_AT_ONCE)
            helpers = max(1, min(self._threads, len(starts)))
            countdown, shared = _Countdown(helpers), iter(starts)
            for _ in range(helpers):
                self._pool.submit(self._decode, pending, shared, countdown, finished)
        except BaseException as error:  # handed to the consumer, who waits on `finished`
            finished.set_exception(error)

    def _decode(self, pending: PendingBatch, starts: Iterator[int], countdown: "_Countdown", finished: Future) -> None:
        try:
            # A range's iterator may be shared: taking the next is one operation under the GIL.
            for start in starts:
                pending.decode(start, start + _IMAGES_AT_ONCE)
            if countdown.is_last():
                finished.set_result((pending.finish(), pending.substituted))
        except BaseException as error:  # handed to the consumer; a second fault of the same batch is not needed
            with countdown.lock:
                if not finished.done():
                    finished.set_exception(error)


class _Countdown:
    """Counts threads that are done. One that fails never counts, so a failed batch has no last one."""

    def __init__(self, threads: int):
        self.lock = threading.Lock()
        self._left = threads

    def is_last(self) -> bool:
        with self.lock:
            self._left -= 1
            return self._left == 0
