"""A batch without its pixels: its numbers, its texts, and which stored image goes where.

Several batches are planned at once, because most of the time of planning one is the overhead of some forty array
operations: per batch of 64 it is 1.6 ms alone and 0.4 ms in a group of eight, and for all of it the interpreter's lock
keeps other threads from starting a decode. What a plan holds is small; it shows memory of the shards, and is not to be
kept.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from oxe_pipeline.loader.image_work import ImageTask
from oxe_pipeline.loader.window import Samples

SAMPLES_AT_ONCE = 512


@dataclass(frozen=True, eq=False, slots=True)
class ViewPlan:
    """What one camera, or the goal, shows in a batch of B samples at T steps."""

    camera: str
    steps: np.ndarray
    """int64 [B, T]: which steps of the sample's episode are shown."""
    mask: np.ndarray
    """bool [B, T]: the step exists and is shown; an image that turns out unreadable clears its entry."""


@dataclass(frozen=True, eq=False, slots=True)
class BatchPlan:
    """All arrays are the batch's own: it may be written to, and saved without its neighbours."""

    samples: Samples
    columns: dict[str, np.ndarray]
    """The numeric entries of the batch by name."""
    instruction: list[str]
    views: list[ViewPlan]
    """One per camera; the goal's comes last where goal images are asked for."""
    tasks: list[ImageTask]


class PlansAhead:
    """Plans batches by number, some ahead of the one asked for. Safe from several threads.

    The first group is one batch, so that it comes at once, and each is twice the last, up to `samples_at_once`. A
    fault in a group is not raised before the batch that has it is asked for.
    """

    def __init__(
        self,
        plan: Callable[[Sequence[Samples]], list[BatchPlan]],
        samples_of: Callable[[int], Samples],
        *,
        stride: int = 1,
        stop: int | None = None,
        samples_at_once: int = SAMPLES_AT_ONCE,
    ):
        self._samples_at_once = samples_at_once
        self._plan, self._samples_of, self._stride, self._stop = plan, samples_of, stride, stop
        self._ready: dict[int, BatchPlan] = {}
        self._group = 1
        self._planned = -stride
        """The highest number planned so far."""
        self._lock = threading.Lock()

    def take(self, number: int) -> BatchPlan:
        """The plan of batch `number`; the numbers asked for ascend by `stride`, in any order among threads."""
        with self._lock:
            if number not in self._ready:
                self._plan_from(number)
            return self._ready.pop(number)

    def _plan_from(self, number: int) -> None:
        # Threads come in almost, but not quite, the order of the numbers: none is planned twice.
        later = range(max(number, self._planned) + self._stride, self._end(number), self._stride)
        numbers = [number, *later]
        samples = [self._samples_of(n) for n in numbers]
        try:
            plans = self._plan(samples)
        except Exception:
            if len(samples) == 1:
                raise
            numbers, plans = numbers[:1], self._plan(samples[:1])
        self._ready.update(zip(numbers, plans, strict=True))
        self._planned = max(self._planned, numbers[-1])
        self._group = min(2 * self._group, max(1, self._samples_at_once // max(1, len(samples[0]))))

    def _end(self, number: int) -> int:
        end = number + self._stride * self._group
        return end if self._stop is None else min(end, self._stop)
