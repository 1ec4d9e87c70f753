"""The order of samples as a pure function of the sample number: numpy in, numpy out, nothing stored, nothing read.

Sample number g -> place in its block, shuffled -> data set and its k-th sample -> epoch k div N and window, shuffled
anew each epoch, uniformly or in pools of shards (`locality`). Any g costs the same, so a run resumes anywhere, on any
number of ranks and workers, with the same samples.

ORDER_VERSION and the golden tests bind every line of this: a change that moves one sample is a new version.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from oxe_pipeline.mixture.counter_rng import RandomStream, bits, check_seed, name_key
from oxe_pipeline.mixture.locality import PooledWindows
from oxe_pipeline.mixture.permutation import permute
from oxe_pipeline.mixture.schedule import BLOCK, Schedule
from oxe_pipeline.mixture.shares import WeightError

ORDER_VERSION = 2


@dataclass(frozen=True, slots=True)
class Draw:
    """Where sample numbers lead, int64 [N] each: data set (index into the schedule's names), its epoch, window."""

    dataset: np.ndarray
    epoch: np.ndarray
    window: np.ndarray


class Order:
    """Every window of a data set exactly once per epoch of that data set, each epoch in another order.

    A data set's order hangs on the seed, its name and its number of windows, not on its place among the others: adding
    a data set, or changing weights, interleaves it differently but does not reorder its windows. `pools`: data sets
    that are shuffled in pools of shards. Where a single data set is drawn, samples e*N .. (e+1)*N-1 are its epoch e.
    """

    def __init__(
        self,
        schedule: Schedule,
        windows_per_dataset: Mapping[str, int],
        seed: int,
        pools: Mapping[str, PooledWindows] | None = None,
    ):
        self.schedule = schedule
        self.seed = check_seed(seed)
        missing = [name for name in schedule.names if name not in windows_per_dataset]
        if missing:
            raise WeightError(f"the schedule gives weight to data set {missing[0]!r}, which the mixture does not hold")
        self.windows = np.array([windows_per_dataset[name] for name in schedule.names], np.int64)
        self._is_drawn = np.any([segment.counts for segment in schedule.segments], axis=0)
        for name, windows, is_drawn in zip(schedule.names, self.windows, self._is_drawn, strict=True):
            if is_drawn and windows < 1:
                raise WeightError(
                    f"data set {name} has a weight but no window to draw: none of its episodes is in the split that is "
                    "drawn from; set its weight to 0, leave it out, or draw from another split"
                )
        self._pools = {number: pools[name] for number, name in enumerate(schedule.names) if pools and name in pools}
        self._name_keys = np.array([name_key(name) for name in schedule.names], np.uint64)

    def locate(self, g: ArrayLike) -> Draw:
        """The draws of sample numbers g int [N], each >= 0 (ValueError otherwise)."""
        g = np.atleast_1d(np.asarray(g, np.int64))
        if g.size and g.min() < 0:
            raise ValueError(f"sample numbers start at 0, got {g.min()}")
        # A data set alone has nothing to be mixed with, and whole blocks would reach across the ends of its epochs.
        place = np.where(self.schedule.mixes(g), shuffled_in_block(g, self.seed), g)
        dataset, k = self.schedule.locate(place)
        windows = self.windows[dataset]
        epoch = k // windows
        key = bits(self.seed, self._name_keys[dataset], RandomStream.EPOCH, epoch)
        window = self._window(dataset, k - epoch * windows, windows, key)
        return Draw(dataset.astype(np.int64), epoch, window)

    def samples_per_epoch(self) -> int:
        """The least number of samples, whole blocks where data sets are mixed, that hold every window of each."""
        if np.count_nonzero(self._is_drawn) == 1:
            return int(self.windows[self._is_drawn][0])
        last = self.schedule.segments[-1]
        ended = self._is_drawn & (np.array(last.counts) == 0)
        if (self.schedule.drawn_before(last.start)[ended] < self.windows[ended]).any():
            raise WeightError("the schedule takes the weight of a data set away before it was seen once: no epoch ends")
        too_few, enough = 0, 1
        while not self._hold_all(enough):
            too_few, enough = enough, 2 * enough
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            too_few, enough = (too_few, middle) if self._hold_all(middle) else (middle, enough)
        return enough * BLOCK

    def _hold_all(self, blocks: int) -> bool:
        drawn = self.schedule.drawn_before(blocks * BLOCK)
        return bool((drawn[self._is_drawn] >= self.windows[self._is_drawn]).all())

    def _window(self, dataset: np.ndarray, draw: np.ndarray, windows: np.ndarray, key: np.ndarray) -> np.ndarray:
        if not self._pools:
            return permute(draw, windows, key)
        found = np.empty(len(draw), np.int64)
        # Keys differ from data set to data set and from epoch to epoch, so each is one epoch of one data set.
        for epoch_key, first in zip(*np.unique(key, return_index=True), strict=True):
            here = key == epoch_key
            pool = self._pools.get(int(dataset[first]))
            found[here] = (
                pool.window(draw[here], int(epoch_key)) if pool else permute(draw[here], windows[here], epoch_key)
            )
        return found


def shuffled_in_block(g: np.ndarray, seed: int) -> np.ndarray:
    """int64 [N]: each sample number's place after its block of BLOCK is shuffled, by sorting random words per block."""
    block, place = np.divmod(g, BLOCK)
    blocks, row = np.unique(block, return_inverse=True)
    words = bits(seed, blocks[:, None], RandomStream.BLOCK, np.arange(BLOCK))
    shuffled = np.argsort(words, axis=1, kind="stable")
    return block * BLOCK + shuffled[row, place]
