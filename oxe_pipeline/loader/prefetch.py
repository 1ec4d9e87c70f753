"""Fetches the shards of remote streams before the loader needs them, in the order in which it will.

The order of samples is known for ever ahead, so nothing is guessed: which shards a coming step touches is looked up.
What is looked at is bounded in bytes (two thirds of the cache) and in samples; what is found is marked as wanted, the
most urgent last, so that the cache keeps it, and a download never displaces what any process of the host has lately
wanted.
"""

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from oxe_pipeline.loader.window import Samples
from oxe_pipeline.stream.format import StreamError
from oxe_pipeline.stream.reader import RemoteStream, Stream

_log = logging.getLogger(__name__)

_SAMPLES_AHEAD = 1 << 20
"""Minutes, at some thousand samples a second."""
_SAMPLES_PER_STRETCH = 1 << 12
_STRETCHES_PER_PASS = 16
"""A look of about 20 ms at a time, so that batches do not wait for the interpreter lock."""
_SHARE_OF_CACHE = 2 / 3
_PAUSE_S = 1.0
_PAUSE_TO_LOOK = 20
"""So much longer than a look is the pause after it, that looking takes under 5 % of a core; but never so long that what
is needed would count as idle."""
_RETRY_S = 30.0
"""A shard that cannot be had is left to the reader, who reports it, and tried again so much later."""
_CLOSE_S = 1.0


class StepsAhead(Protocol):
    """Which samples the steps of a loader take, however far ahead."""

    @property
    def samples_per_step(self) -> int: ...

    def between(self, start: int, stop: int) -> Samples:
        """Those of steps start .. stop-1, one step after the other."""
        ...


ShardKey = tuple[int, int]
"""(data set, shard)."""


class ShardPlan:
    """Which remote shards the steps from the present one on need, first needed first, as far as it has been looked."""

    def __init__(self, streams: Sequence[Stream], samples: StepsAhead, *, first: int, stop: int | None):
        self._remote = {number: stream for number, stream in enumerate(streams) if isinstance(stream, RemoteStream)}
        self._samples, self._stop = samples, stop
        self._steps_per_stretch = max(1, _SAMPLES_PER_STRETCH // samples.samples_per_step)
        self._most_stretches = max(1, _SAMPLES_AHEAD // _SAMPLES_PER_STRETCH)
        self._limit_bytes = _SHARE_OF_CACHE * min(
            (stream.cache_options.limit_bytes for stream in self._remote.values()), default=0
        )
        self._end = first
        self._stretches: deque[tuple[int, list[ShardKey]]] = deque()

    def needed(self, step: int) -> list[ShardKey]:
        """The shards from `step` on, looked up a little further; at most as many as two thirds of the cache hold."""
        while self._stretches and self._stretches[0][0] <= step:
            self._stretches.popleft()
        self._end = max(self._end, step)
        needed = dict.fromkeys(shard for _, shards in self._stretches for shard in shards)
        left_bytes = self._limit_bytes - sum(map(self._bytes, needed))
        for _ in range(_STRETCHES_PER_PASS):
            at_end = self._stop is not None and self._end >= self._stop
            if left_bytes <= 0 or len(self._stretches) >= self._most_stretches or at_end:
                break
            shards = self._look_further()
            left_bytes -= sum(self._bytes(shard) for shard in shards if shard not in needed)
            needed.update(dict.fromkeys(shards))
        return self._bounded(list(needed))

    def _look_further(self) -> list[ShardKey]:
        end = self._end + self._steps_per_stretch
        if self._stop is not None:
            end = min(end, self._stop)
        samples = self._samples.between(self._end, end)
        shard = np.full(len(samples), -1, np.int64)
        for number, stream in self._remote.items():
            here = samples.dataset == number
            shard[here] = stream.episodes.shard[samples.episode[here]]
        remote = shard >= 0
        shards = list(dict.fromkeys(zip(samples.dataset[remote].tolist(), shard[remote].tolist(), strict=True)))
        self._end = end
        self._stretches.append((end, shards))
        return shards

    def _bounded(self, needed: list[ShardKey]) -> list[ShardKey]:
        """As many as fit, at least one."""
        total = np.cumsum([self._bytes(shard) for shard in needed])
        return needed[: max(1, int(np.searchsorted(total, self._limit_bytes, side="right")))]

    def _bytes(self, shard: ShardKey) -> int:
        return self._remote[shard[0]].shard_bytes(shard[1])


def start_prefetch(
    streams: Sequence[Stream], samples: StepsAhead, *, first: int, stop: int | None
) -> "Prefetcher | None":
    """A Prefetcher for steps first .. stop-1 (None: for ever), or None where every stream is local."""
    if not any(stream.is_remote for stream in streams):
        return None
    return Prefetcher(streams, samples, first=first, stop=stop)


class Prefetcher:
    """Threads that bring the shards of coming steps into the cache. They end with `close`, or once this is collected.

    Faults are logged and left to the reader, who meets them where they matter.
    """

    def __init__(
        self, streams: Sequence[Stream], samples: StepsAhead, *, first: int, stop: int | None, threads: int = 4
    ):
        self._work = _Work(list(streams), ShardPlan(streams, samples, first=first, stop=stop), first)
        for number in range(threads + 1):
            target = self._work.fetch if number else self._work.look_ahead
            thread = threading.Thread(target=target, name=f"prefetch-{number}", daemon=True)
            self._work.threads.append(thread)
            thread.start()
        self._finalizer = weakref.finalize(self, self._work.end)

    def advance(self, step: int) -> None:
        """Says that the loader is at `step`. Costs nothing."""
        self._work.step = step

    def close(self) -> None:
        """Calls off downloads; what has come of them stays. Waits at most a second for servers that do not answer."""
        self._finalizer()
        until_s = time.monotonic() + _CLOSE_S
        for thread in self._work.threads:
            thread.join(max(0.0, until_s - time.monotonic()))


class _Work:
    """What the threads share, apart from the Prefetcher so that they do not keep it."""

    def __init__(self, streams: list[Stream], plan: ShardPlan, first: int):
        self.threads: list[threading.Thread] = []
        self.step = first
        self._remote = {number: stream for number, stream in enumerate(streams) if isinstance(stream, RemoteStream)}
        self._plan = plan
        self._renew_s = min((stream.cache_options.renew_s for stream in self._remote.values()), default=_PAUSE_S)
        self._changed = threading.Condition()
        self._todo: deque[ShardKey] = deque()
        self._underway: set[ShardKey] = set()
        self._failed_at_s: dict[ShardKey, float] = {}
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()
        with self._changed:
            self._changed.notify_all()

    def look_ahead(self) -> None:
        """Again and again: what is needed is marked, what is missing is to be fetched."""
        while not self._ended.is_set():
            started_s = time.monotonic()
            needed = self._plan.needed(self.step)
            here = {shard for shard in reversed(needed) if self._remote[shard[0]].is_here(shard[1])}
            now_s = time.monotonic()
            with self._changed:
                self._todo = deque(
                    shard
                    for shard in needed
                    if shard not in here and now_s >= self._failed_at_s.get(shard, -_RETRY_S) + _RETRY_S
                )
                self._changed.notify_all()
            longer_s = max(_PAUSE_S, _PAUSE_TO_LOOK * (time.monotonic() - started_s))
            self._ended.wait(min(longer_s, self._renew_s / 2))

    def fetch(self) -> None:
        """Takes the most urgent of what is missing, again and again."""
        while (shard := self._take()) is not None:
            dataset, number = shard
            try:
                has_room = self._remote[dataset].prefetch(number, called_off=self._ended.is_set)
            except (StreamError, OSError) as error:
                _log.warning("not fetched ahead: %s", error)
                self._failed_at_s[shard], has_room = time.monotonic(), True
            with self._changed:
                self._underway.discard(shard)
                if not has_room:
                    # Nor is there for what is needed later; the next look finds out whether there is some again.
                    self._todo.clear()

    def _take(self) -> ShardKey | None:
        with self._changed:
            while not self._ended.is_set():
                while self._todo:
                    shard = self._todo.popleft()
                    if shard not in self._underway:
                        self._underway.add(shard)
                        return shard
                self._changed.wait()
        return None
