"""The order of samples as a pure function of the sample number: numpy in, numpy out, nothing stored, nothing read.

Sample number g -> place in its block, shuffled -> data set and its k-th sample -> epoch k div N and window, shuffled
anew each epoch. Any g costs the same, so a run resumes anywhere, on any number of ranks and workers, with the same
samples.

ORDER_VERSION and the golden tests bind every line of this: a change that moves one sample is a new version.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from oxe_pipeline.mixture.chairman import WeightError
from oxe_pipeline.mixture.counter_rng import RandomStream, bits, check_seed, name_key
from oxe_pipeline.mixture.permutation import permute
from oxe_pipeline.mixture.schedule import BLOCK, Schedule

ORDER_VERSION = 1


@dataclass(frozen=True, slots=True)
class Draw:
    """Where sample numbers lead, int64 [N] each: data set (index into the schedule's names), its epoch, window."""

    dataset: np.ndarray
    epoch: np.ndarray
    window: np.ndarray


class Order:
    """Every window of a data set exactly once per epoch of that data set, each epoch in another order.

    A data set's order hangs on the seed, its name and its number of windows, not on its place among the others: adding
    a data set, or changing weights, interleaves it differently but does not reorder its windows.
    """

    def __init__(self, schedule: Schedule, windows_per_dataset: Mapping[str, int], seed: int):
        self.schedule = schedule
        self.seed = check_seed(seed)
        missing = [name for name in schedule.names if name not in windows_per_dataset]
        if missing:
            raise WeightError(f"the schedule gives weight to data set {missing[0]!r}, which the mixture does not hold")
        self.windows = np.array([windows_per_dataset[name] for name in schedule.names], np.int64)
        drawn = np.any([segment.counts for segment in schedule.segments], axis=0)
        for name, windows, is_drawn in zip(schedule.names, self.windows, drawn, strict=True):
            if is_drawn and windows < 1:
                raise WeightError(
                    f"data set {name} has a weight but no window to draw: none of its episodes is in the split that is "
                    "drawn from; set its weight to 0, leave it out, or draw from another split"
                )
        self._name_keys = np.array([name_key(name) for name in schedule.names], np.uint64)

    def locate(self, g: ArrayLike) -> Draw:
        """The draws of sample numbers g int [N], each >= 0 (ValueError otherwise)."""
        g = np.atleast_1d(np.asarray(g, np.int64))
        if g.size and g.min() < 0:
            raise ValueError(f"sample numbers start at 0, got {g.min()}")
        dataset, k = self.schedule.locate(shuffled_in_block(g, self.seed))
        windows = self.windows[dataset]
        epoch = k // windows
        key = bits(self.seed, self._name_keys[dataset], RandomStream.EPOCH, epoch)
        return Draw(dataset.astype(np.int64), epoch, permute(k - epoch * windows, windows, key))


def shuffled_in_block(g: np.ndarray, seed: int) -> np.ndarray:
    """int64 [N]: each sample number's place after its block of BLOCK is shuffled, by sorting random words per block."""
    block, place = np.divmod(g, BLOCK)
    blocks, row = np.unique(block, return_inverse=True)
    words = bits(seed, blocks[:, None], RandomStream.BLOCK, np.arange(BLOCK))
    shuffled = np.argsort(words, axis=1, kind="stable")
    return block * BLOCK + shuffled[row, place]
